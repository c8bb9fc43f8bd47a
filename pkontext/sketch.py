"""What a take looks like, as far as it is decided: notes, pedal and curves to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkontext import curves as pc
from pkontext.perform import CurveSource
from pkontext.reroll import Plan, splice_notes, splice_pedals


@dataclass(frozen=True)
class Sketch:
    """A take so far; arrays are never changed.

    Attributes
    ----------
    rows : ndarray
        ``[notes]``, rows of the score's notes that are decided.
    notes : ndarray of NOTE
        Row by row as performed, in seconds of the audio.
    pedals : ndarray of PEDAL
        In seconds of the audio.
    score_sec : ndarray
        float64 ``[frames]``, places in the score of the curves.
    tempo : ndarray
        float32 ``[frames]``, factor on the take's average tempo.
    loudness : ndarray
        float32 ``[frames]``, velocity, mean of the registers.
    pedal : ndarray
        float32 ``[frames]``, 0 up to 1 down.
    complete : bool
        Whether the whole take is decided.
    """

    rows: np.ndarray
    notes: np.ndarray
    pedals: np.ndarray
    score_sec: np.ndarray
    tempo: np.ndarray
    loudness: np.ndarray
    pedal: np.ndarray
    complete: bool


def make_sketch(
    source: CurveSource,
    playing: np.ndarray,
    performed: tuple[np.ndarray, np.ndarray],
    plans: list[Plan],
    shift_sec: float,
) -> Sketch:
    """Sketch a take from what its curves say so far.

    Parameters
    ----------
    source : CurveSource
    playing : ndarray
        Rows of the score's notes that are played.
    performed : tuple of ndarray
        Notes of these rows and pedals, in performed seconds, by the committed curves.
    plans : list of Plan
        Re-rolled ranges that are made; curves are those of the take without them.
    shift_sec : float
        Performed second at which the audio starts.
    """
    deadpan, committed = source.deadpan, source.committed
    decided = deadpan.notes["onset_sec"][playing] < committed * deadpan.frame_sec
    notes, pedals = performed
    if plans:
        notes, pedals = splice_notes(notes, plans), splice_pedals(pedals, plans)
    notes = notes[decided]
    notes["onset_sec"] -= shift_sec
    pedals["time_sec"] = np.maximum(pedals["time_sec"] - shift_sec, 0.0)
    curves = source.curves()
    first = float(deadpan.notes["onset_sec"][0])
    place = (np.arange(committed) + 0.5) * deadpan.frame_sec
    return Sketch(
        rows=playing[decided],
        notes=notes,
        pedals=pedals,
        score_sec=deadpan.score_sec + (place - first) * deadpan.tempo,
        tempo=np.exp2(curves[:, pc.TEMPO]).astype(np.float32),
        loudness=curves[:, pc.LOUDNESS].mean(1).astype(np.float32),
        pedal=np.clip(curves[:, pc.PEDAL_CHANNEL], 0, 1).astype(np.float32),
        complete=source.done,
    )

"""One training pair: a deadpan score at the performance's own tempo, and the performance.

The score's tempo map is kept and stretched as a whole so that the deadpan lasts as long as the
performance (times a small jitter): the network learns deviations, and the user's tempo control
is the tempo of the deadpan.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pkontext.curves import curves_from_notes
from pkontext.deadpan import LEAD_FRAMES, DeadpanScore, deadpan_from_score
from pkontext.score import load_score
from pkontext.types import NOTE
from train.asap import Performance, read_midi_notes, read_pairs

#: Pairs whose aligned notes cover less of the score than this are left out.
MIN_MATCH = 0.8
#: Standard deviations, natural log: of the deadpan's tempo against the performance's, and (in variations)
#: of the pace of both.
TEMPO_JITTER, PACE_JITTER = 0.06, 0.12


@dataclass(frozen=True)
class Pair:
    """A deadpan score, the performance of it, and the curves between them.

    Attributes
    ----------
    deadpan : DeadpanScore
    notes, pedals : ndarray of NOTE, of PEDAL
        The whole performance, shifted so that its first aligned chord falls where the deadpan's does.
    curves : ndarray
        float32 ``[deadpan_frames, 12]``.
    """

    name: str
    deadpan: DeadpanScore
    notes: np.ndarray
    pedals: np.ndarray
    curves: np.ndarray
    aligned_deadpan: np.ndarray
    aligned_performed: np.ndarray


def load_pair(performance: Performance, frame_sec: float, jitter: bool = True, variation: int = 0) -> Pair:
    """Read a pair from the pack.

    Parameters
    ----------
    performance : Performance
    frame_sec : float
        Seconds of a latent frame.
    jitter : bool
        Vary the deadpan's tempo by a factor that depends on name and variation alone.
    variation : int
        From 1 on, the deadpan and the performance are both played slower or faster by one more such
        factor: other places of the notes on the grid of frames, and the same expression at another pace.
    """
    score = load_score(performance.score)
    notes, pedals = read_midi_notes(performance.midi)
    pairs = read_pairs(performance.alignment)
    rng = random_of(performance.name if variation == 0 else f"{performance.name} {variation}")
    jittered = float(np.exp(rng.normal(0, TEMPO_JITTER))) if jitter else 1.0
    pace = float(np.exp(rng.normal(0, PACE_JITTER))) if variation else 1.0
    for events, names in ((notes, ("onset_sec", "duration_sec")), (pedals, ("time_sec",))):
        for name in names:
            events[name] *= pace
    plain = pairs["grace"] == 0
    score_onset = pairs["score_onset"].astype(np.float64)
    perf_onset = pairs["perf_onset"].astype(np.float64) * pace
    first, last = np.flatnonzero(plain)[[0, -1]]
    factor = (perf_onset[last] - perf_onset[first]) / (score_onset[last] - score_onset[first])
    factor *= jittered
    deadpan = deadpan_from_score(score, 1.0 / factor, frame_sec)

    aligned = np.zeros(len(score_onset), NOTE)
    aligned["onset_sec"] = (score_onset - score.notes["onset_sec"][0]) * factor + LEAD_FRAMES * frame_sec
    aligned["duration_sec"] = pairs["score_dur"] * factor
    aligned["pitch"], aligned["velocity"] = pairs["pitch"], pairs["score_vel"]
    shift = aligned["onset_sec"][first] - perf_onset[first]
    performed = np.zeros(len(score_onset), NOTE)
    performed["onset_sec"], performed["duration_sec"] = perf_onset + shift, pairs["perf_dur"] * pace
    performed["pitch"], performed["velocity"] = pairs["pitch"], pairs["perf_vel"]
    notes["onset_sec"] += shift
    pedals["time_sec"] += shift
    keep = notes["onset_sec"] >= 0
    curves = curves_from_notes(aligned[plain], performed[plain], pedals, deadpan.frames, frame_sec)
    return Pair(performance.name, deadpan, notes[keep], pedals, curves, aligned[plain], performed[plain])


def random_of(name: str) -> np.random.Generator:
    """A generator that depends on a name alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def index(data: Path, split: str, per_piece: int, skip: int = 0) -> list[Performance]:
    """Performances of a split that pass the stated match rule, at most ``per_piece`` a piece."""
    from train import asap

    return [p for p in asap.pick(asap.read_index(data, split), per_piece, skip) if p.match_rate >= MIN_MATCH]

"""Score to deadpan: the notes at a wanted tempo, without expression, on the latent-frame grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkontext.cues import score_cues
from pkontext.features import metre, roll
from pkontext.synth import DEADPAN_VELOCITY
from pkontext.types import NOTE, Score

#: Silent latent frames before the first note, and frames after the last one for its decay.
LEAD_FRAMES = 4
TAIL_FRAMES = 32


@dataclass(frozen=True)
class DeadpanScore:
    """Deadpan notes in seconds on the deadpan axis, with metre and cues of every latent frame.

    Attributes
    ----------
    notes : ndarray of NOTE
        Row by row the notes of the score; the first onset is at frame `LEAD_FRAMES`.
    score_sec : float
        Score seconds of the first onset, for mapping back.
    tempo : float
        Deadpan tempo over notated tempo.
    frame_sec : float
    frames : int
        Latent frames including lead and tail.
    metre : ndarray
        float32 ``[frames, 9]``, see `pkontext.features.metre`.
    written : ndarray
        ``[notes]``, velocities of the score file.
    cues : ndarray
        float32 ``[frames, 18]``, see `pkontext.cues.score_cues`.
    """

    notes: np.ndarray
    score_sec: float
    tempo: float
    frame_sec: float
    frames: int
    metre: np.ndarray
    written: np.ndarray
    cues: np.ndarray

    def roll(self, first_frame: int, frames: int) -> np.ndarray:
        """Note roll of a span, float32 ``[frames, 264]``; empty outside the piece."""
        end = self.notes["onset_sec"] + self.notes["duration_sec"]
        onset = self.notes["onset_sec"]
        velocity = self.notes["velocity"]
        return roll(onset, end, end, self.notes["pitch"], velocity, first_frame, frames, self.frame_sec)

    def score_features(self, first_frame: int, frames: int) -> np.ndarray:
        """Note roll, metre and cues of a span, float32 ``[frames, 291]``; zero outside the piece."""
        width = self.metre.shape[1]
        rest = np.zeros((frames, width + self.cues.shape[1]), np.float32)
        low, high = max(first_frame, 0), min(first_frame + frames, self.frames)
        if high > low:
            rest[low - first_frame : high - first_frame, :width] = self.metre[low:high]
            rest[low - first_frame : high - first_frame, width:] = self.cues[low:high]
        return np.concatenate([self.roll(first_frame, frames), rest], axis=1)


def deadpan_from_score(score: Score, tempo: float, frame_sec: float) -> DeadpanScore:
    """Place a score on the deadpan axis.

    Parameters
    ----------
    score : Score
    tempo : float
        Factor on the notated tempo; 2 plays twice as fast.
    frame_sec : float
        Seconds of a latent frame.
    """
    first = float(score.notes["onset_sec"][0])
    lead = LEAD_FRAMES * frame_sec
    notes = np.zeros(len(score.notes), NOTE)
    notes["onset_sec"] = (score.notes["onset_sec"] - first) / tempo + lead
    notes["duration_sec"] = score.notes["duration_sec"] / tempo
    notes["pitch"] = score.notes["pitch"]
    notes["velocity"] = DEADPAN_VELOCITY
    end = float((notes["onset_sec"] + notes["duration_sec"]).max())
    frames = int(np.ceil(end / frame_sec)) + TAIL_FRAMES
    centres = ((np.arange(frames) + 0.5) * frame_sec - lead) * tempo + first
    written = score.notes["velocity"].astype(np.float32)
    return DeadpanScore(
        notes=notes,
        score_sec=first,
        tempo=tempo,
        frame_sec=frame_sec,
        frames=frames,
        metre=_metre(score, centres, tempo),
        written=written,
        cues=score_cues(notes, written, frames, frame_sec),
    )


def _metre(score: Score, seconds: np.ndarray, tempo: float) -> np.ndarray:
    """Metre features at score times ``seconds``."""
    tick, us_per_quarter = score.tempi["tick"].astype(float), score.tempi["us_per_quarter"]
    starts = np.concatenate(
        [[0.0], np.cumsum(np.diff(tick) * us_per_quarter[:-1] / 1e6 / score.ticks_per_quarter)]
    )
    segment = np.maximum(np.searchsorted(starts, seconds, side="right") - 1, 0)
    quarter = us_per_quarter[segment] / 1e6
    ticks = tick[segment] + (seconds - starts[segment]) / quarter * score.ticks_per_quarter
    meters = score.meters
    index = np.maximum(np.searchsorted(meters["tick"], ticks, side="right") - 1, 0)
    beat_ticks = score.ticks_per_quarter * 4.0 / meters["denominator"][index]
    beat = (ticks - meters["tick"][index]) / beat_ticks
    return metre(beat, beat / meters["numerator"][index], quarter / tempo)

"""Score cues: what a pianist reads off the page beyond the notes, one row per deadpan latent frame.

Written dynamics, the outline of melody and bass, how long the chord lasts, how dense the texture
is, and where in the piece one is. Inputs of the curve network, for training and runtime alike.
"""

from __future__ import annotations

import numpy as np

from pkontext.curves import BANDS, band_weights, fit_bands

#: Name of every cue, in order.
CUES: tuple[str, ...] = (
    *(f"written_{int(b)}" for b in BANDS),
    "written_mean",
    "written",
    "top",
    "bottom",
    "since_onset",
    "inter_onset",
    "longest",
    "chord_size",
    "density_near",
    "density_far",
    "from_start",
    "to_end",
    "to_end_far",
    "place",
)
WRITTEN = slice(0, 6)
PITCH_CUES = slice(6, 8)
PITCH_UNIT = 24.0
_CHORD_SEC = 0.005
_VELOCITY_UNIT = 20.0


def score_cues(notes: np.ndarray, written: np.ndarray, frames: int, frame_sec: float) -> np.ndarray:
    """Cues of a deadpan score.

    Parameters
    ----------
    notes : ndarray of NOTE
        On the deadpan axis, at least one, any order.
    written : ndarray
        ``[notes]``, the velocities of the score file: notation programs write dynamics there. Where
        they are all the same the score says nothing about dynamics, and the cues say so.
    frames : int
    frame_sec : float

    Returns
    -------
    ndarray
        float32 ``[frames, 18]``, values of about unit size, in the order of `CUES`.
    """
    out = np.zeros((frames, len(CUES)), np.float32)
    order = np.argsort(notes["onset_sec"], kind="stable")
    onset, pitch = notes["onset_sec"][order], notes["pitch"][order].astype(np.float64)
    duration = notes["duration_sec"][order]
    velocity = np.asarray(written, np.float64)[order]
    if np.ptp(velocity) > 0:
        bands = fit_bands(onset / frame_sec, velocity, band_weights(pitch, BANDS), frames)
        out[:, :4] = (bands - velocity.mean()) / _VELOCITY_UNIT
        out[:, 4] = (velocity.mean() - 64.0) / _VELOCITY_UNIT
        out[:, 5] = 1.0

    first = np.flatnonzero(np.concatenate([[True], np.diff(onset) > _CHORD_SEC]))
    chord = onset[first]
    centre = (np.arange(frames) + 0.5) * frame_sec
    now = np.searchsorted(chord, centre + 0.5 * frame_sec, side="right") - 1
    played = now >= 0
    now = np.maximum(now, 0)
    gaps = np.append(np.diff(chord), max(float((onset + duration).max() - chord[-1]), 0.05))
    size = np.diff(np.append(first, len(onset)))
    columns = [
        (np.maximum.reduceat(pitch, first)[now] - 60.0) / PITCH_UNIT,
        (np.minimum.reduceat(pitch, first)[now] - 60.0) / PITCH_UNIT,
        np.log2(np.maximum(centre - chord[now], 0.0) + 0.05) / 2 + 1,
        np.log2(np.clip(gaps[now], 0.02, 20.0)) / 2 + 1,
        np.log2(np.clip(np.maximum.reduceat(duration, first)[now], 0.02, 20.0)) / 2 + 1,
        np.log2(size[now]) / 2,
        *(_density(onset, centre, reach * frame_sec) for reach in (6, 32)),
    ]
    out[:, 6:14] = np.stack(columns, 1) * played[:, None]
    start, end = chord[0] / frame_sec, chord[-1] / frame_sec
    frame = np.arange(frames)
    out[:, 14] = np.exp(-np.maximum(frame - start, 0) / 30)
    out[:, 15] = np.exp(-np.maximum(end - frame, 0) / 12)
    out[:, 16] = np.exp(-np.maximum(end - frame, 0) / 60)
    out[:, 17] = np.clip((frame - start) / max(end - start, 1.0), 0, 1)
    return out


def _density(onset: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """Log of notes a second within ``reach`` seconds on both sides."""
    count = np.searchsorted(onset, centre + reach) - np.searchsorted(onset, centre - reach)
    return np.log2(1.0 + count / (2 * reach)) / 3

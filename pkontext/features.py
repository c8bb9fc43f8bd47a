"""Note rolls and metre as network inputs, per latent frame. Used by training and runtime alike.

Three planes of 88 keys: attack early in the frame, attack late in the frame, and level while
sounding. Levels are on a decibel-like scale (FluidSynth attenuates by 40 log10(127 / velocity)
dB) and fall linearly with a note's age, faster for high keys, as a piano's do.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pkontext.cues import CUES

KEYS = 88
LOWEST_KEY = 21
ROLL = 3 * KEYS
#: Phases of beat, bar, two and four bars as sine and cosine, seconds of a quarter note as log2.
METRE = 9
_RANGE_DB = 60.0
#: Seconds and keys within which other notes count for `contrasted`, the less the further away.
_AROUND_SEC, _AROUND_KEYS = 7.0, 30.0


#: Channels the curve network sees of each deadpan frame: roll, metre, cues, a flag that they are there.
CURVE_LOCAL = ROLL + METRE + len(CUES) + 1


def local_channels(dim: int) -> int:
    """Channels the latent network sees of each performed frame, see `latent_local`."""
    return ROLL + dim + 2


def curve_local(features: np.ndarray | None, frames: int) -> np.ndarray:
    """Inputs of the curve network: score features ``[frames, 291]`` or None, and a flag."""
    local = np.zeros((frames, CURVE_LOCAL), np.float32)
    if features is not None:
        local[:, :-1] = features
        local[:, -1] = 1
    return local


def latent_local(painted: np.ndarray | None, same: np.ndarray | None, frames: int, dim: int) -> np.ndarray:
    """Inputs of the latent network: performed roll, deadpan latents at the same place, two flags.

    Parameters
    ----------
    painted : ndarray or None
        ``[frames, 264]``; None when there are no notes to go by.
    same : ndarray or None
        ``[frames, dim]``; None when there is no deadpan.
    frames, dim : int
        Frames of the window, channels of the latents.
    """
    local = np.zeros((frames, local_channels(dim)), np.float32)
    if painted is not None:
        local[:, :ROLL] = painted
        local[:, -2] = 1
    if same is not None:
        local[:, ROLL:-2] = same
        local[:, -1] = 1
    return local


def roll(
    onset_sec: np.ndarray,
    key_up_sec: np.ndarray,
    end_sec: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    first_frame: int,
    frames: int,
    frame_sec: float,
) -> np.ndarray:
    """Note roll of a span of frames.

    Parameters
    ----------
    onset_sec, key_up_sec, end_sec : ndarray
        Onset, key release and end of sound of each note, seconds.
    pitch, velocity : ndarray
        MIDI numbers; pitches outside the 88 keys are ignored.
    first_frame, frames : int
        The span.
    frame_sec : float

    Returns
    -------
    ndarray
        float32 ``[frames, 264]``: early attack, late attack, level, each for 88 keys.
    """
    out = np.zeros((frames, ROLL), np.float32)
    start, stop = first_frame * frame_sec, (first_frame + frames) * frame_sec
    near = np.flatnonzero((onset_sec < stop) & (end_sec + 0.5 > start))
    _paint(
        out,
        onset_sec[near].astype(np.float64) / frame_sec - first_frame,
        end_sec[near].astype(np.float64) / frame_sec - first_frame,
        pitch[near].astype(np.int64) - LOWEST_KEY,
        1.0 + 40.0 / _RANGE_DB * np.log10(np.maximum(velocity[near], 1) / 127.0),
        frame_sec,
    )
    return out


def contrasted(
    onset_sec: np.ndarray, pitch: np.ndarray, velocity: np.ndarray, contrast: float, until_sec: float
) -> np.ndarray:
    """Velocities with more, or less, difference between a note and those around it.

    What a note is compared with is the mean level of the notes around it, in seconds and in keys, so that
    the loudness of a passage or a register stays what it is. Notes from ``until_sec`` on do not count, and
    keep their velocity: they may still change.

    Parameters
    ----------
    onset_sec, pitch, velocity : ndarray
        Notes, in any order.
    contrast : float
        Factor on differences of level (log velocity); 1 changes nothing.
    until_sec : float

    Returns
    -------
    ndarray
        ``[notes]``, 1 to 127.
    """
    if contrast == 1:
        return velocity
    level = np.log(np.maximum(velocity, 1).astype(np.float64))
    order = np.argsort(onset_sec, kind="stable")
    order = order[: np.searchsorted(onset_sec[order], until_sec)]
    onset, own = onset_sec[order].astype(np.float64), level[order]
    mean = _mean_around(onset, pitch[order].astype(np.float64), own)
    level[order] = mean + contrast * (own - mean)
    return np.clip(np.exp(level), 1.0, 127.0)


@njit(cache=True, nogil=True)
def _mean_around(onset, key, level):
    """Mean of the levels around each note, weighted by nearness; onsets are sorted."""
    mean = np.empty(len(onset))
    first = 0
    for n in range(len(onset)):
        while onset[n] - onset[first] >= _AROUND_SEC:
            first += 1
        total, weights = 0.0, 0.0
        for m in range(first, len(onset)):
            apart = abs(onset[m] - onset[n])
            if apart >= _AROUND_SEC:
                break
            weight = (1.0 - apart / _AROUND_SEC) * max(1.0 - abs(key[m] - key[n]) / _AROUND_KEYS, 0.0)
            total += weight * level[m]
            weights += weight
        mean[n] = total / weights
    return mean


@njit(cache=True, nogil=True)
def _paint(out, onset, end, key, level, frame_sec):
    frames = out.shape[0]
    for n in range(len(onset)):
        k = key[n]
        if k < 0 or k >= KEYS:
            continue
        first = int(np.floor(onset[n]))
        if 0 <= first < frames:
            late = onset[n] - first
            out[first, k] = max(out[first, k], level[n] * (1 - late))
            out[first, KEYS + k] = max(out[first, KEYS + k], level[n] * late)
        # Decay in dB per frame: about 5 dB/s in the bass, 25 dB/s at the top; 250 dB/s released.
        slope = (5.0 + 20.0 * (k / 87.0) ** 2) * frame_sec / 60.0
        release = 250.0 * frame_sec / 60.0
        for f in range(max(first, 0), frames):
            age = max(f + 0.5 - onset[n], 0.0)
            held = min(age, end[n] - onset[n])
            value = level[n] - slope * held - release * max(f + 0.5 - end[n], 0.0)
            if value <= 0.0:
                break
            covered = min(f + 1.0 - onset[n], 1.0)
            out[f, 2 * KEYS + k] = max(out[f, 2 * KEYS + k], value * covered)


def metre(beat: np.ndarray, bar: np.ndarray, quarter_sec: np.ndarray) -> np.ndarray:
    """Metre features per frame.

    Parameters
    ----------
    beat, bar : ndarray
        Position in beats and in bars of each frame, ``[frames]``; bars are counted from the start of a metre.
    quarter_sec : ndarray
        Deadpan seconds of a quarter note at each frame.

    Returns
    -------
    ndarray
        float32 ``[frames, 9]``.
    """
    turns = [2 * np.pi * phase for phase in (beat, bar, bar / 2, bar / 4)]
    columns = [wave(turn) for turn in turns for wave in (np.sin, np.cos)]
    return np.stack([*columns, np.log2(quarter_sec / 0.5)], axis=1).astype(np.float32)

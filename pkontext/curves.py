"""Performance curves: what a performer adds to the notes, one row per deadpan latent frame.

Twelve channels (`CHANNELS`): local tempo, loudness and asynchrony in four overlapping register
bands, articulation of low and high notes, sustain pedal. `curves_from_notes` reads them off an
aligned performance, `notes_from_curves` turns them back into notes. They live on the deadpan
axis, so a curve row, a score note and a deadpan latent of one frame belong to the same place in
the music, and the performed duration follows by integrating the tempo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from pkontext.types import NOTE, PEDAL

#: Centres (MIDI pitch) of the register bands; weights are linear in between.
BANDS = np.array([36.0, 52.0, 68.0, 84.0])
ARTICULATION_BANDS = np.array([48.0, 72.0])
TEMPO, LOUDNESS, ASYNCHRONY, ARTICULATION, PEDAL_CHANNEL = 0, slice(1, 5), slice(5, 9), slice(9, 11), 11
#: Name and unit of every channel, in order.
CHANNELS: tuple[tuple[str, str], ...] = (
    ("tempo", "log2(deadpan seconds per performed second)"),
    *((f"loudness_{int(b)}", "MIDI velocity") for b in BANDS),
    *((f"asynchrony_{int(b)}", "seconds after the chord") for b in BANDS),
    *((f"articulation_{int(b)}", "log2(performed over notated duration)") for b in ARTICULATION_BANDS),
    ("pedal", "sustain pedal, 0 up .. 1 down"),
)
TEMPO_LIMIT = 3.0
PEDAL_DOWN = 64
_CHORD_SEC = 0.005
_MIN_RESTRIKE_SEC = 0.03
_MAX_CHANGE = 2.5


@dataclass(frozen=True)
class TimeMap:
    """Monotone map between deadpan and performed seconds, linear between its points.

    Attributes
    ----------
    deadpan, performed : ndarray
        float64 ``[points]``, both strictly increasing; beyond the ends time runs at rate one.
    """

    deadpan: np.ndarray
    performed: np.ndarray

    def to_performed(self, seconds: np.ndarray) -> np.ndarray:
        """Performed seconds of deadpan seconds."""
        return _interp_unit_slope(seconds, self.deadpan, self.performed)

    def to_deadpan(self, seconds: np.ndarray) -> np.ndarray:
        """Deadpan seconds of performed seconds."""
        return _interp_unit_slope(seconds, self.performed, self.deadpan)


def time_map_from_tempo(tempo: np.ndarray, frame_sec: float) -> TimeMap:
    """Integrate the tempo channel.

    Parameters
    ----------
    tempo : ndarray
        ``[frames]``, log2 of deadpan seconds per performed second.
    frame_sec : float
        Seconds of one deadpan frame.
    """
    tempo = np.clip(np.asarray(tempo, np.float64), -TEMPO_LIMIT, TEMPO_LIMIT)
    performed = np.concatenate([[0.0], np.cumsum(frame_sec * np.exp2(-tempo))])
    return TimeMap(np.arange(len(tempo) + 1) * frame_sec, performed)


def time_map_from_onsets(deadpan: np.ndarray, performed: np.ndarray) -> TimeMap:
    """Map through the chords of an aligned performance.

    Onsets at one deadpan time are averaged; points that run backwards or would need a tempo
    beyond `TEMPO_LIMIT` against their neighbours are dropped.

    Parameters
    ----------
    deadpan, performed : ndarray
        Onset seconds of the paired notes, any order.
    """
    order = np.argsort(deadpan, kind="stable")
    d, p = np.asarray(deadpan, np.float64)[order], np.asarray(performed, np.float64)[order]
    first = np.concatenate([[True], np.diff(d) > _CHORD_SEC])
    group = np.cumsum(first) - 1
    count = np.bincount(group)
    d = np.bincount(group, d) / count
    p = np.bincount(group, p) / count
    keep_d, keep_p = [d[0]], [p[0]]
    limit = 2.0**_MAX_CHANGE
    for x, y in zip(d[1:], p[1:], strict=True):
        slope = (y - keep_p[-1]) / (x - keep_d[-1])
        if 1 / limit < slope < limit or (slope >= limit and x - keep_d[-1] > 0.5):
            keep_d.append(x)
            keep_p.append(y)
    return TimeMap(np.array(keep_d), np.array(keep_p))


def curves_from_notes(
    deadpan: np.ndarray, performed: np.ndarray, pedals: np.ndarray, frames: int, frame_sec: float
) -> np.ndarray:
    """Read the curves off an aligned performance.

    Parameters
    ----------
    deadpan, performed : ndarray of NOTE
        The paired notes, row by row the same note; equal pitch.
    pedals : ndarray of PEDAL
        Sustain events in performed seconds.
    frames : int
        Deadpan frames to describe.
    frame_sec : float

    Returns
    -------
    ndarray
        float32 ``[frames, 12]`` in the units of `CHANNELS`.
    """
    curves = np.zeros((frames, len(CHANNELS)), np.float32)
    time_map = time_map_from_onsets(deadpan["onset_sec"], performed["onset_sec"])
    edges = time_map.to_performed(np.arange(frames + 1) * frame_sec)
    tempo = np.log2(frame_sec / np.maximum(np.diff(edges), 1e-6))
    curves[:, TEMPO] = np.clip(tempo, -TEMPO_LIMIT, TEMPO_LIMIT)

    place = deadpan["onset_sec"] / frame_sec
    local = time_map.to_performed(deadpan["onset_sec"])
    spread = np.clip(performed["onset_sec"] - local, -0.12, 0.12)
    notated = time_map.to_performed(deadpan["onset_sec"] + deadpan["duration_sec"]) - local
    ratio = np.log2(np.maximum(performed["duration_sec"], 0.02) / np.maximum(notated, 0.02))
    ratio = np.clip(ratio, -4.0, 2.0)
    weights = band_weights(deadpan["pitch"], BANDS)
    curves[:, LOUDNESS] = fit_bands(place, performed["velocity"].astype(np.float64), weights, frames)
    curves[:, ASYNCHRONY] = fit_bands(place, spread, weights, frames)
    low_high = band_weights(deadpan["pitch"], ARTICULATION_BANDS)
    curves[:, ARTICULATION] = fit_bands(place, ratio, low_high, frames)
    curves[:, PEDAL_CHANNEL] = _pedal_curve(pedals, edges)
    return curves


def notes_from_curves(
    deadpan: np.ndarray, curves: np.ndarray, frame_sec: float, time_map: TimeMap | None = None
) -> np.ndarray:
    """Give every deadpan note its performed onset, duration and velocity.

    Parameters
    ----------
    deadpan : ndarray of NOTE
        Strikes of one key in order of time and never at one time.
    curves : ndarray
        ``[frames, 12]`` in the units of `CHANNELS`; rows beyond the end repeat the last one.
    frame_sec : float
    time_map : TimeMap, optional
        The integrated tempo channel, when the caller has it already.

    Returns
    -------
    ndarray of NOTE
        Row by row the same notes, in performed seconds; strikes of one key keep their order and
        some distance.
    """
    time_map = time_map or time_map_from_tempo(curves[:, TEMPO], frame_sec)
    place = deadpan["onset_sec"] / frame_sec
    weights = band_weights(deadpan["pitch"], BANDS)
    local = time_map.to_performed(deadpan["onset_sec"])
    notated = time_map.to_performed(deadpan["onset_sec"] + deadpan["duration_sec"]) - local
    spread = _read_bands(place, curves[:, ASYNCHRONY], weights)
    velocity = _read_bands(place, curves[:, LOUDNESS], weights)
    low_high = band_weights(deadpan["pitch"], ARTICULATION_BANDS)
    ratio = np.exp2(np.clip(_read_bands(place, curves[:, ARTICULATION], low_high), -4.0, 2.0))
    notes = np.empty(len(deadpan), NOTE)
    notes["pitch"] = deadpan["pitch"]
    onset = np.maximum(local + np.clip(spread, -0.12, 0.12), 0.0)
    notes["onset_sec"] = _strikes_in_order(onset, local, deadpan["pitch"])
    notes["duration_sec"] = np.maximum(notated * ratio, 0.03)
    notes["velocity"] = np.clip(np.rint(velocity), 1, 127)
    return notes


def pedals_from_curves(curves: np.ndarray, time_map: TimeMap, frame_sec: float) -> np.ndarray:
    """Sustain-pedal events (values in steps of 1/16) in performed seconds, ndarray of PEDAL."""
    level = np.rint(np.clip(curves[:, PEDAL_CHANNEL], 0, 1) * 16) * (127 / 16)
    change = np.flatnonzero(np.diff(level, prepend=0.0))
    pedals = np.empty(len(change), PEDAL)
    pedals["time_sec"] = time_map.to_performed(change * frame_sec)
    pedals["value"] = np.rint(level[change])
    return pedals


def sounding_end(notes: np.ndarray, pedals: np.ndarray) -> np.ndarray:
    """When each note stops sounding: key release, held on by the pedal, cut by the same key.

    Parameters
    ----------
    notes : ndarray of NOTE
    pedals : ndarray of PEDAL
        Sorted by time; down means `PEDAL_DOWN` or more, as FluidSynth has it.

    Returns
    -------
    ndarray
        float64 ``[notes]``, seconds.
    """
    release = notes["onset_sec"] + notes["duration_sec"]
    end = release.copy()
    if len(pedals):
        down = pedals["value"] >= PEDAL_DOWN
        lifts = pedals["time_sec"][np.flatnonzero(~down)]
        before = np.searchsorted(pedals["time_sec"], release, side="right") - 1
        held = (before >= 0) & down[np.maximum(before, 0)]
        following = np.searchsorted(lifts, release, side="right")
        lift = np.append(lifts, np.inf)[following]
        end[held] = np.minimum(lift[held], release[held] + 30.0)
    order = np.lexsort((notes["onset_sec"], notes["pitch"]))
    again = notes["pitch"][order][1:] == notes["pitch"][order][:-1]
    earlier, later = order[:-1][again], order[1:][again]
    end[earlier] = np.minimum(
        end[earlier], np.maximum(notes["onset_sec"][later], notes["onset_sec"][earlier])
    )
    return end


def band_weights(pitch: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Weights of a pitch in the register bands, ``[notes, bands]``; rows add up to one."""
    eye = np.eye(len(centres))
    return np.stack([np.interp(pitch.astype(np.float64), centres, row) for row in eye], axis=1)


def _interp_unit_slope(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    inside = np.interp(x, xs, ys)
    return inside + np.minimum(x - xs[0], 0.0) + np.maximum(x - xs[-1], 0.0)


def _strikes_in_order(onset: np.ndarray, local: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Delay strikes that asynchrony moved onto or before the strike before them of the same key.

    Their distance is at least `_MIN_RESTRIKE_SEC`, or that in ``local`` time where it is less, so
    delays do not add up.
    """
    onset = onset.copy()
    for key in np.unique(pitch):
        rows = np.flatnonzero(pitch == key)
        least = np.cumsum(np.minimum(np.diff(local[rows], prepend=local[rows[0]]), _MIN_RESTRIKE_SEC))
        earliest = np.maximum.accumulate(onset[rows] - least) + least
        onset[rows] = np.maximum(onset[rows], earliest)
    return onset


def _read_bands(place: np.ndarray, bands: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Value of each note: its bands, linear in time between the centres of frames."""
    position = np.clip(place - 0.5, 0, len(bands) - 1)
    low = np.minimum(position.astype(np.int64), max(len(bands) - 2, 0))
    high = np.minimum(low + 1, len(bands) - 1)
    part = (position - low)[:, None]
    return ((bands[low] * (1 - part) + bands[high] * part) * weights).sum(1)


def fit_bands(
    place: np.ndarray, value: np.ndarray, weights: np.ndarray, frames: int, rounds: int = 4
) -> np.ndarray:
    """Smooth band curves through note values, by kernel regression with back-fitting.

    The kernel is narrow where notes are near and falls back to ever wider ones where none are.

    Parameters
    ----------
    place : ndarray
        ``[notes]``, onsets in frames.
    value : ndarray
        ``[notes]``.
    weights : ndarray
        ``[notes, bands]``, see `band_weights`.
    frames, rounds : int

    Returns
    -------
    ndarray
        float64 ``[frames, bands]``.
    """
    bands = np.zeros((frames, weights.shape[1]))
    residual = value.astype(np.float64)
    for _ in range(rounds):
        mass, total = _kernel_sums(place, weights, residual, frames)
        bands += total / (mass + 1e-30)
        residual = value - _read_bands(place, bands, weights)
    return bands


@njit(cache=True, nogil=True)
def _kernel_sums(place, weights, value, frames):
    """Kernel-weighted band masses and values at frame centres, both ``[frames, bands]``.

    The kernel is two Gaussians (0.45 and 3 frames wide) cut at 12 frames, plus an exponential
    of 20 frames that reaches everywhere, summed by one pass forward and one back.
    """
    bands = weights.shape[1]
    near = np.zeros((2, frames, bands))
    far = np.zeros((2, frames, bands))
    for n in range(len(place)):
        home = min(max(int(place[n]), 0), frames - 1)
        for b in range(bands):
            far[0, home, b] += weights[n, b]
            far[1, home, b] += weights[n, b] * value[n]
        for f in range(max(home - 12, 0), min(home + 13, frames)):
            d = f + 0.5 - place[n]
            k = np.exp(-0.5 * (d / 0.45) ** 2) + 1e-3 * np.exp(-0.5 * (d / 3.0) ** 2)
            for b in range(bands):
                near[0, f, b] += k * weights[n, b]
                near[1, f, b] += k * weights[n, b] * value[n]
    decay = np.exp(-1 / 20.0)
    back = far.copy()
    for f in range(1, frames):
        far[:, f] += decay * far[:, f - 1]
        back[:, frames - 1 - f] += decay * back[:, frames - f]
    both = near + 1e-7 * (far + decay * np.concatenate((back[:, 1:], np.zeros((2, 1, bands))), axis=1))
    return both[0], both[1]


def _pedal_curve(pedals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean pedal position, 0..1, between successive ``edges`` (performed seconds)."""
    if not len(pedals):
        return np.zeros(len(edges) - 1)
    time = np.concatenate([[-1e9], pedals["time_sec"], [1e9]])
    value = np.concatenate([[0.0], pedals["value"] / 127.0])
    area = np.concatenate([[0.0], np.cumsum(value * np.diff(time))])
    inside = np.interp(edges, time, area)
    return np.diff(inside) / np.maximum(np.diff(edges), 1e-9)

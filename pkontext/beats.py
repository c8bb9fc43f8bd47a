"""Beats of what was played, the place of each chord between them, and the bar.

One Viterbi path over chords finds beats and places together: a state is a slot of the beat and the length of
a beat. A step costs by how rare it is in scores, how far its time is off, and how much the tempo changes; the
network of `pkontext.rhythm` says where in the beat each chord sounds. Chords that fit nowhere, such as
ornaments, are passed over. Places are then found once more between the beats, as they are with a metronome.
The path is that of Nakamura et al., "Rhythm transcription of polyphonic piano music based on merged-output
HMM for multiple voices" (2017), without its voices and with the network's slots.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pkontext.beat_path import MOST_LEVELS, OFF_SEC, best_path, nearest_places
from pkontext.rhythm import PERIOD_STEP, PERIODS, SLOTS, UNITS, Events, Heard, weights

#: How much the network's slots and periods count beside the steps, and how much of how common a slot is
#: anyway is taken out.
_SLOT_WEIGHT, _PERIOD_WEIGHT, _PRIOR_OUT = 0.7, 0.3, 0.5
#: Standard change of tempo from chord to chord, as a logarithm.
_DRIFT = 0.0675
#: Around a tempo that is given, beats may be this much longer or shorter, as a logarithm.
_GIVEN_REACH, _GIVEN_STEP, _GIVEN_SPREAD = 0.15, 0.025, 0.05
#: A first beat that is given binds a chord this close to it.
_NEAR_BEAT_SEC = 0.08
_BOUND = 50.0
#: Usual length of a beat at the start, as a logarithm of seconds.
_COMMON_PERIOD, _COMMON_PERIOD_SPREAD = -0.45, 0.45
_LONE_BEAT_SEC = 0.5
#: Cost of two chords in one place.
_SHARE = 4.0
#: Between beats that are known, a chord is off by `OFF_SEC` and this part of a beat.
_OFF_BEATS = 0.01
#: How much it counts that a slot is used elsewhere in the phrase, against so many chords as of other music.
_USED_WEIGHT, _TRUST_CHORDS = 1.0, 20.0
#: A chord that comes less than this part of a beat before the first beat is on it.
_AHEAD = 0.25
#: So many chords at either end tell the tempo beyond it.
_END_CHORDS = 8
#: Bars are looked for with so many beats; the network is this much too shy of downbeats, in log odds, as it
#: knows chords and not beats.
_BARS, _SHY = (2, 3, 4), 1.25
#: Found places beside duple ones that make a beat ternary.
_TERNARY_SHARE = 0.6


@dataclass(frozen=True)
class Beats:
    """Beats and where chords are between them.

    Attributes
    ----------
    time_sec : ndarray
        ``[beats]``, at least two, rising; the first is not after the first event but for a little, the last
        after the last.
    unit : ndarray of int
        ``[events]``, place in units of a beat from the first beat on, not falling.
    ornament : ndarray of bool
        ``[events]``, events that share the place of the next one and come before it.
    """

    time_sec: np.ndarray
    unit: np.ndarray
    ornament: np.ndarray


def find_beats(
    events: Events, heard: Heard, tempo_bpm: float | None = None, first_beat_sec: float | None = None
) -> np.ndarray:
    """Find beats where no metronome gave them.

    Parameters
    ----------
    events : Events
        At least one.
    heard : Heard
    tempo_bpm : float, optional
        Beats a minute, about; None finds the tempo.
    first_beat_sec : float, optional
        A chord near this time is on a beat; ignored where there is none.

    Returns
    -------
    ndarray
        ``[beats]``, seconds, at least two, rising, covering the events.
    """
    time = events.time_sec
    if len(time) == 1:
        return time[0] + (60.0 / tempo_bpm if tempo_bpm else _LONE_BEAT_SEC) * np.arange(2)
    slot = _slot_credit(heard)
    if first_beat_sec is not None:
        near = int(np.argmin(np.abs(time - first_beat_sec)))
        if abs(time[near] - first_beat_sec) < _NEAR_BEAT_SEC:
            slot[near, 0] += _BOUND
    if tempo_bpm is None:
        periods, step, credit = PERIODS, PERIOD_STEP, _PERIOD_WEIGHT * heard.period
        start = 0.5 * ((np.log(periods) - _COMMON_PERIOD) / _COMMON_PERIOD_SPREAD) ** 2
    else:
        log, step = np.arange(-_GIVEN_REACH, _GIVEN_REACH + 1e-9, _GIVEN_STEP), _GIVEN_STEP
        periods, start = 60.0 / tempo_bpm * np.exp(log), np.zeros(len(log))
        credit = np.tile(-0.1 * (log / _GIVEN_SPREAD) ** 2, (len(time), 1))
    change = 0.5 * (np.arange(MOST_LEVELS + 1) * step / _DRIFT) ** 2
    steps = weights()["steps"].astype(np.float64)
    on, slots, levels = best_path(time, slot, credit, periods, SLOTS, steps, start, change)
    return _beat_times(time[on], _units(time[on], SLOTS[slots], periods[levels]), time, periods[levels])


def steady_beats(events: Events, tempo_bpm: float, first_beat_sec: float) -> np.ndarray:
    """Beats of a metronome that cover all events, ``[beats]`` in seconds."""
    period = 60.0 / tempo_bpm
    # A note a little ahead of the first beat belongs to it.
    first = np.floor((events.time_sec[0] - first_beat_sec) / period + _AHEAD)
    last = np.floor((events.time_sec[-1] - first_beat_sec) / period) + 1
    return first_beat_sec + period * np.arange(first, max(last, first + 1) + 1)


def place(
    events: Events, heard: Heard, beat_sec: np.ndarray, divisions: tuple[int, ...] | None = None
) -> Beats:
    """Find the place of each event between beats that are known.

    Parameters
    ----------
    events : Events
    heard : Heard
    beat_sec : ndarray
        ``[beats]``, at least two, rising, covering the events.
    divisions : tuple of int, optional
        Parts that a beat may be divided into, of 1, 2, 3, 4, 6, 8, 12; None allows all of `SLOTS`. Each
        beat takes the division that costs least: by timing, by what the network hears, by how scores go on.
    """
    allowed = np.ones(len(SLOTS), bool)
    if divisions is not None:
        allowed = np.isin(SLOTS, [part * UNITS // n for n in divisions for part in range(n)])
    exact = UNITS * beats_at(events.time_sec, beat_sec)
    beat = np.clip(np.searchsorted(beat_sec, events.time_sec) - 1, 0, len(beat_sec) - 2)
    off = UNITS * (OFF_SEC / np.diff(beat_sec)[beat] + _OFF_BEATS)
    steps = weights()["steps"].astype(np.float64)
    credit = _slot_credit(heard)
    unit = nearest_places(exact, off, credit, SLOTS, allowed, steps, events.time_sec, _SHARE)
    if divisions is None:
        # What divides few beats of these notes is rarely meant: look again with what was found.
        used = (unit[:, None] % UNITS == SLOTS).sum(0) + _TRUST_CHORDS * _common_slots()
        credit = credit + _USED_WEIGHT * np.log(used / used.sum() / _common_slots())
        unit = nearest_places(exact, off, credit, SLOTS, allowed, steps, events.time_sec, _SHARE)
    shift = max(0, -int(unit.min() // UNITS))
    beat_sec = np.concatenate([beat_sec[0] - (beat_sec[1] - beat_sec[0]) * np.arange(shift, 0, -1), beat_sec])
    return Beats(beat_sec, unit + UNITS * shift, np.append(np.diff(unit) == 0, False))


def beats_at(seconds: np.ndarray, beat_sec: np.ndarray) -> np.ndarray:
    """Count beats from the first one to a time, in fractions, going on steadily beyond both ends."""
    count = len(beat_sec) - 1
    at = np.interp(seconds, beat_sec, np.arange(count + 1))
    early = np.minimum(seconds - beat_sec[0], 0.0) / (beat_sec[1] - beat_sec[0])
    late = np.maximum(seconds - beat_sec[-1], 0.0) / (beat_sec[-1] - beat_sec[-2])
    return at + early + late


def find_bar(events: Events, heard: Heard, beats: Beats, beats_per_bar: int | None = None) -> tuple[int, int]:
    """Find how many beats a bar has, and the number of the first beat that starts one.

    Returns
    -------
    beats_per_bar : int
        2, 3 or 4, or what was given.
    first : int
        0 to ``beats_per_bar - 1``.
    """
    count = len(beats.time_sec)
    odds = np.zeros(count)
    known = np.zeros(count, bool)
    on = (beats.unit % UNITS == 0) & ~beats.ornament
    at = beats.unit[on] // UNITS
    odds[at], known[at] = heard.downbeat[on] + _SHY, True
    starts, goes_on = -np.logaddexp(0, -odds) * known, -np.logaddexp(0, odds) * known
    best = (-np.inf, 4, 0)
    for n in (beats_per_bar,) if beats_per_bar else _BARS:
        for first in range(n):
            value = float(goes_on.sum() + (starts - goes_on)[first::n].sum())
            best = max(best, (value, n, first))
    return best[1], best[2]


def is_ternary(beats: Beats) -> bool:
    """Whether most places inside the beats are thirds and sixths, as in 6/8."""
    inside = beats.unit[~beats.ornament] % UNITS
    ternary = np.isin(inside, (4, 8, 16, 20)).sum()
    duple = np.isin(inside, (3, 6, 9, 12, 15, 18, 21)).sum()
    return bool(ternary > _TERNARY_SHARE * (ternary + duple))


def _slot_credit(heard: Heard) -> np.ndarray:
    """What the network gives each slot beyond its being common."""
    return _SLOT_WEIGHT * (heard.slot - _PRIOR_OUT * np.log(_common_slots()))


@lru_cache(maxsize=1)
def _common_slots() -> np.ndarray:
    """How common each slot is: what the steps between slots settle to."""
    chance = np.exp(-weights()["steps"].astype(np.float64)).sum(2)
    return np.linalg.matrix_power(chance / chance.sum(1, keepdims=True), 256)[0]


def _units(time: np.ndarray, slot: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Add up the steps of a path, as `best_path` rounds them."""
    inside = np.diff(slot)
    beats = np.rint((np.diff(time) / period[:-1] * UNITS - inside) / UNITS)
    steps = beats * UNITS + inside
    return slot[0] + np.concatenate([[0], np.cumsum(np.where(steps <= 0, steps + UNITS, steps))]).astype(int)


def _beat_times(time: np.ndarray, unit: np.ndarray, every: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Beats of a path, and on to both ends of all events at the tempo of some chords there."""
    if len(time) == 1:
        head = tail = float(period[0])
    else:
        head, tail = (
            (time[part][-1] - time[part][0]) / (unit[part][-1] - unit[part][0]) * UNITS
            for part in (slice(0, _END_CHORDS), slice(-_END_CHORDS, None))
        )
    number = np.arange(-(-unit[0] // UNITS), unit[-1] // UNITS + 1)
    inside = np.interp(number * UNITS, unit, time)
    first = inside[0] if len(number) else time[0] + head * (-(-unit[0] // UNITS) - unit[0] / UNITS)
    last = inside[-1] if len(number) else first
    before = max(0, int(np.ceil((first - every[0]) / head - _AHEAD)))
    after = max(0, int(np.floor((every[-1] - last) / tail))) + 1
    core = inside if len(number) else np.array([first])
    return np.concatenate(
        [first - head * np.arange(before, 0, -1), core, last + tail * np.arange(1, after + 1)]
    )

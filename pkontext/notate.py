"""What a written score has and playing has not: lengths of notes, dynamic marks, bars, ticks and a tempo map.

`pkontext.quantise` decides where notes are; here these places become a `Score`, and a `Score` a MIDI file for
a notation program.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import mido
import numpy as np

from pkontext.rhythm import UNITS
from pkontext.score import (
    CAPTURE_TICKS_PER_QUARTER,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    MAX_BPM,
    MIN_BPM,
    ticks_to_seconds,
)
from pkontext.types import METER, TEMPO, Score

#: Velocity of a score without dynamics.
FLAT_VELOCITY = 64
#: Velocities that notation programs write for ppp to fff.
MARKS = np.array([16, 33, 49, 64, 80, 96, 112, 126])
RIGHT_TRACK, LEFT_TRACK = 1, 2
HANDS = {RIGHT_TRACK: "Right hand", LEFT_TRACK: "Left hand"}
#: A new mark is written when the loudness is this part of the way to the next mark beyond the middle.
_STUBBORN = 0.15
#: A note held for these parts of the time to the next note of its hand is written up to that note, and so is
#: every shorter one where that time is at most a beat.
_REACHES, _OVERHANGS = 0.3, 1.5
#: Lengths that notes have, in units of a beat that may be divided by anything.
_LENGTHS = np.array([3, 4, 6, 8, 9, 12, 16, 18, 24, 30, 32, 36, 40, 42, 48, 60, 64, 72, 80, 84, 96])


@dataclass(frozen=True)
class Bar:
    """How beats make bars.

    Attributes
    ----------
    numerator, denominator : int
        The time signature.
    beats : int
        Beats in a bar.
    beat_ticks : int
        Ticks of a beat, at `CAPTURE_TICKS_PER_QUARTER`.
    """

    numerator: int
    denominator: int
    beats: int
    beat_ticks: int


def make_bar(beats: int, ternary: bool) -> Bar:
    """Return the bar of 2, 3, 4 ... quarters, of dotted quarters (ternary), or of 6 eighths."""
    quarter = CAPTURE_TICKS_PER_QUARTER
    if beats == 6 and not ternary:
        return Bar(6, 8, 6, quarter // 2)
    return Bar(3 * beats, 8, beats, quarter * 3 // 2) if ternary else Bar(beats, 4, beats, quarter)


def written_lengths(
    onset: np.ndarray, held: np.ndarray, right: np.ndarray, divisions: tuple[int, ...] | None
) -> np.ndarray:
    """Lengths as a score would write them, in units.

    Parameters
    ----------
    onset : ndarray
        ``[notes]``, places in units.
    held : ndarray
        ``[notes]``, how long keys were down, in units.
    right : ndarray of bool
        ``[notes]``, the hand.
    divisions : tuple of int, optional
        See `pkontext.beats.place`.

    Returns
    -------
    ndarray
        ``[notes]``, positive. Notes end with the next one of their hand, as legato and staccato are written,
        unless they were held clearly beyond it or let go long before.
    """
    if divisions is None:
        allowed = np.concatenate([_LENGTHS, UNITS * np.arange(5, 400)])
    else:
        allowed = np.unique([UNITS // n * k for n in divisions for k in range(1, 4 * n + 1)])
        allowed = np.concatenate([allowed, UNITS * np.arange(5, 400)])
    middle = (allowed[1:] + allowed[:-1]) / 2
    length = allowed[np.searchsorted(middle, held)].astype(np.float64)
    for hand in (False, True):
        mine = np.flatnonzero(right == hand)
        places = np.unique(onset[mine])
        after = np.searchsorted(places, onset[mine], side="right")
        gap = np.append(places, np.inf)[after] - onset[mine]
        reaches = (held[mine] >= _REACHES * gap) | (gap <= UNITS)
        legato = reaches & (held[mine] <= _OVERHANGS * gap + 3)
        length[mine[legato]] = gap[legato]
    return length


def written_dynamics(tick: np.ndarray, velocity: np.ndarray, reach: int) -> np.ndarray:
    """Velocities of dynamic marks: loudness over ``reach`` ticks on both sides, in steps of `MARKS`.

    A mark holds until the loudness is clearly another's. ``tick`` is sorted.
    """
    total = np.concatenate([[0.0], np.cumsum(velocity, dtype=np.float64)])
    start = np.searchsorted(tick, tick - reach)
    stop = np.searchsorted(tick, tick + reach, side="right")
    level = np.interp((total[stop] - total[start]) / (stop - start), MARKS, np.arange(len(MARKS)))
    mark = round(float(level[0]))
    out = np.empty(len(tick), np.int64)
    for n, (here, before) in enumerate(zip(tick, np.append(-1, tick[:-1]), strict=True)):
        if here != before and abs(level[n] - mark) > 0.5 + _STUBBORN:
            mark = round(float(level[n]))
        out[n] = MARKS[mark]
    return out


def tempo_map(
    beat_sec: np.ndarray, first_tick: int, bar: Bar, steady: bool, span: slice, warnings: list[str]
) -> np.ndarray:
    """Tempo events of a score whose beats were played at ``beat_sec``.

    Parameters
    ----------
    beat_sec : ndarray
        ``[beats]``, at least two.
    first_tick : int
        Tick of the first beat; may be negative, where the score starts later.
    bar : Bar
    steady : bool
        One tempo, the mean over the beats of ``span``; else one event a beat.
    span : slice
        The beats that notes fall on.
    warnings : list of str
        Told when a tempo is out of range.
    """
    quarter = CAPTURE_TICKS_PER_QUARTER / bar.beat_ticks * 1e6
    used = beat_sec[span]
    if steady:
        wanted, ticks = np.array([(used[-1] - used[0]) / (len(used) - 1) * quarter]), np.zeros(1, np.int64)
    else:
        wanted = np.diff(used) * quarter
        ticks = first_tick + bar.beat_ticks * (np.arange(len(wanted)) + (span.start or 0))
    kept = np.clip(np.rint(wanted), np.ceil(60e6 / MAX_BPM), np.floor(60e6 / MIN_BPM))
    if (np.abs(kept - wanted) > 1.0).any():
        warnings.append(f"Moved a tempo into {MIN_BPM:g} to {MAX_BPM:g} quarters a minute.")
    ticks[0] = 0
    fresh = np.append(True, np.diff(kept) != 0)
    return np.array(list(zip(ticks[fresh], kept[fresh], strict=True)), TEMPO)


def one_note_a_key(onset: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge equal notes, and end each note where its key is struck again; writes into ``end``.

    Returns
    -------
    kept : ndarray of int
        Rows that stay, sorted by (onset, pitch).
    merged : ndarray of int
        ``[n, 2]``, rows that go, and the row that each went into.
    """
    order = np.lexsort((-end, onset, pitch))
    same_key = np.append(False, pitch[order][1:] == pitch[order][:-1])
    double = same_key & np.append(False, onset[order][1:] == onset[order][:-1])
    leader = order[np.maximum.accumulate(np.where(double, 0, np.arange(len(order))))]
    merged = np.stack([order[double], leader[double]], axis=1)
    kept = order[~double]
    for before, after in pairwise(kept):
        if pitch[before] == pitch[after]:
            end[before] = min(end[before], onset[after])
    return kept[np.lexsort((pitch[kept], onset[kept]))], merged


def make_score(
    notes: np.ndarray, tempi: np.ndarray, bar: Bar, title: str, warnings: tuple[str, ...]
) -> Score:
    """Make a score of SCORE_NOTE whose ticks are set, sorted; seconds are filled in."""
    notes = notes.copy()
    end_tick = notes["onset_tick"] + notes["duration_tick"]
    tempi = tempi[(tempi["tick"] == 0) | (tempi["tick"] < end_tick.max())]
    notes["onset_sec"] = ticks_to_seconds(notes["onset_tick"], tempi, CAPTURE_TICKS_PER_QUARTER)
    end_sec = ticks_to_seconds(end_tick, tempi, CAPTURE_TICKS_PER_QUARTER)
    notes["duration_sec"] = end_sec - notes["onset_sec"]
    meters = np.array([(0, bar.numerator, bar.denominator)], METER)
    return Score(notes, CAPTURE_TICKS_PER_QUARTER, tempi, meters, title, warnings)


def on_piano(pitch: np.ndarray) -> np.ndarray:
    """Which pitches a piano has."""
    return (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)


def score_midi(score: Score) -> mido.MidiFile:
    """Write a score as notation programs read it: tempo map and metre, then a track for each hand.

    Parameters
    ----------
    score : Score

    Returns
    -------
    mido.MidiFile
        Type 1. `pkontext.score.load_score` gives the same notes, ticks, tempi and meters back.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=score.ticks_per_quarter, charset="utf-8")
    events: list[tuple[int, int, mido.Message | mido.MetaMessage]] = []
    for tempo in score.tempi:
        us = round(float(tempo["us_per_quarter"]))
        events.append((int(tempo["tick"]), 1, mido.MetaMessage("set_tempo", tempo=us)))
    for meter in score.meters:
        signature = mido.MetaMessage(
            "time_signature", numerator=int(meter["numerator"]), denominator=int(meter["denominator"])
        )
        events.append((int(meter["tick"]), 0, signature))
    file.tracks.append(_track(score.title, events))
    tracks = np.unique(score.notes["track"])
    for number in tracks.tolist():
        messages: list[tuple[int, int, mido.Message | mido.MetaMessage]] = []
        for note in score.notes[score.notes["track"] == number]:
            tick, key = int(note["onset_tick"]), int(note["pitch"])
            channel, velocity = int(note["channel"]), int(note["velocity"])
            messages.append((tick, 1, mido.Message("note_on", note=key, velocity=velocity, channel=channel)))
            released = mido.Message("note_off", note=key, velocity=0, channel=channel)
            messages.append((tick + int(note["duration_tick"]), 0, released))
        name = HANDS.get(number, f"Track {number}") if len(tracks) > 1 else "Piano"
        file.tracks.append(_track(name, messages))
    return file


def _track(name: str, events: list[tuple[int, int, mido.Message | mido.MetaMessage]]) -> mido.MidiTrack:
    """Make a track of (tick, order within the tick, message)."""
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    reached = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - reached))
        reached = tick
    track.append(mido.MetaMessage("end_of_track"))
    return track

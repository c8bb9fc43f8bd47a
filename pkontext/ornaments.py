"""Notes that are not in time on purpose: broken chords, which are written as chords, and grace notes.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pkontext.beats import Beats
from pkontext.rhythm import UNITS, Events

#: A grace note comes this long before the next (closer notes are an uneven chord), and is let go this soon
#: after the note that it leads to.
_GRACE_GAP_SEC, _GRACE_HELD_SEC = (0.045, 0.15), 0.1
#: Notes of a broken chord follow each other within this time, and are held this long into the next.
_BROKEN_GAP_SEC, _BROKEN_HELD_SEC = 0.08, 0.2


def join_broken_chords(played: np.ndarray, events: Events, beats: Beats) -> Beats:
    """Put notes that are struck just before others, and held long into them, on the place of the last."""
    end = np.full(len(events.time_sec), np.inf)
    np.minimum.at(end, events.chord, played["onset_sec"] + played["duration_sec"])
    gap = np.diff(events.time_sec, append=np.inf)
    broken = (gap < _BROKEN_GAP_SEC) & (end - events.time_sec - gap > _BROKEN_HELD_SEC)
    unit = beats.unit.copy()
    for k in np.flatnonzero(broken)[::-1]:
        unit[k] = unit[k + 1]
    return replace(beats, unit=unit, ornament=np.append(np.diff(unit) == 0, False))


def grid_units(played: np.ndarray, events: Events, beats: Beats) -> np.ndarray:
    """Place of each note in units; grace notes a unit or more ahead of their note, as far as there is room.

    Where events share a place, the last is the note that stands there. Notes held into it are a broken chord
    and stay; short ones are grace notes.
    """
    time, place = events.time_sec, beats.unit
    ahead, main = np.zeros(len(time)), np.arange(len(time))
    for k in np.flatnonzero(beats.ornament)[::-1]:
        main[k] = main[k + 1]
        gap = time[k + 1] - time[k]
        if gap < _GRACE_GAP_SEC[1]:
            ahead[k] = ahead[k + 1] + (gap > _GRACE_GAP_SEC[0])
    first = np.searchsorted(place, place)
    room = place - np.where(first > 0, place[first - 1], place - UNITS) - 1
    ahead = np.minimum(ahead, np.maximum(room, 0))
    held = played["onset_sec"] + played["duration_sec"] > (time[main] + _GRACE_HELD_SEC)[events.chord]
    return place[events.chord] - np.where(held, 0.0, ahead[events.chord])

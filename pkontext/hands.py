"""Which hand plays which note, by a line between the hands that moves as little as the music allows.

One Viterbi path over chords; a state is the pitch of the line. What costs: notes near the line, a hand that
would have to stretch (over struck and held notes), distance from the middle of the keyboard, and movement of
the line.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pkontext.rhythm import group

#: A hand spans so many semitones at no cost, and each one more costs.
_SPAN, _STRETCH = 11.0, 1.0
#: Cost of a note at the line; it falls to none at this distance and for notes this far off in time.
_NEAR, _NEAR_SEMITONES, _NEAR_SEC = 1.0, 3.0, 0.6
#: Cost of a semitone that the line moves, times seconds between chords.
_MOVE = 0.5
#: Where the line is without a reason to be elsewhere, and the cost of a semitone away.
_MIDDLE, _AWAY = 59.0, 0.08
_LOWEST_LINE, _LINES = 25, 80
_LOOK = 20


def right_hand(notes: np.ndarray) -> np.ndarray:
    """Find the notes of the right hand.

    Parameters
    ----------
    notes : ndarray of NOTE
        Sorted by onset, at least one.

    Returns
    -------
    ndarray of bool
        ``[notes]``.
    """
    chord = group(notes["onset_sec"])
    order = np.lexsort((notes["pitch"], chord))
    onset, pitch = notes["onset_sec"][order], notes["pitch"][order].astype(np.float64)
    first = np.append(np.flatnonzero(np.diff(chord, prepend=-1)), len(notes))
    line = _best_line(onset, onset + notes["duration_sec"][order], pitch, first)
    right = np.zeros(len(notes), bool)
    right[order] = pitch > line[chord[order]]
    return right


@njit(cache=True, nogil=True)
def _line_costs(onset, end, pitch, start, stop, out):
    """Cost of each line at the chord of the notes ``start`` to ``stop``."""
    now, count = onset[start], len(onset)
    for s in range(_LINES):
        line = _LOWEST_LINE + s - 0.5
        cost = _AWAY * abs(line - _MIDDLE)
        left_low, left_high, right_low, right_high = 999.0, -999.0, 999.0, -999.0
        for i in range(max(0, start - _LOOK), min(count, stop + _LOOK)):
            struck = start <= i < stop
            share = 1.0 if struck else 1.0 - abs(onset[i] - now) / _NEAR_SEC
            if share > 0:
                cost += _NEAR * share * max(0.0, 1.0 - abs(pitch[i] - line) / _NEAR_SEMITONES)
            if struck or (i < start and end[i] > now + 0.03):
                if pitch[i] < line:
                    left_low, left_high = min(left_low, pitch[i]), max(left_high, pitch[i])
                else:
                    right_low, right_high = min(right_low, pitch[i]), max(right_high, pitch[i])
        out[s] = cost + _STRETCH * (
            max(0.0, left_high - left_low - _SPAN) + max(0.0, right_high - right_low - _SPAN)
        )


@njit(cache=True, nogil=True)
def _best_line(onset, end, pitch, first):
    """Pitch of the line at each chord; moving it costs the same for each semitone."""
    chords = len(first) - 1
    value, costs = np.zeros(_LINES), np.empty(_LINES)
    back = np.zeros((chords, _LINES), np.int16)
    for k in range(chords):
        _line_costs(onset, end, pitch, first[k], first[k + 1], costs)
        came = np.arange(_LINES)
        if k:
            step = _MOVE / (0.15 + min(onset[first[k]] - onset[first[k - 1]], 1.5))
            for s in range(1, _LINES):
                if value[s - 1] + step < value[s]:
                    value[s], came[s] = value[s - 1] + step, came[s - 1]
            for s in range(_LINES - 2, -1, -1):
                if value[s + 1] + step < value[s]:
                    value[s], came[s] = value[s + 1] + step, came[s + 1]
        value = value + costs
        back[k] = came
    line = np.empty(chords)
    s = np.argmin(value)
    for k in range(chords - 1, -1, -1):
        line[k] = _LOWEST_LINE + s - 0.5
        s = back[k, s]
    return line

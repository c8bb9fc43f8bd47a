"""The two searches behind `pkontext.beats`, compiled: through unknown beats, and between known ones.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: A time between chords is off by this much plus this part of itself; beyond `_TAIL` deviations the cost is
#: linear.
OFF_SEC, _OFF_PART, _TAIL = 0.015, 0.06, 2.0
#: The most levels that the tempo changes from chord to chord.
MOST_LEVELS = 4
#: Cost of passing over a chord, and for each 50 ms that it is more than 50 ms from its neighbours.
_PASS, _PASS_FAR, _MOST_PASSED = 4.0, 1.0, 3


@njit(cache=True, nogil=True)
def nearest_places(exact, off, credit, slots, allowed, steps, time, share_cost):
    """Viterbi over events; a state is a place at most half a beat from ``exact``, in units.

    Two events may share a place where the first is an ornament of the second.
    """
    count, reach = len(exact), 12
    width = 2 * reach + 1
    slot_of = np.full(24, -1)
    for n in range(len(slots)):
        if allowed[n]:
            slot_of[slots[n]] = n
    base = np.rint(exact).astype(np.int64) - reach
    value, before = np.full(width, np.inf), np.full(width, np.inf)
    back = np.full((count, width), -1, np.int16)
    for k in range(count):
        before[:] = value
        value[:] = np.inf
        for s in range(width):
            there = base[k] + s
            n = slot_of[there % 24]
            if n < 0:
                continue
            error = abs(there - exact[k]) / off[k]
            local = 0.5 * error * error if error < 3.0 else 3.0 * (error - 1.5)
            local -= credit[k, n]
            if k == 0:
                value[s] = local
                continue
            close = share_cost + 2.0 * _PASS_FAR * max(0.0, time[k] - time[k - 1] - 0.05) / 0.05
            for r in range(width):
                here = base[k - 1] + r
                if before[r] == np.inf or here > there:
                    continue
                cost = before[r] + local
                if here == there:
                    cost += close
                else:
                    cost += steps[slot_of[here % 24], n, min(there // 24 - here // 24, 3)]
                if cost < value[s]:
                    value[s], back[k, s] = cost, r
    unit = np.empty(count, np.int64)
    s = int(np.argmin(value))
    for k in range(count - 1, -1, -1):
        unit[k] = base[k] + s
        s = back[k, s]
    return unit


@njit(cache=True, nogil=True)
def best_path(time, slot_credit, period_credit, periods, slots, steps, start, change):  # noqa: PLR0912, PLR0915
    """Viterbi over events; returns events, slots and levels of the best path.

    A step back is packed into 16 bits: events passed over, slot, level (at most 64).
    """
    count, n_slots, n_levels, ring = len(time), len(slots), len(periods), _MOST_PASSED + 2
    value = np.full((ring, n_slots, n_levels), np.inf)
    back = np.full((count, n_slots, n_levels), -1, np.int16)
    moved = np.empty((n_slots, n_levels))
    source = np.empty((n_slots, n_levels), np.int64)
    for k in range(count):
        moved[:] = np.inf
        passing = 0.0
        for skipped in range(min(_MOST_PASSED + 1, k)):
            q = k - 1 - skipped
            if skipped:
                gap = min(time[q + 1] - time[q], time[q + 2] - time[q + 1])
                passing += _PASS + _PASS_FAR * max(0.0, gap - 0.05) / 0.05
            if passing > 25.0:
                break
            gone = time[k] - time[q]
            for level in range(n_levels):
                per_sec = 24.0 / periods[level]
                wanted = gone * per_sec
                off = np.sqrt(OFF_SEC**2 + (_OFF_PART * gone) ** 2) * per_sec
                base = passing + np.log(off)
                for m in range(n_slots):
                    here = value[q % ring, m, level] + base
                    if here == np.inf:
                        continue
                    for n in range(n_slots):
                        inside = slots[n] - slots[m]
                        beats = int(np.rint((wanted - inside) / 24.0))
                        if beats * 24 + inside <= 0:
                            beats += 1
                        error = abs(wanted - (beats * 24 + inside)) / off
                        cost = 0.5 * error * error if error < _TAIL else _TAIL * (error - 0.5 * _TAIL)
                        cost += here + steps[m, n, min(beats, 3)] + 0.3 * min(max(0, beats - 3), 20)
                        if cost < moved[n, level]:
                            moved[n, level] = cost
                            source[n, level] = skipped * 16 + m
        for n in range(n_slots):
            for level in range(n_levels):
                best, came = np.inf, -1
                if k <= _MOST_PASSED:
                    best = start[level] + 2.5 + 3.0 * k + (1.0 if n else 0.0)
                for other in range(max(0, level - MOST_LEVELS), min(n_levels, level + MOST_LEVELS + 1)):
                    cost = moved[n, other] + change[abs(other - level)]
                    if cost < best:
                        best, came = cost, other
                value[k % ring, n, level] = best - slot_credit[k, n] - period_credit[k, level]
                if came >= 0:
                    back[k, n, level] = source[n, came] * 64 + came
    k = count - 1
    flat = int(np.argmin(value[k % ring]))
    n, level = flat // n_levels, flat % n_levels
    events, found, levels = [k], [n], [level]
    while back[k, n, level] >= 0:
        packed = back[k, n, level]
        k, n, level = k - 1 - packed // 1024, packed // 64 % 16, packed % 64
        events.append(k)
        found.append(n)
        levels.append(level)
    return np.array(events)[::-1], np.array(found)[::-1], np.array(levels)[::-1]

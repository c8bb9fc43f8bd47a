"""Which performed note is which score note, from the two note lists alone.

First a path: one pass over the performed notes in the order they were struck, in which each is at some
chord of the score. A note of that chord is rewarded; wrong notes, missed notes and jumps cost. A jump
to any chord is allowed, so a phrase of the piece, a cut and a restart are found as well. The tempo
along that path is known then, and the path is found anew with a cost for steps that do not fit it, so
repeated chords are told apart. Last, in a few rounds, pairs: the path gives a time map from score to
performance, and strikes of each key are paired in order with the score's strikes of that key that the
map puts close to them.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from pkontext.errors import InputError

#: Score notes that start this close together are one chord.
CHORD_SEC = 0.02
#: Costs of the path, in matched notes: a score note left out, a performed note that is not in the
#: chord, and a jump to any other place.
MISSED, EXTRA, JUMP = 0.3, 0.4, 8.0
#: Cost of a chord that comes at twice or half the time the tempo around it asks for.
TIMING = 0.5
#: How far, in seconds, the notes of a chord may be apart, and chords off their tempo, at no great cost.
SPREAD_SEC = 0.05
#: Timed paths: chords on each side of the path before that are looked at; and for each of these paths,
#: over how many chords the tempo is taken: few are misled by repeated chords that are off by one.
NEAR_CHORDS, TEMPO_CHORDS = 96, (64, 32)
#: Cells of the path at most (bytes); above that it keeps to a band around the diagonal.
MAX_CELLS = 150_000_000
#: How far, in seconds, a strike may be from where the time map expects it: on each round.
WINDOWS_SEC = (0.7, 0.4, 0.4)
#: Neighbours on each side that a chord's time is compared with, and how far off it may be.
NEIGHBOURS, MAX_OFF_SEC = 4, 0.25
#: A passage of more score seconds than this that would be played so many times too fast was left out.
CUT_SEC, CUT_TEMPO = 1.5, 6.0
#: A performance is of the score when this share of its notes is, and of the score notes it covers.
MIN_PERFORMED, MIN_COVERED = 0.6, 0.6

_JUMPED = 255
#: Strikes of one key that are paired at once, so a damaged file cannot take all memory.
_LONGEST_RUN = 1000


@dataclass(frozen=True)
class MatchQuality:
    """How much of both sides found a partner, as shares from 0 to 1.

    Attributes
    ----------
    performed : float
        Of the performed notes.
    score : float
        Of all score notes: small for a phrase out of a long piece.
    covered : float
        Of the score notes in the passages that were played.
    """

    performed: float
    score: float
    covered: float


def match_notes(score: np.ndarray, performed: np.ndarray) -> np.ndarray:
    """Pair the notes of a performance with those of its score.

    Parameters
    ----------
    score, performed : ndarray
        Structured, with ``onset_sec`` and ``pitch``, in any order: NOTE or SCORE_NOTE. The average
        tempi of the two need not agree.

    Returns
    -------
    ndarray
        int64 ``[pairs, 2]``: row in ``score``, row in ``performed``; sorted by the score's onset. No row
        occurs twice, and both notes of a pair have one pitch.

    Raises
    ------
    InputError
        ``match.no_notes`` or ``match.other_piece``.
    """
    for notes, name in ((score, "score"), (performed, "performance")):
        if not len(notes):
            raise InputError("match.no_notes", f"The {name} has no notes.", "Choose another one.")
    pairs = find_pairs(score, performed)
    quality = match_quality(pairs, score, performed)
    if quality.performed < MIN_PERFORMED or quality.covered < MIN_COVERED:
        raise InputError(
            "match.other_piece",
            f"{quality.performed:.0%} of the performed notes are in this score, and they are "
            f"{quality.covered:.0%} of the passage they would come from; {MIN_PERFORMED:.0%} are the least.",
            "Choose a performance of this piece, in the same key.",
        )
    return pairs


def find_pairs(score: np.ndarray, performed: np.ndarray) -> np.ndarray:
    """`match_notes` without the check that the performance is of this score."""
    if not (len(score) and len(performed)):
        return np.zeros((0, 2), np.int64)
    score_order = np.lexsort((score["pitch"], score["onset_sec"]))
    order = np.lexsort((performed["pitch"], performed["onset_sec"]))
    onset, pitch = score["onset_sec"][score_order].astype(np.float64), score["pitch"][score_order]
    heard, keys = performed["onset_sec"][order].astype(np.float64), performed["pitch"][order]
    chord, at = _chords(onset)
    sides = chord, at, pitch.astype(np.int64), heard, keys.astype(np.int64)
    place, visit, hit = _path(*sides, None)
    if not hit.any():
        return np.zeros((0, 2), np.int64)
    known, times = _visit_times(place[hit], visit[hit], heard[hit])
    for reach in TEMPO_CHORDS:
        place, visit, hit = _path(*sides, (at[known], times), reach)
        known, times = _visit_times(place[hit], visit[hit], heard[hit])
    pairs = np.zeros((0, 2), np.int64)
    for window in WINDOWS_SEC:
        known, times = _without_strays(at[known], times, known)
        expected = _expected(onset, at[known], times)
        pairs = _pair_keys(expected, pitch.astype(np.int64), heard, keys.astype(np.int64), window)
        if not len(pairs):
            break
        known, first = np.unique(chord[pairs[:, 0]], return_inverse=True)
        times = np.bincount(first, heard[pairs[:, 1]]) / np.bincount(first)
        rising = _heaviest_rise(times, np.bincount(first).astype(np.float64))
        known, times = known[rising], times[rising]
    return np.stack([score_order[pairs[:, 0]], order[pairs[:, 1]]], axis=1).astype(np.int64)


def match_quality(pairs: np.ndarray, score: np.ndarray, performed: np.ndarray) -> MatchQuality:
    """How many notes have a partner.

    Parameters
    ----------
    pairs : ndarray
        ``[pairs, 2]``, see `match_notes`.
    score, performed : ndarray
        What was paired.
    """
    if not len(pairs):
        return MatchQuality(0.0, 0.0, 0.0)
    inside = np.zeros(len(score), bool)
    for first, last in covered_spans(pairs, score):
        inside |= (score["onset_sec"] >= first) & (score["onset_sec"] <= last)
    return MatchQuality(
        performed=len(pairs) / len(performed),
        score=len(pairs) / len(score),
        covered=len(pairs) / int(inside.sum()),
    )


def covered_spans(pairs: np.ndarray, score: np.ndarray, missing: int = 12) -> list[tuple[float, float]]:
    """Passages of the score that were played, as first and last onset in score seconds.

    Parameters
    ----------
    pairs : ndarray
        ``[pairs, 2]``, see `match_notes`; at least one.
    score : ndarray
    missing : int
        So many notes in a row without a partner are a passage that was left out.
    """
    order = np.argsort(score["onset_sec"], kind="stable")
    played = np.zeros(len(score), bool)
    played[pairs[:, 0]] = True
    onset, rows = score["onset_sec"][order], np.flatnonzero(played[order])
    breaks = np.flatnonzero(np.diff(rows) > missing)
    starts = onset[rows[np.concatenate([[0], breaks + 1])]]
    ends = onset[rows[np.concatenate([breaks, [len(rows) - 1]])]]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _chords(onset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chord of each note, and the onset of each chord; ``onset`` is sorted."""
    chord = np.zeros(len(onset), np.int64)
    start = onset[0]
    for n, second in enumerate(onset):
        if second - start > CHORD_SEC:
            start = second
            chord[n] = 1
    chord = np.cumsum(chord)
    return chord, np.bincount(chord, onset) / np.bincount(chord)


def _path(
    chord: np.ndarray,
    at: np.ndarray,
    pitch: np.ndarray,
    heard: np.ndarray,
    keys: np.ndarray,
    guess: tuple[np.ndarray, np.ndarray] | None,
    reach: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chord at which each performed note is, jumps before it, and whether the chord holds it.

    ``guess`` is a rough time map: the path keeps near it, and steps that its tempo over ``reach`` chords
    does not expect cost.
    """
    chords, strikes = len(at), len(keys)
    holds = np.zeros((128, chords), np.bool_)
    holds[pitch, chord] = True
    before = np.full(strikes, -1, np.int64)
    last = np.full(128, -1, np.int64)
    for n, key in enumerate(keys):
        before[n] = last[key]
        last[key] = n
    if guess is None or len(guess[0]) < 2:
        width = min(chords, max(MAX_CELLS // strikes, 64))
        middle = np.arange(strikes) * chords // strikes
        due, timing = np.zeros(chords), 0.0
    else:
        width = min(chords, 2 * NEAR_CHORDS)
        middle = np.searchsorted(at, np.interp(heard, guess[1], guess[0]))
        due, timing = _smooth_due(at, *guess, reach), TIMING
    low = np.maximum.accumulate(np.clip(middle - width // 2, 0, chords - width)).astype(np.int64)
    size = np.bincount(chord).astype(np.float64)
    costs = np.array([MISSED, EXTRA, JUMP, timing, SPREAD_SEC])
    return _best_path(holds, size, due, heard, keys, before, low, width, costs)


def _smooth_due(at: np.ndarray, known: np.ndarray, times: np.ndarray, reach: int) -> np.ndarray:
    """When each chord is due by the average tempo of some chords around it: good for differences only."""
    half = min(reach, len(known) - 1)
    rate = (times[half:] - times[:-half]) / (known[half:] - known[:-half])
    middle = 0.5 * (known[half:] + known[:-half])
    log_rate = np.interp(0.5 * (at[1:] + at[:-1]), middle, np.log(np.maximum(rate, 1e-3)))
    return np.concatenate([[0.0], np.cumsum(np.diff(at) * np.exp(log_rate))])


@njit(cache=True, nogil=True)
def _best_path(holds, size, due, heard, keys, before, low, width, costs):  # noqa: PLR0912, PLR0915 - one hot loop
    """Viterbi over performed notes (outer) and chords (inner); steps back are bytes, `_JUMPED` is a jump.

    To come to a chord costs its notes as missed, and each that is played pays its part back.
    Each state carries what its best path did: ``entered``, the performed note with which it came to
    the chord (a key counts once a visit), and the chord it struck last and when.
    """
    missed, extra, jump, timing, slack = costs
    strikes, chords = len(keys), len(size)
    step = np.zeros((strikes, width), np.uint8)
    jumped_from = np.zeros(strikes, np.int64)
    value = -missed * size
    entered = np.zeros(chords, np.int64)
    struck = np.full(chords, -1, np.int64)
    when = np.zeros(chords)
    value2 = np.empty(chords)
    entered2 = np.empty(chords, np.int64)
    struck2 = np.empty(chords, np.int64)
    when2 = np.empty(chords)
    for j in range(strikes):
        a, b = low[j], low[j] + width
        best = a
        if j > 0:
            best = low[j - 1]
            for i in range(low[j - 1], low[j - 1] + width):
                if value[i] > value[best]:
                    best = i
            for i in range(low[j - 1] + width, b):  # the band moved on
                value[i] = -np.inf
        jumped_from[j] = best
        floor = value[best] - jump if j > 0 else -np.inf
        steps = 0
        for i in range(a, b):
            moved, came, chord, time = value[i], entered[i], struck[i], when[i]
            stepped = value2[i - 1] - missed * size[i] if i > a and j > 0 else -np.inf
            if stepped > moved and steps < 250:
                moved, came, chord, time = stepped, j, struck2[i - 1], when2[i - 1]
                steps += 1
            else:
                steps = 0
            if floor - missed * size[i] > moved:
                moved, came, chord, time = floor - missed * size[i], j, -1, 0.0
                step[j, i - a] = _JUMPED
            else:
                step[j, i - a] = steps
            value2[i], entered2[i], struck2[i], when2[i] = moved, came, chord, time
        for i in range(a, b):
            value[i], entered[i], struck[i], when[i] = value2[i], entered2[i], struck2[i], when2[i]
            if holds[keys[j], i] and before[j] < entered[i]:
                value[i] += 1.0 + missed
                if timing > 0 and struck[i] >= 0:
                    wait = heard[j] - when[i]
                    if struck[i] == i:
                        after = due[min(i + 1, chords - 1)] - due[i]
                        late = (wait - slack) / (0.5 * after + slack)
                        value[i] -= timing * min(max(late, 0.0), 2.0)
                    else:
                        ratio = (wait + slack) / (due[i] - due[struck[i]] + slack)
                        value[i] -= timing * min(abs(np.log2(ratio)), 1.5)
                if struck[i] != i:
                    struck[i], when[i] = i, heard[j]
            else:
                value[i] -= extra
    return _trace_back(
        step, jumped_from, low, low[-1] + np.argmax(value[low[-1] : low[-1] + width]), holds, keys
    )


@njit(cache=True, nogil=True)
def _trace_back(step, jumped_from, low, here, holds, keys):
    """Chord of each performed note, jumps before it, and whether the chord holds it."""
    strikes = len(keys)
    place = np.empty(strikes, np.int64)
    visit = np.zeros(strikes, np.int64)
    hit = np.zeros(strikes, np.bool_)
    jumps = 0
    for j in range(strikes - 1, -1, -1):
        place[j] = here
        visit[j] = -jumps
        hit[j] = holds[keys[j], here]
        back = step[j, here - low[j]]
        if back == _JUMPED:
            here = jumped_from[j]
            jumps += 1
        else:
            here -= back
    return place, visit + jumps, hit


def _visit_times(place: np.ndarray, visit: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chords that were played and when, one visit of each; a passage played again counts the last time."""
    turn, index = np.unique(np.stack([place, visit], axis=1), axis=0, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index).astype(np.float64)
    time = np.bincount(index, heard) / count
    order = np.lexsort((-time, turn[:, 0]))  # of one chord the last visit first, so only one is in a rise
    weight = (count * (1 + 1e-4 * turn[:, 1]))[order]
    kept = order[_heaviest_rise(time[order], weight)]
    return turn[kept, 0], time[kept]


def _heaviest_rise(time: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows of the heaviest strictly rising subsequence of ``time``."""
    return _rise(np.unique(time, return_inverse=True)[1].reshape(-1).astype(np.int64), weight)


@njit(cache=True, nogil=True)
def _rise(rank, weight):
    """Heaviest rising subsequence; a Fenwick tree keeps the best end up to each rank."""
    size = len(rank)
    total = np.zeros(size)
    previous = np.full(size, -1, np.int64)
    tree = np.full(size + 2, -1, np.int64)
    for n in range(size):
        best, at = -1, rank[n]  # ranks below this one are nodes 1..rank
        while at > 0:
            if tree[at] >= 0 and (best < 0 or total[tree[at]] > total[best]):
                best = tree[at]
            at -= at & -at
        previous[n] = best
        total[n] = weight[n] + (total[best] if best >= 0 else 0.0)
        at = rank[n] + 1
        while at <= size:
            if tree[at] < 0 or total[n] > total[tree[at]]:
                tree[at] = n
            at += at & -at
    here, count = np.argmax(total), 0
    chain = np.empty(size, np.int64)
    while here >= 0:
        chain[count] = here
        count += 1
        here = previous[here]
    return chain[:count][::-1]


def _without_strays(at: np.ndarray, time: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out chords whose time is far from the line through the chords around them."""
    if len(at) < 2 * NEIGHBOURS + 2:
        return known, time
    off = np.abs(_off_line(at, time, NEIGHBOURS))
    spacing = np.diff(time, prepend=time[0], append=time[-1])
    near = np.maximum(spacing[:-1], spacing[1:])
    keep = off <= np.maximum(MAX_OFF_SEC, 0.5 * near)
    return (known[keep], time[keep]) if keep.any() else (known, time)


def _off_line(at: np.ndarray, time: np.ndarray, reach: int) -> np.ndarray:
    """Seconds of each time off the median of what its neighbours on both sides make of it."""
    pad = np.full(reach, np.nan)
    x, y = np.concatenate([pad, at, pad]), np.concatenate([pad, time, pad])
    middle = np.arange(1, len(at) - 1)[:, None] + reach
    before, after = np.divmod(np.arange(reach * reach), reach)
    left, right = middle - 1 - before, middle + 1 + after
    slope = (y[right] - y[left]) / (x[right] - x[left])
    off = np.zeros(len(at))
    off[1:-1] = time[1:-1] - np.nanmedian(y[left] + (x[middle] - x[left]) * slope, axis=1)
    return off


def _expected(onset: np.ndarray, at: np.ndarray, time: np.ndarray) -> np.ndarray:
    """When each score note should be heard; beyond the ends at the tempo of the chords next to them.

    Not a number in a passage that the performance leaves no time for.
    """
    expected = np.interp(onset, at, time)
    if len(at) > 1:
        rate = np.diff(time) / np.diff(at)
        skipped = (np.diff(at) > CUT_SEC) & (rate < np.median(rate) / CUT_TEMPO)
        after = np.clip(np.searchsorted(at, onset), 1, len(at) - 1)
        expected[skipped[after - 1] & (onset > at[after - 1]) & (onset < at[after])] = np.nan
    size = min(8, len(at) - 1)
    for edge, near, outside in ((0, size, onset < at[0]), (-1, -1 - size, onset > at[-1])):
        rate = (time[edge] - time[near]) / (at[edge] - at[near]) if size else 1.0
        expected[outside] = time[edge] + (onset[outside] - at[edge]) * rate
    return expected


def _pair_keys(
    expected: np.ndarray, pitch: np.ndarray, heard: np.ndarray, keys: np.ndarray, window: float
) -> np.ndarray:
    """Pair the strikes of each key in order; int64 ``[pairs, 2]``, sorted by the first column."""
    left = np.lexsort((expected, pitch))
    left = left[np.isfinite(expected[left])]
    right = np.lexsort((heard, keys))
    gap = 1e6  # pitches follow each other on one long time axis, far apart
    u = expected[left] + gap * pitch[left]
    v = heard[right] + gap * keys[right]
    a, b = _pair_in_order(u, v, window)
    pairs = np.stack([left[a], right[b]], axis=1)
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


@njit(cache=True, nogil=True)
def _pair_in_order(u, v, window):
    """Pair two sorted lists in order, for the most pairs and the least distance of each."""
    rows, columns = len(u), len(v)
    first = np.empty(min(rows, columns), np.int64)
    second = np.empty(min(rows, columns), np.int64)
    count = i = j = 0
    while i < rows and j < columns:
        if u[i] < v[j] - window:
            i += 1
            continue
        if v[j] < u[i] - window:
            j += 1
            continue
        end_i, end_j, reach = i, j, min(u[i], v[j])  # a run without a gap wider than the window
        growing = True
        while growing:
            growing = False
            if end_i < min(rows, i + _LONGEST_RUN) and u[end_i] <= reach + window:
                reach = max(reach, u[end_i])
                end_i += 1
                growing = True
            if end_j < min(columns, j + _LONGEST_RUN) and v[end_j] <= reach + window:
                reach = max(reach, v[end_j])
                end_j += 1
                growing = True
        m, n = end_i - i, end_j - j
        best = np.zeros((m + 1, n + 1))
        for a in range(m - 1, -1, -1):
            for b in range(n - 1, -1, -1):
                far = abs(u[i + a] - v[j + b]) / window
                pair = best[a + 1, b + 1] + 1.1 - far if far <= 1 else -1.0
                best[a, b] = max(pair, best[a + 1, b], best[a, b + 1])
        a = b = 0
        while a < m and b < n:
            if best[a, b] == best[a + 1, b]:
                a += 1
            elif best[a, b] == best[a, b + 1]:
                b += 1
            else:
                first[count], second[count] = i + a, j + b
                count += 1
                a += 1
                b += 1
        i, j = end_i, end_j
    return first[:count], second[:count]

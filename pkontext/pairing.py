"""Pairs of notes that were asked for and notes that are heard, each note in one pair at most.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

#: A wrong note is at most a whole tone from the one that it stands for, or octaves.
NEAR_SEMITONES, OCTAVES = 2, (12, 24)

#: Differences of this size come from rounding.
_EXACT_SEC = 1e-6

#: Onset seconds and MIDI pitches, ``[notes]`` each.
Notes = tuple[np.ndarray, np.ndarray]


def pair_by_key(
    wanted: Notes,
    heard: Notes,
    tolerance_sec: float,
    wanted_left: Iterable[int] | None = None,
    heard_left: Iterable[int] | None = None,
) -> dict[int, int]:
    """Pair notes of equal pitch: as many as can be, and of those pairings the one whose onsets differ least.

    Parameters
    ----------
    wanted, heard : Notes
    tolerance_sec : float
        Most that the onsets of a pair differ.
    wanted_left, heard_left : iterable of int, optional
        Which notes may be paired; all of them when left out.

    Returns
    -------
    dict
        From a wanted note's index to that of its heard note.
    """
    keys: dict[int, tuple[list[int], list[int]]] = {}
    for side, (notes, left) in enumerate(((wanted, wanted_left), (heard, heard_left))):
        indices = np.array(sorted(range(len(notes[0])) if left is None else left), np.int64)
        for index in indices[np.argsort(notes[0][indices], kind="stable")].tolist():
            keys.setdefault(int(notes[1][index]), ([], []))[side].append(index)
    pairs: dict[int, int] = {}
    for asked, found in keys.values():
        for first, second in _clusters(asked, found, wanted[0], heard[0], tolerance_sec):
            pairs |= _pair_cluster(first, second, wanted[0], heard[0], tolerance_sec)
    return pairs


def near_pairs(
    wanted: Notes, heard: Notes, tolerance_sec: float, wanted_left: Iterable[int], heard_left: Iterable[int]
) -> dict[int, int]:
    """Pair what is left with wrong notes at its time: the nearest in pitch first, then in time.

    Parameters
    ----------
    wanted, heard : Notes
        In order of their onsets.
    tolerance_sec : float
    wanted_left, heard_left : iterable of int

    Returns
    -------
    dict
        From a wanted note's index to that of the note heard in its place.
    """
    stray = np.array(sorted(heard_left), np.int64)
    when = heard[0][stray]
    candidates: list[tuple[int, float, int, int]] = []
    for i in sorted(wanted_left):
        low, high = np.searchsorted(when, (wanted[0][i] - tolerance_sec, wanted[0][i] + tolerance_sec))
        for j in stray[low:high].tolist():
            apart = abs(int(wanted[1][i]) - int(heard[1][j]))
            if apart <= NEAR_SEMITONES or apart in OCTAVES:
                candidates.append((apart, abs(float(wanted[0][i] - heard[0][j])), i, j))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in sorted(candidates):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs


def _clusters(
    asked: list[int], found: list[int], asked_sec: np.ndarray, found_sec: np.ndarray, tolerance_sec: float
) -> list[tuple[list[int], list[int]]]:
    """Cut the notes of one key where no pair can reach across."""
    both = sorted([(asked_sec[i], 0, i) for i in asked] + [(found_sec[j], 1, j) for j in found])
    clusters: list[tuple[list[int], list[int]]] = []
    before = -np.inf
    for time, side, index in both:
        if time - before > tolerance_sec + _EXACT_SEC:
            clusters.append(([], []))
        clusters[-1][side].append(index)
        before = time
    return [cluster for cluster in clusters if cluster[0] and cluster[1]]


def _pair_cluster(
    asked: list[int], found: list[int], asked_sec: np.ndarray, found_sec: np.ndarray, tolerance_sec: float
) -> dict[int, int]:
    """Pair two sequences in order: the best of all prefixes by (pairs, less total difference)."""
    best = [[(0, 0.0)] * (len(found) + 1) for _ in range(len(asked) + 1)]
    apart = np.abs(asked_sec[asked][:, None] - found_sec[found][None])
    for a in range(1, len(asked) + 1):
        for b in range(1, len(found) + 1):
            best[a][b] = max(best[a - 1][b], best[a][b - 1])
            if apart[a - 1, b - 1] <= tolerance_sec + _EXACT_SEC:
                pairs, closeness = best[a - 1][b - 1]
                best[a][b] = max(best[a][b], (pairs + 1, closeness - float(apart[a - 1, b - 1])))
    pairs, a, b = {}, len(asked), len(found)
    while a and b:
        if best[a][b] == best[a - 1][b]:
            a -= 1
        elif best[a][b] == best[a][b - 1]:
            b -= 1
        else:
            a, b = a - 1, b - 1
            pairs[asked[a]] = found[b]
    return pairs

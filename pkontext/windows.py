"""Windows: which frames a network sees, which are given, which are kept.

A window shows frames ``[start, start + size)`` to the network. The first ones are given (already
committed), the last ``lookahead`` are generated for context but not kept, because music to the
right of the window was out of sight. The grid depends on nothing but these three numbers, so a
take does not depend on how fast or in which pieces it is rendered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Deadpan frames that a latent window shows beyond its own length, in all.
CONTEXT_MARGIN = 24
#: Frames after a range in the middle of a take that are given, if it takes several windows.
CURVE_SUFFIX, LATENT_SUFFIX = 32, 16
#: Frames at the end of a window that are not kept.
CURVE_LOOKAHEAD, LATENT_LOOKAHEAD = 32, 4


@dataclass(frozen=True)
class Window:
    """One window: number, first frame, frames given, and the first frame after those kept."""

    number: int
    start: int
    given: int
    stop: int


def window_grid(size: int, overlap: int, lookahead: int, first: int = 0) -> Iterator[Window]:
    """Endless windows that continue each other.

    Parameters
    ----------
    size, overlap, lookahead : int
        Frames of a window, frames given at its start, frames not kept at its end.
    first : int
        First frame of the first window, which has nothing given.

    Raises
    ------
    ValueError
        When a window would keep nothing new.
    """
    if size <= overlap + lookahead:
        raise ValueError(f"a window of {size} frames keeps nothing with {overlap} given, {lookahead} ahead")
    start, given, number = first, 0, 0
    while True:
        stop = start + size - lookahead
        yield Window(number, start, given, stop)
        start, given, number = stop - overlap, overlap, number + 1


def range_windows(
    first: int, last: int, size: int, given: int, ahead: int, lowest: int = 0
) -> Iterator[tuple[int, int, int]]:
    """Windows that share a range equally.

    Parameters
    ----------
    first, last : int
        The range.
    size, given, ahead : int
        Frames of a window; of these, at least so many lie before and after what it makes.
    lowest : int
        First frame that can be given.

    Yields
    ------
    start, begin, end : int
        A window's first frame, and the frames ``[begin, end)`` that it makes.
    """
    count = -(-(last - first) // (size - given - ahead))
    edges = [first + (last - first) * n // count for n in range(count + 1)]
    spare = (size - given - ahead - (last - first)) // 2 if count == 1 else 0
    for begin, end in itertools.pairwise(edges):
        yield max(begin - given - spare, lowest), begin, end


def context_reach(position: np.ndarray, start: int, frames: int) -> int:
    """Deadpan frames from the first of the piece that `context_window` looks at, where there are so many."""
    place = np.maximum(position[start : start + frames], 0)
    middle = 0.5 * (float(place[0]) + float(place[-1]))
    return int(max(float(place[-1]), middle + (frames + CONTEXT_MARGIN) / 2)) + 2


def context_window(
    deadpan: np.ndarray, position: np.ndarray, start: int, frames: int
) -> dict[str, np.ndarray]:
    """Deadpan latents for a window: at the same place, and around it as context tokens.

    Parameters
    ----------
    deadpan : ndarray
        float32 ``[deadpan_frames, dim]``.
    position : ndarray
        Deadpan position of performed frames, increasing.
    start, frames : int
        Which of these performed frames are the window's.

    Returns
    -------
    dict
        ``same`` ``[frames, dim]``, ``context`` ``[frames + CONTEXT_MARGIN, dim]`` and
        ``context_position`` ``[frames + CONTEXT_MARGIN]`` in performed frames from the window's start.
    """
    place = np.clip(position[start : start + frames], 0, len(deadpan) - 1)
    low = np.minimum(place.astype(np.int64), len(deadpan) - 2)
    part = (place - low)[:, None].astype(np.float32)
    count = frames + CONTEXT_MARGIN
    first = round(0.5 * (float(place[0]) + float(place[-1])) - count / 2)
    rows = first + np.arange(count)
    inside = (rows >= 0) & (rows < len(deadpan))
    context = np.zeros((count, deadpan.shape[1]), np.float32)
    context[inside] = deadpan[rows[inside]]
    strict = position.astype(np.float64) + np.arange(len(position)) * 1e-4
    where = np.interp(rows, strict, np.arange(len(position)))
    where += np.minimum(rows - strict[0], 0) + np.maximum(rows - strict[-1], 0)
    return {
        "same": deadpan[low] * (1 - part) + deadpan[low + 1] * part,
        "context": context,
        "context_position": (where - start).astype(np.float32),
    }

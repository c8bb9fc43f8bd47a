"""Pairing deadpan and performance by dynamic time warping (DTW) in latent space.

Banded, O(frames * band) memory, compiled. Latents are whitened first and the three steps have
equal weight, which measured best. The band follows the diagonal, because a deadpan is rendered at
the performance's average tempo.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Half width of the band in frames (about 36 s at 92.9 ms).
BAND = 384


def whiten(latents: np.ndarray, mean: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Decorrelate latents ``[frames, dim]`` and give every direction unit variance."""
    return np.ascontiguousarray((latents.astype(np.float32) - mean) @ transform, np.float32)


def whitening(latents: np.ndarray, keep: float = 0.999) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[dim]`` and whitening matrix ``[dim, kept]`` of latents ``[frames, dim]``."""
    mean = latents.mean(0)
    values, vectors = np.linalg.eigh(np.cov(latents, rowvar=False))
    share = np.cumsum(values[::-1]) / values.sum()
    count = int(np.searchsorted(share, keep)) + 1
    chosen = vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count])
    return mean.astype(np.float32), chosen.astype(np.float32)


def dtw_path(a: np.ndarray, b: np.ndarray, band: int = BAND) -> tuple[np.ndarray, float]:
    """Cheapest monotone path between two sequences.

    Parameters
    ----------
    a, b : ndarray
        float32 ``[frames, dim]``.
    band : int
        How far the path may stray from the diagonal, in frames of ``b``.

    Returns
    -------
    path : ndarray
        int64 ``[steps, 2]``, frames of ``a`` and ``b``, both ends included.
    cost : float
        Mean Euclidean distance along the path.

    Raises
    ------
    ValueError
        When a sequence is empty.
    """
    if not len(a) or not len(b):
        raise ValueError("DTW needs at least one frame on both sides")
    slack = max(band, 2 * abs(len(b) - len(a)) // max(len(a), 1) + 8)
    path, total = _dtw(np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), slack)
    return path, total / len(path)


def position_from_path(path: np.ndarray, frames: int) -> np.ndarray:
    """Deadpan position of every performed frame, in frames.

    Parameters
    ----------
    path : ndarray
        Steps (deadpan frame, performed frame).
    frames : int
        Performed frames.

    Returns
    -------
    ndarray
        float32 ``[frames]``, increasing; the mean deadpan frame of each performed frame, smoothed
        over five frames because steps are whole frames.
    """
    count = np.bincount(path[:, 1], minlength=frames)
    mean = np.bincount(path[:, 1], path[:, 0], minlength=frames) / np.maximum(count, 1)
    padded = np.concatenate([mean[:1] - np.arange(2, 0, -1), mean, mean[-1:] + np.arange(1, 3)])
    smooth = np.convolve(padded, np.ones(5) / 5, mode="valid")
    return np.maximum.accumulate(smooth).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _dtw(a, b, band):  # noqa: PLR0912 - one compiled loop
    rows, columns, dim = len(a), len(b), a.shape[1]
    width = 2 * band + 1
    step = np.zeros((rows, width), np.uint8)
    previous = np.full(width, np.inf)
    slope = columns / rows
    offset_before = 0
    for i in range(rows):
        offset = int(i * slope) - band
        current = np.full(width, np.inf)
        for w in range(width):
            j = offset + w
            if j < 0 or j >= columns:
                continue
            distance = np.float32(0.0)
            for d in range(dim):
                difference = a[i, d] - b[j, d]
                distance += difference * difference
            distance = np.sqrt(distance)
            if i == 0 and j == 0:
                current[w] = distance
                continue
            best, move = np.inf, 0
            p = j - offset_before
            if i > 0 and 0 <= p - 1 < width and previous[p - 1] < best:
                best, move = previous[p - 1], 1
            if i > 0 and 0 <= p < width and previous[p] < best:
                best, move = previous[p], 2
            if w > 0 and current[w - 1] < best:
                best, move = current[w - 1], 3
            current[w] = best + distance
            step[i, w] = move
        previous, offset_before = current, offset
    i, j = rows - 1, columns - 1
    total = previous[j - offset_before]
    path = np.empty((rows + columns, 2), np.int64)
    length = 0
    while True:
        path[length, 0], path[length, 1] = i, j
        length += 1
        move = step[i, j - (int(i * slope) - band)]
        if move == 1:
            i, j = i - 1, j - 1
        elif move == 2:
            i -= 1
        elif move == 3:
            j -= 1
        else:
            break
    return path[:length][::-1].copy(), total

"""Cutting a stream into blocks of one size with context on both sides: the grid of every codec.

The grid starts at the stream's first row, so blocks, and with them the results, do not depend on
how the stream was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def blocks(
    chunks: Iterable[np.ndarray], size: int, context: int, quiet: np.ndarray
) -> Iterator[tuple[np.ndarray, int]]:
    """Cut a stream of rows into blocks of ``size`` rows with ``context`` rows on both sides.

    Outside the stream the context is ``quiet``. The last block is filled up with it, so that every
    block has the same shape.

    Parameters
    ----------
    chunks : iterable of ndarray
        ``[n, …]`` with any n.
    size, context : int
        Rows.
    quiet : ndarray
        ``[context, …]``.

    Yields
    ------
    block : ndarray
        ``[context + size + context, …]``.
    keep : int
        How many of its ``size`` rows belong to the stream.
    """
    buffer = quiet
    whole = size + 2 * context
    for chunk in chunks:
        buffer = np.concatenate([buffer, chunk])
        while len(buffer) >= whole:
            yield np.ascontiguousarray(buffer[:whole]), size
            buffer = buffer[size:]
    left = len(buffer) - context
    filler = (
        np.repeat(quiet[:1], whole, axis=0) if context else np.zeros((whole, *buffer.shape[1:]), np.float32)
    )
    while left > 0:
        buffer = np.concatenate([buffer, filler])[:whole] if len(buffer) < whole else buffer
        yield np.ascontiguousarray(buffer[:whole]), min(size, left)
        buffer = buffer[size:]
        left -= size


def joined(pieces: Iterable[np.ndarray], columns: int) -> np.ndarray:
    """Pieces ``[n, columns]`` one after the other, float32; none make ``[0, columns]``."""
    parts = list(pieces)
    return np.concatenate(parts) if parts else np.zeros((0, columns), np.float32)

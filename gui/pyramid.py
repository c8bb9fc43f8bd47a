"""Lowest and highest sample of growing audio at every resolution: drawing costs pixels, never seconds."""

from __future__ import annotations

import numpy as np

_FIRST = 1024


class Pyramid:
    """Levels of (lowest, highest): level 0 as given, each next one takes two of the one before together."""

    def __init__(self) -> None:
        self._levels: list[np.ndarray] = [np.zeros((_FIRST, 2), np.float32)]
        self._counts = [0]
        self.peak = 0.0

    @property
    def count(self) -> int:
        """Rows of level 0."""
        return self._counts[0]

    def append(self, rows: np.ndarray) -> None:
        """Add float32 ``[n, 2]`` to level 0, and what becomes whole above it."""
        if len(rows):
            self.peak = max(self.peak, float(np.abs(rows).max()))
        level = 0
        while len(rows):
            self._write(level, rows)
            done = self._counts[level + 1] if level + 1 < len(self._counts) else 0
            whole = self._counts[level] // 2
            below = self._levels[level][2 * done : 2 * whole].reshape(-1, 2, 2)
            rows = np.stack((below[:, :, 0].min(1), below[:, :, 1].max(1)), 1)
            level += 1

    def columns(self, edges: np.ndarray) -> np.ndarray:
        """Lowest and highest between edges, float32 ``[edges - 1, 2]``; zeros where nothing is.

        Parameters
        ----------
        edges : ndarray
            float64, rows of level 0, not falling.
        """
        out = np.zeros((max(len(edges) - 1, 0), 2), np.float32)
        inside = edges[:-1] < self.count
        if not inside.any():
            return out
        span = float(edges[-1] - edges[0]) / max(len(edges) - 1, 1)
        level = min(max(int(np.log2(max(span, 1.0))) - 1, 0), len(self._counts) - 1)
        size, rows = 1 << level, self._levels[level]
        count = self._counts[level]
        if count == 0:
            return out
        # Rounded, each group belongs to one column: loud places do not spread to their neighbours.
        places = np.rint(edges / size).astype(np.int64)
        first = np.clip(places[:-1], 0, count - 1)
        last = np.clip(places[1:], first + 1, count)
        base, stop = int(first[0]), int(last[-1])
        part = rows[base:stop]
        # Pairs of (from, to): every second result belongs to a column, the others to what is between.
        pairs = np.stack((first - base, last - base), 1).ravel()
        padded = np.concatenate((part, part[-1:]))
        out[:, 0] = np.minimum.reduceat(padded[:, 0], pairs)[::2]
        out[:, 1] = np.maximum.reduceat(padded[:, 1], pairs)[::2]
        out[~inside] = 0.0
        return out

    def _write(self, level: int, rows: np.ndarray) -> None:
        if level == len(self._levels):
            self._levels.append(np.zeros((_FIRST, 2), np.float32))
            self._counts.append(0)
        begin, end = self._counts[level], self._counts[level] + len(rows)
        if end > len(self._levels[level]):
            grown = np.zeros((max(2 * len(self._levels[level]), end), 2), np.float32)
            grown[:begin] = self._levels[level][:begin]
            self._levels[level] = grown
        self._levels[level][begin:end] = rows
        self._counts[level] = end

"""Arrays to shapes that QPainter takes in one call: thousands of them in a millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np
from PyQt6 import sip
from PyQt6.QtCore import QLineF, QPointF, QRectF


def rectangles(x: np.ndarray, y: Any, width: Any, height: Any) -> sip.array:
    """Rectangles for ``QPainter.drawRects``; what is not an array is the same for all."""
    return _filled(QRectF, len(x), (x, y, width, height))


def lines(x0: np.ndarray, y0: Any, x1: Any, y1: Any) -> sip.array:
    """Lines for ``QPainter.drawLines``."""
    return _filled(QLineF, len(x0), (x0, y0, x1, y1))


def points(x: np.ndarray, y: Any) -> sip.array:
    """Points for ``QPainter.drawPolyline`` and ``drawPolygon``."""
    return _filled(QPointF, len(x), (x, y))


def _filled(kind: type, count: int, columns: tuple[Any, ...]) -> sip.array:
    """An array of Qt's value type, written through its memory: doubles, side by side."""
    made = sip.array(kind, count)
    if count:
        memory = np.frombuffer(made, np.float64).reshape(count, len(columns))
        for index, column in enumerate(columns):
            memory[:, index] = column
    return made

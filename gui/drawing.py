"""From a drag of the mouse to a drawn curve, and what it does to the curves that are there. No widgets.

Curves of one name never overlap: what is drawn replaces what was there before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from pkontext.drawn import DRAWABLE, Drawn

#: Points of a drawn curve are at least so far apart.
LEAST_GAP_SEC = 0.25
#: A shorter drag draws nothing, and shorter rests of a curve go.
LEAST_SPAN_SEC = 0.1
#: A point goes that lies nearer than this share of the band to the line through its neighbours.
_FLAT = 0.008


@dataclass(frozen=True)
class Band:
    """Where a curve is on the screen: pixels and the values at them.

    Attributes
    ----------
    name : str
        One of `pkontext.drawn.DRAWABLE`.
    top, bottom : float
        Pixels.
    low, high : float
        Values at the bottom and at the top; tempo runs with its logarithm.
    """

    name: str
    top: float
    bottom: float
    low: float
    high: float

    def y(self, value: np.ndarray | float) -> np.ndarray:
        """Pixels of values."""
        low, high = to_axis(self.name, self.low), to_axis(self.name, self.high)
        share = (to_axis(self.name, value) - low) / (high - low)
        return self.bottom + (self.top - self.bottom) * share

    def value(self, y: float) -> float:
        """Value of a pixel, inside what can be drawn."""
        low, high = to_axis(self.name, self.low), to_axis(self.name, self.high)
        share = (y - self.bottom) / (self.top - self.bottom)
        return clamped(self.name, float(from_axis(self.name, low + (high - low) * share)))


def to_axis(name: str, value: np.ndarray | float) -> np.ndarray:
    """Values as curves run straight between their points."""
    return np.log2(value) if name == "tempo" else np.asarray(value, float)


def from_axis(name: str, value: np.ndarray | float) -> np.ndarray:
    """The other way round."""
    return np.exp2(value) if name == "tempo" else np.asarray(value, float)


def clamped(name: str, value: float) -> float:
    """The nearest value that can be drawn."""
    _, low, high = DRAWABLE[name]
    return min(max(value, low), high)


class Stroke:
    """One freehand line: going back over it draws it anew.

    Parameters
    ----------
    name : str
        One of `pkontext.drawn.DRAWABLE`.
    second, value : float
        Where it begins.
    """

    def __init__(self, name: str, second: float, value: float) -> None:
        self.name = name
        self.first = (second, value)
        self.seconds, self.values = [second], [value]
        self._last = (second, value)

    def add(self, second: float, value: float) -> None:
        """Draw on to a place."""
        low, high = sorted((self._last[0], second))
        start, stop = bisect_left(self.seconds, low), bisect_right(self.seconds, high)
        self.seconds[start:stop], self.values[start:stop] = [], []
        for place, height in sorted({self._last[0]: self._last[1], second: value}.items()):
            at = bisect_left(self.seconds, place)
            self.seconds.insert(at, place)
            self.values.insert(at, height)
        self._last = (second, value)

    def straight(self, second: float, value: float) -> None:
        """One straight line from the beginning to a place."""
        ends = sorted({self.first[0]: self.first[1], second: value}.items())
        self.seconds, self.values = ([end[i] for end in ends] for i in (0, 1))
        self._last = (second, value)

    def curve(self) -> Drawn | None:
        """The curve as it is kept, or None where it is too short."""
        seconds, values = np.array(self.seconds), np.array(self.values)
        if seconds[-1] - seconds[0] < LEAST_SPAN_SEC:
            return None
        height = to_axis(self.name, values)
        count = max(int((seconds[-1] - seconds[0]) / LEAST_GAP_SEC + 1e-9), 1)
        at = np.linspace(seconds[0], seconds[-1], count + 1)
        height = np.interp(at, seconds, height)
        _, low, high = DRAWABLE[self.name]
        room = _FLAT * float(to_axis(self.name, high) - to_axis(self.name, low))
        kept = _corners(at, height, room)
        return _drawn(self.name, at[kept], height[kept])


def put(drawn: tuple[Drawn, ...], curve: Drawn) -> tuple[Drawn, ...]:
    """The curves with another one, in place of what was there."""
    kept = erase(drawn, curve.name, curve.points[0][0], curve.points[-1][0])
    return tuple(sorted((*kept, curve), key=lambda one: (one.name, one.points[0][0])))


def erase(drawn: tuple[Drawn, ...], name: str, low: float, high: float) -> tuple[Drawn, ...]:
    """The curves without what one of them says between two seconds."""
    kept: list[Drawn] = []
    for curve in drawn:
        if curve.name != name or curve.points[-1][0] <= low or curve.points[0][0] >= high:
            kept.append(curve)
            continue
        begin, end = curve.points[0][0], curve.points[-1][0]
        kept += [part for span in ((begin, low), (high, end)) if (part := _part(curve, *span)) is not None]
    return tuple(kept)


def move_point(drawn: tuple[Drawn, ...], curve: Drawn, index: int, second: float, value: float) -> Drawn:
    """A curve with one of its points elsewhere, between its neighbours and beside other curves."""
    points = list(curve.points)
    others = [one for one in drawn if one.name == curve.name and one is not curve]
    before = [one.points[-1][0] for one in others if one.points[-1][0] <= points[0][0]]
    after = [one.points[0][0] for one in others if one.points[0][0] >= points[-1][0]]
    low = points[index - 1][0] + 0.02 if index else max(before, default=0.0)
    high = points[index + 1][0] - 0.02 if index + 1 < len(points) else min(after, default=np.inf)
    points[index] = (max(min(second, high), low), clamped(curve.name, value))
    return Drawn(curve.name, tuple(points))


def value_at(drawn: tuple[Drawn, ...], name: str, second: float) -> float | None:
    """What is drawn at a place."""
    for curve in drawn:
        if curve.name == name and curve.points[0][0] <= second <= curve.points[-1][0]:
            at, values = np.array(curve.points).T
            return float(from_axis(name, np.interp(second, at, to_axis(name, values))))
    return None


def _part(curve: Drawn, low: float, high: float) -> Drawn | None:
    """The part of a curve between two of its seconds."""
    if high - low < LEAST_SPAN_SEC:
        return None
    at, values = np.array(curve.points).T
    height = to_axis(curve.name, values)
    inside = (at > low) & (at < high)
    ends = np.interp([low, high], at, height)
    seconds = np.concatenate(([low], at[inside], [high]))
    return _drawn(curve.name, seconds, np.concatenate((ends[:1], height[inside], ends[1:])))


def _drawn(name: str, seconds: np.ndarray, height: np.ndarray) -> Drawn:
    values = (clamped(name, float(value)) for value in from_axis(name, height))
    return Drawn(name, tuple(zip(map(float, seconds), values, strict=True)))


def _corners(at: np.ndarray, height: np.ndarray, room: float) -> np.ndarray:
    """Points that a curve needs to stay within ``room`` of itself (Douglas and Peucker, 1973, vertically)."""
    kept = np.zeros(len(at), bool)
    kept[[0, -1]] = True
    spans = [(0, len(at) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        inner = slice(first + 1, last)
        line = np.interp(at[inner], at[[first, last]], height[[first, last]])
        away = np.abs(height[inner] - line)
        worst = int(away.argmax())
        if away[worst] > room:
            middle = first + 1 + worst
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return kept

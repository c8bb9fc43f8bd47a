"""Bars and beats of a score in seconds, as arrays: what views draw lines at and selections snap to."""

from __future__ import annotations

import numpy as np

from pkontext.score import seconds_to_ticks, ticks_to_seconds
from pkontext.types import Score


class Grid:
    """Bars and beats of one score.

    Parameters
    ----------
    score : Score

    Attributes
    ----------
    bars : ndarray
        float64 ``[bars + 1]``, seconds at which bars start; the last one is where the piece's last bar ends.
    beats : ndarray
        float64, seconds of the beats, in the metre's own unit, bar lines among them.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        end = float(seconds_to_ticks(np.array(score.duration_sec), score.tempi, score.ticks_per_quarter))
        bars: list[np.ndarray] = []
        beats: list[np.ndarray] = []
        starts = score.meters["tick"].astype(float)
        for index, meter in enumerate(score.meters):
            last = index + 1 == len(starts)
            beat = 4.0 * score.ticks_per_quarter / int(meter["denominator"])
            bar = beat * int(meter["numerator"])
            # The last bar is drawn to its end; before a change of metre a bar may be cut short.
            count = max(int(np.ceil(((end if last else starts[index + 1]) - starts[index]) / bar - 1e-6)), 1)
            stop = starts[index] + count * bar if last else starts[index + 1]
            bars.append(starts[index] + bar * np.arange(count + last))
            ticks = starts[index] + beat * np.arange(count * int(meter["numerator"]) + last)
            beats.append(ticks[ticks < stop + (1e-6 if last else -1e-6)])
        self.bars, self.beats = (
            ticks_to_seconds(np.concatenate(found), score.tempi, score.ticks_per_quarter)
            for found in (bars, beats)
        )

    def bars_between(self, low: float, high: float, least_gap: float) -> tuple[np.ndarray, np.ndarray]:
        """Numbers, counted from 1, and seconds of bars to draw.

        Only every second, fourth, ... bar is given where they would be nearer than ``least_gap`` seconds.
        """
        first = max(int(np.searchsorted(self.bars, low)) - 1, 0)
        last = int(np.searchsorted(self.bars, high, side="right"))
        gap = (self.bars[-1] - self.bars[0]) / max(len(self.bars) - 1, 1)
        step = 1 << max(int(np.ceil(np.log2(max(least_gap / max(gap, 1e-9), 1.0)))), 0)
        index = np.arange(-(-first // step) * step, last, step)
        return index + 1, self.bars[index]

    def beats_between(self, low: float, high: float) -> np.ndarray:
        """Seconds of the beats of a span."""
        return self.beats[np.searchsorted(self.beats, low) : np.searchsorted(self.beats, high, side="right")]

    def beat_gap(self, low: float, high: float) -> float:
        """Seconds between the beats of a span, on average."""
        found = self.beats_between(low, high)
        return float((found[-1] - found[0]) / (len(found) - 1)) if len(found) > 1 else high - low

    def around(self, low: float, high: float) -> tuple[float, float]:
        """All beats that a span touches."""
        first = max(int(np.searchsorted(self.beats, low + 1e-6, side="right")) - 1, 0)
        last = min(int(np.searchsorted(self.beats, high - 1e-6)), len(self.beats) - 1)
        return float(self.beats[first]), float(self.beats[max(last, min(first + 1, len(self.beats) - 1))])

    def bar_span(self, second: float) -> tuple[float, float]:
        """Where the bar of a place starts and ends."""
        index = int(np.searchsorted(self.bars, second + 1e-6, side="right")) - 1
        index = min(max(index, 0), max(len(self.bars) - 2, 0))
        return float(self.bars[index]), float(self.bars[min(index + 1, len(self.bars) - 1)])

    def beat_after(self, second: float, steps: int) -> float:
        """The beat so many steps after a place, or before it."""
        if steps > 0:
            index = int(np.searchsorted(self.beats, second + 1e-3, side="right")) + steps - 1
        else:
            index = int(np.searchsorted(self.beats, second - 1e-3)) + steps
        return float(self.beats[min(max(index, 0), len(self.beats) - 1)])

    def bpm(self, second: float) -> float:
        """Quarter notes a minute that are written at a place."""
        score = self._score
        tick = float(seconds_to_ticks(np.array(max(second, 0.0)), score.tempi, score.ticks_per_quarter))
        at = int(np.searchsorted(score.tempi["tick"], tick + 1e-3, side="right")) - 1
        return float(60e6 / score.tempi["us_per_quarter"][max(at, 0)])

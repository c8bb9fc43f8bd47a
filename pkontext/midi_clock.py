"""Following the MIDI clock and transport of another program or instrument.

24 clocks a quarter give the tempo: a straight line is fitted through the last two quarters, so that
the jitter of single clocks averages out. When clocks leave that line for good, the tempo has changed,
and the line starts anew.

Threading: one thread feeds; `ClockFollower.status` may be called from any other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from pkontext.midi_bytes import CLOCK, CONTINUE, SONG_POSITION, START, STOP

PER_QUARTER = 24
LOST_SEC = 0.5
_WINDOW = 48
_CLOCKS_PER_SIXTEENTH = 6
#: Clocks off the line, all to one side, that make a new tempo.
_OUTLIERS = 4
_LEAST_OFF_SEC = 0.004
_KNOWN = 6


@dataclass(frozen=True)
class ClockStatus:
    """Where the other side is.

    Attributes
    ----------
    state : {"stopped", "playing"}
    running : bool
        Whether clocks arrive; False before the first and half a second after the last.
    tempo_bpm : float or None
        Quarters a minute; None until a few clocks have come.
    position_quarters : float
        From the start of the song.
    lost : int
        How often the clocks stopped coming while playing.
    """

    state: Literal["stopped", "playing"]
    running: bool
    tempo_bpm: float | None
    position_quarters: float
    lost: int


class ClockFollower:
    """Tempo, state and position from MIDI clock messages. Anything else that is fed is ignored."""

    def __init__(self) -> None:
        self._playing = False
        self._next_clock = 0  # song position of the clock that comes next
        self._clocks: deque[float] = deque(maxlen=_WINDOW)
        self._line: tuple[float, float] | None = None  # second of the last clock, seconds a clock
        self._off: deque[float] = deque(maxlen=_OUTLIERS)
        self._placed = False  # whether a clock has come since the song position was set
        self._lost = 0
        self._is_lost = False

    def feed(self, time_sec: float, data: bytes) -> None:
        """Take a message with its ``time.monotonic()``."""
        kind = data[0] if data else 0
        if kind == SONG_POSITION:
            if len(data) == 3 and max(data[1:]) < 128:
                self._next_clock = (data[1] | data[2] << 7) * _CLOCKS_PER_SIXTEENTH
                self._placed = False
        elif len(data) != 1:
            return
        elif kind == CLOCK:
            self._clock(time_sec)
        elif kind == START:
            self._next_clock, self._playing, self._placed = 0, True, False
        elif kind == CONTINUE:
            self._playing, self._placed = True, False
        elif kind == STOP:
            self._playing = False

    def status(self, now: float) -> ClockStatus:
        """State at a ``time.monotonic()``."""
        clocks, line = list(self._clocks), self._line
        running = bool(clocks) and now - clocks[-1] <= LOST_SEC
        if clocks and not running and self._playing and not self._is_lost:
            self._is_lost = True
            self._lost += 1
        tempo = 60.0 / (PER_QUARTER * line[1]) if line and line[1] > 0 and len(clocks) >= _KNOWN else None
        return ClockStatus(
            "playing" if self._playing else "stopped",
            running,
            tempo,
            self._position(now, line) / PER_QUARTER,
            self._lost,
        )

    def _position(self, now: float, line: tuple[float, float] | None) -> float:
        """Song position in clocks; between two clocks it moves on, and it never runs past the next one."""
        if not self._playing or not self._placed or line is None:
            return float(self._next_clock)
        since = (now - line[0]) / line[1] if line[1] > 0 else 0.0
        return self._next_clock - 1 + min(max(since, 0.0), 1.0)

    def _clock(self, time_sec: float) -> None:
        if self._clocks and not 0 <= time_sec - self._clocks[-1] <= LOST_SEC:
            if self._playing and not self._is_lost:
                self._lost += 1
            self._forget(0)
        self._is_lost = False
        if self._playing:
            self._next_clock += 1
            self._placed = True
        if self._line is not None and len(self._clocks) >= _KNOWN:
            self._watch_tempo(time_sec)
        self._clocks.append(time_sec)
        self._line = _fit(self._clocks)

    def _watch_tempo(self, time_sec: float) -> None:
        assert self._line is not None
        last, step = self._line
        self._off.append(time_sec - last - step)
        allowed = max(_LEAST_OFF_SEC, 0.1 * step)
        same_side = all(off > allowed for off in self._off) or all(off < -allowed for off in self._off)
        if len(self._off) == _OUTLIERS and same_side:
            self._forget(_OUTLIERS)

    def _forget(self, keep: int) -> None:
        kept = list(self._clocks)[len(self._clocks) - keep :] if keep else []
        self._clocks.clear()
        self._clocks.extend(kept)
        self._off.clear()
        self._line = None


def _fit(clocks: deque[float]) -> tuple[float, float] | None:
    """Least-squares line through the times of the clocks: its value at the last one, and its slope."""
    n = len(clocks)
    if n < 2:
        return None
    origin, middle = clocks[0], (n - 1) / 2
    mean = sum(clocks) / n - origin
    moment = sum((i - middle) * (t - origin) for i, t in enumerate(clocks))
    slope = moment * 12 / (n * (n * n - 1))
    return origin + mean + slope * middle, slope

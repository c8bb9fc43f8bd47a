"""A metronome that clicks at absolute times, so that it never drifts and a late click delays no other.

Threading: the clicks come on a thread of the metronome's own; the methods belong to one other thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pkontext.errors import InputError
from pkontext.midi_out import wait_until

SLOWEST_BPM, FASTEST_BPM = 20.0, 400.0
#: A click that is later than this is left out: after the computer slept there is no burst of clicks.
_TOO_LATE_SEC = 0.1


class Metronome:
    """Clicks beats, the first of each bar with an accent, beginning with the bars of the count-in.

    Parameters
    ----------
    bpm : float
        Beats a minute, 20 to 400.
    beats_per_bar : int
        1 to 32.
    count_in_bars : int
        Bars that are clicked before the take begins, 0 to 16.
    click : callable
        Sounds one click; its argument says whether it is accented.

    Raises
    ------
    InputError
        ``metronome.range`` for a value that is out of range.
    """

    def __init__(self, bpm: float, beats_per_bar: int, count_in_bars: int, click: Callable[[bool], None]):
        if not (SLOWEST_BPM <= bpm <= FASTEST_BPM and 1 <= beats_per_bar <= 32 and 0 <= count_in_bars <= 16):
            raise InputError(
                "metronome.range",
                f"A metronome of {bpm:g} beats a minute, {beats_per_bar} beats a bar and "
                f"{count_in_bars} bars of count-in is out of range.",
                "Use 20 to 400 beats a minute, 1 to 32 beats a bar and 0 to 16 bars of count-in.",
            )
        self.bpm, self.beats_per_bar, self.count_in_bars = bpm, beats_per_bar, count_in_bars
        self.skipped = 0
        self._click = click
        self._first = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def beat_time(self, beat: int) -> float:
        """``time.monotonic()`` of a beat after `start`; beat 0 is the first of the count-in."""
        return self._first + beat * 60.0 / self.bpm

    def start(self, at: float | None = None) -> float:
        """Begin to click.

        Parameters
        ----------
        at : float, optional
            The ``time.monotonic()`` of the first click; by default a tenth of a second from now.

        Returns
        -------
        float
            The ``time.monotonic()`` of the first beat after the count-in, at which the take begins.
        """
        self.stop()
        self._first = time.monotonic() + 0.1 if at is None else at
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pkontext-metronome", daemon=True)
        self._thread.start()
        return self.beat_time(self.count_in_bars * self.beats_per_bar)

    def stop(self) -> None:
        """Stop clicking; harmless when repeated."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        stop, beat = self._stop, 0
        while wait_until(self.beat_time(beat), stop):
            if time.monotonic() - self.beat_time(beat) < _TOO_LATE_SEC:
                self._click(beat % self.beats_per_bar == 0)
            else:
                self.skipped += 1
            beat += 1

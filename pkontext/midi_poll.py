"""Reading a MIDI input without a callback, for JACK.

JACK waits for the callbacks of its clients, sound included, so a callback that waits for Python's lock
delays everybody's sound; and whoever opens or closes another JACK port waits for JACK while holding that
lock, which is a deadlock. So rtmidi collects the messages in its own queue, and a thread fetches them.

Threading: the poller has a thread of its own; `Poller.stop` is for any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pkontext.event_queue import EventQueue

POLL_SEC = 0.001
#: How fast the clocks of JACK and Python may drift apart.
_DRIFT = 1e-4


class DriverClock:
    """Turns rtmidi's time differences into ``time.monotonic()``.

    A message is fetched late by chance, but never early: the smallest lateness that was seen is taken off.
    """

    def __init__(self) -> None:
        self._chain = 0.0  # sum of the time differences
        self._offset: float | None = None
        self._last = 0.0

    def time_of(self, fetched: float, delta: float) -> float:
        """``time.monotonic()`` of a message: when it was fetched, and rtmidi's difference to the last one."""
        self._chain += delta
        offset = fetched - self._chain
        if self._offset is None:
            self._offset = offset
        else:
            self._offset = min(self._offset + _DRIFT * max(fetched - self._last, 0.0), offset)
        self._last = fetched
        return self._chain + self._offset


class Poller:
    """Fetches messages of an rtmidi input into a queue, once a millisecond.

    Parameters
    ----------
    fetch : callable
        ``MidiIn.get_message``.
    events : EventQueue
    capacity : int
        Messages that rtmidi holds. If all of them are found waiting, some may have been lost, and one is
        counted as dropped.
    """

    def __init__(self, fetch: Callable[[], Any], events: EventQueue, capacity: int) -> None:
        self._fetch, self._events, self._capacity = fetch, events, capacity
        self._clock = DriverClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pkontext-midi-in", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fetch what is there, and end the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._fetch_all()
            time.sleep(POLL_SEC)
        self._fetch_all()

    def _fetch_all(self) -> None:
        waiting = 0
        while waiting < self._capacity and (event := self._fetch()) is not None:
            waiting += 1
            data, delta = event
            self._events.push(self._clock.time_of(time.monotonic(), delta), bytes(data))
        if waiting >= self._capacity - 1:
            self._events.dropped += 1

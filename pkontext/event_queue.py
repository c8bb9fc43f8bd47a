"""The bounded queue between the MIDI callback and the thread that works on what it heard.

Threading: one thread pushes and one drains.
"""

from __future__ import annotations

import contextlib
import queue

#: Events that a queue holds: 1.6 s of 10 000 events a second, half an hour of playing.
CAPACITY = 16384


class EventQueue:
    """Timed messages from the MIDI callback to one consumer: bounded, and it counts what it had to drop.

    One thread pushes and one drains. ``SimpleQueue`` is written in C and wakes the consumer at once,
    without a lock that the callback could wait for.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.dropped = 0
        self.received = 0
        self._events: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def push(self, time_sec: float, data: bytes) -> None:
        """Append a message with its ``time.monotonic()``; never waits, never raises."""
        if self._events.qsize() >= self.capacity:
            self.dropped += 1
            return
        self.received += 1
        self._events.put((time_sec, data))

    def drain(self, timeout: float = 0.0) -> list[tuple[float, bytes]]:
        """Return all that has come, after waiting up to ``timeout`` seconds for a first message."""
        events: list[tuple[float, bytes]] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout > 0, timeout if timeout > 0 else None))
            while len(events) < self.capacity:
                events.append(self._events.get_nowait())
        return events

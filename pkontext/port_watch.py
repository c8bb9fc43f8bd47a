"""Getting a MIDI input back after its instrument was unplugged.

Threading: `PortWatcher` looks at the ports on a thread of its own; its methods may be called from any other.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from pkontext.errors import DeviceError
from pkontext.event_queue import EventQueue
from pkontext.midi_bytes import release_messages
from pkontext.midi_systems import CLIENT, answers, discard, open_client, short_name
from pkontext.ports import MidiInput


class PortWatcher:
    """Keeps one input open: when the instrument is unplugged and comes back, it is opened again.

    The names of the ports are looked at about once a second with a client of its own. When the
    port goes, pedals up and all notes off are pushed into the queue, so that nothing hangs. An
    instrument that comes back between two looks may stay unheard.

    Parameters
    ----------
    name : str
        As for `MidiInput`; the port must be there at first.
    events : EventQueue
    on_change : callable, optional
        Called on the watcher's thread with True (it is back) or False (it is gone).
    interval : float
        Seconds between two looks.

    Raises
    ------
    DeviceError
        As `MidiInput`.
    """

    def __init__(
        self,
        name: str,
        events: EventQueue,
        on_change: Callable[[bool], None] | None = None,
        interval: float = 1.0,
        client: str = CLIENT,
    ) -> None:
        self._events, self._client, self._on_change, self._interval = events, client, on_change, interval
        self._input: MidiInput | None = MidiInput(name, events, client)
        self.info = self._input.info
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pkontext-ports", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the port is open now."""
        return self._input is not None

    def close(self) -> None:
        """Stop looking and close the port."""
        self._stop.set()
        self._thread.join()
        if self._input is not None:
            self._input.close()
            self._input = None

    def _watch(self) -> None:
        with contextlib.ExitStack() as probes:
            probe: Any = None
            while not self._stop.wait(self._interval):
                if probe is None or not answers(self.info.api):
                    probes.close()
                    probe = open_client(self.info.api)
                    if probe is not None:
                        probes.callback(discard, probe)
                self._compare(probe)

    def _compare(self, probe: Any) -> None:
        """Open or close the port where what there is differs from what is open."""
        there = False
        if probe is not None:
            with contextlib.suppress(Exception):  # a system that is just going away
                there = self.info.name in (short_name(n, self.info.api) for n in probe.get_ports())
        if there and self._input is None:
            with contextlib.suppress(DeviceError):  # not ready yet: the next look tries again
                self._input = MidiInput(self.info.name, self._events, self._client)
                self._tell(True)
        elif not there and self._input is not None:
            self._input.close()
            self._input = None
            now = time.monotonic()
            for message in release_messages():
                self._events.push(now, message)
            self._tell(False)

    def _tell(self, connected: bool) -> None:
        if self._on_change is not None:
            self._on_change(connected)

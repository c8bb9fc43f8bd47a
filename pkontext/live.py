"""Live playing in one object: a port, its listener, the journal, the monitor, the recorder and the clock.

Threading: rtmidi pushes into a queue; one thread, the listener, takes events from it and hands each to
the monitor first, then to recorder, clock and journal. Methods of `LiveSession` belong to one thread, but
`LiveSession.status` may be called from any.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkontext.capture import KEPT_SEC, Recorder, RecorderStatus
from pkontext.captured import Captured
from pkontext.errors import DeviceError
from pkontext.event_queue import EventQueue
from pkontext.journal import Journal
from pkontext.metronome import Metronome
from pkontext.midi_bytes import CLOCK
from pkontext.midi_clock import ClockFollower, ClockStatus
from pkontext.monitor import Monitor, MonitorStatus
from pkontext.port_watch import PortWatcher
from pkontext.ports import MidiInput, PortInfo, default_input

Consumer = Callable[[float, bytes], None]

#: Python lets another thread run after this time at the latest. With its usual 5 ms a busy thread delays the
#: MIDI callback by 7 ms (median), with this by 2 ms.
_SWITCH_SEC = 0.0005
_WAKE_SEC = 0.25


class Listener:
    """The thread that drains a queue and hands every event to each consumer, in their order.

    Parameters
    ----------
    events : EventQueue
    consumers : sequence of callable
        Called with ``time.monotonic()`` and the message. One that raises does not keep the others from
        the event; see `failure`.
    after : callable, optional
        Called after all events that had come were handed over, such as `Journal.flush`.
    """

    def __init__(
        self, events: EventQueue, consumers: Sequence[Consumer], after: Callable[[], None] | None = None
    ) -> None:
        self.failure: Exception | None = None
        self._events, self._consumers, self._after = events, consumers, after
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pkontext-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Hand over what has come until now, and end the thread."""
        self._stop.set()
        self._events.push(time.monotonic(), b"")  # wakes it
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._hand_over(self._events.drain(_WAKE_SEC))
        self._hand_over(self._events.drain())

    def _hand_over(self, events: list[tuple[float, bytes]]) -> None:
        for when, data in events:
            if data:
                for consumer in self._consumers:
                    self._guard(consumer, when, data)
        if self._after is not None:
            self._guard(self._after)

    def _guard(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception as error:  # nothing may end the thread that keeps what is played
            self.failure = error


@dataclass(frozen=True)
class LiveStatus:
    """One snapshot for people to see.

    Attributes
    ----------
    port : PortInfo
    connected : bool
        Whether the instrument is there; it is opened again when it comes back.
    recorder : RecorderStatus
    clock : ClockStatus
    monitor : MonitorStatus or None
    events, dropped : int
        Messages that came, and those that were lost because the program could not keep up.
    warnings : tuple of str
        What does not work, one or two sentences each.
    """

    port: PortInfo
    connected: bool
    recorder: RecorderStatus
    clock: ClockStatus
    monitor: MonitorStatus | None
    events: int
    dropped: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LiveOptions:
    """How to listen.

    Attributes
    ----------
    port : str or None
        Input port by name; None is the first instrument.
    virtual : bool
        Make a port instead that other programs can play to.
    soundfont : Path or None
        What the monitor plays; None is no monitor.
    gain : float
        Of the monitor.
    driver : str or None
        FluidSynth's audio driver; None is the first that works.
    journal_folder : Path or None
        None is the platform's folder.
    """

    port: str | None = None
    virtual: bool = False
    soundfont: Path | None = None
    gain: float = 1.2
    driver: str | None = None
    journal_folder: Path | None = None


class LiveSession:
    """Listens from construction to `close`. Without sound or safety copy it goes on, with a warning.

    Raises
    ------
    DeviceError
        When the port cannot be opened; see `pkontext.ports.MidiInput`.
    """

    def __init__(self, options: LiveOptions) -> None:
        self.recorder, self.clock = Recorder(), ClockFollower()
        self.monitor: Monitor | None = None
        self.journal: Journal | None = None
        self.metronome: Metronome | None = None
        self._warnings: list[str] = []
        self._events = EventQueue()
        self._dropped_before_take = 0
        self._switch = sys.getswitchinterval()
        with contextlib.ExitStack() as opened:
            sys.setswitchinterval(min(_SWITCH_SEC, self._switch))
            opened.callback(sys.setswitchinterval, self._switch)
            if options.soundfont is not None:
                self._open_monitor(options, opened)
            with self._warned():
                self.journal = Journal(options.journal_folder)
                opened.callback(self.journal.close)
            listener = Listener(self._events, self._consumers(), self._flush)
            self._listener = listener
            opened.callback(listener.stop)
            self._port: MidiInput | PortWatcher
            if options.virtual:
                self._port = MidiInput(None, self._events)
            else:
                self._port = PortWatcher(options.port or default_input().name, self._events)
            opened.callback(self._port.close)
            opened.callback(self._stop_metronome)
            self._opened = opened.pop_all()

    def start_take(self, bpm: float | None = None, beats_per_bar: int = 4, count_in_bars: int = 1) -> float:
        """Begin a take, with a metronome if ``bpm`` is given; return its ``time.monotonic()`` of second 0.

        Raises
        ------
        InputError
            ``metronome.range``.
        """
        self._stop_metronome()
        begin = time.monotonic()
        if bpm is not None:
            self.metronome = Metronome(bpm, beats_per_bar, count_in_bars, self._click)
            begin = self.metronome.start()
        self._dropped_before_take = self._events.dropped
        self.recorder.start(begin)
        return begin

    def stop_take(self) -> Captured:
        """End the take; see `Recorder.stop`."""
        end, metronome = time.monotonic(), self.metronome
        self._stop_metronome()
        return self.recorder.stop(
            end,
            self._events.dropped - self._dropped_before_take,
            metronome.bpm if metronome else None,
            metronome.beats_per_bar if metronome else None,
        )

    def keep_last(self, seconds: float = KEPT_SEC) -> Captured:
        """What was just played; see `Recorder.keep_last`."""
        return self.recorder.keep_last(seconds)

    def panic(self) -> None:
        """End all sound of the monitor."""
        if self.monitor is not None:
            self.monitor.panic()

    def status(self) -> LiveStatus:
        """What a user wants to see; any thread may ask."""
        warnings = list(self._warnings)
        if self.journal is not None and self.journal.warning:
            warnings.append(self.journal.warning)
        if self._listener.failure is not None:
            warnings.append(f"A part of the program failed while listening ({self._listener.failure}).")
        return LiveStatus(
            self._port.info,
            self._port.connected if isinstance(self._port, PortWatcher) else True,
            self.recorder.status(),
            self.clock.status(time.monotonic()),
            self.monitor.status() if self.monitor else None,
            self._events.received,
            self._events.dropped,
            tuple(warnings),
        )

    def close(self, saved: bool = False) -> None:
        """End everything, all sound first; harmless when repeated.

        Parameters
        ----------
        saved : bool
            Whether what was played is saved or not wanted; else the journal stays for a later start.
        """
        self._opened.close()
        if saved and self.journal is not None:
            self.journal.finish()

    def __enter__(self) -> LiveSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _consumers(self) -> list[Consumer]:
        consumers: list[Consumer] = [self.recorder.feed, self.clock.feed]
        if self.journal is not None:
            consumers.append(self._keep)
        return [self.monitor.feed, *consumers] if self.monitor else consumers

    def _keep(self, time_sec: float, data: bytes) -> None:
        if self.journal is not None and data[0] != CLOCK:  # which tells nothing of what was played
            self.journal.append(time_sec, data)

    def _flush(self) -> None:
        if self.journal is not None:
            self.journal.flush()

    def _click(self, accent: bool) -> None:
        if self.monitor is not None:
            self.monitor.click(accent)

    def _stop_metronome(self) -> None:
        if self.metronome is not None:
            self.metronome.stop()
            self.metronome = None

    def _open_monitor(self, options: LiveOptions, opened: contextlib.ExitStack) -> None:
        assert options.soundfont is not None
        with self._warned():
            self.monitor = Monitor(options.soundfont, options.gain, driver=options.driver)
            opened.callback(self.monitor.close)

    @contextlib.contextmanager
    def _warned(self):
        """Go on without a part that does not work, and say so."""
        try:
            yield
        except DeviceError as error:
            self._warnings.append(f"{error.message} {error.hint}")

"""A take on another instrument: its notes sent to a MIDI port in time, with pause and seek.

However it ends, notes are released and the pedal comes up: `pkontext.midi_out.NotePlayer` does it at each
pause, seek and end, and closing the port does it once more on every channel.

Threading: messages are sent on a thread of `NotePlayer`; everything here belongs to one other thread.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pkontext.midi_out import NotePlayer, Send, timed_messages
from pkontext.ports import MidiOutput
from pkontext.score import bar_at, bar_start_sec

if TYPE_CHECKING:
    from pkontext.expressive_midi import TakeNotes
    from pkontext.places import Places

#: JACK needs a moment to pass messages on after a connection was made.
SETTLE_SEC = 0.3
SEEK_SEC = 5.0
#: From the start of a bar on, going a bar back first goes to that start.
_BAR_GRACE_SEC = 1.0
_CHORD_SEC = 0.002

KEYS = (
    ("Space", "pause, play on"),
    ("← →", "5 seconds back, forward"),
    ("↓ ↑", "a bar back, forward"),
    ("Home", "to the beginning"),
    ("q", "quit"),
)


def open_output(name: str) -> MidiOutput:
    """Open an output port that takes messages from now on.

    Raises
    ------
    DeviceError
        See `pkontext.ports.MidiInput`.
    """
    port = MidiOutput(name)
    if port.info.api == "jack":
        time.sleep(SETTLE_SEC)
    return port


@dataclass(frozen=True)
class MidiPlayStatus:
    """Where playing is.

    Attributes
    ----------
    state : str
        ``playing``, ``paused`` or ``stopped`` (at the end).
    position_sec, duration_sec : float
        Place in the take and its length.
    score_sec : float
        Place in the score.
    late_ms : float
        How late the latest message since the last start was sent.
    """

    state: str
    position_sec: float
    duration_sec: float
    score_sec: float
    late_ms: float


class MidiTake:
    """Plays the notes of a take; a context manager that ends in silence.

    Parameters
    ----------
    take : TakeNotes
    places : Places
        Of the same take.
    send : callable
        Such as `MidiOutput.send`.
    channel : int
        0 to 15.
    """

    def __init__(self, take: TakeNotes, places: Places, send: Send, channel: int = 0) -> None:
        messages = timed_messages(take.notes, take.pedals, channel)
        self.duration_sec = messages[-1][0] if messages else 0.0
        self._player = NotePlayer(messages, send)
        self._take, self._score, self._places = take, take.score, places
        self._written = take.score.notes["onset_sec"][take.rows]
        self._at = 0.0
        self._sought = 0.0  # where the last seek went to: not before it, though notes come early there
        self._running = False

    def play(self) -> None:
        """Play on; from the beginning after the end."""
        if self._player.playing:
            return
        if self._at >= self.duration_sec:
            self._at = self._sought = 0.0
        self._start(self._at)

    def pause(self) -> None:
        """End all notes and stay here."""
        if self._running:
            self._at = max(self._player.stop(), 0.0)
            self._running = False

    def toggle(self) -> None:
        """Pause, or play on."""
        if self._player.playing:
            self.pause()
        else:
            self.status()  # notices an end
            self.play()

    def seek(self, score_sec: float) -> None:
        """Go to a place in the score; the chord there is played whole, also what comes early in it."""
        at_sec = self._places.to_audio(max(score_sec, 0.0))
        chord = np.abs(self._written - score_sec) < _CHORD_SEC
        self._go(min(at_sec, float(self._take.notes["onset_sec"][chord].min(initial=np.inf))))
        self._sought = score_sec

    def seek_by(self, seconds: float) -> None:
        """Go so many seconds of the take on, or back."""
        self._go(self.status().position_sec + seconds)

    def seek_bar(self, count: int) -> None:
        """Go so many bars on or back; back goes to the beginning of this bar first."""
        here = self.status().score_sec
        bar = bar_at(self._score, here)
        if count < 0 and here - bar_start_sec(self._score, bar) > _BAR_GRACE_SEC:
            count += 1
        self.seek(bar_start_sec(self._score, max(bar + count, 1)))

    def status(self) -> MidiPlayStatus:
        """Where it is.

        Raises
        ------
        DeviceError
            ``midi.lost`` when the port is gone.
        """
        player = self._player
        playing = player.playing
        if self._running:
            self._at = max(player.position_sec, 0.0)
            if not playing:
                self._running = False
                if player.error is not None:
                    raise player.error
        state = "playing" if playing else "stopped" if self._at >= self.duration_sec else "paused"
        score_sec = max(self._places.to_score(self._at), self._sought)
        return MidiPlayStatus(state, self._at, self.duration_sec, score_sec, 1000 * player.latest_sec)

    def press(self, key: str) -> bool:
        """Obey a key, see `KEYS`; returns whether it asks to quit, or the terminal is gone (an empty key)."""
        actions: dict[str, Callable[[], None]] = {
            "space": self.toggle,
            "left": lambda: self.seek_by(-SEEK_SEC),
            "right": lambda: self.seek_by(SEEK_SEC),
            "down": lambda: self.seek_bar(-1),
            "up": lambda: self.seek_bar(1),
            "home": lambda: self._go(0.0),
        }
        if key in actions:
            actions[key]()
        return key in ("q", "escape", "\x03", "")

    def __enter__(self) -> MidiTake:
        return self

    def __exit__(self, *_: object) -> None:
        self._player.stop()

    def _start(self, at_sec: float) -> None:
        self._at, self._running = at_sec, True
        self._player.latest_sec = 0.0
        self._player.start(at_sec)

    def _go(self, at_sec: float) -> None:
        at_sec, self._sought = min(max(at_sec, 0.0), self.duration_sec), 0.0
        if self._player.playing:
            self._start(at_sec)
        else:
            self._at, self._running = at_sec, False


def play_until_end(
    take: MidiTake,
    read_key: Callable[[float], str | None],
    stopped: Callable[[], bool],
    show: Callable[[MidiPlayStatus], None],
    say_keys: Callable[[], None],
    tick_sec: float = 0.05,
) -> MidiPlayStatus:
    """Play until the end of the take, or until someone quits; returns the last status.

    Parameters
    ----------
    take : MidiTake
    read_key : callable
        See `pkontext.keys.key_presses`.
    stopped : callable
        Whether to end.
    show : callable
        Called with each status.
    say_keys : callable
        Called when help is asked for.
    tick_sec : float
        Time between two looks.

    Raises
    ------
    DeviceError
        ``midi.lost`` when the port is gone.
    """
    take.play()
    with take:
        status = take.status()
        while not stopped() and status.state != "stopped":
            key = read_key(tick_sec)
            if key in ("h", "?"):
                say_keys()
            elif key is not None and take.press(key):
                break
            status = take.status()
            show(status)
        take.pause()
        return take.status()


@contextlib.contextmanager
def hangups_interrupt() -> Iterator[None]:
    """Let a terminal that is closed end the program like Ctrl-C, so that notes are ended, too."""
    hangup: Any = getattr(signal, "SIGHUP", None)
    if hangup is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(hangup, interrupt)
    try:
        yield
    finally:
        signal.signal(hangup, previous)

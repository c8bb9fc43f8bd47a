"""Sending a take's notes to a MIDI port in time, and ending every note on every way out.

Messages are sent at absolute times of ``time.monotonic()``, so lateness never adds up.

Threading: `NotePlayer` sends on a thread of its own; its methods belong to one other thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from pkontext.errors import DeviceError
from pkontext.midi_bytes import CONTROL, NOTE_OFF, NOTE_ON, SUSTAIN, panic_messages
from pkontext.ports import MidiOutput
from pkontext.types import NOTE, PEDAL

Send = Callable[[bytes], None]
#: A timed message: seconds of the take, and bytes.
Timed = tuple[float, bytes]

#: Waiting on an event may overshoot by a timer tick of Windows; the rest is slept in short steps.
_COARSE_SEC = 0.020
_STEP_SEC = 0.002
#: Time for a port to empty its buffer between two groups of a panic.
_PANIC_STEP_SEC = 0.005
_SHORTEST_SEC = 0.001


def timed_messages(notes: np.ndarray, pedals: np.ndarray | None = None, channel: int = 0) -> list[Timed]:
    """Messages of a take, sorted by time: releases first, then pedal, then strikes.

    Parameters
    ----------
    notes : ndarray of NOTE
    pedals : ndarray of PEDAL, optional
    channel : int
        0 to 15.

    Returns
    -------
    list of (float, bytes)
        A key is released before it is struck again, so no release ends a later note.
    """
    notes = np.sort(np.asarray(notes, NOTE), order=["onset_sec", "pitch"])
    on, off = notes["onset_sec"], notes["onset_sec"] + np.maximum(notes["duration_sec"], _SHORTEST_SEC)
    for pitch in np.unique(notes["pitch"]):
        for row, following in pairwise(np.flatnonzero(notes["pitch"] == pitch)):
            off[row] = min(off[row], on[following])
    rows: list[tuple[float, int, bytes]] = []
    for start, stop, key, velocity in zip(
        on.tolist(), off.tolist(), notes["pitch"].tolist(), notes["velocity"].tolist(), strict=True
    ):
        rows.append((stop, 0, bytes((NOTE_OFF | channel, key, 64))))
        rows.append((start, 2, bytes((NOTE_ON | channel, key, max(velocity, 1)))))
    for when, value in np.asarray([] if pedals is None else pedals, PEDAL).tolist():
        rows.append((when, 1, bytes((CONTROL | channel, SUSTAIN, value))))
    return [(when, data) for when, _, data in sorted(rows, key=lambda row: row[:2])]


class NotePlayer:
    """Plays timed messages to a port; see `timed_messages`.

    Parameters
    ----------
    messages : sequence of (float, bytes)
        Sorted by seconds.
    send : callable
        Such as `MidiOutput.send`; called on the player's thread.
    """

    def __init__(self, messages: Sequence[Timed], send: Send) -> None:
        self._messages, self._send = messages, send
        self._times = [when for when, _ in messages]
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._origin = 0.0
        self._at = 0.0
        self.error: DeviceError | None = None
        self.latest_sec = 0.0

    @property
    def playing(self) -> bool:
        """Whether messages remain to be sent."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def position_sec(self) -> float:
        """Second of the take that sounds now, or at which `stop` left it."""
        if not self.playing:
            return self._at
        return min(time.monotonic() - self._origin, self._times[-1] if self._times else 0.0)

    def start(self, at_sec: float = 0.0, begin: float | None = None) -> None:
        """Play from a second of the take on; while playing, this is a seek.

        Parameters
        ----------
        at_sec : float
            Notes that began before it are not struck again; the pedal is put where it is at that time.
        begin : float, optional
            The ``time.monotonic()`` at which ``at_sec`` sounds; by default now.
        """
        self.stop()
        self._stop = threading.Event()
        self.error = None
        self._origin = (time.monotonic() if begin is None else begin) - at_sec
        self._thread = threading.Thread(
            target=self._play, args=(at_sec, self._stop), name="pkontext-midi-out", daemon=True
        )
        self._thread.start()

    def stop(self) -> float:
        """Stop, release all notes and the pedal, and return the second of the take: start there to go on."""
        if self._thread is not None:
            self._at = self.position_sec
            self._stop.set()
            self._thread.join()
            self._thread = None
        return self._at

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.playing

    def __enter__(self) -> NotePlayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _play(self, at_sec: float, stop: threading.Event) -> None:
        sounding: set[tuple[int, int]] = set()
        try:
            for when, data in _from(self._messages, at_sec):
                if not wait_until(self._origin + when, stop):
                    return
                _note_sounding(sounding, data)
                self._send(data)
                self.latest_sec = max(self.latest_sec, time.monotonic() - self._origin - when)
            self._at = self._times[-1] if self._times else 0.0
        except DeviceError as error:
            self.error = error
        finally:
            self._release(sounding)

    def _release(self, sounding: set[tuple[int, int]]) -> None:
        channels = {data[0] & 0x0F for _, data in self._messages}
        try:
            for channel, key in sorted(sounding):
                self._send(bytes((NOTE_OFF | channel, key, 64)))
            for channel in channels:
                self._send(bytes((CONTROL | channel, SUSTAIN, 0)))
        except DeviceError as error:
            self.error = self.error or error


def play_take(
    notes: np.ndarray, pedals: np.ndarray | None, port: MidiOutput, at_sec: float = 0.0, channel: int = 0
) -> NotePlayer:
    """Start to play a take to an open port, and return its player."""
    player = NotePlayer(timed_messages(notes, pedals, channel), port.send)
    player.start(at_sec)
    return player


def panic(send: Send) -> None:
    """End every note that an instrument may be holding; takes about 0.1 s.

    Raises
    ------
    DeviceError
        ``midi.lost`` when the port is gone.
    """
    for group in panic_messages():
        for message in group:
            send(message)
        time.sleep(_PANIC_STEP_SEC)


def _from(messages: Sequence[Timed], at_sec: float) -> list[Timed]:
    """Messages from a second on, preceded by the pedal as it stands there."""
    coming = [message for message in messages if message[0] >= at_sec]
    before: dict[int, Timed] = {}
    for when, data in messages:
        if when >= at_sec:
            break
        if data[0] & 0xF0 == CONTROL:
            before[data[0]] = (at_sec, data)
    return [*before.values(), *coming]


def _note_sounding(sounding: set[tuple[int, int]], data: bytes) -> None:
    kind, channel = data[0] & 0xF0, data[0] & 0x0F
    if kind == NOTE_ON:
        sounding.add((channel, data[1]))
    elif kind == NOTE_OFF:
        sounding.discard((channel, data[1]))


def wait_until(deadline: float, stop: threading.Event) -> bool:
    """Wait for a ``time.monotonic()``; return False as soon as ``stop`` is set."""
    while not stop.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        if left > 2 * _COARSE_SEC:
            stop.wait(left - _COARSE_SEC)
        else:
            time.sleep(min(left, _STEP_SEC))
    return False

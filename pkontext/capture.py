"""What was played as notes and pedal: takes, and the last five minutes, which are always kept.

Threading: one thread feeds a `Recorder`; its other methods may be called from any thread. A lock keeps
them apart; it is held for microseconds, and never by the MIDI callback.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from pkontext.captured import PEDALS, Captured, Event, capture_events, silences, trim_events, turn_pedal
from pkontext.errors import InputError
from pkontext.midi_bytes import NOTE_OFF, NOTE_ON, SUSTAIN, Voice, parse_voice

KEPT_SEC = 300.0
#: Most events that are kept, whatever comes; beyond them a take says that it is cut.
MOST_EVENTS = 1_000_000
_MOST_RECENT = 200_000
#: A first note this much before the beat belongs to the take: players anticipate.
EARLY_SEC = 0.15


@dataclass(frozen=True)
class RecorderStatus:
    """What a recorder holds now: strikes and time of the running take, and the keys that are down."""

    recording: bool
    elapsed_sec: float
    notes: int
    held: tuple[int, ...]
    pedal: int
    recent_notes: int


class Recorder:
    """Keeps what is played: always the last five minutes, and all of a take between `start` and `stop`."""

    def __init__(self, kept_sec: float = KEPT_SEC) -> None:
        self._kept_sec = kept_sec
        self._lock = threading.Lock()
        self._recent: deque[Event] = deque()
        self._take: list[Event] | None = None
        self._begin = 0.0
        self._dropped = 0
        self._strikes = self._recent_strikes = 0
        self._down: dict[int, int] = {}  # key to the channel that holds it
        self._pedal = {control: 0 for control in PEDALS}
        self._recent_pedal = dict(self._pedal)  # as it was before the oldest recent event
        self._take_pedal = dict(self._pedal)

    def feed(self, time_sec: float, data: bytes) -> None:
        """Take a message with its ``time.monotonic()``; what is no complete channel message is ignored."""
        voice = parse_voice(data)
        if voice is None:
            return
        event = (time_sec, voice)
        with self._lock:
            self._recent.append(event)
            self._recent_strikes += voice.kind == NOTE_ON
            self._forget_before(time_sec - self._kept_sec)
            if self._take is not None and time_sec >= self._begin - EARLY_SEC:
                if len(self._take) < MOST_EVENTS:
                    self._take.append(event)
                    self._strikes += voice.kind == NOTE_ON
                else:
                    self._dropped += 1
            elif self._take is not None:
                turn_pedal(self._take_pedal, voice)
            turn_pedal(self._pedal, voice)
            self._turn_key(voice)

    def start(self, at: float | None = None) -> None:
        """Begin a new, empty take.

        Parameters
        ----------
        at : float, optional
            Its second 0 as ``time.monotonic()``, such as the first beat after a count-in; by default now.
            What is struck up to 0.15 s earlier is part of the take, at second 0.
        """
        with self._lock:
            self._begin = time.monotonic() if at is None else at
            self._take, self._strikes, self._dropped = [], 0, 0
            self._take_pedal = dict(self._pedal)

    def stop(
        self,
        at: float | None = None,
        dropped: int = 0,
        tempo_bpm: float | None = None,
        beats_per_bar: int | None = None,
    ) -> Captured:
        """End the take; keys that are still down end here.

        Parameters
        ----------
        at : float, optional
            Its end as ``time.monotonic()``; by default now.
        dropped : int
            Events that are known to be lost on the way here.
        tempo_bpm, beats_per_bar : optional
            Of the metronome.

        Raises
        ------
        InputError
            ``capture.not_recording`` without `start`.
        """
        end = time.monotonic() if at is None else at
        with self._lock:
            if self._take is None:
                raise InputError("capture.not_recording", "No take is being recorded.", "Start one first.")
            events = [event for event in self._take if event[0] <= end]
            self._take = None
            begin, pedal, dropped = self._begin, dict(self._take_pedal), dropped + self._dropped
        return capture_events(events, begin, end, pedal, dropped, tempo_bpm, beats_per_bar)

    def keep_last(self, seconds: float = KEPT_SEC, now: float | None = None) -> Captured:
        """Return what was just played, from its first note on; a running take is not disturbed.

        Keys that went down before the window are left out, those that are still down end now.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            events, pedal = list(self._recent), dict(self._recent_pedal)
        first = now - min(seconds, self._kept_sec)
        for when, voice in events:
            if when < first:
                turn_pedal(pedal, voice)
        events = [event for event in events if event[0] >= first]
        return trim_events(events, now, pedal)

    def status(self, now: float | None = None) -> RecorderStatus:
        """What is held, and what was recorded so far."""
        now = time.monotonic() if now is None else now
        with self._lock:
            recording = self._take is not None
            return RecorderStatus(
                recording,
                max(now - self._begin, 0.0) if recording else 0.0,
                self._strikes if recording else 0,
                tuple(sorted(self._down)),
                self._pedal[SUSTAIN],
                self._recent_strikes,
            )

    def _forget_before(self, oldest: float) -> None:
        while self._recent and (self._recent[0][0] < oldest or len(self._recent) > _MOST_RECENT):
            _, voice = self._recent.popleft()
            self._recent_strikes -= voice.kind == NOTE_ON
            turn_pedal(self._recent_pedal, voice)

    def _turn_key(self, voice: Voice) -> None:
        if voice.kind == NOTE_ON:
            self._down[voice.first] = voice.channel
        elif voice.kind == NOTE_OFF and self._down.get(voice.first) == voice.channel:
            del self._down[voice.first]
        elif silences(voice):
            self._down = {key: channel for key, channel in self._down.items() if channel != voice.channel}

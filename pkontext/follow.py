"""Following another program: its MIDI clock starts, stops, places and paces the player.

*Start* plays from the beginning, *stop* pauses, *continue* goes to the other side's place and plays on,
*song position* goes there. Between these the performance has its own rubato: it is not bent to each beat.

The clock's tempo over the notated tempo at that place is the take's tempo, in steps of 1 %. It is changed
when it has differed by more than 2 % for 2 s and has been steady within 1 % meanwhile, so a ritardando waits
for its end. What plays goes on until the take at the new tempo is rendered there. A take that started late,
or at another tempo, goes once more to the other side's place, if it is more than a second off.

Threading: `ClockTransport.feed` and `attend` belong to one thread, that of `ClockLink`'s listener;
`status` may be called from any.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pkontext.deck import PLAYING, WAITING
from pkontext.event_queue import EventQueue
from pkontext.live import Listener
from pkontext.midi_bytes import CLOCK, CONTINUE, SONG_POSITION, START, STOP
from pkontext.midi_clock import ClockFollower, ClockStatus
from pkontext.parameters import find
from pkontext.player import PlayerStatus
from pkontext.port_watch import PortWatcher
from pkontext.ports import PortInfo
from pkontext.score import ticks_to_seconds
from pkontext.types import Score

#: A tempo is taken over when it differs by this, for so long, and is as steady as that.
DIFFERS, SETTLE_SEC, STEADY = 0.02, 2.0, 0.01
#: A take that is this far from the other side's place goes there, so often after each start.
LATE_SEC, MOST_JUMPS = 1.0, 3
#: Time in which the player obeys, before its place is compared.
_OBEY_SEC = 0.6


class Commands(Protocol):
    """What is led: `pkontext.player.Player`."""

    @property
    def status(self) -> PlayerStatus:
        """The newest snapshot."""
        ...

    def play(self) -> None:
        """Play on."""
        ...

    def pause(self) -> None:
        """Stay here."""
        ...

    def seek(self, score_sec: float) -> None:
        """Go to a place in the score."""
        ...

    def set(self, name: str, value: float) -> None:
        """Change a parameter."""
        ...


@dataclass(frozen=True)
class FollowStatus:
    """How following goes.

    Attributes
    ----------
    clock : ClockStatus
    score_sec : float
        The other side's place, in the score.
    tempo : float
        Tempo of the take, against the score.
    """

    clock: ClockStatus
    score_sec: float
    tempo: float


class ClockTransport:
    """Turns clock messages into commands.

    Parameters
    ----------
    player : Commands
        With the score loaded.
    score : Score
    tempo : float
        That of the take now.
    """

    def __init__(self, player: Commands, score: Score, tempo: float = 1.0) -> None:
        self._player, self._score, self._tempo = player, score, tempo
        self._clock = ClockFollower()
        self._rolling = False  # the other side plays, and its clock has not been lost
        self._clocked = False  # clocks have come since it started
        self._lost = False
        self._candidate: tuple[float, float] | None = None  # a tempo, and since when it is steady
        self._compare_at: float | None = None
        self._jumps = 0

    def feed(self, time_sec: float, data: bytes) -> None:
        """Take a message with its ``time.monotonic()``; anything but clock and transport is ignored."""
        kind = data[0] if data else 0
        if len(data) != (3 if kind == SONG_POSITION else 1):
            return
        self._clock.feed(time_sec, data)
        if kind == CLOCK:
            self._clocked = True
            if self._lost:
                self._go_on(time_sec)
        elif kind in (START, CONTINUE):
            self._clocked = False
            self._go_on(time_sec)
        elif kind == STOP:
            playing = self._player.status.deck.state in (PLAYING, WAITING)
            if self._rolling or playing:
                self._player.pause()
            self._rolling = self._lost = False
            self._compare_at = None
        elif kind == SONG_POSITION and max(data[1:]) < 128:
            self._locate(time_sec)

    def attend(self, now: float) -> None:
        """See to what time brings: a lost clock, a settled tempo, a late start. Several times a second."""
        status = self._clock.status(now)
        if self._rolling and self._clocked and not status.running:
            self._rolling, self._lost = False, True
            self._player.pause()
        self._follow_tempo(now, status)
        settled = self._candidate is None and status.running and status.tempo_bpm is not None
        if self._rolling and settled and self._compare_at is not None and now >= self._compare_at:
            self._catch_up(now, status)

    def status(self, now: float) -> FollowStatus:
        """How following goes at a ``time.monotonic()``; any thread may ask."""
        status = self._clock.status(now)
        return FollowStatus(status, self._second(status), self._tempo)

    def _go_on(self, now: float) -> None:
        self._rolling, self._lost = True, False
        self._locate(now)
        self._player.play()

    def _locate(self, now: float) -> None:
        self._jumps = 0
        self._player.seek(self._second(self._clock.status(now)))
        self._compare_at = now + _OBEY_SEC

    def _second(self, status: ClockStatus) -> float:
        """The other side's place in score seconds, through the score's ticks."""
        tick = np.array(status.position_quarters * self._score.ticks_per_quarter)
        return float(ticks_to_seconds(tick, self._score.tempi, self._score.ticks_per_quarter))

    def _notated_bpm(self, status: ClockStatus) -> float:
        tick = status.position_quarters * self._score.ticks_per_quarter
        row = int(np.searchsorted(self._score.tempi["tick"], tick, side="right")) - 1
        return 60e6 / float(self._score.tempi["us_per_quarter"][row])

    def _follow_tempo(self, now: float, status: ClockStatus) -> None:
        if not status.running or status.tempo_bpm is None:
            self._candidate = None
            return
        parameter = find("tempo")
        ratio = status.tempo_bpm / self._notated_bpm(status)
        ratio = min(max(ratio, parameter.minimum), parameter.maximum)
        if abs(ratio / self._tempo - 1) <= DIFFERS:
            self._candidate = None
        elif self._candidate is None or abs(ratio / self._candidate[0] - 1) > STEADY:
            self._candidate = (ratio, now)
        elif now - self._candidate[1] >= SETTLE_SEC:
            self._tempo, self._candidate = parameter.checked(ratio), None
            self._player.set("tempo", self._tempo)
            self._jumps, self._compare_at = 0, now + _OBEY_SEC

    def _catch_up(self, now: float, status: ClockStatus) -> None:
        """Go to the other side's place once what is to be heard is heard, if it is far from there."""
        heard = self._player.status
        deck = heard.deck
        if deck.state != PLAYING or deck.take != deck.next_take:
            return
        place = self._second(status)
        far = abs(place - heard.heard_score_sec) > LATE_SEC
        if far and self._jumps < MOST_JUMPS and place < self._score.duration_sec:
            self._jumps += 1
            self._compare_at = now + _OBEY_SEC
            self._player.seek(place)
        else:
            self._compare_at = None


class ClockLink:
    """A port whose clock leads a player, until it is closed; it is opened again when it comes back.

    Raises
    ------
    DeviceError
        See `pkontext.port_watch.PortWatcher`.
    """

    def __init__(self, player: Commands, score: Score, port: str, tempo: float = 1.0) -> None:
        self._events = EventQueue()
        self._transport = ClockTransport(player, score, tempo)
        self._listener = Listener(self._events, [self._transport.feed], self._attend)
        try:
            self._port = PortWatcher(port, self._events)
        except BaseException:
            self._listener.stop()
            raise

    @property
    def port(self) -> PortInfo:
        """The port that is listened to."""
        return self._port.info

    @property
    def connected(self) -> bool:
        """Whether the port is there."""
        return self._port.connected

    def status(self) -> FollowStatus:
        """How following goes; any thread may ask.

        Raises
        ------
        Exception
            A bug that ended following.
        """
        if self._listener.failure is not None:
            raise self._listener.failure
        return self._transport.status(time.monotonic())

    def close(self) -> None:
        """Stop listening; the player stays as it is."""
        self._port.close()
        self._listener.stop()

    def __enter__(self) -> ClockLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attend(self) -> None:
        self._transport.attend(time.monotonic())

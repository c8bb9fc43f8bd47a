"""The player: a thread that hosts the processor and keeps an audio output fed. Commands in, one status out.

Three threads work together. The *render* thread (`pkontext.worker`) makes takes. The *player* thread obeys
commands, asks the processor for blocks and writes them into the ring. The *output* reads the ring.
The ring is short, so that a command is heard soon; everything that is rendered is kept by the deck.

Threading: every public method may be called from any thread. Those that return nothing return at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from pkontext.bundle import Bundle
from pkontext.deck import PLAYING, WAITING, DeckStatus
from pkontext.devices import DeviceName
from pkontext.errors import PkError, RenderError
from pkontext.output import Output, SpeakerOutput
from pkontext.processor import Processor
from pkontext.ring import Ring
from pkontext.take import RenderSettings
from pkontext.take_audio import LiveTake
from pkontext.types import Score

#: Makes an output for a ring, at a wanted sample rate if it can.
OutputFactory = Callable[[Ring, int], Output]

#: Audio that waits in the ring: what a busy machine may keep the player thread from running.
FILL_SEC = 0.08
_RING_SEC = 1.0
_BLOCK = 512
_TICK_SEC, _IDLE_SEC = 0.008, 0.25
#: How often the output is asked whether it is still there.
_WATCH_SEC = 0.1
#: The meter falls by half in so many seconds.
_METER_SEC = 0.15


@dataclass(frozen=True)
class PlayerStatus:
    """One snapshot of everything that a user interface shows.

    Attributes
    ----------
    deck : DeckStatus
        State, lengths, speed, take and voice, as made so far.
    heard_sec, heard_score_sec : float
        Place in the take's audio and in the score that is heard now, behind the ring and the device.
    level : float
        Largest sample that was heard lately, falling.
    device : str
        Name of the output; empty before one is open.
    sample_rate : int
        Of the output.
    latency_sec : float
        From a command to the ear: ring and device.
    underruns, missing_frames, xruns, late : int
        See `pkontext.output.OutputStatus`; of all outputs since the player was made.
    error : PkError or None
        What went wrong last: the device, a take or a command. Cleared by the next play.
    """

    deck: DeckStatus
    heard_sec: float
    heard_score_sec: float
    level: float
    device: str
    sample_rate: int
    latency_sec: float
    underruns: int
    missing_frames: int
    xruns: int
    late: int
    error: PkError | None


@dataclass(frozen=True)
class _Fed:
    """What the ring holds from a frame on."""

    frame: int
    audio_sec: float
    score_sec: float
    peak: float


class Player:
    """Plays takes of a score through an output.

    Parameters
    ----------
    bundle : Bundle
    open_output : OutputFactory or None
        None for the speaker, see `use_device`.
    threads : int
    provider : str
        See `pkontext.engine.open_networks`.
    """

    def __init__(
        self,
        bundle: Bundle,
        open_output: OutputFactory | None = None,
        threads: int = 0,
        provider: str = "auto",
    ) -> None:
        self._processor = Processor(bundle, threads, provider)
        self._open_output = open_output or speaker(None)
        self._ring = Ring(round(_RING_SEC * self._processor.rate), 1)
        self._output: Output | None = None
        self._before = (0, 0, 0, 0)  # counts of outputs that were closed
        self._fed: deque[_Fed] = deque(maxlen=1024)
        self._level, self._metered = 0.0, time.monotonic()
        self._watched = 0.0
        self._error: PkError | None = None
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._closing = False
        self._status = self._snapshot()
        self._thread = threading.Thread(target=self._run, name="pkontext-player", daemon=True)
        self._thread.start()

    # -- commands ---------------------------------------------------------------------------------------

    @property
    def status(self) -> PlayerStatus:
        """The newest snapshot."""
        return self._status

    def load(self, score: Score, settings: RenderSettings | None = None) -> None:
        """Take another score, stopped at its beginning, and begin a take of it."""
        self._send(lambda: self._processor.load(score, settings))

    def play(self) -> None:
        """Play on, opening the output if need be."""
        self._send(self._play)

    def pause(self) -> None:
        """Stay here."""
        self._send(self._processor.deck.pause)

    def stop(self) -> None:
        """Stop, and go back to the beginning."""
        self._send(self._processor.deck.stop)

    def seek(self, score_sec: float) -> None:
        """Go to a place in the score."""
        self._send(lambda: self._processor.deck.seek(score_sec))

    def loop(self, span: tuple[float, float] | None) -> None:
        """Repeat between two places of the score, in seconds, or no more."""
        self._send(lambda: self._processor.deck.loop(span))

    def set(self, name: str, value: float) -> None:
        """Change a parameter, see `pkontext.parameters`."""
        self._send(lambda: self._processor.set(name, value))

    def new_take(self, settings: RenderSettings) -> int:
        """Begin another take; waits for its number."""
        return self.call(lambda processor: processor.new_take(settings))

    def select(self, number: int | None = None, voice: str | None = None) -> None:
        """Go over to another take or voice at the same place of the music."""
        self._send(lambda: self._processor.select(number, voice))

    def midi(self, message: bytes) -> None:
        """Play a MIDI message through the processor, at once."""
        self._send(lambda: self._processor.process([(0, message)], 0))

    def use_device(self, device: DeviceName | str | None) -> None:
        """Play on another device from now on; None is the default one."""
        self._send(lambda: self._use(speaker(device)))

    def use_output(self, open_output: OutputFactory) -> None:
        """Play to another output from now on."""
        self._send(lambda: self._use(open_output))

    def call(self, action: Callable[[Processor], Any], timeout: float | None = 30.0) -> Any:
        """Run something with the processor on the player's thread, and wait for what it returns.

        Raises
        ------
        Exception
            What the action raises.
        """
        return self._send(lambda: action(self._processor)).result(timeout)

    def ask(self, action: Callable[[Processor], Any], answer: Callable[[Any], None]) -> None:
        """Run something with the processor on the player's thread.

        ``answer`` is called there with the result, or with the exception.
        """
        future = self._send(lambda: action(self._processor))
        future.add_done_callback(lambda done: answer(done.exception() or done.result()))

    def take(self, number: int) -> LiveTake | None:
        """A take as far as it is rendered; None while it is only asked for."""
        return self._processor.take(number)

    def close(self) -> None:
        """Stop, let go of the output, and wait until both threads have ended."""
        if not self._closing:
            self._closing = True
            self._send(lambda: None)
            self._thread.join()

    # -- on the player's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        self._prepare(self._processor.rate)
        while not self._closing:
            busy = not self._processor.idle or self._ring.readable > 0
            self._obey(_TICK_SEC if busy else _IDLE_SEC)
            self._watch()
            try:
                self._processor.attend()
                self._feed()
            except Exception as error:
                self._fail(error)
            self._status = self._snapshot()
        if self._output is not None:
            self._close_output()
        self._processor.release()

    def _send(self, action: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._commands.put((action, future))
        return future

    def _obey(self, wait_sec: float) -> None:
        """Wait for commands and obey all that are there."""
        try:
            command = self._commands.get(timeout=wait_sec)
        except queue.Empty:
            return
        while command is not None:
            action, future = command
            try:
                future.set_result(action())
            except Exception as error:
                if isinstance(error, PkError):
                    self._error = error
                future.set_exception(error)
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                command = None

    def _play(self) -> None:
        self._error = None
        self._processor.deck.play()
        if self._output is None:
            try:
                self._open()
            except PkError:
                self._processor.deck.pause()
                raise

    def _use(self, open_output: OutputFactory) -> None:
        """Go on with another output, where the one before was."""
        self._open_output = open_output
        if self._output is None:
            self._error = None
            return
        playing = self._processor.status().state in (PLAYING, WAITING)
        self._let_go()
        if playing:
            self._play()

    def _open(self) -> None:
        output = self._open_output(self._ring, self._processor.rate)
        self._prepare(output.sample_rate)
        self._output = output
        self._feed()
        output.start()

    def _prepare(self, rate: int) -> None:
        try:
            self._processor.prepare(rate, _BLOCK)
        except PkError as error:
            self._error = error

    def _watch(self) -> None:
        """Pause when the output is lost; what it did not play is played by the next one."""
        now = time.monotonic()
        if self._output is None or now - self._watched < _WATCH_SEC:
            return
        self._watched = now
        error = self._output.status().error
        if error is not None:
            self._error = error
            self._let_go()

    def _let_go(self) -> None:
        """Close the output, and go back to what was heard last."""
        assert self._output is not None
        status = self._output.status()
        self._close_output()
        self._processor.move_back(self._ring.readable + round(status.latency_sec * status.sample_rate))
        self._ring = Ring(self._ring.frames, 1)
        self._fed.clear()

    def _close_output(self) -> None:
        assert self._output is not None
        self._output.expecting = False
        output, self._output = self._output, None
        try:
            output.close()
        except PkError as error:
            self._error = error
        done = output.status()
        counts = (done.underruns, done.missing_frames, done.xruns, done.late)
        self._before = tuple(map(sum, zip(self._before, counts, strict=True)))  # type: ignore[assignment]

    def _feed(self) -> None:
        """Fill the ring up to `FILL_SEC`."""
        output, processor, ring = self._output, self._processor, self._ring
        if output is None:
            return
        if processor.silent:
            output.expecting = False
            return
        if not output.expecting and ring.readable == 0:
            self._fed.clear()  # what was heard before the silence
        fill = round(FILL_SEC * output.sample_rate)
        while ring.readable < fill and not processor.silent:
            frame = ring.written
            ring.write(processor.process((), _BLOCK))
            status = processor.status()
            self._fed.append(_Fed(frame, status.position_sec, status.score_sec, processor.peak))
        output.expecting = processor.status().state == PLAYING

    def _fail(self, error: Exception) -> None:
        """A bug must not end the thread: pause and say it."""
        self._processor.deck.pause()
        self._error = (
            error
            if isinstance(error, PkError)
            else RenderError(
                "player.failed",
                f"Playing stopped by a bug ({type(error).__name__}: {error}).",
                "Press play to go on; please report this if it happens again.",
            )
        )

    def _snapshot(self) -> PlayerStatus:
        deck, before = self._processor.status(), self._before
        output = None if self._output is None else self._output.status()
        status = PlayerStatus(
            deck=deck,
            heard_sec=deck.position_sec,
            heard_score_sec=deck.score_sec,
            level=0.0,
            device="",
            sample_rate=self._processor.output_rate,
            latency_sec=0.0,
            underruns=before[0],
            missing_frames=before[1],
            xruns=before[2],
            late=before[3],
            error=self._error or deck.error,
        )
        if output is None:
            return status
        frame = output.consumed - round(output.latency_sec * output.sample_rate)
        heard = self._heard(frame)
        drained = self._ring.readable == 0 and self._processor.silent
        sounding = heard is not None and not drained
        now = time.monotonic()
        self._level *= 0.5 ** ((now - self._metered) / _METER_SEC)
        self._level, self._metered = max(self._level, heard.peak if heard and sounding else 0.0), now
        if heard and sounding and deck.state == PLAYING:
            status = replace(status, heard_sec=heard.audio_sec, heard_score_sec=heard.score_sec)
        return replace(
            status,
            level=self._level if self._level > 1e-5 else 0.0,
            device=output.name,
            latency_sec=output.latency_sec + FILL_SEC,
            underruns=before[0] + output.underruns,
            missing_frames=before[1] + output.missing_frames,
            xruns=before[2] + output.xruns,
            late=before[3] + output.late,
        )

    def _heard(self, frame: int) -> _Fed | None:
        """What the block is that holds a frame of the ring; what was before it is forgotten."""
        fed = self._fed
        while len(fed) > 1 and fed[1].frame <= frame:
            fed.popleft()
        return fed[0] if fed and fed[0].frame <= frame else None


def speaker(device: DeviceName | str | None) -> OutputFactory:
    """An output factory for a device of the sound card."""
    return lambda ring, rate: SpeakerOutput(ring, rate, device)

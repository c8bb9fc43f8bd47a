"""The window's link to the player: commands out, one status in, thirty times a second.

The player is made on a thread of its own, because opening a bundle reads 50 MB; until it is there, commands
wait. Everything here belongs to the Qt thread and returns at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QCoreApplication, QObject, QTimer, pyqtSignal

from pkontext.errors import PkError
from pkontext.player import OutputFactory, Player, PlayerStatus
from pkontext.take import RenderSettings
from pkontext.take_audio import LiveTake
from pkontext.types import Score

TICK_MS = 33


class PlayerClient(QObject):
    """Commands for a player that may still be on its way.

    Parameters
    ----------
    bundle : Path or None
        Folder of the model; None is the built-in one.
    open_output : OutputFactory or None
        None for the speaker.
    threads : int
    provider : str
    """

    #: The newest `PlayerStatus`, at `TICK_MS`; only while there is a player.
    status_changed = pyqtSignal(object)
    #: The player is there; its bundle, see `pkontext.bundle.Bundle`.
    ready = pyqtSignal(object)
    #: A `PkError`: the bundle cannot be opened, or the last command or the device failed.
    failed = pyqtSignal(object)

    _made = pyqtSignal(object)

    def __init__(
        self,
        bundle: Path | None = None,
        open_output: OutputFactory | None = None,
        threads: int = 0,
        provider: str = "auto",
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.player: Player | None = None
        self.bundle: Any = None
        self.threads, self.provider = threads, provider
        self.status: PlayerStatus | None = None
        self._waiting: list[Callable[[Player], Any]] = []
        self._shown_error: PkError | None = None
        self._closing = False
        self._made.connect(self._take_player)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

        def make() -> None:
            try:
                from pkontext.bundle import open_bundle

                opened = open_bundle(bundle)
                made: Any = (Player(opened, open_output, threads, provider), opened)
            except PkError as error:
                made = error
            except Exception as error:
                made = PkError(
                    "player.open", f"The player could not be started ({error}).", "Run `pkontext doctor`."
                )
            self._made.emit(made)

        self._maker = threading.Thread(target=make, name="pkontext-open", daemon=True)
        self._maker.start()

    def send(self, command: Callable[[Player], Any]) -> None:
        """Run a command with the player, now or as soon as it is there; it must not wait."""
        if self.player is not None:
            command(self.player)
        else:
            self._waiting.append(command)

    def load(self, score: Score, settings: RenderSettings, number_to: Callable[[int], None]) -> None:
        """Take another score and begin a take of it; ``number_to`` gets its number, on the Qt thread."""
        self._ask(lambda processor: processor.load(score, settings), number_to)

    def new_take(self, settings: RenderSettings, number_to: Callable[[int], None]) -> None:
        """Begin another take and go over to it as soon as it is there; ``number_to`` gets its number."""
        self._ask(lambda processor: processor.new_take(settings), number_to)

    def take(self, number: int) -> LiveTake | None:
        """A take as far as it is rendered."""
        return None if self.player is None else self.player.take(number)

    def play(self) -> None:
        """Play on."""
        self.send(lambda player: player.play())

    def pause(self) -> None:
        """Stay here."""
        self.send(lambda player: player.pause())

    def toggle(self) -> None:
        """Play or pause."""
        playing = self.status is not None and self.status.deck.state in ("playing", "waiting")
        self.pause() if playing else self.play()

    def stop(self) -> None:
        """Stop, and go back to the beginning."""
        self.send(lambda player: player.stop())

    def seek(self, score_sec: float) -> None:
        """Go to a place in the score."""
        self.send(lambda player: player.seek(score_sec))

    def loop(self, span: tuple[float, float] | None) -> None:
        """Repeat between two places of the score, in seconds, or no more."""
        self.send(lambda player: player.loop(span))

    def select(self, number: int | None = None, voice: str | None = None) -> None:
        """Go over to another take or voice at the same place of the music."""
        self.send(lambda player: player.select(number, voice))

    def set(self, name: str, value: float) -> None:
        """Change a parameter that is heard at once: ``volume``, ``monitor`` or ``voice``."""
        self.send(lambda player: player.set(name, value))

    def close(self) -> None:
        """Stop everything and wait for it."""
        self._closing = True
        self._timer.stop()
        self._maker.join()
        QCoreApplication.sendPostedEvents(self)  # a player that was made but not taken yet is closed there
        if self.player is not None:
            self.player.close()
            self.player = None

    def _ask(self, action: Callable[[Any], int], number_to: Callable[[int], None]) -> None:
        answer = _Answer(self, number_to)
        self.send(lambda player: player.ask(action, answer.come.emit))

    def _take_player(self, made: Any) -> None:
        if isinstance(made, PkError):
            self.failed.emit(made)
            return
        self.player, self.bundle = made
        if self._closing:
            self.player.close()
            return
        self._timer.start()
        self.ready.emit(self.bundle)
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            command(self.player)

    def _tick(self) -> None:
        assert self.player is not None
        self.status = self.player.status
        self.status_changed.emit(self.status)
        error = self.status.error
        if error is not self._shown_error:
            self._shown_error = error
            if error is not None:
                self.failed.emit(error)


class _Answer(QObject):
    """Brings an answer from the player's thread to the Qt thread."""

    come = pyqtSignal(object)

    def __init__(self, parent: QObject, then: Callable[[int], None]) -> None:
        super().__init__(parent)

        def arrive(value: Any) -> None:
            self.deleteLater()
            if not isinstance(value, Exception):
                then(value)

        self.come.connect(arrive)

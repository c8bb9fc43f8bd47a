"""What the window shows and the user edits: score, takes, drawn curves, settings, selection. No widgets.

Every change that the user may want back goes through the undo stack. The document tells the player what to
render and what to play; views listen to its signals.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtGui import QUndoCommand, QUndoStack

from gui.client import PlayerClient
from pkontext.drawn import Drawn
from pkontext.take import VOICES, RenderSettings, Reroll, check_settings
from pkontext.take_audio import LiveTake
from pkontext.types import Score


@dataclass
class Take:
    """One rendition, as the list of takes has it.

    Attributes
    ----------
    id : str
        Stays with it in the project file.
    name : str
    settings : RenderSettings
    bundle : str
        Identity of the model that made it.
    created : float
        Unix time.
    starred : bool
    number : int
        The player's number; 0 while the player has not begun it.
    findings : tuple or None
        Of the self-check, see `pkontext.selfcheck.Finding`; None before one.
    """

    name: str
    settings: RenderSettings
    bundle: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.time)
    starred: bool = False
    number: int = 0
    findings: tuple[Any, ...] | None = None


class Document(QObject):
    """The piece that is open.

    Parameters
    ----------
    client : PlayerClient
    """

    #: Another score is open (or none).
    score_changed = pyqtSignal()
    #: Takes were added, removed, renamed, starred or checked.
    takes_changed = pyqtSignal()
    #: Another take or voice is chosen.
    current_changed = pyqtSignal()
    #: More of the current take is rendered: its sketch, places or audio have grown.
    take_grown = pyqtSignal()
    #: Settings of the next take.
    settings_changed = pyqtSignal()
    #: Drawn curves.
    drawn_changed = pyqtSignal()
    #: Something differs from what was saved last.
    dirty_changed = pyqtSignal(bool)

    def __init__(self, client: PlayerClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.client = client
        self.score: Score | None = None
        self.title = ""
        self.path: Path | None = None  # of the project
        self.settings = RenderSettings()
        self.takes: list[Take] = []
        self.current: Take | None = None
        self.voice = VOICES[0]
        self.drawn: tuple[Drawn, ...] = ()
        self.undo_stack = QUndoStack(self)
        self._saved_extra = False
        self._seen: tuple[int, int, bool] = (0, 0, False)
        self.undo_stack.cleanChanged.connect(self._tell_dirty)
        client.status_changed.connect(self._look)

    # -- score ------------------------------------------------------------------------------------------

    def set_score(self, score: Score, title: str = "", settings: RenderSettings | None = None) -> None:
        """Open a score: forget the takes before, and begin a first one."""
        self._clear(score, title or score.title or "Untitled")
        self.settings = settings or replace(
            self.settings, rerolls=(), drawn=(), like=None, start_sec=0, end_sec=None
        )
        self.score_changed.emit()
        self.settings_changed.emit()
        self.drawn_changed.emit()
        self.add_take(self.settings, load=True)
        self.set_saved()

    def restore(
        self,
        score: Score,
        title: str,
        settings: RenderSettings,
        takes: list[Take],
        current: str,
        path: Path | None,
    ) -> None:
        """Open what a project file holds; takes are rendered again when they are chosen."""
        self._clear(score, title)
        self.settings, self.drawn, self.path = settings, settings.drawn, path
        self.takes = [replace(take, number=0) for take in takes]
        self.score_changed.emit()
        self.settings_changed.emit()
        self.drawn_changed.emit()
        self.takes_changed.emit()
        chosen = next(
            (take for take in self.takes if take.id == current), self.takes[0] if self.takes else None
        )
        if chosen is None:
            self.add_take(settings, load=True)
        else:
            self.current = chosen
            self._begin(chosen, load=True)
            self.current_changed.emit()
        self.set_saved()

    # -- takes ------------------------------------------------------------------------------------------

    def add_take(self, settings: RenderSettings, name: str = "", load: bool = False) -> Take:
        """Begin another take and choose it."""
        check_settings(settings)
        take = Take(name or self._free_name(), settings)
        self.takes.append(take)
        self.current, self.voice = take, settings.voice
        self._begin(take, load)
        if settings != self.settings:
            self.settings = settings
            self.settings_changed.emit()
        self.takes_changed.emit()
        self.current_changed.emit()
        self._touch()
        return take

    def add_unrendered(self, take: Take) -> None:
        """Put a take on the list that is rendered when it is chosen."""
        self.takes.append(take)
        self.takes_changed.emit()
        self._touch()

    def mark_changed(self) -> None:
        """Say that what there is differs from what was saved."""
        self._touch()

    def generate(self) -> Take | None:
        """Another take with the settings as they are, and the next seed where that would repeat a take."""
        if self.score is None:
            return None
        settings = replace(self.settings, drawn=self.drawn)
        while any(take.settings == settings for take in self.takes):
            settings = replace(settings, seed=(settings.seed + 1) % 1_000_000_000)
        self.set_settings(settings)
        return self.add_take(settings)

    def choose(self, take: Take, voice: str | None = None) -> None:
        """Hear another take, or another voice, at the same place."""
        self.voice = voice or self.voice
        changed = take is not self.current
        self.current = take
        if take.number == 0:
            self._begin(take, load=False)
        elif take.number > 0:
            self.client.select(take.number, self.voice)
        if changed:
            self.settings = replace(take.settings, voice=self.voice)
            self.drawn = take.settings.drawn
            self.settings_changed.emit()
            self.drawn_changed.emit()
        self.current_changed.emit()

    def set_voice(self, voice: str) -> None:
        """Hear the take in another voice of `pkontext.take.VOICES`."""
        if self.current is not None:
            self.choose(self.current, voice)

    def rename(self, take: Take, name: str) -> None:
        """Give a take another name; can be undone."""
        before = take.name
        if name.strip() and name != before:
            self._do(
                "rename take",
                lambda: self._set_take(take, name=name.strip()),
                lambda: self._set_take(take, name=before),
            )

    def star(self, take: Take, starred: bool) -> None:
        """Mark a take; can be undone."""
        self._do(
            "star take",
            lambda: self._set_take(take, starred=starred),
            lambda: self._set_take(take, starred=not starred),
        )

    def delete(self, take: Take) -> None:
        """Remove a take, unless it is the only one; can be undone."""
        if len(self.takes) < 2 or take not in self.takes:
            return
        place = self.takes.index(take)
        self._do("delete take", lambda: self._remove(take), lambda: self._insert(take, place))

    def set_findings(self, take: Take, findings: tuple[Any, ...]) -> None:
        """Keep what the self-check found."""
        self._set_take(take, findings=findings)

    def live(self, take: Take | None = None) -> LiveTake | None:
        """The player's side of a take, by default the current one; None while it is not begun."""
        take = take or self.current
        return self.client.take(take.number) if take is not None and take.number else None

    # -- shaping ----------------------------------------------------------------------------------------

    def set_settings(self, settings: RenderSettings) -> None:
        """Settings of the next take."""
        if settings != self.settings:
            self.settings = settings
            self.settings_changed.emit()
            self._touch()

    def draw(self, drawn: tuple[Drawn, ...], what: str = "draw curve") -> None:
        """Other drawn curves, and a take that follows them; can be undone.

        Raises
        ------
        InputError
            For curves that cannot be followed, see `pkontext.drawn.check_drawn`.
        """
        from pkontext.drawn import check_drawn

        check_drawn(drawn)
        before = self.drawn
        if drawn != before:
            self._do(what, lambda: self._set_drawn(drawn), lambda: self._set_drawn(before))

    def reroll(self, start_sec: float, end_sec: float, seed: int) -> Take | None:
        """A take like the current one with a range performed anew.

        Raises
        ------
        InputError
            For a range that is too short or has no note.
        """
        if self.current is None or self.score is None:
            return None
        from pkontext.reroll import check_inside

        base = self.current.settings
        kept = tuple(r for r in base.rerolls if r.end_sec <= start_sec or r.start_sec >= end_sec)
        settings = replace(base, rerolls=(*kept, Reroll(start_sec, end_sec, seed)), voice=self.voice)
        check_settings(settings)
        check_inside(self.score, settings.rerolls)
        return self.add_take(settings, f"{self.current.name}, re-rolled")

    def play_like(self, performance: Path, amount: float) -> Take | None:
        """A take that plays like a MIDI performance of the piece, in full (1) or in part."""
        if self.score is None:
            return None
        settings = replace(self.settings, like=performance, like_amount=amount, drawn=self.drawn)
        return self.add_take(settings, f"like {performance.stem}")

    # -- saved or not -----------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether something differs from what was saved last."""
        return self._saved_extra or not self.undo_stack.isClean()

    def set_saved(self) -> None:
        """What there is now is saved."""
        self._saved_extra = False
        self.undo_stack.setClean()
        self._tell_dirty()

    # -- inside -----------------------------------------------------------------------------------------

    def _clear(self, score: Score, title: str) -> None:
        self.undo_stack.clear()
        self.score, self.title, self.path = score, title, None
        self.takes, self.current, self.drawn = [], None, ()
        self._seen = (0, 0, False)

    def _begin(self, take: Take, load: bool) -> None:
        """Have the player begin a take."""
        take.number = -1  # asked for

        def begun(number: int) -> None:
            take.number = number
            if self.client.bundle is not None:
                take.bundle = self.client.bundle.sha256
            if self.current is not None and self.current.number > 0:
                self.client.select(self.current.number, self.voice)

        settings = replace(take.settings, voice=self.voice)
        if load and self.score is not None:
            self.client.load(self.score, settings, begun)
        else:
            self.client.new_take(settings, begun)

    def _look(self, _status: object) -> None:
        """Notice what has been rendered since the last look."""
        live = self.live()
        if live is None:
            return
        audio = live.audio[self.voice]
        seen = (id(live.sketch), audio.frames, audio.done)
        if seen != self._seen:
            self._seen = seen
            self.take_grown.emit()

    def _free_name(self) -> str:
        names = {take.name for take in self.takes}
        number = len(self.takes) + 1
        while f"Take {number}" in names:
            number += 1
        return f"Take {number}"

    def _set_take(self, take: Take, **values: Any) -> None:
        for name, value in values.items():
            setattr(take, name, value)
        self.takes_changed.emit()
        self._touch()

    def _remove(self, take: Take) -> None:
        place = self.takes.index(take)
        self.takes.remove(take)
        if take is self.current:
            self.choose(self.takes[min(place, len(self.takes) - 1)])
        self.takes_changed.emit()

    def _insert(self, take: Take, place: int) -> None:
        self.takes.insert(place, take)
        self.takes_changed.emit()
        self.choose(take)

    def _set_drawn(self, drawn: tuple[Drawn, ...]) -> None:
        self.drawn = drawn
        self.drawn_changed.emit()
        if self.score is not None:
            settings = replace(self.settings, drawn=drawn, voice=self.voice)
            known = next((take for take in self.takes if take.settings == settings), None)
            self.set_settings(settings)
            if known is None:
                self.add_take(settings)
            else:
                self.choose(known)

    def _do(self, text: str, redo: Callable[[], None], undo: Callable[[], None]) -> None:
        self.undo_stack.push(_Change(text, redo, undo))

    def _touch(self) -> None:
        if not self._saved_extra:
            self._saved_extra = True
            self._tell_dirty()

    def _tell_dirty(self, _clean: bool = False) -> None:
        self.dirty_changed.emit(self.dirty)


class _Change(QUndoCommand):
    """Two functions, there and back."""

    def __init__(self, text: str, redo: Callable[[], None], undo: Callable[[], None]) -> None:
        super().__init__(text)
        self._redo, self._undo = redo, undo

    def redo(self) -> None:
        self._redo()

    def undo(self) -> None:
        self._undo()

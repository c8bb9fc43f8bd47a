"""The window's link to live playing: the port, takes that are saved at once, and what a crash left.

Everything belongs to the Qt thread and returns at once; ports, sound devices and files are for operations,
one after another. What was recorded is on disk before anybody is told about it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from gui.operations import Operation
from gui.parts import run
from pkontext.captured import Captured, captured_from_events, save_captured
from pkontext.errors import DeviceError, PkError, RenderError
from pkontext.journal import Recovered, discard, journal_folder, recover
from pkontext.live import LiveOptions, LiveSession, LiveStatus
from pkontext.ports import PortInfo, list_inputs

CLOSED, OPENING, OPEN, CLOSING = "closed", "opening", "open", "closing"
_PATIENCE_SEC = 10.0


@dataclass(frozen=True)
class SavedTake:
    """What was recorded, and the file that holds it; without one, why not."""

    captured: Captured
    path: Path | None
    error: PkError | None = None


class LiveLink(QObject):
    """Opens and closes a `LiveSession`, and fetches takes from it.

    Parameters
    ----------
    folder : Path, optional
        Where recordings are kept; by default beside the journals, in the platform's data folder.
    """

    #: `state`, `recording` or `busy` is another one.
    changed = pyqtSignal()
    #: A list of `PortInfo`, or a `DeviceError`.
    ports_listed = pyqtSignal(object)
    #: A `PkError`: the port cannot be opened, or a take not be ended.
    failed = pyqtSignal(object)
    #: A `SavedTake` with at least one note.
    captured = pyqtSignal(object)
    #: A take without a note has ended.
    empty = pyqtSignal()
    #: A list of `Recovered`, the newest first; only those in which a key was struck.
    found_journals = pyqtSignal(object)

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = CLOSED
        self.recording = False
        self.busy = False  # a take is being fetched
        self.begin = 0.0  # of the take, as time.monotonic()
        self._folder = folder
        self._session: LiveSession | None = None
        self._unsaved = False  # a take could not be saved: the journal has to stay
        self._ending = False
        self._running: dict[int, Operation] = {}
        self._numbers = itertools.count()
        self._listing = False

    @property
    def session(self) -> LiveSession | None:
        """The session while it is open."""
        return self._session if self.state == OPEN else None

    @property
    def folder(self) -> Path:
        """Where recordings are kept."""
        return self._folder or journal_folder().parent / "recordings"

    def status(self) -> LiveStatus | None:
        """What there is to see; None while nothing is open."""
        return None if self.session is None else self.session.status()

    # -- ports ------------------------------------------------------------------------------------------

    def list_ports(self) -> None:
        """Look which ports there are; `ports_listed` comes."""
        if not self._listing:
            self._listing = True
            self._start("ports", lambda _: _list_or_error(), self._tell_ports)

    def open(self, options: LiveOptions) -> None:
        """Listen, instead of what was listened to."""
        if self.state in (OPENING, CLOSING) or self.recording or self.busy:
            return
        before, saved = self._session, not self._unsaved
        self._session = None

        def work(_: Operation) -> LiveSession:
            if before is not None:
                before.close(saved)
            self._session = LiveSession(options)
            return self._session

        self._enter(OPENING)
        self._start("listen", work, lambda _: self._enter(OPEN), self._cannot_open)

    def close(self) -> None:
        """Listen no more."""
        if self.state != OPEN or self.recording or self.busy:
            return
        session, saved = self._session, not self._unsaved
        assert session is not None

        def closed(_: Any) -> None:
            self._session = None
            self._enter(CLOSED)

        self._enter(CLOSING)
        self._start("listen-no-more", lambda _: session.close(saved), closed)

    # -- takes ------------------------------------------------------------------------------------------

    def record(self, bpm: float | None, beats_per_bar: int, count_in_bars: int) -> None:
        """Begin a take; see `LiveSession.start_take`."""
        session = self.session
        if session is None or self.recording or self.busy:
            return
        try:
            self.begin = session.start_take(bpm, beats_per_bar, count_in_bars)
        except PkError as error:
            self.failed.emit(error)
            return
        self.recording = True
        self.changed.emit()

    def stop(self) -> None:
        """End the take and save it; `captured` or `empty` comes."""
        session = self.session
        if session is not None and self.recording and not self.busy:
            self._fetch(session.stop_take, ends=True)

    def keep(self) -> None:
        """Save what was just played; `captured` or `empty` comes."""
        session = self.session
        if session is not None and not self.busy:
            self._fetch(session.keep_last, ends=False)

    # -- after a crash ----------------------------------------------------------------------------------

    def look_for_journals(self) -> None:
        """Look for what a crash left; `found_journals` comes."""

        def work(_: Operation) -> list[Recovered]:
            return [journal for journal in reversed(recover()) if journal.strikes]

        self._start("recover", work, self.found_journals.emit)

    def open_journal(self, journal: Recovered) -> None:
        """Make a take of a journal; it is removed once the take is saved."""

        def work(_: Operation) -> SavedTake:
            taken = self._save(captured_from_events(journal.events, journal.started))
            if taken.path is not None:
                discard(journal.path)
            return taken

        self._start("recover", work, self._tell)

    def save_journal(self, journal: Recovered, path: Path) -> None:
        """Write a journal as a MIDI file and remove it."""

        def work(_: Operation) -> None:
            save_captured(captured_from_events(journal.events, journal.started), path)
            discard(journal.path)

        self._start("recover", work, lambda _: self.look_for_journals())

    def discard_journal(self, journal: Recovered) -> None:
        """Remove a journal for good."""
        self._start("discard", lambda _: discard(journal.path), lambda _: self.look_for_journals())

    # -- the end ----------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End and save the take if one runs, close everything, and wait for it."""
        self._ending = True
        for operation in tuple(self._running.values()):
            operation.wait(_PATIENCE_SEC)
        session, self._session = self._session, None
        if session is None:
            return
        if self.recording and not self.busy:
            taken = session.stop_take()
            if len(taken.notes):
                self._save(taken)
        self.recording = self.busy = False
        session.close(saved=not self._unsaved)
        self.state = CLOSED

    # -- inside -----------------------------------------------------------------------------------------

    def _start(self, name: str, work: Any, done: Any = None, failed: Any = None) -> None:
        if self._ending:
            return

        number = next(self._numbers)

        def end(then: Any, value: Any) -> None:
            self._running.pop(number, None)
            if then is not None and not self._ending:
                then(value)

        self._running[number] = run(
            self,
            name,
            work,
            lambda value: end(done, value),
            lambda error: end(failed or self.failed.emit, error),
        )

    def _enter(self, state: str) -> None:
        self.state = state
        self.changed.emit()

    def _cannot_open(self, error: PkError) -> None:
        self._session = None
        self._enter(CLOSED)
        self.failed.emit(error)

    def _tell_ports(self, found: list[PortInfo] | DeviceError) -> None:
        self._listing = False
        self.ports_listed.emit(found)

    def _fetch(self, take: Callable[[], Captured], ends: bool) -> None:
        """Get a take from the session and save it, in the background."""
        self.busy = True
        self.changed.emit()

        def work(_: Operation) -> SavedTake:
            captured = take()
            return self._save(captured) if len(captured.notes) else SavedTake(captured, None)

        def over() -> None:
            self.busy = False
            self.recording = self.recording and not ends
            self.changed.emit()

        def done(taken: SavedTake) -> None:
            over()
            self._tell(taken)

        def failed(error: PkError) -> None:
            over()
            self.failed.emit(error)

        self._start("take", work, done, failed)

    def _tell(self, taken: SavedTake) -> None:
        if not len(taken.captured.notes):
            self.empty.emit()
            return
        self.captured.emit(taken)
        if taken.error is not None:
            self.failed.emit(taken.error)

    def _save(self, captured: Captured) -> SavedTake:
        """Keep a take in the folder (any thread)."""
        stamp = time.strftime("%Y-%m-%d %H-%M-%S", time.localtime(captured.started))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = _free(self.folder / f"Recording {stamp}.mid")
            save_captured(captured, path)
        except OSError as error:
            self._unsaved = True
            return SavedTake(captured, None, _cannot_save(self.folder, error))
        except PkError as error:
            self._unsaved = True
            return SavedTake(captured, None, error)
        return SavedTake(captured, path)


def _list_or_error() -> list[PortInfo] | DeviceError:
    try:
        return list_inputs()
    except DeviceError as error:
        return error


def _free(path: Path) -> Path:
    """A name that no file has yet."""
    number, found = 2, path
    while found.exists():
        found = path.with_stem(f"{path.stem} ({number})")
        number += 1
    return found


def _cannot_save(folder: Path, error: OSError) -> PkError:
    return RenderError(
        "recording.save",
        f"The recording could not be saved to {folder} ({error.strerror or error}).",
        "It is still here: use “Save recording as…” to save it to another folder.",
    )

"""Safety copies of what is not saved yet, and their recovery after a crash.

The disk is touched in an `Operation`; the rest belongs to the Qt thread.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from PyQt6.QtCore import QDateTime, QLocale, QLockFile, QObject, Qt, QTimer
from PyQt6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from gui.document import Document
from gui.operations import Operation
from gui.saved import project_of, restore
from pkontext.errors import PkError
from pkontext.project import ENDING, Project, autosave_folder, load_project, save_project

INTERVAL_MS = 30_000
_PATH = "path"


class Autosave(QObject):
    """Keeps a safety copy of a changed document, until it is saved or the program ends well.

    Parameters
    ----------
    document : Document
    parent : QObject
    folder : Path, optional
        By default `pkontext.project.autosave_folder`.
    interval_ms : int
    """

    def __init__(
        self,
        document: Document,
        parent: QObject | None = None,
        folder: Path | None = None,
        interval_ms: int = INTERVAL_MS,
    ) -> None:
        super().__init__(parent)
        self._document = document
        self.path = (folder or autosave_folder()) / f"{uuid.uuid4().hex}{ENDING}"
        self.last_error: PkError | None = None
        self._lock: QLockFile | None = None
        self._writing = threading.Lock()
        self._turn = 0
        self._changed = False
        self._outlived: tuple[Path, ...] = ()
        self._operation: Operation | None = None
        for signal in (
            document.takes_changed,
            document.settings_changed,
            document.drawn_changed,
            document.current_changed,
        ):
            signal.connect(self._note_change)
        document.dirty_changed.connect(self._dirty_changed)
        self._timer = QTimer(self)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self.save_now)
        self._timer.start()

    def replace_when_saved(self, path: Path) -> None:
        """Remove another safety copy, which was recovered, as soon as this one holds the same."""
        self._outlived = (*self._outlived, path)
        self._changed = True
        self.save_now()

    def save_now(self) -> Operation | None:
        """Write the copy in the background, if something has changed since the last one."""
        document = self._document
        if not (self._changed and document.dirty):
            return None
        if self._operation is not None and self._operation in Operation.running:
            return self._operation
        project = project_of(document, {_PATH: str(document.path or "")})
        if project is None:
            return None
        self._changed = False
        self._turn += 1
        turn, outlived = self._turn, self._outlived
        self._outlived = ()

        def write(_operation: Operation) -> None:
            with self._writing:
                if turn != self._turn:
                    return
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._take_lock()
                save_project(self.path, project)
                for path in outlived:
                    remove_copy(path)

        self._operation = Operation("Writing a safety copy", write, self)
        self._operation.failed.connect(self._failed)
        return self._operation.start()

    def forget(self) -> None:
        """The document is saved, or not wanted: remove the copy."""
        self._turn += 1
        if self._lock is not None or self._operation is not None:

            def remove(_operation: Operation) -> None:
                with self._writing:
                    self._remove()

            Operation("Removing a safety copy", remove, self).start()

    def close(self) -> None:
        """The program ends well: remove the copy, and stop."""
        self._timer.stop()
        self._turn += 1
        if self._operation is not None:
            self._operation.wait()
        with self._writing:
            self._remove()

    def _note_change(self) -> None:
        self._changed = True

    def _dirty_changed(self, dirty: bool) -> None:
        if not dirty:
            self.forget()

    def _failed(self, error: PkError) -> None:
        self.last_error, self._changed = error, True  # once more after the next interval

    def _take_lock(self) -> None:
        """Tell other windows that this copy has someone who looks after it."""
        if self._lock is None:
            self._lock = QLockFile(str(self.path.with_suffix(".lock")))
            self._lock.setStaleLockTime(0)
            self._lock.tryLock(0)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.unlock()
            self._lock = None


@dataclass(frozen=True)
class Copy:
    """A safety copy that nobody looks after: its program did not end well."""

    path: Path
    project: Project
    when: float
    source: Path | None

    def text(self) -> str:
        """Title, takes and when, for people."""
        locale = QLocale()
        moment = QDateTime.fromSecsSinceEpoch(int(self.when))
        when = locale.toString(moment, QLocale.FormatType.ShortFormat)
        count = len(self.project.takes)
        takes = "1 take" if count == 1 else f"{count} takes"
        return f"{self.project.title} ({takes}, {when})"


def find_copies(folder: Path | None = None) -> list[Copy]:
    """Safety copies that can be recovered, the newest first (any thread); those that cannot be are left."""
    found = []
    for path in (folder or autosave_folder()).glob(f"*{ENDING}"):
        lock = QLockFile(str(path.with_suffix(".lock")))
        lock.setStaleLockTime(0)
        if not lock.tryLock(0):
            continue  # another window's
        with contextlib.suppress(PkError, OSError):
            project = load_project(path)
            source = project.view.get(_PATH)
            found.append(Copy(path, project, path.stat().st_mtime, Path(source) if source else None))
        lock.unlock()
    return sorted(found, key=lambda copy: -copy.when)


def remove_copy(path: Path) -> None:
    """Remove a safety copy (any thread)."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


class RecoveryDialog(QDialog):
    """Offers what was not saved when the program ended last."""

    def __init__(self, copies: list[Copy], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.copies = copies
        self.setWindowTitle(self.tr("Recover unsaved work"))
        said = QLabel(
            self.tr(
                "PianoKontext did not end as it should have, and this was not saved. "
                "Recover a piece to go on where it was; its takes are rendered again."
            )
        )
        said.setWordWrap(True)
        self.list = QListWidget()
        self.list.setAccessibleName(self.tr("Unsaved pieces"))
        for copy in copies:
            item = QListWidgetItem(copy.text())
            item.setData(Qt.ItemDataRole.UserRole, copy)
            self.list.addItem(item)
        self.list.setCurrentRow(0)
        buttons = QDialogButtonBox()
        role = QDialogButtonBox.ButtonRole
        self.recover_button = buttons.addButton(self.tr("Recover"), role.AcceptRole)
        self.later_button = buttons.addButton(self.tr("Not now"), role.RejectRole)
        self.discard_button = buttons.addButton(self.tr("Discard all"), role.DestructiveRole)
        assert self.recover_button and self.discard_button
        self.recover_button.setDefault(True)
        self.discarded = False
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self.discard_button.clicked.connect(self._discard)
        self.list.itemActivated.connect(lambda _: self.accept())
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addWidget(said)
        column.addWidget(self.list, 1)
        column.addWidget(buttons)
        self.resize(34 * self.fontMetrics().height(), self.sizeHint().height())

    @property
    def chosen(self) -> Copy | None:
        """The piece that is marked."""
        item = self.list.currentItem()
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    def _discard(self) -> None:
        self.discarded = True
        self.reject()


def offer_recovery(parent: QWidget, document: Document, folder: Path | None = None) -> Operation:
    """Look for safety copies in the background, and offer them; what is recovered counts as unsaved."""

    def offer(copies: list[Copy]) -> None:
        if not copies:
            return
        dialog = RecoveryDialog(copies, parent)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: recover(dialog.chosen, document, parent.findChild(Autosave)))
        dialog.rejected.connect(lambda: discard() if dialog.discarded else None)
        dialog.open()

        def discard() -> None:
            paths = [copy.path for copy in copies]
            Operation(
                "Removing safety copies", lambda _: [remove_copy(path) for path in paths], parent
            ).start()

    operation = Operation("Looking for unsaved work", lambda _: find_copies(folder), parent)
    operation.finished.connect(offer)
    return operation.start()


def recover(copy: Copy | None, document: Document, autosave: Autosave | None) -> None:
    """Go on with a safety copy; it stays until another one holds the same."""
    if copy is None:
        return
    restore(document, copy.project, copy.source)
    document.mark_changed()
    if autosave is not None:
        autosave.replace_when_saved(copy.path)

"""Files of the desktop app: opening, saving and recent files; safety copies are in `gui.autosave`.

Reading and writing run in an `Operation`; the rest belongs to the Qt thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QEventLoop, QObject, QSettings

from gui.autosave import Autosave, offer_recovery
from gui.document import Document
from gui.operations import Operation
from gui.saved import project_of, restore
from pkontext.errors import InputError, PkError
from pkontext.project import ENDING, Project, load_project, save_project
from pkontext.score import load_score
from pkontext.types import Score

__all__ = [
    "ENDING",
    "Autosave",
    "Opened",
    "add_recent",
    "clear_recent",
    "offer_recovery",
    "open_any",
    "project_of",
    "read_any",
    "recent",
    "restore",
    "save",
    "show_opened",
]

SCORE_ENDINGS = (".mid", ".midi", ".kar", ".rmi", ".smf")
MOST_RECENT = 10


@dataclass(frozen=True)
class Opened:
    """What was read from a file: a score or a project."""

    path: Path
    score: Score | None = None
    project: Project | None = None


# -- opening and saving ---------------------------------------------------------------------------------


def open_any(path: Path, parent: QObject | None = None) -> Operation:
    """An operation, not started, that reads a MIDI file or a project; it finishes with an `Opened`.

    It fails with `InputError`: of `pkontext.score.load_score`, `pkontext.project.load_project`, or
    ``file.kind`` for other endings.
    """
    return Operation(f"Opening {path.name}", lambda _: read_any(path), parent)


def read_any(path: Path) -> Opened:
    """Read a file, see `open_any` (any thread)."""
    ending = path.suffix.lower()
    if ending == ENDING:
        return Opened(path, project=load_project(path))
    if ending in SCORE_ENDINGS:
        return Opened(path, score=load_score(path))
    raise InputError(
        "file.kind",
        f"{path.name} is neither a MIDI file nor a project.",
        f"Choose a file that ends in .mid or {ENDING}.",
    )


def show_opened(opened: Opened, document: Document) -> None:
    """Put what was opened into the document."""
    if opened.project is not None:
        restore(document, opened.project, opened.path)
    elif opened.score is not None:
        document.set_score(opened.score, opened.path.stem)


def save(document: Document, path: Path, view: dict[str, Any] | None = None) -> None:
    """Save the document as a project; the window goes on painting meanwhile.

    Raises
    ------
    PkError
        The file before is still there, and the document is still dirty.
    """
    project = project_of(document, view)
    if project is None:
        return
    loop, failures = QEventLoop(), []
    operation = Operation(f"Saving {path.name}", lambda _: save_project(path, project))

    def failed(error: PkError) -> None:
        failures.append(error)
        loop.quit()

    operation.finished.connect(loop.quit)
    operation.failed.connect(failed)
    operation.start()
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    if failures:
        raise failures[0]
    document.path = path
    document.set_saved()


# -- recent files ---------------------------------------------------------------------------------------


def recent(settings: QSettings) -> list[Path]:
    """Files that were opened or saved, the last one first."""
    found = settings.value("recent", [])
    texts = [found] if isinstance(found, str) else (found or [])
    return [Path(text) for text in texts if text][:MOST_RECENT]


def add_recent(settings: QSettings, path: Path) -> None:
    """Put a file first."""
    path = path.absolute()
    files = [path, *(other for other in recent(settings) if other != path)]
    settings.setValue("recent", [str(file) for file in files[:MOST_RECENT]])


def clear_recent(settings: QSettings) -> None:
    """Forget them."""
    settings.remove("recent")

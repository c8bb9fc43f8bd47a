"""Opening, saving and recovering documents; recent files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QLockFile, QSettings
from PyQt6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from gui import files
from gui.autosave import Autosave, RecoveryDialog, find_copies, offer_recovery
from gui.client import PlayerClient
from gui.document import Document
from gui.operations import Operation
from pkontext.drawn import Drawn
from pkontext.errors import PkError
from pkontext.output import NullOutput
from pkontext.project import autosave_folder, load_project
from pkontext.score import load_score
from pkontext.selfcheck import Finding

WAIT = 20_000


@pytest.fixture
def document(qtbot: QtBot, toy_bundle: Path, midi_file: Path) -> Iterator[Document]:
    """A piece with two takes, shaped and named."""
    before = set(threading.enumerate())
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    made = Document(client)
    made.set_score(load_score(midi_file))
    made.draw((Drawn("tempo", ((0.0, 1.0), (2.0, 0.8))),))
    made.rename(made.current, "Slow")
    made.star(made.current, True)
    made.set_findings(made.current, (Finding("missing", 1, 62, 62, 0.5, 1, 2.0),))
    yield made
    client.close()
    qtbot.waitUntil(lambda: not set(threading.enumerate()) - before, timeout=WAIT)


def opened(qtbot: QtBot, path: Path) -> files.Opened:
    """What a file holds."""
    operation = files.open_any(path)
    with qtbot.waitSignal(operation.finished, timeout=WAIT) as done:
        operation.start()
    return done.args[0]


def test_a_saved_document_comes_back(
    qtbot: QtBot, document: Document, toy_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "piece.pkproj"
    document.set_voice("sampler")
    dirty: list[bool] = []
    document.dirty_changed.connect(dirty.append)
    files.save(document, path)
    assert document.path == path and not document.dirty and dirty[-1] is False
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    try:
        other = Document(client)
        files.show_opened(opened(qtbot, path), other)
        assert (other.title, other.path, other.dirty) == ("piece", path, False)
        assert other.drawn == document.drawn and other.voice == "sampler"
        assert [(t.id, t.name, t.starred, t.findings, t.settings) for t in other.takes] == [
            (t.id, t.name, t.starred, t.findings, t.settings) for t in document.takes
        ]
        assert other.current.name == "Slow"
        qtbot.waitUntil(lambda: other.live() is not None, timeout=WAIT)
    finally:
        client.close()


def test_a_midi_file_is_opened_with_its_name(qtbot: QtBot, document: Document, midi_file: Path) -> None:
    files.show_opened(opened(qtbot, midi_file), document)
    assert document.title == "piece" and [take.name for take in document.takes] == ["Take 1"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("x.txt", b"", "file.kind"),
        ("x.mid", b"rubbish", "midi.not_midi"),
        ("x.pkproj", b"{}", "project.damaged"),
        ("none.pkproj", None, "project.missing"),
    ],
)
def test_other_files_are_errors(
    qtbot: QtBot, tmp_path: Path, name: str, content: bytes | None, code: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    operation = files.open_any(path)
    with qtbot.waitSignal(operation.failed, timeout=WAIT) as failed:
        operation.start()
    assert failed.args[0].code == code


def test_a_failed_save_is_raised_and_the_document_stays_dirty(document: Document, tmp_path: Path) -> None:
    assert document.dirty
    with pytest.raises(PkError) as caught:
        files.save(document, tmp_path / "none" / "piece.pkproj")
    assert caught.value.code == "project.write" and document.dirty and document.path is None


def test_recent_files(tmp_path: Path) -> None:
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    assert files.recent(settings) == []
    for number in range(12):
        files.add_recent(settings, tmp_path / f"{number}.mid")
    files.add_recent(settings, tmp_path / "5.mid")
    settings.sync()
    again = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    found = [path.name for path in files.recent(again)]
    assert found[:3] == ["5.mid", "11.mid", "10.mid"] and len(found) == 10 and len(set(found)) == 10
    files.clear_recent(again)
    assert files.recent(again) == []


def written(qtbot: QtBot, autosave: Autosave) -> None:
    """Write a copy now and wait for it."""
    operation = autosave.save_now()
    assert operation is not None
    qtbot.waitUntil(lambda: operation not in Operation.running, timeout=WAIT)
    assert autosave.last_error is None


def crash(document: Document, autosave: Autosave) -> None:
    """Leave the copy as a program does that is gone: unlocked, and nobody looks after it."""
    assert autosave._lock is not None
    document.dirty_changed.disconnect(autosave._dirty_changed)
    autosave._timer.stop()
    autosave._lock.unlock()


def test_a_crash_loses_nothing(qtbot: QtBot, document: Document, midi_file: Path) -> None:
    """A copy whose program is gone is offered, opened as unsaved, and removed when there is another."""
    autosave = Autosave(document)
    autosave._changed = True
    written(qtbot, autosave)
    assert autosave.path.parent == autosave_folder()
    assert find_copies() == []  # someone looks after it
    crash(document, autosave)
    (copy,) = find_copies()
    assert copy.text().startswith("piece (2 takes, ")

    window = QWidget()
    qtbot.addWidget(window)
    kept = document.takes
    document.set_score(load_score(midi_file))
    other = Autosave(document, window)
    offer_recovery(window, document)
    qtbot.waitUntil(lambda: bool(window.findChildren(RecoveryDialog)), timeout=WAIT)
    dialog = window.findChildren(RecoveryDialog)[0]
    assert dialog.chosen.project == copy.project
    dialog.accept()
    assert [take.name for take in document.takes] == [take.name for take in kept]
    assert document.dirty
    qtbot.waitUntil(lambda: not copy.path.exists() and other.path.exists(), timeout=WAIT)
    assert load_project(other.path).takes == copy.project.takes
    other.close()
    assert list(autosave_folder().iterdir()) == []


def test_saving_removes_the_copy(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    autosave = Autosave(document)
    autosave._changed = True
    written(qtbot, autosave)
    assert autosave.path.exists() and autosave.save_now() is None  # nothing new
    files.save(document, tmp_path / "piece.pkproj")
    qtbot.waitUntil(lambda: not autosave.path.exists(), timeout=WAIT)
    document.rename(document.current, "after")
    written(qtbot, autosave)
    assert autosave.path.exists()
    autosave.close()
    assert not autosave.path.exists()


def test_the_interval_writes_by_itself(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    autosave = Autosave(document, None, tmp_path / "copies", 30)
    document.rename(document.current, "again")
    qtbot.waitUntil(autosave.path.exists, timeout=WAIT)
    autosave.close()
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_disk_that_takes_nothing_is_tried_again(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    blocked = tmp_path / "copies"
    blocked.write_text("a file where the folder should be")
    autosave = Autosave(document, None, blocked)
    autosave._changed = True
    operation = autosave.save_now()
    qtbot.waitUntil(lambda: autosave.last_error is not None, timeout=WAIT)
    assert operation not in Operation.running
    blocked.unlink()
    autosave.last_error = None
    written(qtbot, autosave)
    assert autosave.path.exists()
    autosave.close()


def test_damaged_copies_and_those_of_other_windows_are_left(tmp_path: Path, document: Document) -> None:
    (tmp_path / "bad.pkproj").write_bytes(b"rubbish")
    (tmp_path / "used.pkproj").write_bytes(b"rubbish")
    lock = QLockFile(str(tmp_path / "used.lock"))
    assert lock.tryLock(0)
    assert find_copies(tmp_path) == []
    lock.unlock()
    assert (tmp_path / "bad.pkproj").exists()


def test_discarding_removes_the_copies(qtbot: QtBot, document: Document) -> None:
    autosave = Autosave(document)
    autosave._changed = True
    written(qtbot, autosave)
    crash(document, autosave)
    window = QWidget()
    qtbot.addWidget(window)
    offer_recovery(window, document)
    qtbot.waitUntil(lambda: bool(window.findChildren(RecoveryDialog)), timeout=WAIT)
    window.findChildren(RecoveryDialog)[0].discard_button.click()
    qtbot.waitUntil(lambda: not autosave.path.exists(), timeout=WAIT)

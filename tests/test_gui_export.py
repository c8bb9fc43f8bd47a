"""The export dialog: what it writes is what `pkontext render` writes, and never half a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from gui.client import PlayerClient
from gui.document import Document, Take
from gui.export_dialog import ExportDialog
from gui.export_job import file_name, plan
from gui.operations import Operation
from pkontext.bundle import open_bundle
from pkontext.engine import open_rendering
from pkontext.output import NullOutput
from pkontext.score import load_score
from pkontext.sinks import SinkSpec, open_sink
from pkontext.take import RenderSettings
from tests.conftest import write_midi

WAIT = 20_000


@pytest.fixture
def document(qtbot: QtBot, toy_bundle: Path, tmp_path: Path) -> Iterator[Document]:
    """A piece of eight bars with two takes."""
    before = set(threading.enumerate())
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    made = Document(client)
    made.set_score(load_score(write_midi(tmp_path / "a piece.mid", [(60 + n % 12, 480) for n in range(32)])))
    made.generate()
    qtbot.waitUntil(lambda: client.bundle is not None and made.live() is not None, timeout=WAIT)
    (tmp_path / "out").mkdir()
    yield made
    client.close()
    for operation in tuple(Operation.running):
        operation.cancel()
    qtbot.waitUntil(lambda: not set(threading.enumerate()) - before, timeout=WAIT)


def open_dialog(
    qtbot: QtBot, document: Document, folder: Path, selection: tuple[float, float] | None = None
) -> ExportDialog:
    """The dialog with the first take checked."""
    dialog = ExportDialog(document, document.client, document.takes[:1], None, selection)
    qtbot.addWidget(dialog)
    dialog.folder.setText(str(folder))
    dialog.show()
    return dialog


def choose(dialog: ExportDialog, **choices: str) -> None:
    """Choose in combo boxes by their data."""
    for name, data in choices.items():
        combo = getattr(dialog, name)
        assert combo.findData(data) >= 0
        combo.setCurrentIndex(combo.findData(data))


def export(qtbot: QtBot, dialog: ExportDialog) -> list[str]:
    """Press the button and wait; returns how each file ended."""
    with qtbot.waitSignal(dialog.rows.finished, timeout=60_000):
        qtbot.mouseClick(dialog.export_button, Qt.MouseButton.LeftButton)
    return [row.state for row in dialog.rows.rows]


def names(folder: Path) -> list[str]:
    """Names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_audio_is_the_engines_own(qtbot: QtBot, document: Document, toy_bundle: Path, tmp_path: Path) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    choose(dialog, kind="wav", bits="24", voice="sampler", range="bars")
    dialog.first_bar.setValue(2)
    dialog.last_bar.setValue(4)
    assert dialog.preview.text() == "a piece - Take 1.wav"
    assert export(qtbot, dialog) == ["written"]
    settings = RenderSettings(voice="sampler", start_sec=2.0, end_sec=8.0)
    rendering = open_rendering(document.score, open_bundle(toy_bundle), settings, 0, "auto")
    with open_sink(tmp_path / "wanted.wav", SinkSpec(rendering.sample_rate, 1, "wav", "24", 0)) as sink:
        for chunk in rendering.chunks():
            sink.write(chunk)
    written = tmp_path / "out" / "a piece - Take 1.wav"
    assert written.read_bytes() == (tmp_path / "wanted.wav").read_bytes()
    assert names(tmp_path / "out") == [written.name]
    assert "1 file written" in dialog.rows.summary.text() and dialog.open_button.isVisible()


def test_several_takes_to_flac(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    dialog.takes.item(1).setCheckState(Qt.CheckState.Checked)
    choose(dialog, bits="32f")
    choose(dialog, kind="flac", voice="deadpan")
    assert dialog.bits.currentData() == "24"
    dialog.pattern.setText("{number} {voice}: seed {seed}")
    assert dialog.preview.text().splitlines() == ["01 deadpan_ seed 0.flac", "02 deadpan_ seed 1.flac"]
    assert export(qtbot, dialog) == ["written", "written"]
    for name in names(tmp_path / "out"):
        audio = soundfile.info(tmp_path / "out" / name)
        assert (audio.format, audio.subtype) == ("FLAC", "PCM_24") and audio.duration > 15


@pytest.mark.parametrize("form", ["fixed", "score"])
def test_midi_of_a_selection(qtbot: QtBot, document: Document, tmp_path: Path, form: str) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out", (4.0, 8.0))
    choose(dialog, kind=f"midi-{form}", range="selection")
    assert not dialog.bits.isEnabled()
    assert export(qtbot, dialog) == ["written"]
    file = mido.MidiFile(tmp_path / "out" / "a piece - Take 1.mid")
    strikes = [m for m in mido.merge_tracks(file.tracks) if m.type == "note_on" and m.velocity]
    assert len(strikes) == 8
    assert dialog.rows.rows[0].said.text() == "✓ 8 notes written"


def test_a_cancelled_export_leaves_nothing(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    dialog.takes.item(1).setCheckState(Qt.CheckState.Checked)
    dialog.start()
    first, second = dialog.rows.rows
    assert (first.state, second.state) == ("running", "waiting")
    qtbot.waitUntil(lambda: any((tmp_path / "out").iterdir()), timeout=WAIT)
    with qtbot.waitSignal(dialog.rows.finished, timeout=WAIT) as finished:
        dialog.reject()
    assert dialog.isVisible() and finished.args == [0]
    assert (first.state, second.state) == ("cancelled", "cancelled")
    assert names(tmp_path / "out") == []
    dialog.reject()
    assert not dialog.isVisible()


def test_one_of_several_can_be_cancelled(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    dialog.takes.item(1).setCheckState(Qt.CheckState.Checked)
    choose(dialog, voice="deadpan")
    with qtbot.waitSignal(dialog.rows.finished, timeout=WAIT):
        dialog.start()
        dialog.rows.rows[0].cancel_button.click()
    assert [row.state for row in dialog.rows.rows] == ["cancelled", "written"]
    assert names(tmp_path / "out") == ["a piece - Take 2.wav"]
    assert "1 of 2 files" in dialog.rows.summary.text()


def test_replacing_is_asked(
    qtbot: QtBot, document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out" / "a piece - Take 1.wav"
    old.write_bytes(b"mine")
    asked: list[str] = []
    answer = ["Go back"]

    def press(box: QMessageBox) -> int:
        asked.append(f"{box.text()} {box.informativeText()}")
        next(button for button in box.buttons() if button.text() == answer[0]).click()
        return 0

    monkeypatch.setattr(QMessageBox, "exec", press)
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    choose(dialog, voice="deadpan")
    dialog.start()
    assert dialog.rows.rows == [] and old.read_bytes() == b"mine"
    assert asked[0].startswith("a piece - Take 1.wav exists already.")
    answer[0] = "Replace"
    assert export(qtbot, dialog) == ["written"]
    samples, _ = soundfile.read(old)
    assert len(samples) > 44_100 and np.abs(samples).max() > 0.01


def test_a_failed_file_says_why_and_the_others_are_written(
    qtbot: QtBot, document: Document, tmp_path: Path
) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "out")
    dialog.takes.item(1).setCheckState(Qt.CheckState.Checked)
    choose(dialog, voice="deadpan")
    (tmp_path / "out" / "a piece - Take 1.wav").mkdir()
    dialog.may_replace = lambda _existing: True  # type: ignore[method-assign]
    assert export(qtbot, dialog) == ["failed", "written"]
    error = dialog.rows.rows[0].error
    assert error.isVisible() and "is a folder" in error.text()


def test_what_cannot_be_exported_is_said_before(qtbot: QtBot, document: Document, tmp_path: Path) -> None:
    dialog = open_dialog(qtbot, document, tmp_path / "none")
    assert "no such folder" in dialog.problem.text() and not dialog.export_button.isEnabled()
    dialog.folder.setText(str(tmp_path / "out"))
    assert dialog.problem.isHidden() and dialog.export_button.isEnabled()
    choose(dialog, range="bars")
    dialog.first_bar.setValue(5)
    dialog.last_bar.setValue(3)
    assert "no bars 5 to 3" in dialog.problem.text() and not dialog.export_button.isEnabled()
    dialog.last_bar.setValue(6)
    dialog.takes.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert "No take is checked" in dialog.problem.text() and not dialog.export_button.isEnabled()


def test_file_names_fit_every_system() -> None:
    take = Take('A "take": 1/2?', RenderSettings(seed=7, tempo=0.9))
    assert file_name("{title} - {take}", "Nocturne", take, "neural", 1) == "Nocturne - A _take__ 1_2_"
    assert file_name("{seed} {tempo} {voice} {number} {x}", "", take, "neural", 3) == "7 90 neural 03 {x}"
    assert file_name("CON", "", take, "neural", 2) == "take 02"
    assert file_name("  ..  ", "", take, "neural", 2) == "take 02"
    assert len(file_name("x" * 500, "", take, "neural", 1)) == 120
    same = [Take("a", RenderSettings()), Take("A", RenderSettings())]
    jobs = plan(same, "t", Path("/x"), "{take}", "wav", "24", "neural", (0.0, None))
    assert [job.path.name for job in jobs] == ["a.wav", "A (2).wav"]

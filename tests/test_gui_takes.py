"""The panel of takes and the panel that shapes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from gui.client import PlayerClient
from gui.document import Document
from gui.drawing_tools import TOOLS
from gui.operations import Operation
from gui.shaping_panel import ShapingPanel
from gui.takes_panel import TakesPanel
from gui.timeline import Timeline
from pkontext import transcriber
from pkontext.drawn import Drawn
from pkontext.output import NullOutput
from pkontext.score import load_score
from pkontext.selfcheck import Finding
from tests.conftest import write_midi

WAIT = 20_000


@dataclass
class Rig:
    """Document, player and the two panels."""

    client: PlayerClient
    document: Document
    timeline: Timeline
    takes: TakesPanel
    shaping: ShapingPanel

    def rendered(self) -> bool:
        live = self.document.live()
        return live is not None and live.audio["neural"].done


@pytest.fixture
def rig(qtbot: QtBot, toy_bundle: Path, tmp_path: Path) -> Iterator[Rig]:
    """A piece of twelve seconds with one take."""
    before = set(threading.enumerate())
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    document, timeline = Document(client), Timeline()
    made = Rig(
        client, document, timeline, TakesPanel(document, client), ShapingPanel(document, client, timeline)
    )
    for panel in (made.takes, made.shaping):
        qtbot.addWidget(panel)
        panel.resize(340, 640)
        panel.show()
    assert made.takes._pages.currentWidget() is made.takes.empty
    score = load_score(write_midi(tmp_path / "piece.mid", [(60 + step % 12, 480) for step in range(24)]))
    document.set_score(score)
    timeline.set_duration(score.duration_sec)
    qtbot.waitUntil(made.rendered, timeout=WAIT)
    yield made
    client.close()
    for operation in tuple(Operation.running):
        operation.cancel()
    qtbot.waitUntil(lambda: not set(threading.enumerate()) - before, timeout=WAIT)


def as_played(document: Document, drop: int = 0):  # type: ignore[no-untyped-def]
    """A listener that hears what the first take plays, less some notes."""

    def listener(audio: Path, cancelled) -> np.ndarray:  # type: ignore[no-untyped-def]
        assert audio.stat().st_size > 100_000 and not cancelled()
        live = document.live(document.takes[0])
        assert live is not None and live.sketch is not None
        return live.sketch.notes[drop:].copy()

    return listener


# -- takes ------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_heard_and_how_far_it_is(qtbot: QtBot, rig: Rig) -> None:
    take = rig.document.current
    assert rig.takes.list.count() == 1
    qtbot.waitUntil(lambda: rig.takes.list.marks(take) == "heard", timeout=WAIT)
    assert rig.takes.list.details(take) == "seed 0"
    rig.takes.new_button.click()
    assert rig.takes.list.count() == 2 and rig.takes.list.take is rig.document.current
    assert rig.document.current.settings.seed == 1
    assert rig.takes.list.takes == [rig.document.current]
    qtbot.waitUntil(lambda: rig.takes.list.marks(rig.document.current) == "heard", timeout=WAIT)
    assert rig.takes.list.marks(take) == ""
    said = rig.takes.list.item(1).data(Qt.ItemDataRole.AccessibleTextRole)
    assert said.startswith("Take 2, heard, seed 1")


def test_f2_renames_in_place_and_undo_brings_the_name_back(qtbot: QtBot, rig: Rig) -> None:
    rig.takes.list.setFocus()
    rig.takes.rename()
    editor = rig.takes.list.findChild(QLineEdit)
    editor.setText("Evening")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: rig.document.current.name == "Evening", timeout=WAIT)
    rig.document.undo_stack.undo()
    assert rig.document.current.name == "Take 1" and rig.takes.list.item(0).text() == "Take 1"
    rig.takes.list.item(0).setText("   ")
    assert rig.document.current.name == "Take 1" and rig.takes.list.item(0).text() == "Take 1"


def test_star_delete_and_undo(qtbot: QtBot, rig: Rig) -> None:
    with qtbot.waitSignal(rig.takes.message) as said:
        qtbot.keyClick(rig.takes.list, Qt.Key.Key_Delete)
    assert "only take" in said.args[0]
    rig.takes.generate()
    rig.takes.star_button.click()
    assert rig.document.takes[1].starred and rig.takes.star_button.icon_name == "star_filled"
    qtbot.keyClick(rig.takes.list, Qt.Key.Key_Delete)
    assert [take.name for take in rig.document.takes] == ["Take 1"]
    assert rig.document.current is rig.document.takes[0]
    rig.document.undo_stack.undo()
    assert [take.name for take in rig.document.takes] == ["Take 1", "Take 2"]
    assert rig.takes.list.count() == 2 and rig.document.takes[1].starred


def test_return_hears_the_marked_take_and_compare_goes_back(qtbot: QtBot, rig: Rig) -> None:
    first = rig.document.current
    rig.takes.generate()
    second = rig.document.current
    qtbot.waitUntil(lambda: rig.client.status.deck.take == second.number > 0, timeout=WAIT)
    rig.takes.list.select_take(first)
    assert rig.document.current is second
    qtbot.keyClick(rig.takes.list, Qt.Key.Key_Return)
    assert rig.document.current is first
    qtbot.waitUntil(lambda: rig.client.status.deck.take == first.number, timeout=WAIT)
    rig.takes.compare()
    assert rig.document.current is second
    rig.takes.compare()
    assert rig.document.current is first


def test_export_asks_for_the_selected_takes(qtbot: QtBot, rig: Rig) -> None:
    rig.takes.generate()
    rig.takes.list.selectAll()
    with qtbot.waitSignal(rig.takes.export_requested) as asked:
        rig.takes.export_button.click()
    assert asked.args[0] == rig.document.takes


def test_a_check_listens_to_what_the_player_rendered(qtbot: QtBot, rig: Rig) -> None:
    rig.takes._listener = as_played(rig.document, drop=2)
    with qtbot.waitSignal(rig.takes.message, timeout=WAIT) as said:
        rig.takes.check_button.click()
        assert rig.takes.work.isVisible() and not rig.takes.check_button.isEnabled()
    findings = rig.document.current.findings
    assert [finding.kind for finding in findings] == ["missing", "missing"]
    assert said.args[0].startswith("Take 1: 22 of 24 notes")
    assert "2 missing" in rig.takes.list.details(rig.document.current)
    assert "missing C4" in rig.takes.details.text()
    assert not rig.takes.work.isVisible() and rig.takes.check_button.isEnabled()


def test_a_check_without_the_transcriber_says_how_to_get_it(
    qtbot: QtBot, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "PACKAGES", {"no_such_module_of_ours": "transkun"})
    with qtbot.waitSignal(rig.takes.failed, timeout=WAIT) as failed:
        rig.takes.check()
    assert failed.args[0].code == "check.library" and "pip install" in failed.args[0].hint
    assert rig.document.current.findings is None


def test_a_check_can_be_cancelled(qtbot: QtBot, rig: Rig) -> None:
    listening = threading.Event()

    def listener(_audio: Path, cancelled) -> np.ndarray:  # type: ignore[no-untyped-def]
        listening.set()
        while not cancelled():
            threading.Event().wait(0.01)
        raise transcriber.Cancelled

    rig.takes._listener = listener
    rig.takes.check()
    qtbot.waitUntil(listening.is_set, timeout=WAIT)
    with qtbot.waitSignal(rig.takes.message, timeout=WAIT):
        rig.takes.work.cancel_button.click()
    assert rig.document.current.findings is None and not rig.takes.work.busy


def test_the_best_of_several_gets_the_star(qtbot: QtBot, rig: Rig) -> None:
    calls = []

    def listener(audio: Path, cancelled) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Hears nothing of the first candidate and some of the second."""
        calls.append(audio)
        heard = as_played(rig.document)(audio, cancelled)
        return heard[:0] if len(calls) == 1 else heard

    rig.takes._listener = listener
    with qtbot.waitSignal(rig.takes.message, timeout=WAIT) as said:
        rig.takes.best_of(2)
    names = [(take.name, take.settings.seed, take.starred) for take in rig.document.takes]
    assert names == [("Take 1", 0, False), ("Seed 1", 1, False), ("Seed 2", 2, True)]
    assert rig.document.current is rig.document.takes[2]
    assert "The best of 2 takes is Seed 2" in said.args[0]
    assert all(finding.kind == "missing" for finding in rig.document.takes[1].findings)
    qtbot.waitUntil(lambda: rig.document.takes[2].number > 0, timeout=WAIT)


def test_details_show_what_the_take_was_made_with(rig: Rig) -> None:
    rig.document.set_findings(rig.document.current, (Finding("extra", -1, 61, -1, 3.0, 2, 3.0),))
    text = rig.takes.details.text()
    for part in ("Seed", "Tempo", "100 %", "1 extra", "bar 2, beat 3", rig.client.bundle.sha256[:10]):
        assert part in text


# -- shaping ----------------------------------------------------------------------------------------------


def test_presets_and_parameters_make_a_take(qtbot: QtBot, rig: Rig) -> None:
    shaping, document = rig.shaping, rig.document
    assert shaping.preset.currentText() == "As learned"
    assert shaping.spins["guidance"].text() == shaping.spins["temperature"].text() == "Model's own"
    shaping.use_preset("Free")
    assert (document.settings.guidance, document.settings.temperature) == (2.0, 1.1)
    assert shaping.spins["temperature"].text() == "1.1" and shaping.preset.currentText() == "Free"
    shaping.sliders["reverb"].setValue(30)
    assert document.settings.reverb == pytest.approx(0.3) and shaping.spins["reverb"].text() == "30 %"
    qtbot.waitUntil(lambda: len(document.takes) == 2, timeout=WAIT)
    assert document.current.settings.guidance == 2.0
    shaping.spins["guidance"].setValue(0)
    assert document.settings.guidance is None and shaping.preset.currentText() == "Own values"
    shaping.spins["guidance"].stepUp()
    assert document.settings.guidance == 1.0
    shaping.spins["guidance"].stepDown()
    assert document.settings.guidance is None
    slider = shaping.sliders["guidance"]
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert document.settings.guidance == 1.0
    qtbot.keyClick(slider, Qt.Key.Key_Left)
    assert document.settings.guidance is None and slider.value() == 0


def test_a_soundfont_is_shown_and_can_be_taken_back(rig: Rig) -> None:
    rig.shaping.use_soundfont(Path("/fonts/Hall.sf2"))
    assert rig.document.settings.soundfont == Path("/fonts/Hall.sf2")
    assert "Hall.sf2" in rig.shaping.soundfont.accessibleDescription()
    rig.shaping.no_soundfont_button.click()
    assert rig.document.settings.soundfont is None and not rig.shaping.no_soundfont_button.isEnabled()


def test_one_tool_at_a_time(qtbot: QtBot, rig: Rig) -> None:
    chosen: list[str] = []
    rig.shaping.tool_changed.connect(chosen.append)
    for name in TOOLS:
        rig.shaping.set_tool(name)
        assert [tool for tool, button in rig.shaping.drawing.tools.items() if button.isChecked()] == [name]
    assert chosen == list(TOOLS)


def test_drawn_curves_can_be_cleared_and_brought_back(rig: Rig) -> None:
    shaping, document = rig.shaping.drawing, rig.document
    assert not shaping.clear_button.isEnabled() and not shaping.undo_button.isEnabled()
    curve = Drawn("loudness", ((1.0, 40.0), (5.0, 90.0)))
    document.draw((curve,))
    assert shaping.drawn_text.text() == "Drawn: dynamics" and shaping.undo_button.isEnabled()
    shaping.clear_button.click()
    assert document.drawn == () and shaping.drawn_text.text() == "Nothing is drawn."
    assert "clear drawn curves" in shaping.undo_button.toolTip()
    shaping.undo_button.click()
    assert document.drawn == (curve,)
    shaping.redo_button.click()
    assert document.drawn == ()


def test_a_selection_is_performed_anew(qtbot: QtBot, rig: Rig) -> None:
    shaping, document = rig.shaping, rig.document
    assert not shaping.reroll_button.isEnabled()
    rig.timeline.select((4.0, 8.0))
    assert shaping.reroll_button.isEnabled()
    assert shaping.reroll_text.text() == "Bar 3, beat 1 to bar 5, beat 1"
    seed = int(shaping.reroll_seed.value())
    shaping.reroll_button.click()
    (reroll,) = document.current.settings.rerolls
    assert (reroll.start_sec, reroll.end_sec, reroll.seed) == (4.0, 8.0, seed)
    assert shaping.reroll_seed.value() != seed
    rig.timeline.select((10.0, 10.3))
    with qtbot.waitSignal(shaping.failed) as failed:
        shaping.reroll_button.click()
    assert failed.args[0].code == "settings.reroll" and len(document.takes) == 2


def test_play_it_like_a_performance(qtbot: QtBot, rig: Rig, tmp_path: Path) -> None:
    shaping = rig.shaping
    assert not shaping.like_button.isEnabled()
    path = write_midi(tmp_path / "mine.mid", [(60 + step % 12, 500) for step in range(24)])
    shaping.choose_like(path)
    shaping.amount.setValue(60)
    assert shaping.amount_text.text() == "60 %"
    shaping.like_button.click()
    settings = rig.document.current.settings
    assert settings.like == path and settings.like_amount == pytest.approx(0.6)
    assert rig.document.current.name == "like mine"
    qtbot.waitUntil(rig.rendered, timeout=WAIT)

"""The welcome page: real checks of this computer, what its buttons ask for, and what is dropped on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PyQt6.QtCore import QMimeData, QPointF, Qt, QUrl
from PyQt6.QtGui import QDropEvent, QGuiApplication
from PyQt6.QtWidgets import QPushButton

from gui.preferences_store import Preferences
from gui.start_checks import Finding
from gui.theme import theme
from gui.welcome import ActionCard, WelcomePage
from tests.live_midi import keyboard, midi_server


@pytest.fixture
def page(qtbot, toy_bundle):
    store = Preferences(environment={"PKONTEXT_BUNDLE": str(toy_bundle)})
    made = WelcomePage(store=store)
    qtbot.addWidget(made)
    made.resize(1280, 760)
    return made


def test_checks_run_when_it_is_shown_and_find_sound_keyboard_piano_and_model(qtbot, page) -> None:
    with midi_server(), keyboard(client="Stage piano"):
        with qtbot.waitSignal(page.checked, timeout=30_000) as signal:
            page.show()
        assert signal.args == [True]
        found = {name: row.finding for name, row in page._rows.items()}
        assert {finding.state for finding in found.values()} == {"good"}
        assert "Stage piano" in found["midi"].text and "JACK" in found["audio"].text
        assert "verified" in found["model"].text
        assert not any(row.fix.isVisibleTo(page) for row in page._rows.values())


def test_what_is_missing_is_said_with_what_to_do_and_a_button_that_helps(
    qtbot, page, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    page._store = Preferences(environment={"PKONTEXT_BUNDLE": str(tmp_path)})
    with qtbot.waitSignal(page.checked, timeout=30_000) as signal:
        page.show()
    assert signal.args == [False]
    model, midi = page._rows["model"], page._rows["midi"]
    assert model.finding.state == "wrong" and str(tmp_path) in model.finding.text and model.finding.hint
    assert midi.finding.state != "good" and midi.finding.hint
    assert model.finding.hint in model.accessibleName() and "not working" in model.accessibleName()
    with qtbot.waitSignal(page.preferences_requested) as asked:
        model.fix.click()
    assert asked.args == ["model"]


def test_an_install_command_can_be_copied(page) -> None:
    row = page._rows["piano"]
    row.show_finding(Finding("wrong", "FluidSynth is missing.", "Install it.", "sudo apt-get install x"))
    assert row.fix.isVisibleTo(page)
    row.fix.click()
    assert QGuiApplication.clipboard().text() == "sudo apt-get install x"


def test_the_three_actions_are_reached_by_keyboard(qtbot, page) -> None:
    cards = page.findChildren(ActionCard)
    assert len(cards) == 3 and all(card.accessibleName() for card in cards)
    for card, signal in zip(
        cards, (page.demo_requested, page.open_requested, page.record_requested), strict=True
    ):
        with qtbot.waitSignal(signal):
            qtbot.keyClick(card, Qt.Key.Key_Return)
        with qtbot.waitSignal(signal):
            qtbot.keyClick(card, Qt.Key.Key_Space)


def test_recent_files_open_by_click_and_key_and_long_names_stay_inside(qtbot, page) -> None:
    paths = [Path("/music/a.mid"), Path("/" + "long/" * 40) / ("name" * 40 + ".mid")]
    page.set_recent(paths)
    assert page.recent.count() == 2 and page.recent.isVisibleTo(page)
    with qtbot.waitSignal(page.open_requested) as opened:
        page.recent.itemClicked.emit(page.recent.item(1))
    assert opened.args == [paths[1]]
    assert page.recent.item(1).toolTip() == str(paths[1])
    page.set_recent([])
    assert not page.recent.isVisibleTo(page)


def test_music_can_be_dropped_and_other_files_cannot(qtbot, page) -> None:
    def drop(name: str) -> QDropEvent:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(name)])
        page._held = data  # Qt keeps no reference
        no = Qt.KeyboardModifier.NoModifier
        return QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, no)

    with qtbot.waitSignal(page.open_requested) as opened:
        page.dropEvent(drop("/music/piece.MID"))
    assert opened.args == [Path("/music/piece.MID")]
    with qtbot.assertNotEmitted(page.open_requested):
        page.dropEvent(drop("/music/letter.odt"))


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("name", ["light", "dark"])
def test_it_fits_a_narrow_and_a_wide_window_in_both_themes(qtbot, page, width, name) -> None:
    theme.use(name)
    try:
        page.resize(width, 700)
        page.set_recent([Path("/music/a.mid")])
        page.show()
        qtbot.wait(50)
        for button in page.findChildren(QPushButton) + page.findChildren(ActionCard):
            if button.isVisibleTo(page):
                right = button.mapTo(page.widget(), button.rect().topRight()).x()
                assert right <= page.viewport().width()
        picture = page.grab().toImage()
        background = picture.pixelColor(2, 2).lightness()
        assert background > 200 if name == "light" else background < 60
    finally:
        theme.use("system")
    if page._checking:
        qtbot.waitSignal(page.checked, timeout=30_000).wait()

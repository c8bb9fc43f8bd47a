"""Banner, error dialog, shortcuts and about box say what they are given, and are used by keyboard."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from PyQt6 import sip
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QGuiApplication
from PyQt6.QtWidgets import QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from gui import message
from gui.about import AboutDialog
from gui.parts import run
from gui.shortcuts_dialog import ShortcutsDialog
from pkontext.bundle import open_bundle
from pkontext.errors import DeviceError, PkError

LOST = DeviceError("device.lost", "The audio output USB is gone; playback has paused.", "Connect it again.")


@pytest.fixture
def window(qtbot):
    made = QWidget()
    column = QVBoxLayout(made)
    column.setContentsMargins(0, 0, 0, 0)
    made.banner = message.Banner(made)
    column.addWidget(made.banner)
    column.addWidget(QWidget(), 1)
    qtbot.addWidget(made)
    made.resize(1000, 400)
    made.show()
    return made


def test_a_banner_is_hidden_until_it_says_both_sentences_and_offers_actions(qtbot, window) -> None:
    banner, pressed = window.banner, []
    assert not banner.isVisible()
    banner.show_error(LOST, [("Choose", lambda: pressed.append("choose")), ("Play on", lambda: None)])
    assert banner.isVisible() and banner.text == f"{LOST.message} {LOST.hint}"
    assert banner.accessibleName() == banner.text
    assert [button.text() for button in banner.buttons] == ["Choose", "Play on"]
    qtbot.keyClick(banner.buttons[0], Qt.Key.Key_Space)
    assert pressed == ["choose"] and banner.isVisible()
    banner.show_text("Fine again.", "good")
    assert banner.buttons == [] and banner.kind == "good"
    with qtbot.waitSignal(banner.dismissed):
        banner._close.click()
    assert not banner.isVisible()


def test_a_banner_is_low_where_it_is_wide_and_puts_buttons_below_where_it_is_narrow(qtbot, window) -> None:
    window.banner.show_error(LOST, [("Choose", lambda: None)])
    qtbot.wait(20)
    line = window.fontMetrics().height()
    assert window.banner.height() < 4 * line
    window.resize(360, 400)
    qtbot.wait(20)
    button, text = window.banner.buttons[0], window.banner._text
    assert button.geometry().top() >= text.geometry().bottom()
    assert button.geometry().right() <= window.banner.width()


def test_an_error_dialog_shows_both_sentences_to_select_and_copy_and_blocks_nothing(qtbot, window) -> None:
    error = PkError("midi.bad", "The file <b>x.mid</b> is damaged.", "Export it again.")
    dialog = message.show_error(window, error)
    assert not dialog.isModal()
    labels = {label.text(): label for label in dialog.findChildren(QLabel)}
    for sentence in (error.message, error.hint):
        assert labels[sentence].textFormat() == Qt.TextFormat.PlainText
        assert labels[sentence].textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
    assert not [b for b in dialog.findChildren(QPushButton) if "log" in b.text()]
    dialog.copy()
    assert error.message in QGuiApplication.clipboard().text()
    assert error.hint in QGuiApplication.clipboard().text()
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)


def test_a_bug_offers_its_log_folder_and_keeps_a_long_report_in_a_box(window) -> None:
    trace = "\n".join(f"line {number}" for number in range(60))
    dialog = message.show_error(window, PkError("internal", "A bug.", f"Please report it:\n{trace}"))
    assert [b for b in dialog.findChildren(QPushButton) if "log" in b.text()]
    (box,) = dialog.findChildren(QPlainTextEdit)
    assert "line 59" in box.toPlainText() and box.isReadOnly()
    assert dialog.sizeHint().height() < 600
    dialog.close()


def test_shortcuts_are_listed_and_filtered_by_words_and_keys(qtbot) -> None:
    rows = [("Transport", "Play or pause", "Space"), ("Edit", "Undo", "Ctrl+Z"), ("Edit", "Redo", "Ctrl+Y")]
    dialog = ShortcutsDialog(rows)
    qtbot.addWidget(dialog)

    def shown() -> list[str]:
        table = dialog.table
        return [table.item(row, 1).text() for row in range(table.rowCount()) if not table.isRowHidden(row)]

    assert shown() == ["Play or pause", "Undo", "Redo"]
    qtbot.keyClicks(dialog.filter, "edit ctrl+z")
    assert shown() == ["Undo"]
    dialog.filter.setText("nothing like that")
    assert shown() == [] and dialog._nothing.isVisibleTo(dialog)


def test_about_names_version_model_and_licences(qtbot, toy_bundle) -> None:
    import pkontext

    bundle = open_bundle(toy_bundle)
    dialog = AboutDialog(bundle)
    qtbot.addWidget(dialog)
    assert bundle.manifest.id in dialog.model.text() and bundle.sha256 in dialog.model.text()
    table = dialog.licences
    licences = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}
    assert licences["Code"] == "GPL-3.0-or-later" and licences["Demo piece"] == "CC0-1.0"
    assert licences["Soundfont FluidR3 (piano)"] == "MIT" and "Trained networks" in licences
    dialog.copy()
    assert pkontext.__version__ in QGuiApplication.clipboard().text()
    without = AboutDialog(None)
    qtbot.addWidget(without)
    assert "No model" in without.model.text()


def test_work_that_is_over_is_forgotten_and_lost_widgets_are_not_called(qtbot) -> None:
    owner, told = QWidget(), []
    watched = weakref.ref(run(owner, "first", lambda _: 1, told.append))
    qtbot.waitUntil(lambda: told == [1], timeout=5000)
    qtbot.wait(20)
    gc.collect()
    assert watched() is None
    go, asked = threading.Event(), []
    run(owner, "second", lambda operation: (go.wait(5), asked.append(operation.cancelled())), told.append)
    sip.delete(owner)
    go.set()
    qtbot.waitUntil(lambda: asked == [True], timeout=5000)
    qtbot.wait(20)
    assert told == [1]

"""The whole app in one window, with the real player: opening, playing, closing, and never standing still."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QMimeData, QPointF, QSettings, Qt, QTimer, QUrl
from PyQt6.QtGui import QDragEnterEvent, QDropEvent
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QMessageBox,
    QWidget,
)
from pytestqt.qtbot import QtBot

from gui.app import make_window
from gui.main_window import DEMO, MainWindow
from gui.theme import theme
from pkontext.errors import DeviceError, InputError, PkError
from pkontext.output import NullOutput
from tests.conftest import REPOSITORY


@pytest.fixture
def settings(tmp_path: Path) -> QSettings:
    return QSettings(str(tmp_path / "app.ini"), QSettings.Format.IniFormat)


@pytest.fixture
def window(
    qtbot: QtBot, toy_bundle: Path, settings: QSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MainWindow]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the app installs one of its own
    before = set(threading.enumerate())
    window = make_window(toy_bundle, NullOutput, settings)
    window.show()
    yield window
    window.document.set_saved()
    window.close()
    qtbot.waitUntil(lambda: not _left(before), timeout=10_000)


def _left(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads of ours that should have ended."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith("pkontext") and thread.is_alive()
    ]


def opened(qtbot: QtBot, window: MainWindow, path: Path) -> None:
    window.open_path(path)
    qtbot.waitUntil(lambda: window.document.score is not None, timeout=20_000)


def rendered(qtbot: QtBot, window: MainWindow) -> None:
    document = window.document
    qtbot.waitUntil(
        lambda: (live := document.live()) is not None and live.audio[document.voice].done, timeout=60_000
    )


def test_a_piece_opens_plays_and_seeks(qtbot: QtBot, window: MainWindow, long_midi_file: Path) -> None:
    assert window.pages.currentWidget() is window.welcome
    opened(qtbot, window, long_midi_file)
    assert window.pages.currentWidget() is window.view and "long" in window.windowTitle()
    QTest.keyClick(window, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: window.timeline.playhead > 0.3, timeout=30_000)
    QTest.keyClick(window, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: window.client.status.deck.state == "paused", timeout=5_000)
    rendered(qtbot, window)
    QTest.keyClick(window, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: window.timeline.playhead < 0.05, timeout=5_000)
    for _ in range(3):
        QTest.keyClick(window, Qt.Key.Key_Right)
        qtbot.wait(120)
    qtbot.waitUntil(lambda: abs(window.timeline.playhead - 6.0) < 0.1, timeout=5_000)
    QTest.keyClick(window, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: abs(window.timeline.playhead - 4.0) < 0.1, timeout=5_000)
    QTest.keyClick(window, Qt.Key.Key_C)
    qtbot.waitUntil(lambda: window.client.status.deck.voice == "deadpan", timeout=20_000)
    QTest.keyClick(window, Qt.Key.Key_2)
    qtbot.waitUntil(lambda: window.client.status.deck.voice == "sampler", timeout=20_000)


def test_the_window_never_stands_still_while_rendering(
    qtbot: QtBot, window: MainWindow, long_midi_file: Path
) -> None:
    """A timer of 5 ms sees how long the Qt thread was busy, while a long piece is rendered and played."""
    gaps: list[float] = []
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    opened(qtbot, window, long_midi_file)
    window.show_panel(0)
    qtbot.wait(700)  # the views are laid out and painted for the first time
    window.document.generate()
    window.client.play()
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    last[0] = time.perf_counter()
    timer.start(5)
    qtbot.wait(4000)
    timer.stop()
    gaps.sort()
    assert len(gaps) > 100
    # Another program may take the processor for a moment; we may not.
    assert gaps[int(0.99 * len(gaps))] < 0.05, (
        f"1 % of the gaps are longer than {gaps[int(0.99 * len(gaps))]:.3f} s"
    )


def test_files_that_cannot_be_opened_are_said(
    qtbot: QtBot, window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[PkError] = []
    monkeypatch.setattr("gui.message.show_error", lambda parent, error: shown.append(error))
    (tmp_path / "broken.mid").write_bytes(b"MThd nonsense")
    for name, code in (("broken.mid", "midi."), ("missing.mid", "midi.missing"), ("a.txt", "file.kind")):
        window.open_path(tmp_path / name)
        qtbot.waitUntil(lambda: bool(shown), timeout=10_000)
        assert isinstance(shown[0], InputError) and shown.pop().code.startswith(code)
    assert window.document.score is None and window.pages.currentWidget() is window.welcome


def test_the_demo_sounds_soon_after_the_first_start(qtbot: QtBot, window: MainWindow) -> None:
    """One button, and there is music."""
    begun = time.monotonic()
    window.welcome.demo_requested.emit()
    qtbot.waitUntil(lambda: window.timeline.playhead > 0.2, timeout=60_000)
    assert window.client.status.deck.state == "playing" and time.monotonic() - begun < 60
    assert window.document.title == "demo"


def test_a_dropped_file_opens(qtbot: QtBot, window: MainWindow, midi_file: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(midi_file))])
    actions, buttons, keys = (
        Qt.DropAction.CopyAction,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    enter = QDragEnterEvent(window.rect().center(), actions, data, buttons, keys)
    window.dragEnterEvent(enter)
    assert enter.isAccepted()
    window.dropEvent(QDropEvent(QPointF(window.rect().center()), actions, data, buttons, keys))
    qtbot.waitUntil(lambda: window.document.score is not None, timeout=20_000)
    other = QMimeData()
    other.setUrls([QUrl.fromLocalFile("/nowhere/picture.png")])
    refused = QDragEnterEvent(window.rect().center(), actions, other, buttons, keys)
    refused.ignore()
    window.dragEnterEvent(refused)
    assert not refused.isAccepted()


def test_a_project_comes_back_as_it_was(
    qtbot: QtBot, window: MainWindow, midi_file: Path, tmp_path: Path
) -> None:
    opened(qtbot, window, midi_file)
    rendered(qtbot, window)
    second = window.document.generate()
    window.document.rename(second, "The one")
    window.document.star(second, True)
    assert window.isWindowModified()
    assert window._save_to(tmp_path / "etude.pkproj") and not window.isWindowModified()
    assert window.document.path == tmp_path / "etude.pkproj"
    window.open_path(DEMO)
    qtbot.waitUntil(lambda: window.document.title != "piece", timeout=20_000)
    window.document.set_saved()
    window.open_path(tmp_path / "etude.pkproj")
    qtbot.waitUntil(lambda: len(window.document.takes) == 2, timeout=20_000)
    assert [take.name for take in window.document.takes] == ["Take 1", "The one"]
    assert window.document.takes[1].starred and window.document.current.name == "The one"
    rendered(qtbot, window)
    assert window.document.live().rendering.settings.seed == 1
    assert next(action.text() for action in window.menus.recent.actions()) == "etude.pkproj"


@pytest.mark.parametrize(
    ("answer", "closes"),
    [(QMessageBox.StandardButton.Cancel, False), (QMessageBox.StandardButton.Discard, True)],
)
def test_unsaved_work_is_asked_for(
    qtbot: QtBot,
    window: MainWindow,
    midi_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: QMessageBox.StandardButton,
    closes: bool,
) -> None:
    opened(qtbot, window, midi_file)
    window.document.generate()
    asked: list[str] = []
    monkeypatch.setattr(QMessageBox, "exec", lambda box: asked.append(box.text()) or answer)
    assert window.close() == closes and len(asked) == 1 and "piece" in asked[0]


def test_lost_devices_are_said_in_the_banner(qtbot: QtBot, window: MainWindow) -> None:
    window.client.failed.emit(DeviceError("device.lost", "The audio output X is gone.", "Choose another."))
    assert window.banner.isVisible() and "X is gone" in window.banner.text
    assert window.banner.buttons[0].text()


def test_everything_can_be_reached_and_has_a_name(qtbot: QtBot, window: MainWindow, midi_file: Path) -> None:
    """Each control has text, a tooltip or an accessible name; shortcuts do not collide."""
    opened(qtbot, window, midi_file)
    nameless = []
    for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider):
        for control in window.findChildren(kind):
            if control.objectName().startswith("qt_") or _inside_another(control):
                continue
            text = control.text() if isinstance(control, QAbstractButton) else ""
            if not (text or control.accessibleName() or control.toolTip()):
                nameless.append(f"{type(control).__name__} in {type(control.parent()).__name__}")
    assert nameless == []
    keys = [keys for _, _, keys in window.menus.rows]
    assert len(keys) == len(set(keys)) and {
        "Space",
        "Home",
        "Ctrl+O",
        "Ctrl+S",
        "Ctrl+E",
        "Ctrl+Z",
        "F1",
        "R",
    } <= set(keys)


def _inside_another(control: QWidget) -> bool:
    """Whether a control is a part of a composed one, such as a scroll bar of a list."""
    parent = control.parentWidget()
    while parent is not None:
        if parent.objectName().startswith("qt_") or "ScrollArea" in type(parent).__name__:
            return True
        if isinstance(parent, QComboBox | QAbstractSpinBox) or parent.inherits("QAbstractScrollArea"):
            return True
        parent = parent.parentWidget()
    return control.inherits("QScrollBar")


def test_the_layout_is_remembered(
    qtbot: QtBot, window: MainWindow, midi_file: Path, settings: QSettings, toy_bundle: Path
) -> None:
    opened(qtbot, window, midi_file)
    window.resize(780, 610)
    window.dock.hide()
    size = window.size()
    window.document.set_saved()
    window.close()
    again = make_window(toy_bundle, NullOutput, settings)
    again.show()
    remembered = again.size(), again._panels_wanted
    again.close()
    assert remembered == (size, False)


def test_both_themes_and_a_small_screen(qtbot: QtBot, window: MainWindow, midi_file: Path) -> None:
    opened(qtbot, window, midi_file)
    rendered(qtbot, window)
    pictures = {}
    for name in ("light", "dark"):
        theme.use(name)
        window.resize(1024, 640)
        qtbot.wait(100)
        image = window.grab().toImage()
        pictures[name] = image.pixelColor(window.width() // 3, window.height() // 2).lightness()
        assert window.minimumSizeHint().width() <= 1024 and window.minimumSizeHint().height() <= 640
    assert pictures["light"] > 150 and pictures["dark"] < 100
    theme.use("light")


def test_the_window_is_there_soon(tmp_path: Path, toy_bundle: Path) -> None:
    """From the start of a new process to a visible window, in processor time of this machine."""
    code = (
        "import time; begun = time.perf_counter()\n"
        "import sys, resource\n"
        "from PyQt6.QtCore import QSettings, QTimer\n"
        "from pathlib import Path\n"
        "from gui.app import make_application, make_window\n"
        "from pkontext.output import NullOutput\n"
        "application = make_application()\n"
        f"store = QSettings({str(tmp_path / 'a.ini')!r}, QSettings.Format.IniFormat)\n"
        f"window = make_window(Path({str(toy_bundle)!r}), NullOutput, store)\n"
        "window.show(); application.processEvents()\n"
        "seconds = time.perf_counter() - begun\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = [name in sys.modules for name in ('torch', 'scipy.signal')]\n"
        "print(seconds, used.ru_utime + used.ru_stime, *heavy)\n"
        "window.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True, timeout=120
    )
    seconds, used, torch, scipy = done.stdout.split()
    assert torch == scipy == "False"
    assert min(float(seconds), float(used)) < 2.0

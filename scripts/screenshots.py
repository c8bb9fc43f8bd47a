"""Pictures of every view of the desktop app, with the built-in model.

``python scripts/screenshots.py [folder]`` runs without a screen: it opens the demo, plays, shapes, and saves
what the window shows.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PyQt6.QtCore import QSettings, QSize
from PyQt6.QtWidgets import QApplication, QWidget

from gui.app import make_application, make_window
from gui.theme import theme
from pkontext.drawn import Drawn
from pkontext.output import NullOutput

SIZE = QSize(1280, 800)


def main(folder: Path) -> int:
    """Make all pictures; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        application = make_application()
        settings = QSettings(str(Path(home) / "app.ini"), QSettings.Format.IniFormat)
        window = make_window(None, NullOutput, settings)
        window.resize(SIZE)
        window.show()
        pictures(application, window, folder)
        window.document.set_saved()
        window.close()
    return 0


def pictures(application: QApplication, window, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """Walk through the views."""

    def save(name: str, widget: QWidget | None = None) -> None:
        settle(application)
        (widget or window).grab().save(str(folder / f"{name}.png"))

    document, client = window.document, window.client
    theme.use("light")
    settle(application, 2.0)
    save("welcome")
    window.open_demo()
    wait(application, lambda: document.live() is not None and document.live().audio["neural"].done)
    wait(application, lambda: window.timeline.playhead > 6)
    window.timeline.select((14.0, 22.0))
    save("main")
    window.show_panel(1)
    document.draw((Drawn("tempo", ((4.0, 1.0), (8.0, 1.12), (13.0, 0.85), (16.0, 1.0))),))
    wait(application, lambda: document.live() is not None and document.live().audio["neural"].done)
    save("shaping")
    window.show_panel(0)
    document.rename(document.takes[-1], "With rubato")
    document.star(document.takes[-1], True)
    document.generate()
    wait(application, lambda: document.live() is not None and document.live().audio["neural"].done)
    theme.use("dark")
    save("main-dark")
    theme.use("light")
    client.pause()
    window.show_panel(2)
    settle(application, 1.0)
    save("live")
    window.export()
    settle(application, 0.5)
    save("export", window.export_dialog)
    window.export_dialog.reject()
    window.preferences("audio")
    settle(application, 0.5)
    save("preferences", window.preferences_dialog)
    window.preferences_dialog.reject()
    window.shortcuts()
    save("shortcuts", window.shortcuts_dialog)
    window.shortcuts_dialog.reject()


def settle(application: QApplication, seconds: float = 0.3) -> None:
    """Let the window paint."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        application.processEvents()
        time.sleep(0.005)


def wait(application: QApplication, condition: Callable[[], bool], limit_sec: float = 120.0) -> None:
    """Let the program run until something is true."""
    end = time.monotonic() + limit_sec
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("screenshots: nothing happened for two minutes")
        application.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/screenshots")))

"""The program: one application, one window."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from PyQt6.QtCore import QSettings, Qt, QTimer
from PyQt6.QtWidgets import QApplication

from gui import errors, message
from gui.client import PlayerClient
from gui.theme import theme
from pkontext import __version__
from pkontext.output import NullOutput
from pkontext.player import OutputFactory

#: The player's thread must not wait long for the interpreter while the window paints.
_SWITCH_SEC = 0.001


def main(arguments: list[str] | None = None) -> int:
    """Run the app until its window is closed; returns the exit code."""
    parser = argparse.ArgumentParser(prog="pkontext gui", description="The PianoKontext desktop app.")
    parser.add_argument("file", nargs="?", type=Path, help="a MIDI file or a project to open")
    parser.add_argument("--bundle", type=Path, help="folder of the model, instead of the chosen one")
    parser.add_argument("--silent", action="store_true", help="play to nowhere: for a computer without sound")
    options = parser.parse_args(arguments)
    application = make_application()
    window = make_window(options.bundle, NullOutput if options.silent else None)
    window.show()
    if options.file is not None:
        QTimer.singleShot(0, lambda: window.open_path(options.file))
    code = application.exec()
    with contextlib.suppress(Exception):
        window.client.close()
    return code


def make_application() -> QApplication:
    """The application object, with its name, and errors shown instead of lost."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    sys.setswitchinterval(_SWITCH_SEC)
    QApplication.setHighDpiScaleFactorRoundingPolicy(Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    application = QApplication(sys.argv[:1])
    application.setApplicationName("PianoKontext")
    application.setOrganizationName("PianoKontext")
    application.setApplicationVersion(__version__)
    application.setDesktopFileName("pianokontext")
    return application


def make_window(
    bundle: Path | None = None, open_output: OutputFactory | None = None, store: QSettings | None = None
):  # type: ignore[no-untyped-def]
    """The main window, by the preferences.

    Parameters
    ----------
    bundle : Path or None
        Instead of the one of the preferences.
    open_output : OutputFactory or None
        Instead of the device of the preferences.
    store : QSettings or None
        Where preferences and layout are kept; the user's own if left out.
    """
    from gui.main_window import MainWindow
    from gui.preferences_store import Preferences

    settings = QSettings() if store is None else store
    preferences = Preferences(settings, flags={} if bundle is None else {"bundle": bundle})
    theme.use(preferences.theme)
    output = open_output or preferences.output()
    client = PlayerClient(preferences.bundle, output, preferences.threads, preferences.provider)
    window = MainWindow(client, preferences, settings)
    errors.install(lambda error: message.show_error(window, error))
    return window

"""The menus of the main window, and the list of shortcuts that the shortcuts dialog shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PyQt6.QtGui import QAction, QKeySequence
from PyQt6.QtWidgets import QMenu

if TYPE_CHECKING:
    from gui.main_window import MainWindow

#: Text, what it does, shortcut, and what the status bar says of it.
Row = tuple[str, Callable[[], Any], str, str]


class Menus:
    """Makes the menus; keeps what has to be found again.

    Attributes
    ----------
    rows : list of (str, str, str)
        Menu, action and keys of everything that has a shortcut.
    recent : QMenu
        The files opened lately, filled by the window.
    follow : QAction
        Whether the page follows the playhead.
    """

    def __init__(self, window: MainWindow) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self._window = window
        self.recent = QMenu(window.tr("Open &recent"), window)
        self._file()
        self._edit()
        self._transport()
        self.follow = self._view()
        self._live()
        self._help()

    def _file(self) -> None:
        w = self._window
        menu = self._menu(w.tr("&File"))
        self._fill(menu, [(w.tr("&Open..."), w.open_dialog, "Ctrl+O", w.tr("Open a MIDI file or a project"))])
        menu.addMenu(self.recent)
        self._fill(
            menu,
            [
                (w.tr("Open the &demo"), w.open_demo, "", w.tr("Open the bundled piece, and play it")),
                (w.tr("&Save project"), w.save, "Ctrl+S", w.tr("Save score, takes and curves")),
                (w.tr("Save project &as..."), w.save_as, "Ctrl+Shift+S", ""),
                (w.tr("&Export..."), w.export, "Ctrl+E", w.tr("Write takes as WAV, FLAC or MIDI")),
                (w.tr("&Preferences..."), w.preferences, "Ctrl+,", ""),
                (w.tr("&Quit"), w.close, "Ctrl+Q", ""),
            ],
        )

    def _edit(self) -> None:
        w = self._window
        menu = self._menu(w.tr("&Edit"))
        stack = w.document.undo_stack
        for action, text, keys in (
            (stack.createUndoAction(w, w.tr("&Undo")), w.tr("Undo"), "Ctrl+Z"),
            (stack.createRedoAction(w, w.tr("&Redo")), w.tr("Redo"), "Ctrl+Shift+Z"),
        ):
            assert action is not None
            action.setShortcut(QKeySequence(keys))
            menu.addAction(action)
            self.rows.append((w.tr("Edit"), text, keys))
        menu.addSeparator()
        self._fill(
            menu,
            [
                (w.tr("Select &all"), w.select_all, "Ctrl+A", ""),
                (w.tr("Select &nothing"), w.select_nothing, "Esc", ""),
            ],
        )

    def _transport(self) -> None:
        w = self._window
        self._fill(
            self._menu(w.tr("&Transport")),
            [
                (w.tr("&Play or pause"), w.client.toggle, "Space", ""),
                (w.tr("&Stop"), w.client.stop, ".", ""),
                (w.tr("To the &beginning"), w.to_beginning, "Home", ""),
                (w.tr("A bar back"), w.bar_back, "Left", ""),
                (w.tr("A bar forward"), w.bar_forward, "Right", ""),
                (w.tr("&Loop the selection"), w.transport.toggle_loop, "L", ""),
                (w.tr("&Compare with the score as written"), w.transport.compare, "C", ""),
                (w.tr("Neural &voice"), w.neural_voice, "1", ""),
                (w.tr("Sampler v&oice"), w.sampler_voice, "2", ""),
                (w.tr("&Another take"), w.document.generate, "N", ""),
            ],
        )

    def _view(self) -> QAction:
        w = self._window
        menu = self._menu(w.tr("&View"))
        self._fill(
            menu,
            [
                (w.tr("Zoom &in"), w.view.zoom_in, "Ctrl++", ""),
                (w.tr("Zoom &out"), w.view.zoom_out, "Ctrl+-", ""),
                (w.tr("&Whole piece"), w.view.zoom_fit, "Ctrl+0", ""),
            ],
        )
        follow = self._fill(menu, [(w.tr("&Follow the playhead"), w.toggle_follow, "F", "")])[0]
        follow.setCheckable(True)
        follow.setChecked(True)
        menu.addSeparator()
        panels = w.dock.toggleViewAction()
        assert panels is not None
        panels.setText(w.tr("&Panels"))
        panels.setShortcut(QKeySequence("F9"))
        menu.addAction(panels)
        self.rows.append((w.tr("View"), w.tr("Panels"), "F9"))
        names = (w.tr("&Takes"), w.tr("&Shape"), w.tr("&Live"))
        self._fill(
            menu,
            [
                (name, lambda number=number: w.show_panel(number), f"Alt+{number + 1}", "")
                for number, name in enumerate(names)
            ],
        )
        return follow

    def _live(self) -> None:
        w = self._window
        self._fill(
            self._menu(w.tr("&Live")),
            [
                (w.tr("&Record"), w.record, "R", w.tr("Record from the MIDI keyboard")),
                (
                    w.tr("&Keep what I just played"),
                    w.keep,
                    "K",
                    w.tr("Take the last five minutes of playing"),
                ),
                (w.tr("All notes &off"), w.live.panic, "Ctrl+.", ""),
            ],
        )

    def _help(self) -> None:
        w = self._window
        self._fill(
            self._menu(w.tr("&Help")),
            [
                (w.tr("&Shortcuts"), w.shortcuts, "F1", ""),
                (w.tr("&Welcome page"), w.show_welcome, "", ""),
                (w.tr("&About PianoKontext"), w.about, "", ""),
            ],
        )

    def _menu(self, title: str) -> QMenu:
        bar = self._window.menuBar()
        made = bar.addMenu(title) if bar is not None else None
        assert made is not None
        return made

    def _fill(self, menu: QMenu, rows: Sequence[Row]) -> list[QAction]:
        """Add actions; those with a shortcut are listed in `rows`."""
        made = []
        for name, run, keys, tip in rows:
            action = QAction(name, self._window)
            action.triggered.connect(_without_arguments(run))
            action.setStatusTip(tip)
            if keys:
                sequence = QKeySequence(keys)
                action.setShortcut(sequence)
                text = name.replace("&", "").rstrip(".")
                self.rows.append((menu.title().replace("&", ""), text, sequence.toString()))
            menu.addAction(action)
            made.append(action)
        return made


def mouse_rows(window: MainWindow) -> list[tuple[str, str, str]]:
    """What the mouse does in the views, for the shortcuts dialog."""
    tr, name = window.tr, window.tr("Mouse")
    return [
        (name, tr("Go to a place"), tr("click in a view, drag in the ruler")),
        (name, tr("Select"), tr("drag in a view; Alt: without snapping")),
        (name, tr("Select a bar"), tr("double click")),
        (name, tr("Loop a range"), tr("Shift and drag in the ruler")),
        (name, tr("Zoom"), tr("Ctrl and wheel")),
        (name, tr("Move around"), tr("wheel, Shift and wheel, middle button")),
        (name, tr("Draw"), tr("choose a tool, drag in its lane; Shift: straight")),
    ]


def _without_arguments(run: Callable[[], Any]) -> Callable[..., None]:
    """Qt's triggered signal says whether an action is checked, which nobody here wants to know."""

    def call(*_: object) -> None:
        run()

    return call

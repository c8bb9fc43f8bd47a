"""The preferences: pages on the left, OK, Cancel and Apply below.

What is harmless is heard and seen at once: the theme. Everything else waits for OK or Apply; Cancel takes
back what was shown.
"""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import QSize, Qt
from PyQt6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.model_page import ModelPage
from gui.parts import GRID
from gui.preferences_pages import AppearancePage, AudioPage, MidiPage, Page, PerformancePage
from gui.preferences_store import Preferences
from gui.theme import theme

PAGES = ("audio", "midi", "model", "performance", "appearance")


class PreferencesDialog(QDialog):
    """Edits a store.

    Parameters
    ----------
    client : PlayerClient
        Goes over to another output at once.
    store : Preferences
    """

    def __init__(self, client: PlayerClient, store: Preferences, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.client, self.store = client, store
        self.pending: dict[str, Any] = {}
        self.setWindowTitle(self.tr("Preferences"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.audio, self.midi = AudioPage(client, store), MidiPage(client, store)
        self.model = ModelPage(client, store)
        self.performance = PerformancePage(client, store)
        self.appearance = AppearancePage(client, store)
        self._pages: list[Page] = [self.audio, self.midi, self.model, self.performance, self.appearance]
        self.list = QListWidget()
        self.list.setAccessibleName(self.tr("Pages"))
        self._stack = QStackedWidget()
        for page in self._pages:
            item = QListWidgetItem(page.accessibleName())
            item.setSizeHint(QSize(0, self.fontMetrics().height() + 2 * GRID))
            self.list.addItem(item)
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QFrame.Shape.NoFrame)
            area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            area.setWidget(page)
            self._stack.addWidget(area)
            page.edited.connect(self._edit)
        widest = max(self.fontMetrics().horizontalAdvance(page.accessibleName()) for page in self._pages)
        self.list.setFixedWidth(widest + 5 * GRID)
        self.list.setSpacing(2)
        self.list.currentRowChanged.connect(self._open_page)
        self._buttons = self._make_buttons()
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(self.list)
        row.addWidget(self._stack, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        column.setSpacing(2 * GRID)
        column.addLayout(row, 1)
        column.addWidget(self._buttons)
        unit, line = self.fontMetrics().averageCharWidth(), self.fontMetrics().height()
        self.resize(unit * 118, line * 34)
        self._show_pending()
        self.show_page("audio")

    def show_page(self, name: str) -> None:
        """Open a page of `PAGES`; the first for any other name."""
        self.list.setCurrentRow(PAGES.index(name) if name in PAGES else 0)

    def apply(self) -> None:
        """Keep all edits, and use those that can be used now."""
        pending, self.pending = self.pending, {}
        for name, value in pending.items():
            self.store.set(name, value)
        if {"device", "latency"} & set(pending):
            output = self.store.output()
            self.client.send(lambda player: player.use_output(output))
        if "theme" in pending:
            theme.use(self.store.theme)
        self._show_pending()

    def accept(self) -> None:
        """Apply and close."""
        self.apply()
        super().accept()

    def reject(self) -> None:
        """Close, and take back what was only shown."""
        if "theme" in self.pending:
            theme.use(self.store.theme)
        self.pending = {}
        super().reject()

    def _make_buttons(self) -> QDialogButtonBox:
        kinds = QDialogButtonBox.StandardButton
        box = QDialogButtonBox(kinds.Ok | kinds.Cancel | kinds.Apply)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        apply = box.button(kinds.Apply)
        assert apply is not None
        apply.clicked.connect(self.apply)
        self.apply_button = apply
        return box

    def _edit(self, name: str, value: Any) -> None:
        if value == self.store.get(name):
            self.pending.pop(name, None)
        else:
            self.pending[name] = value
        if name == "theme":
            theme.use(value)
        self._show_pending()

    def _show_pending(self) -> None:
        self.apply_button.setEnabled(bool(self.pending))

    def _open_page(self, row: int) -> None:
        self._stack.setCurrentIndex(row)
        if self.isVisible():
            self._pages[row].shown()

    def showEvent(self, event: Any) -> None:
        """Look at devices only when somebody sees the page."""
        super().showEvent(event)
        self._pages[self._stack.currentIndex()].shown()

"""All keys on one page, with a filter."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from gui.parts import GRID, note


class ShortcutsDialog(QDialog):
    """A table of shortcuts.

    Parameters
    ----------
    rows : sequence of (str, str, str)
        Menu, what it does, and keys.
    """

    def __init__(self, rows: Sequence[tuple[str, str, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Shortcuts"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText(self.tr("Filter by words or keys"))
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName(self.tr("Filter"))
        self.filter.textChanged.connect(self._filter)
        self.table = self._make_table(rows)
        self._nothing = note(self.tr("No shortcut fits. Clear the filter to see all of them."))
        self._nothing.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        column.setSpacing(GRID)
        for widget in (self.filter, self._nothing, self.table, buttons):
            column.addWidget(widget)
        unit = self.fontMetrics().averageCharWidth()
        self.resize(unit * 80, min(unit * 95, self.fontMetrics().height() * 32))

    def _make_table(self, rows: Sequence[tuple[str, str, str]]) -> QTableWidget:
        table = QTableWidget(len(rows), 3)
        table.setAccessibleName(self.tr("Shortcuts"))
        table.setHorizontalHeaderLabels([self.tr("Menu"), self.tr("What it does"), self.tr("Keys")])
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setShowGrid(False)
        table.setAlternatingRowColors(True)
        table.setWordWrap(False)
        for row, words in enumerate(rows):
            for column, text in enumerate(words):
                item = QTableWidgetItem(text)
                if column == 2:
                    bold = item.font()
                    bold.setBold(True)
                    item.setFont(bold)
                table.setItem(row, column, item)
        sides, top = table.verticalHeader(), table.horizontalHeader()
        assert sides is not None and top is not None
        sides.hide()
        top.setHighlightSections(False)
        top.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column, mode in enumerate(
            (
                QHeaderView.ResizeMode.ResizeToContents,
                QHeaderView.ResizeMode.Stretch,
                QHeaderView.ResizeMode.ResizeToContents,
            )
        ):
            top.setSectionResizeMode(column, mode)
        return table

    def _filter(self, text: str) -> None:
        words = text.casefold().split()
        shown = 0
        for row in range(self.table.rowCount()):
            items = [self.table.item(row, column) for column in range(3)]
            line = " ".join(item.text() for item in items if item is not None).casefold()
            fits = all(word in line for word in words)
            shown += fits
            self.table.setRowHidden(row, not fits)
        self._nothing.setVisible(shown == 0)

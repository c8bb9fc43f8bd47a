"""Version, model and licences."""

from __future__ import annotations

import platform

from PyQt6.QtCore import PYQT_VERSION_STR, QT_VERSION_STR, Qt
from PyQt6.QtGui import QGuiApplication
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

import pkontext
from gui.parts import GRID, heading, note
from pkontext.bundle import Bundle


class AboutDialog(QDialog):
    """What this program is, which model performs, and on what terms.

    Parameters
    ----------
    bundle : Bundle or None
        None while the model is not open.
    """

    def __init__(self, bundle: Bundle | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("About PianoKontext"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._bundle = bundle
        column = QVBoxLayout(self)
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 2 * GRID)
        column.setSpacing(GRID)
        column.addWidget(heading("PianoKontext", 1.8))
        column.addWidget(QLabel(self.tr("Version {0}").format(pkontext.__version__)))
        column.addWidget(note(self.tr("Performs your notes like a pianist, on your own computer.")))
        column.addSpacing(GRID)
        self.model = note(self._model_text(), selectable=True)
        column.addWidget(heading(self.tr("Model"), 1.1))
        column.addWidget(self.model)
        column.addSpacing(GRID)
        column.addWidget(heading(self.tr("Licences"), 1.1))
        self.licences = self._make_licences()
        column.addWidget(self.licences, 1)
        column.addWidget(
            note(self.tr("The audio that you render is yours; mind the rights in the composition."))
        )
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        copy = buttons.addButton(self.tr("&Copy details"), QDialogButtonBox.ButtonRole.ActionRole)
        assert copy is not None
        copy.setToolTip(self.tr("Copy versions and model, for a report"))
        copy.clicked.connect(self.copy)
        buttons.rejected.connect(self.close)
        column.addWidget(buttons)
        unit = self.fontMetrics().averageCharWidth()
        self.resize(unit * 108, self.fontMetrics().height() * 38)

    def copy(self) -> None:
        """Put what a report needs on the clipboard."""
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(
                f"PianoKontext {pkontext.__version__}, Python {platform.python_version()}, "
                f"PyQt {PYQT_VERSION_STR}, Qt {QT_VERSION_STR}, {platform.platform()}\n{self._model_text()}"
            )

    def _model_text(self) -> str:
        if self._bundle is None:
            return self.tr("No model is open.")
        manifest = self._bundle.manifest
        return self.tr("{0}, version {1}, made {2}\nsha256 {3}\nin {4}").format(
            manifest.id, manifest.version, manifest.created[:10], self._bundle.sha256, self._bundle.path
        )

    def _make_licences(self) -> QTableWidget:
        rows = [
            (self.tr("Code"), "GPL-3.0-or-later", self.tr("free software; the text is in LICENSE")),
            *self._model_licences(),
            (
                self.tr("Beat finder's weights"),
                "CC BY-NC-SA 4.0",
                self.tr("learned from (n)ASAP; not for commercial use"),
            ),
            (self.tr("Soundfont FluidR3 (piano)"), "MIT", self.tr("by Frank Wen")),
            (self.tr("Demo piece"), "CC0-1.0", self.tr("no rights reserved")),
        ]
        table = QTableWidget(len(rows), 3)
        table.setAccessibleName(self.tr("Licences"))
        table.setHorizontalHeaderLabels([self.tr("Part"), self.tr("Licence"), self.tr("Notes")])
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setShowGrid(False)
        table.setAlternatingRowColors(True)
        for row, words in enumerate(rows):
            for column, text in enumerate(words):
                table.setItem(row, column, QTableWidgetItem(text))
        sides, top = table.verticalHeader(), table.horizontalHeader()
        assert sides is not None and top is not None
        sides.hide()
        sides.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        top.setHighlightSections(False)
        top.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column in (0, 1):
            top.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        top.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        return table

    def _model_licences(self) -> list[tuple[str, str, str]]:
        part = self.tr("Trained networks")
        if self._bundle is not None and self._bundle.manifest.licences:
            return [(part, entry.spdx, entry.attribution) for entry in self._bundle.manifest.licences]
        return [(part, "CC BY-NC-SA 4.0", self.tr("learned from (n)ASAP; not for commercial use"))]

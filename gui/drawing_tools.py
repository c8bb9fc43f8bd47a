"""Tools for drawing curves: which one the mouse is, what is drawn, undo and redo."""

from __future__ import annotations

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from gui.document import Document
from gui.icons import IconButton
from gui.parameter_controls import row, say
from pkontext.errors import PkError

TOOLS = ("select", "tempo", "dynamics", "pedal", "erase")


class DrawingTools(QWidget):
    """One tool at a time.

    Attributes
    ----------
    tools : dict of IconButton
        By the names of `TOOLS`.
    """

    #: One of `TOOLS`.
    tool_changed = pyqtSignal(str)
    #: A `PkError`.
    failed = pyqtSignal(object)

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        said = {
            "select": ("select", self.tr("Select"), self.tr("Select passages, and go to places")),
            "tempo": ("draw", self.tr("Tempo"), self.tr("Draw the tempo in its lane")),
            "dynamics": ("draw", self.tr("Dynamics"), self.tr("Draw the dynamics in their lane")),
            "pedal": ("draw", self.tr("Pedal"), self.tr("Draw the pedal in its lane")),
            "erase": ("erase", self.tr("Erase"), self.tr("Erase parts of what is drawn")),
        }
        self._tool_group = QButtonGroup(self)
        self.tools: dict[str, IconButton] = {}
        first, second = QHBoxLayout(), QHBoxLayout()
        for name in TOOLS:
            drawn, what, tip = said[name]
            button = IconButton(drawn, what, tip, what)
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _=False, name=name: self.tool_changed.emit(name))
            self._tool_group.addButton(button)
            self.tools[name] = button
            (first if name in ("select", "erase") else second).addWidget(button, 1)
        self.tools["select"].setChecked(True)
        self.clear_button = QPushButton(self.tr("Clear drawn"))
        self.clear_button.setToolTip(self.tr("Remove all drawn curves; can be undone"))
        self.clear_button.clicked.connect(self.clear_drawn)
        self.drawn_text = QLabel()
        self.drawn_text.setWordWrap(True)
        stack = document.undo_stack
        self.undo_button = IconButton("undo", self.tr("Undo"), self.tr("Undo (Ctrl+Z)"))
        self.redo_button = IconButton("redo", self.tr("Redo"), self.tr("Redo (Ctrl+Shift+Z)"))
        self.undo_button.clicked.connect(stack.undo)
        self.redo_button.clicked.connect(stack.redo)
        self.undo_button.setEnabled(stack.canUndo())
        self.redo_button.setEnabled(stack.canRedo())
        stack.canUndoChanged.connect(self.undo_button.setEnabled)
        stack.canRedoChanged.connect(self.redo_button.setEnabled)
        stack.undoTextChanged.connect(self._name_undo)
        stack.redoTextChanged.connect(self._name_redo)
        for line in (first, second):
            line.setSpacing(4)
            column.addLayout(line)
        column.addLayout(
            row((self.drawn_text, 1), (self.undo_button, 0), (self.redo_button, 0), (self.clear_button, 0))
        )
        document.drawn_changed.connect(self._show)
        document.score_changed.connect(self._show)
        self._show()

    def clear_drawn(self) -> None:
        """Remove all drawn curves; undo brings them back."""
        try:
            self._document.draw((), self.tr("clear drawn curves"))
        except PkError as error:
            self.failed.emit(error)

    def _show(self) -> None:
        words = {"loudness": self.tr("dynamics"), "tempo": self.tr("tempo"), "pedal": self.tr("pedal")}
        drawn = sorted({words[curve.name] for curve in self._document.drawn})
        say(
            self.drawn_text,
            self.tr("Drawn: {0}").format(", ".join(drawn)) if drawn else self.tr("Nothing is drawn."),
        )
        self.clear_button.setEnabled(bool(drawn))
        for button in self.tools.values():
            button.setEnabled(self._document.score is not None)

    def _name_undo(self, text: str) -> None:
        self.undo_button.setToolTip(self.tr("Undo {0} (Ctrl+Z)").format(text))

    def _name_redo(self, text: str) -> None:
        self.redo_button.setToolTip(self.tr("Redo {0} (Ctrl+Shift+Z)").format(text))

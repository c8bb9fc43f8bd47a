"""What went wrong, in two sentences, where the user sees it: a banner in the window, or a dialog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PyQt6.QtCore import QRectF, Qt, QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices, QGuiApplication, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui.parts import GRID, StateIcon, note
from gui.theme import mix, theme
from pkontext.errors import PkError
from pkontext.settings import log_folder

#: Words on a button, and what it does.
Action = tuple[str, Callable[[], object]]

_SELECTABLE = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
#: From so many lines on a hint is a report, which gets a box of its own.
_REPORT_LINES = 3


class Banner(QFrame):
    """A line above the views: an icon, text, and buttons for what can be done. Hidden until it is used."""

    #: The user closed it.
    dismissed = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = "info"
        self.setSizePolicy(self.sizePolicy().Policy.Preferred, self.sizePolicy().Policy.Maximum)
        self._icon = StateIcon("info")
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setTextInteractionFlags(_SELECTABLE)
        self._close = QToolButton()
        self._close.setText("\u2715")
        self._close.setAutoRaise(True)
        self._close.setAccessibleName(self.tr("Close this message"))
        self._close.setToolTip(self.tr("Close this message"))
        self._close.clicked.connect(self._dismiss)
        self._buttons: list[QPushButton] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(2 * GRID, GRID, GRID, GRID)
        self._grid.setHorizontalSpacing(GRID)
        self._grid.addWidget(self._icon, 0, 0, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(self._text, 0, 1)
        self._row = QHBoxLayout()
        self._row.setSpacing(GRID)
        self._grid.addWidget(self._close, 0, 3, Qt.AlignmentFlag.AlignTop)
        self._grid.setColumnStretch(1, 1)
        self._below: bool | None = None
        theme.changed.connect(self.update)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text.text()

    @property
    def buttons(self) -> list[QPushButton]:
        """The actions, in order."""
        return list(self._buttons)

    def show_text(self, text: str, kind: str = "info", actions: Sequence[Action] = ()) -> None:
        """Say something; ``kind`` is one of `StateIcon.KINDS`. Pressing a button does not close it."""
        self.kind = kind
        self._icon.set_kind(kind)
        self._text.setText(text)
        self.setAccessibleName(text)
        for button in self._buttons:
            self._row.removeWidget(button)
            button.deleteLater()
        self._buttons = []
        for words, action in actions:
            button = QPushButton(words)
            button.clicked.connect(lambda _=False, action=action: action())
            self._row.addWidget(button)
            self._buttons.append(button)
        self._arrange()
        self.update()
        self.show()

    def show_error(self, error: PkError, actions: Sequence[Action] = ()) -> None:
        """Say what is wrong and what to do next."""
        self.show_text(f"{error.message} {error.hint}", "warning", actions)

    def resizeEvent(self, event: object) -> None:
        """Put the buttons below the text where it is narrow."""
        self._arrange()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a tinted panel with a bar of the state's colour."""
        c = theme.colours
        tint = {"good": c.good, "warning": c.warning, "wrong": c.wrong}.get(self.kind, c.accent)
        painter = QPainter(self)
        painter.fillRect(self.rect(), mix(c.panel, tint, 0.12))
        painter.fillRect(QRectF(0, 0, GRID / 2, self.height()), tint)
        painter.setPen(QPen(c.bar_line, 1))
        painter.drawLine(0, self.height() - 1, self.width(), self.height() - 1)

    def _arrange(self) -> None:
        below = self.width() < self.fontMetrics().averageCharWidth() * 90
        if below == self._below:
            return
        self._below = below
        self._grid.removeItem(self._row)
        if below:
            self._grid.addLayout(self._row, 1, 1, 1, 3, Qt.AlignmentFlag.AlignLeft)
        else:
            self._grid.addLayout(self._row, 0, 2)

    def _dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()


def show_error(parent: QWidget | None, error: PkError) -> ErrorDialog:
    """Show an error in a dialog that blocks nothing; returns it."""
    dialog = ErrorDialog(error, parent)
    dialog.show()
    dialog.raise_()
    return dialog


class ErrorDialog(QDialog):
    """Two sentences that can be selected and copied; for a bug also the way to its log."""

    def __init__(self, error: PkError, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.error = error
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        internal = error.code.startswith("internal")
        self.setWindowTitle(self.tr("A bug in PianoKontext") if internal else self.tr("PianoKontext"))
        icon = StateIcon("wrong" if internal else "warning")
        message = QLabel(error.message)
        bold = message.font()
        bold.setBold(True)
        message.setFont(bold)
        hint, _, report = error.hint.partition("\n")
        if error.hint.count("\n") < _REPORT_LINES:
            hint, report = error.hint, ""
        text = QVBoxLayout()
        text.setSpacing(GRID)
        for label in (message, QLabel(hint)):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(_SELECTABLE)
            label.setMinimumWidth(self.fontMetrics().averageCharWidth() * 56)
            text.addWidget(label)
        if report:
            box = QPlainTextEdit(report)
            box.setReadOnly(True)
            box.setAccessibleName(self.tr("Report"))
            text.addWidget(box)
        if not internal:
            text.addWidget(note(self.tr("Error {0}").format(error.code), selectable=True))
        top = QHBoxLayout()
        top.setSpacing(2 * GRID)
        top.addWidget(icon, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(text, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 2 * GRID)
        column.setSpacing(2 * GRID)
        column.addLayout(top)
        column.addWidget(self._make_buttons(internal))
        self.setAccessibleDescription(f"{error.message} {error.hint}")

    def _make_buttons(self, internal: bool) -> QDialogButtonBox:
        box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        box.rejected.connect(self.close)
        copy = box.addButton(self.tr("&Copy"), QDialogButtonBox.ButtonRole.ActionRole)
        assert copy is not None
        copy.setToolTip(self.tr("Copy both sentences"))
        copy.clicked.connect(self.copy)
        if internal:
            folder = box.addButton(self.tr("Open &log folder"), QDialogButtonBox.ButtonRole.ActionRole)
            assert folder is not None
            folder.setToolTip(str(log_folder()))
            folder.clicked.connect(lambda: open_folder(log_folder()))
        close = box.button(QDialogButtonBox.StandardButton.Close)
        assert close is not None
        close.setDefault(True)
        return box

    def copy(self) -> None:
        """Put the sentences on the clipboard."""
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(f"{self.error.message}\n{self.error.hint}\n({self.error.code})")


def open_folder(folder: Path) -> bool:
    """Show a folder in the system's file manager; returns whether there is one."""
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

"""Small pieces of pages and dialogs: cards, headings, states as shape and colour, background work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from PyQt6 import sip
from PyQt6.QtCore import QObject, QPointF, QRectF, QSize, Qt, QTimer
from PyQt6.QtGui import QColor, QFont, QHideEvent, QPainter, QPainterPath, QPaintEvent, QPalette, QPen
from PyQt6.QtWidgets import (
    QAbstractButton,
    QFrame,
    QGridLayout,
    QLabel,
    QLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from gui.icons import icon
from gui.operations import Operation
from gui.theme import mix, theme

#: Distances are multiples of it, in device-independent pixels.
GRID = 8
_TURN_MS = 60
#: Operations live until they have told their end, also when their widget does not. Nothing that is connected
#: to an operation may refer to it, or it would live for ever.
_running: dict[int, Operation] = {}
_numbers = itertools.count()
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def run(
    owner: QObject,
    name: str,
    function: Callable[[Operation], Any],
    done: Callable[[Any], None] | None = None,
    failed: Callable[[Any], None] | None = None,
    progress: Callable[[float, str], None] | None = None,
    stopped: Callable[[], None] | None = None,
    over: Callable[[], None] | None = None,
) -> Operation:
    """Start an operation for a widget; what it tells is lost, and it is cancelled, when the widget is gone.

    ``over`` is called in any case, before the one of ``done``, ``failed`` and ``stopped`` that comes.
    """
    operation, number = Operation(name, function), next(_numbers)
    _running[number] = operation
    owner.destroyed.connect(operation.cancel)

    def there(slot: Callable[..., None] | None) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if slot is not None and not sip.isdeleted(owner):
                slot(*arguments)

        return call

    def end(slot: Callable[..., None] | None) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            QTimer.singleShot(0, lambda: _running.pop(number, None))  # not inside of its own signal
            there(over)()
            there(slot)(*arguments)

        return call

    operation.progress.connect(there(progress))
    for signal, slot in (
        (operation.finished, done),
        (operation.failed, failed),
        (operation.stopped, stopped),
    ):
        signal.connect(end(slot))
    return operation.start()


def give_icon(button: QAbstractButton, name: str, role: str = "text") -> None:
    """Put an icon of `gui.icons` beside a button's text, as high as the text."""
    button.setIcon(icon(name, role))
    side = round(button.fontMetrics().height() * 1.1)
    button.setIconSize(QSize(side, side))


def heading(text: str, factor: float = 1.2) -> QLabel:
    """A bold label, larger than the text around it."""
    label = QLabel(text)
    label.setFont(enlarged(label.font(), factor, bold=True))
    label.setWordWrap(True)
    return label


def enlarged(font: QFont, factor: float, bold: bool = False) -> QFont:
    """A font in proportion to another one."""
    made = QFont(font)
    made.setPointSizeF(max(font.pointSizeF(), 6.0) * factor)
    made.setBold(bold)
    return made


def note(text: str = "", selectable: bool = False) -> QLabel:
    """A quiet, wrapped line of explanation."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
    if selectable:
        label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
    return label


def note_name(key: int) -> str:
    """A key as people call it: 60 is C4."""
    return f"{_NAMES[key % 12]}{key // 12 - 1}"


class Form(QGridLayout):
    """Labels on the left, fields on the right; unlike Qt's own form it gives wrapped text its true height."""

    def __init__(self) -> None:
        super().__init__()
        self.setHorizontalSpacing(2 * GRID)
        self.setVerticalSpacing(GRID)
        self.setColumnStretch(1, 1)

    def add(self, label: str, field: QWidget | QLayout) -> None:
        """Add a row; the label's shortcut goes to the field."""
        row = self.rowCount()
        if label:
            shown = QLabel(label)
            wrapped = isinstance(field, QLabel)
            side = Qt.AlignmentFlag.AlignTop if wrapped else Qt.AlignmentFlag.AlignVCenter
            self.addWidget(shown, row, 0, side)
            if isinstance(field, QWidget):
                shown.setBuddy(field)
        if isinstance(field, QWidget):
            self.addWidget(field, row, 1)
        else:
            self.addLayout(field, row, 1)


class LeadingButton(QPushButton):
    """The button that leads on, filled with the accent."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        theme.changed.connect(self._recolour)
        self._recolour()

    def _recolour(self) -> None:
        c, made = theme.colours, QPalette()
        strong = mix(c.accent, c.text, 0.35)  # Fusion lightens it
        for group in (QPalette.ColorGroup.Active, QPalette.ColorGroup.Inactive):
            made.setColor(group, QPalette.ColorRole.Button, strong)
            made.setColor(group, QPalette.ColorRole.ButtonText, c.accent_text)
        self.setPalette(made)


class Card(QFrame):
    """A panel with rounded corners and, if given, a heading; put widgets into its ``column``."""

    def __init__(self, title: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        self.column.setSpacing(GRID)
        if title:
            self.column.addWidget(heading(title, 1.1))
            self.setAccessibleName(title)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the panel."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.colours.line, 1))
        painter.setBrush(theme.colours.panel)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), GRID, GRID)


class StateIcon(QWidget):
    """A state as a shape of its own colour: good, warning, wrong, info or busy."""

    KINDS = ("good", "warning", "wrong", "info", "busy")

    def __init__(self, kind: str = "info", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._timer = QTimer(self)
        self._timer.setInterval(_TURN_MS)
        self._timer.timeout.connect(self._turn)
        self._angle = 0
        self.kind = ""
        self.set_kind(kind)
        size = self.sizeHint()
        self.setFixedSize(size)
        theme.changed.connect(self.update)

    def set_kind(self, kind: str) -> None:
        """Show another state of `KINDS`."""
        if kind == self.kind:
            return
        self.kind = kind
        names = {
            "good": self.tr("in order"),
            "warning": self.tr("attention"),
            "wrong": self.tr("not working"),
            "info": self.tr("note"),
            "busy": self.tr("working"),
        }
        self.setAccessibleName(names[kind])
        self._timer.start() if kind == "busy" else self._timer.stop()
        self.update()

    def sizeHint(self) -> QSize:
        """As high as a line of text."""
        side = round(self.fontMetrics().height() * 1.1)
        return QSize(side, side)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Nothing turns where nobody looks."""
        self._timer.stop()

    def showEvent(self, event: object) -> None:
        """Turn again."""
        if self.kind == "busy":
            self._timer.start()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the shape."""
        painter = QPainter(self)
        paint_state(painter, QRectF(self.rect()).adjusted(1, 1, -1, -1), self.kind, self._angle)

    def _turn(self) -> None:
        self._angle = (self._angle + 30) % 360
        self.update()


def paint_state(painter: QPainter, box: QRectF, kind: str, angle: int = 0) -> None:
    """Draw a state of `StateIcon` into a square."""
    c = theme.colours
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    side, centre = box.width(), box.center()
    if kind == "busy":
        painter.setPen(QPen(c.line, side / 8))
        inner = box.adjusted(side / 8, side / 8, -side / 8, -side / 8)
        painter.drawEllipse(inner)
        painter.setPen(_round_pen(c.accent, side / 8))
        painter.drawArc(inner, -angle * 16, 90 * 16)
        return
    colour = {"good": c.good, "warning": c.warning, "wrong": c.wrong}.get(kind, c.accent)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    if kind == "warning":
        triangle = QPainterPath(QPointF(centre.x(), box.top()))
        triangle.lineTo(box.right(), box.bottom() - side * 0.08)
        triangle.lineTo(box.left(), box.bottom() - side * 0.08)
        triangle.closeSubpath()
        painter.drawPath(triangle)
    else:
        painter.drawEllipse(box)
    painter.setPen(_round_pen(c.panel, side / 8))
    for line in _MARKS[kind]:
        points = [QPointF(box.left() + x * side, box.top() + y * side) for x, y in line]
        painter.drawPolyline(points)


#: Strokes of the marks in the unit square; a point is a short line.
_MARKS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "good": (((0.28, 0.52), (0.44, 0.68), (0.72, 0.34)),),
    "wrong": (((0.33, 0.33), (0.67, 0.67)), ((0.67, 0.33), (0.33, 0.67))),
    "warning": (((0.5, 0.36), (0.5, 0.58)), ((0.5, 0.74), (0.5, 0.75))),
    "info": (((0.5, 0.46), (0.5, 0.74)), ((0.5, 0.27), (0.5, 0.28))),
}


def _round_pen(colour: QColor, width: float) -> QPen:
    return QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)

"""Painted icons by name, in the theme's colours at any size; and buttons that show them."""

from __future__ import annotations

import math
from collections.abc import Callable

from PyQt6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PyQt6.QtGui import (
    QColor,
    QIcon,
    QIconEngine,
    QKeyEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
)
from PyQt6.QtWidgets import QToolButton, QWidget

from gui.theme import theme

#: Icons are drawn in a square of so many units.
_SIDE = 24.0
_LINE = 1.8


class _Pencil:
    """A painter with the two ways in which icons are drawn: filled and outlined."""

    def __init__(self, painter: QPainter, colour: QColor) -> None:
        self.painter, self.colour = painter, colour
        self.pen = QPen(colour, _LINE)
        self.pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        self.pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)

    def fill(self, path: QPainterPath) -> None:
        self.painter.fillPath(path, self.colour)

    def stroke(self, path: QPainterPath) -> None:
        self.painter.strokePath(path, self.pen)

    def polygon(self, *points: tuple[float, float]) -> None:
        """A filled shape with slightly rounded corners."""
        path = _polygon(*points)
        self.fill(path)
        self.stroke(path)

    def lines(self, *points: tuple[float, float], closed: bool = False) -> None:
        path = QPainterPath(QPointF(*points[0]))
        for point in points[1:]:
            path.lineTo(*point)
        if closed:
            path.closeSubpath()
        self.stroke(path)

    def dot(self, x: float, y: float, radius: float) -> None:
        path = QPainterPath()
        path.addEllipse(QPointF(x, y), radius, radius)
        self.fill(path)

    def ring(self, x: float, y: float, radius: float) -> None:
        path = QPainterPath()
        path.addEllipse(QPointF(x, y), radius, radius)
        self.stroke(path)

    def box(self, x: float, y: float, width: float, height: float, radius: float = 1.5) -> None:
        path = QPainterPath()
        path.addRoundedRect(QRectF(x, y, width, height), radius, radius)
        self.stroke(path)

    def arc(self, x: float, y: float, radius: float, start: float, span: float) -> None:
        """Degrees, counted anticlockwise from three o'clock."""
        square = QRectF(x - radius, y - radius, 2 * radius, 2 * radius)
        path = QPainterPath()
        path.arcMoveTo(square, start)
        path.arcTo(square, start, span)
        self.stroke(path)


def _polygon(*points: tuple[float, float]) -> QPainterPath:
    path = QPainterPath()
    path.addPolygon(QPolygonF([QPointF(*point) for point in points]))
    path.closeSubpath()
    return path


def _star_points() -> list[tuple[float, float]]:
    corners = []
    for corner in range(10):
        radius = 9.0 if corner % 2 == 0 else 3.9
        angle = math.radians(36 * corner - 90)
        corners.append((12 + radius * math.cos(angle), 12.6 + radius * math.sin(angle)))
    return corners


def _play(p: _Pencil) -> None:
    p.polygon((7.5, 5), (7.5, 19), (19, 12))


def _pause(p: _Pencil) -> None:
    p.polygon((7, 5.5), (9, 5.5), (9, 18.5), (7, 18.5))
    p.polygon((15, 5.5), (17, 5.5), (17, 18.5), (15, 18.5))


def _stop(p: _Pencil) -> None:
    p.polygon((6.5, 6.5), (17.5, 6.5), (17.5, 17.5), (6.5, 17.5))


def _home(p: _Pencil) -> None:
    p.lines((6, 5.5), (6, 18.5))
    p.polygon((18.5, 5.5), (18.5, 18.5), (9.5, 12))


def _loop(p: _Pencil) -> None:
    p.lines((5, 12), (5, 10.5), (6, 8), (8, 7), (18.5, 7))
    p.lines((15.5, 3.8), (18.8, 7), (15.5, 10.2))
    p.lines((19, 12), (19, 13.5), (18, 16), (16, 17), (5.5, 17))
    p.lines((8.5, 13.8), (5.2, 17), (8.5, 20.2))


def _record(p: _Pencil) -> None:
    p.ring(12, 12, 8.2)
    p.dot(12, 12, 4.8)


def _star(p: _Pencil) -> None:
    p.lines(*_star_points(), closed=True)


def _star_filled(p: _Pencil) -> None:
    p.polygon(*_star_points())


def _trash(p: _Pencil) -> None:
    p.lines((4.5, 7), (19.5, 7))
    p.lines((9.5, 6.5), (9.5, 4.5), (14.5, 4.5), (14.5, 6.5))
    p.lines((6.5, 7.5), (7.3, 20), (16.7, 20), (17.5, 7.5))
    p.lines((10.2, 11), (10.2, 16.5))
    p.lines((13.8, 11), (13.8, 16.5))


def _draw(p: _Pencil) -> None:
    p.lines((4.5, 19.5), (5.5, 15), (16, 4.5), (19.5, 8), (9, 18.5), closed=True)
    p.lines((13.5, 7), (17, 10.5))


def _erase(p: _Pencil) -> None:
    p.lines((9, 19), (4.5, 14.5), (14.5, 4.5), (20.5, 10.5), (12, 19), closed=True)
    p.lines((9.2, 9.8), (15.2, 15.8))
    p.lines((9, 19.4), (20, 19.4))


def _undo(p: _Pencil) -> None:
    p.lines((9, 4.5), (4.5, 9), (9, 13.5))
    p.lines((5, 9), (14.5, 9))
    p.arc(14.5, 14, 5, 90, -180)
    p.lines((14.5, 19), (9, 19))


def _redo(p: _Pencil) -> None:
    p.lines((15, 4.5), (19.5, 9), (15, 13.5))
    p.lines((19, 9), (9.5, 9))
    p.arc(9.5, 14, 5, 90, 180)
    p.lines((9.5, 19), (15, 19))


def _open(p: _Pencil) -> None:
    p.lines((5.5, 18.5), (3.8, 18.5), (3.8, 5.5), (9.5, 5.5), (11.5, 8), (18, 8), (18, 10.5))
    p.lines((3.8, 18.5), (7, 10.8), (21.2, 10.8), (18, 18.5), closed=True)


def _save(p: _Pencil) -> None:
    p.lines((4.5, 4.5), (16, 4.5), (19.5, 8), (19.5, 19.5), (4.5, 19.5), closed=True)
    p.lines((8, 4.8), (8, 9.5), (15, 9.5), (15, 4.8))
    p.lines((7.5, 19.2), (7.5, 13.5), (16.5, 13.5), (16.5, 19.2))


def _export(p: _Pencil) -> None:
    p.lines((12, 15), (12, 4))
    p.lines((7.8, 8), (12, 3.8), (16.2, 8))
    p.lines((4.5, 14), (4.5, 19.5), (19.5, 19.5), (19.5, 14))


def _settings(p: _Pencil) -> None:
    for y, knob in ((6.0, 15.5), (12.0, 8.5), (18.0, 14.0)):
        p.lines((4, y), (knob - 2.4, y))
        p.lines((knob + 2.4, y), (20, y))
        p.ring(knob, y, 2.3)


def _keyboard(p: _Pencil) -> None:
    p.box(3, 5.5, 18, 13)
    for x in (9.0, 15.0):
        p.lines((x, 14), (x, 18.5))
        p.polygon((x - 0.9, 6.5), (x + 0.9, 6.5), (x + 0.9, 12.5), (x - 0.9, 12.5))


def _check(p: _Pencil) -> None:
    p.lines((4.5, 12.5), (10, 18), (19.5, 6.5))


def _dice(p: _Pencil) -> None:
    p.box(4, 4, 16, 16, 3)
    for x, y in ((8.5, 8.5), (15.5, 8.5), (12, 12), (8.5, 15.5), (15.5, 15.5)):
        p.dot(x, y, 1.5)


def _compare(p: _Pencil) -> None:
    p.lines((4, 8.5), (19, 8.5))
    p.lines((15.5, 5), (19.2, 8.5), (15.5, 12))
    p.lines((20, 15.5), (5, 15.5))
    p.lines((8.5, 12), (4.8, 15.5), (8.5, 19))


def _add(p: _Pencil) -> None:
    p.lines((12, 5), (12, 19))
    p.lines((5, 12), (19, 12))


def _rename(p: _Pencil) -> None:
    p.lines((3.5, 8), (3.5, 16), (20.5, 16), (20.5, 8), closed=True)
    p.lines((7.5, 10.5), (7.5, 13.5))
    p.lines((6.3, 10.2), (8.7, 10.2))
    p.lines((6.3, 13.8), (8.7, 13.8))


def _select(p: _Pencil) -> None:
    p.lines((6, 4), (6, 17.5), (9.8, 14.2), (12.2, 19.8), (14.6, 18.7), (12.3, 13.3), (17, 13), closed=True)


def _best(p: _Pencil) -> None:
    p.lines((7, 4.5), (17, 4.5), (17, 8), (12, 13.5), (7, 8), closed=True)
    p.lines((7, 6), (4, 6), (4.5, 9), (8, 10))
    p.lines((17, 6), (20, 6), (19.5, 9), (16, 10))
    p.lines((12, 13.5), (12, 19))
    p.lines((8, 19.5), (16, 19.5))


_DRAWN: dict[str, Callable[[_Pencil], None]] = {
    "play": _play,
    "pause": _pause,
    "stop": _stop,
    "home": _home,
    "loop": _loop,
    "record": _record,
    "star": _star,
    "star_filled": _star_filled,
    "trash": _trash,
    "draw": _draw,
    "erase": _erase,
    "undo": _undo,
    "redo": _redo,
    "open": _open,
    "save": _save,
    "export": _export,
    "settings": _settings,
    "keyboard": _keyboard,
    "check": _check,
    "dice": _dice,
    "compare": _compare,
    "add": _add,
    "rename": _rename,
    "select": _select,
    "best": _best,
}
NAMES = tuple(_DRAWN)


def paint_icon(painter: QPainter, name: str, square: QRectF, colour: QColor) -> None:
    """Paint an icon into a square, in one colour."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    side = min(square.width(), square.height())
    painter.translate(square.center().x() - side / 2, square.center().y() - side / 2)
    painter.scale(side / _SIDE, side / _SIDE)
    _DRAWN[name](_Pencil(painter, colour))
    painter.restore()


def icon(name: str, role: str = "text") -> QIcon:
    """An icon of `NAMES` in a colour of `gui.theme.Colours`; it follows the theme, faint where disabled.

    Raises
    ------
    KeyError
        For a name that is not in `NAMES`.
    """
    return QIcon(_Engine(name, role, _DRAWN[name]))


class _Engine(QIconEngine):
    """Paints when it is shown, so that an icon has the colours of the day."""

    def __init__(self, name: str, role: str, draw: Callable[[_Pencil], None]) -> None:
        super().__init__()
        self._name, self._role, self._draw = name, role, draw

    def clone(self) -> QIconEngine:
        return _Engine(self._name, self._role, self._draw)

    def paint(self, painter: QPainter | None, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        if painter is None:
            return
        colour = QColor(getattr(theme.colours, self._role))
        if mode == QIcon.Mode.Disabled:
            colour = QColor(theme.colours.faint_text)
            colour.setAlpha(110)
        elif mode == QIcon.Mode.Selected:
            colour = theme.colours.accent_text
        paint_icon(painter, self._name, QRectF(rect), colour)

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        made = QPixmap(size)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        self.paint(painter, QRect(0, 0, size.width(), size.height()), mode, state)
        painter.end()
        return made


class IconButton(QToolButton):
    """A tool button with an icon, that Return clicks, too: the space bar is the transport's.

    One that is checked is underlined, because styles show it by a shade alone.

    Parameters
    ----------
    name : str
        Of the icon; empty for none.
    what : str
        Accessible name.
    tip : str
        Tooltip; ``what`` if left out.
    text : str
        Shown beside the icon.
    """

    def __init__(
        self, name: str, what: str, tip: str = "", text: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAutoRaise(not text)
        side = round(1.25 * self.fontMetrics().height())
        self.setIconSize(QSize(side, side))
        self.set_icon(name, what, tip)
        if text:
            self.setText(text)
            only = Qt.ToolButtonStyle.ToolButtonTextOnly
            self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon if name else only)
        theme.changed.connect(self.update)

    def set_icon(self, name: str, what: str, tip: str = "") -> None:
        """Show another icon with another meaning."""
        self.icon_name = name
        self.setIcon(icon(name) if name else QIcon())
        self.setAccessibleName(what)
        self.setToolTip(tip or what)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Return is a click."""
        if event is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
            return
        super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """As the style has it, and a line under what is checked."""
        super().paintEvent(event)
        if self.isChecked() and self.isEnabled():
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colours.accent)
            thick = max(self.fontMetrics().height() / 6, 2.0)
            painter.drawRoundedRect(
                QRectF(3, self.height() - thick - 1, self.width() - 6, thick), thick / 2, thick / 2
            )

"""A lane whose bands can be drawn in: freehand lines, handles to move, an eraser, and a live preview."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QMouseEvent, QPainter, QPen
from PyQt6.QtWidgets import QWidget

from gui import batch, drawing
from gui.drawing import Band, Stroke
from gui.gutter import MarkedLane
from gui.piece import Piece
from gui.theme import theme
from pkontext.drawn import Drawn
from pkontext.errors import PkError

TOOLS = ("select", "tempo", "loudness", "pedal", "erase")
#: Handles are shown where they are at least so far apart, and taken hold of within this reach, in pixels.
_HANDLE_GAP, _REACH = 7.0, 7.0


class DrawingLane(MarkedLane):
    """Bands of curves of which some can be drawn."""

    def __init__(self, piece: Piece, name: str, parent: QWidget | None = None) -> None:
        super().__init__(piece, name, parent)
        self.setMouseTracking(True)
        self.tool = TOOLS[0]
        self._stroke: Stroke | None = None
        self._erasing: tuple[Band, float] | None = None
        self._held: tuple[Drawn, int] | None = None
        self._moved: Drawn | None = None
        self._mouse: QPointF | None = None

    # -- of the subclass --------------------------------------------------------------------------------

    def bands(self) -> list[Band]:
        """What can be drawn here, and where."""
        raise NotImplementedError

    def readout(self, second: float, value: dict[str, float]) -> str:
        """What is said of a place; ``value`` has what is drawn there or by the mouse."""
        raise NotImplementedError

    # -- tools ------------------------------------------------------------------------------------------

    def set_tool(self, tool: str) -> None:
        """Take a tool of `TOOLS`; a stroke that has begun is dropped."""
        self.tool = tool
        self._stroke = self._erasing = self._held = self._moved = None
        self.show_cursor()
        self.update()

    def show_cursor(self) -> None:
        """A cross where the tool draws."""
        mine = self.tool == "erase" or any(band.name == self.tool for band in self.bands())
        self.setCursor(Qt.CursorShape.CrossCursor if mine else Qt.CursorShape.ArrowCursor)

    def band_at(self, y: float) -> Band | None:
        """The band of a pixel, with the gap above it."""
        bands = self.bands()
        return next((band for band in bands if y <= band.bottom), bands[-1] if bands else None)

    def press(self, event: QMouseEvent) -> bool:
        """Take hold of a handle, or begin to draw or to erase."""
        position = event.position()
        band = self.band_at(position.y())
        if band is None:
            return False
        if self.tool in ("select", band.name):
            self._held = self._handle_at(position, band)
            if self._held is not None:
                return True
        if self.tool == "erase":
            self._erasing = band, self.timeline.second(position.x())
            return True
        if self.tool == band.name:
            self._stroke = Stroke(band.name, self.timeline.second(position.x()), band.value(position.y()))
            return True
        return False

    def drag(self, event: QMouseEvent) -> None:
        """Draw on; straight with Shift."""
        position = event.position()
        second = self.timeline.second(position.x())
        if self._stroke is not None:
            value = self._band(self._stroke.name).value(position.y())
            straight = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
            (self._stroke.straight if straight else self._stroke.add)(second, value)
        elif self._held is not None:
            curve, index = self._held
            value = self._band(curve.name).value(position.y())
            self._moved = drawing.move_point(self.document.drawn, curve, index, second, value)
        self.update()

    def release(self, event: QMouseEvent) -> None:
        """Keep what was drawn: one step to undo."""
        drawn = self.document.drawn
        stroke, erasing, held, moved = self._stroke, self._erasing, self._held, self._moved
        self._stroke = self._erasing = self._held = self._moved = None
        if stroke is not None:
            curve = stroke.curve()
            if curve is None:
                self.message.emit(self.tr("Drag along the bars to draw a curve."))
            else:
                self._keep(drawing.put(drawn, curve), self._what(stroke.name))
        elif erasing is not None:
            low, high = sorted((erasing[1], self.timeline.second(event.position().x())))
            low, high = low - 3 / self.timeline.scale, high + 3 / self.timeline.scale
            self._keep(drawing.erase(drawn, erasing[0].name, low, high), self.tr("erase curve"))
        elif held is not None and moved is not None:
            others = tuple(moved if one is held[0] else one for one in drawn)
            self._keep(others, self.tr("move point"))
        self.update()

    def _what(self, name: str) -> str:
        return {
            "tempo": self.tr("draw tempo"),
            "loudness": self.tr("draw dynamics"),
            "pedal": self.tr("draw pedal"),
        }[name]

    def _keep(self, drawn: tuple[Drawn, ...], what: str) -> None:
        try:
            self.document.draw(drawn, what)
        except PkError as error:
            self.message.emit(f"{error.message} {error.hint}")

    def _band(self, name: str) -> Band:
        return next(band for band in self.bands() if band.name == name)

    def _handle_at(self, position: QPointF, band: Band) -> tuple[Drawn, int] | None:
        for curve in self.document.drawn:
            if curve.name != band.name or not self._shows_handles(curve):
                continue
            at, value = np.array(curve.points).T
            x = (at - self.timeline.start) * self.timeline.scale
            away = np.hypot(x - position.x(), band.y(value) - position.y())
            if away.min() <= _REACH:
                return curve, int(away.argmin())
        return None

    def _shows_handles(self, curve: Drawn) -> bool:
        wide = (curve.points[-1][0] - curve.points[0][0]) * self.timeline.scale
        return wide / (len(curve.points) - 1) >= _HANDLE_GAP

    def hover(self, position: QPointF | None) -> None:
        """Remember where the mouse is, for the readout."""
        if position != self._mouse:
            self._mouse = position
            self.update()

    # -- drawing ----------------------------------------------------------------------------------------

    def draw_over(self, painter: QPainter) -> None:
        """Drawn curves with handles, the stroke that is being drawn, and what is under the mouse."""
        if self.piece.grid is None:
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        held = self._held[0] if self._held is not None else None
        for band in self.bands():
            for curve in self.document.drawn:
                if curve.name == band.name:
                    self._draw_curve(painter, band, self._moved or curve if curve is held else curve)
            if self._stroke is not None and self._stroke.name == band.name:
                self._draw_stroke(painter, band, self._stroke)
        painter.restore()
        if self._erasing is not None and self._mouse is not None:
            self._draw_eraser(painter, *self._erasing, self._mouse)
        if self._mouse is not None:
            self._draw_readout(painter, self._mouse)

    def _draw_curve(self, painter: QPainter, band: Band, curve: Drawn) -> None:
        timeline, colours = self.timeline, theme.colours
        at, value = np.array(curve.points).T
        x = (at - timeline.start) * timeline.scale
        near = slice(max(int(np.searchsorted(x, 0)) - 1, 0), int(np.searchsorted(x, self.width())) + 1)
        x, y = x[near], band.y(value[near])
        painter.setPen(QPen(colours.drawn, 2.2))
        painter.drawPolyline(batch.points(x, y))
        if self._shows_handles(curve):
            painter.setPen(QPen(colours.drawn, 1.5))
            painter.setBrush(colours.view)
            for left, top in zip(x, y, strict=True):
                painter.drawEllipse(QPointF(left, top), 3.2, 3.2)

    def _draw_stroke(self, painter: QPainter, band: Band, stroke: Stroke) -> None:
        x = (np.array(stroke.seconds) - self.timeline.start) * self.timeline.scale
        painter.setPen(QPen(theme.colours.drawn, 2.2, Qt.PenStyle.DashLine))
        painter.drawPolyline(batch.points(x, band.y(np.array(stroke.values))))

    def _draw_eraser(self, painter: QPainter, band: Band, second: float, mouse: QPointF) -> None:
        left, right = sorted((self.timeline.x(second), mouse.x()))
        area = QRectF(left, band.top, max(right - left, 1.0), band.bottom - band.top)
        painter.fillRect(area, theme.colours.selection)
        painter.setPen(QPen(theme.colours.wrong, 1, Qt.PenStyle.DashLine))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(area)

    def _draw_readout(self, painter: QPainter, mouse: QPointF) -> None:
        second = self.timeline.second(mouse.x())
        names = [band.name for band in self.bands()]
        found = {name: drawing.value_at(self.document.drawn, name, second) for name in names}
        values = {name: value for name, value in found.items() if value is not None}
        band = self.band_at(mouse.y())
        drawn_here = self.tool if self._stroke is None else self._stroke.name
        if band is not None and drawn_here == band.name:
            values[band.name] = band.value(mouse.y())
        text = self.readout(second, values)
        painter.setFont(self.small_font())
        metrics = painter.fontMetrics()
        wide, high = metrics.horizontalAdvance(text) + 12, metrics.height() + 4
        left = mouse.x() + 12 if mouse.x() + 12 + wide <= self.width() else mouse.x() - 12 - wide
        box = QRectF(max(left, 0.0), 2, wide, high)
        painter.setPen(QPen(theme.colours.bar_line, 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(mouse.x(), 0), QPointF(mouse.x(), self.height()))
        painter.setPen(QPen(theme.colours.bar_line, 1))
        painter.setBrush(theme.colours.panel)
        painter.drawRect(box)
        painter.setPen(theme.colours.text)
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)

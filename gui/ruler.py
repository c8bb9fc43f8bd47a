"""The ruler above the views: bars, beats and seconds; click to go there, Shift-drag for a loop."""

from __future__ import annotations

import time

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QMouseEvent, QPainter, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui import batch
from gui.lane import Lane
from gui.piece import Piece
from gui.theme import theme

_HEAD = 6
#: A drag seeks this often at most: each seek fades the sound.
_SEEK_SEC = 0.12
_SECOND_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)


class Ruler(Lane):
    """Bars and seconds along the axis."""

    #: (start, end) in score seconds.
    loop_requested = pyqtSignal(object)

    def __init__(self, piece: Piece, parent: QWidget | None = None) -> None:
        super().__init__(piece, "", parent)
        self.setAccessibleName(self.tr("Ruler: bars and seconds"))
        self.setToolTip(self.tr("Click or drag to go there. Shift-drag to repeat a range."))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.strip = _HEAD + 2
        self.loop: tuple[float, float] | None = None
        self._looping = False
        self._sought = 0.0

    def sizeHint(self) -> QSize:
        """Two lines of text."""
        return QSize(400, 2 * self.fontMetrics().height() + 8)

    def minimumSizeHint(self) -> QSize:
        """The same height."""
        return QSize(80, self.sizeHint().height())

    def set_loop(self, span: tuple[float, float] | None) -> None:
        """Show the range that is repeated."""
        self.loop = span
        self.update()

    def draw_still(self, painter: QPainter) -> None:
        """Numbers of bars, beats where there is room, seconds below."""
        colours = theme.colours
        painter.fillRect(self.rect(), colours.panel)
        grid, timeline = self.piece.grid, self.timeline
        if grid is None:
            return
        low, high = timeline.visible
        middle = self.height() // 2
        painter.setPen(Qt.PenStyle.NoPen)
        beats_fit = grid.beat_gap(low, high) * timeline.scale >= 14
        if beats_fit:
            painter.setBrush(colours.bar_line)
            x = self.crisp((grid.beats_between(low, high) - timeline.start) * timeline.scale)
            painter.drawRects(batch.rectangles(x, middle - 4.0, self.hair, 4.0))
        self._draw_bars(painter, low, high, middle)
        self._draw_seconds(painter, low, high, middle)
        painter.setPen(colours.line)
        painter.drawLine(0, self.height() - 1, self.width(), self.height() - 1)

    def _draw_bars(self, painter: QPainter, low: float, high: float, middle: int) -> None:
        grid, timeline, colours = self.piece.grid, self.timeline, theme.colours
        assert grid is not None
        metrics = painter.fontMetrics()
        widest = metrics.horizontalAdvance(str(len(grid.bars))) + 12
        numbers, seconds = grid.bars_between(low, high, widest / timeline.scale)
        inside = numbers < max(len(grid.bars), 2)
        x = self.crisp((seconds[inside] - timeline.start) * timeline.scale)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours.bar_line)
        painter.drawRects(batch.rectangles(x, 0.0, self.hair, float(middle)))
        _, every = grid.bars_between(low, high, 9 / timeline.scale)
        ticks = self.crisp((every - timeline.start) * timeline.scale)
        painter.drawRects(batch.rectangles(ticks, middle - 5.0, self.hair, 5.0))
        painter.setPen(colours.text)
        for number, left in zip(numbers[inside], x, strict=True):
            painter.drawText(QPointF(left + 4, metrics.ascent() + 2), str(number))

    def _draw_seconds(self, painter: QPainter, low: float, high: float, middle: int) -> None:
        timeline, colours = self.timeline, theme.colours
        metrics = painter.fontMetrics()
        wide = metrics.horizontalAdvance("00:00.0") + 24
        steps = [step for step in _SECOND_STEPS if step * timeline.scale >= wide]
        step = steps[0] if steps else _SECOND_STEPS[-1]
        first, last = int(np.ceil(max(low, 0.0) / step)), int(min(high, timeline.duration) / step)
        for index in range(first, last + 1):
            second = index * step
            x = int(timeline.x(second))
            painter.setPen(colours.line)
            painter.drawLine(x, middle + 1, x, self.height())
            painter.setPen(colours.faint_text)
            painter.drawText(QPointF(x + 4, middle + metrics.ascent() + 2), _clock(second, step))

    def draw_over(self, painter: QPainter) -> None:
        """The loop, and the head of the playhead."""
        colours, timeline = theme.colours, self.timeline
        if self.piece.grid is None:
            return
        if self.loop is not None:
            left, right = timeline.x(self.loop[0]), timeline.x(self.loop[1])
            painter.fillRect(QRectF(left, 0, right - left, self.height()), colours.loop)
            painter.setPen(QPen(colours.good, 2))
            painter.drawLine(QPointF(left, 1), QPointF(right, 1))
            for x, way in ((left, 1), (right, -1)):
                painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
                painter.drawLine(QPointF(x, self.height() / 2), QPointF(x + 4 * way, self.height() / 2))
        x = round(timeline.x(timeline.playhead)) + 1.0
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours.playhead)
        base = self.height() - 1.0
        painter.drawPolygon(
            QPolygonF([QPointF(x - _HEAD, base - _HEAD), QPointF(x + _HEAD, base - _HEAD), QPointF(x, base)])
        )

    def press(self, event: QMouseEvent) -> bool:
        """Go there, or begin a loop."""
        self._looping = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if not self._looping:
            self._seek(event)
        return True

    def drag(self, event: QMouseEvent) -> None:
        """Follow the mouse."""
        if self._looping:
            self.set_loop(self.span_to(event))
        elif time.monotonic() - self._sought >= _SEEK_SEC:
            self._seek(event)

    def release(self, event: QMouseEvent) -> None:
        """Repeat the range, or stay here."""
        if not self._looping:
            if self._pressed != event.position():
                self._seek(event)
            return
        span = self.span_to(event)
        self.set_loop(span)
        self.loop_requested.emit(span)
        self.message.emit(self.tr("Repeating from {0}.").format(self.piece.bar_text(span[0])))

    def _seek(self, event: QMouseEvent) -> None:
        self._sought = time.monotonic()
        self.seek_requested.emit(self.timeline.second(event.position().x()))


def _clock(second: float, step: float) -> str:
    minutes, rest = divmod(round(second, 3), 60)
    return f"{int(minutes)}:{rest:04.1f}" if step < 1 else f"{int(minutes)}:{int(rest):02d}"

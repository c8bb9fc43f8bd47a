"""What stands left of a view: its name, and the values of its axis."""

from __future__ import annotations

from PyQt6.QtCore import QPointF, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPaintEvent
from PyQt6.QtWidgets import QWidget

from gui.lane import Lane
from gui.theme import theme


class MarkedLane(Lane):
    """A lane with a gutter of headings and values."""

    #: Headings or values of the axis are others.
    marks_changed = pyqtSignal()

    def headings(self) -> list[tuple[float, str, QColor]]:
        """Top, text and colour of each band."""
        return []

    def marks(self) -> list[tuple[float, str]]:
        """Pixel and text of values; the first ones matter most."""
        return []

    def redraw(self) -> None:
        """Draw the gutter again, too."""
        super().redraw()
        self.marks_changed.emit()


class Gutter(QWidget):
    """What stands left of a lane: its name and the values of its axis."""

    def __init__(self, lane: MarkedLane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lane = lane
        lane.marks_changed.connect(self.update)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw headings at the left, values at the right."""
        painter = QPainter(self)
        colours = theme.colours
        painter.fillRect(self.rect(), colours.panel)
        painter.setPen(colours.line)
        painter.drawLine(self.width() - 1, 0, self.width() - 1, self.height())
        if self._lane.piece.grid is None:
            return
        painter.setFont(self._lane.small_font())
        metrics = painter.fontMetrics()
        right = self.width() - 6
        taken: list[float] = []
        for y, text, colour in self._lane.headings():
            painter.setPen(colour)
            painter.drawText(QPointF(8, y + metrics.ascent() + 3), text)
            taken.append(y + metrics.height() / 2 + 3)
        painter.setPen(colours.faint_text)
        for y, text in self._lane.marks():
            middle = min(max(y, metrics.height() / 2), self.height() - metrics.height() / 2)
            if all(abs(middle - other) >= metrics.height() for other in taken):
                left = right - metrics.horizontalAdvance(text)
                painter.drawText(QPointF(left, middle + metrics.ascent() / 2 - 1), text)
                taken.append(middle)

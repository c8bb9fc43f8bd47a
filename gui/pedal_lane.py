"""The sustain pedal of the take: how far it is down, as it is played."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QColor, QPainter, QPen
from PyQt6.QtWidgets import QWidget

from gui import batch
from gui.drawing import Band
from gui.drawing_lane import DrawingLane
from gui.piece import Piece
from gui.theme import theme

_GAP = 4.0


class PedalLane(DrawingLane):
    """A strip that is filled while the pedal is down."""

    def __init__(self, piece: Piece, parent: QWidget | None = None) -> None:
        super().__init__(piece, "", parent)
        self.setAccessibleName(self.tr("Sustain pedal"))
        self.setMinimumHeight(self.fontMetrics().height() + 12)

    def bands(self) -> list[Band]:
        """One band: up below, down above."""
        return [Band("pedal", _GAP, self.height() - _GAP, 0.0, 1.0)]

    def headings(self) -> list[tuple[float, str, QColor]]:
        """The lane's name."""
        return [(0.0, self.tr("Pedal"), theme.colours.pedal)]

    def marks(self) -> list[tuple[float, str]]:
        """Up and down, where there is room."""
        if self.height() < 3.5 * self.fontMetrics().height():
            return []
        return [(1.8 * self.fontMetrics().height(), self.tr("down")), (self.height() - _GAP, self.tr("up"))]

    def draw_still(self, painter: QPainter) -> None:
        """The grid, and the pedal's steps as an area."""
        if self.piece.grid is None:
            return
        self.draw_grid(painter)
        seconds, values = self.piece.pedal_steps()
        low, high = self.timeline.visible
        first = max(int(np.searchsorted(seconds, low)) - 1, 0)
        last = int(np.searchsorted(seconds, high)) + 1
        x = (seconds[first:last] - self.timeline.start) * self.timeline.scale
        if len(x) == 0:
            return
        band = self.bands()[0]
        y = band.y(values[first:last])
        end = x[-1] if last > len(seconds) else float(self.width())
        corners_x = np.repeat(np.append(x, end), 2)[1:-1]
        corners_y = np.repeat(y, 2)
        colours = theme.colours
        filled = QColor(colours.pedal)
        filled.setAlpha(90)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(filled)
        ground = band.bottom
        painter.drawPolygon(
            batch.points(
                np.r_[corners_x[0], corners_x, corners_x[-1]],
                np.r_[ground, corners_y, ground],
            )
        )
        painter.setPen(QPen(colours.pedal, 1))
        painter.drawPolyline(batch.points(corners_x, corners_y))

    def readout(self, second: float, value: dict[str, float]) -> str:
        """Bar, and how far the pedal is down."""
        down = value.get("pedal")
        if down is None:
            seconds, values = self.piece.pedal_steps()
            at = int(np.searchsorted(seconds, second, side="right")) - 1
            down = float(values[at]) if at >= 0 else 0.0
        return self.tr("{0}: pedal {1} % down").format(self.piece.bar_text(second), round(100 * down))

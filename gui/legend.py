"""What the colours of the roll mean, in one line."""

from __future__ import annotations

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.roll import velocity_colour
from gui.theme import theme

_SHADES = (25, 45, 65, 85, 105)


class Legend(QWidget):
    """Written, played from soft to loud, drawn; what has no room is left out from the right."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Legend"))
        self.setToolTip(
            self.tr(
                "Grey: as written. Blue: as played, paler is softer. "
                "M, X, W, O: missing, extra, wrong and out of order by the self-check."
            )
        )
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        """All of it."""
        return QSize(round(self._walk(None)), self.fontMetrics().height() + 6)

    def minimumSizeHint(self) -> QSize:
        """It may vanish."""
        return QSize(0, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw what fits."""
        painter = QPainter(self)
        self._walk(painter)

    def _walk(self, painter: QPainter | None) -> float:
        """Draw from left to right; returns where it ends."""
        colours, metrics = theme.colours, self.fontMetrics()
        middle = (metrics.height() + 6) / 2
        base = middle + metrics.ascent() / 2 - 1
        entries = (
            (self.tr("written"), [colours.score_note]),
            (self.tr("played, soft to loud"), [velocity_colour(value) for value in _SHADES]),
            (self.tr("drawn"), []),
        )
        x = 8.0
        for text, patches in entries:
            wide = 12.0 * max(len(patches), 2) + 6
            if painter is not None and x + wide + metrics.horizontalAdvance(text) > self.width():
                break
            if painter is not None:
                for index, colour in enumerate(patches):
                    size = (wide - 6) / len(patches)
                    painter.fillRect(QRectF(x + index * size, middle - 4, size, 8), colour)
                if not patches:
                    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                    painter.setPen(QPen(colours.drawn, 2.2))
                    painter.drawLine(QPointF(x, middle), QPointF(x + wide - 6, middle))
                    painter.setPen(QPen(colours.drawn, 1.5))
                    painter.setBrush(colours.view)
                    painter.drawEllipse(QPointF(x + (wide - 6) / 2, middle), 3.2, 3.2)
                painter.setPen(QPen(colours.faint_text, 1, Qt.PenStyle.SolidLine))
                painter.drawText(QPointF(x + wide, base), text)
            x += wide + metrics.horizontalAdvance(text) + 20
        return x

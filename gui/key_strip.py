"""A small piano on which the keys that are held are seen."""

from __future__ import annotations

from PyQt6.QtCore import QRectF, QSize
from PyQt6.QtGui import QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.parts import note_name
from gui.theme import theme
from pkontext.score import HIGHEST_PITCH, LOWEST_PITCH

_BLACK = (1, 3, 6, 8, 10)


class KeyStrip(QWidget):
    """The 88 keys; held ones are filled, and marked by a dot."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._held: tuple[int, ...] = ()
        self.setAccessibleName(self.tr("Held keys"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def set_held(self, held: tuple[int, ...]) -> None:
        """Show these keys as held."""
        if held != self._held:
            self._held = held
            self.setAccessibleDescription(" ".join(note_name(key) for key in held))
            self.update()

    def sizeHint(self) -> QSize:
        """A strip two lines high."""
        return QSize(260, round(self.fontMetrics().height() * 2.2))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw white keys, then black ones."""
        c, painter = theme.colours, QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        keys = range(LOWEST_PITCH, HIGHEST_PITCH + 1)
        white = [key for key in keys if key % 12 not in _BLACK]
        place = {key: index for index, key in enumerate(white)}
        width, height = self.width() / len(white), float(self.height())
        held = set(self._held)
        painter.setPen(QPen(c.bar_line, 0.8))
        for key, index in place.items():
            painter.setBrush(c.accent if key in held else c.white_key)
            painter.drawRect(QRectF(index * width, 0.5, width, height - 1))
        for key in keys:
            if key % 12 in _BLACK:
                painter.setBrush(c.accent if key in held else c.black_key)
                x = (place[key - 1] + 1) * width
                painter.drawRect(QRectF(x - 0.3 * width, 0.5, 0.6 * width, height * 0.6))
        painter.setPen(QPen(c.accent_text, 0))
        painter.setBrush(c.accent_text)
        for key in held & set(keys):
            black = key % 12 in _BLACK
            x = (place[key - 1] + 1) * width if black else (place[key] + 0.5) * width
            side = min(width * 0.4, 4.0)
            painter.drawEllipse(QRectF(x - side / 2, height * (0.5 if black else 0.8) - side / 2, side, side))

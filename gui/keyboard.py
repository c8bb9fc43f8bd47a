"""The piano keyboard beside the roll: one row a key, named at every C, with what sounds now pressed down."""

from __future__ import annotations

from PyQt6.QtCore import QPointF, QRectF
from PyQt6.QtGui import QPainter, QPaintEvent
from PyQt6.QtWidgets import QWidget

from gui.roll import BLACK_KEYS, Roll
from gui.theme import mix, theme


class Keyboard(QWidget):
    """Keys at the heights of the roll's rows."""

    def __init__(self, roll: Roll, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Piano keyboard"))
        self._roll = roll
        self._down: frozenset[int] = frozenset()
        roll.rows_changed.connect(self.update)
        roll.keys_changed.connect(self.press_keys)
        theme.changed.connect(self.update)

    @property
    def down(self) -> frozenset[int]:
        """Pitches that are pressed."""
        return self._down

    def press_keys(self, pitches: frozenset[int]) -> None:
        """Show these keys pressed down, and no others."""
        if pitches != self._down:
            self._down = pitches
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """White keys as the ground, black ones shorter on it."""
        painter = QPainter(self)
        colours, roll = theme.colours, self._roll
        width, height = float(self.width()), roll.row_height
        painter.fillRect(self.rect(), colours.white_key)
        line = mix(colours.white_key, colours.black_key, 0.3)
        low, high = roll.visible_pitches()
        painter.setFont(roll.small_font())
        metrics = painter.fontMetrics()
        named = 12 * height >= metrics.height() + 2
        for pitch in range(low, high + 1):
            top = roll.y(pitch)
            down = pitch in self._down
            if pitch % 12 in BLACK_KEYS:
                black = QRectF(0, top, 0.6 * width, height)
                painter.fillRect(QRectF(0, top + height / 2, width, 1), line)
                painter.fillRect(black, colours.accent if down else colours.black_key)
                continue
            if down:
                # A white key reaches half way under its black neighbours.
                above = height / 2 if (pitch + 1) % 12 in BLACK_KEYS else 0
                below = height / 2 if (pitch - 1) % 12 in BLACK_KEYS else 0
                painter.fillRect(QRectF(0, top - above, width, height + above + below), colours.accent)
            if pitch % 12 in (0, 5):
                painter.fillRect(QRectF(0, top + height - 1, width, 1), line)
            if pitch % 12 == 0 and named:
                name = f"C{pitch // 12 - 1}"
                painter.setPen(colours.accent_text if down else colours.black_key)
                left = width - metrics.horizontalAdvance(name) - 6
                painter.drawText(QPointF(left, top + height / 2 + metrics.ascent() / 2 - 1), name)
        painter.setPen(colours.bar_line)
        painter.drawLine(self.width() - 1, 0, self.width() - 1, self.height())

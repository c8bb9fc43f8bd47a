"""The level meter: the peak in dB with a mark that stays for a while, ticks, and the number in words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from PyQt6.QtCore import QRectF, QSize, Qt
from PyQt6.QtGui import QPainter, QPaintEvent
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.theme import theme

LOWEST_DB, HIGHEST_DB = -54.0, 3.0
TICKS = (-48, -36, -24, -12, 0)
HOLD_SEC = 1.5
_FALL_DB_SEC = 24.0


def to_db(level: float) -> float:
    """Peak to dBFS, `LOWEST_DB` at least."""
    return max(20 * math.log10(level), LOWEST_DB) if level > 0 else LOWEST_DB


class LevelMeter(QWidget):
    """A bar from `LOWEST_DB` to `HIGHEST_DB`.

    Parameters
    ----------
    clock : callable
        Seconds; for tests.
    """

    def __init__(self, parent: QWidget | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(parent)
        self._clock = clock
        self.level_db, self.held_db = LOWEST_DB, LOWEST_DB
        self.clipped = False
        self._held_at = self._moved_at = clock()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(self.tr("Level"))
        self.setToolTip(
            self.tr(
                "Peak level of what is heard, in dB below full scale. The mark keeps the highest peak; "
                "at 0 the sound is clipped. Click to start over."
            )
        )
        theme.changed.connect(self.update)

    def set_level(self, level: float) -> None:
        """Show a peak; 1 is full scale."""
        now, db = self._clock(), to_db(level)
        held = self.held_db
        if now - self._held_at > HOLD_SEC:
            held = max(held - _FALL_DB_SEC * (now - self._moved_at), LOWEST_DB)
        if db >= held:
            held, self._held_at = db, now
        self._moved_at = now
        clipped = self.clipped or level >= 1.0
        if (round(db, 1), round(held, 1), clipped) != (
            round(self.level_db, 1),
            round(self.held_db, 1),
            self.clipped,
        ):
            self.level_db, self.held_db, self.clipped = db, held, clipped
            self.setAccessibleDescription(self.text())
            self.update()

    def text(self) -> str:
        """The held peak in words."""
        if self.clipped:
            return self.tr("clipped")
        return self.tr("silent") if self.held_db <= LOWEST_DB else f"{self.held_db:.0f} dB".replace("-", "−")

    def sizeHint(self) -> QSize:
        """Two lines of small text."""
        height = self.fontMetrics().height()
        return QSize(12 * height, round(1.9 * height))

    def minimumSizeHint(self) -> QSize:
        """Ticks can still be read."""
        height = self.fontMetrics().height()
        return QSize(8 * height, round(1.9 * height))

    def mousePressEvent(self, _event: object) -> None:
        """Forget the highest peak."""
        self.held_db, self.clipped = LOWEST_DB, False
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Bar, mark, ticks and number."""
        painter, colours = QPainter(self), theme.colours
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = self.font()
        font.setPointSizeF(0.72 * font.pointSizeF())
        painter.setFont(font)
        metrics = painter.fontMetrics()
        beside = metrics.horizontalAdvance("clipped ")
        left, wide = 1.0, self.width() - beside - 8.0
        high = round(self.height() - metrics.height() - 4.0)
        bar = QRectF(left, 1.0, wide, high)

        def x(db: float) -> float:
            share = (db - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB)
            return left + wide * min(max(share, 0.0), 1.0)

        painter.setPen(colours.bar_line)
        painter.setBrush(colours.view)
        painter.drawRoundedRect(bar, 2, 2)
        painter.setPen(Qt.PenStyle.NoPen)
        for low, top, colour in (
            (LOWEST_DB, -6.0, colours.good),
            (-6.0, 0.0, colours.warning),
            (0.0, HIGHEST_DB, colours.wrong),
        ):
            if self.level_db > low:
                end = x(min(self.level_db, top))
                painter.fillRect(QRectF(x(low) + 1, 2.5, max(end - x(low) - 1, 0), high - 3.0), colour)
        if self.held_db > LOWEST_DB:
            painter.fillRect(QRectF(x(self.held_db) - 1, 1.0, 2, high), colours.text)
        taken = -1e9
        for tick in reversed(TICKS):
            here, label = x(tick), f"{tick}".replace("-", "−")
            painter.setPen(colours.bar_line)
            painter.drawLine(round(here), round(high) + 1, round(here), round(high) + 3)
            half = metrics.horizontalAdvance(label) / 2
            if taken > -1e8 and here + half + 3 > taken:
                continue
            taken = here - half
            painter.setPen(colours.faint_text)
            painter.drawText(
                QRectF(here - half - 2, high + 3, 2 * half + 4, metrics.height()),
                Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop,
                label,
            )
        painter.setPen(colours.wrong if self.clipped else colours.text)
        painter.drawText(
            QRectF(left + wide + 4, 0, beside + 4, high + 2),
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            self.text(),
        )

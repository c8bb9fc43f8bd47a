"""What was played against the beats that were found, in a small roll."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent, QWheelEvent
from PyQt6.QtWidgets import QAbstractScrollArea, QSizePolicy, QWidget

from gui.parts import GRID, note_name
from gui.theme import mix, theme
from pkontext.quantise import Quantised, describe

_LEAST_SCALE, _MOST_SCALE = 4.0, 600.0
#: So many pixels a second are read well; shorter takes fill the width.
_USUAL_SCALE = 70.0
#: Beats that are drawn before and after those that were found.
_BEYOND = 64


class QuantiseView(QAbstractScrollArea):
    """Captured notes in captured time, and where the grid puts them.

    The right hand's notes are plain, the left hand's have a stripe along the middle; an outline shows where a
    note is written. Click a beat to begin a bar there; Ctrl and the wheel, or + and -, zoom.
    """

    #: Number of the beat, from 0 in `Quantised.beat_sec`, that was clicked.
    beat_clicked = pyqtSignal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._quantised: Quantised | None = None
        self._rows = np.zeros(0)
        self._grid = np.zeros((0, 2))
        self._beat_sec = np.zeros(0)
        self._bars: dict[int, int] = {}
        self._scale, self._end = _USUAL_SCALE, 1.0
        self._fitted = True
        self.setAccessibleName(self.tr("Preview of the bars that were found"))
        self.setToolTip(
            self.tr("Filled: as played. Outlined: as written. Click a beat to begin a bar there.")
        )
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(self.fontMetrics().height() * 8)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.changed.connect(self._refresh)

    def show_nothing(self) -> None:
        """Be empty."""
        self._quantised = None
        self._bars = {}
        self._refresh()

    def show_quantised(self, quantised: Quantised, notes: np.ndarray) -> None:
        """Show a score beside what was played."""
        first_time = self._quantised is None
        self._quantised = quantised
        self._rows = describe(quantised, notes)
        self._grid = written_sec(quantised, self._rows)
        self._beat_sec = _extended(quantised.beat_sec)
        self._bars = _bar_numbers(quantised, first_beat(quantised, self._rows))
        self._end = max(float(self._rows["captured_end_sec"].max()), float(self._grid.max())) + 0.25
        if first_time or self._fitted:
            self._fit()
        self.setAccessibleDescription(
            self.tr("{0} notes, {1} bars, {2:.0f} beats a minute").format(
                len(self._rows), int(self._rows["bar"].max()), quantised.tempo_bpm
            )
        )
        self._refresh()

    def zoom(self, factor: float, x: float | None = None) -> None:
        """Zoom around a pixel, or the left edge."""
        x = 0.0 if x is None else x
        second = (x + self._left) / self._scale
        self._scale = min(max(self._scale * factor, _LEAST_SCALE), _MOST_SCALE)
        self._fitted = False
        self._refresh()
        bar = self.horizontalScrollBar()
        assert bar is not None
        bar.setValue(round(second * self._scale - x))

    # -- Qt's events ------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fill the width, unless the user has zoomed."""
        if self._fitted:
            self._fit()
        self._refresh()

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Scroll, or zoom with Ctrl."""
        if event is None:
            return
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom(1.0015 ** event.angleDelta().y(), event.position().x())
            return
        bar = self.horizontalScrollBar()
        assert bar is not None
        delta = event.angleDelta()
        bar.setValue(bar.value() - (delta.x() or delta.y()))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Zoom with + and -; the arrows scroll."""
        if event is None:
            return
        if event.key() in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(1.25)
        elif event.key() == Qt.Key.Key_Minus:
            self.zoom(0.8)
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Begin a bar at the beat that is nearest."""
        if event is None or self._quantised is None or event.button() != Qt.MouseButton.LeftButton:
            return
        second = (event.position().x() + self._left) / self._scale
        beat = int(np.abs(self._quantised.beat_sec - second).argmin())
        self.beat_clicked.emit(beat)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw what is visible."""
        view = self.viewport()
        assert view is not None
        painter = QPainter(view)
        painter.fillRect(view.rect(), theme.colours.view)
        if self._quantised is None:
            painter.setPen(theme.colours.faint_text)
            painter.drawText(
                view.rect(), int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._empty_text
            )
            return
        self._paint_beats(painter, QRectF(view.rect()))
        self._paint_notes(painter, QRectF(view.rect()))

    # -- inside -----------------------------------------------------------------------------------------

    @property
    def _empty_text(self) -> str:
        return self.tr("Finding the beats…")

    @property
    def _left(self) -> int:
        bar = self.horizontalScrollBar()
        return 0 if bar is None else bar.value()

    def _fit(self) -> None:
        view = self.viewport()
        width = 1 if view is None else max(view.width(), 1)
        self._scale = min(max(width / self._end, _USUAL_SCALE), _MOST_SCALE)

    def _refresh(self) -> None:
        bar, view = self.horizontalScrollBar(), self.viewport()
        if bar is None or view is None:
            return
        bar.setRange(0, max(round(self._end * self._scale) - view.width(), 0))
        bar.setPageStep(view.width())
        bar.setSingleStep(max(view.width() // 10, 1))
        view.update()

    def _paint_beats(self, painter: QPainter, area: QRectF) -> None:
        c, top = theme.colours, painter.fontMetrics().height() + 4
        painter.fillRect(QRectF(0, 0, area.width(), top), c.panel)
        dense = self._scale * float(np.median(np.diff(self._beat_sec))) < 5
        last_label = -1e9
        for index, second in enumerate(self._beat_sec):
            x = float(second) * self._scale - self._left
            if not -1 <= x <= area.width() + 1:
                continue
            bar = self._bars.get(index - _BEYOND)
            if bar is None:
                if not dense:
                    painter.setPen(QPen(c.line, 1))
                    painter.drawLine(QPointF(x, top), QPointF(x, area.bottom()))
                continue
            painter.setPen(QPen(c.bar_line, 1.5))
            painter.drawLine(QPointF(x, 2), QPointF(x, area.bottom()))
            text = str(bar)
            if bar > 0 and x - last_label > painter.fontMetrics().horizontalAdvance(text) + GRID:
                painter.setPen(c.faint_text)
                painter.drawText(QPointF(x + 4, top - 5), text)
                last_label = x
        painter.setPen(QPen(c.bar_line, 1))
        painter.drawLine(QPointF(0, top), QPointF(area.width(), top))

    def _paint_notes(self, painter: QPainter, area: QRectF) -> None:
        c, rows = theme.colours, self._rows
        top = painter.fontMetrics().height() + 4 + GRID / 2
        low, high = int(rows["pitch"].min()) - 1, int(rows["pitch"].max()) + 1
        height = min((area.height() - top - GRID / 2) / (high - low + 1), 2.0 * GRID)
        base = top + ((area.height() - top) - height * (high - low + 1)) / 2
        y = base + (high - rows["pitch"].astype(int)) * height
        starts, ends = rows["captured_sec"], rows["captured_end_sec"]
        first, last = self._left / self._scale, (self._left + area.width()) / self._scale
        outline = QColor(c.faint_text)
        for index in np.flatnonzero(
            (np.maximum(ends, self._grid[:, 1]) >= first) & (np.minimum(starts, self._grid[:, 0]) <= last)
        ):
            right = bool(rows["right_hand"][index])
            colour = c.accent if right else c.loudness
            x = float(starts[index]) * self._scale - self._left
            width = max(float(ends[index] - starts[index]) * self._scale, 2.0)
            box = QRectF(x, float(y[index]) + 0.5, width, max(height - 1.0, 1.5))
            painter.fillRect(box, mix(c.view, colour, 0.75))
            painter.fillRect(QRectF(x, box.top(), 2.0, box.height()), colour)
            if not right and height >= 4:
                painter.fillRect(QRectF(x, box.center().y() - 0.5, width, 1.0), c.view)
            left, end = (float(value) * self._scale - self._left for value in self._grid[index])
            painter.setPen(QPen(outline, 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(left, box.top(), max(end - left - 1.0, 2.0), box.height()))
        painter.setPen(c.faint_text)
        painter.drawText(QPointF(4, area.bottom() - 4), note_name(low + 1))
        painter.drawText(QPointF(4, top + painter.fontMetrics().ascent()), note_name(high - 1))


def first_beat(quantised: Quantised, rows: np.ndarray) -> int:
    """Number of the beat, from 0 in `Quantised.beat_sec`, at which the score begins; may be negative."""
    beat_sec = _extended(quantised.beat_sec)
    played = np.interp(rows["captured_sec"], beat_sec, np.arange(len(beat_sec)) - float(_BEYOND))
    guess = float(np.median(played - quantised.score.notes["onset_tick"] / quantised.beat_ticks))
    starts = np.flatnonzero(quantised.bar_starts)
    beats = int(starts[1] - starts[0]) if len(starts) > 1 else 1
    phase = int(starts[0]) if len(starts) else 0
    return phase + beats * round((guess - phase) / beats)


def written_sec(quantised: Quantised, rows: np.ndarray) -> np.ndarray:
    """Where notes are written, in captured seconds: ``[notes, 2]``, onset and end."""
    beat_sec, notes = _extended(quantised.beat_sec), quantised.score.notes
    ticks = np.stack([notes["onset_tick"], notes["onset_tick"] + notes["duration_tick"]], axis=1)
    beats = first_beat(quantised, rows) + ticks / quantised.beat_ticks
    return np.interp(beats, np.arange(len(beat_sec)) - float(_BEYOND), beat_sec)


def _extended(beat_sec: np.ndarray) -> np.ndarray:
    """Beats with more of them before and after, at the pace of the first and last."""
    steps = np.arange(1, _BEYOND + 1)
    before = beat_sec[0] - steps[::-1] * (beat_sec[1] - beat_sec[0])
    after = beat_sec[-1] + steps * (beat_sec[-1] - beat_sec[-2])
    return np.concatenate([before, beat_sec, after])


def _bar_numbers(quantised: Quantised, first: int) -> dict[int, int]:
    """Number of the bar that begins at a beat; the score's first bar is 1."""
    starts = np.flatnonzero(quantised.bar_starts)
    beats = int(starts[1] - starts[0]) if len(starts) > 1 else 1
    count = len(quantised.beat_sec) + _BEYOND
    return {beat: 1 + (beat - first) // beats for beat in range(first - beats * 8, count, beats)}

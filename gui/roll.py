"""The piano roll: what is written as quiet blocks, what is played over it, coloured by velocity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PyQt6.QtCore import QEvent, QPoint, QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QHelpEvent, QKeyEvent, QPainter, QPen, QPolygonF, QResizeEvent, QWheelEvent
from PyQt6.QtWidgets import QScrollBar, QToolTip, QWidget

from gui import batch
from gui.lane import Lane
from gui.piece import Blocks, Piece
from gui.theme import mix, theme
from pkontext.score import HIGHEST_PITCH, LOWEST_PITCH

BLACK_KEYS = frozenset((1, 3, 6, 8, 10))
#: Colours between softest and loudest; finer steps are not seen.
_SHADES = 16
_LEAST_ROW, _MOST_ROW = 4.0, 32.0
_FITTED_ROW = 16.0
#: What a kind of finding is marked with: letter, and corners of its shape in half sizes.
_MARKS: dict[str, tuple[str, tuple[tuple[float, float], ...]]] = {
    "missing": ("M", ()),
    "extra": ("X", ((-1.3, 0.95), (1.3, 0.95), (0, -1.45))),
    "wrong": ("W", ((-1, -1), (1, -1), (1, 1), (-1, 1))),
    "order": ("O", ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))),
}


class Roll(Lane):
    """Notes over the axis, one row a key."""

    #: Rows have moved: scrolled or zoomed.
    rows_changed = pyqtSignal()
    #: Other pitches sound at the playhead: a frozenset.
    keys_changed = pyqtSignal(object)

    def __init__(self, piece: Piece, parent: QWidget | None = None) -> None:
        super().__init__(piece, "", parent)
        self.setAccessibleName(self.tr("Piano roll"))
        self.setMinimumHeight(80)
        self.row_height = 8.0
        self.scroll_bar = QScrollBar(Qt.Orientation.Vertical)
        self.scroll_bar.setAccessibleName(self.tr("Scroll the piano roll"))
        self.scroll_bar.valueChanged.connect(self._show_rows)
        self._own_rows = False  # the user chose the height of rows
        self._fitted_to: object = None
        self._keys: frozenset[int] = frozenset()
        piece.changed.connect(self._fit_new_score)
        piece.changed.connect(lambda: self._tell_keys(self.timeline.playhead))
        self.timeline.moved.connect(self._tell_keys)

    # -- rows -------------------------------------------------------------------------------------------

    def y(self, pitch: float) -> float:
        """Top of a key's row."""
        return (HIGHEST_PITCH - pitch) * self.row_height - self.scroll_bar.value()

    def pitch_at(self, y: float) -> int:
        """The key of a pixel."""
        return HIGHEST_PITCH - int((y + self.scroll_bar.value()) // self.row_height)

    def visible_pitches(self) -> tuple[int, int]:
        """Lowest and highest key that can be seen."""
        return max(self.pitch_at(self.height()), LOWEST_PITCH), min(self.pitch_at(0), HIGHEST_PITCH)

    def fit_rows(self) -> None:
        """Show the pitch range of the score."""
        notes = self.piece.written
        low, high = (48, 84) if notes is None else (int(notes.pitch.min()), int(notes.pitch.max()))
        low, high = max(low - 2, LOWEST_PITCH), min(high + 2, HIGHEST_PITCH)
        self._own_rows = False
        # Whole pixels keep all rows alike.
        ratio = self.devicePixelRatioF()
        fitting = np.floor(self.height() / (high - low + 1) * ratio) / ratio
        self.row_height = float(np.clip(fitting, _LEAST_ROW + 1, _FITTED_ROW))
        self._set_range()
        middle = (HIGHEST_PITCH - (low + high) / 2 + 0.5) * self.row_height
        self.scroll_bar.setValue(round(middle - self.height() / 2))
        self._show_rows()

    def zoom_rows(self, factor: float, y: float) -> None:
        """Make rows higher or lower around a pixel."""
        fixed = (y + self.scroll_bar.value()) / self.row_height
        self.row_height = min(max(self.row_height * factor, _LEAST_ROW), _MOST_ROW)
        self._own_rows = True
        self._set_range()
        self.scroll_bar.setValue(round(fixed * self.row_height - y))
        self._show_rows()

    def _set_range(self) -> None:
        whole = (HIGHEST_PITCH - LOWEST_PITCH + 1) * self.row_height
        self.scroll_bar.setRange(0, max(round(whole - self.height()), 0))
        self.scroll_bar.setPageStep(self.height())
        self.scroll_bar.setSingleStep(round(2 * self.row_height))

    def _show_rows(self) -> None:
        self.redraw()
        self.rows_changed.emit()

    def _fit_new_score(self) -> None:
        if self.document.score is not self._fitted_to:
            self._fitted_to = self.document.score
            self.fit_rows()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the fit, or the rows that the user chose."""
        if self._own_rows:
            self._set_range()
            self._show_rows()
        else:
            self.fit_rows()

    # -- drawing ----------------------------------------------------------------------------------------

    def draw_still(self, painter: QPainter) -> None:
        """Rows, grid, written and played notes, findings."""
        if self.piece.written is None:
            painter.setFont(self.font())
            painter.setPen(theme.colours.faint_text)
            hint = self.tr("Open a MIDI file or a project, and its notes appear here.")
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(16, 0, -16, 0), flags, hint)
            return
        self._draw_rows(painter)
        self.draw_grid(painter)
        self._draw_written(painter, self.piece.written)
        if self.piece.played is not None:
            self._draw_played(painter, self.piece.played)
        self._draw_findings(painter)

    def _draw_rows(self, painter: QPainter) -> None:
        colours = theme.colours
        low, high = self.visible_pitches()
        tint = mix(colours.view, colours.line, 0.5)
        for pitch in range(low, high + 1):
            if pitch % 12 in BLACK_KEYS:
                painter.fillRect(QRectF(0, self.y(pitch), self.width(), self.row_height), tint)
            elif pitch % 12 in (0, 5):
                bottom = self.y(pitch) + self.row_height - 1
                painter.fillRect(QRectF(0, bottom, self.width(), 1), colours.line)

    def _places(self, notes: Blocks, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Left edge, width and row of notes."""
        timeline = self.timeline
        left = (notes.start[index] - timeline.start) * timeline.scale
        width = np.maximum((notes.end[index] - notes.start[index]) * timeline.scale - 1.0, 1.5)
        top = self.crisp((HIGHEST_PITCH - notes.pitch[index]) * self.row_height) - self.scroll_bar.value()
        return left, width, top

    def _seen(self, notes: Blocks) -> np.ndarray:
        index = notes.between(*self.timeline.visible)
        low, high = self.visible_pitches()
        pitch = notes.pitch[index]
        return index[(pitch >= low) & (pitch <= high)]

    def _draw_written(self, painter: QPainter, notes: Blocks) -> None:
        left, width, top = self._places(notes, self._seen(notes))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colours.score_note)
        painter.drawRects(batch.rectangles(left, top, width, self._block_height()))

    def _block_height(self) -> float:
        """Rows that are high enough leave a hair between them."""
        ratio = self.devicePixelRatioF()
        return float(np.floor(self.row_height * ratio) / ratio) - self.hair * (self.row_height >= 8)

    def _draw_played(self, painter: QPainter, notes: Blocks) -> None:
        index = self._seen(notes)
        shade = notes.velocity[index] * _SHADES // 128
        index = index[np.argsort(shade, kind="stable")]
        shade = np.sort(shade)
        left, width, top = self._places(notes, index)
        inset = max(float(self.crisp(self.row_height * 0.16)), self.hair)
        height = max(self._block_height() - 2 * inset, 2.0)
        painter.setPen(Qt.PenStyle.NoPen)
        edges = np.searchsorted(shade, np.arange(_SHADES + 1))
        for number, (first, last) in enumerate(pairwise(edges)):
            if last > first:
                painter.setBrush(velocity_colour((number + 0.5) * 128 / _SHADES))
                part = slice(first, last)
                painter.drawRects(batch.rectangles(left[part], top[part] + inset, width[part], height))

    def _draw_findings(self, painter: QPainter) -> None:
        current = self.document.current
        low, high = self.timeline.visible
        metrics = painter.fontMetrics()
        half = 0.62 * metrics.height()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.colours.wrong, 1.2))
        painter.setBrush(theme.colours.view)
        for finding in (current.findings or ()) if current is not None else ():
            second = self.piece.finding_second(finding.row, finding.time_sec)
            if not low - 1 <= second <= high + 1 or finding.kind not in _MARKS:
                continue
            letter, corners = _MARKS[finding.kind]
            centre = QPointF(self.timeline.x(second), self.y(finding.pitch) + self.row_height / 2)
            if corners:
                painter.drawPolygon(
                    QPolygonF([QPointF(centre.x() + half * x, centre.y() + half * y) for x, y in corners])
                )
            else:
                painter.drawEllipse(centre, 1.05 * half, 1.05 * half)
            drop = 0.28 * half if finding.kind == "extra" else 0.0
            wide = metrics.horizontalAdvance(letter)
            base = centre.y() + metrics.capHeight() / 2 + drop
            painter.drawText(QPointF(centre.x() - wide / 2, base), letter)

    # -- what is where ----------------------------------------------------------------------------------

    def _tell_keys(self, second: float) -> None:
        notes = self.piece.played or self.piece.written
        index = notes.between(second, second) if notes is not None else ()
        keys = frozenset(notes.pitch[index].tolist()) if notes is not None else frozenset()
        if keys != self._keys:
            self._keys = keys
            self.keys_changed.emit(keys)

    def text_at(self, position: QPointF) -> str:
        """What is there, for people: note, place, velocity, how early or late; or a finding."""
        from pkontext.selfcheck import note_name

        pitch, reach = self.pitch_at(position.y()), 3 / self.timeline.scale
        second = self.timeline.start + position.x() / self.timeline.scale
        current = self.document.current
        for finding in (current.findings or ()) if current is not None else ():
            away = abs(self.piece.finding_second(finding.row, finding.time_sec) - second)
            if away < 4 * reach and abs(finding.pitch - pitch) * self.row_height < 10:
                return finding.text()
        for notes in (self.piece.played, self.piece.written):
            if notes is None or self.document.score is None:
                continue
            index = notes.between(second - reach, second + reach)
            index = index[notes.pitch[index] == pitch]
            if len(index):
                note = int(index[-1])
                written = self.document.score.notes["onset_sec"][notes.row[note]]
                text = f"{note_name(pitch)}, {self.piece.bar_text(float(written))}"
                return text + (self._how_played(notes, note) if notes is self.piece.played else "")
        return ""

    def _how_played(self, notes: Blocks, note: int) -> str:
        late = round(float(notes.late_ms[note]))
        if late == 0:
            when = self.tr("on the beat")
        else:
            when = (self.tr("{0} ms late") if late > 0 else self.tr("{0} ms early")).format(abs(late))
        return self.tr(", velocity {0}, {1}").format(int(notes.velocity[note]), when)

    def event(self, event: QEvent | None) -> bool:
        """Show what is under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            text = self.text_at(QPointF(event.pos())) if self.piece.written is not None else ""
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return super().event(event)

    # -- moving -----------------------------------------------------------------------------------------

    def wheel(self, moved: QPoint, sideways: bool) -> None:
        """Scroll the keys; sideways with Shift."""
        if sideways or abs(moved.x()) > abs(moved.y()):
            super().wheel(moved, True)
        else:
            self.pan_vertically(-moved.y())

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Zoom the rows with Ctrl and Shift."""
        assert event is not None
        both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
        if event.modifiers() & both == both and self.piece.grid is not None:
            self.zoom_rows(1.0015 ** event.angleDelta().y(), event.position().y())
            event.accept()
        else:
            super().wheelEvent(event)

    def pan_vertically(self, pixels: float) -> None:
        """Scroll the keys."""
        self.scroll_bar.setValue(self.scroll_bar.value() + round(pixels))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Scroll the keys with the arrow and page keys."""
        assert event is not None
        steps = {Qt.Key.Key_Up: -1.0, Qt.Key.Key_Down: 1.0, Qt.Key.Key_PageUp: -8.0, Qt.Key.Key_PageDown: 8.0}
        plain = event.modifiers() == Qt.KeyboardModifier.NoModifier
        if event.key() in steps and plain:
            self.pan_vertically(steps[Qt.Key(event.key())] * 2 * self.row_height)
        else:
            super().keyPressEvent(event)


def velocity_colour(velocity: float) -> QColor:
    """The colour of a played note; most playing lies between 20 and 110."""
    return mix(theme.colours.soft_note, theme.colours.loud_note, (velocity - 20) / 90)

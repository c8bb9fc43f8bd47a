"""A view on the shared axis: a picture of what stands still, drawn once, and what moves over it.

Subclasses draw the picture in `draw_still` and what moves in `draw_over`. While the music plays, only the
strips that the playhead leaves and enters are painted again.
"""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import (
    QFocusEvent,
    QFont,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PyQt6.QtWidgets import QWidget

from gui import batch
from gui.piece import Piece
from gui.theme import theme

_DRAG_PIXELS = 4
_STRIP = 3


class Lane(QWidget):
    """One view of `gui.score_view.ScoreView`.

    Parameters
    ----------
    piece : Piece
    name : str
        For people: accessible name.
    """

    #: The user wants to hear this score second.
    seek_requested = pyqtSignal(float)
    #: For the status bar.
    message = pyqtSignal(str)

    def __init__(self, piece: Piece, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.piece, self.timeline, self.document = piece, piece.timeline, piece.document
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.strip = _STRIP
        self._still: QPixmap | None = None
        self._head = 0.0
        self._pressed: QPointF | None = None
        self._dragging = self._kept = False
        self._panned: QPointF | None = None
        self._focus_shown = False
        self.timeline.changed.connect(self.redraw)
        self.timeline.moved.connect(self._move_head)
        self.timeline.selection_changed.connect(self.update)
        piece.changed.connect(self.redraw)
        theme.changed.connect(self.redraw)

    # -- drawing ----------------------------------------------------------------------------------------

    def draw_still(self, painter: QPainter) -> None:
        """Draw what changes only with the piece, the axis or the theme, on the filled background."""
        raise NotImplementedError

    def draw_over(self, painter: QPainter) -> None:
        """Draw what moves, below the playhead."""

    def redraw(self) -> None:
        """Draw everything again when it is next shown."""
        self._still = None
        self._head = self.timeline.x(self.timeline.playhead)
        self.update()

    def small_font(self) -> QFont:
        """For labels inside of views."""
        font = QFont(self.font())
        font.setPointSizeF(max(font.pointSizeF() * 0.85, 6.0))
        return font

    def crisp(self, pixels: np.ndarray | float) -> np.ndarray:
        """The nearest places on the device's own pixels."""
        ratio = self.devicePixelRatioF()
        return np.round(np.asarray(pixels) * ratio) / ratio

    @property
    def hair(self) -> float:
        """Width of the thinnest line that looks the same everywhere."""
        ratio = self.devicePixelRatioF()
        return max(int(ratio), 1) / ratio

    def draw_grid(self, painter: QPainter) -> None:
        """Draw bar lines, and beats where there is room."""
        grid, timeline = self.piece.grid, self.timeline
        if grid is None:
            return
        painter.setPen(Qt.PenStyle.NoPen)
        low, high = timeline.visible
        if grid.beat_gap(low, high) * timeline.scale >= 14:
            painter.setBrush(theme.colours.line)
            x = self.crisp((grid.beats_between(low, high) - timeline.start) * timeline.scale)
            painter.drawRects(batch.rectangles(x, 0.0, self.hair, self.height()))
        painter.setBrush(theme.colours.bar_line)
        _, seconds = grid.bars_between(low, high, 9 / timeline.scale)
        x = self.crisp((seconds - timeline.start) * timeline.scale)
        painter.drawRects(batch.rectangles(x, 0.0, self.hair, self.height()))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Copy the picture, and draw over it."""
        if self._still is None or self._still.devicePixelRatio() != self.devicePixelRatioF():
            self._still = self._draw_picture()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._still)
        self._draw_selection(painter)
        self.draw_over(painter)
        self._draw_head(painter)
        if self._focus_shown and self.hasFocus():
            painter.setPen(QPen(theme.colours.accent, 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _draw_picture(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        width, height = (max(int(np.ceil(size * ratio)), 1) for size in (self.width(), self.height()))
        picture = QPixmap(width, height)
        picture.setDevicePixelRatio(ratio)
        picture.fill(theme.colours.view)
        painter = QPainter(picture)
        painter.setFont(self.small_font())
        self.draw_still(painter)
        painter.end()
        return picture

    def _draw_selection(self, painter: QPainter) -> None:
        span = self.timeline.selection
        if span is None or self.piece.grid is None:
            return
        left, right = self.timeline.x(span[0]), self.timeline.x(span[1])
        painter.fillRect(QRectF(left, 0, right - left, self.height()), theme.colours.selection)
        painter.setPen(QPen(theme.colours.accent, 1))
        for x in (left, right):
            painter.drawLine(QPointF(round(x), 0), QPointF(round(x), self.height()))

    def _draw_head(self, painter: QPainter) -> None:
        if self.piece.grid is not None:
            x = round(self.timeline.x(self.timeline.playhead))
            painter.fillRect(QRect(x, 0, 2, self.height()), theme.colours.playhead)

    def _move_head(self, second: float) -> None:
        before, self._head = self._head, self.timeline.x(second)
        if round(before) != round(self._head):
            for x in (before, self._head):
                self.update(QRect(round(x) - self.strip, 0, 2 * self.strip + 2, self.height()))

    # -- mouse ------------------------------------------------------------------------------------------

    def press(self, event: QMouseEvent) -> bool:
        """The left button goes down; True when the lane keeps the drag for itself."""
        return False

    def drag(self, event: QMouseEvent) -> None:
        """A kept drag goes on."""

    def release(self, event: QMouseEvent) -> None:
        """A kept drag ends."""

    def hover(self, position: QPointF | None) -> None:
        """The mouse is here, or gone."""

    def pan_vertically(self, pixels: float) -> None:
        """The view is moved by hand."""

    def span_to(self, event: QMouseEvent) -> tuple[float, float]:
        """Score seconds from where the drag began to where it is; whole beats unless Alt is held."""
        assert self._pressed is not None
        low, high = sorted(
            (self.timeline.second(self._pressed.x()), self.timeline.second(event.position().x()))
        )
        free = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
        return (low, high) if free or self.piece.grid is None else self.piece.grid.around(low, high)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Begin to pan, to draw or to select."""
        assert event is not None
        if event.button() == Qt.MouseButton.MiddleButton:
            self._panned = event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif event.button() == Qt.MouseButton.LeftButton and self.piece.grid is not None:
            self._pressed, self._dragging, self._kept = event.position(), False, False
            self._kept = self.press(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Pan, draw or select."""
        assert event is not None
        if self._panned is not None:
            moved = event.position() - self._panned
            self._panned = event.position()
            self.timeline.scroll_to(self.timeline.start - moved.x() / self.timeline.scale)
            self.pan_vertically(-moved.y())
        elif self._pressed is not None:
            if self._kept:
                self.drag(event)
            elif self._dragging or abs(event.position().x() - self._pressed.x()) >= _DRAG_PIXELS:
                self._dragging = True
                self.timeline.select(self.span_to(event))
        self.hover(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """End it; a click without a drag goes there."""
        assert event is not None
        if event.button() == Qt.MouseButton.MiddleButton and self._panned is not None:
            self._panned = None
            self.unsetCursor()
            self.show_cursor()
        elif event.button() == Qt.MouseButton.LeftButton and self._pressed is not None:
            if self._kept:
                self.release(event)
            elif not self._dragging:
                self.seek_requested.emit(self.timeline.second(event.position().x()))
            self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Select a bar."""
        assert event is not None
        grid = self.piece.grid
        if event.button() != Qt.MouseButton.LeftButton or grid is None:
            return
        self._kept = self.press(event)
        self._pressed = event.position() if self._kept else None
        if not self._kept:
            self.timeline.select(grid.bar_span(self.timeline.second(event.position().x())))

    def leaveEvent(self, event: QEvent | None) -> None:
        """Forget where the mouse was."""
        self.hover(None)

    def show_cursor(self) -> None:
        """Show the cursor of the tool."""

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Zoom with Ctrl, else scroll."""
        assert event is not None
        if self.piece.grid is None:
            event.ignore()
            return
        pixels, angle = event.pixelDelta(), event.angleDelta()
        moved = pixels if not pixels.isNull() else angle / 2
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.timeline.zoom(1.0015 ** (angle.y() or angle.x()), event.position().x())
        else:
            self.wheel(moved, bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier))
        event.accept()

    def wheel(self, moved: QPoint, sideways: bool) -> None:
        """Scroll along the axis, whatever way the wheel turns."""
        along = moved.x() or moved.y()
        self.timeline.scroll_to(self.timeline.start - along / self.timeline.scale)

    # -- other events -----------------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Zoom with two fingers."""
        if (
            isinstance(event, QNativeGestureEvent)
            and event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture
        ):
            self.timeline.zoom(1.0 + event.value(), event.position().x())
            return True
        return super().event(event)

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Frame the view that the keyboard has come to."""
        assert event is not None
        self._focus_shown = event.reason() in (
            Qt.FocusReason.TabFocusReason,
            Qt.FocusReason.BacktabFocusReason,
            Qt.FocusReason.ShortcutFocusReason,
        )
        self.update()

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Take the frame away."""
        self.update()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Draw for the new size."""
        self.redraw()

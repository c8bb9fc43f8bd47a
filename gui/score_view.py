"""The views of the music on one axis: ruler, piano roll, pedal, tempo and dynamics, sound."""

from __future__ import annotations

from PyQt6.QtCore import QByteArray, QEvent, QObject, Qt, pyqtSignal
from PyQt6.QtGui import QFontMetrics, QKeyEvent, QResizeEvent
from PyQt6.QtWidgets import (
    QHBoxLayout,
    QScrollBar,
    QSplitter,
    QStyle,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.curves_view import CurvesView
from gui.document import Document
from gui.drawing_lane import TOOLS
from gui.gutter import Gutter
from gui.keyboard import Keyboard
from gui.lane import Lane
from gui.legend import Legend
from gui.pedal_lane import PedalLane
from gui.piece import Piece
from gui.roll import Roll
from gui.ruler import Ruler
from gui.theme import theme
from gui.timeline import Timeline
from gui.waveform import Waveform

ZOOM_STEP = 1.4
#: The scroll bar counts in thousandths of a second.
_UNITS = 1000
_HEIGHTS = (380, 44, 176, 92)
#: How the lanes share what a larger window gives.
_SHARES = (8, 1, 3, 2)


class ScoreView(QWidget):
    """All views of the music, one above the other.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    timeline : Timeline
        Its duration and playhead are set by the window.
    """

    #: The user goes to a score second; the player has been told.
    seek_requested = pyqtSignal(float)
    #: The user wants a range repeated: (start, end) in score seconds.
    loop_requested = pyqtSignal(object)
    #: For the status bar.
    message = pyqtSignal(str)

    def __init__(
        self, document: Document, client: PlayerClient, timeline: Timeline, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Views of the music"))
        self.document, self.client, self.timeline = document, client, timeline
        self.piece = Piece(document, client, timeline, self)
        self.ruler = Ruler(self.piece)
        self.roll = Roll(self.piece)
        self.keyboard = Keyboard(self.roll)
        self.pedal = PedalLane(self.piece)
        self.curves = CurvesView(self.piece)
        self.waveform = Waveform(self.piece)
        self.lanes: tuple[Lane, ...] = (self.ruler, self.roll, self.pedal, self.curves, self.waveform)
        self._scrolling = False
        self._make_layout()
        self._connect()
        self._show_theme()
        self._show_scroll()

    @property
    def tool(self) -> str:
        """One of `gui.drawing_lane.TOOLS`."""
        return self.curves.tool

    def set_tool(self, tool: str) -> None:
        """Take a tool; drawing tools work in the lanes of their curves, elsewhere the mouse selects."""
        if tool not in TOOLS:
            raise ValueError(tool)
        self.curves.set_tool(tool)
        self.pedal.set_tool(tool)
        hints = {
            "tempo": self.tr("Drag in the tempo lane to draw; hold Shift for a straight line."),
            "loudness": self.tr("Drag in the dynamics lane to draw; hold Shift for a straight line."),
            "pedal": self.tr("Drag in the pedal lane to draw; hold Shift for a straight line."),
            "erase": self.tr("Drag over drawn curves to erase them."),
        }
        if tool in hints:
            self.message.emit(hints[tool])

    def zoom_in(self) -> None:
        """Show less, larger."""
        self.timeline.zoom(ZOOM_STEP)

    def zoom_out(self) -> None:
        """Show more, smaller."""
        self.timeline.zoom(1 / ZOOM_STEP)

    def zoom_fit(self) -> None:
        """Show the whole piece, and all of its pitches."""
        self.timeline.fit()
        self.roll.fit_rows()

    def set_loop(self, span: tuple[float, float] | None) -> None:
        """Show the range that is repeated, whoever asked for it."""
        self.ruler.set_loop(span)

    def save_layout(self) -> bytes:
        """Heights of the lanes, to be kept."""
        return bytes(self.splitter.saveState())

    def restore_layout(self, state: bytes) -> None:
        """Heights as they were; what cannot be read changes nothing."""
        self.splitter.restoreState(QByteArray(state))

    # -- parts ------------------------------------------------------------------------------------------

    def _make_layout(self) -> None:
        metrics = QFontMetrics(self.curves.small_font())
        gutter = max(metrics.horizontalAdvance(self.tr("Dynamics")) + 16, 56)
        style = self.style()
        assert style is not None
        bar = style.pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setAccessibleName(self.tr("Heights of the views"))
        self.splitter.setHandleWidth(5)
        self.splitter.addWidget(self._row(self.keyboard, gutter, self.roll, self.roll.scroll_bar, bar))
        for lane in (self.pedal, self.curves, self.waveform):
            self.splitter.addWidget(self._row(Gutter(lane), gutter, lane, None, bar))
        self.splitter.setSizes(list(_HEIGHTS))
        for index, share in enumerate(_SHARES):
            self.splitter.setStretchFactor(index, share)
        self.splitter.setCollapsible(0, False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self._corner = QWidget()
        self._corner.setAutoFillBackground(True)
        column.addWidget(self._row(self._corner, gutter, self.ruler, None, bar))
        column.addWidget(self.splitter, 1)
        column.addLayout(self._bottom(bar))

    def _row(
        self, left: QWidget, gutter: int, lane: Lane, scroll_bar: QScrollBar | None, bar: int
    ) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0 if scroll_bar is not None else bar, 0)
        line.setSpacing(0)
        left.setFixedWidth(gutter)
        line.addWidget(left)
        line.addWidget(lane, 1)
        if scroll_bar is not None:
            scroll_bar.setFixedWidth(bar)
            line.addWidget(scroll_bar)
        return row

    def _bottom(self, bar: int) -> QHBoxLayout:
        """Legend, scroll bar and zoom buttons."""
        line = QHBoxLayout()
        line.setContentsMargins(0, 2, 0, 2)
        line.setSpacing(2)
        self.legend = Legend()
        line.addWidget(self.legend)
        self.scroll_bar = QScrollBar(Qt.Orientation.Horizontal)
        self.scroll_bar.setAccessibleName(self.tr("Scroll along the piece"))
        self.scroll_bar.setMinimumWidth(160)
        self.scroll_bar.valueChanged.connect(self._scroll)
        line.addWidget(self.scroll_bar, 1)
        for text, name, tip, run in (
            ("\u2212", self.tr("Zoom out"), self.tr("Zoom out (Ctrl+-, Ctrl+wheel)"), self.zoom_out),
            ("+", self.tr("Zoom in"), self.tr("Zoom in (Ctrl++, Ctrl+wheel)"), self.zoom_in),
            ("\u2194", self.tr("Whole piece"), self.tr("Show the whole piece (Ctrl+0)"), self.zoom_fit),
        ):
            button = QToolButton()
            button.setText(text)
            button.setAccessibleName(name)
            button.setToolTip(tip)
            button.setAutoRaise(True)
            button.clicked.connect(run)
            line.addWidget(button)
        return line

    def _connect(self) -> None:
        for lane in self.lanes:
            lane.seek_requested.connect(self._seek)
            lane.message.connect(self.message)
        self.ruler.loop_requested.connect(self.loop_requested)
        self.roll.installEventFilter(self)
        self.timeline.changed.connect(self._show_scroll)
        self.document.score_changed.connect(lambda: self.set_loop(None))
        theme.changed.connect(self._show_theme)

    # -- what happens -----------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """The roll's width is the width of all lanes."""
        if watched is self.roll and isinstance(event, QResizeEvent):
            self.timeline.set_width(event.size().width())
            self._show_scroll()
        return super().eventFilter(watched, event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Shift with left or right selects from the playhead, beat by beat; Esc selects nothing."""
        assert event is not None
        shift = event.modifiers() == Qt.KeyboardModifier.ShiftModifier
        if event.key() == Qt.Key.Key_Escape:
            self.timeline.select(None)
        elif shift and event.key() in (Qt.Key.Key_Left, Qt.Key.Key_Right) and self.piece.grid is not None:
            self._extend(1 if event.key() == Qt.Key.Key_Right else -1)
        else:
            super().keyPressEvent(event)

    def _extend(self, steps: int) -> None:
        """Move the end of the selection by beats; without one, begin it at the playhead."""
        grid, timeline = self.piece.grid, self.timeline
        assert grid is not None
        low, high = timeline.selection or grid.around(timeline.playhead, timeline.playhead)[:1] * 2
        end = grid.beat_after(high, steps)
        timeline.select((low, end) if end > low else None)
        if timeline.selection is not None:
            text = self.tr("Selected from {0} to {1}.")
            self.message.emit(text.format(self.piece.bar_text(low), self.piece.bar_text(end)))

    def _seek(self, second: float) -> None:
        self.client.seek(second)
        self.seek_requested.emit(second)

    def _scroll(self, value: int) -> None:
        if not self._scrolling:
            self.timeline.scroll_to(value / _UNITS)

    def _show_scroll(self) -> None:
        """Set the scroll bar to what the axis shows."""
        timeline = self.timeline
        shown = timeline.width / timeline.scale
        longest = max(timeline.duration * 1.02 - shown, 0.0)
        self._scrolling = True
        self.scroll_bar.setRange(0, round(longest * _UNITS))
        self.scroll_bar.setPageStep(max(round(shown * _UNITS), 1))
        self.scroll_bar.setSingleStep(max(round(40 / timeline.scale * _UNITS), 1))
        self.scroll_bar.setValue(round(timeline.start * _UNITS))
        self._scrolling = False

    def _show_theme(self) -> None:
        palette = self._corner.palette()
        palette.setColor(self._corner.backgroundRole(), theme.colours.panel)
        self._corner.setPalette(palette)

"""The horizontal axis that all views share: score seconds to pixels, zoom, scroll, playhead, selection."""

from __future__ import annotations

from PyQt6.QtCore import QObject, pyqtSignal

LEAST_SCALE, MOST_SCALE = 2.0, 1200.0


class Timeline(QObject):
    """Where score seconds are on the screen. Views draw what lies in `visible` and repaint on `changed`."""

    #: Zoom or scroll.
    changed = pyqtSignal()
    #: Playhead, in score seconds.
    moved = pyqtSignal(float)
    #: Selected span or none.
    selection_changed = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.duration = 1.0
        self.scale = 60.0  # pixels a second
        self.start = 0.0  # score second at the left edge
        self.width = 800.0  # pixels of a view
        self.playhead = 0.0
        self.follow = True
        self.selection: tuple[float, float] | None = None

    def set_duration(self, seconds: float) -> None:
        """Another score: show its beginning."""
        self.duration = max(seconds, 1.0)
        self.start, self.playhead, self.selection = 0.0, 0.0, None
        self.selection_changed.emit()
        self.changed.emit()

    def set_width(self, pixels: float) -> None:
        """The views have another width."""
        if pixels != self.width and pixels > 0:
            self.width = pixels
            self._clamp()
            self.changed.emit()

    @property
    def visible(self) -> tuple[float, float]:
        """Score seconds at the left and right edge."""
        return self.start, self.start + self.width / self.scale

    def x(self, score_sec: float) -> float:
        """Pixel of a place."""
        return (score_sec - self.start) * self.scale

    def second(self, x: float) -> float:
        """Place of a pixel, inside the score."""
        return min(max(self.start + x / self.scale, 0.0), self.duration)

    def zoom(self, factor: float, at_x: float | None = None) -> None:
        """Zoom around a pixel, the playhead if it is visible, or the middle."""
        if at_x is None:
            x = self.x(self.playhead)
            at_x = x if 0 <= x <= self.width else self.width / 2
        fixed = self.start + at_x / self.scale
        fit = self.width / (self.duration * 1.02)
        self.scale = min(max(self.scale * factor, min(LEAST_SCALE, fit)), MOST_SCALE)
        self.start = fixed - at_x / self.scale
        self._clamp()
        self.changed.emit()

    def fit(self) -> None:
        """Show the whole score."""
        self.scale = min(max(self.width / (self.duration * 1.02), 0.05), MOST_SCALE)
        self.start = 0.0
        self.changed.emit()

    def scroll_to(self, start: float) -> None:
        """Show from a second on."""
        self.start = start
        self._clamp()
        self.changed.emit()

    def set_playhead(self, score_sec: float, playing: bool) -> None:
        """Move the playhead; while playing, the page follows it."""
        if score_sec == self.playhead:
            return
        self.playhead = score_sec
        x = self.x(score_sec)
        if playing and self.follow and not 0 <= x <= 0.9 * self.width:
            self.scroll_to(score_sec - 0.1 * self.width / self.scale)
        self.moved.emit(score_sec)

    def select(self, span: tuple[float, float] | None) -> None:
        """Select between two score seconds, in any order, or nothing."""
        if span is not None:
            low, high = sorted(span)
            span = (max(low, 0.0), min(high, self.duration))
            if span[1] - span[0] < 0.02:
                span = None
        if span != self.selection:
            self.selection = span
            self.selection_changed.emit()

    def _clamp(self) -> None:
        longest = self.duration * 1.02 - self.width / self.scale
        self.start = max(min(self.start, longest), 0.0)

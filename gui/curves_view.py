"""Tempo and dynamics of the take in two bands, against the score as written: flat lines."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QPointF, Qt
from PyQt6.QtGui import QColor, QPainter, QPen
from PyQt6.QtWidgets import QWidget

from gui import batch
from gui.drawing import Band
from gui.drawing_lane import DrawingLane
from gui.piece import Piece
from gui.theme import theme
from pkontext.drawn import DRAWABLE
from pkontext.synth import DEADPAN_VELOCITY

_GAP = 6.0
_TEMPO_MARKS = (1.0, 2.0, 0.5, 0.8, 1.25, 0.65, 1.6, 4.0, 0.25)
_LOUDNESS_MARKS = (64.0, 96.0, 32.0, 80.0, 48.0, 127.0, 0.0)
_USUAL_LOUDNESS = (24.0, 104.0)


class CurvesView(DrawingLane):
    """How fast and how loud, from bar to bar."""

    def __init__(self, piece: Piece, parent: QWidget | None = None) -> None:
        super().__init__(piece, "", parent)
        self.setAccessibleName(self.tr("Tempo and dynamics"))
        self.setMinimumHeight(2 * self.fontMetrics().height() + 24)

    # -- bands ------------------------------------------------------------------------------------------

    def bands(self) -> list[Band]:
        """Tempo above, dynamics below."""
        middle = self.height() / 2
        low, high = self._tempo_range()
        return [
            Band("tempo", _GAP, middle - _GAP, low, high),
            Band("loudness", middle + _GAP, self.height() - _GAP, *self._loudness_range()),
        ]

    def _tempo_range(self) -> tuple[float, float]:
        """Symmetric around 100 %, an octave and a third at least, wider where something needs it."""
        most = 0.68
        sketch = self.piece.sketch
        if sketch is not None and len(sketch.tempo):
            # One frame in a hundred may be cut, or a fermata would flatten everything else.
            most = max(most, float(np.quantile(np.abs(np.log2(sketch.tempo)), 0.99)))
        for curve in self.document.drawn:
            if curve.name == "tempo":
                most = max(most, *(abs(float(np.log2(value))) for _, value in curve.points))
        most = min(np.ceil(most / 0.34 - 1e-6) * 0.34, np.log2(DRAWABLE["tempo"][2]))
        return float(2.0**-most), float(2.0**most)

    def _loudness_range(self) -> tuple[float, float]:
        """Where piano playing lies, or all velocities where something needs them."""
        values = [
            value for curve in self.document.drawn if curve.name == "loudness" for _, value in curve.points
        ]
        sketch = self.piece.sketch
        if sketch is not None and len(sketch.loudness):
            values += [float(sketch.loudness.min()), float(sketch.loudness.max())]
        low, high = _USUAL_LOUDNESS
        return (low, high) if all(low <= value <= high for value in values) else (0.0, 127.0)

    def headings(self) -> list[tuple[float, str, QColor]]:
        """Names of the bands in the colours of their curves."""
        colours = theme.colours
        middle = self.height() / 2
        return [
            (0.0, self.tr("Tempo"), colours.tempo),
            (middle, self.tr("Dynamics"), colours.loudness),
        ]

    def marks(self) -> list[tuple[float, str]]:
        """Values at the axis."""
        tempo, loudness = self.bands()
        found = [
            (float(tempo.y(value)), self.tr("{0} %").format(round(100 * value)))
            for value in _TEMPO_MARKS
            if tempo.low <= value <= tempo.high
        ]
        return found + [
            (float(loudness.y(value)), f"{value:.0f}")
            for value in _LOUDNESS_MARKS
            if loudness.low <= value <= loudness.high
        ]

    # -- drawing ----------------------------------------------------------------------------------------

    def draw_still(self, painter: QPainter) -> None:
        """Axis lines, the flat lines of the score, and the take's curves."""
        if self.piece.grid is None:
            return
        colours = theme.colours
        tempo, loudness = self.bands()
        self.draw_grid(painter)
        painter.setPen(colours.line)
        for y, _ in self.marks():
            painter.drawLine(QPointF(0, round(y)), QPointF(self.width(), round(y)))
        painter.setPen(colours.bar_line)
        painter.drawLine(QPointF(0, self.height() // 2), QPointF(self.width(), self.height() // 2))
        painter.setPen(QPen(colours.faint_text, 1, Qt.PenStyle.DashLine))
        for band, flat in ((tempo, 1.0), (loudness, float(DEADPAN_VELOCITY))):
            y = round(float(band.y(flat)))
            painter.drawLine(QPointF(0, y), QPointF(self.width(), y))
        sketch = self.piece.sketch
        if sketch is not None and len(sketch.score_sec) > 1:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._draw_curve_of(painter, tempo, sketch.tempo, 1.0, colours.tempo)
            self._draw_curve_of(painter, loudness, sketch.loudness, float(DEADPAN_VELOCITY), colours.loudness)

    def _draw_curve_of(
        self, painter: QPainter, band: Band, values: np.ndarray, flat: float, colour: QColor
    ) -> None:
        x, y = self._line(band, values)
        if len(x) < 2:
            return
        painter.setClipRect(0, round(band.top - _GAP), self.width(), round(band.bottom - band.top + 2 * _GAP))
        filled = QColor(colour)
        filled.setAlpha(36)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(filled)
        ground = float(band.y(flat))
        painter.drawPolygon(batch.points(np.r_[x[0], x, x[-1]], np.r_[ground, y, ground]))
        painter.setPen(QPen(colour, 1.6))
        painter.drawPolyline(batch.points(x, y))
        painter.setClipping(False)

    def _line(self, band: Band, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a curve: what can be seen of it, averaged where several frames share a pixel."""
        sketch, timeline = self.piece.sketch, self.timeline
        assert sketch is not None
        low, high = timeline.visible
        first = max(int(np.searchsorted(sketch.score_sec, low)) - 2, 0)
        last = int(np.searchsorted(sketch.score_sec, high)) + 2
        x = (sketch.score_sec[first:last] - timeline.start) * timeline.scale
        y = np.clip(band.y(values[first:last]), band.top - _GAP, band.bottom + _GAP)
        step = int(len(x) / max(self.width(), 1) * 0.8)
        if step > 1:
            # Steps are counted from the first frame of the take, or scrolling would shake the curve.
            edges = np.arange((-first) % step, len(x), step)
            size = np.diff(np.append(edges, len(x)))
            x, y = np.add.reduceat(x, edges) / size, np.add.reduceat(y, edges) / size
        return x, y

    # -- readout ----------------------------------------------------------------------------------------

    def readout(self, second: float, value: dict[str, float]) -> str:
        """Bar, tempo in per cent and beats a minute, velocity."""
        piece = self.piece
        tempo = value.get("tempo", self._of_take("tempo", second, 1.0))
        loudness = value.get("loudness", self._of_take("loudness", second, float(DEADPAN_VELOCITY)))
        bpm = (piece.grid.bpm(second) if piece.grid is not None else 0.0) * piece.tempo * tempo
        return self.tr("{0}: tempo {1} % ({2:.0f} bpm), velocity {3}").format(
            piece.bar_text(second), round(100 * tempo), bpm, round(loudness)
        )

    def _of_take(self, name: str, second: float, flat: float) -> float:
        sketch = self.piece.sketch
        if sketch is None or not len(sketch.score_sec):
            return flat
        return float(np.interp(second, sketch.score_sec, getattr(sketch, name)))

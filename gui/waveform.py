"""The sound of the take in the chosen voice, along the score: it fills in while it is rendered."""

from __future__ import annotations

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QBrush, QColor, QPainter
from PyQt6.QtWidgets import QWidget

from gui import batch
from gui.gutter import MarkedLane
from gui.piece import Piece, to_audio
from gui.pyramid import Pyramid
from gui.theme import theme
from pkontext.places import Places
from pkontext.take_audio import PEAK_FRAMES, TakeAudio

_GAP = 3.0
#: Below so many frames a pixel the samples themselves are read: there are few.
_FINE = 2 * PEAK_FRAMES
#: The loudest sample is drawn at the edge, but quiet takes are not blown up further than this.
_LEAST_PEAK = 0.125


class Waveform(MarkedLane):
    """Lowest and highest sample of each pixel."""

    def __init__(self, piece: Piece, parent: QWidget | None = None) -> None:
        super().__init__(piece, "", parent)
        self.setAccessibleName(self.tr("Sound of the take"))
        self.setMinimumHeight(2 * self.fontMetrics().height())
        self._audio: TakeAudio | None = None
        self._pyramid = Pyramid()
        piece.audio_changed.connect(self._grow)
        self._grow()

    def _grow(self) -> None:
        """Take in what has been rendered since."""
        audio = self.piece.audio
        if audio is not self._audio:
            self._audio, self._pyramid = audio, Pyramid()
        if audio is not None:
            self._pyramid.append(audio.peaks(self._pyramid.count))
        self.redraw()

    def headings(self) -> list[tuple[float, str, QColor]]:
        """What is heard."""
        names = {
            "neural": self.tr("Neural"),
            "sampler": self.tr("Sampler"),
            "deadpan": self.tr("As written"),
        }
        return [(0.0, names.get(self.document.voice, ""), theme.colours.faint_text)]

    def marks(self) -> list[tuple[float, str]]:
        """Level of the edge."""
        decibel = round(20 * np.log10(self._full()))
        text = self.tr("{0} dB").format(f"\u2212{-decibel}" if decibel < 0 else decibel)
        return [(self.height() - _GAP, text)]

    def _full(self) -> float:
        """Sample that reaches the edge: steps of 3 dB, so that it seldom changes while audio comes."""
        peak = max(self._pyramid.peak, _LEAST_PEAK)
        return float(2.0 ** (np.ceil(2 * np.log2(peak)) / 2))

    def draw_still(self, painter: QPainter) -> None:
        """The grid, the waveform, and what is not rendered yet."""
        if self.piece.grid is None:
            return
        self.draw_grid(painter)
        audio = self._audio
        colours = theme.colours
        middle = self.height() / 2
        painter.setPen(colours.line)
        painter.drawLine(QPointF(0, round(middle)), QPointF(self.width(), round(middle)))
        places = audio.places if audio is not None else None
        if audio is None or places is None:
            self._draw_missing(painter, 0.0)
            return
        frames, done = audio.frames, audio.done
        edges = self._edges(places)
        here = (edges[1:] > 0) & (edges[:-1] < frames)
        shape = self._columns(audio, edges, frames) / self._full()
        reach = middle - _GAP
        top = middle - np.clip(shape[:, 1], -1, 1) * reach
        height = np.maximum(middle - np.clip(shape[:, 0], -1, 1) * reach - top, 1.0)
        x = np.arange(len(top), dtype=float) / self.devicePixelRatioF()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours.wave)
        wide = 1 / self.devicePixelRatioF()
        painter.drawRects(batch.rectangles(x[here], top[here], wide, height[here]))
        if not done:
            rendered = np.flatnonzero(edges < frames)
            self._draw_missing(painter, float(rendered[-1]) * wide if len(rendered) else 0.0)

    def _edges(self, places: Places) -> np.ndarray:
        """Frames of the edges of the device's pixels, not falling."""
        ratio = self.devicePixelRatioF()
        x = np.arange(round(self.width() * ratio) + 1) / ratio
        seconds = self.timeline.start + x / self.timeline.scale
        return np.maximum.accumulate(to_audio(places, seconds) * self.piece.sample_rate)

    def _columns(self, audio: TakeAudio, edges: np.ndarray, frames: int) -> np.ndarray:
        first, last = max(int(edges[0]), 0), min(int(np.ceil(edges[-1])) + 1, frames)
        if last <= first or (edges[-1] - edges[0]) / len(edges) >= _FINE:
            return self._pyramid.columns(edges / PEAK_FRAMES)
        samples = np.zeros(last - first + 1, np.float32)
        audio.read_into(first, samples[:-1])
        at = np.clip(edges.astype(np.int64) - first, 0, last - first)
        # Pixels that share a frame must not be empty: each takes one at least.
        pairs = np.stack((at[:-1], np.minimum(np.maximum(at[1:], at[:-1] + 1), last - first)), 1).ravel()
        lowest, highest = np.minimum.reduceat(samples, pairs)[::2], np.maximum.reduceat(samples, pairs)[::2]
        return np.stack((lowest, highest), 1)

    def _draw_missing(self, painter: QPainter, left: float) -> None:
        """Hatch from a pixel to the end of the piece."""
        right = min(self.timeline.x(self.timeline.duration), self.width())
        if right - left < 1:
            return
        area = QRectF(left, _GAP, right - left, self.height() - 2 * _GAP)
        hatch = QColor(theme.colours.bar_line)
        hatch.setAlpha(110)
        painter.fillRect(area, QBrush(hatch, Qt.BrushStyle.BDiagPattern))
        if self.document.current is None:
            return
        text = self.tr("rendering...")
        metrics = painter.fontMetrics()
        wide = metrics.horizontalAdvance(text) + 12
        if wide + 8 <= area.width():
            box = QRectF(left + 8, (self.height() - metrics.height() - 2) / 2, wide, metrics.height() + 2)
            painter.fillRect(box, theme.colours.view)
            painter.setPen(theme.colours.faint_text)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)

"""What the views draw, as arrays that are ready: notes in score seconds, the grid, the take's audio.

Made anew only where the document says that something changed, so that painting is looking up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PyQt6.QtCore import QObject, pyqtSignal

from gui.client import PlayerClient
from gui.document import Document
from gui.grid import Grid
from gui.timeline import Timeline
from pkontext.places import Places
from pkontext.sketch import Sketch
from pkontext.take import VOICES
from pkontext.take_audio import TakeAudio
from pkontext.types import Score


@dataclass(frozen=True)
class Blocks:
    """Notes as blocks on the axis, sorted by their start.

    Attributes
    ----------
    start, end : ndarray
        float64 ``[notes]``, score seconds.
    pitch, velocity : ndarray
        int64 ``[notes]``.
    row : ndarray
        int64 ``[notes]``, of the score's notes.
    late_ms : ndarray
        float64 ``[notes]``, how much later than the beat of the take; 0 for notes of the score.
    reach : ndarray
        float64 ``[notes]``, the latest end so far: where a search for what still sounds may begin.
    """

    start: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    row: np.ndarray
    late_ms: np.ndarray
    reach: np.ndarray

    def between(self, low: float, high: float) -> np.ndarray:
        """Indices of the notes that sound in a span."""
        first = int(np.searchsorted(self.reach, low))
        last = int(np.searchsorted(self.start, high, side="right"))
        index = np.arange(first, max(first, last))
        return index[self.end[first : max(first, last)] >= low]


class Piece(QObject):
    """The document's data for drawing.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    timeline : Timeline
    """

    #: Notes, curves, grid or findings are others.
    changed = pyqtSignal()
    #: There is more audio, or other audio.
    audio_changed = pyqtSignal()

    def __init__(
        self, document: Document, client: PlayerClient, timeline: Timeline, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.document, self.client, self.timeline = document, client, timeline
        self.grid: Grid | None = None
        self.written: Blocks | None = None
        self.played: Blocks | None = None
        self.sketch: Sketch | None = None
        self.performed: Places | None = None
        self.audio: TakeAudio | None = None
        self.sample_rate = 44100
        self._made_of: tuple[object, ...] = ()
        document.score_changed.connect(self._take_score)
        document.current_changed.connect(self.refresh)
        document.take_grown.connect(self.refresh)
        document.takes_changed.connect(self.changed)
        document.drawn_changed.connect(self.changed)
        self._take_score()

    @property
    def tempo(self) -> float:
        """Average speed of the take against the score."""
        current = self.document.current
        return current.settings.tempo if current is not None else self.document.settings.tempo

    def bar_text(self, second: float) -> str:
        """Place for people, such as ``"bar 12, beat 3"``."""
        score = self.document.score
        if score is None:
            return ""
        from pkontext.selfcheck import bar_and_beat

        bar, beat = bar_and_beat(score, min(second, score.duration_sec))
        return self.tr("bar {0}, beat {1:g}").format(bar, round(beat, 1))

    def refresh(self) -> None:
        """Look at the current take again."""
        live, score = self.document.live(), self.document.score
        voice = self.document.voice
        self.audio = live.audio[voice] if live is not None else None
        if live is not None:
            self.sample_rate = live.rendering.sample_rate
        sketch = live.sketch if live is not None and voice != "deadpan" else None
        # Both voices of a performance have the same places; the one that is heard knows most of them.
        names = (name for name in (voice, *VOICES) if name != "deadpan")
        found = (live.audio[name].places for name in names) if live is not None else ()
        places = self.performed = next((one for one in found if one is not None), None)
        made_of = (score, sketch, places)
        if any(a is not b for a, b in zip(made_of, self._made_of, strict=False)) or not self._made_of:
            self._made_of = made_of
            self.sketch = sketch
            known = score is not None and sketch is not None and places is not None and len(sketch.rows)
            self.played = _played(score, sketch, places) if known else None  # type: ignore[arg-type]
            self.changed.emit()
        self.audio_changed.emit()

    def pedal_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Score seconds and values, 0 to 1, of the take's pedal: each holds until the next."""
        if self.sketch is None or self.performed is None:
            return np.zeros(0), np.zeros(0)
        pedals = self.sketch.pedals
        return to_score(self.performed, pedals["time_sec"]), pedals["value"] / 127.0

    def finding_second(self, row: int, time_sec: float) -> float:
        """Where a finding of the self-check is on the axis."""
        score = self.document.score
        if score is not None and 0 <= row < len(score.notes):
            return float(score.notes["onset_sec"][row])
        return self.performed.to_score(time_sec) if self.performed is not None else time_sec

    def _take_score(self) -> None:
        score = self.document.score
        self.grid = Grid(score) if score is not None else None
        self.written = _written(score) if score is not None else None
        self._made_of = ()
        self.refresh()


def to_score(places: Places, audio_sec: np.ndarray) -> np.ndarray:
    """`Places.to_score` for arrays."""
    return _through(audio_sec, places.audio_sec, places.score_sec, places.tempo)


def to_audio(places: Places, score_sec: np.ndarray) -> np.ndarray:
    """`Places.to_audio` for arrays."""
    return _through(score_sec, places.score_sec, places.audio_sec, 1 / places.tempo)


def _through(x: np.ndarray, points: np.ndarray, values: np.ndarray, slope: float) -> np.ndarray:
    before, after = np.minimum(x - points[0], 0.0), np.maximum(x - points[-1], 0.0)
    return np.interp(x, points, values) + (before + after) * slope


def _blocks(
    start: np.ndarray, end: np.ndarray, notes: np.ndarray, row: np.ndarray, late_ms: np.ndarray
) -> Blocks:
    order = np.argsort(start, kind="stable")
    pitch, velocity = notes["pitch"].astype(np.int64), notes["velocity"].astype(np.int64)
    columns = (column[order] for column in (start, end, pitch, velocity, row, late_ms))
    return Blocks(*columns, reach=np.maximum.accumulate(end[order]))


def _written(score: Score) -> Blocks:
    notes = score.notes
    count = len(notes)
    start = notes["onset_sec"]
    return _blocks(start, start + notes["duration_sec"], notes, np.arange(count), np.zeros(count))


def _played(score: Score, sketch: Sketch, places: Places) -> Blocks:
    notes, rows = sketch.notes, sketch.rows
    onset = notes["onset_sec"]
    start, end = to_score(places, onset), to_score(places, onset + notes["duration_sec"])
    beat = to_audio(places, score.notes["onset_sec"][rows])
    return _blocks(start, end, notes, np.asarray(rows, np.int64), 1000.0 * (onset - beat))

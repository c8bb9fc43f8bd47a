"""The audio of a take while it is being rendered: written by one thread, read by another.

Rendered audio is kept whole, so that seeks, loops and repeats need no second render. Each voice of a
take has audio of its own; a `LiveTake` holds them beside the rendering that they come from.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from pkontext.engine import Rendering
from pkontext.places import Places
from pkontext.sketch import Sketch
from pkontext.take import VOICES, CancelFn, Progress

#: Frames of one block of memory.
_BLOCK = 1 << 18
#: Frames that one level of the peaks takes together, see `TakeAudio.peaks`.
PEAK_FRAMES = 256


class TakeAudio:
    """Audio of one voice, growing at its end.

    One thread appends, any thread reads: what `frames` counts is written and never changes.

    Attributes
    ----------
    frames : int
        Frames that are there.
    done : bool
        Whether the take ends there.
    total : int
        Frames of the whole; an estimate until `done`.
    places : Places or None
        Score and audio seconds, as far as decided.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.total = 0
        self.done = False
        self.places: Places | None = None
        self._blocks: list[np.ndarray] = []
        self._peaks: list[np.ndarray] = []

    def append(self, samples: np.ndarray) -> None:
        """Add float32 ``[n, 1]`` (writer thread)."""
        begun = self.frames
        position, rest = begun, samples[:, 0]
        while len(rest):
            index, offset = divmod(position, _BLOCK)
            if index == len(self._blocks):
                self._peaks.append(np.zeros((_BLOCK // PEAK_FRAMES, 2), np.float32))
                self._blocks.append(np.zeros(_BLOCK, np.float32))
            count = min(_BLOCK - offset, len(rest))
            self._blocks[index][offset : offset + count] = rest[:count]
            self._update_peaks(index, offset, offset + count)
            position, rest = position + count, rest[count:]
        self.frames = position  # last: it tells readers that the samples are there
        self.total = max(self.total, position)

    def finish(self) -> None:
        """Say that nothing follows (writer thread)."""
        self.total = self.frames
        self.done = True

    def read_into(self, start: int, out: np.ndarray) -> int:
        """Copy frames from ``start`` on.

        Parameters
        ----------
        start : int
        out : ndarray
            float32 ``[n]``; what is not there is left alone.

        Returns
        -------
        int
            Frames copied.
        """
        count = max(min(len(out), self.frames - start), 0) if start >= 0 else 0
        done = 0
        while done < count:
            index, offset = divmod(start + done, _BLOCK)
            part = min(_BLOCK - offset, count - done)
            out[done : done + part] = self._blocks[index][offset : offset + part]
            done += part
        return count

    def peaks(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Lowest and highest sample of each `PEAK_FRAMES` frames, float32 ``[n, 2]``, for drawing.

        ``start`` and ``stop`` count groups of frames; only whole groups are given.
        """
        whole = self.frames // PEAK_FRAMES
        stop = whole if stop is None else min(stop, whole)
        if stop <= start:
            return np.zeros((0, 2), np.float32)
        each = _BLOCK // PEAK_FRAMES
        first, last = start // each, -(-stop // each)
        rows = np.concatenate(self._peaks[first:last])
        return rows[start - first * each : stop - first * each].copy()

    def _update_peaks(self, index: int, start: int, stop: int) -> None:
        low, high = start // PEAK_FRAMES, -(-stop // PEAK_FRAMES)
        rows = self._blocks[index][low * PEAK_FRAMES : high * PEAK_FRAMES].reshape(-1, PEAK_FRAMES)
        self._peaks[index][low:high, 0], self._peaks[index][low:high, 1] = rows.min(1), rows.max(1)


class LiveTake:
    """A take in the making: a rendering and the audio of its voices.

    `advance` and `close` belong to the thread that renders; the rest may be read by any.

    Parameters
    ----------
    number : int
        Tells takes apart.
    rendering : Rendering

    Attributes
    ----------
    audio : dict of TakeAudio
        By voice.
    sketch : Sketch or None
        Notes and curves as far as they are decided; replaced, never changed.
    """

    def __init__(self, number: int, rendering: Rendering) -> None:
        self.number = number
        self.rendering = rendering
        self.sketch: Sketch | None = None
        self._drawn = (0, 0)
        self.audio = {name: TakeAudio() for name in VOICES}
        self._pace = {name: _Pace() for name in VOICES}
        self._streams: dict[str, Iterator[np.ndarray]] = {}

    def speed(self, voice: str) -> float:
        """Seconds of audio rendered in a second, lately; 0 before there is any."""
        return self._pace[voice].speed

    def longest_wait(self, voice: str) -> float:
        """Seconds that the slowest of the last chunks took to render."""
        return self._pace[voice].slowest

    def advance(self, voice: str, cancelled: CancelFn | None = None) -> bool:
        """Render the next chunk of a voice; returns whether there was one.

        Raises
        ------
        Cancelled, PkError
            As `Rendering.chunks`; the voice cannot be advanced after that.
        """
        audio, rendering = self.audio[voice], self.rendering
        if audio.done:
            return False

        def progress(state: Progress) -> None:
            audio.total = max(round(state.total_sec * rendering.sample_rate), audio.frames)

        if voice not in self._streams:
            self._streams[voice] = rendering.chunks(progress, cancelled, voice)
        begun = time.monotonic()
        chunk = next(self._streams[voice], None)
        audio.places = rendering.places(voice)
        self._draw()
        if chunk is None:
            audio.finish()
            return False
        audio.append(chunk)
        self._pace[voice].add(len(chunk) / rendering.sample_rate, time.monotonic() - begun)
        return True

    def _draw(self) -> None:
        """Renew the sketch where more of the take is decided."""
        state = (self.rendering.curve_source.committed, self.rendering.rerolls_made)
        if state[0] and state != self._drawn:
            self._drawn = state
            self.sketch = self.rendering.sketch()

    def close(self) -> None:
        """Stop rendering; what is there stays."""
        for stream in self._streams.values():
            stream.close()  # type: ignore[attr-defined]
        self._streams.clear()


class _Pace:
    """How fast chunks come: sums that forget, because chunks differ in what they cost."""

    def __init__(self) -> None:
        self.speed = 0.0
        self._made = self._spent = 0.0
        self._last: deque[float] = deque(maxlen=8)

    @property
    def slowest(self) -> float:
        return max(tuple(self._last), default=0.0)

    def add(self, seconds: float, elapsed: float) -> None:
        self._made, self._spent = 0.8 * self._made + seconds, 0.8 * self._spent + elapsed
        self._last.append(elapsed)
        self.speed = self._made / max(self._spent, 1e-6)

"""Play heads: reading audio from one place or another, with fades that never click.

A head reads one `TakeAudio` onwards. To go elsewhere, another head begins there and fades in at
constant power while the one before fades out. A head at full level copies samples and changes none.
"""

from __future__ import annotations

import numpy as np

from pkontext.take_audio import TakeAudio

#: Seconds of a fade.
FADE_SEC = 0.01


class Head:
    """Reads audio from ``position`` on.

    Parameters
    ----------
    audio : TakeAudio
    position : int
        Frame of the audio.
    level : float
        From 0 (silent) to 1, where it is when it begins.
    """

    def __init__(self, audio: TakeAudio, position: int, level: float) -> None:
        self.audio = audio
        self.position = position
        self.level = level

    def add_to(self, out: np.ndarray, toward: float, fade: int) -> None:
        """Add the next frames to float32 ``[n]`` while the level moves toward a value.

        Parameters
        ----------
        out : ndarray
        toward : float
            0 or 1.
        fade : int
            Frames from one to the other.
        """
        samples = np.zeros(len(out), np.float32)
        self.audio.read_into(self.position, samples)
        self.position += len(out)
        if self.level == toward == 1.0:
            out += samples
            return
        step = np.arange(1, len(out) + 1, dtype=np.float32) / fade
        level = self.level + step if toward else self.level - step
        level = np.clip(level, 0.0, 1.0)
        self.level = float(level[-1]) if len(level) else self.level
        out += samples * np.sin(np.float32(np.pi / 2) * level)


class Heads:
    """The head that is heard, and those that are fading out. One thread."""

    def __init__(self, rate: int) -> None:
        self.fade = max(round(FADE_SEC * rate), 1)
        self.active: Head | None = None
        self._leaving: list[Head] = []

    @property
    def quiet(self) -> bool:
        """Whether nothing sounds, not even a fade."""
        return self.active is None and not self._leaving

    def begin(self, audio: TakeAudio, position: int) -> None:
        """Go on at a place; at the very beginning of a silent start no fade is needed."""
        clean = self.quiet and position == 0
        self.stop()
        self.active = Head(audio, position, 1.0 if clean else 0.0)

    def stop(self) -> None:
        """Fade out."""
        if self.active is not None:
            self._leaving.append(self.active)
            self.active = None

    def end(self) -> None:
        """The audio has ended by itself, so there is nothing to fade."""
        self.active = None

    def drop(self) -> None:
        """Be silent at once, without a fade: what was playing is not heard any more."""
        self.active = None
        self._leaving.clear()

    def play(self, count: int) -> np.ndarray:
        """The next frames, float32 ``[count]``."""
        out = np.zeros(count, np.float32)
        if self.active is not None:
            self.active.add_to(out, 1.0, self.fade)
        for head in self._leaving:
            head.add_to(out, 0.0, self.fade)
        self._leaving = [head for head in self._leaving if head.level > 0]
        return out

"""A change of sample rate in chunks, for devices that cannot play the rate of the audio.

Threading: one thread owns a resampler.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pkontext.errors import DeviceError


class StreamResampler:
    """Resamples audio that comes in chunks; the result does not depend on how it was cut.

    The filter's delay is taken out: output frame ``k`` sounds at ``k / to_rate`` seconds of the input.
    Frames come out some milliseconds later than the input they need (see `held_frames`). At equal rates
    samples pass through untouched. The filter is soxr's "HQ": linear phase, images and aliases below
    -120 dB.

    Parameters
    ----------
    from_rate, to_rate : int
        Hertz.
    channels : int

    Raises
    ------
    DeviceError
        ``resample.library`` when the package ``soxr`` is missing.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        if from_rate < 1 or to_rate < 1 or channels < 1:
            raise ValueError(f"Cannot resample {channels} channels from {from_rate} to {to_rate} Hz.")
        self.from_rate, self.to_rate, self.channels = from_rate, to_rate, channels
        self._taken = self._given = 0
        self._stream: Any = None
        if from_rate != to_rate:
            self._stream = _load_soxr().ResampleStream(from_rate, to_rate, channels, np.float32, "HQ")

    @property
    def held_frames(self) -> int:
        """Output frames that are due for the input so far, and not out yet."""
        return self._due() - self._given

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Take float32 ``[n, channels]`` and return what is ready, ``[m, channels]``, perhaps nothing.

        At equal rates this is ``samples`` itself, not a copy.
        """
        self._taken += len(samples)
        if self._stream is None:
            self._given += len(samples)
            return samples
        return self._give(self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32)))

    def flush(self) -> np.ndarray:
        """Return the rest after the last chunk, and be ready for new audio.

        In all there are ``round(n * to_rate / from_rate)`` frames for ``n`` of the input.
        """
        rest = np.zeros((0, self.channels), np.float32)
        if self._stream is not None and self._taken:
            rest = self._stream.resample_chunk(rest, last=True)
            short = self._due() - self._given - len(rest)
            rest = np.pad(rest, ((0, short), (0, 0))) if short > 0 else rest[: len(rest) + short]
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget the audio so far, as after a seek."""
        self._taken = self._given = 0
        if self._stream is not None:
            self._stream.clear()

    def _due(self) -> int:
        return (2 * self._taken * self.to_rate + self.from_rate) // (2 * self.from_rate)

    def _give(self, samples: np.ndarray) -> np.ndarray:
        self._given += len(samples)
        return samples


def _load_soxr() -> Any:
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise DeviceError(
            "resample.library",
            f"The package soxr, which changes sample rates, could not be loaded ({error}).",
            "Install it with `pip install soxr`, or choose an output that plays the rate of the audio.",
        ) from error
    return soxr

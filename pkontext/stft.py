"""Short-time Fourier transform and its inverse, aligned to latent frames.

STFT frame ``m`` is centred on sample ``hop * m + hop / 2``, so the frames of one latent frame
cover exactly its samples. Analysis and synthesis both use a periodic Hann window; the inverse
divides by the summed squared windows, which is constant away from the ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class StftSpec:
    """Window length ``n_fft`` and ``hop`` in samples; ``floor`` is added before the log."""

    n_fft: int = 2048
    hop: int = 512
    floor: float = 0.01

    @property
    def bins(self) -> int:
        """Frequency bins of a one-sided spectrum."""
        return self.n_fft // 2 + 1

    @property
    def lead(self) -> int:
        """Samples by which frame 0 starts before sample 0."""
        return (self.n_fft - self.hop) // 2


@lru_cache(maxsize=8)
def hann(n: int) -> np.ndarray:
    """Periodic Hann window, float32 ``[n]``, read-only."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    window.flags.writeable = False
    return window


def log_magnitude(samples: np.ndarray, spec: StftSpec) -> np.ndarray:
    """Log magnitude of consecutive frames.

    Parameters
    ----------
    samples : ndarray
        float32 ``[n]`` that already holds the lead-in and lead-out of the first and last frame:
        ``n = hop * (frames - 1) + n_fft``.
    spec : StftSpec

    Returns
    -------
    ndarray
        float32 ``[frames, bins]``, natural log of ``|S| + floor``.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop]
    spectrum = np.fft.rfft(frames * hann(spec.n_fft), axis=1)
    magnitude = np.abs(spectrum).astype(np.float32)
    magnitude += np.float32(spec.floor)
    return np.log(magnitude, out=magnitude)


def overlap_add(spectrum: np.ndarray, spec: StftSpec) -> np.ndarray:
    """Windowed inverse frames added up, not yet divided by the window sum.

    Parameters
    ----------
    spectrum : ndarray
        complex64 ``[frames, bins]``.

    Returns
    -------
    ndarray
        float32 ``[hop * (frames - 1) + n_fft]``; divide by `window_sum` where it is complete.
    """
    frames = np.fft.irfft(spectrum, spec.n_fft, axis=1).astype(np.float32) * hann(spec.n_fft)
    ratio = spec.n_fft // spec.hop
    out = np.zeros((len(frames) + ratio - 1, spec.hop), np.float32)
    for part in range(ratio):
        out[part : part + len(frames)] += frames[:, part * spec.hop : (part + 1) * spec.hop]
    return out.reshape(-1)


def window_sum(spec: StftSpec) -> float:
    """Value of the overlapped squared windows where all of them are present."""
    return float((hann(spec.n_fft).astype(np.float64) ** 2).sum() / spec.hop)

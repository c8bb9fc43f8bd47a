"""Distances of audio: log-mel frames along a known time map, and sets of embeddings.

The embedding is **the backbone output of Transkun 2.0.1** (``TransKun.backbone``, 256 numbers for each of 90
keys and pedals and each frame of 23 ms, from the checkpoint ``2.0.pt`` in its wheel), averaged over the 90
targets and over `FRAMES_PER_VECTOR` frames: one vector of 256 for 93 ms. It is caught while the audio is
transcribed, so it costs nothing more, and it is blind to level, because the network normalises it. Fréchet
and kernel distances on it compare rows of one table; they compare with no published value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from train.codec import mel_bank
from train.codec_metrics import FLOOR_2048, spectrum
from train.expression_metrics import jackknife

EMBEDDING = "Transkun 2.0.1, backbone output, mean over targets and 93 ms"
#: Frames of the embedding's network that make one vector.
FRAMES_PER_VECTOR = 4
_WINDOW, _HOP, _BANDS = 2048, 512, 128


def log_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel frames in dB (2048 window, 512 hop, 128 bands, -94 dBFS added), ``[frames, 128]``."""
    bank = mel_bank(_WINDOW // 2 + 1, sample_rate, _BANDS)
    return 10 * np.log10(spectrum(samples, _WINDOW, _HOP) ** 2 @ bank + FLOOR_2048**2)


def log_mel_distance(
    reference: np.ndarray,
    other: np.ndarray,
    sample_rate: int,
    anchors: tuple[np.ndarray, np.ndarray] | None = None,
) -> float:
    """Mean absolute difference of log-mel frames, dB, after alignment by a known time map.

    Every frame of the reference is compared with the frame of ``other`` nearest to its mapped time; no
    alignment is estimated from the audio.

    Parameters
    ----------
    reference, other : ndarray
        ``[n]``.
    sample_rate : int
    anchors : tuple of ndarray, optional
        Seconds in reference and in ``other`` of the same moments, both increasing; beyond the ends
        time runs at rate one. Left out, the two have one time axis.

    Returns
    -------
    float
        NaN when no frame of the reference falls into ``other``.
    """
    a, b = log_mel(reference, sample_rate), log_mel(other, sample_rate)
    half, step = _WINDOW / 2 / sample_rate, _HOP / sample_rate
    seconds = np.arange(len(a)) * step + half
    if anchors is not None:
        x, y = anchors
        beyond = np.minimum(seconds - x[0], 0) + np.maximum(seconds - x[-1], 0)
        seconds = np.interp(seconds, x, y) + beyond
    frame = np.rint((seconds - half) / step).astype(int)
    inside = (frame >= 0) & (frame < len(b))
    return float(np.abs(a[inside] - b[frame[inside]]).mean()) if inside.any() else float("nan")


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to two sets of vectors, ``[n, dims]`` and ``[m, dims]``.

    Dowson and Landau (1982): the squared form, as in FAD. Too small a set makes it read too high.
    """
    mean_gap = a.mean(0) - b.mean(0)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a.astype(np.float64), b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(mean_gap @ mean_gap + np.trace(first) + np.trace(second) - 2 * cross)


def kernel_distance(reference: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, float]:
    """Kernel distance of two sets of vectors: 100 x unbiased MMD², Gaussian kernel, and its standard error.

    Gretton et al., A kernel two-sample test (2012), lemma 6, with an excerpt for a sample: only vectors of
    different excerpts are compared, in all three terms. Vectors of one excerpt are alike, within a set and
    across the sets, because both play the same music; counted in some terms only they would pull the value
    below zero. The bandwidth is the median distance within the reference, as in KAD (Chung et al., 2025).

    Parameters
    ----------
    reference, other : list of ndarray
        One ``[n, dims]`` for each excerpt, excerpt by excerpt the same music.

    Returns
    -------
    value, error : float
        The error is a jackknife over excerpts. Both NaN for one excerpt, the error also for two.
    """
    first, second = ([x.astype(np.float64) for x in excerpts] for excerpts in (reference, other))
    whole = np.concatenate(first)
    scale = 2 * np.median(_squared_distances(whole, whole)[np.triu_indices(len(whole), 1)])

    def means(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
        return np.array([[np.exp(-_squared_distances(x, y) / scale).mean() for y in b] for x in a])

    across = means(first, second)
    gap = means(first, first) + means(second, second) - across - across.T
    np.fill_diagonal(gap, 0)

    def value(rows: np.ndarray) -> float:
        n = len(rows)
        return float(100 * gap[np.ix_(rows, rows)].sum() / (n * (n - 1))) if n > 1 else float("nan")

    return jackknife(value, len(reference))


class FrameRecorder:
    """What the embedding's network saw, segment by segment, in the order of the transcription."""

    def __init__(self) -> None:
        self.segments: list[np.ndarray] = []

    def vectors(self, samples: int) -> np.ndarray:
        """Embedding of the transcribed audio of this many samples, float32 ``[vectors, 256]``.

        Transkun reads segments of 16 s every 8 s, the first of them starting 8 s before the audio: every
        second segment, from the second on, covers the audio once.
        """
        hop = 1024
        frames = np.concatenate(self.segments[1::2]) if len(self.segments) > 1 else np.zeros((0, 256))
        frames = frames[: min(samples // hop, len(frames))]
        whole = len(frames) // FRAMES_PER_VECTOR * FRAMES_PER_VECTOR
        return frames[:whole].reshape(-1, FRAMES_PER_VECTOR, frames.shape[1]).mean(1).astype(np.float32)


@contextmanager
def recorded_frames() -> Iterator[FrameRecorder]:
    """Catch the backbone output of every transcription inside the block (one at a time)."""
    from train.transcribe import _model

    recorder = FrameRecorder()

    def keep(_module: object, _inputs: object, output: object) -> None:
        recorder.segments.append(output[0].mean(0).float().cpu().numpy())  # type: ignore[index]

    handle = _model().backbone.register_forward_hook(keep)
    try:
        yield recorder
    finally:
        handle.remove()


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)

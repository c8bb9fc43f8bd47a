"""Measures of a codec: decoded audio against the original. Signals are float ``[n]`` at 44.1 kHz.

All but the notes of `train.transcribe` are defined here, so that every row of a table means the same.
"""

from __future__ import annotations

import numpy as np

from train.codec import mel_bank

SAMPLE_RATE = 44100
#: Magnitudes of a 2048 window below this are silence to a listener (-94 dBFS); other windows in proportion.
FLOOR_2048 = 0.01


def spectrum(samples: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Hann-windowed magnitudes, float32 ``[frames, n_fft // 2 + 1]``."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float32), n_fft)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(n_fft + 1)[:-1].astype(np.float32), axis=1)).astype(
        np.float32
    )


def level_db(magnitude: np.ndarray, n_fft: int) -> np.ndarray:
    """Decibels of magnitudes, with the floor added."""
    return 20 * np.log10(magnitude + FLOOR_2048 * n_fft / 2048)


def spectral_distance(original: np.ndarray, decoded: np.ndarray, n_fft: int = 2048) -> float:
    """Log-spectral distance: rms over bins of the difference in dB, mean over frames."""
    a, b = (level_db(spectrum(x, n_fft, n_fft // 4), n_fft) for x in (original, decoded))
    return float(np.sqrt(((a - b) ** 2).mean(1)).mean())


def multi_resolution_distance(original: np.ndarray, decoded: np.ndarray) -> float:
    """Mean of `spectral_distance` at windows of 512, 1024, 2048 and 4096."""
    return float(np.mean([spectral_distance(original, decoded, n) for n in (512, 1024, 2048, 4096)]))


def mel_distance(original: np.ndarray, decoded: np.ndarray, bands: int = 128) -> float:
    """Mean absolute difference of log mel bands (2048 window), dB."""
    bank = mel_bank(1025, SAMPLE_RATE, bands)
    a, b = (10 * np.log10(spectrum(x, 2048, 512) ** 2 @ bank + FLOOR_2048**2) for x in (original, decoded))
    return float(np.abs(a - b).mean())


def flux(samples: np.ndarray, n_fft: int = 1024, hop: int = 128, span: int = 4) -> np.ndarray:
    """Spectral flux: mean rise in dB over the bins, ``[frames - span]``.

    As it stands: windows of 23 ms every 2.9 ms, and the rise over four hops, about an attack's length.
    """
    level = level_db(spectrum(samples, n_fft, hop), n_fft)
    return np.maximum(level[span:] - level[:-span], 0).mean(1)


def flux_correlation(original: np.ndarray, decoded: np.ndarray) -> float:
    """Pearson correlation of the two `flux` curves."""
    return float(np.corrcoef(flux(original), flux(decoded))[0, 1])


def onset_sharpness(
    original: np.ndarray, decoded: np.ndarray, n_fft: int = 1024, hop: int = 128, span: int = 4
) -> float:
    """Median over attacks of decoded over original flux, each at its peak within 12 ms."""
    a, b = flux(original, n_fft, hop, span), flux(decoded, n_fft, hop, span)
    reach, apart = max(512 // hop, 1), max(1536 // hop, 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(a, apart), 2 * apart + 1).max(1)
    peaks = np.flatnonzero((a >= around) & (a > a.mean() + a.std()))
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(b, reach), 2 * reach + 1).max(1)
    return float(np.median(nearby[peaks] / a[peaks])) if len(peaks) else float("nan")


def level_error(original: np.ndarray, decoded: np.ndarray) -> float:
    """Level of the decoded audio over the original's, dB."""
    return float(
        10 * np.log10((np.mean(np.square(decoded)) + 1e-12) / (np.mean(np.square(original)) + 1e-12))
    )


def pre_echo(
    samples: np.ndarray, onsets: np.ndarray, ahead: tuple[float, float] = (0.08, 0.005)
) -> np.ndarray:
    """Loudest 3 ms in the span ``ahead`` (seconds before each onset) over the loudest after it, dB.

    Meant for attacks out of silence; ``onsets`` are samples of the first sound.
    """
    size = round(0.003 * SAMPLE_RATE)
    power = np.convolve(np.square(samples.astype(np.float64)), np.ones(size) / size)[: len(samples)]
    values = []
    for onset in onsets:
        before = power[
            max(onset - round(ahead[0] * SAMPLE_RATE), 0) : max(onset - round(ahead[1] * SAMPLE_RATE), 1)
        ]
        after = power[onset : onset + round(0.1 * SAMPLE_RATE)]
        values.append(10 * np.log10((before.max() + 1e-14) / (after.max() + 1e-14)))
    return np.array(values)


def measure(original: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """All measures that need no transcription."""
    return {
        "lsd_db": spectral_distance(original, decoded),
        "multi_lsd_db": multi_resolution_distance(original, decoded),
        "mel_db": mel_distance(original, decoded),
        "flux_r": flux_correlation(original, decoded),
        "sharpness": onset_sharpness(original, decoded),
        "sharpness_46ms": onset_sharpness(original, decoded, 2048, 512, 1),
        "level_db": level_error(original, decoded),
    }

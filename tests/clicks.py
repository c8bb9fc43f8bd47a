"""Finds clicks: places where audio does not go on as what is before and after it would have it.

A short linear predictor, fitted around every place, tells each sample from those before it. A click is
a sample that it misses by far more than its usual error on *both* sides, and by a good part of the
sound's own size. So an attack is not one, because its noise goes on after it, and a fade is not one,
because the bends at its ends are small against the sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Samples that a prediction is made from.
ORDER = 24
#: How many times the usual error a click is: audio of the bundled piano stays below 11, faults are mostly
#: above 22.
UNUSUAL = 14.0
#: What part of the local peak its error is: this is what fades stay below. Of 640 blocks dropped or
#: repeated, hard ends and spikes of 5 % of the local peak 631 were found; of 480 fades and crossfades none.
LARGE = 0.045
#: Errors below this (-115 dBFS) are all the same: nobody hears them.
FLOOR = 2e-6
_HOP = 512
_BLOCK = 64


def find_clicks(samples: np.ndarray, rate: int) -> list[int]:
    """Return the frames at which the audio clicks, sorted; what is nearer than 2 ms is one click.

    Parameters
    ----------
    samples : ndarray
        ``[frames]`` or ``[frames, channels]``, full scale 1. Its own first and last samples are no
        clicks: to judge how audio starts and ends, include some silence.
    rate : int
        Hertz.
    """
    if len(samples) == 0:
        return []
    channels = _channels(samples)
    found = np.unique(np.concatenate([np.flatnonzero(_strangeness(x) > 1.0) for x in channels]))
    apart = np.diff(found, prepend=-rate) > 0.002 * rate
    return found[apart].tolist()


def strangeness(samples: np.ndarray) -> float:
    """How near the audio comes to having a click, which begins above 1: for messages of tests."""
    return max((float(_strangeness(x).max()) for x in _channels(samples)), default=0.0)


def _channels(samples: np.ndarray) -> np.ndarray:
    pcm = np.asarray(samples, np.float64)
    return pcm[None] if pcm.ndim == 1 else pcm.T


def _strangeness(x: np.ndarray) -> np.ndarray:
    """Prediction error of every sample against the usual one and against the peak around it."""
    error = np.abs(_prediction_error(x))
    medians = _over_blocks(np.median, error, 2, 2)
    usual = np.maximum(medians[:-3], medians[3:])  # of blocks b-2 and b-1, and of b+1 and b+2
    peak = _over_blocks(np.max, np.abs(x), 9, 4)  # of blocks b-4 to b+4
    against_usual = error / (np.repeat(usual, _BLOCK)[: len(x)] + FLOOR) / UNUSUAL
    against_peak = error / (np.repeat(peak, _BLOCK)[: len(x)] + FLOOR) / LARGE
    return np.minimum(against_usual, against_peak)


def _over_blocks(function: Any, values: np.ndarray, blocks: int, ahead: int) -> np.ndarray:
    """A function of ``blocks`` neighbouring blocks, the first time from ``ahead`` before the first one on."""
    n = -(-len(values) // _BLOCK)
    behind = (n + ahead) * _BLOCK - len(values)
    padded = np.pad(values, (ahead * _BLOCK, behind), "symmetric")  # the ends of the audio are no faults
    return function(np.lib.stride_tricks.sliding_window_view(padded, blocks * _BLOCK)[::_BLOCK], axis=1)


def _prediction_error(x: np.ndarray) -> np.ndarray:
    """Error of a linear predictor that is fitted to 2048 samples around each hop of 512."""
    window = 4 * _HOP
    hops = -(-len(x) // _HOP)
    before = (window - _HOP) // 2
    padded = np.pad(x, (before, hops * _HOP + window - before - len(x)), "symmetric")
    views = np.lib.stride_tricks.sliding_window_view(padded, window)[: hops * _HOP : _HOP]
    power = np.abs(np.fft.rfft(views * np.hanning(window), 2 * window, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)[:, : ORDER + 1]
    correlation[:, 0] = correlation[:, 0] * (1 + 1e-9) + 1e-12
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    weights = np.linalg.solve(correlation[:, lags], correlation[:, 1:, None])[..., 0]
    error = np.zeros(hops * _HOP)
    for hop in range(hops):
        here = padded[before + hop * _HOP - ORDER : before + (hop + 1) * _HOP]
        predicted = np.convolve(here, weights[hop])[ORDER - 1 : ORDER - 1 + _HOP]
        error[hop * _HOP : (hop + 1) * _HOP] = here[ORDER:] - predicted
    error = error[: len(x)]
    error[:ORDER] = 0.0
    return error

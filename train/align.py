"""Pairing deadpan and performance by dynamic time warping (DTW): coarse on latents, fine on onsets.

The coarse pass is a banded DTW on whitened latents, O(frames * band) memory, compiled. The three
steps have equal weight, and a slope limit bounds how many frames one side may stand still. The band
follows the diagonal, because a deadpan is rendered at the performance's average tempo. The fine
pass repeats it at 11.6 ms frames close to the coarse path, on onsets of the audio and on the same
latents; `alignment_quality` says, without any truth, whether to trust the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from pkontext.stft import hann

#: Half width of the band in frames (about 36 s at 92.9 ms).
BAND = 384
#: Slope limit: frames that one side may stand still in a row.
RUN = 3
#: Directions of largest variance that whitening keeps; those beyond are mostly noise.
DIRECTIONS = 40
#: Sequences whose lengths differ by more than this factor are not the same music.
MAX_RATIO = 512
#: A pair is left out when its path costs more than this share of what chance costs.
MAX_COST = 0.85
#: A pair is left out when cost and share of standing still add up to more than this somewhere.
MAX_STRAIN = 1.3
#: Steps of the path over which the strain is measured (6 s at 92.9 ms).
STRAIN_STEPS = 64


@dataclass(frozen=True)
class FineSpec:
    """The fine pass: its frames and its features.

    ``half_band_sec`` is how far it may stray from the coarse path, ``run`` its slope limit in fine
    frames, ``level`` the mean of a side's band magnitudes before the log, ``lag`` the frames between
    which a rise is measured, ``decay`` the frames in which it fades, ``onset_weight`` the weight of
    onsets against latents.
    """

    sample_rate: int = 44100
    latent_hop: int = 4096
    hop: int = 512
    n_fft: int = 2048
    half_band_sec: float = 0.6
    run: int = 12
    level: float = 0.12
    lag: int = 2
    decay: int = 4
    onset_weight: float = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError unless a latent frame is a whole number of fine frames."""
        if self.latent_hop % self.hop:
            raise ValueError(
                f"A latent frame of {self.latent_hop} samples does not hold whole fine frames of {self.hop}:"
                " choose a hop that divides it."
            )

    @property
    def frame_sec(self) -> float:
        """Seconds of a fine frame."""
        return self.hop / self.sample_rate

    @property
    def ratio(self) -> int:
        """Fine frames of a latent frame."""
        return self.latent_hop // self.hop


@dataclass(frozen=True)
class Quality:
    """How far an alignment can be trusted, measured without any truth.

    ``cost`` is the mean distance along the path over that of two unrelated frames (0 is identity,
    1 is chance). ``strain`` is the largest sum of that ratio and the share of steps on which one
    side stands still, over `STRAIN_STEPS` steps: where music is missing on one side, the path must
    hurry over frames that do not fit.
    """

    cost: float
    strain: float

    @property
    def good(self) -> bool:
        """Whether the pair may be used: the rule that leaves pairs out."""
        return self.cost <= MAX_COST and self.strain <= MAX_STRAIN


def whiten(latents: np.ndarray, mean: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Decorrelate latents ``[frames, dim]`` and give every direction unit variance."""
    return np.ascontiguousarray((latents.astype(np.float32) - mean) @ transform, np.float32)


def whitening(
    latents: np.ndarray, keep: float = 0.999, most: int = DIRECTIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[dim]`` and whitening matrix ``[dim, kept]`` of latents ``[frames, dim]``.

    Kept are the directions of largest variance that hold a share ``keep`` of it, ``most`` at most.
    """
    mean = latents.mean(0)
    values, vectors = np.linalg.eigh(np.cov(latents, rowvar=False))
    share = np.cumsum(values[::-1]) / values.sum()
    count = min(int(np.searchsorted(share, keep)) + 1, most)
    chosen = vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count])
    return mean.astype(np.float32), chosen.astype(np.float32)


def dtw_path(a: np.ndarray, b: np.ndarray, band: int = BAND, run: int = RUN) -> tuple[np.ndarray, float]:
    """Cheapest monotone path between two sequences.

    Parameters
    ----------
    a, b : ndarray
        float32 ``[frames, dim]``.
    band : int
        How far the path may stray from the diagonal, in frames of ``b``.
    run : int
        Slope limit: how often in a row one side may stand still. Raised where the lengths need it.

    Returns
    -------
    path : ndarray
        int64 ``[steps, 2]``, frames of ``a`` and ``b``, both ends included.
    cost : float
        Mean squared Euclidean distance along the path.

    Raises
    ------
    ValueError
        When a sequence is empty, or one is more than `MAX_RATIO` times as long as the other.
    """
    run = _needed_run(len(a), len(b), run)
    slack = max(band, 2 * abs(len(b) - len(a)) // len(a) + 8)
    start = (np.arange(len(a)) * len(b) / len(a)).astype(np.int64) - slack
    path, total = _dtw(
        np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), start, 2 * slack + 1, run
    )
    return path, float(total) / len(path)


def position_from_path(path: np.ndarray, frames: int) -> np.ndarray:
    """Deadpan position of every performed frame, in frames.

    Parameters
    ----------
    path : ndarray
        Steps (deadpan frame, performed frame).
    frames : int
        Performed frames.

    Returns
    -------
    ndarray
        float32 ``[frames]``, increasing; the mean deadpan frame of each performed frame, smoothed
        over five frames because steps are whole frames.
    """
    count = np.bincount(path[:, 1], minlength=frames)
    mean = np.bincount(path[:, 1], path[:, 0], minlength=frames) / np.maximum(count, 1)
    padded = np.concatenate([mean[:1] - np.arange(2, 0, -1), mean, mean[-1:] + np.arange(1, 3)])
    smooth = np.convolve(padded, np.ones(5) / 5, mode="valid")
    return np.maximum.accumulate(smooth).astype(np.float32)


def alignment_quality(a: np.ndarray, b: np.ndarray, path: np.ndarray) -> Quality:
    """Quality of a coarse path between whitened latents ``[frames, dim]``, see `dtw_path`.

    Raises
    ------
    ValueError
        When the path is empty.
    """
    if not len(path):
        raise ValueError("There is no path to judge: align the pair with dtw_path first.")
    chance = math.sqrt(2 * a.shape[1])  # unit variance, independent: squared distance 2 per direction
    cost = np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1) / chance
    still = np.zeros(len(path))
    still[1:] = np.diff(path, axis=0).min(1) == 0
    steps = min(STRAIN_STEPS, len(path))
    strain = np.convolve(cost + still, np.ones(steps) / steps, mode="valid")
    return Quality(float(cost.mean()), float(strain.max()))


def refine_position(
    position: np.ndarray,
    deadpan: tuple[np.ndarray, np.ndarray],
    performed: tuple[np.ndarray, np.ndarray],
    spec: FineSpec,
) -> np.ndarray:
    """Deadpan position of every fine performed frame, in fine frames, from audio alone.

    Parameters
    ----------
    position : ndarray
        Coarse deadpan position of every performed latent frame, in latent frames.
    deadpan, performed : tuple of ndarray
        Audio float32 ``[n]``, mono, and the whitened latents ``[frames, dim]`` of the same audio.
    spec : FineSpec

    Returns
    -------
    ndarray
        float32 ``[frames * ratio]``, increasing. `at_latent_frames` samples it for the networks.

    Raises
    ------
    ValueError
        When a side has no latents, or ``position`` is not as long as the performance.
    """
    if len(position) != len(performed[1]):
        raise ValueError(
            f"{len(position)} positions do not fit {len(performed[1])} performed frames: pass the coarse"
            " positions of this performance."
        )
    sides = [fine_features(audio, white, spec) for audio, white in (deadpan, performed)]
    path = refine_path(position, sides[0], sides[1], spec)
    return position_from_path(path, len(sides[1]))


def at_latent_frames(fine: np.ndarray, spec: FineSpec) -> np.ndarray:
    """Fine positions at the centres of the latent frames, in latent frames, float32 ``[frames]``."""
    frames = len(fine) // spec.ratio
    centre = (np.arange(frames) + 0.5) * spec.ratio - 0.5
    place = (np.interp(centre, np.arange(len(fine)), fine) + 0.5) / spec.ratio - 0.5
    return place.astype(np.float32)


def onset_features(samples: np.ndarray, spec: FineSpec) -> np.ndarray:
    """Fading rises of log magnitude in semitone bands, scaled by the strongest onset nearby.

    Parameters
    ----------
    samples : ndarray
        float32 ``[n]``, mono.

    Returns
    -------
    ndarray
        float32 ``[n // hop, bands]``; fine frame ``m`` is centred on sample ``hop * (m + 1/2)``.

    Raises
    ------
    ValueError
        When there is less than a frame of audio.
    """
    if len(samples) < spec.hop:
        raise ValueError(f"{len(samples)} samples are less than a frame: give at least {spec.hop}.")
    magnitude = _band_magnitude(samples, spec)
    level = np.log1p(magnitude * (spec.level / max(float(magnitude.mean()), 1e-9)))
    rise = np.zeros_like(level)
    rise[spec.lag :] = np.maximum(level[spec.lag :] - level[: -spec.lag], 0)
    onset = rise.copy()
    for frame in range(1, spec.decay):
        faded = rise[:-frame] * np.float32(math.sqrt(1 - frame / spec.decay))
        onset[frame:] = np.maximum(onset[frame:], faded)
    strength = np.linalg.norm(onset, axis=1)
    reach = min(round(spec.sample_rate / spec.hop), len(strength))
    padded = np.pad(strength, (reach, reach), mode="edge")
    nearby = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(1)
    return onset / np.maximum(nearby, 0.2 * np.median(nearby) + 1e-6)[:, None].astype(np.float32)


def refine_path(
    position: np.ndarray, deadpan: np.ndarray, performed: np.ndarray, spec: FineSpec
) -> np.ndarray:
    """Fine path near a coarse alignment.

    Parameters
    ----------
    position : ndarray
        Coarse deadpan position of every performed latent frame, in latent frames.
    deadpan, performed : ndarray
        Features of `fine_features`, ``[fine frames, dim]``.

    Returns
    -------
    ndarray
        int64 ``[steps, 2]``, fine frames of deadpan and performance, both ends included.

    Raises
    ------
    ValueError
        When a side is empty.
    """
    rows, columns, ratio = len(deadpan), len(performed), spec.ratio
    run = _needed_run(rows, columns, spec.run)
    rising = position + np.arange(len(position)) * 1e-4
    centre = np.interp((np.arange(rows) + 0.5) / ratio - 0.5, rising, np.arange(len(position)))
    centre = np.rint((centre + 0.5) * ratio - 0.5).astype(np.int64)
    half = max(round(spec.half_band_sec / spec.frame_sec), 8)
    while True:
        start = np.clip(centre - half, -half, columns - 1 - half)
        path, _ = _dtw(deadpan, performed, start, 2 * half + 1, run)
        if len(path) or half > columns:
            return path
        half *= 2  # the slope limit leaves no path inside so narrow a band


def fine_features(samples: np.ndarray, white: np.ndarray, spec: FineSpec) -> np.ndarray:
    """Onsets of the audio beside the latents of the same audio, both at the fine frames.

    Parameters
    ----------
    samples : ndarray
        float32 ``[n]``, mono; cut, or filled with silence, to the length of the latents.
    white : ndarray
        float32 ``[frames, dim]``, whitened latents.

    Returns
    -------
    ndarray
        float32 ``[frames * ratio, bands + dim]``.
    """
    if not len(white):
        raise ValueError("There are no latents to align: encode at least one frame of audio.")
    length = len(white) * spec.latent_hop
    whole = np.zeros(length, np.float32)
    whole[: min(length, len(samples))] = samples[:length]
    onsets = onset_features(whole, spec) * np.float32(spec.onset_weight)
    place = (np.arange(len(onsets)) + 0.5) / spec.ratio - 0.5
    low = np.clip(place.astype(np.int64), 0, max(len(white) - 2, 0))
    part = np.clip(place - low, 0, 1)[:, None].astype(np.float32)
    between = white[low] * (1 - part) + white[np.minimum(low + 1, len(white) - 1)] * part
    return np.ascontiguousarray(np.concatenate([onsets, between / math.sqrt(white.shape[1])], 1), np.float32)


def _needed_run(rows: int, columns: int, run: int) -> int:
    """Slope limit that leaves room for a path between sequences of these lengths."""
    if not rows or not columns:
        raise ValueError("DTW needs at least one frame on both sides")
    ratio = max(rows, columns) / min(rows, columns)
    if ratio > MAX_RATIO:
        raise ValueError(f"{rows} and {columns} frames are not the same music: check the pair.")
    return max(run, 2 * (math.ceil(ratio) - 1))


def _band_magnitude(samples: np.ndarray, spec: FineSpec) -> np.ndarray:
    """Mean magnitude in semitone bands from C1 to C8, ``[n // hop, bands]``."""
    frames, lead = len(samples) // spec.hop, (spec.n_fft - spec.hop) // 2
    padded = np.pad(np.asarray(samples, np.float32), (lead, spec.n_fft))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop][:frames]
    centre = 440 * 2 ** ((np.arange(24, 109) - 69) / 12)
    bin_hz = spec.sample_rate / spec.n_fft
    width = np.maximum(centre * (2 ** (1 / 12) - 1), bin_hz)
    distance = np.abs(np.arange(spec.n_fft // 2 + 1)[:, None] * bin_hz - centre)
    weights = np.maximum(1 - distance / width, 0)
    weights = (weights / np.maximum(weights.sum(0), 1e-9)).astype(np.float32)
    window = hann(spec.n_fft)
    out = np.empty((frames, len(centre)), np.float32)
    for at in range(0, frames, 1024):  # in parts, for memory
        out[at : at + 1024] = (
            np.abs(np.fft.rfft(windows[at : at + 1024] * window)).astype(np.float32) @ weights
        )
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _dtw(a, b, start, width, run):  # noqa: PLR0912, PLR0915 - one compiled loop
    """Path and total cost; row ``i`` sees columns ``start[i]`` to ``start[i] + width - 1``.

    State 0 came diagonally; 1 to ``run`` have stood still in ``b`` that often in a row, ``run + 1``
    to ``2 * run`` in ``a``. Only the state before a diagonal step must be stored. The path is empty
    when none leads to the end.
    """
    rows, columns, dim = len(a), len(b), a.shape[1]
    states = 2 * run + 1
    never = np.float32(1e30)
    cost, cost_before = np.full((width, states), never), np.full((width, states), never)
    best, best_before = np.full(width, never), np.full(width, never)
    state, state_before = np.zeros(width, np.uint16), np.zeros(width, np.uint16)
    came_from = np.zeros((rows, width), np.uint16)
    before = 0
    for i in range(rows):
        for w in range(width):
            best[w] = never
            cost[w] = never
            j = start[i] + w
            if j < 0 or j >= columns:
                continue
            distance = np.float32(0.0)
            for d in range(dim):
                difference = a[i, d] - b[j, d]
                distance += difference * difference
            if i == 0 and j == 0:
                cost[w, 0] = distance
            p = j - before
            if i > 0 and 0 <= p - 1 < width:
                cost[w, 0] = best_before[p - 1] + distance
                came_from[i, w] = state_before[p - 1]
            if i > 0 and 0 <= p < width:
                for s in range(1, run + 1):
                    cost[w, s] = cost_before[p, s - 1] + distance
            if w > 0 and run > 0:
                cost[w, run + 1] = cost[w - 1, 0] + distance
                for s in range(run + 2, states):
                    cost[w, s] = cost[w - 1, s - 1] + distance
            for s in range(states):
                if cost[w, s] < best[w]:
                    best[w], state[w] = cost[w, s], s
        cost, cost_before = cost_before, cost
        best, best_before = best_before, best
        state, state_before = state_before, state
        before = start[i]
    path = np.empty((rows + columns, 2), np.int64)
    i, j, length = rows - 1, columns - 1, 0
    w = j - before
    if w < 0 or w >= width or best_before[w] >= never:
        return path[:0].copy(), never
    total, s = best_before[w], int(state_before[w])
    while True:
        path[length, 0], path[length, 1] = i, j
        length += 1
        if i == 0 and j == 0:
            break
        if s == 0:
            s = int(came_from[i, j - start[i]])
            i, j = i - 1, j - 1
        elif s <= run:
            i, s = i - 1, s - 1
        else:
            j, s = j - 1, 0 if s == run + 1 else s - 1
    return path[:length][::-1].copy(), total

"""Log magnitudes to audio without a network: phase by heap integration, in blocks, as a stream.

The phase of a spectrogram follows from its magnitude: the logarithm's slope over frequency gives the
phase's slope over time and the other way round (phase gradient heap integration, PGHI: Prusa, Balazs and
Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude", sections II and
III). Here it runs in blocks on a fixed grid with a few frames of look-ahead, starting from the phase that
is already committed (after Prusa and Sondergaard 2016, "Real-time spectrogram inversion using phase
gradient heap integration"). Each block is then refined by a few Griffin-Lim projections that leave the
committed past alone (after Zhu, Beauregard and Wyse 2007, "Real-time signal estimation from modified
short-time Fourier transform magnitude spectra"). What is left ahead of attacks out of near silence is
limited by `pkontext.attacks`.

Threading: one thread owns a stream. The compiled parts release the interpreter lock; the first push on a
machine compiles them (seconds), later processes load them from Numba's cache.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from pkontext.attacks import frame_power, limit_before_attacks
from pkontext.stft import StftSpec, hann, overlap_add

#: A Hann window of n samples behaves like the Gaussian exp(-pi t^2 / gamma) with gamma this times n^2
#: (Prusa, Balazs and Sondergaard 2017, table I).
HANN_GAMMA = 0.25645
#: Priority classes per neper and their number: the integration order is exact to 1 / 32 neper.
CLASSES_PER_NEPER = 32
CLASSES = 640
#: Refinement divides by the window sum where frames are still missing, but never by less than this.
MIN_WEIGHT = 0.05
_compile_lock = threading.Lock()
_compiled = False


class PhaseStream:
    """Turn log magnitudes into audio, a few frames at a time.

    Frames are processed in blocks of ``block`` frames counted from the first one, so the audio is the same
    to the last bit however the frames are pushed. A block is processed when ``look_ahead + 1`` frames
    after it are known, and gives ``hop * block`` samples (the first one ``spec.lead`` fewer, the flush
    as many more). Bins at or below ``spec.floor`` get a phase that is a hash of frame and bin.
    State is fixed at construction; only a block's work arrays and the returned audio are allocated.

    The audio is silent before the first frame's samples. At both ends one neighbour of a frame is unknown,
    so a click within half a window of an end may move by up to half a hop; elsewhere by under 1 ms.

    Parameters
    ----------
    spec : StftSpec
        ``n_fft`` must be an even multiple of ``hop``.
    block : int, optional
        Frames that are committed together; two windows' worth by default.
    look_ahead : int, optional
        Frames after a block whose phase is estimated with it and then estimated again in the next one; by
        default three quarters of a window, less the frame that is needed in any case.
    iterations : int, optional
        Griffin-Lim projections of each block; by default 2, and 8 where more than four windows overlap
        (docs/decisions.md 5 and 31).

    Raises
    ------
    ValueError
        When a parameter is out of range.
    """

    def __init__(
        self,
        spec: StftSpec,
        block: int | None = None,
        look_ahead: int | None = None,
        iterations: int | None = None,
    ) -> None:
        if spec.hop < 1 or spec.n_fft % (2 * spec.hop):
            raise ValueError(
                f"A window of {spec.n_fft} samples is not an even multiple of the hop of {spec.hop}. "
                "Choose a hop that divides half the window."
            )
        if spec.floor <= 0:
            raise ValueError(f"The floor is {spec.floor}. Choose a floor above 0.")
        overlap = spec.n_fft // spec.hop
        block = 2 * overlap if block is None else block
        look_ahead = 3 * overlap // 4 - 1 if look_ahead is None else look_ahead
        if iterations is None:
            iterations = 2 if overlap <= 4 else 8
        if block < 1 or look_ahead < 0 or iterations < 0:
            raise ValueError(
                f"Block {block}, look-ahead {look_ahead} and iterations {iterations} are not all possible. "
                "Choose at least 1, 0 and 0 of them."
            )
        _compile()
        self.spec, self.block, self.look_ahead, self.iterations = spec, block, look_ahead, iterations
        self._window = hann(spec.n_fft)
        frames = block + look_ahead
        self._level = np.zeros((frames + 2, spec.bins), np.float32)
        self._magnitude = np.zeros((frames + 1, spec.bins), np.float32)
        self._phase = np.zeros((frames + 1, spec.bins))
        self._scratch = _Scratch(frames, spec)
        self._sum = np.zeros(spec.hop * (frames - 1) + spec.n_fft, np.float32)
        self._weight = np.zeros_like(self._sum)
        self._reset()

    def _reset(self) -> None:
        self._level[0] = 0.0
        self._phase[0] = 0.0
        self._sum[:] = 0.0
        self._weight[:] = 0.0
        self._power = np.zeros(self.spec.n_fft // self.spec.hop + 1)  # of the last committed frames
        self._waiting = 0  # frames in `_magnitude` that are not committed
        self._committed = 0  # frames whose audio is in `_sum`
        self._skip = self.spec.lead  # samples before sample 0 that are still to be dropped

    @property
    def delay(self) -> int:
        """Frames that must be pushed before the first block is processed."""
        return self.block + self.look_ahead + 1

    def push(self, log_mag: np.ndarray) -> np.ndarray:
        """Take frames and return the samples that are final by now.

        Parameters
        ----------
        log_mag : ndarray
            float32 ``[frames, bins]``, natural log of ``|S| + spec.floor``; any number of frames.

        Returns
        -------
        ndarray
            float32 ``[n]``, mono, ``n >= 0``.

        Raises
        ------
        ValueError
            When the shape is not ``[frames, bins]`` or a value is not finite; nothing is taken then.
        """
        log_mag = np.asarray(log_mag, np.float32)
        if log_mag.ndim != 2 or log_mag.shape[1] != self.spec.bins:
            raise ValueError(
                f"Log magnitudes of shape {log_mag.shape} do not fit. Pass [frames, {self.spec.bins}]."
            )
        if not np.isfinite(log_mag).all():
            raise ValueError("Log magnitudes hold values that are not finite. Check the decoder's output.")
        parts = []
        taken = 0
        while taken < len(log_mag):
            n = min(len(log_mag) - taken, self.delay - self._waiting)
            self._store(log_mag[taken : taken + n])
            taken += n
            if self._waiting == self.delay:
                parts.append(self._commit(self.block, self.block + self.look_ahead))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def flush(self) -> np.ndarray:
        """End the stream: return the samples left and start anew at frame 0.

        Returns
        -------
        ndarray
            float32 ``[n]``. All pushes and the flush together make ``hop`` samples a frame.
        """
        parts = []
        total = self._committed + self._waiting
        while self._waiting:
            self._level[self._waiting + 1 :] = self._level[self._waiting]
            parts.append(
                self._commit(min(self.block, self._waiting), min(self.block + self.look_ahead, self._waiting))
            )
        if total:
            first_sample = self._committed * self.spec.hop + self._skip
            samples = self._take(self.spec.lead)
            first_frame = self._committed - len(self._power)
            limit_before_attacks(samples, first_sample, self._power, first_frame, self.spec)
            parts.append(samples)
        self._reset()
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _store(self, log_mag: np.ndarray) -> None:
        """Append frames: their magnitude, and its log relative to the floor (0 at or below it)."""
        rows = slice(self._waiting, self._waiting + len(log_mag))
        magnitude = self._magnitude[rows]
        np.exp(log_mag, out=magnitude)
        magnitude -= np.float32(self.spec.floor)
        np.maximum(magnitude, 0, out=magnitude)
        level = self._level[rows.start + 1 : rows.stop + 1]
        np.maximum(magnitude * np.float32(1 / self.spec.floor), 1, out=level)
        np.log(level, out=level)
        self._waiting += len(log_mag)

    def _commit(self, commit: int, frames: int) -> np.ndarray:
        """Solve ``frames`` waiting frames and commit the first ``commit``; return what is final."""
        spec, scratch = self.spec, self._scratch
        magnitude, phase = self._magnitude[:frames], self._phase[: frames + 1]
        if not self._committed:
            self._level[0] = self._level[1]  # sound may start in frame 0: what came before it is unknown
        _gradients(self._level, frames, spec.hop, spec.n_fft, scratch.over_time, scratch.over_frequency)
        if not self._committed:
            self._level[0] = 0.0  # and has no phase to start from
        _integrate(
            self._level,
            frames,
            scratch.over_time,
            scratch.over_frequency,
            scratch.solved,
            scratch.next_front,
            scratch.next_seed,
            phase,
        )
        spectrum = scratch.spectrum[:frames]
        _polar(magnitude, phase[1:], self._level[1:], self._committed, spectrum)
        if self.iterations:
            self._refine(magnitude, spectrum)
        added = overlap_add(spectrum[:commit], spec)
        self._sum[: len(added)] += added
        self._weight[: len(added)] += self._window_sum(commit)
        power = np.concatenate([self._power, frame_power(self._magnitude[: self._waiting])])
        first_frame = self._committed - len(self._power)
        self._power = power[commit : commit + len(self._power)]
        self._phase[0] = np.angle(spectrum[commit - 1])
        self._level[0] = self._level[commit]
        left = self._waiting - commit
        self._magnitude[:left] = self._magnitude[commit : self._waiting].copy()
        self._level[1 : left + 1] = self._level[commit + 1 : self._waiting + 1].copy()
        self._waiting = left
        first_sample = self._committed * spec.hop + self._skip
        self._committed += commit
        samples = self._take(commit * spec.hop)
        limit_before_attacks(samples, first_sample, power, first_frame, spec)
        return samples

    def _refine(self, magnitude: np.ndarray, spectrum: np.ndarray) -> None:
        """Griffin-Lim projections of the block, in place; committed audio takes part but stays."""
        frames, n_fft = len(spectrum), self.spec.n_fft
        length = self.spec.hop * (frames - 1) + n_fft
        known = self._sum[:length]
        windowed = self._scratch.windowed[:frames]
        weight = np.maximum(self._weight[:length] + self._window_sum(frames), np.float32(MIN_WEIGHT))
        for _ in range(self.iterations):
            samples = overlap_add(spectrum, self.spec)
            samples += known
            samples /= weight
            samples[: self._skip] = 0.0  # silence before the start
            for frame, row in enumerate(windowed):
                start = frame * self.spec.hop
                np.multiply(samples[start : start + n_fft], self._window, out=row)
            _project(magnitude, np.fft.rfft(windowed, axis=1), spectrum)

    def _window_sum(self, frames: int) -> np.ndarray:
        hop, n_fft = self.spec.hop, self.spec.n_fft
        out = np.zeros(hop * (frames - 1) + n_fft, np.float32)
        for frame in range(frames):
            out[frame * hop : frame * hop + n_fft] += self._window**2
        return out

    def _take(self, n: int) -> np.ndarray:
        """Remove ``n`` samples from the front of the sums, less those before sample 0."""
        skip = min(self._skip, n)
        self._skip -= skip
        out = self._sum[skip:n] / self._weight[skip:n]
        for array in (self._sum, self._weight):
            array[:-n] = array[n:].copy()
            array[-n:] = 0.0
        return out


class _Scratch:
    """Work arrays of one block of ``frames`` frames."""

    def __init__(self, frames: int, spec: StftSpec) -> None:
        bins = spec.bins
        self.over_time = np.zeros((frames, bins), np.float32)
        self.over_frequency = np.zeros((frames, bins - 1), np.float32)
        self.solved = np.zeros((frames + 1) * bins, np.bool_)
        self.next_front = np.zeros((frames + 1) * bins, np.int32)
        self.next_seed = np.zeros((frames + 1) * bins, np.int32)
        self.windowed = np.zeros((frames, spec.n_fft), np.float32)
        self.spectrum = np.zeros((frames, bins), np.complex64)


def _gradients(level, frames, hop, n_fft, over_time, over_frequency):
    """Phase steps between neighbours, from magnitude.

    Prusa, Balazs and Sondergaard 2017, equations 13 and 14, averaged over both ends of a step (the
    trapezoidal rule of section III); phases refer to the first sample of a frame, as in an FFT of it.

    Parameters
    ----------
    level : float32 [frames + 2, bins]
        Natural log of magnitude relative to the floor; row 0 is the last committed frame, the last row
        lies ahead.
    over_time : float32 [frames, bins], out
        Step from row j to row j + 1, radians modulo 2 pi.
    over_frequency : float32 [frames, bins - 1], out
        Step from bin k to bin k + 1 of row j + 1.
    """
    bins = level.shape[1]
    gamma = HANN_GAMMA * n_fft * n_fft
    per_time = np.float32(0.25 * hop * n_fft / gamma)
    per_frequency = np.float32(-0.25 * gamma / (hop * n_fft))
    turn = np.float32(math.pi)
    for j in range(frames):
        now, then = level[j], level[j + 1]
        over_time[j, 0] = 0.0
        over_time[j, bins - 1] = 2 * math.pi * ((bins - 1) * hop % n_fft) / n_fft
        for k in range(1, bins - 1):
            slope = now[k + 1] - now[k - 1] + then[k + 1] - then[k - 1]
            over_time[j, k] = per_time * slope + np.float32(2 * math.pi * (k * hop % n_fft) / n_fft)
        before, after = level[j], level[j + 2]
        for k in range(bins - 1):
            slope = after[k] - before[k] + after[k + 1] - before[k + 1]
            over_frequency[j, k] = per_frequency * slope - turn


def _integrate(level, frames, over_time, over_frequency, solved, next_front, next_seed, phase):
    """Integrate the steps outwards from the loudest solved cell (section III, algorithm 1).

    The paper's heap is a table of linked lists, one per class of magnitude, which takes constant time.
    Row 0 of ``phase`` (radians, ``[frames + 1, bins]``) is given and the rest is filled in where ``level``
    is above 0. An island that the past does not reach starts at its loudest cell with phase 0.
    """
    bins = level.shape[1]
    loudness, angle = level.reshape(-1), phase.reshape(-1)
    front = np.full(CLASSES, -1, np.int32)  # heads of the lists: solved cells whose neighbours come next
    seeds = np.full(CLASSES, -1, np.int32)  # heads of the lists of all cells to solve
    top = -1
    for cell in range((frames + 1) * bins):
        quiet = loudness[cell] <= 0
        solved[cell] = quiet or cell < bins
        if not solved[cell]:
            _link(cell, loudness, seeds, next_seed)
        elif not quiet:
            top = max(top, _link(cell, loudness, front, next_front))
    while True:
        while top >= 0 and front[top] < 0:
            top -= 1
        if top < 0:
            cell = _loudest_unsolved(seeds, next_seed, solved)
            if cell < 0:
                return
            top = _solve(cell, 0.0, loudness, angle, solved, front, next_front)
        cell = front[top]
        front[top] = next_front[cell]
        j = cell // bins
        k = cell - j * bins
        here = angle[cell]
        if j < frames and not solved[cell + bins]:
            value = here + over_time[j, k]
            top = max(top, _solve(cell + bins, value, loudness, angle, solved, front, next_front))
        if j == 0:
            continue
        if not solved[cell - bins]:
            value = here - over_time[j - 1, k]
            top = max(top, _solve(cell - bins, value, loudness, angle, solved, front, next_front))
        if k + 1 < bins and not solved[cell + 1]:
            value = here + over_frequency[j - 1, k]
            top = max(top, _solve(cell + 1, value, loudness, angle, solved, front, next_front))
        if k > 0 and not solved[cell - 1]:
            value = here - over_frequency[j - 1, k - 1]
            top = max(top, _solve(cell - 1, value, loudness, angle, solved, front, next_front))


def _link(cell, loudness, heads, following):
    """Put a cell at the head of the list of its class of magnitude; return the class."""
    c = min(int(loudness[cell] * CLASSES_PER_NEPER), CLASSES - 1)
    following[cell] = heads[c]
    heads[c] = cell
    return c


def _solve(cell, value, loudness, angle, solved, front, next_front):
    """Give a cell its phase and queue it; return its class of magnitude."""
    angle[cell] = value
    solved[cell] = True
    return _link(cell, loudness, front, next_front)


def _loudest_unsolved(seeds, next_seed, solved):
    """Remove and return the loudest cell without a phase, or -1."""
    for c in range(CLASSES - 1, -1, -1):
        while seeds[c] >= 0:
            cell = seeds[c]
            seeds[c] = next_seed[cell]
            if not solved[cell]:
                return cell
    return -1


def _polar(magnitude, phase, level, first_frame, spectrum):
    """Fill ``spectrum`` (complex64 ``[frames, bins]``); quiet cells get a hash of frame and bin as phase."""
    frames, bins = spectrum.shape
    turns = np.float32(2 * math.pi / 2**32)
    for j in range(frames):
        for k in range(bins):
            if level[j, k] > 0:
                p = np.float32(phase[j, k] % (2 * math.pi))
            else:
                p = np.float32(_hash(first_frame + j, k)) * turns
            spectrum[j, k] = complex(magnitude[j, k] * math.cos(p), magnitude[j, k] * math.sin(p))


def _hash(frame, k):
    """32 mixed bits (the finaliser of MurmurHash3) of a frame index and a bin."""
    h = (np.uint64(frame) * np.uint64(0x9E3779B1) + np.uint64(k) * np.uint64(0x85EBCA77)) & np.uint64(
        0xFFFFFFFF
    )
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & np.uint64(0xFFFFFFFF)
    h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & np.uint64(0xFFFFFFFF)
    return h ^ (h >> np.uint64(16))


def _project(magnitude, analysed, spectrum):
    """Give ``spectrum`` the phases of ``analysed`` and its own magnitude back."""
    frames, bins = spectrum.shape
    for j in range(frames):
        for k in range(bins):
            size = abs(analysed[j, k])
            if size > 1e-20:
                spectrum[j, k] = analysed[j, k] * (magnitude[j, k] / size)


def _compile() -> None:
    """Put the compiled functions in place of the plain ones above, once.

    Not a decorator, because importing Numba takes most of a second and imports SciPy where it finds it.
    """
    global _compiled  # noqa: PLW0603
    with _compile_lock:
        if _compiled:
            return
        from numba import njit

        for plain in (
            _gradients,
            _integrate,
            _link,
            _solve,
            _loudest_unsolved,
            _polar,
            _hash,
            _project,
        ):
            globals()[plain.__name__] = njit(cache=True, nogil=True)(plain)
        _compiled = True

"""The curve network at work: the performance curves of a piece, window by window."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from pkontext import curves as pc
from pkontext.bundle import Manifest, SamplerEntry
from pkontext.deadpan import DeadpanScore
from pkontext.drawn import drawn_frames
from pkontext.features import curve_local
from pkontext.runtime import Graph
from pkontext.sampler import CURVE_STAGE, sample, window_noise
from pkontext.take import CancelFn, RenderSettings, check_cancelled
from pkontext.windows import CURVE_LOOKAHEAD, CURVE_SUFFIX, range_windows, window_grid

#: Frames over which a bent tempo reaches its change.
_RISE_FRAMES = 16
#: Frames over which a window takes over from what the one before it expected.
_JOIN_FRAMES = 8
#: With fewer frames to come, a window makes up for all that the take is ahead or behind.
_NEAR_END_FRAMES = 96
#: How far beyond an octave a generated tempo can go, log2; one human frame in two hundred is below -1.55.
_PRESSED = 0.8
#: Largest share of its length by which a window may be bent for the average tempo.
_MOST_BENT = 0.35


class CurveSource:
    """The curves of a piece, generated window by window as far as they are asked for.

    Parameters
    ----------
    graph : Graph
        The curve network.
    manifest : Manifest
    deadpan : DeadpanScore
    settings : RenderSettings
    played : tuple of ndarray, optional
        Curves of a performance to play like and where they are given, both ``[frames, 12]``. In full they are
        given to the network, which fits the rest to them; in part they are mixed with its own.
    """

    def __init__(
        self,
        graph: Graph,
        manifest: Manifest,
        deadpan: DeadpanScore,
        settings: RenderSettings,
        played: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.deadpan = deadpan
        self.committed = 0
        self._ends: list[tuple[int, float]] = []  # after each window: frames committed, performed seconds
        chosen = {"guidance": settings.guidance, "temperature": settings.temperature}
        changes = {name: value for name, value in chosen.items() if value is not None}
        self._graph, self._settings = graph, settings
        self._sampler = replace(manifest.sampler, **changes)
        self._mean = np.array([c.mean for c in manifest.curves], np.float32)
        self._std = np.array([c.std for c in manifest.curves], np.float32)
        self._timing = np.float32(settings.expressiveness * manifest.sampler.tempo_spread)
        self._dynamics = np.float32(settings.expressiveness * manifest.sampler.loudness_spread)
        self._drawn, self._given = drawn_frames(settings.drawn, deadpan, self._mean)
        self._played, self._mixed = self._drawn, np.zeros(self._given.shape, np.float32)
        if played is not None:
            there = played[1] & ~self._given
            self._played, self._mixed = played[0], there * np.float32(settings.like_amount)
            if settings.like_amount == 1:
                self._drawn, self._given = np.where(there, played[0], self._drawn), self._given | there
        self._state = np.zeros((deadpan.frames, len(manifest.curves)), np.float32)
        self._ahead = self._state[:0]  # what the window before expects of the next frames
        self._grid = window_grid(self._sampler.curve_window, self._sampler.curve_overlap, CURVE_LOOKAHEAD)

    @property
    def done(self) -> bool:
        """Whether the whole piece has curves."""
        return self.committed >= self.deadpan.frames

    def extend(self, frames: int, cancelled: CancelFn | None = None) -> None:
        """Generate windows until the first ``frames`` deadpan frames are committed."""
        while self.committed < min(frames, self.deadpan.frames):
            self._next_window(cancelled)

    def frames_until(
        self, performed_sec: float, deadpan_frame: int = 0, cancelled: CancelFn | None = None
    ) -> int:
        """Generate windows until they reach a performed time and a deadpan frame.

        Returns
        -------
        int
            Frames of the fewest whole windows that do, or all: the same, however many are committed.
        """
        while True:
            for frames, end in self._ends:
                if end >= performed_sec and frames >= min(deadpan_frame, self.deadpan.frames):
                    return frames
            if self.done:
                return self.committed
            self._next_window(cancelled)

    def curves(self, frames: int | None = None) -> np.ndarray:
        """Curves in their units with expressiveness applied, ``[frames, 12]``; by default all committed."""
        frames = self.committed if frames is None else frames
        curves = self._state[:frames] * self._std + self._mean
        curves[:, pc.TEMPO] *= self._timing
        curves[:, pc.ASYNCHRONY] *= self._timing
        curves[:, pc.ARTICULATION] *= np.float32(self._settings.expressiveness)
        level = self._mean[pc.LOUDNESS].mean()
        curves[:, pc.LOUDNESS] = level + self._dynamics * (curves[:, pc.LOUDNESS] - level)
        curves += self._mixed[:frames] * (self._played[:frames] - curves)
        return np.where(self._given[:frames], self._drawn[:frames], curves)

    def time_map(self, frames: int | None = None) -> pc.TimeMap:
        """Deadpan to performed seconds by these curves; after them time runs at the deadpan's rate."""
        return pc.time_map_from_tempo(self.curves(frames)[:, pc.TEMPO], self.deadpan.frame_sec)

    def state(self, start: int, stop: int) -> np.ndarray:
        """Committed frames ``[start, stop)`` as the network has them, ``[frames, 12]``."""
        return self._state[start:stop]

    def curves_with(self, start: int, state: np.ndarray, frames: int) -> np.ndarray:
        """`curves` of the first ``frames``, as if ``state`` had been committed from ``start`` on."""
        other = copy.copy(self)
        other._state = self._state.copy()
        other._state[start : start + len(state)] = state
        return other.curves(frames)

    def sample_window(
        self,
        start: int,
        given: np.ndarray,
        known: np.ndarray,
        seed: int,
        number: int,
        cancelled: CancelFn | None,
    ) -> np.ndarray:
        """Sample the window that starts at deadpan frame ``start``.

        Parameters
        ----------
        start : int
        given, known : ndarray
            float32 ``[1, curve_window, 12]``, see `pkontext.sampler.sample`.
        seed, number : int
            Of the noise, see `pkontext.sampler.window_noise`.
        cancelled : callable or None

        Returns
        -------
        ndarray
            float32 ``[curve_window, 12]``, normalised.
        """
        size = self._sampler.curve_window
        given, known = self._with_drawn(start, given, known)
        local = curve_local(self.deadpan.score_features(start, size), size)[None]
        position = np.arange(size, dtype=np.float32)[None]

        def predict(x: np.ndarray, when: float) -> np.ndarray:
            check_cancelled(cancelled)
            inputs = {"x": x, "known": known, "position": position, "time": np.array([when], np.float32)}
            clean = self._graph(local=local, **inputs)
            if guidance == 1:
                return clean
            check_cancelled(cancelled)
            blind = self._graph(local=np.zeros_like(local), **inputs)
            return blind + guidance * (clean - blind)

        guidance = np.float32(self._sampler.guidance)
        noise = window_noise(seed, CURVE_STAGE, number, given.shape)
        noise *= np.float32(self._sampler.temperature)
        steps, solver = self._sampler.curve_steps, self._sampler.solver
        state = sample(predict, noise, given, known, steps, solver)[0]
        made = known[0, :, pc.TEMPO] == 0
        mean, std = self._mean[pc.TEMPO], self._std[pc.TEMPO]
        state[made, pc.TEMPO] = (_within_reach(state[made, pc.TEMPO] * std + mean) - mean) / std
        return state

    def _with_drawn(self, start: int, given: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a window is given, and what is drawn over it."""
        stop = min(start + given.shape[1], self.deadpan.frames)
        drawn = np.zeros(given.shape, bool)
        drawn[0, : max(stop - start, 0)] = self._given[start:stop]
        if not drawn.any():
            return given, known
        shown = np.zeros_like(given)
        shown[0, : stop - start] = (self._drawn[start:stop] - self._mean) / self._std
        return np.where(drawn & (known == 0), shown, given), np.maximum(known, drawn.astype(known.dtype))

    def _next_window(self, cancelled: CancelFn | None) -> None:
        window = next(self._grid)
        size, channels = self._sampler.curve_window, self._state.shape[1]
        given = np.zeros((1, size, channels), np.float32)
        known = np.zeros_like(given)
        given[0, : window.given] = self._state[window.start : window.start + window.given]
        known[0, : window.given] = 1
        seed = self._settings.seed
        state = self.sample_window(window.start, given, known, seed, window.number, cancelled)
        stop = min(window.stop, self.deadpan.frames)
        new = state[self.committed - window.start : stop - window.start].copy()
        joined = min(len(self._ahead), len(new))
        part = ((np.arange(joined, dtype=np.float32) + 0.5) / max(joined, 1))[:, None]
        new[:joined] = (1 - part) * self._ahead[:joined] + part * new[:joined]
        self._ahead = state[stop - window.start :][:_JOIN_FRAMES].copy()
        self._keep_average(new)
        self._state[self.committed : stop] = new
        self.committed = stop
        self._ends.append((stop, float(self.time_map().performed[-1])))

    def _keep_average(self, new: np.ndarray) -> None:
        """Bend the tempo of the next frames, in place, so that the take keeps its average tempo.

        From the first to the last onset, where no tempo is drawn, a performance lasts as long as its
        deadpan, but small errors add up. Each window makes up for half of what the take is ahead or
        behind, and near the end for all of it, by at most `_MOST_BENT` of its own length. The change
        begins and ends at nothing, so that no jump is at the join of two windows.
        """
        frame_sec, start, stop = self.deadpan.frame_sec, self.committed, self.committed + len(new)
        onset = self.deadpan.notes["onset_sec"] / frame_sec
        free = ~self._given[:, pc.TEMPO]
        free[: int(onset.min())] = False
        free[int(onset.max()) :] = False
        here = free[start:stop]
        if self._timing == 0 or not here.any():
            return
        mean, std = self._mean[pc.TEMPO], self._std[pc.TEMPO]
        before, tempo = (
            (rows * std + mean) * self._timing
            for rows in (self._state[:start, pc.TEMPO][free[:start]], new[here, pc.TEMPO])
        )
        length = _seconds(tempo, frame_sec)
        drift = _seconds(before, frame_sec) + length - (len(before) + len(tempo)) * frame_sec
        share = 1.0 if free[stop:].sum() < _NEAR_END_FRAMES else 0.5
        wanted = length - float(np.clip(share * drift, -_MOST_BENT * length, _MOST_BENT * length))
        new[here, pc.TEMPO] += (bend(tempo, wanted, frame_sec) - tempo) / (std * self._timing)


def _within_reach(tempo: np.ndarray) -> np.ndarray:
    """Tempo, log2, with what is beyond an octave pressed together: guidance exaggerates a last ritardando."""
    beyond = np.maximum(np.abs(tempo) - 1.0, 0.0)
    return np.clip(tempo, -1.0, 1.0) + np.sign(tempo) * _PRESSED * np.tanh(beyond / _PRESSED)


def _seconds(tempo: np.ndarray, frame_sec: float) -> float:
    """How long frames of a tempo last."""
    return float(pc.time_map_from_tempo(tempo, frame_sec).performed[-1])


def sample_range(
    curves: CurveSource,
    start: int,
    stop: int,
    sampler: SamplerEntry,
    seed: int,
    number: int,
    cancelled: CancelFn | None,
) -> np.ndarray:
    """Sample frames ``[start, stop)`` anew, between the committed frames around them.

    Parameters
    ----------
    curves : CurveSource
        Committed for a window after ``stop``, or to its end.
    start, stop : int
        Deadpan frames; up to the last one, nothing is given after them.
    sampler : SamplerEntry
    seed, number : int
        Of the noise of the first window; the others count on.
    cancelled : callable or None

    Returns
    -------
    ndarray
        float32 ``[stop - start, 12]``, normalised.
    """
    size, to_end = sampler.curve_window, stop >= curves.deadpan.frames
    state = curves.state(0, min(stop + size, curves.committed)).copy()
    ahead = CURVE_LOOKAHEAD if to_end else CURVE_SUFFIX
    for begin, first, last in range_windows(start, stop, size, sampler.curve_overlap, ahead):
        shown = state[begin : begin + size]
        known = np.zeros((1, size, state.shape[1]), np.float32)
        known[0, : first - begin] = 1
        if not to_end:
            known[0, stop - begin :] = 1
        given = np.pad(shown, ((0, size - len(shown)), (0, 0)))[None] * known
        made = curves.sample_window(begin, given, known, seed, number, cancelled)
        state[first:last] = made[first - begin : last - begin]
        number += 1
    return state[start:stop]


def bend(tempo: np.ndarray, wanted_sec: float, frame_sec: float) -> np.ndarray:
    """Tempo curve that lasts as long as wanted, by adding a plateau that rises from nothing at both ends."""
    place = np.arange(len(tempo)) + 0.5
    rise = np.minimum(place, len(tempo) - place) / min(_RISE_FRAMES, len(tempo) / 2)
    arch = np.sin(0.5 * np.pi * np.minimum(rise, 1.0)) ** 2

    def excess(amount: float) -> float:
        return _seconds(tempo + amount * arch, frame_sec) - wanted_sec

    low, high = -2 * pc.TEMPO_LIMIT, 2 * pc.TEMPO_LIMIT
    if abs(excess(0.0)) < 1e-9:
        return tempo
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return tempo + low * arch

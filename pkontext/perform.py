"""The curve network at work: the performance curves of a piece, window by window."""

from __future__ import annotations

import numpy as np

from pkontext import curves as pc
from pkontext.bundle import Manifest
from pkontext.deadpan import DeadpanScore
from pkontext.features import curve_local
from pkontext.runtime import Graph
from pkontext.sampler import CURVE_STAGE, sample, window_noise
from pkontext.take import CancelFn, RenderSettings, check_cancelled
from pkontext.windows import CURVE_LOOKAHEAD, window_grid


class CurveSource:
    """The curves of a piece, generated window by window as far as they are asked for.

    Parameters
    ----------
    graph : Graph
        The curve network.
    manifest : Manifest
    deadpan : DeadpanScore
    settings : RenderSettings
    """

    def __init__(
        self, graph: Graph, manifest: Manifest, deadpan: DeadpanScore, settings: RenderSettings
    ) -> None:
        self.deadpan = deadpan
        self.committed = 0
        self._ends: list[tuple[int, float]] = []  # after each window: frames committed, performed seconds
        self._graph, self._sampler, self._settings = graph, manifest.sampler, settings
        self._mean = np.array([c.mean for c in manifest.curves], np.float32)
        self._std = np.array([c.std for c in manifest.curves], np.float32)
        self._timing = np.float32(settings.expressiveness * manifest.sampler.tempo_spread)
        self._dynamics = np.float32(settings.expressiveness * manifest.sampler.loudness_spread)
        self._state = np.zeros((deadpan.frames, len(manifest.curves)), np.float32)
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
        return curves

    def time_map(self, frames: int | None = None) -> pc.TimeMap:
        """Deadpan to performed seconds by these curves; after them time runs at the deadpan's rate."""
        return pc.time_map_from_tempo(self.curves(frames)[:, pc.TEMPO], self.deadpan.frame_sec)

    def _next_window(self, cancelled: CancelFn | None) -> None:
        window = next(self._grid)
        size, channels = self._sampler.curve_window, self._state.shape[1]
        given = np.zeros((1, size, channels), np.float32)
        known = np.zeros_like(given)
        given[0, : window.given] = self._state[window.start : window.start + window.given]
        known[0, : window.given] = 1
        local = curve_local(self.deadpan.score_features(window.start, size), size)[None]
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
        noise = window_noise(self._settings.seed, CURVE_STAGE, window.number, given.shape)
        noise *= np.float32(self._sampler.temperature)
        steps, solver = self._sampler.curve_steps, self._sampler.solver
        state = sample(predict, noise, given, known, steps, solver)[0]
        stop = min(window.stop, self.deadpan.frames)
        new = state[self.committed - window.start : stop - window.start]
        new[:, pc.TEMPO] += self._drift_correction(new[:, pc.TEMPO])
        self._state[self.committed : stop] = new
        self.committed = stop
        self._ends.append((stop, float(self.time_map().performed[-1])))

    def _drift_correction(self, tempo: np.ndarray) -> np.ndarray:
        """Ramp to add to a window's normalised tempo so that the take keeps its average tempo.

        A performance lasts as long as its deadpan, but small errors of the network's mean add up. Each
        window makes up for half of what the take is ahead or behind, at most 15 % of its own length,
        by a hump that starts and ends at nothing, so that no jump is at the join of two windows.
        """
        if self._timing == 0:
            return np.zeros(len(tempo), np.float32)
        mean, std = self._mean[pc.TEMPO] * self._timing, self._std[pc.TEMPO] * self._timing
        frames, frame_sec = len(tempo), self.deadpan.frame_sec
        before = pc.time_map_from_tempo(self._state[: self.committed, pc.TEMPO] * std + mean, frame_sec)
        length = float(np.exp2(-(tempo * std + mean)).sum()) * frame_sec
        drift = float(before.performed[-1] - before.deadpan[-1]) + length - frames * frame_sec
        wanted = length - float(np.clip(0.5 * drift, -0.15 * length, 0.15 * length))
        hump = 1 - np.cos(2 * np.pi * (np.arange(frames, dtype=np.float32) + 0.5) / frames)
        return hump * np.float32(np.log2(length / wanted) / std)

"""Latent DTW: how far it may be off, that the band changes nothing else, what it costs."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from train.align import dtw_path, position_from_path, whiten, whitening


def texture(frames: int, dim: int, seed: int, smooth: int = 3) -> np.ndarray:
    """Smoothed noise of unit size, ``[frames, dim]``: neighbours resemble each other, as in music."""
    noise = np.random.default_rng(seed).standard_normal((frames + smooth - 1, dim))
    rows = np.lib.stride_tricks.sliding_window_view(noise, smooth, axis=0).mean(2) * np.sqrt(smooth)
    return rows.astype(np.float32)


def warped(deadpan: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Rows of ``deadpan`` at fractional places, linear in between."""
    low = np.clip(position.astype(int), 0, len(deadpan) - 2)
    part = (position - low)[:, None]
    return (deadpan[low] * (1 - part) + deadpan[low + 1] * part).astype(np.float32)


def rubato(deadpan_frames: int, frames: int, depth: float) -> np.ndarray:
    """Deadpan position of performed frames: both ends fixed, tempo swings by ``depth``."""
    t = np.linspace(0, 1, frames)
    rate = 1 + depth * np.sin(2 * np.pi * 3 * t)
    position = np.cumsum(rate) - rate[0]
    return position * (deadpan_frames - 1) / position[-1]


def full_cost(a: np.ndarray, b: np.ndarray) -> float:
    """Cheapest sum of distances over all monotone paths, by the textbook recursion."""
    distance = np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(2))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = distance[i, j] + before
    return float(total[-1, -1])


def assert_monotone(path: np.ndarray, rows: int, columns: int) -> None:
    """Both ends are there, and each step advances one side or both by one frame."""
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [rows - 1, columns - 1]
    steps = {tuple(step) for step in np.diff(path, axis=0).tolist()}
    assert steps <= {(1, 1), (1, 0), (0, 1)}


# Errors in frames; over ten seeds the median was at most 0.11, the largest 0.57, the cost 0.25 of chance.
@pytest.mark.parametrize(("frames", "depth"), [(400, 0.0), (400, 0.4), (480, 0.3), (330, 0.3)])
def test_warps_are_found(frames: int, depth: float) -> None:
    deadpan = texture(400, 16, seed=1)
    truth = rubato(400, frames, depth)
    performed = warped(deadpan, truth) + 0.2 * texture(frames, 16, seed=2)
    path, cost = dtw_path(deadpan, performed)
    assert_monotone(path, 400, frames)
    error = np.abs(position_from_path(path, frames) - truth)
    assert np.median(error) < 0.15 and error.max() < 0.8
    assert cost < 0.3 * np.linalg.norm(deadpan - np.roll(deadpan, 50, axis=0), axis=1).mean()


def test_cost_is_the_mean_distance_along_the_path() -> None:
    a, b = texture(40, 4, seed=1), texture(55, 4, seed=2)
    path, cost = dtw_path(a, b)
    along = np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1)
    assert cost == pytest.approx(along.mean(), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 24).flatmap(
        lambda rows: st.tuples(
            arrays(np.float32, (rows, 3), elements=st.integers(-9, 9).map(float)),
            st.integers(1, 24).flatmap(
                lambda columns: arrays(np.float32, (columns, 3), elements=st.integers(-9, 9).map(float))
            ),
        )
    )
)
def test_wide_band_costs_what_a_full_search_does(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    path, cost = dtw_path(a, b)
    assert_monotone(path, len(a), len(b))
    assert cost * len(path) == pytest.approx(full_cost(a, b), rel=1e-5, abs=1e-5)


def test_narrow_band_keeps_the_path_inside() -> None:
    deadpan = texture(300, 8, seed=3)
    performed = np.roll(deadpan, 60, axis=0)  # the cheapest path strays by 60 frames
    path, _ = dtw_path(deadpan, performed, band=12)
    assert_monotone(path, 300, 300)
    assert np.abs(path[:, 0] - path[:, 1]).max() <= 12
    free, _ = dtw_path(deadpan, performed)
    assert np.abs(free[:, 0] - free[:, 1]).max() > 40


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 50), (50, 1), (2, 900), (900, 2), (3, 2)])
def test_odd_lengths_have_a_path(rows: int, columns: int) -> None:
    path, cost = dtw_path(texture(rows, 5, seed=1), texture(columns, 5, seed=2), band=1)
    assert_monotone(path, rows, columns)
    assert np.isfinite(cost)


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_align(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        dtw_path(np.zeros((rows, 4), np.float32), np.zeros((columns, 4), np.float32))


def test_silence_against_silence_runs_along_the_diagonal() -> None:
    path, cost = dtw_path(np.zeros((60, 4), np.float32), np.zeros((60, 4), np.float32))
    assert cost == 0 and len(path) == 60


def test_whitening_gives_identity_covariance() -> None:
    mixing = np.random.default_rng(0).standard_normal((6, 6)) * [10, 5, 2, 1, 1, 0.5]
    latents = (np.random.default_rng(1).standard_normal((4000, 6)) @ mixing + 3).astype(np.float32)
    mean, transform = whitening(latents, keep=1 - 1e-9)
    white = whiten(latents, mean, transform)
    assert white.dtype == np.float32 and white.flags.c_contiguous and white.shape == (4000, 6)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(6), atol=1e-3)


def test_whitening_leaves_out_directions_without_variance() -> None:
    strong = np.random.default_rng(2).standard_normal((2000, 3)).astype(np.float32)
    latents = np.concatenate([strong, strong[:, :1] * 2, np.full((2000, 2), 7, np.float32)], axis=1)
    mean, transform = whitening(latents)
    assert transform.shape == (6, 3)
    np.testing.assert_allclose(np.cov(whiten(latents, mean, transform), rowvar=False), np.eye(3), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([(1, 1), (1, 0), (0, 1)]), min_size=1, max_size=200))
def test_positions_never_run_back(steps: list[tuple[int, int]]) -> None:
    path = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(steps, axis=0)])
    frames = int(path[-1, 1]) + 1
    position = position_from_path(path, frames)
    assert position.shape == (frames,) and position.dtype == np.float32
    assert (np.diff(position) >= 0).all()


def test_positions_of_a_diagonal_are_its_own_frames() -> None:
    path = np.repeat(np.arange(50)[:, None], 2, axis=1)
    np.testing.assert_allclose(position_from_path(path, 50), np.arange(50), atol=1e-5)


def test_twenty_minutes_take_seconds_and_little_memory() -> None:
    frames = round(20 * 60 * 44100 / 4096)
    deadpan = texture(frames, 32, seed=4)
    performed = warped(deadpan, rubato(frames, frames + 300, 0.05))
    dtw_path(deadpan[:9], performed[:9])  # compile, or load from the cache
    with limited_memory(64 * 2**20):
        started = time.process_time()
        path, _ = dtw_path(deadpan, performed)  # 10 MB: one byte a cell of the band
        seconds = time.process_time() - started
        with pytest.raises(MemoryError):
            np.zeros((frames, frames), np.uint8)  # what a full table would take
    assert_monotone(path, frames, frames + 300)
    assert seconds < 3.0  # 0.25 measured


@contextlib.contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Let this process take at most so many bytes more; compiled code is counted too."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

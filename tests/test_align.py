"""Latent DTW: how far it may be off, its slope limit, the fine pass, the rule for bad pairs, the cost."""

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

from train.align import (
    FineSpec,
    Quality,
    alignment_quality,
    at_latent_frames,
    dtw_path,
    onset_features,
    position_from_path,
    refine_position,
    whiten,
    whitening,
)

#: A small fine pass: frames of 16 ms, latent frames of 128 ms.
SMALL = FineSpec(sample_rate=8000, latent_hop=1024, hop=128, n_fft=512)
#: Largest median error of the fine pass on the invented pieces; 4.9 to 5.6 were measured, 22 to 26 before it.
FINE_MEDIAN_MS = 6.5


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


def full_cost(a: np.ndarray, b: np.ndarray, run: int) -> float:
    """Cheapest sum of squared distances over all paths that stand still at most ``run`` times in a row."""
    distance = ((a[:, None].astype(float) - b[None]) ** 2).sum(2)
    total: dict[tuple[int, int], dict[int, float]] = {(0, 0): {0: distance[0, 0]}}
    for i in range(len(a)):
        for j in range(len(b)):
            reached = total.setdefault((i, j), {})
            here = distance[i, j]
            before = total.get((i - 1, j - 1), {})
            if before:
                reached[0] = here + min(before.values())
            for side, place in ((1, (i - 1, j)), (-1, (i, j - 1))):
                for still, cost in total.get(place, {}).items():
                    if still * side >= 0 and abs(still) < run:
                        key = still + side
                        reached[key] = min(reached.get(key, np.inf), here + cost)
    return min(total[len(a) - 1, len(b) - 1].values())


def longest_stand(path: np.ndarray) -> int:
    """How often in a row one side stands still, at most."""
    longest = 0
    for side in (0, 1):
        count = 0
        for moved in np.diff(path[:, side]):
            count = 0 if moved else count + 1
            longest = max(longest, count)
    return longest


def assert_monotone(path: np.ndarray, rows: int, columns: int) -> None:
    """Both ends are there, and each step advances one side or both by one frame."""
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [rows - 1, columns - 1]
    steps = {tuple(step) for step in np.diff(path, axis=0).tolist()}
    assert steps <= {(1, 1), (1, 0), (0, 1)}


# Errors in frames; over ten seeds the median was at most 0.11, the largest 0.57, the cost 0.0625 of chance.
@pytest.mark.parametrize(("frames", "depth"), [(400, 0.0), (400, 0.4), (480, 0.3), (330, 0.3)])
def test_warps_are_found(frames: int, depth: float) -> None:
    deadpan = texture(400, 16, seed=1)
    truth = rubato(400, frames, depth)
    performed = warped(deadpan, truth) + 0.2 * texture(frames, 16, seed=2)
    path, cost = dtw_path(deadpan, performed)
    assert_monotone(path, 400, frames)
    error = np.abs(position_from_path(path, frames) - truth)
    assert np.median(error) < 0.15 and error.max() < 0.8
    assert cost < 0.09 * ((deadpan - np.roll(deadpan, 50, axis=0)) ** 2).sum(1).mean()


def test_cost_is_the_mean_squared_distance_along_the_path() -> None:
    a, b = texture(40, 4, seed=1), texture(55, 4, seed=2)
    path, cost = dtw_path(a, b)
    along = ((a[path[:, 0]] - b[path[:, 1]]) ** 2).sum(1)
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
def test_costs_what_a_full_search_does(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    needed = 2 * (-(-max(len(a), len(b)) // min(len(a), len(b))) - 1)  # what these lengths ask for
    for run in (2, 3, 48):
        path, cost = dtw_path(a, b, run=run)
        assert_monotone(path, len(a), len(b))
        expected = full_cost(a, b, max(run, needed))
        assert cost * len(path) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("run", [2, 3, 5])
def test_slope_limit_is_honoured(run: int) -> None:
    deadpan = texture(200, 8, seed=5)
    held = np.concatenate([deadpan[:80], np.repeat(deadpan[80:81], 25, axis=0), deadpan[80:]])
    free, _ = dtw_path(deadpan, held, run=40)
    path, _ = dtw_path(deadpan, held, run=run)
    assert longest_stand(free) >= 20  # without the limit the path waits for the held frame
    assert_monotone(path, 200, 225)
    assert longest_stand(path) == run


def test_slope_limit_gives_way_to_the_lengths() -> None:
    path, _ = dtw_path(texture(20, 4, seed=1), texture(110, 4, seed=2))
    assert_monotone(path, 20, 110)
    assert 5 <= longest_stand(path) <= 10


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


def keys(onset_sec: np.ndarray, pitch: np.ndarray, spec: FineSpec, seed: int) -> np.ndarray:
    """Decaying tones of three partials in faint noise, float32 ``[n]``, whole latent frames."""
    rate = spec.sample_rate
    frames = int((onset_sec[-1] + 1.0) * rate / spec.latent_hop)
    samples = 0.001 * np.random.default_rng(seed).standard_normal(frames * spec.latent_hop)
    time_sec = np.arange(rate) / rate
    for onset, key in zip(onset_sec, pitch, strict=True):
        at = round(onset * rate)
        phase = 2 * np.pi * 440 * 2 ** ((key - 69) / 12) * time_sec
        tone = sum(np.sin(n * phase) / n for n in (1, 2, 3)) * np.exp(-4 * time_sec)
        samples[at : at + rate] += 0.1 * tone[: len(samples) - at]
    return samples.astype(np.float32)


def played_twice(seed: int, spec: FineSpec) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Onsets of a deadpan and of a swaying performance in seconds, and the audio of both."""
    deadpan_sec = 0.4 + np.arange(60) * 0.25
    pitch = np.random.default_rng(seed).integers(48, 84, 60)
    performed_sec = deadpan_sec + 0.12 * np.sin(1.3 * deadpan_sec) + 0.03
    sides = [keys(sec, pitch, spec, seed) for sec, seed in ((deadpan_sec, 1), (performed_sec, 2))]
    return deadpan_sec, performed_sec, sides


def coarse(sides: list[np.ndarray], spec: FineSpec) -> tuple[list[np.ndarray], np.ndarray]:
    """Whitened stand-ins for latents (onsets averaged over latent frames) and the coarse position."""
    latents = []
    for audio in sides:
        onsets = onset_features(audio, spec)
        latents.append(onsets.reshape(-1, spec.ratio, onsets.shape[1]).mean(1))
    mean, transform = whitening(np.concatenate(latents))
    white = [whiten(side, mean, transform) for side in latents]
    path, _ = dtw_path(white[0], white[1])
    return white, position_from_path(path, len(white[1]))


def position_error_ms(position: np.ndarray, hop: int, truth: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Absolute error at the onsets ``truth`` (deadpan, performed, seconds), ms."""
    frame_sec = hop / SMALL.sample_rate
    place = np.interp(truth[1] / frame_sec - 0.5, np.arange(len(position)), position)
    return 1000 * np.abs((place + 0.5) * frame_sec - truth[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fine_pass_finds_onsets_that_the_coarse_pass_blurs(seed: int) -> None:
    deadpan_sec, performed_sec, sides = played_twice(seed, SMALL)
    white, position = coarse(sides, SMALL)
    fine = refine_position(position, (sides[0], white[0]), (sides[1], white[1]), SMALL)
    assert fine.shape == (len(white[1]) * SMALL.ratio,) and fine.dtype == np.float32
    assert (np.diff(fine) >= 0).all()
    truth = (deadpan_sec, performed_sec)
    before = position_error_ms(position, SMALL.latent_hop, truth)
    after = position_error_ms(fine, SMALL.hop, truth)
    sampled = position_error_ms(at_latent_frames(fine, SMALL), SMALL.latent_hop, truth)
    assert np.median(after) < 0.35 * np.median(before) and np.median(after) < FINE_MEDIAN_MS
    assert np.median(sampled) < 0.4 * np.median(before)


def test_fine_pass_repairs_a_coarse_error_within_its_band() -> None:
    deadpan_sec, performed_sec, sides = played_twice(3, SMALL)
    white, position = coarse(sides, SMALL)
    off = position + 2.0  # 256 ms
    fine = refine_position(off, (sides[0], white[0]), (sides[1], white[1]), SMALL)
    truth = (deadpan_sec, performed_sec)
    assert np.median(position_error_ms(off, SMALL.latent_hop, truth)) > 200
    assert np.median(position_error_ms(fine, SMALL.hop, truth)) < FINE_MEDIAN_MS


def test_fine_pass_does_not_depend_on_loudness() -> None:
    _, _, sides = played_twice(4, SMALL)
    quiet = onset_features(0.05 * sides[0], SMALL)
    np.testing.assert_allclose(quiet, onset_features(sides[0], SMALL), atol=1e-3)


def test_fine_positions_at_latent_frames() -> None:
    spec = FineSpec()
    diagonal = np.arange(40 * spec.ratio, dtype=np.float32)
    np.testing.assert_allclose(at_latent_frames(diagonal, spec), np.arange(40), atol=1e-5)
    later = at_latent_frames(diagonal + 2 * spec.ratio, spec)
    np.testing.assert_allclose(later, np.arange(40) + 2, atol=1e-5)


def test_fine_pass_of_one_frame_and_of_silence() -> None:
    white, silence = np.zeros((1, 3), np.float32), np.zeros(SMALL.latent_hop, np.float32)
    fine = refine_position(np.zeros(1), (silence, white), (silence, white), SMALL)
    assert fine.shape == (SMALL.ratio,) and np.isfinite(fine).all()


def test_fine_pass_says_what_is_wrong() -> None:
    white, audio = np.zeros((4, 3), np.float32), np.zeros(4 * SMALL.latent_hop, np.float32)
    with pytest.raises(ValueError, match="no latents"):
        refine_position(np.zeros(4), (audio, white[:0]), (audio, white), SMALL)
    with pytest.raises(ValueError, match="3 positions do not fit 4"):
        refine_position(np.zeros(3), (audio, white), (audio, white), SMALL)
    with pytest.raises(ValueError, match="less than a frame"):
        onset_features(audio[:5], SMALL)
    with pytest.raises(ValueError, match="1000 samples does not hold whole"):
        FineSpec(latent_hop=1000)


def judged(deadpan: np.ndarray, performed: np.ndarray) -> Quality:
    """Quality of a pair after a coarse pass."""
    return alignment_quality(deadpan, performed, dtw_path(deadpan, performed)[0])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_right_pairs_are_kept_and_wrong_ones_left_out(seed: int) -> None:
    deadpan = texture(600, 40, seed)
    performed = warped(deadpan, rubato(600, 640, 0.3)) + 0.5 * texture(640, 40, seed + 10)
    right = judged(deadpan, performed)
    wrong = judged(deadpan, texture(640, 40, seed + 20))
    cut = judged(deadpan, np.delete(performed, np.s_[250:358], axis=0))  # 10 s
    added = judged(np.delete(deadpan, np.s_[250:358], axis=0), performed)
    assert right.good and not (wrong.good or cut.good or added.good)
    assert right.cost < 0.6 < wrong.cost
    assert min(cut.strain, added.strain) > 2 * right.strain


def test_quality_of_identity_and_of_nothing() -> None:
    same = texture(100, 8, seed=1)
    quality = judged(same, same)
    assert quality.cost == 0 and quality.strain == 0 and quality.good
    with pytest.raises(ValueError, match="no path"):
        alignment_quality(same, same, np.zeros((0, 2), np.int64))


def test_lengths_that_cannot_be_a_pair() -> None:
    with pytest.raises(ValueError, match="not the same music"):
        dtw_path(np.zeros((1, 4), np.float32), np.zeros((600, 4), np.float32))


def test_twenty_minutes_take_seconds_and_little_memory() -> None:
    frames = round(20 * 60 * 44100 / 4096)
    deadpan = texture(frames, 32, seed=4)
    performed = warped(deadpan, rubato(frames, frames + 300, 0.05))
    dtw_path(deadpan[:9], performed[:9])  # compile, or load from the cache
    with limited_memory(64 * 2**20):
        started = time.process_time()
        path, _ = dtw_path(deadpan, performed)  # 20 MB: two bytes a cell of the band
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

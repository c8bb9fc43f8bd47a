"""Distances of audio and of sets of vectors, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from train import distances

RATE = 44100


def tones(times: np.ndarray, seconds: float) -> np.ndarray:
    """A decaying tone of its own pitch at each time."""
    t = np.arange(round(seconds * RATE)) / RATE
    out = np.zeros(len(t))
    for i, start in enumerate(times):
        s = np.maximum(t - start, 0)
        out += 0.3 * np.sin(2 * np.pi * 220 * 2 ** (i / 4) * s) * np.exp(-4 * s) * (t > start)
    return out


def test_equal_audio_is_at_no_distance_and_level_is_read_in_decibels() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert distances.log_mel_distance(noise, noise, RATE) == 0
    assert distances.log_mel_distance(noise, noise * 10 ** (-6 / 20), RATE) == pytest.approx(6, abs=0.05)


def test_another_tempo_is_no_distance_once_the_time_map_is_known() -> None:
    times = np.array([0.2, 0.7, 1.2, 1.7, 2.2])
    later = np.array([0.3, 1.2, 1.7, 2.7, 3.1])
    reference, other = tones(times, 3), tones(later, 4)
    aligned = distances.log_mel_distance(reference, other, RATE, (times, later))
    assert aligned < 0.6 * distances.log_mel_distance(reference, other, RATE)
    shifted = np.concatenate([np.zeros(512 * 80), reference])
    apart = distances.log_mel_distance(reference, shifted, RATE, (times, times + 512 * 80 / RATE))
    assert apart == pytest.approx(0, abs=1e-3)


def test_nothing_in_common_is_no_number() -> None:
    sound = np.ones(RATE)
    anchors = (np.array([0.0, 1.0]), np.array([100.0, 101.0]))
    assert np.isnan(distances.log_mel_distance(sound, sound, RATE, anchors))


def test_frechet_distance_of_known_gaussians() -> None:
    """|m|² + d (s - 1)² for N(0, I) and N(m, s² I)."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((20_000, 8)), 2 * rng.standard_normal((20_000, 8)) + 0.5
    assert distances.frechet_distance(a, b) == pytest.approx(8 * 0.25 + 8, rel=0.03)
    assert distances.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_reads_high_for_few_vectors() -> None:
    rng = np.random.default_rng(2)
    few, many = (
        distances.frechet_distance(rng.standard_normal((n, 16)), rng.standard_normal((n, 16)))
        for n in (40, 4000)
    )
    assert few > 10 * many


def test_kernel_distance_of_known_gaussians() -> None:
    """Closed form for N(0, I) and N(m, I) under a Gaussian kernel of width s, mean of ten studies."""
    rng = np.random.default_rng(3)
    n, d, gaps = 400, 4, []
    for _ in range(10):
        a, b = rng.standard_normal((n, d)), rng.standard_normal((n, d)) + 0.6
        s = np.median(np.linalg.norm(a[:, None] - a[None], axis=-1)[np.triu_indices(n, 1)]) ** 2
        exact = 200 * (s / (s + 2)) ** (d / 2) * (1 - np.exp(-d * 0.36 / (2 * (s + 2))))
        gaps.append(distances.kernel_distance(np.split(a, 20), np.split(b, 20))[0] / exact - 1)
    assert np.mean(gaps) == pytest.approx(0, abs=0.1)


def test_the_error_of_the_kernel_distance_is_the_scatter_of_studies() -> None:
    rng = np.random.default_rng(4)
    values, errors = zip(
        *(
            distances.kernel_distance(
                list(rng.standard_normal((10, 30, 3))), list(rng.standard_normal((10, 30, 3)) + 0.5)
            )
            for _ in range(30)
        ),
        strict=True,
    )
    assert 0.6 < np.mean(errors) / np.std(values) < 1.6
    same = [
        distances.kernel_distance(
            list(rng.standard_normal((5, 60, 3))), list(rng.standard_normal((5, 60, 3)))
        )[0]
        for _ in range(30)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(30), "unbiased"
    assert np.isnan(
        distances.kernel_distance([rng.standard_normal((30, 3))], [rng.standard_normal((30, 3))])[1]
    )


def test_vectors_come_from_segments_that_cover_the_audio_once() -> None:
    recorder = distances.FrameRecorder()
    recorder.segments = [np.full((690, 256), k, np.float32) for k in range(4)]
    vectors = recorder.vectors(20 * RATE)
    assert vectors.shape == (20 * RATE // 1024 // 4, 256)
    assert set(np.unique(vectors)) <= {1.0, 2.0, 3.0}, "the first one is silence before the audio"
    assert vectors[0, 0] == 1 and vectors[-1, 0] == 3
    assert distances.FrameRecorder().vectors(RATE).shape[0] == 0


def test_the_kernel_distance_is_not_fooled_by_music_that_both_sets_play() -> None:
    """Copies with a little noise, of excerpts that differ: no distance, and none below zero to speak of."""
    rng = np.random.default_rng(5)
    music = [rng.standard_normal((40, 3)) + 3 * rng.standard_normal(3) for _ in range(20)]
    copies = [x + 0.01 * rng.standard_normal(x.shape) for x in music]
    assert distances.kernel_distance(music, copies)[0] == pytest.approx(0, abs=0.02)
    changed = [x + 0.5 for x in music]
    value, error = distances.kernel_distance(music, changed)
    assert value > 2 * error > 0

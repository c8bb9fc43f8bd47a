"""The seam metric: one where joins are like any other place, more where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.windows import window_grid
from train.seams import (
    LIMIT,
    Places,
    Ratio,
    flux_places,
    join_frames,
    pooled,
    seam_ratio,
    tempo_places,
)

HOP = 4096
FRAMES = 620


def joins() -> np.ndarray:
    return join_frames(96, 24, 4, FRAMES)


def playing(seed: int, jitter: float = 0.0) -> np.ndarray:
    """Decaying tones at random instants, the same for a seed but for the noise of the rendering."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    samples = FRAMES * HOP
    audio = np.zeros(samples + 44100, np.float32)
    tone = np.arange(22050) / 44100
    for start in np.sort(rng.integers(0, samples - 22050, FRAMES // 3)):
        pitch, level = 110 * 2 ** (rng.integers(0, 36) / 12), rng.uniform(0.05, 0.3)
        sound = level * np.exp(-6 * tone) * sum(np.sin(2 * np.pi * k * pitch * tone) / k for k in (1, 2, 3))
        audio[start : start + len(tone)] += sound.astype(np.float32)
    audio = audio[:samples] * (1 + jitter * noise.standard_normal(samples).astype(np.float32))
    return audio + 1e-4 * noise.standard_normal(samples).astype(np.float32)


def flux_ratio(audio: np.ndarray, reference: np.ndarray) -> Ratio:
    return seam_ratio(flux_places(audio, reference, joins() * HOP, HOP))


def test_joins_are_where_windows_begin_to_add() -> None:
    grid = window_grid(96, 24, 4)
    windows = [next(grid) for _ in range(4)]
    assert join_frames(96, 24, 4, windows[3].stop).tolist() == [w.stop for w in windows[:3]]
    assert joins()[0] == 92 and set(np.diff(joins())) == {68}
    assert len(join_frames(96, 24, 4, 92)) == 0


def test_a_take_without_seams_has_a_flux_ratio_of_one() -> None:
    """Even if notes happen to start at the joins: the reference plays them as well."""
    pairs = [(playing(seed, jitter=0.002), playing(seed)) for seed in (0, 1, 5)]
    ratio = seam_ratio(pooled([flux_places(*pair, joins() * HOP, HOP) for pair in pairs]))
    assert ratio.joins == 3 * len(joins()) == 24
    assert ratio.value == pytest.approx(1, abs=0.05) and ratio.low < 1 < ratio.high
    struck = pairs[0]
    for x in struck:
        for at in joins() * HOP:
            x[at : at + 4000] += 0.3 * np.sin(np.arange(4000) / 20, dtype=np.float32)
    assert flux_ratio(*struck).value < LIMIT


@pytest.mark.parametrize("fault", ["click", "gap", "new colour"])
def test_what_is_heard_at_the_joins_raises_the_flux_ratio(fault: str) -> None:
    audio, reference = playing(0, jitter=0.002), playing(0)
    rng = np.random.default_rng(1)
    for at in joins() * HOP:
        if fault == "click":
            audio[at] += 0.5
        elif fault == "gap":
            audio[at - 400 : at] = 0
        else:
            audio[at : at + 2048] += 0.01 * rng.standard_normal(2048).astype(np.float32)
    ratio = flux_ratio(audio, reference)
    assert ratio.value > 1.2 > LIMIT and ratio.low > LIMIT


def test_the_same_fault_elsewhere_does_not() -> None:
    audio, reference = playing(0, jitter=0.002), playing(0)
    for at in (joins() + 20) * HOP:
        audio[at] += 0.5
    assert flux_ratio(audio, reference).value < 1.05


def tempo(seed: int) -> np.ndarray:
    """A smooth tempo curve whose second half is much livelier than its first."""
    rng = np.random.default_rng(seed)
    walk = np.convolve(rng.standard_normal(4000), np.hanning(12), "same")[:3000] * 0.05
    return walk * np.linspace(0.2, 3, 3000)


def test_tempo_jumps_at_curve_joins_raise_their_ratio() -> None:
    places = join_frames(256, 64, 32, 3000)
    smooth = pooled([tempo_places(tempo(seed), places) for seed in range(6)])
    ratio = seam_ratio(smooth)
    assert ratio.joins == 6 * len(places) and ratio.low < 1 < ratio.high
    assert ratio.value == pytest.approx(1, abs=0.12)
    jumping = []
    for seed in range(6):
        curve = tempo(seed)
        for i, at in enumerate(places):
            curve[at:] += 0.1 * (-1) ** i
        jumping.append(tempo_places(curve, places))
    broken = seam_ratio(pooled(jumping))
    assert broken.low > LIMIT and broken.value > 1.5


def test_the_ratio_is_of_sums_and_its_interval_narrows_with_joins() -> None:
    rng = np.random.default_rng(0)

    def places(count: int) -> Places:
        usual = rng.uniform(0.5, 1.5, (count + 2000, 1))
        values = np.concatenate([usual * rng.lognormal(0, 0.5, usual.shape), usual], axis=1)
        return Places(1.3 * values[:count] / [1, 1.3], values[count:])

    few, many = seam_ratio(places(20)), seam_ratio(places(2000))
    assert many.value == pytest.approx(1.3, abs=0.06) and many.low < 1.3 < many.high
    assert many.high - many.low < 0.3 * (few.high - few.low)
    exact = Places(np.array([[4.0, 1.0], [2.0, 1.0]]), np.array([[1.0, 1.0], [3.0, 1.0]]))
    assert seam_ratio(exact).value == 1.5


def test_a_take_of_one_window_has_nothing_to_measure() -> None:
    audio = playing(0)[: 60 * HOP]
    with pytest.raises(ValueError, match="longer excerpt"):
        seam_ratio(flux_places(audio, audio, join_frames(96, 24, 4, 60) * HOP, HOP))

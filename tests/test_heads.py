"""Play heads: exact samples, and fades between places that do not click."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.heads import Heads
from pkontext.take_audio import PEAK_FRAMES, TakeAudio

RATE = 44100


def filled(seconds: float = 8.0, seed: int = 0) -> tuple[TakeAudio, np.ndarray]:
    """Audio longer than one block of memory, appended in pieces of all sizes."""
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)
    audio, position = TakeAudio(), 0
    while position < len(samples):
        count = int(rng.integers(1, 60_000))
        audio.append(samples[position : position + count, None])
        position += count
    return audio, samples


def test_audio_is_what_was_appended() -> None:
    audio, samples = filled()
    assert audio.frames == audio.total == len(samples) and not audio.done
    for start, count in ((0, 1000), (262_000, 500), (len(samples) - 10, 100), (len(samples), 5)):
        out = np.full(count, 9.0, np.float32)
        got = audio.read_into(start, out)
        assert got == max(min(count, len(samples) - start), 0)
        assert np.array_equal(out[:got], samples[start : start + got]) and (out[got:] == 9.0).all()
    audio.finish()
    assert audio.done and audio.total == len(samples)


def test_peaks_are_those_of_the_samples() -> None:
    audio, samples = filled()
    rows = samples[: len(samples) // PEAK_FRAMES * PEAK_FRAMES].reshape(-1, PEAK_FRAMES)
    expected = np.stack([rows.min(1), rows.max(1)], axis=1)
    assert np.array_equal(audio.peaks(), expected)
    assert np.array_equal(audio.peaks(1000, 1100), expected[1000:1100])
    assert audio.peaks(10**6).shape == (0, 2)


def test_a_start_at_the_beginning_is_exact_from_the_first_sample() -> None:
    audio, samples = filled()
    heads = Heads(RATE)
    heads.begin(audio, 0)
    out = np.concatenate([heads.play(count) for count in (1, 511, 4096, 100)])
    assert np.array_equal(out, samples[: len(out)])


def test_a_start_elsewhere_fades_in_and_is_exact_then() -> None:
    audio, samples = filled()
    heads = Heads(RATE)
    heads.begin(audio, 5000)
    out = heads.play(3000)
    assert np.array_equal(out[heads.fade :], samples[5000 + heads.fade : 8000])
    assert abs(out[0]) < 0.01 * np.abs(samples).max()


@pytest.mark.parametrize("blocks", [(2000,), (1, 2, 3, 440, 441, 1113)])
def test_a_jump_keeps_the_power_and_depends_on_no_block(blocks: tuple[int, ...]) -> None:
    (old, before), (new, after) = filled(seed=1), filled(seed=2)
    heads = Heads(RATE)
    heads.begin(old, 0)
    heads.play(1000)
    heads.begin(new, 3000)
    out = np.concatenate([heads.play(count) for count in blocks])
    fade = heads.fade
    place = np.arange(1, fade + 1) / fade * np.pi / 2
    expected = before[1000 : 1000 + fade] * np.cos(place) + after[3000 : 3000 + fade] * np.sin(place)
    assert np.abs(out[:fade] - expected).max() < 1e-6
    assert np.array_equal(out[fade:], after[3000 + fade : 3000 + len(out)])


def test_stopping_fades_to_silence_and_dropping_is_at_once() -> None:
    audio, _ = filled()
    heads = Heads(RATE)
    heads.begin(audio, 0)
    heads.play(500)
    heads.stop()
    assert not heads.quiet
    out = heads.play(1000)
    assert np.abs(out[: heads.fade // 2]).max() > 0 and not out[heads.fade :].any() and heads.quiet
    heads.begin(audio, 700)
    heads.play(10)
    heads.drop()
    assert heads.quiet and not heads.play(50).any()


def test_many_jumps_in_one_fade_stay_bounded() -> None:
    audio, samples = filled()
    heads = Heads(RATE)
    out = []
    for step in range(40):
        heads.begin(audio, 3000 * step + 1)
        out.append(heads.play(20))
    rest = heads.play(1000)
    assert np.abs(np.concatenate(out)).max() < 3 * np.abs(samples).max()
    assert np.array_equal(rest[heads.fade :], samples[3000 * 39 + 21 + heads.fade :][: 1000 - heads.fade])

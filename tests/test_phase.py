"""Phase reconstruction: same audio for any chunking, in place, close to the magnitudes, quiet in silence."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext.phase import PhaseStream
from pkontext.stft import StftSpec, log_magnitude

SPEC = StftSpec()
SMALL = StftSpec(n_fft=256, hop=64)
RATE = 44100


def analyse(samples: np.ndarray, spec: StftSpec = SPEC) -> np.ndarray:
    """Log magnitudes of audio with silence around it."""
    return log_magnitude(np.pad(samples, spec.lead).astype(np.float32), spec)


def reconstruct(log_mag: np.ndarray, spec: StftSpec = SPEC, **options: int) -> np.ndarray:
    """Audio of all frames, pushed at once."""
    stream = PhaseStream(spec, **options)
    return np.concatenate([stream.push(log_mag), stream.flush()])


def piano_like(frames: int) -> np.ndarray:
    """Struck tones of ten slightly inharmonic, decaying partials, a new one every 0.2 s."""
    t = np.arange(frames * SPEC.hop) / RATE
    out = np.zeros(len(t))
    for strike, f0 in enumerate([220.0, 277.2, 329.6, 440.0, 196.0, 554.4, 659.3, 130.8]):
        onset = 0.1 + 0.2 * strike
        since = np.maximum(t - onset, 0)
        for h in range(1, 11):
            f = f0 * h * (1 + 3e-4 * h * h) ** 0.5
            out += (t >= onset) * np.exp(-since * (2 + 0.8 * h)) * np.sin(2 * np.pi * f * since) / h
    return (0.1 * out).astype(np.float32)


def convergence(samples: np.ndarray, log_mag: np.ndarray) -> float:
    """Spectral convergence of the audio's own magnitudes, in dB; higher is closer."""
    wanted = np.exp(log_mag) - SPEC.floor
    error = np.exp(analyse(samples)) - SPEC.floor - wanted
    return float(20 * np.log10(np.linalg.norm(wanted) / np.linalg.norm(error)))


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 53), max_size=8),
    options=st.fixed_dictionaries(
        {"block": st.integers(1, 9), "look_ahead": st.integers(0, 3), "iterations": st.integers(0, 2)}
    ),
    seed=st.integers(0, 9),
)
def test_any_chunking_gives_the_same_bits(cuts: list[int], options: dict[str, int], seed: int) -> None:
    log_mag = np.random.default_rng(seed).normal(-3, 2, (53, SMALL.bins)).astype(np.float32)
    stream = PhaseStream(SMALL, **options)
    parts = [stream.push(part) for part in np.split(log_mag, sorted(cuts))]
    parts.append(stream.flush())
    audio = np.concatenate(parts)
    assert len(audio) == SMALL.hop * 53
    assert audio.tobytes() == reconstruct(log_mag, SMALL, **options).tobytes()


def test_a_flushed_stream_starts_anew() -> None:
    log_mag = analyse(piano_like(30))
    stream = PhaseStream(SPEC)
    first = np.concatenate([stream.push(log_mag), stream.flush()])
    second = np.concatenate([stream.push(log_mag), stream.flush()])
    np.testing.assert_array_equal(first, second)
    assert stream.flush().shape == (0,)


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 11, 12, 40])
def test_output_is_one_hop_a_frame(frames: int) -> None:
    assert reconstruct(analyse(piano_like(frames))).shape == (SPEC.hop * frames,)


def test_samples_come_after_the_stated_delay() -> None:
    log_mag = analyse(piano_like(40))
    stream = PhaseStream(SPEC)
    assert len(stream.push(log_mag[: stream.delay - 1])) == 0
    assert len(stream.push(log_mag[stream.delay - 1 : stream.delay])) == stream.block * SPEC.hop - SPEC.lead


@pytest.mark.parametrize("position", [0, 700, 9185, 9222, 10_000])
def test_a_click_stays_in_place(position: int) -> None:
    """Measured: at most 36 samples (0.8 ms) off, at 9222."""
    click = np.zeros(40 * SPEC.hop, np.float32)
    click[position] = 0.5
    audio = np.abs(reconstruct(analyse(click)))
    assert abs(int(np.argmax(audio)) - position) <= 36
    assert audio.max() > 0.3


@pytest.mark.parametrize("position", [250, 500, 20_001, 20_268])
def test_a_click_near_an_end_moves_by_less_than_half_a_hop(position: int) -> None:
    click = np.zeros(40 * SPEC.hop, np.float32)
    click[position] = 0.5
    assert abs(int(np.argmax(np.abs(reconstruct(analyse(click))))) - position) < SPEC.hop // 2


def test_a_sine_starts_and_ends_in_place() -> None:
    """Measured: envelope 3 samples off, correlation 0.9997."""
    t = np.arange(60 * SPEC.hop)
    tone = (0.3 * np.sin(2 * np.pi * 440 / RATE * t) * (t >= 10_000) * (t < 25_000)).astype(np.float32)
    audio = reconstruct(analyse(tone))
    smooth = np.ones(101) / 101
    wanted, found = (np.convolve(np.abs(x), smooth, "same") for x in (tone, audio))
    lags = np.arange(-400, 401)
    best = lags[np.argmax([np.dot(wanted, np.roll(found, -lag)) for lag in lags])]
    assert abs(best) <= 3
    assert np.corrcoef(wanted, found)[0, 1] > 0.9995


def test_magnitudes_of_the_audio_are_close_to_those_asked_for() -> None:
    """Measured: 23.4 dB, and 20.0 dB without refinement."""
    log_mag = analyse(piano_like(160))
    assert convergence(reconstruct(log_mag), log_mag) > 23.0
    no_refinement = reconstruct(log_mag, iterations=0)
    assert convergence(no_refinement, log_mag) > 19.5


def test_silence_stays_silent() -> None:
    silent = np.full((100, SPEC.bins), np.log(SPEC.floor), np.float32)
    assert np.abs(reconstruct(silent)).max() < 10 ** (-90 / 20)


def test_memory_does_not_grow() -> None:
    log_mag = np.random.default_rng(0).normal(-3, 2, (64, SMALL.bins)).astype(np.float32)
    stream = PhaseStream(SMALL)
    stream.push(log_mag)
    tracemalloc.start()
    try:
        for _ in range(10):
            stream.push(log_mag)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            stream.push(log_mag)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1024


@pytest.mark.parametrize("shape", [(1025,), (3, 1024), (1, 3, 1025)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Pass \[frames, 1025\]"):
        PhaseStream(SPEC).push(np.zeros(shape, np.float32))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        PhaseStream(SPEC).push(np.full((2, SPEC.bins), np.nan, np.float32))


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        (StftSpec(n_fft=2048, hop=600), {}, "even multiple"),
        (StftSpec(floor=0.0), {}, "floor"),
        (SPEC, {"block": 0}, "Block 0"),
        (SPEC, {"look_ahead": -1}, "look-ahead -1"),
        (SPEC, {"iterations": -1}, "iterations -1"),
    ],
)
def test_bad_parameters_are_named(spec: StftSpec, options: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PhaseStream(spec, **options)

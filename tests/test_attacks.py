"""Isolated attacks: found where they are, and nothing sounds ahead of them after phase reconstruction."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.attacks import find_attacks, frame_power, limit_before_attacks
from pkontext.phase import PhaseStream
from pkontext.stft import StftSpec, log_magnitude

SPEC = StftSpec()
RATE = 44100


def strike(at: int, total: int = 60 * SPEC.hop, hertz: float = 440.0) -> np.ndarray:
    """A decaying harmonic tone that starts at sample ``at`` out of silence."""
    t = np.arange(total - at) / RATE
    tone = sum(0.3 / k * np.sin(2 * np.pi * hertz * k * t) for k in range(1, 9)) * np.exp(-3 * t)
    return np.concatenate([np.zeros(at), tone * np.minimum(1, t / 0.002)]).astype(np.float32)


def analyse(samples: np.ndarray) -> np.ndarray:
    return log_magnitude(np.pad(samples, SPEC.lead), SPEC)


def powers(samples: np.ndarray) -> np.ndarray:
    return frame_power(np.maximum(np.exp(analyse(samples)) - SPEC.floor, 0))


def reconstruct(samples: np.ndarray) -> np.ndarray:
    stream = PhaseStream(SPEC)
    return np.concatenate([stream.push(analyse(samples)), stream.flush()])


def loudest_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(samples).max() + 1e-9))


@pytest.mark.parametrize("at", [9000, 9111, 9300, 9487])
def test_an_attack_is_found_within_seven_milliseconds(at: int) -> None:
    found = find_attacks(powers(strike(at)), SPEC)
    assert len(found) == 1
    place, before, after = found[0]
    assert abs(place - SPEC.lead - at) < 0.007 * RATE
    assert before < 1e-3 * after


@pytest.mark.parametrize("at", [9000, 9111, 9300, 9487])
@pytest.mark.parametrize("hertz", [110.0, 440.0, 1500.0])
def test_nothing_sounds_ahead_of_an_isolated_attack(at: int, hertz: float) -> None:
    original = strike(at, hertz=hertz)
    decoded = reconstruct(original)
    peak = loudest_db(original)
    assert loudest_db(decoded[: at - round(0.007 * RATE)]) < peak - 60
    early = slice(at, at + round(0.03 * RATE))
    energy = np.square(decoded[early]).sum() / np.square(original[early]).sum()
    assert 0.8 < energy < 1.25, "the attack itself is kept"


def test_sound_before_an_attack_is_kept() -> None:
    """A quiet tone 35 dB below still rings right up to the attack."""
    quiet = 0.02 * np.sin(2 * np.pi * 300 * np.arange(60 * SPEC.hop) / RATE)
    at = 15_000
    decoded = reconstruct((quiet + strike(at)).astype(np.float32))
    before = slice(at - 2000, at - 300)
    ratio_db = 10 * np.log10(np.square(decoded[before]).mean() / np.square(quiet[before]).mean())
    assert -3 < ratio_db < 3


def test_a_texture_is_left_alone() -> None:
    """Attacks over sound that is at most 15 dB softer change nothing."""
    rng = np.random.default_rng(0)
    samples = sum(strike(int(at)) for at in rng.integers(0, 1000, 3))
    samples = samples + 0.5 * strike(12_000, hertz=523.0) + 0.5 * strike(20_000, hertz=392.0)
    before = samples.astype(np.float32)
    after = before.copy()
    power = powers(before)
    limit_before_attacks(after[4000:], 4000 + SPEC.lead, power[6:], 6, SPEC)
    np.testing.assert_array_equal(after, before)


def test_silence_has_no_attacks() -> None:
    assert find_attacks(powers(np.zeros(20 * SPEC.hop, np.float32)), SPEC) == []
    samples = np.zeros(4096, np.float32)
    limit_before_attacks(samples, 0, np.zeros(8), 0, SPEC)
    assert not samples.any()


def test_traces_in_the_frames_before_are_not_sound() -> None:
    """Magnitudes that rise towards an attack, 30 dB and more below it, do not count; steady ones do."""
    clean = powers(strike(9111))
    first = int(np.argmax(clean > 1e-6 * clean.max()))
    traced = clean.copy()
    traced[first - 3 : first] = clean.max() * np.array([1e-6, 1e-5, 1e-4])
    (place, before, after), (expected, *_) = find_attacks(traced, SPEC)[0], find_attacks(clean, SPEC)[0]
    assert len(find_attacks(traced, SPEC)) == 1
    assert abs(place - expected) <= 5
    assert before < 1e-6 * after
    sounding = clean.copy()
    sounding[:first] = clean.max() * 5e-4
    assert find_attacks(sounding, SPEC)[0][1] == pytest.approx(5e-4 * clean.max())

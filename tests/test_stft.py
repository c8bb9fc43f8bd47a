"""The STFT: frames where the docstring says, and an inverse that gives the audio back."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.stft import StftSpec, hann, log_magnitude, overlap_add, window_sum

SPEC = StftSpec()


def spectra(samples: np.ndarray, spec: StftSpec) -> np.ndarray:
    """Complex spectra of windowed frames, with silence around the audio."""
    padded = np.pad(samples, spec.lead)
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop]
    return np.fft.rfft(frames * hann(spec.n_fft), axis=1).astype(np.complex64)


@pytest.mark.parametrize("frame", [0, 1, 7, 12])
def test_a_frame_is_centred_on_the_middle_of_its_hop(frame: int) -> None:
    """A click there is loudest in this frame, and its neighbours see it equally."""
    samples = np.zeros(16 * SPEC.hop, np.float32)
    samples[SPEC.hop * frame + SPEC.hop // 2] = 1.0
    log_mag = log_magnitude(np.pad(samples, SPEC.lead), SPEC)
    assert log_mag.shape == (16, SPEC.bins)
    energy = np.exp(log_mag).mean(1)
    assert energy.argmax() == frame
    assert energy[frame] == pytest.approx(1.0 + SPEC.floor, abs=1e-5)
    if frame:
        assert energy[frame - 1] == pytest.approx(energy[frame + 1], rel=1e-5)
        assert energy[frame - 1] < 0.9


def test_silence_is_the_log_of_the_floor() -> None:
    log_mag = log_magnitude(np.zeros(SPEC.n_fft + SPEC.hop, np.float32), SPEC)
    assert log_mag.dtype == np.float32
    assert np.array_equal(log_mag, np.full((2, SPEC.bins), np.log(np.float32(SPEC.floor))))


def test_a_sine_has_its_energy_in_its_bin() -> None:
    k = 100
    samples = np.sin(2 * np.pi * k * np.arange(SPEC.n_fft) / SPEC.n_fft).astype(np.float32)
    magnitude = np.exp(log_magnitude(samples, SPEC)[0]) - SPEC.floor
    assert magnitude.argmax() == k
    assert magnitude[k] == pytest.approx(SPEC.n_fft / 4, rel=1e-4)
    assert np.abs(np.delete(magnitude, [k - 1, k, k + 1])).max() < 1e-3


@pytest.mark.parametrize("spec", [SPEC, StftSpec(256, 64), StftSpec(512, 64)])
def test_true_spectra_give_the_audio_back(spec: StftSpec) -> None:
    samples = np.random.default_rng(0).normal(0, 0.3, 20 * spec.hop).astype(np.float32)
    added = overlap_add(spectra(samples, spec), spec)
    assert len(added) == spec.hop * 19 + spec.n_fft and added.dtype == np.float32
    inside = slice(spec.n_fft - spec.hop - spec.lead, len(samples) - (spec.n_fft - spec.hop - spec.lead))
    back = added[spec.lead : spec.lead + len(samples)] / window_sum(spec)
    assert np.abs(back[inside] - samples[inside]).max() < 1e-6
    assert len(samples[inside]) >= 10 * spec.hop


def test_the_window_sum_is_constant_where_all_windows_are_present() -> None:
    total = np.zeros(SPEC.hop * 20 + SPEC.n_fft)
    for frame in range(21):
        total[frame * SPEC.hop :][: SPEC.n_fft] += hann(SPEC.n_fft).astype(np.float64) ** 2
    inside = total[SPEC.n_fft : -SPEC.n_fft]
    assert np.abs(inside - window_sum(SPEC)).max() < 1e-6

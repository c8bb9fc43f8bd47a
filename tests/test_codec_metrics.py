"""The codec's measures read what they say, on signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.bundle import PACKAGE_DATA
from train import codec_metrics as cm
from train.evaluate_codec import SYSTEMS, isolated_notes, table

RATE = cm.SAMPLE_RATE


def strikes(rise_sec: float = 0.001, seconds: float = 3.0) -> np.ndarray:
    """Decaying chords every 0.5 s over a faint noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(0)
    out = 1e-4 * rng.standard_normal(len(t))
    for start in np.arange(0.25, seconds - 0.3, 0.5):
        s = np.maximum(t - start, 0)
        tone = sum(np.sin(2 * np.pi * f * s) / f for f in np.geomspace(200, 6000, 24))
        out += 60 * tone * np.exp(-6 * s) * np.minimum(1, s / rise_sec) * (t > start) / 24
    return out


def test_a_perfect_copy_has_no_error() -> None:
    sound = strikes()
    found = cm.measure(sound, sound)
    assert found["lsd_db"] == found["multi_lsd_db"] == found["mel_db"] == found["level_db"] == 0
    assert found["flux_r"] == pytest.approx(1)
    assert found["sharpness"] == found["sharpness_46ms"] == pytest.approx(1)


def test_level_is_read_in_decibels() -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * RATE)
    assert cm.level_error(noise, noise * 10 ** (-1.5 / 20)) == pytest.approx(-1.5, abs=1e-3)
    assert cm.spectral_distance(noise, noise * 10 ** (3 / 20)) == pytest.approx(3, abs=0.05)
    assert cm.mel_distance(noise, noise * 10 ** (3 / 20)) == pytest.approx(3, abs=0.05)


def test_what_nobody_hears_does_not_count() -> None:
    """Noise at -110 dBFS against digital silence is no distance to speak of."""
    noise = 10 ** (-110 / 20) * np.random.default_rng(1).standard_normal(RATE)
    assert cm.spectral_distance(np.zeros(RATE), noise) < 0.4
    assert cm.spectral_distance(np.zeros(RATE), 100 * noise) > 3


def test_softened_attacks_lower_the_sharpness() -> None:
    sharp, soft = strikes(0.001), strikes(0.03)
    assert cm.onset_sharpness(sharp, soft) < 0.9
    assert cm.onset_sharpness(sharp, soft) < cm.onset_sharpness(sharp, strikes(0.01)) < 1
    assert cm.flux_correlation(sharp, soft) < 0.98


@pytest.mark.parametrize("echo_db", [-30.0, -50.0])
def test_pre_echo_is_found_at_its_level(echo_db: float) -> None:
    sound = np.zeros(RATE)
    sound[20_000:24_000] = 0.5 * np.sin(np.arange(4000))
    sound[19_000:19_300] = 10 ** (echo_db / 20) * 0.5 * np.sin(np.arange(300))
    assert cm.pre_echo(sound, np.array([20_000]))[0] == pytest.approx(echo_db, abs=0.3)
    sound[19_000:19_300] = 0
    assert cm.pre_echo(sound, np.array([20_000]))[0] < -90


def test_isolated_notes_start_where_they_should() -> None:
    audio, onsets = isolated_notes(PACKAGE_DATA / "FluidR3_piano.sf2")
    assert len(onsets) == 24
    assert np.all(np.abs(onsets / RATE - (0.5 + np.arange(24) * 1.013)) < 0.02)
    assert cm.pre_echo(audio, onsets).max() < -60, "they come out of silence"


def test_the_table_has_a_row_for_each_system_and_says_what_is_missing() -> None:
    row = {"lsd_db": 1.5, "multi_lsd_db": 1.7, "mel_db": 0.4, "flux_r": 0.95, "sharpness": 0.9}
    row |= {"sharpness_46ms": 0.93, "level_db": -0.1}
    notes = {"f1": 0.97, "precision": 0.98, "recall": 0.96, "jitter_ms": 2.0}
    lines = table("x", [{"ours": row | notes, "pca": row}, {"ours": row | notes | {"f1": 0.95}, "pca": row}])
    text = "\n".join(lines)
    assert "| **this codec** | 0.960 ± 0.007 | 0.980 / 0.960 | 2.0 | 1.50 |" in text
    assert f"| {SYSTEMS['pca']} | – | – | – | 1.50 |" in text
    assert f"| {SYSTEMS['music2latent']} | weights not at hand |" in text
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert len(columns) == 1

"""The detector that other tests rely on: it hears what a listener would call a click, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pkontext.synth import SynthSpec, events_from_notes, render
from pkontext.types import NOTE, PEDAL
from tests.clicks import find_clicks, strangeness
from tests.conftest import REPOSITORY

SOUNDFONT = REPOSITORY / "pkontext/data/FluidR3_piano.sf2"
RATE = 44100
SECONDS = 8


def _piano(seed: int, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Sixty notes of all pitches, velocities and lengths, with pedal; full scale is its peak."""
    random = np.random.default_rng(seed)
    notes, pedals = np.zeros(60, NOTE), np.zeros(6, PEDAL)
    notes["onset_sec"] = np.sort(random.uniform(0, SECONDS - 1, len(notes)))
    notes["duration_sec"] = random.uniform(0.05, 1.5, len(notes))
    notes["pitch"], notes["velocity"] = (
        random.integers(21, 109, len(notes)),
        random.integers(8, 127, len(notes)),
    )
    pedals["time_sec"], pedals["value"] = np.linspace(0, SECONDS - 2, len(pedals)), [127, 0] * 3
    events = events_from_notes(notes, pedals, rate)
    spec = SynthSpec(SOUNDFONT, sample_rate=rate)
    pcm = np.concatenate(list(render(events, spec, SECONDS * rate, channels=channels)))
    return pcm / np.abs(pcm).max()


@pytest.fixture(scope="module")
def piano() -> np.ndarray:
    return _piano(0)


def _drop(x: np.ndarray, at: int) -> np.ndarray:
    return np.concatenate([x[:at], x[at + 512 :]])


def _repeat(x: np.ndarray, at: int) -> np.ndarray:
    return np.concatenate([x[:at], x[at - 512 :]])


def _cut(x: np.ndarray, at: int) -> np.ndarray:
    return np.concatenate([x[:at], np.zeros_like(x[at:])])


def _spike(x: np.ndarray, at: int) -> np.ndarray:
    y = x.copy()
    y[at] += 0.05 * np.abs(x[at - 200 : at + 200]).max()
    return y


def _fade_out(x: np.ndarray, at: int, milliseconds: int) -> np.ndarray:
    y, frames = _cut(x, at + milliseconds * RATE // 1000), milliseconds * RATE // 1000
    y[at : at + frames] *= np.linspace(1, 0, frames, dtype=np.float32)[:, None]
    return y


def _crossfade(x: np.ndarray, at: int, milliseconds: int) -> np.ndarray:
    """To another place of the piece, at constant power."""
    other, frames = np.roll(x, 3 * RATE // 2, axis=0), milliseconds * RATE // 1000
    angle = np.linspace(0, np.pi / 2, frames)[:, None]
    y = np.concatenate([x[:at], other[at:]])
    y[at : at + frames] = np.cos(angle) * x[at : at + frames] + np.sin(angle) * other[at : at + frames]
    return y


def _places(x: np.ndarray, seed: int) -> list[int]:
    """Twenty places at which something sounds."""
    places = np.random.default_rng(seed).integers(2 * RATE, (SECONDS - 1) * RATE, 200)
    loud = [int(at) for at in places if np.abs(x[at - 200 : at + 200]).max() > 0.01]
    return loud[:20]


@pytest.mark.parametrize("level", [0, -30])
@pytest.mark.parametrize("fault", [_drop, _repeat, _cut, _spike])
def test_faults_are_found_where_they_are(
    piano: np.ndarray, fault: Callable[[np.ndarray, int], np.ndarray], level: int
) -> None:
    found, places = 0, _places(piano, 1)
    for at in places:
        around = slice(at - RATE // 2, at + RATE // 2)
        clicks = find_clicks(fault(piano, at)[around] * np.float32(10 ** (level / 20)), RATE)
        assert len(clicks) <= 1, f"{fault.__name__} at {at} is {len(clicks)} clicks"
        found += bool(clicks) and abs(clicks[0] - RATE // 2) <= 2
    assert found >= len(places) - 1  # a splice may happen to fit


@pytest.mark.parametrize(("seed", "rate", "channels"), [(2, 44100, 2), (3, 48000, 1), (4, 96000, 1)])
def test_piano_has_no_clicks(seed: int, rate: int, channels: int) -> None:
    pcm = _piano(seed, rate, channels)
    for level in (0, -30, -60):
        quiet = pcm * np.float32(10 ** (level / 20))
        assert find_clicks(quiet, rate) == [], f"{strangeness(quiet):.2f} at {level} dB"


@pytest.mark.parametrize("milliseconds", [5, 10])
def test_fades_are_no_clicks(piano: np.ndarray, milliseconds: int) -> None:
    for at in _places(piano, 5):
        around = slice(at - RATE // 4, at + RATE // 4)
        out = _fade_out(piano, at, milliseconds)[around]
        assert find_clicks(out, RATE) == [], f"fade out at {at}: {strangeness(out):.2f}"
        assert find_clicks(out[::-1], RATE) == [], f"fade in at {at}: {strangeness(out[::-1]):.2f}"


@pytest.mark.parametrize("milliseconds", [10, 50])
def test_crossfades_are_no_clicks(piano: np.ndarray, milliseconds: int) -> None:
    for at in _places(piano, 6):
        mixed = _crossfade(piano, at, milliseconds)[at - RATE // 4 : at + RATE // 4]
        assert find_clicks(mixed, RATE) == [], f"crossfade at {at}: {strangeness(mixed):.2f}"


def test_a_click_in_one_channel_is_found(piano: np.ndarray) -> None:
    at = _places(piano, 7)[0]
    pcm = np.concatenate([piano, _spike(piano, at)], axis=1)
    assert find_clicks(pcm, RATE) == [pytest.approx(at, abs=2)]


def test_silence_and_short_audio() -> None:
    assert find_clicks(np.zeros((RATE, 2), np.float32), RATE) == []
    assert find_clicks(np.zeros(10, np.float32), RATE) == []
    assert find_clicks(np.zeros((0, 1), np.float32), RATE) == []

"""What latents are shown and how they are sampled: contrast, guidance and temperature; one is neutral."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkontext import engine
from pkontext.bundle import Bundle, open_bundle
from pkontext.engine import Rendering, RenderSettings, open_rendering
from pkontext.features import contrasted, local_channels
from pkontext.reroll import Reroll
from pkontext.runtime import Graph
from pkontext.sampler import LATENT_STAGE, window_noise
from pkontext.score import score_from_notes
from pkontext.types import NOTE, Score


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return open_bundle(toy_bundle)


@pytest.fixture(scope="module")
def score() -> Score:
    """8 s of single notes, several windows of latents."""
    notes = np.zeros(27, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(27) * 0.3, 0.25
    notes["pitch"], notes["velocity"] = 50 + (np.arange(27) * 7) % 29, 64
    return score_from_notes(notes)


def rendering(score: Score, bundle: Bundle, settings: RenderSettings, **changes: float | str) -> Rendering:
    """A take by a bundle whose sampler is changed."""
    sampler = replace(bundle.manifest.sampler, **changes)  # type: ignore[arg-type]
    changed = replace(bundle, manifest=replace(bundle.manifest, sampler=sampler))
    return open_rendering(score, changed, settings, threads=1, provider="cpu")


def audio(score: Score, bundle: Bundle, settings: RenderSettings, **changes: float | str) -> np.ndarray:
    return np.concatenate(list(rendering(score, bundle, settings, **changes).chunks()))


Calls = list[bool]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """For every call of the latent network made so far, whether it was shown notes."""
    calls: Calls = []
    original = Graph.__call__

    def spy(self: Graph, **inputs: np.ndarray) -> np.ndarray:
        if "context" in inputs:
            calls.append(bool(inputs["local"][..., -2].any()))
        return original(self, **inputs)

    monkeypatch.setattr(Graph, "__call__", spy)
    return calls


def test_with_one_latents_are_those_of_the_bare_network(score: Score, bundle: Bundle, heard: Calls) -> None:
    settings = RenderSettings(seed=3)
    plain = audio(score, bundle, settings)
    assert heard and all(heard)
    ones = {"latent_guidance": 1.0, "latent_temperature": 1.0, "velocity_contrast": 1.0}
    neutral = audio(score, bundle, settings, **ones)
    assert np.array_equal(plain, neutral)


def test_guidance_leads_away_from_what_is_played_without_notes(
    score: Score, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one step and nothing given, guidance is a line through the latents without and with notes."""

    def first_window(guidance: float) -> np.ndarray:
        take = rendering(score, bundle, RenderSettings(seed=3, steps=1), latent_guidance=guidance)
        return next(take._latent_windows(None))

    without, plain, guided = (first_window(guidance) for guidance in (0.0, 1.0, 2.5))
    assert np.abs(plain - without).max() > 1e-3
    np.testing.assert_allclose(guided, without + 2.5 * (plain - without), atol=1e-4)
    original: Callable[..., np.ndarray] = engine.latent_local
    monkeypatch.setattr(engine, "latent_local", lambda painted, *rest: original(None, *rest))
    assert np.array_equal(first_window(1.0), without)


def test_without_temperature_every_seed_sounds_alike(score: Score, bundle: Bundle) -> None:
    def take(seed: int, temperature: float) -> np.ndarray:
        same_notes = RenderSettings(seed=seed, temperature=0.0)
        return audio(score, bundle, same_notes, latent_temperature=temperature)

    assert np.array_equal(take(0, 0.0), take(1, 0.0))
    assert not np.array_equal(take(0, 0.3), take(1, 0.3))


def test_temperature_scales_the_noise_that_latents_start_from(
    score: Score, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = rendering(score, bundle, RenderSettings(seed=3), latent_temperature=0.3)
    started: list[np.ndarray] = []
    graph = take._latent_graph

    def spy(**inputs: np.ndarray) -> np.ndarray:
        started.append(inputs["x"])
        return graph(**inputs)

    monkeypatch.setattr(take, "_latent_graph", spy)
    next(take._latent_windows(None))
    noise = window_noise(3, LATENT_STAGE, 0, started[0].shape)
    np.testing.assert_allclose(started[0], 0.3 * noise, atol=1e-6)


def test_rerolled_ranges_are_guided_too(score: Score, bundle: Bundle, heard: Calls) -> None:
    audio(score, bundle, RenderSettings(), latent_guidance=1.5)
    base = len(heard)
    assert heard == [True, False] * (base // 2)
    heard.clear()
    audio(score, bundle, RenderSettings(rerolls=(Reroll(3.0, 5.0, 1),)), latent_guidance=1.5)
    assert len(heard) > base and heard == [True, False] * (len(heard) // 2)


def test_without_notes_to_go_by_nothing_is_guided(score: Score, bundle: Bundle, heard: Calls) -> None:
    papers = {"conditioning": "latents"}
    plain = audio(score, bundle, RenderSettings(), **papers)
    calls = len(heard)
    guided = audio(score, bundle, RenderSettings(), latent_guidance=2.0, **papers)
    assert np.array_equal(plain, guided)
    assert len(heard) == 2 * calls and not any(heard)


def test_the_flag_that_says_notes_are_shown_is_where_the_spy_looks(bundle: Bundle) -> None:
    dim = bundle.manifest.codec.dim
    local = engine.latent_local(np.zeros((4, 264), np.float32), None, 4, dim)
    assert local.shape == (4, local_channels(dim)) and local[:, -2].all() and not local[:, -1].any()


# -- contrast ----------------------------------------------------------------------------------------------


def velocities(notes: np.ndarray, contrast: float, until_sec: float = 1e9) -> np.ndarray:
    return contrasted(notes["onset_sec"], notes["pitch"], notes["velocity"], contrast, until_sec)


@pytest.fixture
def passages() -> np.ndarray:
    """A loud and a soft passage of chords, half a minute apart, with an accent in each."""
    notes = np.zeros(80, NOTE)
    place = np.arange(80)
    notes["onset_sec"] = place // 4 * 0.4 + np.where(place >= 40, 30.0, 0.0)
    notes["pitch"] = 48 + place % 4 * 5
    notes["velocity"] = np.where(place < 40, 90, 40)
    notes["velocity"][[20, 60]] = 110, 60
    return notes


def test_contrast_of_one_is_the_velocity(passages: np.ndarray) -> None:
    assert np.array_equal(velocities(passages, 1.0), passages["velocity"])


def test_contrast_lifts_accents_and_keeps_the_loudness_of_a_passage(passages: np.ndarray) -> None:
    shown = velocities(passages, 1.5)
    accents = [20, 60]
    assert (shown[accents] > passages["velocity"][accents] * 1.05).all()
    others = np.setdiff1d(np.arange(80), accents)
    np.testing.assert_allclose(shown[others], passages["velocity"][others], rtol=0.03)
    assert (shown[[19, 21]] < 90).all()  # the accent's neighbours step back
    calm = velocities(passages, 0.5)
    assert (calm[accents] < passages["velocity"][accents] * 0.95).all()


def test_contrast_does_not_depend_on_the_order_of_notes(passages: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_allclose(velocities(passages[order], 1.7), velocities(passages, 1.7)[order], rtol=1e-12)


def test_notes_that_may_still_change_do_not_count(passages: np.ndarray) -> None:
    until = float(passages["onset_sec"][24])
    changed = passages.copy()
    changed["velocity"][24:] = 5
    before, after = (velocities(notes, 1.7, until) for notes in (passages, changed))
    assert np.array_equal(before[:24], after[:24])
    np.testing.assert_allclose(after[24:], 5)


def test_contrast_stays_in_range_and_finite() -> None:
    notes = np.zeros(6, NOTE)
    notes["pitch"], notes["velocity"] = [21, 60, 61, 62, 108, 60], [1, 127, 1, 127, 1, 0]
    shown = velocities(notes, 4.0)
    assert np.isfinite(shown).all() and shown.min() >= 1 and shown.max() <= 127
    assert len(velocities(notes[:0], 2.0)) == 0


def test_contrast_changes_the_sound_and_not_the_notes(score: Score, bundle: Bundle) -> None:
    settings = RenderSettings(seed=3)
    plain, strong = (rendering(score, bundle, settings, velocity_contrast=v) for v in (1.0, 2.0))
    assert np.array_equal(plain.notes()[0], strong.notes()[0])
    assert np.ptp(plain.notes()[0]["velocity"]) > 0
    assert not np.array_equal(*(np.concatenate(list(take.chunks())) for take in (plain, strong)))

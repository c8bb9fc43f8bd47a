"""Places of the score in a take's audio, with and without re-rolled ranges."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.bundle import Bundle
from pkontext.engine import Rendering, RenderSettings, Reroll, open_rendering
from pkontext.places import Places
from pkontext.score import score_from_notes
from pkontext.types import NOTE, Score


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(80, NOTE)
    notes["onset_sec"], notes["duration_sec"] = 1.0 + np.arange(80) * 0.25, 0.2
    notes["pitch"], notes["velocity"] = 50 + (np.arange(80) * 7) % 30, 64
    return score_from_notes(notes)


def rendering(score: Score, bundle: Bundle, **options: object) -> Rendering:
    return open_rendering(score, bundle, RenderSettings(**options), threads=1, provider="cpu")  # type: ignore[arg-type]


def test_there_and_back_and_beyond_the_ends() -> None:
    places = Places(np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 3.0]), 2.0)
    for second in (-1.0, 0.5, 1.3, 2.0, 3.9, 4.0, 7.0):
        assert places.to_score(places.to_audio(second)) == pytest.approx(second)
    assert places.to_audio(0.0) == pytest.approx(0.0) and places.to_audio(6.0) == pytest.approx(4.0)
    assert places.known_sec == 3.0


@pytest.mark.parametrize("options", [{}, {"tempo": 1.5}, {"start_sec": 5.0, "end_sec": 15.0}])
@pytest.mark.parametrize("voice", ["sampler", "deadpan"])
def test_notes_are_where_the_places_say(
    score: Score, bundle: Bundle, options: dict[str, float], voice: str
) -> None:
    take = rendering(score, bundle, voice=voice, **options)
    notes, _ = take.notes()
    places = take.places()
    onset = score.notes["onset_sec"]
    inside = (onset >= options.get("start_sec", 0)) & (onset < options.get("end_sec", np.inf))
    said = np.array([places.to_audio(second) for second in onset[inside]])
    # Asynchrony moves a note by 0.12 s at most.
    assert np.abs(said - notes["onset_sec"]).max() < (0.1201 if voice == "sampler" else 1e-6)


def test_re_rolled_ranges_have_places_of_their_own(score: Score, bundle: Bundle) -> None:
    plain = rendering(score, bundle)
    plain.notes()
    rerolls = (Reroll(6.0, 9.0, 5), Reroll(13.0, 16.0, 6))
    changed = rendering(score, bundle, rerolls=rerolls)
    notes, _ = changed.notes()
    places, before = changed.places(), plain.places()
    assert (np.diff(places.score_sec) > 0).all() and (np.diff(places.audio_sec) > 0).all()
    said = np.array([places.to_audio(second) for second in score.notes["onset_sec"]])
    assert np.median(np.abs(said - notes["onset_sec"])) < 0.06
    assert places.to_audio(4.0) == pytest.approx(before.to_audio(4.0))
    moved = places.to_audio(19.0) - before.to_audio(19.0)
    assert moved == pytest.approx(places.to_audio(20.5) - before.to_audio(20.5))

"""The measures of the evaluation, on answers whose marks are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkontext.types import NOTE, PEDAL
from train.evaluate_quantise import (
    Answer,
    partitura_says,
    places_right,
    score,
    simplest,
    table,
    with_metronome,
)
from train.phrases import Phrase, metronomic


@pytest.fixture(scope="module")
def phrase() -> Phrase:
    """Eight bars of eighths over a bass on each beat, played exactly at 100 bpm."""
    beat = np.concatenate([np.arange(0, 32, 0.5), np.arange(0, 32, 1.0)])
    notes = np.zeros(len(beat), NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["velocity"] = beat * 0.6, 0.3, 64
    notes["pitch"] = np.concatenate([72 + np.arange(64) * 3 % 11, np.resize([45, 52, 55, 52], 32)])
    order = np.argsort(notes["onset_sec"], kind="stable")
    length = np.where(notes["pitch"] >= 60, 0.5, 1.0)
    return Phrase(
        "made", notes[order], np.zeros(0, PEDAL), np.arange(96), beat[order], length[order],
        (notes["pitch"] >= 60).astype(int)[order], np.arange(32) * 0.6, np.arange(32) % 4 == 0,
    )  # fmt: skip


def test_the_truth_has_full_marks(phrase: Phrase) -> None:
    bars = phrase.beat_sec[phrase.bar_start]
    marks = score(phrase, Answer(phrase.beat_sec, phrase.beat, phrase.length, phrase.right == 1, bars))
    assert marks.pop("tempo another level") == 0.0
    assert set(marks) == {
        "beats", "tempo right", "own place", "places", "places at best level", "bars", "lengths", "hands",
    }  # fmt: skip
    assert all(value == 1.0 for value in marks.values())


def test_half_tempo_is_another_level_and_not_right(phrase: Phrase) -> None:
    marks = score(phrase, Answer(phrase.beat_sec[::2], phrase.beat / 2))
    assert marks["tempo right"] == 0.0 and marks["tempo another level"] == 1.0
    assert marks["places"] == 0.0 and marks["places at best level"] == 1.0
    assert marks["beats"] == pytest.approx(2 / 3, abs=0.01)


def test_one_note_off_costs_itself_and_half_its_neighbours() -> None:
    truth = np.arange(10.0)
    place = truth.copy()
    place[5] += 0.25
    assert places_right(truth, truth + 7) == 1.0
    assert places_right(truth, place) == pytest.approx(0.8)


def test_shifted_beats_are_wrong(phrase: Phrase) -> None:
    assert score(phrase, Answer(phrase.beat_sec + 0.1, phrase.beat))["beats"] == 0.0


def test_every_method_answers_and_ours_is_right_to_a_metronome(phrase: Phrase) -> None:
    strict = metronomic(phrase)
    assert 0.005 < np.std(strict.notes["onset_sec"] - 1.0 - phrase.beat * 0.6) < 0.025
    ours, plain, library = (
        score(strict, method(strict)) for method in (with_metronome, simplest, partitura_says)
    )
    assert ours["places"] >= 0.99 and ours["beats"] == 1.0 and ours["hands"] == 1.0
    assert set(plain) == set(library) >= {"beats", "places", "hands"}
    text = table({"ours": [ours, ours], "simplest": [plain]})
    assert "| ours |" in text and f"{ours['places']:.3f} ± 0.00" in text and text.count("\n") == 3


def test_unknown_hands_are_not_marked(phrase: Phrase) -> None:
    blind = replace(phrase, right=np.full(96, -1))
    assert "hands" not in score(blind, Answer(phrase.beat_sec, phrase.beat, right=np.ones(96, bool)))

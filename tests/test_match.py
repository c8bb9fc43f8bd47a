"""Matching a performance with its score: what is found in spite of what, and what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext.errors import InputError
from pkontext.match import covered_spans, find_pairs, match_notes, match_quality
from pkontext.types import NOTE


def piece(chords: int = 240, seed: int = 1) -> np.ndarray:
    """A melody in eighths over a chord on every fourth of them, at 120 quarters a minute."""
    rng = np.random.default_rng(seed)
    rows = []
    melody = 72
    for n in range(chords):
        melody = int(np.clip(melody + rng.integers(-4, 5), 64, 88))
        rows.append((0.25 * n, 0.24, melody, 64))
        if n % 4 == 0:
            root = int(rng.integers(40, 52))
            rows += [(0.25 * n, 0.9, root + step, 64) for step in (0, 4, 7)]
    return np.array(rows, NOTE)


def play(score: np.ndarray, seed: int = 2, tempo: float = 1.0, jitter: float = 0.015) -> np.ndarray:
    """The score with rubato of a factor of two up and down and with jitter, row by row the same notes."""
    rng = np.random.default_rng(seed)
    grid = np.arange(0, score["onset_sec"].max() + 1, 0.05)
    rate = 2.0 ** np.sin(2 * np.pi * grid / 17) / tempo
    at = np.concatenate([[0.0], np.cumsum(rate[:-1] * 0.05)])
    played = score.copy()
    played["onset_sec"] = 3 + np.interp(score["onset_sec"], grid, at) + rng.normal(0, jitter, len(score))
    return played


def share_right(pairs: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Precision and recall; ``truth`` has for each performed row its score row, or -1."""
    right = int((truth[pairs[:, 1]] == pairs[:, 0]).sum())
    return right / len(pairs), right / int((truth >= 0).sum())


def check_legal(pairs: np.ndarray, score: np.ndarray, played: np.ndarray) -> None:
    assert pairs.dtype == np.int64 and pairs.shape[1] == 2
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)
    assert (score["pitch"][pairs[:, 0]] == played["pitch"][pairs[:, 1]]).all()


@pytest.mark.parametrize("tempo", [0.3, 1.0, 2.5])
def test_rubato_at_any_tempo_and_in_any_order_of_rows(tempo: float) -> None:
    score = piece()
    played = play(score, tempo=tempo)
    shuffled = np.random.default_rng(3).permutation(len(played))
    pairs = match_notes(score, played[shuffled])
    check_legal(pairs, score, played[shuffled])
    assert share_right(pairs, shuffled) == (1.0, 1.0)
    assert (np.diff(score["onset_sec"][pairs[:, 0]]) >= 0).all()


def test_wrong_missing_and_extra_notes_cost_little_more_than_themselves() -> None:
    score = piece(400)
    rng = np.random.default_rng(4)
    played, truth = play(score), np.arange(len(score))
    wrong, missing = rng.random((2, len(score))) < 0.08
    played["pitch"][wrong] += 1
    truth[wrong] = -1
    played, truth = played[~missing], truth[~missing]
    extra = played[rng.random(len(played)) < 0.08].copy()
    extra["onset_sec"] += rng.uniform(0.0, 0.5, len(extra))
    extra["pitch"] += rng.integers(1, 4, len(extra)).astype(np.uint8)
    truth = np.concatenate([truth, np.full(len(extra), -1)])
    pairs = match_notes(score, np.concatenate([played, extra]))
    precision, recall = share_right(pairs, truth)
    assert precision > 0.96 and recall > 0.98


def test_a_trill_and_an_arpeggio_leave_the_rest_alone() -> None:
    score = piece()
    played, truth = play(score, jitter=0.005), np.arange(len(score))
    chord = np.flatnonzero(score["onset_sec"] == 20.0)
    played["onset_sec"][chord] += 0.07 * np.arange(len(chord))  # far more spread than jitter
    note = np.flatnonzero(score["onset_sec"] == 30.25)[0]
    trill = np.repeat(played[note : note + 1], 12)
    trill["onset_sec"] += 0.04 * np.arange(1, 13)
    trill["pitch"] += (np.arange(12) % 2 == 0).astype(np.uint8) * 2
    pairs = match_notes(score, np.concatenate([played, trill]))
    _, recall = share_right(pairs, np.concatenate([truth, np.full(12, -1)]))
    assert recall > 0.98


def test_repeated_chords_are_told_apart_by_their_time() -> None:
    score = np.zeros(160, NOTE)  # one chord again and again, with another bass on every eighth
    score["onset_sec"] = np.repeat(np.arange(40) * 0.5, 4)
    score["pitch"] = np.tile([48, 55, 64, 67], 40)
    score["pitch"][::32] += 1
    played = score.copy()
    played["onset_sec"] *= 1.3
    played["onset_sec"] += np.random.default_rng(5).normal(0, 0.02, len(score))
    kept = np.flatnonzero(score["onset_sec"] != 5.0)
    precision, recall = share_right(match_notes(score, played[kept]), kept)
    assert precision > 0.97 and recall > 0.97


@pytest.mark.parametrize("span", [(0, 60), (150, 230), (330, 420)])
def test_a_phrase_is_found_in_the_piece(span: tuple[int, int]) -> None:
    score = piece()
    rows = np.arange(*span)
    played = play(score)[rows]
    pairs = match_notes(score, played)
    assert share_right(pairs, rows) == (1.0, 1.0)
    quality = match_quality(pairs, score, played)
    assert quality.performed == 1.0 and quality.covered > 0.95
    assert quality.score == pytest.approx(len(rows) / len(score))
    (first, last), *more = covered_spans(pairs, score)
    assert not more
    assert (first, last) == (score["onset_sec"][rows[0]], score["onset_sec"][rows[-1]])


def test_a_restart_counts_the_second_time_and_a_cut_leaves_a_hole() -> None:
    score = piece()
    played = play(score)
    first, again = np.arange(200), np.arange(140, 420)
    rest = played[again].copy()
    rest["onset_sec"] += played["onset_sec"][199] - rest["onset_sec"][0] + 2.0
    truth = np.concatenate([np.where(first < 140, first, -1), again])
    precision, recall = share_right(match_notes(score, np.concatenate([played[first], rest])), truth)
    assert precision > 0.98 and recall > 0.98

    kept = np.concatenate([np.arange(120), np.arange(240, 420)])
    cut = played[kept].copy()
    cut["onset_sec"][120:] -= cut["onset_sec"][120] - cut["onset_sec"][119] - 0.3
    pairs = match_notes(score, cut)
    precision, recall = share_right(pairs, kept)
    assert precision > 0.99 and recall > 0.97
    assert len(covered_spans(pairs, score)) == 2


@pytest.mark.parametrize("change", ["another piece", "another key"])
def test_another_piece_is_refused(change: str) -> None:
    score = piece()
    played = play(piece(seed=9) if change == "another piece" else score)
    if change == "another key":
        played["pitch"] += 1
    with pytest.raises(InputError) as raised:
        match_notes(score, played)
    assert raised.value.code == "match.other_piece"
    assert "%" in raised.value.message and raised.value.hint


def test_no_notes_are_refused() -> None:
    for score, played in ((piece(), piece()[:0]), (piece()[:0], piece())):
        with pytest.raises(InputError) as raised:
            match_notes(score, played)
        assert raised.value.code == "match.no_notes"


note_lists = st.lists(
    st.tuples(st.floats(-5, 60), st.floats(0.01, 2), st.integers(58, 63), st.integers(1, 127)), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(note_lists, note_lists)
def test_pairs_are_legal_whatever_the_notes(score: list[tuple], played: list[tuple]) -> None:
    one, other = np.array(score, NOTE), np.array(played, NOTE)
    pairs = find_pairs(one, other)
    check_legal(pairs, one, other)
    quality = match_quality(pairs, one, other)
    assert 0 <= quality.score <= quality.covered <= 1 and 0 <= quality.performed <= 1


def test_ten_minutes_take_less_than_a_second() -> None:
    score = piece(2400)  # 10 minutes, 4200 notes
    played = play(score)
    match_notes(score, played)  # compiles
    start = time.process_time()
    pairs = match_notes(score, played)
    assert time.process_time() - start < 1.0
    assert len(pairs) > 0.99 * len(score)

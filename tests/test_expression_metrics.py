"""The measures of expression read what they say, on performances whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.types import NOTE, PEDAL
from train import expression_metrics as em
from train.expression_metrics import Played


def performance(stretch: float = 1.0, chord: int = 3, chords: int = 40) -> Played:
    """Chords every half second, played ``stretch`` times as slowly, legato, at velocity 64."""
    onset = np.repeat(1 + 0.5 * np.arange(chords), chord)
    notes = np.zeros(len(onset), NOTE)
    notes["onset_sec"], notes["duration_sec"] = onset * stretch, 0.5 * stretch
    notes["pitch"], notes["velocity"] = np.tile(60 + 4 * np.arange(chord), chords), 64
    return Played(onset, np.full(len(onset), 0.5), notes, np.zeros(0, PEDAL))


def wander(rng: np.random.Generator, n: int, memory: float = 0.8) -> np.ndarray:
    """A curve whose neighbours are alike, as tempo curves are."""
    return np.convolve(rng.standard_normal(n + 30), memory ** np.arange(31), "valid")


@pytest.mark.parametrize(
    ("p", "q", "bits"),
    [
        ([0.2, 0.8], [1, 4], 0.0),
        ([1, 0], [0, 1], 1.0),
        ([1, 0], [0.5, 0.5], 0.311278),
        ([1, 0, 0], [0, 1, 1], 1.0),
    ],
)
def test_divergence_of_known_histograms(p: list[float], q: list[float], bits: float) -> None:
    assert em.js_divergence(np.array(p, float), np.array(q, float)) == pytest.approx(bits, abs=1e-6)
    assert em.js_divergence(np.array(q, float), np.array(p, float)) == pytest.approx(bits, abs=1e-6)


def test_an_empty_histogram_has_no_divergence() -> None:
    assert np.isnan(em.js_divergence(np.zeros(3), np.ones(3)))


def test_what_is_beyond_the_bins_counts_in_the_outer_ones() -> None:
    assert em.histogram(np.array([-9, 0.5, 1.5, 99.0]), np.array([0, 1, 2.0])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("stretch", [0.5, 1.0, 3.0])
def test_deadpan_is_flat_at_any_tempo(stretch: float) -> None:
    flat = performance(stretch)
    assert em.inter_onset_ratios(flat) == pytest.approx(np.zeros(39))
    assert em.articulations(flat) == pytest.approx(np.zeros(120), abs=1e-6)
    assert em.asynchronies(flat) == pytest.approx(np.zeros(40))
    assert not em.pedal_shares(flat).any()


def test_a_slow_second_half_is_one_octave_slower_than_the_first() -> None:
    played = performance()
    late = played.score_onset > 10.9
    played.notes["onset_sec"] += np.where(late, played.score_onset - 11, 0)
    ratios = em.inter_onset_ratios(played)
    assert ratios[-1] - ratios[0] == pytest.approx(1)
    assert ratios[0] < 0 < ratios[-1], "both against the average of the piece"


def test_half_lengths_are_an_octave_shorter_in_the_tempo_of_the_moment() -> None:
    played = performance(2.0)
    played.notes["duration_sec"] /= 2
    assert em.articulations(played) == pytest.approx(-np.ones(120), abs=1e-6)


def test_ornaments_are_no_intervals_and_single_notes_no_chords() -> None:
    played = performance(chord=1)
    played.score_onset[10] = played.score_onset[9] + 0.02
    assert len(em.inter_onset_ratios(played)) == 38
    assert not len(em.asynchronies(played))


def test_asynchrony_is_from_the_first_to_the_last_note_of_a_chord() -> None:
    played = performance()
    played.notes["onset_sec"][2::3] += 0.03
    played.notes["onset_sec"][1::3] -= 0.01
    assert em.asynchronies(played) == pytest.approx(np.full(40, 40.0))


def test_pedal_is_the_share_of_the_time_that_it_is_down() -> None:
    played = performance()
    pedals = np.array([(1.0, 127), (1.75, 0), (2.0, 64), (2.5, 63)], PEDAL)
    shares = em.pedal_shares(Played(played.score_onset, played.score_duration, played.notes, pedals))
    assert shares[:4] == pytest.approx([1, 0.5, 1, 0])


def test_every_feature_has_a_histogram_that_adds_up() -> None:
    found = em.histograms(performance())
    assert list(found) == list(em.FEATURES)
    assert all(values.sum() == pytest.approx(1) for values in found.values())
    assert all(len(found[name]) == len(f.edges) - 1 for name, f in em.FEATURES.items())


def test_tempo_is_a_ratio_so_note_values_earn_nothing() -> None:
    """A score of mixed beat lengths, played strictly: raw intervals would correlate perfectly."""
    beats = np.cumsum([0, 1, 1, 2, 1, 3, 1.0])
    assert em.tempo_curve(beats, 2 * beats + 5) == pytest.approx(np.ones(6))
    assert em.correlation(em.tempo_curve(beats, 2 * beats), np.arange(6.0)) == 0


def test_agreement_with_one_and_with_the_consensus() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal(400)
    humans = common + rng.standard_normal((5, 400))
    assert em.human_agreement(humans) == pytest.approx(0.5, abs=0.06)
    assert em.human_consensus_agreement(humans) == pytest.approx(
        0.5 / np.sqrt(0.5 * 0.625) / np.sqrt(2), abs=0.06
    )
    assert em.consensus_agreement(common, humans) > em.agreement(common, humans) > em.human_agreement(humans)
    by_hand = np.mean([em.correlation(common, np.delete(humans, i, 0).mean(0)) for i in range(5)])
    assert em.consensus_agreement(common, humans) == pytest.approx(by_hand)
    assert np.isnan(em.consensus_agreement(common, humans[:2])) and np.isnan(em.human_agreement(humans[:1]))
    assert np.isnan(em.human_consensus_agreement(humans[:2]))


def test_correlations_of_all_shifts_are_those_of_rolled_curves() -> None:
    rng = np.random.default_rng(1)
    curve, humans = wander(rng, 51), np.array([wander(rng, 51), wander(rng, 51)])
    found = em.shifted_correlations(curve, humans)
    assert found == pytest.approx([em.agreement(np.roll(curve, k), humans) for k in range(51)])
    assert em.shifted_correlations(np.ones(51), humans) == pytest.approx(np.zeros(51))


def test_the_permutation_test_is_calibrated_on_noise() -> None:
    """Smooth noise against smooth noise: p is below 5 % in about 5 % of all studies of ten pieces."""
    rng = np.random.default_rng(2)
    found = []
    for study in range(200):
        pieces = [em.shifted_correlations(wander(rng, 80), wander(rng, 80)[None]) for _ in range(10)]
        found.append(em.shift_test(pieces, rounds=400, seed=study)[1])
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09, np.mean(np.array(found) < 0.05)
    assert 0.42 < np.mean(found) < 0.58


def test_the_permutation_test_finds_a_weak_signal_in_many_pieces() -> None:
    rng = np.random.default_rng(3)
    pieces = []
    for _ in range(20):
        human = wander(rng, 150)
        pieces.append(em.shifted_correlations(0.35 * human + wander(rng, 150), human[None]))
    observed, p = em.shift_test(pieces, rounds=2000)
    assert 0.2 < observed < 0.5 and p == pytest.approx(1 / 2001)
    assert em.shift_test([-r for r in pieces], rounds=500)[1] > 0.99, "one-sided"
    assert em.shift_test([np.zeros(9)], rounds=50)[1] == 1, "deadpan is never significant"


def test_errors_of_means() -> None:
    values = np.random.default_rng(4).standard_normal(30)
    mean, error, count = em.mean_and_error([*values, float("nan")])
    assert (mean, count) == (pytest.approx(values.mean()), 30)
    assert em.jackknife(lambda i: float(values[i].mean()), 30) == (pytest.approx(mean), pytest.approx(error))
    assert np.isnan(em.mean_and_error([1.0])[1])

"""Beats and places: of machines exactly, of a player who drifts, whatever the tempo, and of odd input."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pkontext import rhythm
from pkontext.beats import beats_at, find_bar, find_beats, is_ternary, place, steady_beats
from pkontext.types import NOTE, PEDAL

NO_PEDAL = np.zeros(0, PEDAL)
#: Two bars of a march: places in units of a beat, with bass notes on the beats.
MARCH = np.array([0, 18, 24, 36, 48, 60, 72, 96, 108, 114, 120, 132, 144, 156, 168])


def march(beats_to_seconds, bars: int = 4, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Notes of the march, and their places in units; a bass note on each beat, a chord on each bar."""
    rng = np.random.default_rng(3)
    places = np.concatenate([MARCH + 192 * n for n in range((bars + 1) // 2)])
    rows = [(unit, 72 + (unit // 6 * 5) % 12, 70) for unit in places.tolist()]
    for unit in range(0, int(places[-1]) + 1, 24):
        rows.append((unit, 45 if unit % 96 == 0 else 52, 80 if unit % 96 == 0 else 60))
        if unit % 96 == 0:
            rows += [(unit, 57, 75), (unit, 60, 75)]
    rows.sort()
    unit = np.array([row[0] for row in rows])
    notes = np.zeros(len(rows), NOTE)
    notes["onset_sec"] = 1.0 + beats_to_seconds(unit / 24) + rng.normal(0, noise, len(rows))
    notes["duration_sec"], notes["pitch"] = 0.2, [row[1] for row in rows]
    notes["velocity"] = [row[2] for row in rows]
    order = np.argsort(notes["onset_sec"], kind="stable")
    return notes[order], unit[order]


def listen(notes: np.ndarray) -> tuple[rhythm.Events, rhythm.Heard]:
    events = rhythm.find_events(notes, NO_PEDAL)
    return events, rhythm.listen(events)


def test_a_metronome_gives_every_place() -> None:
    notes, unit = march(lambda beat: beat * 0.6, noise=0.012)
    events, heard = listen(notes)
    beats = place(events, heard, steady_beats(events, 100.0, 1.0))
    assert (beats.unit[events.chord] - beats.unit[0] == unit).all()
    assert beats.time_sec[0] == pytest.approx(1.0)


@pytest.mark.parametrize("period", [0.4, 0.6, 0.85])
def test_a_steady_player_needs_no_metronome(period: float) -> None:
    notes, unit = march(lambda beat: beat * period, bars=8, noise=0.01)
    events, heard = listen(notes)
    found = place(events, heard, find_beats(events, heard))
    ratio = round(float(np.median(np.diff(found.time_sec))) / period, 2)
    assert (
        ratio == pytest.approx(round(ratio * 2) / 2, abs=0.03) and 0.45 < ratio < 2.1
    )  # a level of the metre
    given = place(events, heard, find_beats(events, heard, tempo_bpm=60 / period))
    assert np.mean(np.diff(given.unit[events.chord]) == np.diff(unit)) > 0.97


def test_beats_follow_a_player_who_slows_down() -> None:
    slowing = lambda beat: 0.5 * beat + 0.004 * beat**2  # noqa: E731 - from 0.5 to 0.75 s a beat
    notes, _ = march(slowing, bars=8, noise=0.008)
    events, heard = listen(notes)
    beats = find_beats(events, heard, tempo_bpm=100)
    truth = 1.0 + slowing(np.arange(31))
    nearest = np.abs(beats[:, None] - truth).min(0)
    assert np.mean(nearest < 0.07) > 0.95


def test_triplets_and_sixteenths_stand_side_by_side() -> None:
    unit = np.concatenate([np.arange(0, 96, 6), 96 + np.arange(0, 96, 8), 192 + np.arange(0, 97, 6)])
    notes = np.zeros(len(unit), NOTE)
    notes["onset_sec"] = unit / 24 * 0.7
    notes["duration_sec"], notes["pitch"], notes["velocity"] = 0.1, 60 + unit % 7, 64
    events, heard = listen(notes)
    beats = place(events, heard, steady_beats(events, 60 / 0.7, 0.0))
    np.testing.assert_array_equal(beats.unit, unit)
    assert not is_ternary(beats)
    only = place(events, heard, steady_beats(events, 60 / 0.7, 0.0), divisions=(2, 4))
    assert not (only.unit % 6).any()


def test_eighths_in_threes_are_ternary_and_a_bar_is_given_its_length() -> None:
    notes = np.zeros(48, NOTE)
    notes["onset_sec"] = np.arange(48) * 0.25
    notes["duration_sec"], notes["velocity"] = 0.2, np.where(np.arange(48) % 3, 50, 80)
    notes["pitch"] = np.where(np.arange(48) % 3, 64 + np.arange(48) % 5, 48)
    events, heard = listen(notes)
    beats = place(events, heard, steady_beats(events, 80.0, 0.0))
    assert is_ternary(beats)
    for length in (2, 3, 4, 6):
        count, first = find_bar(events, heard, beats, length)
        assert count == length and 0 <= first < length


def test_beats_at_goes_on_beyond_both_ends_and_is_exact_between() -> None:
    beats = np.array([1.0, 1.5, 2.5])
    np.testing.assert_allclose(beats_at(np.array([0.5, 1.0, 2.0, 2.5, 4.5]), beats), [-1, 0, 1.5, 2, 4])


@pytest.mark.parametrize("onsets", [[0.3], [0.3, 0.3, 0.3], [0.0, 900.0], list(np.arange(40) * 0.036)])
def test_odd_input_has_beats_that_cover_it(onsets: list[float]) -> None:
    notes = np.zeros(len(onsets), NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"] = onsets, 0.1, 60 + np.arange(len(onsets)) % 20
    events, heard = listen(notes)
    for times in (find_beats(events, heard), find_beats(events, heard, 90.0, 0.0)):
        beats = place(events, heard, times)
        assert (np.diff(beats.time_sec) > 0).all() and len(beats.time_sec) >= 2
        assert beats.time_sec[-1] > onsets[-1]
        assert (np.diff(beats.unit) >= 0).all() and beats.unit.min() >= 0


def test_five_minutes_take_about_a_second() -> None:
    """0.6 s were measured on one core; a machine that is busy may take some times that."""
    notes, _ = march(lambda beat: beat * 0.5, bars=150, noise=0.01)
    events, heard = listen(notes)
    find_beats(*listen(notes[:40]))
    start = time.process_time()
    beats = find_beats(events, heard)
    assert beats[-1] > 290
    assert time.process_time() - start < 4


def test_the_network_is_the_one_that_was_trained() -> None:
    """NumPy and torch agree on the arrays that torch writes."""
    import torch

    from train.rhythm import RhythmNet

    torch.manual_seed(1)
    net = RhythmNet().eval()
    arrays = {name: array.astype(np.float32) for name, array in net.arrays().items()}
    notes, _ = march(lambda beat: beat * 0.5, noise=0.01)
    events = rhythm.find_events(notes, NO_PEDAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rhythm, "weights", lambda: arrays)
        heard = rhythm.listen(events)
    with torch.no_grad():
        out = net(torch.from_numpy(events.features.T[None]))[0].numpy().T
    np.testing.assert_allclose(heard.downbeat, out[:, 16], atol=2e-3)
    np.testing.assert_allclose(np.exp(heard.slot).sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        heard.slot, out[:, :16] - np.logaddexp.reduce(out[:, :16], 1)[:, None], atol=2e-3
    )
    assert set(arrays) | {"steps"} == set(_shipped())


def _shipped() -> dict[str, np.ndarray]:
    rhythm.weights.cache_clear()
    return rhythm.weights()


def test_what_is_heard_does_not_depend_on_transposition_of_time() -> None:
    """A phrase that starts an hour later has the same features, and so the same places."""
    notes, _ = march(lambda beat: beat * 0.5, noise=0.01)
    late = notes.copy()
    late["onset_sec"] += 3600
    here, there = listen(notes), listen(late)
    np.testing.assert_allclose(here[0].features, there[0].features, atol=1e-4)
    first, second = find_beats(*here), find_beats(*there)
    np.testing.assert_allclose(first + 3600, second, atol=1e-6)


def test_pedal_presses_belong_to_the_chord_before_them() -> None:
    notes = np.zeros(3, NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"] = [0.0, 0.5, 1.0], 0.4, 60
    pedals = np.array([(0.1, 127), (0.45, 0), (1.05, 100)], PEDAL)
    column = rhythm.FEATURES.index("pedal")
    np.testing.assert_array_equal(rhythm.find_events(notes, pedals).features[:, column], [1, 0, 1])


def test_training_is_a_function_of_its_seed_and_counts_every_step() -> None:
    import torch

    from train.rhythm import Labelled, count_steps, fit

    notes, unit = march(lambda beat: beat * 0.5, bars=8)
    events = rhythm.find_events(notes, NO_PEDAL)
    first = np.searchsorted(events.chord, np.arange(len(events.time_sec)))
    places = unit[first]
    slot = np.searchsorted(rhythm.SLOTS, places % 24)
    one = Labelled(
        "march", events.features, places, slot, places % 96 == 0, np.full(len(places), np.log(0.5))
    )
    steps = count_steps([one])
    np.testing.assert_allclose(np.exp(-steps).sum((1, 2)), 1.0)
    beat, off = np.searchsorted(rhythm.SLOTS, [0, 18])
    assert steps[beat, off, 0] < steps[beat, off + 1, 0] and steps[off, beat, 1] < steps[off, beat, 3]
    torch.set_num_threads(1)
    weights = [fit([one], steps=3, seed=seed).arrays()["out_w"] for seed in (4, 4, 5)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()

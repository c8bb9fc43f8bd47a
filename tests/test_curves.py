"""Performance curves: monotone time, notes there and back, legal notes from any curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pkontext.curves import (
    ARTICULATION,
    ARTICULATION_BANDS,
    ASYNCHRONY,
    BANDS,
    CHANNELS,
    LOUDNESS,
    PEDAL_CHANNEL,
    PEDAL_DOWN,
    TEMPO,
    TEMPO_LIMIT,
    TimeMap,
    band_weights,
    curves_from_notes,
    notes_from_curves,
    pedals_from_curves,
    sounding_end,
    time_map_from_onsets,
    time_map_from_tempo,
)
from pkontext.types import NOTE, PEDAL

FRAME = 4096 / 44100


def notes(*rows: tuple[float, float, int, int]) -> np.ndarray:
    return np.array(list(rows), NOTE)


def pedal(*rows: tuple[float, int]) -> np.ndarray:
    return np.array(list(rows), PEDAL)


def performance(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Half a minute in three voices with rubato, dynamics, articulation, pedal and human noise.

    Returns deadpan notes, performed notes, pedals and the number of deadpan frames.
    """
    rng = np.random.default_rng(seed)
    voices = [np.arange(120) * 0.25, np.arange(60) * 0.5, np.arange(60) * 0.5]
    onset = np.sort(np.concatenate(voices)) + 0.4
    deadpan = np.zeros(240, NOTE)
    deadpan["onset_sec"], deadpan["duration_sec"] = onset, rng.choice([0.2, 0.45, 0.9], 240)
    deadpan["velocity"] = 64
    for time in np.unique(onset):
        chord = np.flatnonzero(onset == time)
        deadpan["pitch"][chord] = np.sort(rng.choice(np.arange(30, 95), len(chord), replace=False))
    played = deadpan.copy()
    played["onset_sec"] += 0.6 * np.sin(onset / 3) + 0.05 * np.sin(onset * 2) + rng.normal(0, 0.008, 240)
    loud = 64 + 15 * np.sin(onset / 4) + 0.4 * (deadpan["pitch"] - 60.0) + rng.normal(0, 3, 240)
    played["velocity"] = np.clip(loud, 1, 127)
    ratio = -0.4 + 0.5 * np.sin(onset / 5) + rng.normal(0, 0.1, 240)
    played["duration_sec"] = np.maximum(deadpan["duration_sec"] * np.exp2(ratio), 0.05)
    pedals = pedal(*[(0.5 + 2 * k + o, v) for k in range(15) for o, v in ((0.0, 127), (1.6, 0))])
    end = (deadpan["onset_sec"] + deadpan["duration_sec"]).max()
    return deadpan, played, pedals, int(np.ceil(end / FRAME)) + 10


@st.composite
def wild_curves(draw: st.DrawFn) -> np.ndarray:
    """Any finite values, most of them far outside what a performance has."""
    frames = draw(st.integers(1, 40))
    scale = draw(st.sampled_from([1.0, 100.0, 1e6, 1e30]))
    values = st.floats(-1, 1, width=32)
    raw = draw(hnp.arrays(np.float32, (frames, len(CHANNELS)), elements=values))
    return (raw * np.float32(scale)).astype(np.float32)


@st.composite
def scores(draw: st.DrawFn) -> np.ndarray:
    """Deadpan notes in score order; a key is struck again after at least 50 ms."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 60))
    keys = draw(st.sampled_from([[60], [60, 61], list(range(21, 109))]))
    found = np.zeros(count, NOTE)
    found["onset_sec"] = np.sort(rng.integers(0, 80, count)) * 0.05 + 0.37
    found["duration_sec"] = rng.choice([0.01, 0.05, 0.3, 4.0], count)
    found["pitch"], found["velocity"] = rng.choice(keys, count), 64
    _, first = np.unique(found[["onset_sec", "pitch"]], return_index=True)
    return found[np.sort(first)]


# -- time maps ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(tempo=hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(-1e6, 1e6, width=32)))
def test_the_time_map_is_strictly_monotone_and_its_own_inverse(tempo: np.ndarray) -> None:
    time_map = time_map_from_tempo(tempo, FRAME)
    assert len(time_map.performed) == len(tempo) + 1
    slopes = np.diff(time_map.performed) / FRAME
    assert slopes.min() >= 2.0**-TEMPO_LIMIT * (1 - 1e-9) and slopes.max() <= 2.0**TEMPO_LIMIT * (1 + 1e-9)
    seconds = np.linspace(-3, len(tempo) * FRAME + 3, 500)
    there = time_map.to_performed(seconds)
    assert np.all(np.diff(there) > 0)
    assert np.abs(time_map.to_deadpan(there) - seconds).max() < 1e-9
    assert np.abs(time_map.to_performed(time_map.to_deadpan(seconds)) - seconds).max() < 1e-9


@pytest.mark.parametrize("tempo", [-2.0, -0.5, 0.0, 1.0, 3.0])
def test_a_constant_tempo_scales_time(tempo: float) -> None:
    time_map = time_map_from_tempo(np.full(100, tempo), FRAME)
    seconds = np.linspace(0, 100 * FRAME, 37)
    assert np.allclose(time_map.to_performed(seconds), seconds * 2.0**-tempo, rtol=1e-12)


def test_beyond_its_ends_time_runs_at_rate_one() -> None:
    time_map = time_map_from_tempo(np.full(10, 1.0), FRAME)
    end = 10 * FRAME
    assert time_map.to_performed(np.array([-2.0, end + 5])) == pytest.approx([-2.0, end / 2 + 5])
    assert time_map.to_deadpan(np.array([-2.0, end / 2 + 5])) == pytest.approx([-2.0, end + 5])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.sampled_from([0.0, 0.02, 0.5, 10.0]))
def test_a_map_through_any_onsets_is_strictly_monotone(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    deadpan = rng.integers(0, 40, 60) * 0.125
    time_map = time_map_from_onsets(deadpan, deadpan + rng.normal(0, noise, 60) + 3)
    assert np.all(np.diff(time_map.deadpan) > 0) and np.all(np.diff(time_map.performed) > 0)


def test_a_map_goes_through_the_mean_of_each_chord() -> None:
    time_map = time_map_from_onsets(np.array([1.0, 0.0, 1.0, 2.0]), np.array([1.52, 0.5, 1.48, 2.9]))
    assert time_map.to_performed(np.array([0.0, 1.0, 1.5, 2.0])) == pytest.approx([0.5, 1.5, 2.2, 2.9])


def test_a_map_leaves_out_onsets_that_run_backwards() -> None:
    time_map = time_map_from_onsets(np.arange(4.0), np.array([0.0, 1.0, 0.4, 3.0]))
    assert time_map.deadpan.tolist() == [0.0, 1.0, 3.0]


# -- notes there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_curves_bring_a_performance_back(seed: int) -> None:
    """Measured over six seeds: onsets 1.2 ms (median), 5.1 ms (90 %), 16 ms (all); velocity correlation
    0.988 and error 1.4; articulation 0.02 octaves (median), 0.12 (90 %); pedal 97.5 % of the time.
    """
    deadpan, played, pedals, frames = performance(seed)
    curves = curves_from_notes(deadpan, played, pedals, frames, FRAME)
    assert curves.shape == (frames, 12) and curves.dtype == np.float32 and np.isfinite(curves).all()
    back = notes_from_curves(deadpan, curves, FRAME)
    assert np.array_equal(back["pitch"], deadpan["pitch"])

    start = np.median(back["onset_sec"] - played["onset_sec"])  # where a performance begins is not in it
    late = np.abs(back["onset_sec"] - played["onset_sec"] - start)
    assert np.median(late) < 0.0015 and np.quantile(late, 0.9) < 0.006 and late.max() < 0.02
    velocities = back["velocity"].astype(float), played["velocity"].astype(float)
    assert np.corrcoef(*velocities)[0, 1] > 0.985
    assert np.abs(velocities[0] - velocities[1]).mean() < 1.5
    stretch = np.abs(np.log2(back["duration_sec"] / played["duration_sec"]))
    assert np.median(stretch) < 0.025 and np.quantile(stretch, 0.9) < 0.13

    time_map = time_map_from_tempo(curves[:, TEMPO], FRAME)
    rebuilt = pedals_from_curves(curves, time_map, FRAME)
    times = np.arange(0.5, 30, 0.01)
    assert np.mean(is_down(rebuilt, times + start) == is_down(pedals, times)) > 0.97


def is_down(pedals: np.ndarray, times: np.ndarray) -> np.ndarray:
    values = np.concatenate([[0], pedals["value"]])
    return values[np.searchsorted(pedals["time_sec"], times, side="right")] >= PEDAL_DOWN


def test_a_deadpan_performance_gives_flat_curves() -> None:
    deadpan, _, _, frames = performance(0)
    deadpan["duration_sec"] = np.maximum(deadpan["duration_sec"], 0.1)
    curves = curves_from_notes(deadpan, deadpan, pedal(), frames, FRAME)
    flat = np.delete(curves, np.arange(LOUDNESS.start, LOUDNESS.stop), 1)
    assert np.abs(flat).max() < 1e-3
    assert np.abs(curves[:, LOUDNESS] - 64).max() < 1e-2


def test_one_note_gives_curves() -> None:
    deadpan, played = notes((0.4, 0.5, 60, 64)), notes((7.0, 0.25, 60, 90))
    curves = curves_from_notes(deadpan, played, pedal(), 50, FRAME)
    back = notes_from_curves(deadpan, curves, FRAME)
    assert back["velocity"].tolist() == [90]
    assert back["duration_sec"][0] == pytest.approx(0.25, rel=1e-3)
    assert np.abs(curves[:, TEMPO]).max() < 1e-6


def test_louder_high_notes_stay_louder() -> None:
    """Registers have their own loudness: a melody over a soft accompaniment in the same frames."""
    deadpan = np.concatenate(
        [notes((0.4 + k / 4, 0.2, 48, 64), (0.4 + k / 4, 0.2, 84, 64)) for k in range(20)]
    )
    played = deadpan.copy()
    played["velocity"] = np.where(deadpan["pitch"] == 84, 100, 40)
    curves = curves_from_notes(deadpan, played, pedal(), 80, FRAME)
    back = notes_from_curves(deadpan, curves, FRAME)
    assert np.abs(back["velocity"].astype(int) - played["velocity"]).max() <= 1


# -- notes from any curves ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(deadpan=scores(), curves=wild_curves())
@example(
    deadpan=notes((0.37, 0.05, 60, 64), (0.42, 0.05, 60, 64), (0.47, 0.05, 60, 64)),
    curves=np.tile(np.where(np.arange(12) == TEMPO, 3, -1).astype(np.float32), (40, 1)),
)
def test_any_curves_give_legal_notes(deadpan: np.ndarray, curves: np.ndarray) -> None:
    before = deadpan.copy(), curves.copy()
    found = notes_from_curves(deadpan, curves, FRAME)
    assert np.array_equal(deadpan, before[0]) and np.array_equal(curves, before[1])
    assert len(found) == len(deadpan) and np.array_equal(found["pitch"], deadpan["pitch"])
    assert np.isfinite(found["onset_sec"]).all() and np.isfinite(found["duration_sec"]).all()
    assert found["onset_sec"].min() >= 0 and found["duration_sec"].min() >= 0.03
    assert found["velocity"].min() >= 1 and found["velocity"].max() <= 127
    for key in np.unique(deadpan["pitch"]):
        strikes = found["onset_sec"][deadpan["pitch"] == key]
        assert np.all(np.diff(strikes) > 0.002), "a key is struck twice at one time, or in another order"


@settings(max_examples=60, deadline=None)
@given(curves=wild_curves())
def test_any_curves_give_legal_pedals(curves: np.ndarray) -> None:
    time_map = time_map_from_tempo(curves[:, TEMPO], FRAME)
    pedals = pedals_from_curves(curves, time_map, FRAME)
    assert pedals["value"].max(initial=0) <= 127
    assert np.all(pedals["time_sec"] >= 0) and np.all(np.diff(pedals["time_sec"]) > 0)
    assert np.all(np.diff(pedals["value"].astype(int)) != 0)


def test_notes_beyond_the_curves_play_like_the_last_row() -> None:
    curves = np.zeros((5, len(CHANNELS)), np.float32)
    curves[:, LOUDNESS] = 50
    found = notes_from_curves(notes((60.0, 1.0, 60, 64)), curves, FRAME)
    assert found.tolist() == [pytest.approx((60.0, 1.0, 60, 50))]


def test_curves_do_what_their_names_say() -> None:
    deadpan = notes((0.5, 0.4, 36, 64), (0.5, 0.4, 84, 64))
    curves = np.zeros((30, len(CHANNELS)), np.float32)
    curves[:, LOUDNESS] = [30, 50, 70, 90]
    curves[:, ASYNCHRONY] = [0.02, 0, 0, -0.01]
    curves[:, ARTICULATION] = [-1, 1]
    found = notes_from_curves(deadpan, curves, FRAME)
    assert found["onset_sec"] == pytest.approx([0.52, 0.49])
    assert found["duration_sec"] == pytest.approx([0.2, 0.8])
    assert found["velocity"].tolist() == [30, 90]
    curves[:, TEMPO] = 1
    assert notes_from_curves(deadpan, curves, FRAME)["onset_sec"] == pytest.approx([0.27, 0.24])


def test_a_row_holds_for_the_middle_of_its_frame() -> None:
    """Between the middles of two frames values change linearly."""
    curves = np.zeros((10, len(CHANNELS)), np.float32)
    curves[:, LOUDNESS] = np.arange(10)[:, None] * 10 + 1
    places = [0.0, 0.5, 3.5, 4.0, 4.25, 9.9]
    found = notes_from_curves(notes(*[(p * FRAME, 0.1, 60, 64) for p in places]), curves, FRAME)
    assert np.abs(found["velocity"] - np.array([1, 1, 31, 36, 38.5, 91])).max() <= 0.5


def test_the_pedal_follows_its_curve() -> None:
    curves = np.zeros((30, len(CHANNELS)), np.float32)
    curves[10:20, PEDAL_CHANNEL] = 1
    pedals = pedals_from_curves(curves, time_map_from_tempo(curves[:, TEMPO], FRAME), FRAME)
    assert pedals["value"].tolist() == [127, 0]
    assert pedals["time_sec"] == pytest.approx([10 * FRAME, 20 * FRAME])


@pytest.mark.parametrize("centres", [BANDS, ARTICULATION_BANDS])
def test_band_weights_add_up_to_one(centres: np.ndarray) -> None:
    weights = band_weights(np.arange(128, dtype=np.uint8), centres)
    assert weights.min() >= 0 and np.allclose(weights.sum(1), 1)
    assert weights[: int(centres[0]) + 1, 0].min() == 1 and weights[int(centres[-1]) :, -1].min() == 1


# -- when notes stop -----------------------------------------------------------------------------------


def test_without_pedal_a_note_ends_with_its_key() -> None:
    played = notes((0.0, 0.5, 60, 64), (0.2, 1.0, 64, 64))
    assert sounding_end(played, pedal()) == pytest.approx([0.5, 1.2])


def test_the_pedal_holds_what_is_released_while_it_is_down() -> None:
    played = notes((0.0, 0.5, 60, 64), (0.2, 2.0, 64, 64), (0.0, 0.1, 67, 64))
    ends = sounding_end(played, pedal((0.3, 127), (1.5, 0), (3.0, 127)))
    assert ends == pytest.approx([1.5, 2.2, 0.1])


def test_half_pedal_counts_from_64_and_steps_between_do_not_lift() -> None:
    played = notes((0.0, 0.5, 60, 64))
    assert sounding_end(played, pedal((0.1, 63), (2.0, 0))) == pytest.approx([0.5])
    assert sounding_end(played, pedal((0.1, 64), (1.0, 100), (1.5, 70), (2.0, 63))) == pytest.approx([2.0])


def test_striking_a_key_again_cuts_its_earlier_note() -> None:
    played = notes((0.0, 0.5, 60, 64), (0.8, 0.2, 60, 64), (0.4, 0.1, 61, 64))
    ends = sounding_end(played, pedal((0.0, 127), (4.0, 0)))
    assert ends == pytest.approx([0.8, 4.0, 4.0])
    overlapping = notes((0.0, 2.0, 60, 64), (0.8, 0.2, 60, 64))
    assert sounding_end(overlapping, pedal()) == pytest.approx([0.8, 1.0])


def test_a_pedal_never_lifted_holds_for_a_bounded_time() -> None:
    ends = sounding_end(notes((1.0, 0.5, 60, 64)), pedal((0.0, 127)))
    assert ends[0] == pytest.approx(31.5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sounding_lasts_at_least_to_the_key_release_or_the_next_strike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    played = np.zeros(30, NOTE)
    played["onset_sec"], played["duration_sec"] = rng.uniform(0, 5, 30), rng.uniform(0.03, 2, 30)
    played["pitch"] = rng.integers(60, 66, 30)
    pedals = np.zeros(10, PEDAL)
    pedals["time_sec"], pedals["value"] = np.sort(rng.uniform(0, 6, 10)), rng.integers(0, 128, 10)
    ends = sounding_end(played, pedals)
    for row, end in zip(played, ends, strict=True):
        strikes = played["onset_sec"][played["pitch"] == row["pitch"]]
        later = strikes[strikes > row["onset_sec"]]
        release = row["onset_sec"] + row["duration_sec"]
        assert row["onset_sec"] <= end <= min(later, default=np.inf)
        assert end >= min(release, min(later, default=np.inf)) - 1e-12


def test_a_time_map_of_one_point_shifts() -> None:
    assert TimeMap(np.array([1.0]), np.array([3.0])).to_performed(np.array([0.0, 5.0])).tolist() == [2.0, 7.0]

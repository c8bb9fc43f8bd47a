"""What the networks see of notes and metre, per latent frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext.features import (
    CURVE_LOCAL,
    KEYS,
    LOWEST_KEY,
    METRE,
    ROLL,
    curve_local,
    latent_local,
    local_channels,
    metre,
    roll,
)

FRAME = 4096 / 44100


def paint(
    onset: list[float],
    end: list[float],
    pitch: list[int],
    velocity: list[int] | None = None,
    first: int = 0,
    frames: int = 40,
) -> np.ndarray:
    """Roll of notes whose times are given in frames, as ``[frames, plane, key]``."""
    loud = np.array(velocity or [127] * len(pitch), np.uint8)
    seconds = np.array(onset, float) * FRAME, np.array(end, float) * FRAME
    out = roll(seconds[0], seconds[1], seconds[1], np.array(pitch, np.uint8), loud, first, frames, FRAME)
    assert out.shape == (frames, ROLL) and out.dtype == np.float32
    return out.reshape(frames, 3, KEYS)


@pytest.mark.parametrize("late", [0.0, 0.25, 0.5, 0.9])
def test_an_attack_says_where_in_its_frame_it_is(late: float) -> None:
    planes = paint([5 + late], [12], [60])
    key = 60 - LOWEST_KEY
    assert planes[5, :2, key] == pytest.approx([1 - late, late], abs=1e-6)
    planes[5, :, key] = 0
    assert not planes[:, :2].any()
    assert not np.delete(planes, key, 2).any()


def test_a_note_is_painted_where_it_sounds() -> None:
    level = paint([5.3], [12], [60])[:, 2, 60 - LOWEST_KEY]
    assert not level[:5].any()
    assert level[5] == pytest.approx(0.7, abs=0.01)  # it sounds in 70 % of its first frame
    assert level[6:12].min() > 0.8
    assert not level[16:].any()


@pytest.mark.parametrize(("pitch", "db_per_sec"), [(21, 5.0), (108, 25.0)])
def test_a_held_note_decays_as_a_piano_does(pitch: int, db_per_sec: float) -> None:
    level = paint([0], [100], [pitch], frames=25)[:, 2, pitch - LOWEST_KEY]
    step = np.diff(level)
    assert step * 60 / FRAME == pytest.approx(np.full(24, -db_per_sec), rel=1e-3)
    assert np.all(np.diff(paint([0], [200], [pitch], frames=199)[:, 2, pitch - LOWEST_KEY]) <= 0)


def test_after_its_end_a_note_dies_away_fast() -> None:
    level = paint([0], [10], [60], frames=20)[:, 2, 39]
    step = np.diff(level)
    assert step[10] == pytest.approx(-250 * FRAME / 60, rel=1e-3)
    assert level[9] > 0.8 and not level[14:].any()


def test_louder_notes_are_painted_brighter() -> None:
    peaks = [paint([2.0], [10], [60], [v])[2, 0, 39] for v in (5, 20, 64, 127)]
    assert np.all(np.diff(peaks) > 0.1) and peaks[-1] == 1.0
    assert peaks[2] == pytest.approx(1 + 40 / 60 * np.log10(64 / 127), abs=1e-6)


def test_a_key_struck_again_shows_both_attacks() -> None:
    planes = paint([2, 4.5], [4, 9], [60, 60])[:, :, 39]
    assert planes[2, 0] == 1 and planes[4, :2] == pytest.approx([0.5, 0.5])
    assert planes[5, 2] > planes[3, 2] - 0.1


def test_notes_outside_the_keyboard_or_the_span_are_ignored() -> None:
    assert not paint([3, 3], [6, 6], [20, 109]).any()
    assert not paint([-30, 41], [-20, 50], [60, 60]).any()


def test_a_note_from_before_the_span_still_sounds_in_it() -> None:
    planes = paint([-3.0], [5], [60])[:, :, 39]
    assert not planes[:, :2].any()
    assert planes[:5, 2].min() > 0.8


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.integers(-30, 30))
def test_moving_the_span_moves_the_roll(seed: int, shift: int) -> None:
    """Windows at different places see the same music in the same way."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 40, 25)
    end, pitch = onset + rng.uniform(0.1, 20, 25), rng.integers(15, 115, 25).tolist()
    whole = paint(onset.tolist(), end.tolist(), pitch, first=-40, frames=140)
    part = paint(onset.tolist(), end.tolist(), pitch, first=shift, frames=30)
    assert np.abs(part - whole[shift + 40 : shift + 70]).max() < 1e-6
    moved = paint((onset + shift).tolist(), (end + shift).tolist(), pitch, first=shift, frames=30)
    assert np.abs(moved - whole[40:70]).max() < 1e-5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_roll_stays_between_zero_and_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    onset = rng.uniform(-5, 40, 60)
    planes = paint(
        onset.tolist(),
        (onset + rng.choice([0.0, 1e-6, 0.3, 50], 60)).tolist(),
        rng.integers(0, 128, 60).tolist(),
        rng.integers(1, 128, 60).tolist(),
    )
    assert planes.min() >= 0 and planes.max() <= 1


def test_metre_is_the_phase_of_beat_and_bar_and_the_tempo() -> None:
    beat = np.array([0.0, 0.25, 0.5, 4.0])
    found = metre(beat, beat / 4, np.array([0.5, 1.0, 0.25, 0.5]))
    assert found.shape == (4, METRE) and found.dtype == np.float32
    assert found[:, 0] == pytest.approx([0, 1, 0, 0], abs=1e-6)
    assert found[:, 1] == pytest.approx([1, 0, -1, 1], abs=1e-6)
    assert found[2, 2:4] == pytest.approx([np.sin(np.pi / 4), np.cos(np.pi / 4)])
    assert found[:, 8] == pytest.approx([0, 1, -1, 0])
    assert found[0, [0, 1, 2, 3, 8]] == pytest.approx(found[3, [0, 1, 2, 3, 8]], abs=1e-6)  # a bar later
    assert found[3, 4:8] == pytest.approx([0, -1, 1, 0], abs=1e-6)  # half of two bars, a quarter of four


def test_the_networks_are_told_what_is_missing() -> None:
    features = np.full((7, CURVE_LOCAL - 1), 0.5, np.float32)
    assert curve_local(None, 7).shape == curve_local(features, 7).shape == (7, CURVE_LOCAL)
    assert not curve_local(None, 7).any()
    assert np.array_equal(curve_local(features, 7)[:, :-1], features)
    assert curve_local(features, 7)[:, -1].tolist() == [1] * 7

    painted, same = np.full((7, ROLL), 0.25, np.float32), np.full((7, 32), 2.0, np.float32)
    both = latent_local(painted, same, 7, 32)
    assert both.shape == (7, local_channels(32))
    assert np.array_equal(both[:, :ROLL], painted) and np.array_equal(both[:, ROLL:-2], same)
    assert both[0, -2:].tolist() == [1, 1]
    assert latent_local(None, same, 7, 32)[0, -2:].tolist() == [0, 1]
    assert latent_local(painted, None, 7, 32)[0, -2:].tolist() == [1, 0]
    assert not latent_local(None, None, 7, 32).any()

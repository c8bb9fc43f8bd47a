"""Hands: textures whose hands every pianist knows, and what a line between hands may not do."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext.hands import right_hand
from pkontext.types import NOTE


def notes_of(rows: list[tuple[float, float, int]]) -> np.ndarray:
    notes = np.zeros(len(rows), NOTE)
    for name, values in zip(("onset_sec", "duration_sec", "pitch"), zip(*rows, strict=True), strict=True):
        notes[name] = values
    notes["velocity"] = 64
    return np.sort(notes, order="onset_sec")


def test_melody_over_chords() -> None:
    melody = [(0.5 * n, 0.5, 72 + (0, 2, 4, 5, 7, 5, 4, 2)[n % 8]) for n in range(16)]
    chords = [(1.0 * n, 0.9, pitch) for n in range(8) for pitch in (48, 52, 55)]
    notes = notes_of(melody + chords)
    np.testing.assert_array_equal(right_hand(notes), notes["pitch"] >= 60)


def test_both_hands_high_and_both_low() -> None:
    """The line goes where the music is: middle C would give all of it to one hand."""
    for shift in (24, -20):
        low = [(0.5 * n, 0.4, 58 + shift + (0, 3, 7, 3)[n % 4]) for n in range(24)]
        high = [(0.5 * n, 0.4, 75 + shift + (0, 2, 4, 5)[n % 4]) for n in range(24)]
        notes = notes_of(low + high)
        assert np.mean(right_hand(notes) == (notes["pitch"] >= 70 + shift)) > 0.95


def test_held_bass_leaves_the_tenor_to_the_other_hand() -> None:
    """Two octaves under a held bass no left hand reaches."""
    rows = [(2.0 * n, 1.95, 36) for n in range(4)]
    rows += [(0.25 + 0.25 * k + 2.0 * n, 0.2, 62 + (0, 4, 7)[k % 3]) for n in range(4) for k in range(7)]
    notes = notes_of(rows)
    np.testing.assert_array_equal(right_hand(notes), notes["pitch"] >= 60)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 3), st.integers(21, 108)), min_size=1, max_size=40)
)
def test_in_a_chord_the_right_hand_is_above_the_left(rows: list[tuple[float, float, int]]) -> None:
    notes = notes_of(rows)
    right = right_hand(notes)
    for onset in np.unique(notes["onset_sec"]):
        here = notes["onset_sec"] == onset
        above, below = notes["pitch"][here & right], notes["pitch"][here & ~right]
        assert not len(above) or not len(below) or above.min() > below.max()

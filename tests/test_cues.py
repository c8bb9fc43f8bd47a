"""What the curve network is told of a score beyond its notes."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.cues import CUES, PITCH_CUES, WRITTEN, score_cues
from pkontext.types import NOTE

FRAME_SEC = 0.1


def line(onsets: list[float], pitches: list[int], seconds: float = 0.2) -> np.ndarray:
    notes = np.zeros(len(onsets), NOTE)
    notes["onset_sec"], notes["pitch"], notes["duration_sec"] = onsets, pitches, seconds
    notes["velocity"] = 64
    return notes


def cue(cues: np.ndarray, name: str) -> np.ndarray:
    return cues[:, CUES.index(name)]


def test_written_dynamics_are_those_of_the_register_and_relative_to_the_piece() -> None:
    onset = [0.4, 0.4, 2.4, 2.4]
    notes = line(onset, [36, 84, 36, 84])
    cues = score_cues(notes, np.array([40, 80, 80, 80]), 40, FRAME_SEC)
    assert cues.shape == (40, len(CUES)) and cues.dtype == np.float32
    low, high = cue(cues, "written_36"), cue(cues, "written_84")
    assert low[4] == pytest.approx(-30 / 20, abs=0.05) and high[4] == pytest.approx(10 / 20, abs=0.05)
    assert low[24] == pytest.approx(10 / 20, abs=0.05)
    assert cue(cues, "written_mean")[0] == pytest.approx((70 - 64) / 20)
    assert (cue(cues, "written") == 1).all()


def test_a_score_of_one_velocity_says_nothing_about_dynamics() -> None:
    notes = line([0.4, 1.0], [60, 64])
    for level in (1, 64, 127):
        assert not score_cues(notes, np.full(2, level), 20, FRAME_SEC)[:, WRITTEN].any()


def test_outline_gaps_and_sizes_of_chords() -> None:
    cues = score_cues(line([0.45, 0.45, 0.45, 1.45], [48, 60, 72, 84]), np.full(4, 64), 30, FRAME_SEC)
    assert not cues[:4, 6:14].any(), "nothing has been played yet"
    np.testing.assert_allclose(cues[4:14, PITCH_CUES], [[0.5, -0.5]] * 10)
    np.testing.assert_allclose(cues[14:, PITCH_CUES], 1.0)
    assert cue(cues, "chord_size")[[5, 20]] == pytest.approx([np.log2(3) / 2, 0])
    assert cue(cues, "inter_onset")[5] == pytest.approx(1.0)  # a second, log2 0
    since = cue(cues, "since_onset")
    assert (np.diff(since[4:14]) > 0).all() and since[14] < since[13]
    assert cue(cues, "longest")[5] == pytest.approx(np.log2(0.2) / 2 + 1)


def test_place_in_the_piece() -> None:
    cues = score_cues(line([1.0, 5.0, 9.0], [60, 62, 64]), np.full(3, 64), 120, FRAME_SEC)
    place = cue(cues, "place")
    assert place[0] == 0 and place[50] == pytest.approx(0.5, abs=0.01) and place[-1] == 1
    assert cue(cues, "from_start").argmin() == 119 and cue(cues, "from_start")[10] == 1
    assert cue(cues, "to_end")[90] == 1 and cue(cues, "to_end")[40] < 0.03 < cue(cues, "to_end_far")[40]


def test_denser_music_is_denser() -> None:
    onset = [*np.arange(0.4, 4.0, 0.4), *np.arange(4.0, 8.0, 0.05)]
    cues = score_cues(line(list(onset), [60] * len(onset)), np.full(len(onset), 64), 90, FRAME_SEC)
    near = cue(cues, "density_near")
    assert near[60] > near[20] + 0.5
    assert np.isfinite(cues).all() and np.abs(cues).max() < 4


def test_notes_may_come_in_any_order() -> None:
    rng = np.random.default_rng(0)
    notes = line(list(rng.uniform(0, 5, 30)), list(rng.integers(30, 90, 30)))
    written = rng.integers(30, 100, 30)
    mixed = rng.permutation(30)
    a, b = score_cues(notes, written, 60, FRAME_SEC), score_cues(notes[mixed], written[mixed], 60, FRAME_SEC)
    np.testing.assert_allclose(a, b, atol=1e-5)

"""Windows: every frame kept once, overlaps given, context at the right place."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pkontext.windows import CONTEXT_MARGIN, context_window, window_grid


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 200),
    overlap=st.integers(0, 100),
    lookahead=st.integers(0, 60),
    first=st.integers(0, 1000),
)
def test_the_grid_keeps_every_frame_once(size: int, overlap: int, lookahead: int, first: int) -> None:
    assume(size > overlap + lookahead)
    windows = list(islice(window_grid(size, overlap, lookahead, first), 12))
    kept = [frame for w in windows for frame in range(w.start + w.given, w.stop)]
    assert kept == list(range(first, windows[-1].stop))
    assert [w.number for w in windows] == list(range(12))
    assert windows[0].start == first and windows[0].given == 0
    for before, after in pairwise(windows):
        assert after.given == overlap
        assert after.start + after.given == before.stop  # what is given is what was committed last
        assert after.start > before.start
    assert all(w.stop - w.start == size - lookahead for w in windows)


@pytest.mark.parametrize(("size", "overlap", "lookahead"), [(32, 16, 16), (32, 32, 0), (8, 0, 9), (0, 0, 0)])
def test_a_window_that_keeps_nothing_is_refused(size: int, overlap: int, lookahead: int) -> None:
    with pytest.raises(ValueError, match=f"{size} frames keeps nothing"):
        next(window_grid(size, overlap, lookahead))


def ramp(frames: int, dim: int = 3) -> np.ndarray:
    """Latents whose every channel is the frame's number, from 1."""
    return np.repeat(np.arange(1, frames + 1, dtype=np.float32)[:, None], dim, 1)


def test_at_deadpan_tempo_everything_lines_up() -> None:
    deadpan = ramp(200)
    shown = context_window(deadpan, np.arange(-48, 96) + 60.0, 48, 48)
    assert np.array_equal(shown["same"], deadpan[60:108])
    assert shown["context"].shape == (48 + CONTEXT_MARGIN, 3)
    assert shown["context_position"].shape == (48 + CONTEXT_MARGIN,)
    rows = shown["context"][:, 0] - 1
    assert np.all(np.diff(rows) == 1)
    assert rows[0] <= 60 - CONTEXT_MARGIN / 2 + 1 and rows[-1] >= 107 + CONTEXT_MARGIN / 2 - 1
    assert np.abs(shown["context_position"] - (rows - 60)).max() < 0.02


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rate=st.sampled_from([0.25, 0.6, 1.0, 1.7, 4.0]), at=st.integers(-20, 150)
)
def test_context_is_where_its_position_says(seed: int, rate: float, at: int) -> None:
    """Positions rise strictly, and a context frame's position maps back to its deadpan frame."""
    rng = np.random.default_rng(seed)
    deadpan = ramp(120)
    position = at + np.cumsum(rate * rng.uniform(0.5, 1.5, 144))
    shown = context_window(deadpan, position, 48, 48)
    assert shown["same"].shape == (48, 3) and shown["same"].dtype == np.float32
    assert shown["context"].dtype == shown["context_position"].dtype == np.float32
    where = shown["context_position"].astype(float)
    assert np.all(np.diff(where) > 0)
    assert shown["same"][:, 0] == pytest.approx(np.clip(position[48:96], 0, 119) + 1, abs=1e-3)
    inside = shown["context"][:, 0] > 0
    near = inside & (where > -47) & (where < 94)
    back = np.interp(where[near] + 48, np.arange(144), position)
    assert np.abs(back + 1 - shown["context"][near, 0]).max(initial=0) < 0.03


def test_outside_the_piece_there_is_silence_in_the_context() -> None:
    shown = context_window(ramp(10), np.arange(144) - 48.0, 48, 48)
    numbers = shown["context"][:, 0]
    assert numbers[numbers > 0].tolist() == list(range(1, 11))
    assert np.array_equal(shown["same"][:10], ramp(10))
    assert np.all(shown["same"][10:] == 10)


def test_between_frames_latents_are_interpolated() -> None:
    shown = context_window(ramp(200), np.arange(144) * 0.5 + 20, 48, 48)
    assert shown["same"][:4, 0].tolist() == [45.0, 45.5, 46.0, 46.5]


def test_inputs_are_not_changed() -> None:
    deadpan, position = ramp(60), np.arange(144) * 0.5
    context_window(deadpan, position, 48, 48)
    assert np.array_equal(deadpan, ramp(60)) and np.array_equal(position, np.arange(144) * 0.5)

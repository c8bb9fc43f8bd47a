"""The demo piece is Bach's prelude, complete, and the committed file is what the generator writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pkontext.score import bar_at, load_score
from pkontext.types import Score

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "pkontext" / "data" / "demo.mid"

#: The chord of each of bars 1 to 32 and its bass; notes foreign to the chord after a plus sign.
HARMONY = """
C/C Dm7/C G7/B C/C Am/C D7/C G/B Cmaj7/B Am7/A D7/D G/G Edim7/G Dm/F Bdim7/F C/E Fmaj7/E
Dm7/D G7/G C/C C7/C Fmaj7/F F#dim7/F# Bdim7/Ab+C G7/G C/G G7sus4/G G7/G F#dim7/G+G C/G G7sus4/G
G7/G C7/C
"""
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "F#": 6, "G": 7, "Ab": 8, "A": 9, "B": 11}
QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "dim7": (0, 3, 6, 9),
    "7sus4": (0, 5, 7, 10),
}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_piece", ROOT / "examples" / "make_demo_piece.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo() -> Score:
    return load_score(DEMO)


def pitches_of_bar(score: Score, bar: int) -> list[int]:
    bars = score.notes["onset_tick"] // (4 * score.ticks_per_quarter) + 1
    return score.notes["pitch"][bars == bar].tolist()


def test_generator_writes_the_committed_bytes(generator: ModuleType) -> None:
    """Regenerate with ``python examples/make_demo_piece.py``."""
    assert generator.build() == DEMO.read_bytes()


def test_size_and_range(demo: Score) -> None:
    assert demo.warnings == ()
    assert len(demo.notes) == 549
    assert (demo.notes["pitch"].min(), demo.notes["pitch"].max()) == (36, 81)
    assert set(demo.notes["track"].tolist()) == {0, 1}
    assert set(demo.notes["velocity"].tolist()) == {64}
    assert bar_at(demo, demo.duration_sec - 0.01) == 35
    assert demo.duration_sec == pytest.approx(35 * 4 * 60 / 66, rel=1e-5)


def test_pattern_of_bars_1_to_32(demo: Score) -> None:
    for bar in range(1, 33):
        a, b, *right = pitches_of_bar(demo, bar)
        assert right == [*right[:3] * 2, a, b, *right[:3] * 2]
        assert a < b < right[0] < right[1] < right[2]


def test_harmony_of_bars_1_to_32(demo: Score) -> None:
    for bar, symbol in enumerate(HARMONY.split(), 1):
        chord, _, bass = symbol.partition("/")
        bass, _, foreign = bass.partition("+")
        root = chord[:2] if chord[1:2] == "#" else chord[0]
        classes = {(STEPS[root] + step) % 12 for step in QUALITIES[chord.removeprefix(root)]}
        if foreign:
            classes.add(STEPS[foreign])
        pitches = pitches_of_bar(demo, bar)
        assert pitches[0] % 12 == STEPS[bass], f"bass of bar {bar}"
        assert {p % 12 for p in pitches} <= classes, f"bar {bar} is not {symbol}"
        # The fifth may be missing, never the third, the seventh or the root of a triad.
        assert len(classes - {p % 12 for p in pitches}) <= 1, f"bar {bar} is not {symbol}"


def test_close(demo: Score) -> None:
    assert pitches_of_bar(demo, 33)[:2] == [36, 48]
    assert pitches_of_bar(demo, 34)[:2] == [36, 47]
    assert len(pitches_of_bar(demo, 33)) == len(pitches_of_bar(demo, 34)) == 16
    assert pitches_of_bar(demo, 35) == [36, 48, 64, 67, 72]
    last = demo.notes[-5:]
    assert np.unique(last["duration_tick"]).tolist() == [4 * demo.ticks_per_quarter]

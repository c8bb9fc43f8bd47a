"""What a take looks like while it is rendered."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.bundle import Bundle
from pkontext.engine import RenderSettings, Reroll, open_rendering
from pkontext.score import score_from_notes
from pkontext.take_audio import LiveTake
from pkontext.types import NOTE, Score


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(200, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(200) * 0.2, 0.18
    notes["pitch"], notes["velocity"] = 50 + (np.arange(200) * 7) % 30, 64
    return score_from_notes(notes)


def test_it_grows_and_ends_as_the_take(score: Score, bundle: Bundle) -> None:
    take = LiveTake(1, open_rendering(score, bundle, RenderSettings(), 1, "cpu"))
    assert take.sketch is None
    seen = []
    while take.advance("sampler"):
        assert take.sketch is not None
        if not seen or take.sketch is not seen[-1]:
            seen.append(take.sketch)
    counts = [len(sketch.rows) for sketch in seen]
    assert len(seen) > 1 and counts == sorted(counts) and not seen[0].complete
    last = seen[-1]
    notes, pedals = take.rendering.notes()
    assert last.complete and np.array_equal(last.rows, np.arange(200))
    assert np.array_equal(last.notes, notes)
    assert np.array_equal(last.pedals["value"][-len(pedals) :], pedals["value"])
    for earlier in seen[:-1]:  # what is decided early stays
        settled = earlier.notes["onset_sec"] < earlier.notes["onset_sec"].max() - 3
        assert np.allclose(earlier.notes["onset_sec"][settled], notes["onset_sec"][: len(settled)][settled])


def test_curves_lie_over_the_score(score: Score, bundle: Bundle) -> None:
    rendering = open_rendering(score, bundle, RenderSettings(tempo=1.25), 1, "cpu")
    assert len(rendering.sketch().rows) == 0 and rendering.curve_source.committed == 0
    rendering.notes()
    sketch = rendering.sketch()
    assert len(sketch.score_sec) == len(sketch.tempo) == len(sketch.loudness) == len(sketch.pedal)
    assert sketch.score_sec[0] < 0 < sketch.score_sec[-1] and sketch.score_sec[-1] > score.duration_sec
    assert np.allclose(np.diff(sketch.score_sec), rendering.frame_sec * 1.25)
    places = rendering.places()
    # The tempo curve is the slope of the map from audio to score, in the take's own tempo.
    for index in range(40, 150, 10):
        here = sketch.score_sec[index]
        low, high = (places.to_audio(here + side * 0.3) for side in (-1, 1))
        around = np.abs(sketch.score_sec - here) < 0.3
        assert 0.6 / (high - low) / 1.25 == pytest.approx(1 / np.mean(1 / sketch.tempo[around]), rel=0.15)
    assert sketch.loudness.min() >= 1 and sketch.loudness.max() <= 127
    assert sketch.pedal.min() >= 0 and sketch.pedal.max() <= 1


def test_re_rolled_notes_are_shown(score: Score, bundle: Bundle) -> None:
    settings = RenderSettings(rerolls=(Reroll(5.0, 9.0, 3),))
    take = LiveTake(1, open_rendering(score, bundle, settings, 1, "cpu"))
    while take.advance("sampler"):
        pass
    assert take.sketch is not None
    assert np.array_equal(take.sketch.notes, take.rendering.notes()[0])

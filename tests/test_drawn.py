"""Curves that the user draws, and takes that follow them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkontext import curves as pc
from pkontext.bundle import Bundle, open_bundle
from pkontext.deadpan import deadpan_from_score
from pkontext.drawn import Drawn, drawn_frames, read_drawn
from pkontext.engine import Rendering, RenderSettings, open_rendering
from pkontext.errors import InputError
from pkontext.expressive_midi import TakeNotes, expressive_midi, write_midi
from pkontext.score import score_from_notes
from pkontext.types import NOTE, PEDAL, Score


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return open_bundle(toy_bundle)


@pytest.fixture(scope="module")
def score() -> Score:
    """Two voices in eighths, 20 seconds: ten bars of four quarters at 120."""
    notes = np.zeros(160, NOTE)
    notes["onset_sec"] = np.repeat(np.arange(80) * 0.25, 2)
    notes["duration_sec"], notes["velocity"] = 0.24, 64
    notes["pitch"] = np.tile([48, 72], 80) + np.repeat(np.arange(80) * 5 % 12, 2)
    return score_from_notes(notes)


def rendering(score: Score, bundle: Bundle, *drawn: Drawn, **changes: object) -> Rendering:
    return open_rendering(score, bundle, RenderSettings(voice="sampler", drawn=drawn, **changes), threads=1)  # type: ignore[arg-type]


def chord_tempo(take: Rendering, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Score second and log2 tempo between successive chords, as heard."""
    notes, _ = take.notes()
    at, first = np.unique(score.notes["onset_sec"], return_inverse=True)
    heard = np.array([notes["onset_sec"][first == i].mean() for i in range(len(at))])
    return at[:-1], np.log2(np.diff(at) / np.maximum(np.diff(heard), 1e-3))


@pytest.mark.parametrize("amount", [0.0, 1.0, 1.5])
def test_a_drawn_tempo_is_the_tempo_that_is_heard(score: Score, bundle: Bundle, amount: float) -> None:
    drawn = Drawn("tempo", ((4.0, 1.0), (8.0, 1.6), (10.0, 0.6), (16.0, 1.1)))
    at, heard = chord_tempo(rendering(score, bundle, drawn, expressiveness=amount), score)
    inside = (at >= 4.0) & (at < 15.5)
    wanted = np.interp(at + 0.125, [4, 8, 10, 16], np.log2([1.0, 1.6, 0.6, 1.1]))
    assert np.corrcoef(heard[inside], wanted[inside])[0, 1] > 0.95
    assert np.abs(heard[inside] - wanted[inside]).mean() < 0.1


def test_drawn_loudness_is_followed_and_registers_keep_their_balance(score: Score, bundle: Bundle) -> None:
    drawn = Drawn("loudness", ((0.0, 30.0), (10.0, 100.0), (20.0, 50.0)))
    take = rendering(score, bundle, drawn)
    notes, _ = take.notes()
    wanted = np.interp(score.notes["onset_sec"], [0, 10, 20], [30, 100, 50])
    assert np.corrcoef(notes["velocity"], wanted)[0, 1] > 0.95
    assert np.abs(notes["velocity"] - wanted).mean() < 6
    mean = np.zeros(12)
    mean[pc.LOUDNESS] = [50, 56, 62, 68]
    values, given = drawn_frames((drawn,), take.deadpan, mean)
    assert given[20, pc.LOUDNESS].all() and not given[:, pc.TEMPO].any()
    np.testing.assert_allclose(np.diff(values[20, pc.LOUDNESS]), 6, atol=1e-4)


def test_a_drawn_pedal_is_held_and_lifted(score: Score, bundle: Bundle) -> None:
    drawn = (Drawn("pedal", ((2.0, 1.0), (6.0, 1.0))), Drawn("pedal", ((6.5, 0.0), (12.0, 0.0))))
    source = rendering(score, bundle, *drawn).curve_source
    source.extend(10_000)
    values, given = drawn_frames(drawn, source.deadpan, np.zeros(12))
    here = given[:, pc.PEDAL_CHANNEL]
    np.testing.assert_allclose(
        source.curves()[here, pc.PEDAL_CHANNEL], values[here, pc.PEDAL_CHANNEL], atol=1e-6
    )
    assert here.sum() > 90 and set(np.unique(values[here, pc.PEDAL_CHANNEL])) == {0, 1}


def test_the_rest_is_still_performed_and_keeps_its_average(score: Score, bundle: Bundle) -> None:
    plain, curved = (
        rendering(score, bundle),
        rendering(score, bundle, Drawn("tempo", ((0.0, 1.5), (5.0, 1.5)))),
    )
    at, heard = chord_tempo(curved, score)
    assert heard[at > 7].std() > 0.001
    _, before = chord_tempo(plain, score)
    assert abs(heard[at > 7].mean() - before[at > 7].mean()) < 0.05
    one, two = (
        rendering(score, bundle, Drawn("loudness", ((0.0, 50.0), (20.0, 60.0))), seed=s) for s in (1, 2)
    )
    assert np.abs(one.notes()[0]["onset_sec"] - two.notes()[0]["onset_sec"]).max() > 0.002


def test_the_network_is_shown_what_is_drawn(
    score: Score, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkontext.runtime import Graph

    seen: list[dict[str, np.ndarray]] = []
    call = Graph.__call__

    def spy(self: Graph, **inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return call(self, **inputs)

    take = rendering(score, bundle, Drawn("tempo", ((0.0, 1.2), (20.0, 1.2))))
    monkeypatch.setattr(Graph, "__call__", spy)
    take.notes()
    tempo = bundle.manifest.curves[pc.TEMPO]
    middle = seen[0]["known"][0, 10:100]
    assert middle[:, pc.TEMPO].all() and not middle[:, pc.LOUDNESS].any()
    shown = seen[0]["x"][0, 10:100, pc.TEMPO]
    np.testing.assert_allclose(shown, (np.log2(1.2) - tempo.mean) / tempo.std, rtol=1e-4)


def test_seconds_of_the_score_are_frames_at_any_tempo(score: Score) -> None:
    for tempo in (0.5, 1.0, 2.0):
        deadpan = deadpan_from_score(score, tempo, 4096 / 44100)
        values, given = drawn_frames((Drawn("pedal", ((5.0, 0.0), (15.0, 1.0))),), deadpan, np.zeros(12))
        at_ten = np.searchsorted(values[given[:, pc.PEDAL_CHANNEL], pc.PEDAL_CHANNEL], 0.5)
        first = np.flatnonzero(given[:, pc.PEDAL_CHANNEL])[0]
        row = np.argmin(np.abs(score.notes["onset_sec"] - 10.0))
        assert (first + at_ten) * deadpan.frame_sec == pytest.approx(deadpan.notes["onset_sec"][row], abs=0.1)


def test_bars_in_a_file(score: Score, tmp_path: Path) -> None:
    file = tmp_path / "curves.json"
    file.write_text(
        json.dumps({"tempo": [[1, 1.0], [2.5, 0.8]], "loudness": [[[1, 50], [2, 60]], [[3, 60], [4, 70]]]})
    )
    drawn = read_drawn(file, score)
    assert drawn[0] == Drawn("tempo", ((0.0, 1.0), (3.0, 0.8)))
    assert [d.name for d in drawn] == ["tempo", "loudness", "loudness"] and drawn[2].points[0] == (4.0, 60.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"tempo": 3}',
        '{"tempo": []}',
        '{"tempo": [[1, 1.0]]}',
        '{"swing": [[1, 1], [2, 1]]}',
        '{"tempo": [[0, 1], [2, 1]]}',
        '{"tempo": [[1, 9], [2, 1]]}',
        '{"tempo": [[2, 1], [1, 1]]}',
        '{"loudness": [[[1, 5], [4, 5]], [[3, 5], [6, 5]]]}',
        '{"pedal": [[1, NaN], [2, 0]]}',
    ],
)
def test_what_cannot_be_followed_is_one_clear_error(score: Score, tmp_path: Path, text: str) -> None:
    file = tmp_path / "curves.json"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_drawn(file, score)
    assert caught.value.code in ("drawn.file", "drawn.bars", "settings.drawn") and caught.value.hint


def test_settings_check_drawn_curves(score: Score, bundle: Bundle) -> None:
    with pytest.raises(InputError, match="no curve 'swing'"):
        rendering(score, bundle, Drawn("swing", ((0.0, 1.0), (1.0, 1.0))))


def test_nothing_drawn_changes_nothing(score: Score, bundle: Bundle) -> None:
    plain = rendering(score, bundle)
    other = replace(plain.settings, drawn=())
    assert np.array_equal(plain.notes()[0], open_rendering(score, bundle, other, threads=1).notes()[0])


def human_take(score: Score, path: Path) -> np.ndarray:
    """A performance of the score with a slow swing in tempo and loudness, as a MIDI file."""
    at = score.notes["onset_sec"]
    notes = np.zeros(len(at), NOTE)
    beat = np.cumsum(np.r_[0.5, np.diff(np.unique(at)) * 2 ** (0.4 * np.sin(np.arange(79) / 8))])
    notes["onset_sec"] = beat[np.searchsorted(np.unique(at), at)]
    notes["duration_sec"], notes["pitch"] = 0.2, score.notes["pitch"]
    notes["velocity"] = np.rint(70 + 30 * np.sin(at / 2)).astype(int)
    take = TakeNotes(score, np.arange(len(notes)), notes, np.zeros(0, PEDAL))
    write_midi(expressive_midi(take), path)
    return notes


def test_play_it_like_my_take(score: Score, bundle: Bundle, tmp_path: Path) -> None:
    mine = human_take(score, tmp_path / "mine.mid")

    def against(amount: float) -> tuple[float, float, float]:
        notes, _ = rendering(score, bundle, like=tmp_path / "mine.mid", like_amount=amount).notes()
        gaps = [np.diff(x["onset_sec"][::2]) for x in (notes, mine)]
        off = np.abs(notes["velocity"].astype(float) - mine["velocity"]).mean()
        return float(np.corrcoef(*gaps)[0, 1]), float(off), float(gaps[0].std())

    full, half, none = against(1.0), against(0.5), against(0.0)
    assert full[0] > 0.95 and full[1] < 3
    assert none[1] > half[1] > full[1] and none[2] < half[2] < full[2]
    plain = rendering(score, bundle).notes()[0]
    without = rendering(score, bundle, like=tmp_path / "mine.mid", like_amount=0.0).notes()[0]
    assert np.array_equal(plain, without)


def test_what_is_drawn_wins_over_what_is_imitated(score: Score, bundle: Bundle, tmp_path: Path) -> None:
    human_take(score, tmp_path / "mine.mid")
    drawn = Drawn("loudness", ((0.0, 40.0), (20.0, 40.0)))
    notes, _ = rendering(score, bundle, drawn, like=tmp_path / "mine.mid").notes()
    assert notes["velocity"].std() < 8 and abs(notes["velocity"].mean() - 40) < 6


def test_another_piece_is_no_take_of_this_one(score: Score, bundle: Bundle, tmp_path: Path) -> None:
    other = score.notes.copy()
    other["pitch"] = np.random.default_rng(0).integers(30, 90, len(other))
    human_take(replace(score, notes=np.unique(other)), tmp_path / "other.mid")
    with pytest.raises(InputError) as caught:
        rendering(score, bundle, like=tmp_path / "other.mid")
    assert caught.value.code == "match.other_piece" and caught.value.hint

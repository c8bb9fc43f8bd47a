"""The agreement of the voices: its measures know notes that fit from notes that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from pkontext import synth
from pkontext.expressive_midi import TakeNotes
from pkontext.score import score_from_notes
from pkontext.types import NOTE, PEDAL
from tests.conftest import REPOSITORY
from tests.test_evaluate import bundle, pack, performance  # noqa: F401  (fixtures)
from train import evaluate_voices as ev
from train.evaluate_audio import choose_excerpt

RATE = 44100
SPEC = synth.SynthSpec(REPOSITORY / "pkontext/data/FluidR3_piano.sf2")


def played(velocities: list[int]) -> np.ndarray:
    """Two-part chords, three a second, with these velocities."""
    notes = np.zeros(len(velocities), NOTE)
    place = np.arange(len(velocities))
    notes["onset_sec"] = 0.3 + 0.33 * (place // 2)
    notes["duration_sec"], notes["velocity"] = 0.3, velocities
    notes["pitch"] = np.where(place % 2, 72, 48) + place // 2 * 5 % 12
    return notes


def sound(notes: np.ndarray) -> np.ndarray:
    frames = round(RATE * (notes["onset_sec"].max() + 1.5))
    events = synth.events_from_notes(notes, None, RATE)
    return np.concatenate(list(synth.render(events, SPEC, frames)))[:, 0]


@pytest.fixture(scope="module")
def voices() -> ev.Voices:
    velocities = np.random.default_rng(4).permutation(np.linspace(25, 110, 24).astype(int))
    notes = played(velocities.tolist())
    take = TakeNotes(score_from_notes(notes), np.arange(len(notes)), notes, np.zeros(0, PEDAL))
    even = notes.copy()
    even["velocity"] = 64
    shuffled = notes.copy()
    shuffled["velocity"] = np.random.default_rng(7).permutation(notes["velocity"])
    audio = {"right": sound(notes), "shuffled": sound(shuffled)}
    return ev.Voices(take, RATE, audio, dict.fromkeys(audio, sound(even)))


def test_level_follows_velocity_and_not_pitch(voices: ev.Voices) -> None:
    hears_all = lambda audio, rate: voices.take.notes  # noqa: E731
    right = ev.measure_voice(voices, "right", hears_all)
    shuffled = ev.measure_voice(voices, "shuffled", hears_all)
    assert right["level rank"] > 0.9
    assert shuffled["level rank"] < 0.6


def test_onset_levels_are_decibels_over_the_reference(voices: ev.Voices) -> None:
    levels = ev.onset_levels(voices.audio["right"], voices.take.notes, RATE)
    halved = ev.onset_levels(voices.audio["right"] / 2, voices.take.notes, RATE)
    assert levels - halved == pytest.approx(np.full(len(levels), 20 * np.log10(2)), abs=1e-3)


def test_onsets_and_heard_velocities_are_measured_on_matched_notes(voices: ev.Voices) -> None:
    heard = voices.take.notes.copy()
    heard["onset_sec"] += 0.03
    heard["onset_sec"][:6] += 0.05  # 80 ms late: matched, not within 50 ms
    heard["velocity"] = 127 - heard["velocity"]
    heard = heard[:-4]  # the last ones are not heard
    result = ev.measure_voice(voices, "right", lambda audio, rate: heard)
    assert result["off ms"] == pytest.approx(30) and result["off 90 ms"] == pytest.approx(80)
    assert result["bias ms"] == pytest.approx(30)
    assert result["within"] == pytest.approx(14 / 24)
    assert result["velocity rank"] == pytest.approx(-1)
    assert len(result["scatter"]["off ms"]) == 20 and len(result["scatter"]["louder dB"]) == 24


def test_silence_has_no_numbers_and_no_zeros(voices: ev.Voices) -> None:
    result = ev.measure_voice(voices, "right", lambda audio, rate: np.zeros(0, NOTE))
    assert np.isnan(result["off ms"]) and np.isnan(result["velocity rank"]) and result["within"] == 0


def test_rank_correlation() -> None:
    rising = np.arange(8)
    assert ev.rank_correlation(rising, np.exp(rising)) == pytest.approx(1)
    assert ev.rank_correlation(rising, -(rising**3)) == pytest.approx(-1)
    assert np.isnan(ev.rank_correlation(rising, np.ones(8))) and np.isnan(
        ev.rank_correlation(rising[:2], rising[:2])
    )


@pytest.mark.usefixtures("pack")
def test_all_voices_of_a_take_are_rendered(performance: object, bundle: object) -> None:  # noqa: F811
    excerpt = choose_excerpt(performance, 3.0)  # type: ignore[arg-type]
    made = ev.render_voices(excerpt, bundle, 1, 1)  # type: ignore[arg-type]
    assert set(made.audio) == set(made.flat) == set(ev.LABELS)
    lengths = {len(audio) for audio in (*made.audio.values(), *made.flat.values())}
    assert max(lengths) - min(lengths) <= 4096 and len(made.take.notes) == len(excerpt.score_rows)
    assert not np.array_equal(made.audio["sampler"], made.flat["sampler"])


def result(off: float, rank: float) -> ev.Result:
    row = {"off ms": off, "off 90 ms": 2 * off, "within": 0.9, "velocity rank": rank, "level rank": rank}
    return {"piece": "a", "notes": 10, "rows": dict.fromkeys(ev.LABELS, row)}


def test_aims_are_met_or_missed() -> None:
    good, bad = (ev.report([result(*numbers)] * 2, 12.0) for numbers in ((39.0, 0.71), (41.0, 0.69)))
    assert "\n".join(good).count("| met |") == 3 and "\n".join(bad).count("| **missed** |") == 3
    mixed = ev.report([result(10, 0.9), result(30, 0.5), result(20, float("nan"))], 12.0)
    assert any("20.0 ± 5.8 (10.0 to 30.0)" in line and "(0.50 to 0.90)" in line for line in mixed)


def test_the_table_goes_between_its_own_marks(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.md"
    file.write_text(f"before\n<!-- table -->\n{ev.MARK[0]}\nold\n{ev.MARK[1]}\nafter\n")
    ev.write_between(file, "new")
    assert file.read_text() == f"before\n<!-- table -->\n{ev.MARK[0]}\nnew\n{ev.MARK[1]}\nafter\n"
    file.write_text("no marks")
    with pytest.raises(typer.BadParameter, match="voices:start"):
        ev.write_between(file, "new")
    assert file.read_text() == "no marks"


def test_results_are_kept_and_read_again(
    pack: Path,  # noqa: F811
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def measure(excerpt: object, bundle: object, seed: int, threads: int) -> ev.Result:  # noqa: F811
        calls.append(seed)
        return result(12.0, 0.8)

    monkeypatch.setattr(ev, "measure", measure)
    file = tmp_path / "e.md"
    file.write_text("\n".join(ev.MARK))
    for _ in range(2):
        ev.main(pack, toy_bundle, tmp_path / "out", "validation", 3, 4.0, 5, 1, file)
    assert calls == [5]
    (kept,) = (tmp_path / "out").rglob("*.json")
    assert (
        json.loads(kept.read_text())["rows"]["neural"]["off ms"] == 12 and "12.0 ms | met" in file.read_text()
    )
    with pytest.raises(typer.BadParameter, match="no pieces"):
        ev.main(pack, toy_bundle, tmp_path / "out", "nowhere", 3, 4.0, 5, 1, None)

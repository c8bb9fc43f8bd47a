"""The evaluation runs on a small pack with an untrained bundle, goes on where it stopped, hides nothing."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import typer

from pkontext.bundle import Bundle, open_bundle
from pkontext.types import NOTE
from train import asap, evaluate, evaluate_audio, evaluate_report
from train import evaluate_expression as ee

PLAYERS = ("Ada", "Bo", "Cy")
NOTES = 60


def write_notes(path: Path, notes: np.ndarray) -> None:
    """A MIDI file with the notes, a thousand ticks a second, and a pedal from 2 s to 4 s."""
    file = mido.MidiFile(ticks_per_beat=500)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    events = [(2.0, 1, "pedal", 127), (4.0, 1, "pedal", 0)]
    for n in notes:
        events.append((float(n["onset_sec"]), 2, int(n["pitch"]), int(n["velocity"])))
        events.append((float(n["onset_sec"] + n["duration_sec"]), 0, int(n["pitch"]), 0))
    now = 0
    for second, _, key, value in sorted(events, key=lambda e: e[:2]):
        delta = round(1000 * second) - now
        now += delta
        if key == "pedal":
            track.append(mido.Message("control_change", control=64, value=value, time=delta))
        else:
            track.append(mido.Message("note_on", note=key, velocity=value, time=delta))
    file.tracks.append(track)
    file.save(path)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One piece of two-part chords, played by three people at half the speed."""
    root = tmp_path_factory.mktemp("pack")
    folder = root / "Song"
    folder.mkdir()
    score = np.zeros(NOTES, NOTE)
    score["onset_sec"] = 0.5 + 0.25 * (np.arange(NOTES) // 2)
    score["duration_sec"], score["velocity"] = 0.24, 80
    score["pitch"] = np.where(np.arange(NOTES) % 2, 72, 48) + np.arange(NOTES) // 2 % 7
    write_notes(folder / "midi_score.mid", score)
    rows = []
    for number, player in enumerate(PLAYERS):
        played = score.copy()
        swing = 0.05 * np.sin(score["onset_sec"] * 2) + 0.02 * np.sin(score["onset_sec"] * (3 + number))
        played["onset_sec"] = np.round(2 * score["onset_sec"] + swing + 0.01 * (np.arange(NOTES) % 2), 3)
        played["duration_sec"] = 0.3
        played["velocity"] = 60 + 20 * np.sin(np.arange(NOTES) / 6 + 0.2 * number)
        wrong = np.array([(3.333, 0.1, 100, 40)], NOTE)
        write_notes(folder / f"{player}.mid", np.concatenate([played, wrong]))
        beats = 0.5 + 0.5 * np.arange(NOTES // 4)
        flags = {name: np.zeros(NOTES, np.uint8) for name in ("grace", "voice", "staff")}
        np.savez(
            folder / f"{player}.npz",
            score_onset=score["onset_sec"].astype("f4"),
            score_dur=score["duration_sec"].astype("f4"),
            perf_onset=played["onset_sec"].astype("f4"),
            perf_dur=played["duration_sec"].astype("f4"),
            pitch=score["pitch"],
            score_vel=score["velocity"],
            perf_vel=played["velocity"],
            beat_score=beats.astype("f4"),
            beat_perf=np.interp(beats, score["onset_sec"][::2], played["onset_sec"][::2]).astype("f4"),
            **flags,
        )
        rows.append(
            {
                "piece_id": "Song",
                "composer": "Bach",
                "performer": player,
                "split": "val",
                "score": "Song/midi_score.mid",
                "performance": f"Song/{player}.mid",
                "alignment": f"Song/{player}.npz",
                "perf_dur_s": "16",
                "match_rate_perf": f"{0.99 - 0.01 * number}",
            }
        )
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture(scope="module")
def performance(pack: Path) -> asap.Performance:
    return asap.pick(asap.read_index(pack, "val"), 1)[0]


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return open_bundle(toy_bundle)


@pytest.fixture(scope="module")
def results(performance: asap.Performance, bundle: Bundle) -> tuple[ee.Result, ee.Result]:
    humans = json.loads(json.dumps(ee.measure_humans(performance)))
    return humans, json.loads(json.dumps(evaluate.measure_expression(performance, bundle, 1, humans, 1)))


def test_humans_are_measured_against_each_other(results: tuple[ee.Result, ee.Result]) -> None:
    humans, _ = results
    assert humans["performers"] == list(PLAYERS)
    assert humans["tempo"] == pytest.approx(0.5, rel=0.02)
    assert 0.5 < humans["tempo r"] < 0.999 and humans["tempo consensus r"] > humans["tempo r"]
    assert 0.9 < humans["velocity r"] < 0.999
    assert humans["asynchrony median"] == pytest.approx(10, abs=0.1)
    assert humans["deadpan"]["tempo std"] == humans["deadpan"]["velocity std"] == 0


def test_a_take_is_measured_at_the_humans_tempo_on_the_humans_notes(
    results: tuple[ee.Result, ee.Result],
) -> None:
    humans, take = results
    assert take["duration ratio"] == pytest.approx(1, abs=0.2)
    assert len(take["curve"]) == len(humans["beats"]) - 1
    assert all(sum(values) == pytest.approx(1, abs=1e-4) for values in take["histograms"].values())
    assert -1 <= take["tempo r"] <= 1 and take["tempo consensus r"] != take["tempo r"]


def test_a_take_that_copies_the_humans_is_as_good_as_they_are(
    performance: asap.Performance, results: tuple[ee.Result, ee.Result]
) -> None:
    """The same notes give no divergence, whatever way they came."""
    humans, _ = results
    played = ee.human_played(performance)
    found = ee.em.histograms(played)
    for name, values in found.items():
        assert humans["histograms"][0][name] == pytest.approx(values, abs=1e-5)
    score = ee.load_score(performance.score)
    rows = {key: i for i, key in enumerate(ee.keys(score.notes["onset_sec"], score.notes["pitch"]))}
    notes = np.zeros(len(score.notes), NOTE)
    for key, note in zip(ee.keys(played.score_onset, played.notes["pitch"]), played.notes, strict=True):
        notes[rows[key]] = note
    again = ee.take_played(score, notes, played.pedals, played)
    assert np.array_equal(again.notes, played.notes)


def test_results_are_kept(
    performance: asap.Performance, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ([performance], bundle, [1, 2], tmp_path / "humans", tmp_path / "runs", 1)
    first = evaluate.run_expression(*arguments)
    (tmp_path / "runs" / "expression" / f"{performance.name}.seed2.json").unlink()
    made = []
    monkeypatch.setattr(evaluate, "measure_humans", lambda *_: pytest.fail("measured again"))
    real = evaluate.measure_expression
    monkeypatch.setattr(evaluate, "measure_expression", lambda *a: made.append(a[2]) or real(*a))
    second = evaluate.run_expression(*arguments)
    assert made == [2]
    timed = {"curve rtf": 0}
    assert [{**t, **timed} for t in first.takes[0]] == [{**t, **timed} for t in second.takes[0]]
    assert first.takes[0][0]["curve"] != first.takes[0][1]["curve"], "another seed is another take"


def test_the_name_of_results_depends_on_bundle_and_settings(bundle: Bundle) -> None:
    names = {
        evaluate.digest(bundle, {}),
        evaluate.digest(bundle, {"guidance": 3.0}),
        evaluate.digest(replace(bundle, sha256="0" * 64), {}),
    }
    assert len(names) == 3


def test_sampler_settings_are_read_by_their_types(bundle: Bundle) -> None:
    changes = evaluate.sampler_changes(["guidance=3", "curve_steps=4"])
    assert changes == {"guidance": 3.0, "curve_steps": 4} and isinstance(changes["curve_steps"], int)
    assert evaluate.with_sampler(bundle, **changes).manifest.sampler.curve_steps == 4
    assert bundle.manifest.sampler.guidance != 3
    with pytest.raises(typer.BadParameter, match="no sampler setting"):
        evaluate.sampler_changes(["guidence=3"])
    with pytest.raises(typer.BadParameter, match="no value for curve_steps"):
        evaluate.sampler_changes(["curve_steps=many"])


def test_missing_packages_name_the_next_step() -> None:
    with pytest.raises(typer.BadParameter, match=r"no_such_package.*pkontext\[evaluate\]"):
        evaluate.require(("json", "no_such_package"))


def test_the_human_excerpt_holds_what_was_played_there(performance: asap.Performance, bundle: Bundle) -> None:
    excerpt = evaluate_audio.choose_excerpt(performance, 6.0)
    human = evaluate_audio.human_sound(excerpt, bundle)
    wrong = 100 in human.notes["pitch"]
    assert len(human.notes) == len(excerpt.score_rows) + wrong
    assert len(excerpt.score_rows) == pytest.approx(24, abs=2)
    assert human.notes["onset_sec"][0] == pytest.approx(0.3)
    deadpan = evaluate_audio.deadpan_sound(excerpt, bundle)
    to, at = evaluate_audio.moments(human, deadpan)
    assert len(to) > 10 and np.all(np.diff(at) > 0)
    assert len(deadpan.audio) == pytest.approx(len(human.audio), rel=0.1)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_calls_are_counted_for_a_window(
    performance: asap.Performance, bundle: Bundle, guidance: float
) -> None:
    changed = ee.with_sampler(bundle, guidance=guidance, curve_steps=3, latent_steps=2)
    excerpt = evaluate_audio.choose_excerpt(performance, 3.0)
    sound = evaluate_audio.take_sound(excerpt, changed, "neural", 1, None, 1)
    assert sound.speed["curve calls"] == 3 * guidance
    assert sound.speed["latent calls"] == 2
    assert len(sound.notes) == len(excerpt.score_rows)


def test_the_tables_say_what_is_worse_than_deadpan(results: tuple[ee.Result, ee.Result]) -> None:
    humans, take = results
    bad = json.loads(json.dumps(take))
    bad["tempo r"], bad["velocity range"] = -0.2, 900.0
    bad["histograms"]["velocity"] = [1.0, *[0.0] * 31]
    found = evaluate_report.Expression([humans, humans], [[bad], [bad]])
    lines = {line.split("|")[1].strip(): line for line in evaluate_report.expression_table(found)[2:]}
    for name in ("beat tempo r with a human", "velocity 5–95 %"):
        assert "worse than deadpan" in lines[name], lines[name]
    assert len({line.count("|") for line in lines.values()}) == 1
    targets = evaluate_report.target_table(found, None)
    assert any("velocity" in line and "**missed**" in line for line in targets)


def row(name: str, f1: float, **more: object) -> ee.Result:
    """What `measure_row` returns, with one F1 for all."""
    scores = {"precision": f1, "recall": f1, "f1": f1}
    speed = {"curve calls": 16.0, "latent calls": 8.0, "rtf": 0.1} if "seed" in name else {}
    return {
        "row": name,
        "score": scores,
        "asked": scores | {"jitter_ms": 3.0},
        "log mel": 2.0,
        "speed": speed,
    } | more


def test_tables_of_audio_and_targets() -> None:
    rng = np.random.default_rng(0)
    names = {"deadpan": 0.95, "human": 0.97, "human-codec": 0.9, "sampler-seed1": 0.96, "neural-seed1": 0.78}
    excerpts = [[row(name, f1) for name, f1 in names.items()] for _ in range(3)]
    rows = evaluate_report.by_row(excerpts)
    vectors = {
        name: [rng.standard_normal((30, 4)) + 2 * (name == "neural") for _ in range(3)] for name in rows
    }
    notes = "\n".join(evaluate_report.note_table(rows, 12))
    assert "| **take, neural voice** | 0.780 | 0.780 | 0.780 ± 0.000 |" in notes
    assert [line for line in notes.split("\n") if "worse than deadpan" in line and "neural" in line]
    sound = evaluate_report.sound_table(rows, vectors)
    neural = next(line for line in sound if "neural" in line)
    assert "| 0.1 | 16 / 8 | Fréchet, kernel worse than deadpan |" in neural
    targets = evaluate_report.target_table(None, rows)
    assert "| 0.867 | **missed** |" in targets[2] and "| 0.780 | **missed** |" in targets[3]
    assert "| 16 | met |" in targets[4]


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "doc.md"
    file.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n", encoding="utf-8")
    evaluate.write_between_marks(file, "new")
    assert file.read_text(encoding="utf-8") == "before\n<!-- table -->\nnew\n<!-- /table -->\nafter\n"


def test_images_are_linked_as_seen_from_the_document(tmp_path: Path) -> None:
    files = {tmp_path / "docs" / "images" / "a.png": "Best case"}
    assert evaluate.image_lines(files, tmp_path / "docs" / "evaluation.md") == ["![Best case](images/a.png)"]


def test_figures_are_drawn(
    performance: asap.Performance, bundle: Bundle, results: tuple[ee.Result, ee.Result], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    from train import evaluate_figures

    humans, take = results
    found = evaluate_report.Expression([humans], [[take, take]])
    files = evaluate_figures.draw_tempo_curves(found, tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sampler-seed1", "neural-seed1"):
        soundfile.write(tmp_path / f"{name}.flac", 0.1 * rng.standard_normal(44100), 44100)
    rows = [row("neural-seed1", 0.8, piece="Song"), row("sampler-seed1", 0.9, piece="Song")]
    files |= evaluate_figures.draw_spectrograms([(tmp_path, rows)], tmp_path)
    assert len(files) == 4
    assert all(Image.open(path).size[0] >= 800 for path in files)


def test_notes_are_matched_with_the_score_whatever_their_timing(performance: asap.Performance) -> None:
    if importlib.util.find_spec("parangonar") is None:  # importing it from here would download a soundfont
        pytest.skip("parangonar is not installed")
    from train.score_match import score_match_scores

    score = ee.load_score(performance.score)
    played = np.sort(ee.human_played(performance).notes, order="onset_sec")
    assert score_match_scores(score.notes, score.ticks_per_quarter, played)["f1"] == 1
    half = score_match_scores(score.notes, score.ticks_per_quarter, played[: NOTES // 2])
    assert half["precision"] == 1 and half["recall"] == pytest.approx(0.5)
    other = played.copy()
    other["pitch"] += 1
    other["pitch"][::4] -= 1
    assert score_match_scores(score.notes, score.ticks_per_quarter, other)["f1"] < 0.75
    assert score_match_scores(score.notes, score.ticks_per_quarter, played[:0])["f1"] == 0

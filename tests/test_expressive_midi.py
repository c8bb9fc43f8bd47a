"""A take as a MIDI file: the seconds of a performance, on a fixed grid or on the score's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest

from pkontext import cli
from pkontext.errors import RenderError
from pkontext.expressive_midi import FORMS, TakeNotes, expressive_midi, score_offset_sec, write_midi
from pkontext.score import load_score, score_from_notes
from pkontext.types import NOTE, PEDAL

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def take(seed: int = 0, chords: int = 60, rubato: float = 0.35, lead: float = 0.4) -> TakeNotes:
    """Chords of three notes in eighths, played with rubato, spread and pedal."""
    rng = np.random.default_rng(seed)
    onset = np.repeat(np.arange(chords) * 0.25, 3)
    notes = np.zeros(len(onset), NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["velocity"] = onset, 0.24, 64
    notes["pitch"] = np.tile([48, 60, 67], chords) + np.repeat(rng.integers(-5, 6, chords), 3)
    score = score_from_notes(notes)
    performed = np.zeros(len(score.notes), NOTE)
    beat = lead + np.concatenate([[0], np.cumsum(0.25 * 2 ** rng.normal(0, rubato, chords - 1))])
    chord = np.searchsorted(np.unique(score.notes["onset_tick"]), score.notes["onset_tick"])
    performed["onset_sec"] = np.maximum(beat[chord] + rng.normal(0, 0.012, len(chord)), 0)
    performed["duration_sec"] = rng.uniform(0.05, 0.8, len(chord))
    performed["pitch"], performed["velocity"] = score.notes["pitch"], rng.integers(20, 110, len(chord))
    pedals = np.zeros(chords, PEDAL)
    pedals["time_sec"], pedals["value"] = (
        np.sort(rng.uniform(0, beat[-1], chords)),
        rng.integers(0, 128, chords),
    )
    rows = np.arange(len(score.notes))
    return TakeNotes(score, rows, performed, pedals, ("seed=7", "bundle=piano-small 3 abcdef"))


def sounded(path: Path) -> np.ndarray:
    """Notes of a file by mido's own clock."""
    rows, held, now = [], {}, 0.0
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "note_on" and message.velocity:
            assert message.note not in held, "struck again before it was released"
            held[message.note] = (now, message.velocity)
        elif message.type in ("note_off", "note_on"):
            start, velocity = held.pop(message.note)
            rows.append((start, now - start, message.note, velocity))
    assert not held, "hanging notes"
    notes = np.array(rows, NOTE)
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


def in_order(notes: np.ndarray) -> np.ndarray:
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


@pytest.mark.parametrize("form", ["fixed", "score"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_file_sounds_at_the_takes_seconds(tmp_path: Path, form: str, seed: int) -> None:
    made = take(seed)
    write_midi(expressive_midi(made, form), tmp_path / "take.mid")
    found = sounded(tmp_path / "take.mid")
    offset = score_offset_sec(made) if form == "score" else 0.0
    want = in_order(made.notes)
    assert len(found) == len(want)
    by_key = lambda notes: notes[np.lexsort((notes["onset_sec"], notes["pitch"]))]  # noqa: E731
    found, want = by_key(found), by_key(want)
    np.testing.assert_array_equal(found["pitch"], want["pitch"])
    np.testing.assert_array_equal(found["velocity"], want["velocity"])
    assert np.abs(found["onset_sec"] + offset - want["onset_sec"]).max() < 0.0006
    again = np.append(np.diff(want["pitch"]) == 0, False)
    latest = np.where(again, np.append(want["onset_sec"][1:], 0), np.inf)
    end = np.minimum(want["onset_sec"] + want["duration_sec"], latest)
    assert np.abs(found["onset_sec"] + found["duration_sec"] + offset - end).max() < 0.0015


def test_the_score_form_keeps_chords_on_their_ticks(tmp_path: Path) -> None:
    made = take()
    file = expressive_midi(made, "score")
    write_midi(file, tmp_path / "take.mid")
    scale = file.ticks_per_beat // made.score.ticks_per_quarter
    assert file.ticks_per_beat == scale * made.score.ticks_per_quarter
    tempo_ticks, now = [], 0
    for message in file.tracks[0]:
        now += message.time
        if message.type == "set_tempo":
            tempo_ticks.append(now)
    assert tempo_ticks == (np.unique(made.score.notes["onset_tick"]) * scale).tolist()
    back = load_score(tmp_path / "take.mid")
    # The median of each chord is on its tick; notes beside it are off by their asynchrony alone.
    eighth = made.score.ticks_per_quarter * scale // 2
    nearest = np.rint(back.notes["onset_tick"] / eighth) * eighth
    assert np.median(np.abs(back.notes["onset_tick"] - nearest)) / eighth < 0.06


def test_texts_tell_where_the_take_comes_from(tmp_path: Path) -> None:
    for form in ("fixed", "score"):
        write_midi(expressive_midi(take(), form), tmp_path / "take.mid")
        texts = [m.text for m in mido.MidiFile(tmp_path / "take.mid").tracks[0] if m.type == "text"]
        assert texts[:2] == ["seed=7", "bundle=piano-small 3 abcdef"] and f"form={form}" in texts[2]


def test_the_pedal_is_lifted_at_the_end(tmp_path: Path) -> None:
    made = take()
    made.pedals["value"][-1] = 127
    write_midi(expressive_midi(made), tmp_path / "take.mid")
    values = [m.value for m in mido.MidiFile(tmp_path / "take.mid") if m.type == "control_change"]
    assert values[-1] == 0 and values[:-1] == made.pedals["value"].tolist()


def test_a_single_note_and_a_late_start(tmp_path: Path) -> None:
    made = take()
    for rows in ([0], [5], list(range(30, 60))):
        part = TakeNotes(made.score, np.array(rows), made.notes[rows], made.pedals[:0])
        for form in ("fixed", "score"):
            write_midi(expressive_midi(part, form), tmp_path / "take.mid")
            assert len(sounded(tmp_path / "take.mid")) == len(rows)


def test_unknown_form_and_interrupted_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="fixed, score"):
        expressive_midi(take(), "both")
    target = tmp_path / "take.mid"
    target.write_bytes(b"precious")

    def fails(self: mido.MidiFile, name: Path) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(mido.MidiFile, "save", fails)
    with pytest.raises(RenderError, match="disk full"):
        write_midi(expressive_midi(take()), target)
    assert target.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [target]


def test_the_command_line_writes_notes_beside_audio_or_alone(run_cli: Run, tmp_path: Path) -> None:
    assert cli.MIDI_FORMS == FORMS
    notes = np.zeros(12, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(12) * 0.3, 0.25
    notes["pitch"], notes["velocity"] = 60 + np.arange(12), 64
    write_midi(
        expressive_midi(TakeNotes(score_from_notes(notes), np.arange(12), notes, np.zeros(0, PEDAL))),
        tmp_path / "in.mid",
    )
    alone = run_cli("render", "in.mid", "-o", "alone.mid", "--midi-form", "score", "--seed", "3")
    both = run_cli(
        "render", "in.mid", "-o", "a.wav", "--midi", "beside.mid", "--voice", "sampler", "--seed", "3"
    )
    assert alone.returncode == both.returncode == 0, alone.stderr + both.stderr
    first, second = sounded(tmp_path / "alone.mid"), sounded(tmp_path / "beside.mid")
    assert len(first) == len(second) == 12
    np.testing.assert_allclose(np.diff(first["onset_sec"]), np.diff(second["onset_sec"]), atol=0.0012)
    texts = [m.text for m in mido.MidiFile(tmp_path / "alone.mid").tracks[0] if m.type == "text"]
    assert "seed=3" in texts and any(text.startswith("bundle=") for text in texts)
    json_lines = run_cli("render", "in.mid", "-o", "x.mid", "--midi", "y.mid", "--json").stdout.splitlines()
    assert [json.loads(line)["event"] for line in json_lines][-2:] == ["midi", "done"]
    assert (tmp_path / "x.mid").read_bytes() == (tmp_path / "y.mid").read_bytes()
    again = run_cli("render", "in.mid", "-o", "alone.mid")
    assert again.returncode == 3 and b"--force" in again.stderr
    assert run_cli("render", "in.mid", "-o", "x.mid", "--midi-form", "bars").returncode == 2

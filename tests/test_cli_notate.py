"""``pkontext notate``: what it writes, shows and refuses; what was played stays as it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pkontext.captured import CONTROL_EVENT, Captured, save_captured
from pkontext.cli_notate import parse_divisions, parse_split, shifts
from pkontext.imitate import read_performance
from pkontext.quantise import QuantiseSettings, quantise
from pkontext.score import load_score
from pkontext.types import NOTE, PEDAL

Run = Callable[..., subprocess.CompletedProcess[bytes]]
METRONOME = ("--bpm", "100", "--first-beat", "1", "--beats", "4")


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """Four bars of 4/4 at 100 beats a minute from second 1 on, 12 ms uneven, as ``pkontext record`` saves."""
    rng = np.random.default_rng(4)
    rows = [(0.5 * n, 0.45, 72 + (0, 4, 7, 4, 5, 9, 7, 2)[n % 8]) for n in range(32)]
    rows += [(2.0 * n, 1.9, pitch) for n in range(8) for pitch in (48, 52, 55)]
    notes = np.zeros(len(rows), NOTE)
    onset, held, pitch = (np.array(column) for column in zip(*rows, strict=True))
    notes["onset_sec"] = 1.0 + 0.6 * onset + rng.normal(0, 0.012, len(rows))
    notes["duration_sec"], notes["pitch"], notes["velocity"] = 0.6 * held, pitch, 40
    notes["velocity"][notes["onset_sec"] > 5.5] = 90
    notes = notes[np.argsort(notes["onset_sec"])]
    path = tmp_path / "played.mid"
    save_captured(Captured(notes, np.zeros(0, PEDAL), np.zeros(0, CONTROL_EVENT), 0.0, 12.0), path)
    return path


def last(done: subprocess.CompletedProcess[bytes]) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


def test_a_score_is_written_and_the_playing_kept(run_cli: Run, played: Path, tmp_path: Path) -> None:
    before = played.read_bytes()
    done = run_cli("notate", played, "-o", "score.mid", *METRONOME, "--json")
    assert done.returncode == 0, done.stderr
    event = last(done)
    assert event["event"] == "done" and event["output"] == str(tmp_path / "score.mid")
    assert (event["tempo_bpm"], event["meter"], event["bars"], event["notes"]) == (100, "4/4", 4, 56)
    assert event["merged"] == event["left_out"] == 0
    assert event["moved"] > 0.8 and event["mean_shift_ms"] == pytest.approx(12 * 0.8, abs=3)
    score = load_score(tmp_path / "score.mid")
    melody = score.notes[score.notes["pitch"] >= 60]
    assert melody["onset_tick"].tolist() == [480 * n for n in range(32)]
    assert set(score.notes["velocity"]) == {64} and len(set(score.notes["track"])) == 2
    assert played.read_bytes() == before

    again = run_cli("notate", played, "-o", "score.mid", "--json")
    assert again.returncode == 3 and last(again)["code"] == "output.exists"
    assert run_cli("notate", played, "-o", "score.mid", "--force").returncode == 0
    itself = run_cli("notate", played, "-o", f"../{tmp_path.name}/played.mid", "--force", "--json")
    assert itself.returncode == 3 and last(itself)["code"] == "notate.same_file"
    assert played.read_bytes() == before


def test_every_option_reaches_the_score(run_cli: Run, played: Path, tmp_path: Path) -> None:
    options = ("--divisions", "1", "--split", "A4", "--keep-dynamics", "--follow-tempo")
    assert run_cli("notate", played, "-o", "s.mid", "--bpm", "100", *options).returncode == 0
    score = load_score(tmp_path / "s.mid")
    assert set(score.notes["onset_tick"] % 960) == {0} and len(set(score.notes["velocity"])) > 1
    assert len(score.tempi) > 4
    high = score.notes["pitch"] >= 69
    assert len(set(score.notes["track"][high])) == len(set(score.notes["track"][~high])) == 1
    assert run_cli("notate", played, "-o", "t.mid", *METRONOME, "--strength", "0", "--json").returncode == 0
    notes = load_score(tmp_path / "t.mid").notes
    gaps = np.diff(notes["onset_sec"]) - np.diff(read_performance(played)[0]["onset_sec"])
    assert np.abs(gaps[4:]).max() < 0.002  # as it was played, but for what came before the first bar line


def test_a_preview_writes_nothing(run_cli: Run, played: Path, tmp_path: Path) -> None:
    done = run_cli("notate", played, "--preview", "-o", "score.mid", *METRONOME)
    shown = done.stdout.decode()
    assert done.returncode == 0 and [file.name for file in tmp_path.iterdir()] == ["played.mid"]
    rows = [line.split() for line in shown.splitlines()]
    assert ["1", "1.00", "C3", "left"] in [row[:4] for row in rows]
    assert ["1", "1.50", "E5", "right"] in [row[:4] for row in rows]
    assert sum(row[3:4] in (["left"], ["right"]) for row in rows) == 40
    assert "and 16 more notes" in shown and "100.0 beats a minute" in shown
    every = last(run_cli("notate", played, "--preview", *METRONOME, "--json"))
    assert every["event"] == "preview" and len(every["rows"]) == 56 and every["meter"] == "4/4"


def test_a_change_of_tempo_is_no_shift(played: Path) -> None:
    notes, pedals = read_performance(played)
    notes["onset_sec"] += 0.02 * (notes["onset_sec"] - 1.0) ** 2  # slows down from 100 to 70
    for constant in (True, False):
        settings = QuantiseSettings(tempo_bpm=85, beats_per_bar=4, constant_tempo=constant)
        assert np.abs(shifts(quantise(notes, pedals, settings), notes)).max() < 0.08
    # Beats need not reach as far as notes: a metronome that starts later.
    late = quantise(notes, pedals, QuantiseSettings(tempo_bpm=60, first_beat_sec=9.0))
    assert np.abs(shifts(late, notes)).max() < 0.3


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-o", "score.wav"),
        ("-o", "s.mid", "--beats", "5"),
        ("-o", "s.mid", "--divisions", "a,b"),
        ("-o", "s.mid", "--split", "H4"),
        ("-o", "s.mid", "--strength", "2"),
        ("-o", "s.mid", "--first-beat", "soon"),
    ],
)
def test_usage_errors_exit_with_2(run_cli: Run, played: Path, arguments: tuple[str, ...]) -> None:
    assert run_cli("notate", played, *arguments).returncode == 2


def test_what_cannot_be_notated(run_cli: Run, played: Path) -> None:
    missing = run_cli("notate", "missing.mid", "-o", "s.mid", "--json")
    assert missing.returncode == 3 and last(missing)["code"] == "midi.missing"
    parts = run_cli("notate", played, "-o", "s.mid", "--divisions", "5", "--json")
    assert (
        parts.returncode == 3 and last(parts)["code"] == "quantise.settings" and "12" in last(parts)["hint"]
    )


def test_texts_of_options() -> None:
    assert parse_divisions("1, 2,4") == (1, 2, 4)
    assert [parse_split(text) for text in ("found", "none", "60", "C4", "bb3", "F#-1", "G9")] == [
        "found", "none", 60, 60, 58, 6, 127,
    ]  # fmt: skip
    for text in ("128", "G#9", "Cb-1", "left", ""):
        with pytest.raises(ValueError, match="not found, none"):
            parse_split(text)

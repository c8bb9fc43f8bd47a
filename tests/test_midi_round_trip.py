"""The expressive MIDI in other readers' hands: mido, symusic and partitura all hear the take's seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import symusic

from pkontext.expressive_midi import FORMS, TakeNotes, expressive_midi, score_offset_sec, write_midi
from pkontext.types import NOTE, PEDAL
from tests.test_expressive_midi import in_order, sounded, take

Reader = Callable[[Path], tuple[np.ndarray, np.ndarray]]


def by_mido(path: Path) -> tuple[np.ndarray, np.ndarray]:
    now, pedals = 0.0, []
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "control_change" and message.control == 64:
            pedals.append((now, message.value))
    return sounded(path), np.array(pedals, PEDAL)


def by_symusic(path: Path) -> tuple[np.ndarray, np.ndarray]:
    score = symusic.Score(path).to("Second")
    notes = np.array(
        [(n.time, n.duration, n.pitch, n.velocity) for track in score.tracks for n in track.notes], NOTE
    )
    pedals = [(c.time, c.value) for track in score.tracks for c in track.controls if c.number == 64]
    return in_order(notes), np.array(sorted(pedals), PEDAL)


def by_partitura(path: Path) -> tuple[np.ndarray, np.ndarray]:
    partitura = _partitura()
    part = partitura.load_performance_midi(path, merge_tracks=True).performedparts[0]
    notes = np.array(
        [(n["note_on"], n["note_off"] - n["note_on"], n["midi_pitch"], n["velocity"]) for n in part.notes],
        NOTE,
    )
    pedals = [(c["time"], c["value"]) for c in part.controls if c["number"] == 64]
    return in_order(notes), np.array(sorted(pedals), PEDAL)


def _partitura() -> Any:
    """Partitura, which downloads a soundfont while it is imported where it finds the fluidsynth package."""
    hidden = sys.modules.get("fluidsynth")
    sys.modules["fluidsynth"] = None  # type: ignore[assignment]
    try:
        import partitura
    finally:
        del sys.modules["fluidsynth"]
        if hidden is not None:
            sys.modules["fluidsynth"] = hidden
    return partitura


READERS: dict[str, Reader] = {"mido": by_mido, "symusic": by_symusic, "partitura": by_partitura}


def separate(made: TakeNotes) -> TakeNotes:
    """The take with every key released before it is struck again, so that readers cannot pair differently."""
    notes = made.notes.copy()
    for key in np.unique(notes["pitch"]):
        rows = np.flatnonzero(notes["pitch"] == key)
        rows = rows[np.argsort(notes["onset_sec"][rows], kind="stable")]
        gap = np.diff(notes["onset_sec"][rows]) - 0.005
        notes["duration_sec"][rows[:-1]] = np.clip(
            notes["duration_sec"][rows[:-1]], 0.002, np.maximum(gap, 0.002)
        )
    return TakeNotes(made.score, made.rows, notes, made.pedals, made.texts)


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("form", FORMS)
def test_every_reader_hears_the_take_within_a_millisecond(tmp_path: Path, form: str, reader: str) -> None:
    made = separate(take(3, chords=120, rubato=0.5))
    path = tmp_path / "take.mid"
    write_midi(expressive_midi(made, form), path)
    offset = score_offset_sec(made) if form == "score" else 0.0
    found, pedals = READERS[reader](path)
    by_key = lambda notes: notes[np.lexsort((notes["onset_sec"], notes["pitch"]))]  # noqa: E731
    found, want = by_key(found), by_key(made.notes)
    assert np.array_equal(found["pitch"], want["pitch"])
    assert np.array_equal(found["velocity"], want["velocity"])
    assert np.abs(found["onset_sec"] + offset - want["onset_sec"]).max() <= 0.001
    end = found["onset_sec"] + found["duration_sec"] + offset
    assert np.abs(end - want["onset_sec"] - want["duration_sec"]).max() <= 0.001
    late = made.pedals["time_sec"] >= offset
    assert np.array_equal(pedals["value"][: late.sum()], made.pedals["value"][late])
    assert np.abs(pedals["time_sec"][: late.sum()] + offset - made.pedals["time_sec"][late]).max() <= 0.001


@pytest.mark.parametrize("form", FORMS)
def test_the_readers_agree_with_each_other(tmp_path: Path, form: str) -> None:
    """Also where keys are struck again before they are released."""
    path = tmp_path / "take.mid"
    write_midi(expressive_midi(take(5), form), path)
    heard = {name: reader(path)[0] for name, reader in READERS.items()}
    for name in ("symusic", "partitura"):
        assert len(heard[name]) == len(heard["mido"])
        for field in ("pitch", "velocity"):
            assert np.array_equal(heard[name][field], heard["mido"][field]), name
        assert np.abs(heard[name]["onset_sec"] - heard["mido"]["onset_sec"]).max() <= 0.001
        assert np.abs(heard[name]["duration_sec"] - heard["mido"]["duration_sec"]).max() <= 0.001


def test_other_programs_find_the_texts_and_the_bars(tmp_path: Path) -> None:
    made = take()
    path = tmp_path / "take.mid"
    write_midi(expressive_midi(made, "score"), path)
    score = symusic.Score(path)
    scale = score.ticks_per_quarter // made.score.ticks_per_quarter
    assert [(s.time, s.numerator, s.denominator) for s in score.time_signatures] == [
        (int(m["tick"]) * scale, int(m["numerator"]), int(m["denominator"])) for m in made.score.meters
    ]
    assert len(score.tempos) == len(np.unique(made.score.notes["onset_tick"]))
    texts = [m.text for m in mido.MidiFile(path).tracks[0] if m.type == "text"]
    assert texts[:2] == list(made.texts)

"""A performance read as curves: what is given, where, and that it comes back."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from pkontext import curves as pc
from pkontext.deadpan import DeadpanScore, deadpan_from_score
from pkontext.errors import InputError
from pkontext.imitate import imitated_curves, read_performance
from pkontext.score import score_from_notes
from pkontext.types import NOTE, PEDAL
from tests.conftest import write_midi
from tests.test_match import piece

FRAME_SEC = 4096 / 44100


@pytest.fixture(scope="module")
def deadpan() -> DeadpanScore:
    return deadpan_from_score(score_from_notes(piece()), 1.0, FRAME_SEC)


def known_curves(frames: int) -> np.ndarray:
    """Slow waves in every channel, other ones in each."""
    at = np.arange(frames)[:, None] * FRAME_SEC
    wave = np.sin(2 * np.pi * at / np.linspace(9, 23, len(pc.CHANNELS)) + np.arange(len(pc.CHANNELS)))
    size = np.array([0.5, *[20.0] * 4, *[0.01] * 4, *[0.3] * 2, 0.5])
    middle = np.array([0.0, *[64.0] * 4, *[0.0] * 4, *[-0.3] * 2, 0.5])
    return (middle + size * wave).astype(np.float32)


def perform(deadpan: DeadpanScore, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    time_map = pc.time_map_from_tempo(curves[:, pc.TEMPO], FRAME_SEC)
    notes = pc.notes_from_curves(deadpan.notes, curves, FRAME_SEC, time_map)
    return notes, pc.pedals_from_curves(curves, time_map, FRAME_SEC)


@pytest.mark.parametrize("pace", [1.0, 2.0, 0.5])
def test_what_was_played_comes_back(deadpan: DeadpanScore, pace: float) -> None:
    """The curves of a performance made from curves are these, whatever its average tempo and start."""
    wanted = known_curves(deadpan.frames)
    notes, pedals = perform(deadpan, wanted)
    notes["onset_sec"] = notes["onset_sec"] * pace + 40
    notes["duration_sec"] *= pace
    pedals["time_sec"] = pedals["time_sec"] * pace + 40
    curves, given = imitated_curves(deadpan, notes, pedals)
    assert curves.dtype == np.float32 and curves.shape == given.shape == wanted.shape
    tempo = given[:, pc.TEMPO]
    assert np.corrcoef(curves[tempo, pc.TEMPO], wanted[tempo, pc.TEMPO])[0, 1] > 0.95
    loudness = given[:, pc.LOUDNESS]
    again, _ = perform(deadpan, np.where(given, curves, wanted))
    inside = slice(4, -4)
    assert np.abs(again["velocity"][inside] * 1.0 - notes["velocity"][inside]).mean() < 3
    assert loudness[tempo].all()
    pedal = given[:, pc.PEDAL_CHANNEL]
    assert np.abs(curves[pedal, pc.PEDAL_CHANNEL] - wanted[pedal, pc.PEDAL_CHANNEL]).mean() < 0.06


def test_the_average_tempo_stays_the_users(deadpan: DeadpanScore) -> None:
    wanted = known_curves(deadpan.frames)
    wanted[:, pc.TEMPO] += 0.7
    curves, given = imitated_curves(deadpan, *perform(deadpan, wanted))
    tempo = curves[given[:, pc.TEMPO], pc.TEMPO]
    assert np.exp2(-tempo).mean() == pytest.approx(1.0, abs=0.01)


def test_only_the_phrase_that_was_played_is_given(deadpan: DeadpanScore) -> None:
    notes, pedals = perform(deadpan, known_curves(deadpan.frames))
    rows = slice(120, 220)
    curves, given = imitated_curves(deadpan, notes[rows], pedals)
    first, last = deadpan.notes["onset_sec"][[120, 219]] / FRAME_SEC
    frames = np.flatnonzero(given[:, pc.TEMPO])
    assert first - 1 <= frames[0] <= first + 1 and last - 1 <= frames[-1] <= last + 1
    assert np.diff(frames).max() == 1
    assert not curves[~given].any()


def test_without_a_pedal_in_the_performance_none_is_given(deadpan: DeadpanScore) -> None:
    notes, _ = perform(deadpan, known_curves(deadpan.frames))
    _, given = imitated_curves(deadpan, notes, np.zeros(0, PEDAL))
    assert not given[:, pc.PEDAL_CHANNEL].any() and given[:, pc.TEMPO].any()


def test_a_stop_and_a_restart_are_not_a_slow_tempo(deadpan: DeadpanScore) -> None:
    wanted = known_curves(deadpan.frames)
    notes, pedals = perform(deadpan, wanted)
    again = notes[160:].copy()
    again["onset_sec"] += notes["onset_sec"][200] - again["onset_sec"][0] + 6.0
    curves, given = imitated_curves(deadpan, np.concatenate([notes[:200], again]), pedals)
    tempo = given[:, pc.TEMPO]
    assert curves[tempo, pc.TEMPO].min() > -1.0
    assert np.corrcoef(curves[tempo, pc.TEMPO], wanted[tempo, pc.TEMPO])[0, 1] > 0.95
    assert tempo.sum() > 0.95 * np.ptp(deadpan.notes["onset_sec"]) / FRAME_SEC


def test_another_piece_and_a_single_chord_are_refused(deadpan: DeadpanScore) -> None:
    with pytest.raises(InputError, match="of this piece"):
        imitated_curves(deadpan, piece(seed=9), np.zeros(0, PEDAL))
    with pytest.raises(InputError) as raised:
        imitated_curves(deadpan, deadpan.notes[:4], np.zeros(0, PEDAL))
    assert raised.value.code == "imitate.too_short"


def test_notes_and_pedal_are_read_from_a_file(tmp_path: Path) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    tempi, hands = mido.MidiTrack(), mido.MidiTrack()
    tempi.append(mido.MetaMessage("set_tempo", tempo=500_000))
    tempi.append(mido.MetaMessage("set_tempo", tempo=1_000_000, time=480))
    hands.append(mido.Message("note_on", note=60, velocity=50))
    hands.append(mido.Message("control_change", control=64, value=100, time=240))
    hands.append(mido.Message("control_change", control=67, value=127))
    hands.append(mido.Message("note_off", note=60, time=240))
    hands.append(mido.Message("note_on", note=64, velocity=90))
    hands.append(mido.Message("control_change", control=64, value=0, time=240))
    hands.append(mido.Message("control_change", channel=9, control=64, value=9))
    hands.append(mido.Message("note_off", note=64, time=240))
    file.tracks += [tempi, hands]
    file.save(str(tmp_path / "take.mid"))
    notes, pedals = read_performance(tmp_path / "take.mid")
    assert notes.dtype == NOTE and pedals.dtype == PEDAL
    assert notes["onset_sec"] == pytest.approx([0.0, 0.5]) and notes["velocity"].tolist() == [50, 90]
    assert notes["duration_sec"] == pytest.approx([0.5, 1.0])
    assert pedals["time_sec"] == pytest.approx([0.25, 1.0]) and pedals["value"].tolist() == [100, 0]


def test_a_file_that_is_no_performance_is_refused_and_one_without_pedal_is_not(tmp_path: Path) -> None:
    (tmp_path / "text.mid").write_text("no notes here")
    for name, code in (("text.mid", "midi.not_midi"), ("none.mid", "midi.missing")):
        with pytest.raises(InputError) as raised:
            read_performance(tmp_path / name)
        assert raised.value.code == code
    notes, pedals = read_performance(write_midi(tmp_path / "plain.mid", [(60, 240), (62, 240)]))
    assert len(notes) == 2 and len(pedals) == 0

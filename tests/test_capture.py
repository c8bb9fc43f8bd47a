"""Captured notes: takes, the last five minutes, held keys at both borders, pedals, MIDI files."""

from __future__ import annotations

import time
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext.capture import Recorder
from pkontext.captured import captured_from_events, captured_midi, save_captured
from pkontext.errors import InputError
from pkontext.score import load_score


def on(key: int, velocity: int = 64, channel: int = 0) -> bytes:
    return bytes((0x90 | channel, key, velocity))


def off(key: int, channel: int = 0) -> bytes:
    return bytes((0x80 | channel, key, 0))


def pedal(value: int, control: int = 64) -> bytes:
    return bytes((0xB0, control, value))


def recorder(events: list[tuple[float, bytes]], begin: float | None = None) -> Recorder:
    """A recorder that was fed; with ``begin``, a take runs from there."""
    made = Recorder()
    if begin is not None:
        made.start(begin)
    for when, data in events:
        made.feed(when, data)
    return made


def test_a_take_holds_notes_velocities_and_pedal() -> None:
    events = [(10.5, on(60, 80)), (10.6, pedal(127)), (11.0, off(60)), (11.25, on(64, 1)), (11.5, off(64))]
    captured = recorder([*events, (11.75, pedal(40))], 10.0).stop(12.0)
    assert captured.notes.tolist() == [(0.5, 0.5, 60, 80), (1.25, 0.25, 64, 1)]
    assert captured.pedals["value"].tolist() == [127, 40]  # half pedals as they were
    np.testing.assert_allclose(captured.pedals["time_sec"], [0.6, 1.75])
    assert captured.duration_sec == 2.0 and captured.dropped == 0
    assert abs(captured.started - (time.time() - time.monotonic() + 10)) < 0.1


def test_what_is_held_when_a_take_ends_ends_there() -> None:
    captured = recorder([(10.5, on(60)), (11.0, on(64))], 10.0).stop(12.0)
    assert captured.notes["duration_sec"].tolist() == [1.5, 1.0]


def test_a_take_never_mixes_with_one_before() -> None:
    made = recorder([(10.5, on(60)), (10.7, on(62))], 10.0)
    first = made.stop(11.0)
    made.start(12.0)
    made.feed(12.2, off(60))  # still down from before
    made.feed(12.5, on(67))
    second = made.stop(13.0)
    assert first.notes["pitch"].tolist() == [60, 62] and second.notes["pitch"].tolist() == [67]


def test_a_new_start_drops_the_running_take() -> None:
    made = recorder([(10.5, on(60))], 10.0)
    made.start(11.0)
    assert len(made.stop(12.0).notes) == 0


def test_stopping_what_was_not_started_is_an_error() -> None:
    with pytest.raises(InputError) as raised:
        Recorder().stop()
    assert raised.value.code == "capture.not_recording"


def test_an_anticipated_first_beat_belongs_to_the_take_and_the_count_in_does_not() -> None:
    events = [(8.0, on(50)), (8.5, off(50)), (9.5, pedal(100)), (9.9, on(60)), (10.4, off(60))]
    captured = recorder(events, 10.0).stop(11.0)
    assert captured.notes["pitch"].tolist() == [60] and captured.notes["onset_sec"].tolist() == [0.0]
    assert captured.notes["duration_sec"][0] == pytest.approx(0.5)
    assert captured.pedals.tolist() == [(0.0, 100)]  # put down during the count-in


def test_the_last_minutes_are_there_without_a_start() -> None:
    events = [
        (100.0 + 0.5 * i + part, on(60) if not part else off(60)) for i in range(20) for part in (0, 0.2)
    ]
    made = recorder([(99.0, pedal(127)), *events])
    captured = made.keep_last(now=111.0)
    assert len(captured.notes) == 20 and captured.notes["onset_sec"][0] == 0.0
    assert captured.pedals.tolist() == [(0.0, 127)]
    assert captured.duration_sec == pytest.approx(11.0)
    assert len(made.keep_last(3.0, now=111.0).notes) == 4


def test_only_the_last_five_minutes_are_kept() -> None:
    made = recorder([(0.0, on(30)), (1.0, pedal(90)), (2.0, off(30))])
    made.feed(200.0, on(40))
    made.feed(302.5, on(50))
    captured = made.keep_last(now=303.0)
    assert captured.notes["pitch"].tolist() == [40, 50] and captured.pedals.tolist() == [(0.0, 90)]
    assert made.status().recent_notes == 2


def test_keys_at_the_borders_of_the_window() -> None:
    made = recorder([(5.0, on(30)), (12.0, on(40)), (13.0, off(30)), (14.0, on(50))])
    captured = made.keep_last(10.0, now=20.0)  # from second 10 on
    assert captured.notes.tolist() == [(0.0, 8.0, 40, 64), (2.0, 6.0, 50, 64)]


def test_keeping_does_not_disturb_a_take() -> None:
    made = recorder([(10.5, on(60)), (10.8, off(60))], 10.0)
    made.keep_last(now=11.0)
    made.feed(11.5, on(62))
    assert made.stop(12.0).notes["pitch"].tolist() == [60, 62]


def test_status_shows_what_is_held() -> None:
    made = recorder([(10.5, on(64)), (10.6, on(60)), (10.7, off(64)), (10.8, pedal(64))], 10.0)
    status = made.status(12.0)
    assert (status.recording, status.elapsed_sec, status.notes) == (True, 2.0, 2)
    assert status.held == (60,) and status.pedal == 64
    made.feed(11.0, b"\xb0\x7b\x00")
    assert made.status().held == ()


def test_all_notes_off_ends_the_notes_of_its_channel() -> None:
    events = [(1.0, on(60)), (1.0, on(64, channel=3)), (2.0, b"\xb0\x7b\x00"), (3.0, off(64, 3))]
    notes = recorder(events, 0.0).stop(4.0).notes
    assert sorted(zip(notes["pitch"].tolist(), notes["duration_sec"].tolist(), strict=True)) == [
        (60, 1),
        (64, 2),
    ]


def test_a_key_struck_again_without_release_ends_first() -> None:
    notes = recorder([(1.0, on(60)), (2.0, on(60, 90)), (3.0, off(60))], 0.0).stop(4.0).notes
    assert notes.tolist() == [(1.0, 1.0, 60, 64), (2.0, 1.0, 60, 90)]


def test_other_pedals_are_kept() -> None:
    captured = recorder([(1.0, pedal(127, 67)), (2.0, pedal(127, 66)), (3.0, b"\xb0\x79\x00")], 0.0).stop(4.0)
    assert captured.controls.tolist() == [(1.0, 67, 127), (2.0, 66, 127), (3.0, 66, 0), (3.0, 67, 0)]
    assert len(captured.pedals) == 0


STATUS, KEY = st.sampled_from([0x80, 0x90, 0x91, 0xB0]), st.integers(58, 66)
MESSAGE = st.one_of(st.binary(max_size=5), st.tuples(STATUS, KEY, st.integers(0, 127)).map(bytes))


@given(st.lists(st.tuples(st.floats(0, 0.5), MESSAGE), max_size=80))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_makes_valid_notes(steps: list[tuple[float, bytes]]) -> None:
    now, made = 100.0, Recorder()
    made.start(100.0)
    for step, data in steps:
        now += step
        made.feed(now, data)
    struck = sum(len(d) == 3 and d[0] & 0xF0 == 0x90 and d[1] < 128 and 0 < d[2] < 128 for _, d in steps)
    for captured in (made.keep_last(now=now), made.stop(now)):
        notes = captured.notes
        assert len(notes) <= struck
        assert np.all(notes["duration_sec"] > 0) and np.all(notes["onset_sec"] >= 0)
        assert np.all(np.diff(notes["onset_sec"]) >= 0) and np.all(notes["velocity"] > 0)
        for pitch in np.unique(notes["pitch"]):
            same = notes[notes["pitch"] == pitch]
            ends = same["onset_sec"][:-1] + same["duration_sec"][:-1]
            assert np.all(ends <= same["onset_sec"][1:] + 1e-9)
        assert np.all(captured.pedals["value"] < 128) and np.all(np.diff(captured.pedals["time_sec"]) >= 0)
        captured_midi(captured)


def test_a_saved_take_reads_back_as_it_was(tmp_path: Path) -> None:
    events = [
        (1.0, on(60, 80)),
        (1.2, pedal(127)),
        (1.5, off(60)),
        (2.0, on(72, 20)),
        (2.5, pedal(0)),
        (3, off(72)),
    ]
    captured = captured_from_events([*events, (3.1, pedal(90, 67))], started=1000.0)
    assert captured.started == 1001.0
    path = tmp_path / "take.mid"
    save_captured(captured, path)
    notes = load_score(path).notes
    np.testing.assert_allclose(notes["onset_sec"], [0, 1], atol=6e-4)
    np.testing.assert_allclose(notes["duration_sec"], [0.5, 1], atol=6e-4)
    assert notes["pitch"].tolist() == [60, 72] and notes["velocity"].tolist() == [80, 20]
    now, controls = 0.0, []
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "control_change":
            controls.append((round(now, 2), message.control, message.value))
    assert controls == [(0.2, 64, 127), (1.5, 64, 0), (2.1, 67, 90)]
    assert [file.name for file in tmp_path.iterdir()] == ["take.mid"]


def test_the_metronome_gives_the_file_its_bars() -> None:
    made = recorder([(10.0, on(60)), (10.6, on(62)), (11.2, off(62))], 10.0)
    captured = made.stop(11.5, dropped=3, tempo_bpm=100.0, beats_per_bar=3)
    file = captured_midi(captured)
    assert captured.dropped == 3
    starts, now = [], 0
    for message in file.tracks[0]:
        now += message.time
        if message.type == "note_on":
            starts.append(now)
    assert starts == [0, 960] and file.ticks_per_beat == 960
    assert [m.tempo for m in file.tracks[0] if m.type == "set_tempo"] == [600_000]
    assert [m.numerator for m in file.tracks[0] if m.type == "time_signature"] == [3]

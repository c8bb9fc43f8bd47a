"""Reading MIDI files: what a user gets for good files, repaired ones and unusable ones."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext import smf as smf_module
from pkontext.errors import InputError
from pkontext.score import (
    bar_at,
    bar_start_sec,
    load_score,
    score_from_notes,
    seconds_to_ticks,
    ticks_to_seconds,
)
from pkontext.types import METER, NOTE, TEMPO, Score

Load = Callable[[bytes], Score]
END = b"\0\xff\x2f\0"
ONE_NOTE = b"\0\x90\x3c\x40\x60\x3c\0"


def smf(*tracks: bytes, kind: int = 1, division: int = 96, announced: int | None = None) -> bytes:
    """Put raw tracks (without their end) into a MIDI file."""
    head = [6, kind, len(tracks) if announced is None else announced, division]
    sizes = (4, 2, 2, 2)
    data = b"MThd" + b"".join(n.to_bytes(size, "big") for n, size in zip(head, sizes, strict=True))
    for track in tracks:
        data += b"MTrk" + len(track + END).to_bytes(4, "big") + track + END
    return data


def tempo_event(us_per_quarter: int, delta: int = 0) -> bytes:
    return bytes([delta]) + b"\xff\x51\x03" + us_per_quarter.to_bytes(3, "big")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_bytes(data: bytes) -> Score:
        path = tmp_path / "Piece.mid"
        path.write_bytes(data)
        return load_score(path)

    return load_bytes


def refusal(load: Load, data: bytes) -> str:
    """Return the code of the error, after checking that it says something and what to do next."""
    with pytest.raises(InputError) as caught:
        load(data)
    assert caught.value.message.endswith(".")
    assert caught.value.hint.endswith(".")
    return caught.value.code


def test_tempo_changes_place_every_note_in_seconds(load: Load) -> None:
    conductor = tempo_event(600_000) + tempo_event(300_000, 96) + tempo_event(1_200_000, 96)
    notes = b"\0\x90\x3c\x50\x30\x3c\0" + b"\x30\x90\x40\x51\x60\x40\0" + b"\0\x91\x43\x52\x60\x43\0"
    score = load(smf(conductor, notes))
    assert score.notes["pitch"].tolist() == [60, 64, 67]
    assert score.notes["velocity"].tolist() == [80, 81, 82]
    assert score.notes["onset_tick"].tolist() == [0, 96, 192]
    assert score.notes["onset_sec"].tolist() == pytest.approx([0.0, 0.6, 0.9])
    assert score.notes["duration_sec"].tolist() == pytest.approx([0.3, 0.3, 1.2])
    assert score.notes["track"].tolist() == [1, 1, 1]
    assert score.notes["channel"].tolist() == [0, 0, 1]
    assert score.tempi.tolist() == [(0, 600_000.0), (96, 300_000.0), (192, 1_200_000.0)]
    assert score.meters.tolist() == [(0, 4, 4)]
    assert (score.ticks_per_quarter, score.title, score.warnings) == (96, "Piece", ())
    assert score.duration_sec == pytest.approx(2.1)


def test_notes_are_sorted_by_onset_then_pitch_across_tracks(load: Load) -> None:
    high = b"\0\x90\x48\x40\x60\x48\0"
    low = b"\0\x91\x30\x40\x60\x30\0"
    assert load(smf(high, low)).notes["pitch"].tolist() == [48, 72]


def test_leading_silence_is_kept(load: Load) -> None:
    silence = b"\xc0\0"  # 8192 ticks
    assert load(smf(silence + ONE_NOTE[1:])).notes["onset_sec"][0] == pytest.approx(8192 / 96 * 0.5)


def test_meters_are_read_and_bars_counted(load: Load) -> None:
    three_four_then_six_eight = b"\0\xff\x58\x04\x03\x02\x18\x08" + b"\x84\x40\xff\x58\x04\x06\x03\x18\x08"
    held = b"\0\x90\x3c\x40\x8d\x20\x3c\0"  # 1696 ticks
    score = load(smf(three_four_then_six_eight, held))
    assert score.meters.tolist() == [(0, 3, 4), (576, 6, 8)]
    assert [bar_at(score, s) for s in (0.0, 1.49, 1.5, 2.99, 3.0, 4.4, 4.5)] == [1, 1, 2, 2, 3, 3, 4]
    assert [bar_start_sec(score, bar) for bar in (1, 2, 3, 4)] == pytest.approx([0.0, 1.5, 3.0, 4.5])


def test_riff_wrapped_midi_is_read(load: Load) -> None:
    inner = smf(ONE_NOTE)
    info = b"INFO" + (3).to_bytes(4, "little") + b"abc\0"
    body = b"RMID" + info + b"data" + len(inner).to_bytes(4, "little") + inner
    assert len(load(b"RIFF" + len(body).to_bytes(4, "little") + body).notes) == 1


def test_unknown_chunks_sysex_and_system_events_are_stepped_over(load: Load) -> None:
    noise = (
        b"\0\xf0\x03\x01\x02\xf7" + b"\0\xf2\x01\x02" + b"\0\xf8" + b"\0\xff\x7f\x02\xff\xff" + b"\0\xc0\x05"
    )
    data = smf(noise + ONE_NOTE)
    data = data[:14] + b"XFIH\0\0\0\x02ab" + data[14:]
    score = load(data)
    assert (len(score.notes), score.warnings) == (1, ())


def test_unreadable_key_signature_does_not_matter(load: Load) -> None:
    data = smf(b"\0\xff\x59\x02\x2a\x07" + ONE_NOTE)
    with pytest.raises(mido.KeySignatureError):
        mido.MidiFile(file=io.BytesIO(data))
    assert load(data).warnings == ()


@pytest.mark.parametrize(
    ("division", "ticks_per_sec"), [(0xE728, 1000.0), (0xE350, 80 * 30000 / 1001), (0xE804, 96.0)]
)
def test_smpte_division_gives_true_seconds(load: Load, division: int, ticks_per_sec: float) -> None:
    score = load(smf(tempo_event(100_000) + ONE_NOTE, division=division))
    assert score.notes["duration_sec"][0] == pytest.approx(96 / ticks_per_sec)
    assert any("SMPTE" in warning for warning in score.warnings)


@pytest.mark.parametrize("division", [0, 0xE700, 0x8101])
def test_invalid_division(load: Load, division: int) -> None:
    assert refusal(load, smf(ONE_NOTE, division=division)) == "midi.division"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_score(tmp_path / "nothing.mid")
    assert caught.value.code == "midi.missing"
    assert "nothing.mid" in caught.value.message


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_score(tmp_path)
    assert caught.value.code == "midi.directory"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mid")
    with pytest.raises(InputError) as caught:
        load_score(tmp_path / "pipe.mid")
    assert caught.value.code == "midi.unreadable"


def test_unreadable_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "write_bytes", lambda self, _: os.close(os.open(self, os.O_CREAT)))
    assert refusal(load, b"") == "midi.unreadable"


@pytest.mark.parametrize("name", ["a\0b.mid", "x" * 5000])
def test_impossible_path(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_score(Path(name))
    assert caught.value.code in ("midi.missing", "midi.unreadable")


def test_empty_file(load: Load) -> None:
    assert refusal(load, b"") == "midi.empty"


@pytest.mark.parametrize("data", [b"<?xml version='1.0'?>", b"RIFF\x24\0\0\0WAVEfmt ", b"\0" * 100, b"mthd"])
def test_not_a_midi_file(load: Load, data: bytes) -> None:
    assert refusal(load, data) == "midi.not_midi"


def test_every_cut_of_a_file_is_reported(load: Load) -> None:
    data = smf(ONE_NOTE)
    end_of_header, end_of_events = 14, len(data) - len(END)
    for size in range(1, end_of_events + len(END)):
        if size == end_of_header:  # a whole header without the announced track
            assert refusal(load, data[:size]) == "midi.no_notes"
        else:
            assert refusal(load, data[:size]) == "midi.truncated"


def test_riff_without_its_data(load: Load) -> None:
    assert refusal(load, b"RIFF\x10\0\0\0RMIDINFO\x40\0\0\0") == "midi.truncated"


def test_huge_track_length_with_a_proper_end_is_read(load: Load) -> None:
    data = smf(ONE_NOTE).replace(b"MTrk\0\0\0\x0b", b"MTrk\xff\xff\xff\xff")
    score = load(data)
    assert (len(score.notes), len(score.warnings)) == (1, 1)
    assert "declares more bytes" in score.warnings[0]


def test_wrong_number_of_tracks_is_a_warning(load: Load) -> None:
    assert "announces 3 tracks" in load(smf(ONE_NOTE, announced=3)).warnings[0]


@pytest.mark.parametrize(
    "track",
    [
        b"\0\x3c\x40",  # running status without a status
        b"\0\x90\x3c\xc0",  # data byte above 127
        b"\0\xf4",  # undefined status
        b"\xff\xff\xff\xff\x7f\x90\x3c\x40",  # delta time of five bytes
        b"\0\xff\x01\x84\x80\x00text",  # text longer than its track
    ],
)
def test_damaged_track(load: Load, track: bytes) -> None:
    assert refusal(load, smf(track)) == "midi.damaged"


@pytest.mark.parametrize(
    "data", [smf(ONE_NOTE, kind=7), b"MThd\0\0\0\x02\0\1\0\1\0\x60" + smf(ONE_NOTE)[14:]]
)
def test_damaged_header(load: Load, data: bytes) -> None:
    assert refusal(load, data) == "midi.damaged"


def test_type_2(load: Load) -> None:
    assert refusal(load, smf(ONE_NOTE, kind=2)) == "midi.type2"


@pytest.mark.parametrize("data", [smf(), smf(b""), smf(tempo_event(500_000)), smf(b"\0\x90\x3c\0")])
def test_no_notes(load: Load, data: bytes) -> None:
    assert refusal(load, data) == "midi.no_notes"


def test_only_drums(load: Load) -> None:
    assert refusal(load, smf(b"\0\x99\x3c\x40\x60\x3c\0")) == "midi.drums_only"


def test_drums_are_left_out(load: Load) -> None:
    score = load(smf(ONE_NOTE + b"\0\x99\x3c\x40\x60\x3c\0"))
    assert len(score.notes) == 1
    assert score.warnings == ("Left out 1 drum note on channel 10.",)


def test_all_notes_off_the_piano(load: Load) -> None:
    assert refusal(load, smf(b"\0\x90\x14\x40\x60\x14\0\0\x6d\x40\x60\x6d\0")) == "midi.out_of_range"


def test_notes_off_the_piano_are_left_out(load: Load) -> None:
    outermost = b"".join(bytes([0, 0x90, p, 64, 96, p, 0]) for p in (20, 21, 108, 109))
    score = load(smf(outermost))
    assert score.notes["pitch"].tolist() == [21, 108]
    assert score.warnings == ("Left out 2 notes outside the piano's range (A0 to C8).",)


def test_a_million_notes_are_refused_quickly(load: Load) -> None:
    data = smf(b"\0\x90\x3c\x40" + b"\x01\x3c\0\0\x3c\x40" * 1_000_000)
    started = time.process_time()
    assert refusal(load, data) == "midi.too_many_notes"
    assert time.process_time() - started < 5.0  # 0.6 s measured


def test_refusing_many_notes_takes_memory_for_the_allowed_ones_only(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smf_module, "MAX_NOTES", 1_000)
    data = smf(b"\0\x90\x3c\x40" + b"\x01\x3c\0\0\x3c\x40" * 50_000)
    tracemalloc.start()
    assert refusal(load, data) == "midi.too_many_notes"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data)  # the file and the bytes of its track, 2.2 measured


def test_as_many_notes_as_allowed_are_read(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smf_module, "MAX_NOTES", 3)
    assert len(load(smf(ONE_NOTE * 3)).notes) == 3
    assert refusal(load, smf(ONE_NOTE * 4)) == "midi.too_many_notes"


def test_too_many_events(load: Load) -> None:
    assert refusal(load, smf(b"\0\xd0\x3c" + b"\0\x3c" * 1_100_000)) == "midi.too_many_events"


def test_too_many_tempo_events(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smf_module, "MAX_MAP_EVENTS", 5)
    assert refusal(load, smf(tempo_event(400_000) * 6 + ONE_NOTE)) == "midi.too_many_events"


@pytest.mark.parametrize("name", [b"MTrk", b"junk"])
def test_too_many_tracks(load: Load, name: bytes) -> None:
    assert refusal(load, smf()[:14] + (name + b"\0\0\0\0") * 2000) == "midi.too_many_tracks"


def test_file_above_32_megabytes(load: Load) -> None:
    assert refusal(load, smf(ONE_NOTE) + bytes(32 * 2**20)) == "midi.too_large"


def test_notes_of_no_length_are_made_short(load: Load) -> None:
    score = load(smf(b"\0\x90\x3c\x40\0\x3c\0" + ONE_NOTE))
    assert score.warnings[0] == "Gave 1 note of no length a 1/64 note."
    score = load(smf(b"\0\x90\x3c\x40\0\x3c\0"))
    assert score.notes["duration_tick"].tolist() == [6]


def test_hanging_note_ends_with_the_last_event(load: Load) -> None:
    score = load(smf(b"\0\x90\x48\x40" + ONE_NOTE))
    assert score.notes["duration_tick"].tolist() == [96, 96]
    assert score.warnings == ("Ended 1 note without a note-off, after 4 s at the latest.",)


def test_hanging_note_ends_after_four_seconds(load: Load) -> None:
    score = load(smf(b"\0\x90\x48\x40" + ONE_NOTE + b"\xff\xff\xff\x7f\xb0\x07\x40"))
    assert score.notes["duration_sec"].max() == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize(
    ("us_per_quarter", "expected", "word"),
    [(0, 500_000.0, "Left out"), (1, 60_000.0, "Moved"), (16_777_215, 12_000_000.0, "Moved")],
)
def test_absurd_tempo(load: Load, us_per_quarter: int, expected: float, word: str) -> None:
    score = load(smf(tempo_event(us_per_quarter) + ONE_NOTE))
    assert score.tempi.tolist() == [(0, expected)]
    assert score.warnings[0].startswith(word)


@pytest.mark.parametrize("event", [b"\x51\0", b"\x51\x01\x07"])
def test_tempo_event_that_is_too_short_is_left_out(load: Load, event: bytes) -> None:
    score = load(smf(b"\0\xff" + event + ONE_NOTE))
    assert score.tempi.tolist() == [(0, 500_000.0)]
    assert score.warnings == ("Left out 1 tempo event without a usable tempo.",)


@pytest.mark.parametrize(
    "event",
    [
        b"\x58\x01\x04",  # no denominator
        b"\x58\x04\0\x02\x18\x08",  # 0/4
        b"\x58\x04\x04\x07\x18\x08",  # 4/128
        b"\x58\x04\x04\xff\x18\x08",  # 4/2**255
    ],
)
def test_time_signature_that_cannot_be_read_is_left_out(load: Load, event: bytes) -> None:
    score = load(smf(b"\0\xff" + event + ONE_NOTE))
    assert score.meters.tolist() == [(0, 4, 4)]
    assert score.warnings == ("Left out 1 time signature that cannot be read.",)


def test_equal_notes_of_two_voices_become_the_longest(load: Load) -> None:
    score = load(smf(ONE_NOTE, b"\0\x91\x3c\x60\x30\x3c\0"))
    assert score.notes["duration_tick"].tolist() == [96]
    assert score.warnings == ("Merged 1 note with an equal note of another voice.",)


def test_key_struck_again_is_released_first(load: Load) -> None:
    score = load(smf(b"\0\x90\x3c\x40\x30\x3c\x41\x30\x3c\0\x30\x3c\0"))
    assert score.notes["onset_tick"].tolist() == [0, 48]
    assert score.notes["duration_tick"].tolist() == [48, 96]
    assert score.notes["velocity"].tolist() == [64, 65]
    assert score.warnings == ("Shortened 1 note whose key is struck again.",)


def test_longer_than_three_hours(load: Load) -> None:
    def lasting(seconds: int) -> bytes:
        ticks = 2 * seconds
        delta = bytes([0x80 | ticks >> 14, 0x80 | ticks >> 7 & 0x7F, ticks & 0x7F])
        return smf(delta + ONE_NOTE[1:], division=1)

    assert load(lasting(3 * 3600 - 60)).duration_sec == 3 * 3600 - 60 + 48
    assert refusal(load, lasting(3 * 3600 - 40)) == "midi.too_long"


# Tempo map.

tempo_maps = st.lists(st.tuples(st.integers(1, 10**6), st.integers(60_000, 12_000_000)), max_size=20).flatmap(
    lambda changes: st.builds(
        lambda first: np.array([(0, first), *sorted(dict(changes).items())], TEMPO),
        st.integers(60_000, 12_000_000),
    )
)
resolutions = st.integers(1, 32767)
tick_lists = st.lists(st.integers(0, 2 * 10**6), min_size=1, max_size=50).map(np.array)


@given(tempo_maps, resolutions, tick_lists)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_seconds_and_ticks_are_inverse(tempi: np.ndarray, resolution: int, ticks: np.ndarray) -> None:
    seconds = ticks_to_seconds(ticks, tempi, resolution)
    back = seconds_to_ticks(seconds, tempi, resolution)
    np.testing.assert_allclose(back, ticks, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(ticks_to_seconds(back, tempi, resolution), seconds, rtol=1e-9, atol=1e-9)


@given(tempo_maps, resolutions, tick_lists)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_time_grows_with_ticks(tempi: np.ndarray, resolution: int, ticks: np.ndarray) -> None:
    ticks = np.unique(ticks)
    assert (np.diff(ticks_to_seconds(ticks, tempi, resolution)) > 0).all()
    assert ticks_to_seconds(np.array(0), tempi, resolution) == 0.0


@given(tempo_maps, resolutions, st.integers(0, 2 * 10**6))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_conversion_agrees_with_walking_the_map(tempi: np.ndarray, resolution: int, tick: int) -> None:
    seconds = 0.0
    ends = [*tempi["tick"][1:].tolist(), tick]
    for (start, us), end in zip(tempi.tolist(), ends, strict=True):
        seconds += max(min(end, tick) - start, 0) * us / 1e6 / resolution
    assert float(ticks_to_seconds(np.array(tick), tempi, resolution)) == pytest.approx(seconds, rel=1e-12)


@given(
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(60_000, 12_000_000)), max_size=6),
    notes=st.lists(st.tuples(st.integers(0, 200), st.integers(21, 108), st.integers(1, 127)), min_size=1),
    resolution=st.integers(24, 960),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_onsets_agree_with_mido(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, int]],
    notes: list[tuple[int, int, int]],
    resolution: int,
) -> None:
    midi = mido.MidiFile(ticks_per_beat=resolution)
    conductor, piano = midi.add_track("Conductor"), midi.add_track("Piano")
    conductor.extend(mido.MetaMessage("set_tempo", time=delta, tempo=us) for delta, us in changes)
    for delta, pitch, velocity in notes:
        piano.append(mido.Message("note_on", note=pitch, velocity=velocity, time=delta))
        piano.append(mido.Message("note_off", note=pitch, time=1))
    path = tmp_path_factory.mktemp("mido") / "piece.mid"
    midi.save(path)
    now, expected = 0.0, []
    for message in midi:
        now += message.time
        if message.type == "note_on":
            expected.append((now, message.note, message.velocity))
    score = load_score(path)
    read = score.notes[["onset_sec", "pitch", "velocity"]].tolist()
    assert [r[1:] for r in read] == [e[1:] for e in expected]
    np.testing.assert_allclose([r[0] for r in read], [e[0] for e in expected], rtol=1e-9, atol=1e-9)


# Captured notes.


def test_captured_notes_become_a_score() -> None:
    notes = np.array([(1.0, 0.5, 64, 70), (0.25, 0.5, 60, 80), (0.5, 0.0, 60, 90)], NOTE)
    score = score_from_notes(notes, "Phrase", bpm=90.0, meter=(3, 4))
    assert score.notes["pitch"].tolist() == [60, 60, 64]
    assert score.notes["velocity"].tolist() == [80, 90, 70]
    np.testing.assert_allclose(score.notes["onset_sec"], [0.25, 0.5, 1.0], atol=60 / 90 / 960 / 2)
    assert score.notes["duration_sec"].tolist() == pytest.approx([0.25, 60 / 90 / 960, 0.5], abs=7e-4)
    assert (score.title, score.tempi["us_per_quarter"][0]) == ("Phrase", pytest.approx(60e6 / 90))
    assert score.meters.tolist() == np.array([(0, 3, 4)], METER).tolist()


def test_nothing_captured() -> None:
    with pytest.raises(InputError) as caught:
        score_from_notes(np.empty(0, NOTE))
    assert caught.value.code == "notes.empty"


@pytest.mark.parametrize(
    "note", [(-1.0, 1.0, 60, 64), (0.0, np.nan, 60, 64), (0.0, np.inf, 60, 64), (0.0, 1.0, 20, 64)]
)
def test_invalid_captured_notes(note: tuple[float, float, int, int]) -> None:
    with pytest.raises(InputError) as caught:
        score_from_notes(np.array([note], NOTE))
    assert caught.value.code == "notes.invalid"


@pytest.mark.parametrize(("bpm", "meter"), [(0.0, (4, 4)), (np.nan, (4, 4)), (90.0, (0, 4)), (90.0, (4, 3))])
def test_invalid_tempo_or_meter_of_captured_notes(bpm: float, meter: tuple[int, int]) -> None:
    with pytest.raises(InputError) as caught:
        score_from_notes(np.array([(0.0, 1.0, 60, 64)], NOTE), bpm=bpm, meter=meter)
    assert caught.value.code == "notes.invalid"

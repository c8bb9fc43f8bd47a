"""Whatever bytes a file holds, reading it gives a consistent `Score` or one `PkError`, within bounds."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkontext.errors import PkError
from pkontext.score import HIGHEST_PITCH, LOWEST_PITCH, MAX_DURATION_SEC, load_score, ticks_to_seconds
from pkontext.types import Score

#: Bytes that reading a file below 1 kB may allocate; 15 kB was the most measured.
MEMORY = 64 * 2**10

bounded = settings(
    derandomize=True,
    deadline=timedelta(seconds=2),  # 0.05 s was the most measured
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def typical_files() -> list[bytes]:
    """Return small files that use most of what a MIDI file can hold."""
    piece = mido.MidiFile(type=1, ticks_per_beat=96)
    head, right, drums = piece.add_track("Head"), piece.add_track("Right"), piece.add_track("Drums")
    head.append(mido.MetaMessage("time_signature", numerator=3, denominator=8))
    head.append(mido.MetaMessage("key_signature", key="Ebm"))
    for tempo in (400_000, 800_000):
        head.append(mido.MetaMessage("set_tempo", tempo=tempo, time=100))
    right.append(mido.Message("program_change", program=5))
    right.append(mido.Message("sysex", data=(1, 2, 3)))
    for i, pitch in enumerate((60, 64, 67, 60, 20, 72)):
        right.append(mido.Message("note_on", note=pitch, velocity=60 + i, time=10))
        right.append(mido.Message("control_change", control=64, value=127))
        right.append(mido.Message("note_off", note=pitch, time=40))
        drums.append(mido.Message("note_on", channel=9, note=pitch, velocity=9, time=50))
    right.append(mido.MetaMessage("lyrics", text="la"))
    saved = io.BytesIO()
    piece.save(file=saved)
    notes = b"".join(bytes([10, pitch, 70, 10, pitch, 0]) for pitch in (60, 62, 64, 65))
    track = b"\0\x90\x3c\x40" + notes + b"\0\xff\x2f\0"

    def single(division: int) -> bytes:
        return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, division, b"MTrk", len(track)) + track

    riff = b"RMIDdata" + struct.pack("<I", len(single(480))) + single(480)
    wrapped = b"RIFF" + struct.pack("<I", len(riff)) + riff
    return [saved.getvalue(), single(480), single(0xE728), wrapped]


FILES = typical_files()

#: One change: where (as a fraction), how many bytes go, what comes instead.
change = st.tuples(
    st.floats(0.0, 1.0, exclude_max=True),
    st.integers(0, 6),
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [
                b"\xff\xff\xff\xff",
                b"\xff\xff\xff\x7f",
                b"\0\0\0\0",
                b"\xff\x51\x03\0\0\0",
                b"\xff\x51\x00",
                b"\xff\x58\x04\x04\xff\x18\x08",
                b"\xff\x58\x04\x04\x00\x18\x08",
                b"\xff\x59\x02\x2a\x07",
                b"\xff\x01\xff\xff\xff\x7f",
                b"\xf0\xff\xff\xff\x7f",
                b"\xff\x2f\0",
                b"MTrk",
                b"\x90",
            ]
        ),
    ),
)

Check = Callable[[bytes], None]


def assert_consistent(score: Score) -> None:
    """Check what every later stage relies on."""
    notes = score.notes
    assert len(notes) > 0
    assert notes["onset_tick"].min() >= 0
    assert notes["duration_tick"].min() > 0
    assert notes["duration_sec"].min() > 0
    assert np.isfinite(score.duration_sec)
    assert score.duration_sec <= MAX_DURATION_SEC
    assert notes["pitch"].min() >= LOWEST_PITCH
    assert notes["pitch"].max() <= HIGHEST_PITCH
    assert notes["velocity"].min() >= 1
    assert notes["velocity"].max() <= 127
    order = np.lexsort((notes["pitch"], notes["onset_tick"]))
    assert (order == np.arange(len(notes))).all()
    onset_sec = ticks_to_seconds(notes["onset_tick"], score.tempi, score.ticks_per_quarter)
    np.testing.assert_allclose(notes["onset_sec"], onset_sec, rtol=1e-9)
    for pitch in np.unique(notes["pitch"]):
        key = notes[notes["pitch"] == pitch]
        assert (key["onset_tick"][1:] >= (key["onset_tick"] + key["duration_tick"])[:-1]).all()
    for changes in (score.tempi, score.meters):
        assert changes["tick"][0] == 0
        assert (np.diff(changes["tick"]) > 0).all()
    assert (score.meters["numerator"] > 0).all()
    assert (score.meters["denominator"] > 0).all()


@pytest.fixture
def check(tmp_path: Path) -> Check:
    path = tmp_path / "fuzzed.mid"

    def check_bytes(data: bytes) -> None:
        path.write_bytes(data)
        tracemalloc.start()
        try:
            score = load_score(path)
        except PkError as error:
            assert error.message and error.hint
        else:
            assert_consistent(score)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY

    return check_bytes


def test_the_unchanged_files_are_read(check: Check, tmp_path: Path) -> None:
    for data in FILES:
        check(data)
        (tmp_path / "good.mid").write_bytes(data)
        assert len(load_score(tmp_path / "good.mid").notes) >= 5


@given(file=st.sampled_from(FILES), changes=st.lists(change, min_size=1, max_size=5))
@bounded
def test_changed_files(check: Check, file: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    for where, removed, inserted in changes:
        at = int(where * len(file))
        file = file[:at] + inserted + file[at + removed :]
    check(file)


@given(
    file=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(14, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
@bounded
def test_bytes_changed_in_place(check: Check, file: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(file)
    for at, value in changes:
        changed[at % len(file)] = value
    check(bytes(changed))


@given(file=st.sampled_from(FILES), where=st.floats(0.0, 1.0), tail=st.binary(max_size=8))
@bounded
def test_cut_files(check: Check, file: bytes, where: float, tail: bytes) -> None:
    check(file[: int(where * len(file))] + tail)


@given(
    header=st.sampled_from([b"", b"MThd", FILES[1][:14], FILES[1][:26], b"RIFF\0\0\0\0RMID"]),
    rest=st.binary(),
)
@bounded
def test_random_bytes(check: Check, header: bytes, rest: bytes) -> None:
    check(header + rest)


@given(body=st.binary(max_size=200))
@bounded
def test_random_events_in_a_sound_frame(check: Check, body: bytes) -> None:
    body = b"\0\x90\x3c\x40" + body + b"\0\xff\x2f\0"
    check(FILES[1][:18] + len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\x7f", b"\x84\x80\x80\0", b"\x88\x80\x80\x80"])
@pytest.mark.parametrize("event", [b"\0\xff\x01", b"\0\xf0", b"\0\xff\x51", b"\0\xff\x59"])
def test_huge_declared_lengths_allocate_nothing(check: Check, event: bytes, length: bytes) -> None:
    body = event + length + b"abc"
    check(FILES[1][:18] + b"\xff\xff\xff\xff" + body)
    check(FILES[1][:18] + len(body).to_bytes(4, "big") + body)

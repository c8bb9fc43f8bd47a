"""The journal: nothing that was played is lost by a crash, a torn write, damage or a full disk."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext import journal
from pkontext.errors import DeviceError, InputError
from pkontext.journal import Journal, discard, recover
from tests.live_midi import run_child


def written(folder: Path, count: int = 50) -> tuple[Path, list[bytes]]:
    """A journal that its program left behind."""
    book = Journal(folder)
    messages = [bytes((0x90, index % 128, 1 + index % 127)) for index in range(count)]
    for message in messages:
        book.append(time.monotonic(), message)
    book.close()
    return book.path, messages


def test_a_journal_that_was_left_is_offered_with_every_event(tmp_path: Path) -> None:
    before = time.time()
    path, messages = written(tmp_path)
    (found,) = recover(tmp_path)
    assert found.path == path and found.complete and found.strikes == 50
    assert before - 1 <= found.started <= time.time()
    assert [data for _, data in found.events] == messages
    times = [when for when, _ in found.events]
    assert times == sorted(times) and times[0] >= 0 and times[-1] < 5
    discard(path)
    assert recover(tmp_path) == []


def test_a_journal_in_use_is_not_offered_and_a_finished_one_is_gone(tmp_path: Path) -> None:
    book = Journal(tmp_path)
    book.append(time.monotonic(), b"\x90\x3c\x40")
    book.flush()
    assert recover(tmp_path) == [] and book.path.exists()
    book.finish()
    book.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_without_events_leaves_nothing(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_every_event_survives_the_kill_of_its_program(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pkontext.journal import Journal\n"
        "book = Journal(Path(sys.argv[1]))\n"
        "for index in range(100000):\n"
        "    book.append(time.monotonic(), bytes((0x90, index % 128, 1 + index // 128 % 127)))\n"
        "    book.flush()\n"
        "    print(index, flush=True)\n"
        "    time.sleep(0.001)\n"
    )
    child = run_child(code, str(tmp_path))
    assert child.stdout is not None
    last = -1
    while last < 100:
        last = int(child.stdout.readline())
    assert recover(tmp_path) == []  # its program lives
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    last = int(rest.split()[-1]) if rest.split() else last
    (found,) = recover(tmp_path)
    assert found.complete and last + 1 <= len(found.events) <= last + 2
    expected = [bytes((0x90, index % 128, 1 + index // 128 % 127)) for index in range(len(found.events))]
    assert [data for _, data in found.events] == expected


@given(cut=st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_a_torn_last_record_is_dropped_and_said(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    path, messages = written(folder, 10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    (found,) = recover(folder)
    record = 2 + 8 + 2 + 3 + 4
    whole = 10 - -(-cut // record)
    assert [message for _, message in found.events] == messages[:whole]
    assert found.complete == (cut % record == 0)


def test_damage_inside_is_skipped_to_the_next_whole_record(tmp_path: Path) -> None:
    path, messages = written(tmp_path, 200)
    data, draw = bytearray(path.read_bytes()), random.Random(4)
    data[1000:1040] = draw.randbytes(40)
    data[2000:2000] = draw.randbytes(333)
    path.write_bytes(data)
    (found,) = recover(tmp_path)
    kept = [message for _, message in found.events]
    assert not found.complete and 195 <= len(kept) < 200
    remaining = iter(messages)
    assert all(message in remaining for message in kept)  # in order, none invented


def test_a_damaged_header_loses_no_event(tmp_path: Path) -> None:
    path, messages = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[0:6] = b"\x00" * 6
    path.write_bytes(data)
    (found,) = recover(tmp_path)
    assert [message for _, message in found.events] == messages and not found.complete


@pytest.mark.parametrize("content", [b"", b"PKJOURNL", bytes(100), b"\xa5\x4a" * 500])
def test_a_file_that_holds_nothing_is_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"x{journal.ENDING}").write_bytes(content)
    assert all(not found.events for found in recover(tmp_path))


def test_a_full_disk_is_said_and_made_good_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SYNC_SEC", 0.0)
    book, real_write, full = Journal(tmp_path), os.write, True

    def write(file: int, data: bytes) -> int:
        if full and file == book._file:
            if len(data) > 7:
                return real_write(file, bytes(data[:7]))  # the disk takes a part of a record, then no more
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data)

    monkeypatch.setattr(os, "write", write)
    for key in range(3):
        book.append(time.monotonic(), bytes((0x90, key, 1)))
        book.flush()
    assert "No space left" in book.warning and "make room" in book.warning
    full = False
    book.append(time.monotonic(), bytes((0x90, 3, 1)))
    book.flush()
    assert book.warning == ""
    book.close()
    (found,) = recover(tmp_path)
    assert found.complete and [data[1] for _, data in found.events] == [0, 1, 2, 3]


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeviceError) as raised:
        Journal(tmp_path / "file")
    assert raised.value.code == "journal.open" and raised.value.hint


def test_only_journals_are_discarded(tmp_path: Path) -> None:
    precious = tmp_path / "take.mid"
    precious.write_bytes(b"x")
    with pytest.raises(InputError):
        discard(precious)
    assert precious.exists()


def test_an_event_is_handed_over_within_a_millisecond(tmp_path: Path) -> None:
    book, took = Journal(tmp_path), []
    for index in range(500):
        began = time.perf_counter()
        book.append(time.monotonic(), bytes((0x90, index % 128, 1)))
        book.flush()
        took.append(time.perf_counter() - began)
    book.finish()
    assert sorted(took)[250] < 0.001

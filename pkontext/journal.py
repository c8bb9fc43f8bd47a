"""A file that holds every MIDI event as it arrived, so that a crash or a power cut loses no playing.

A journal is a header and records, each with its own checksum. Events are handed to the operating
system at once, which survives the end of the process; they are forced to the disk about once a
second, which survives a power cut but for that second. The file is locked by the process that
writes it, so a journal that can be locked is one that nobody came back for.

Threading: one thread writes (`Journal.append`, `Journal.flush`); forcing to the disk has a thread
of its own, as it may take long. `Journal.finish` and `Journal.close` come last, from any thread.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pkontext.errors import DeviceError, InputError
from pkontext.midi_bytes import NOTE_ON, parse_voice

ENDING = ".pkjournal"
VERSION = 1
#: The longest message that is kept; live channel messages have at most three bytes.
LONGEST = 1024
SYNC_SEC = 1.0
_MAGIC = b"PKJOURNL"
_HEADER = struct.Struct("<8sHId")  # magic, version, process, wall-clock second of the start
_RECORD = struct.Struct("<2sdH")  # mark, seconds since the start, bytes of the message
_CHECK = struct.Struct("<I")
_MARK = b"\xa5\x4a"
#: Unwritten bytes that are held while the disk is full, some hours of playing.
_MOST_HELD = 4_000_000
_LOCK_BYTE = 1 << 40


@dataclass(frozen=True)
class Recovered:
    """What a journal holds whose program ended without saving.

    Attributes
    ----------
    path : Path
    started : float
        Wall-clock time of its first second, in seconds since 1970.
    events : tuple of (float, bytes)
        Seconds since the start, and the message.
    damaged_bytes : int
        Bytes that were skipped because their checksum is wrong, or because the last record is cut short.
    """

    path: Path
    started: float
    events: tuple[tuple[float, bytes], ...]
    damaged_bytes: int

    @property
    def strikes(self) -> int:
        """How many keys were struck."""
        voices = (parse_voice(data) for _, data in self.events)
        return sum(voice is not None and voice.kind == NOTE_ON for voice in voices)

    @property
    def complete(self) -> bool:
        """Whether every byte of the file made sense."""
        return self.damaged_bytes == 0


def journal_folder() -> Path:
    """Folder of the journals on this platform; it need not exist."""
    return platformdirs.user_data_path("pkontext", appauthor=False) / "journals"


class Journal:
    """Appends events to a new file that others can recover.

    When the disk takes no more, events are held in memory and tried again every second, and
    `warning` says so; nothing is raised to the thread that plays.

    Parameters
    ----------
    folder : Path, optional
        Where; made if needed. By default `journal_folder`.

    Raises
    ------
    DeviceError
        ``journal.open`` when the file cannot be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or journal_folder()
        self.warning = ""
        self.events = 0
        self._start = time.monotonic()
        self._held = bytearray()
        self._retry_at = 0.0
        self._closed = threading.Event()
        self._dirty = threading.Event()
        wall = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(wall))
        self.path = folder / f"{stamp}-{os.getpid()}-{time.monotonic_ns() % 10**6:06d}{ENDING}"
        temporary = self.path.with_suffix(".part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | _BINARY, 0o600)
            header = _HEADER.pack(_MAGIC, VERSION, os.getpid(), wall)
            os.write(self._file, header + _CHECK.pack(zlib.crc32(header)))
            _lock(self._file)
            temporary.rename(self.path)  # only now can others see it, when it is locked
        except OSError as error:
            raise DeviceError(
                "journal.open",
                f"The safety copy of your playing cannot be written to {folder} ({error.strerror or error}).",
                "Make room on the disk or make the folder writable; until then, save often.",
            ) from error
        self._syncer = threading.Thread(target=self._sync, name="pkontext-journal", daemon=True)
        self._syncer.start()

    def append(self, time_sec: float, data: bytes) -> None:
        """Hold an event with its ``time.monotonic()`` for the next `flush`."""
        if len(data) > LONGEST or len(self._held) > _MOST_HELD:
            return
        record = _RECORD.pack(_MARK, time_sec - self._start, len(data)) + data
        self._held += record + _CHECK.pack(zlib.crc32(record))
        self.events += 1

    def flush(self) -> None:
        """Hand all that is held to the operating system."""
        if not self._held or self._closed.is_set() or time.monotonic() < self._retry_at:
            return
        try:
            while self._held:
                del self._held[: os.write(self._file, self._held)]
            self.warning = ""
        except OSError as error:
            self._retry_at = time.monotonic() + SYNC_SEC
            self.warning = (
                f"The safety copy of your playing cannot be written ({error.strerror or error}). "
                "Capture goes on in memory: make room on the disk, and save soon."
            )
        self._dirty.set()

    def finish(self) -> None:
        """Remove the file: what it holds was saved elsewhere, or is not wanted."""
        self._close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file for a later start; one without events is removed."""
        if self._closed.is_set():
            return
        self._retry_at = 0.0
        self.flush()
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        self._close()
        if not self.events:
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._dirty.set()
            self._syncer.join()
            os.close(self._file)

    def _sync(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._dirty.clear()
            with contextlib.suppress(OSError):  # the write that follows fails, too, and says so
                os.fsync(self._file)
            self._closed.wait(SYNC_SEC)


# ---- after a crash ----------------------------------------------------------------------------------


def recover(folder: Path | None = None) -> list[Recovered]:
    """Journals whose program is gone, oldest first. Those without a single event are removed.

    What cannot be read is skipped up to the next record whose checksum is right.
    """
    folder = folder or journal_folder()
    found: list[Recovered] = []
    for path in sorted(folder.glob(f"*{ENDING}")) if folder.is_dir() else []:
        with contextlib.suppress(OSError):  # unreadable, or just taken away by another program
            journal = _read_abandoned(path)
            if journal is not None:
                found.append(journal)
    return sorted(found, key=lambda journal: journal.started)


def discard(path: Path) -> None:
    """Remove a journal for good.

    Raises
    ------
    InputError
        ``journal.not_one`` when the file is none.
    """
    if path.suffix != ENDING:
        raise InputError("journal.not_one", f"{path} is no journal.", f"Name a file that ends in {ENDING}.")
    path.unlink(missing_ok=True)


def _read_abandoned(path: Path) -> Recovered | None:
    """Read a journal that nobody writes; remove it if it is one of which nothing was ever played."""
    with path.open("r+b") as file:
        if not _lock_free(file.fileno()):
            return None
        data = file.read()
    if len(data) <= _HEADER.size + _CHECK.size:
        path.unlink()
        return None
    return _read(path, data)


def _read(path: Path, data: bytes) -> Recovered:
    start = _HEADER.size + _CHECK.size
    header = data[: _HEADER.size]
    started, damaged = path.stat().st_mtime, 0
    if len(data) >= start and data[_HEADER.size : start] == _CHECK.pack(zlib.crc32(header)):
        started = _HEADER.unpack(header)[3]
    else:
        start = 0
    events: list[tuple[float, bytes]] = []
    position = start
    while position < len(data):
        record = _record_at(data, position)
        if record is None:
            following = data.find(_MARK, position + 1)
            following = len(data) if following < 0 else following
            damaged += following - position
            position = following
            continue
        time_sec, message, position = record
        events.append((time_sec, message))
    return Recovered(path, started, tuple(events), damaged)


def _record_at(data: bytes, position: int) -> tuple[float, bytes, int] | None:
    """Time, message and end of the record at a position, if there is a valid one."""
    body = position + _RECORD.size
    if body > len(data) or not data.startswith(_MARK, position):
        return None
    _, time_sec, length = _RECORD.unpack_from(data, position)
    end = body + length
    if length > LONGEST or end + _CHECK.size > len(data):
        return None
    if _CHECK.unpack_from(data, end)[0] != zlib.crc32(data[position:end]):
        return None
    return time_sec, data[body:end], end + _CHECK.size


if sys.platform == "win32":
    import msvcrt

    _BINARY = os.O_BINARY

    def _lock(file: int) -> None:
        # Windows forbids reading a locked range, so a byte is locked that will never be written.
        os.lseek(file, _LOCK_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_END)

else:
    import fcntl

    _BINARY = 0

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_free(file: int) -> bool:
    """Whether nobody else holds the lock; it is held until the file is closed."""
    try:
        _lock(file)
    except OSError:
        return False
    os.lseek(file, 0, os.SEEK_SET)
    return True

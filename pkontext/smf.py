"""The framing of a Standard MIDI File: its bytes to notes, tempi and meters in ticks, under fixed limits.

Chunks, lengths and running status are walked here in one pass, because mido allocates a message
object for every event before anything can be counted and raises whatever its decoders raise.
Everything that a score does not need, an unreadable key signature included, is skipped by its
length. What the events mean is the business of `pkontext.score`.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from pkontext.errors import InputError

MAX_BYTES = 32 * 1024 * 1024
MAX_NOTES = 200_000
MAX_EVENTS = 1_000_000
MAX_MAP_EVENTS = 100_000
#: Tracks, and chunks of other kinds that lie between them.
MAX_CHUNKS = 1024

#: Status byte of a meta event, and the types of those that are collected.
META, SET_TEMPO, TIME_SIGNATURE = 0xFF, 0x51, 0x58
#: Columns of a collected note.
ROW = ("onset", "end", "track", "channel", "pitch", "velocity")
EXPORT_AGAIN = "Export the piece again from the program that wrote it, as a Standard MIDI File."

_END_OF_TRACK = 0x2F
_NOTE_ON, _NOTE_OFF = 0x90, 0x80
_SYSEX = (0xF0, 0xF7)
#: Data bytes after each system status that may stand in a track; sysex and meta carry a length.
_SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}


@dataclass
class Events:
    """What one pass over the tracks collects, in ticks from the start of the file."""

    #: Notes, flat, `ROW` after `ROW`; ``end`` is -1 while the note hangs.
    rows: array[int] = field(default_factory=lambda: array("q"))
    #: Tempo and meter messages: tick, meta type, first bytes of the payload.
    maps: list[tuple[int, int, bytes]] = field(default_factory=list)
    count: int = 0
    last_tick: int = 0


def read_events(path: Path, warnings: list[str]) -> tuple[int, Events]:
    """Read a Standard MIDI File, or a RIFF file that wraps one, as far as its framing goes.

    Parameters
    ----------
    path : Path
        The ``.mid`` file.
    warnings : list of str
        What was repaired is added to it, one sentence each.

    Returns
    -------
    division : int
        The header's 16-bit time division.
    events : Events
        Of all tracks, in ticks.

    Raises
    ------
    InputError
        ``midi.missing``, ``midi.directory``, ``midi.unreadable``, ``midi.too_large``,
        ``midi.empty``, ``midi.not_midi``, ``midi.truncated``, ``midi.damaged``, ``midi.type2``,
        ``midi.too_many_tracks``, ``midi.too_many_events`` or ``midi.too_many_notes``.
    """
    data = _unwrap_riff(_read_file(path), path.name)
    division, chunks = _split_chunks(data, path.name, warnings)
    events = Events()
    for track, (start, declared_end) in enumerate(chunks):
        chunk = data[start:declared_end]
        cut = declared_end > len(data)
        try:
            ended = _TrackReader(chunk, track, events).read()
        except IndexError:
            raise (_truncated(path.name) if cut else _damaged(track, "ends inside an event")) from None
        if cut and not ended:
            raise _truncated(path.name)
        if cut:
            warnings.append(f"Track {track + 1} declares more bytes than the file holds.")
    return division, events


def _read_file(path: Path) -> bytes:
    choose = "Check the path, or choose another MIDI file."
    try:
        if path.is_dir():
            raise InputError("midi.directory", f"{path} is a folder.", "Choose a MIDI file inside it.")
        if not path.exists():
            raise InputError("midi.missing", f"The file {path} does not exist.", choose)
        if not path.is_file():
            raise InputError("midi.unreadable", f"{path} is not a regular file.", choose)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:
        raise InputError(
            "midi.unreadable",
            f"The file {path} cannot be read ({error}).",
            "Check that you may read it, or choose another MIDI file.",
        ) from error
    if size > MAX_BYTES:
        raise InputError(
            "midi.too_large",
            f"{path.name} is larger than {MAX_BYTES // 2**20} MB.",
            "Choose the MIDI file of one piece; such files are rarely above 1 MB.",
        )
    if not data:
        raise InputError("midi.empty", f"{path.name} is empty.", EXPORT_AGAIN)
    return data


def _unwrap_riff(data: bytes, name: str) -> bytes:
    """Return the Standard MIDI File inside a RIFF ``RMID`` file; other data as it is."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"data":
            return data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    raise _truncated(name)


def _split_chunks(data: bytes, name: str, warnings: list[str]) -> tuple[int, list[tuple[int, int]]]:
    """Return the division and, for each track, where its bytes start and should end."""
    if data[:4] != b"MThd"[: len(data)]:
        raise InputError(
            "midi.not_midi",
            f"{name} is not a MIDI file.",
            "Choose a Standard MIDI File (.mid); export MusicXML or a project to MIDI first.",
        )
    if len(data) < 14:
        raise _truncated(name)
    header = int.from_bytes(data[4:8], "big")
    kind, announced, division = (int.from_bytes(data[i : i + 2], "big") for i in (8, 10, 12))
    if kind == 2:
        raise InputError(
            "midi.type2",
            f"{name} is a type 2 file: independent patterns without a common time.",
            "Export it as type 0 or type 1.",
        )
    if kind > 2 or header < 6:
        raise InputError("midi.damaged", f"The header of {name} makes no sense.", EXPORT_AGAIN)
    tracks: list[tuple[int, int]] = []
    chunks, position = 0, 8 + header
    while position + 8 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position + 4 : start], "big")
        if data[position : position + 4] == b"MTrk":
            tracks.append((start, end))
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise InputError(
                "midi.too_many_tracks", f"{name} has more than {MAX_CHUNKS} tracks.", EXPORT_AGAIN
            )
        position = end
    if len(tracks) < announced and position != len(data) and (not tracks or tracks[-1][1] <= len(data)):
        raise _truncated(name)  # bytes of a chunk that did not make it into the file
    if len(tracks) != announced:
        warnings.append(f"The header announces {announced} tracks and the file holds {len(tracks)}.")
    return division, tracks


class _TrackReader:
    """One pass over the bytes of one track; an `IndexError` means that they end inside an event."""

    def __init__(self, chunk: bytes, track: int, events: Events) -> None:
        self.chunk, self.track, self.events = chunk, track, events
        self.position = self.tick = 0
        #: For each (channel, pitch) the places in ``rows`` of its sounding notes, oldest first.
        self.sounding: dict[tuple[int, int], deque[int]] = {}

    def read(self) -> bool:
        """Collect notes, tempi and meters; return whether the end-of-track event was there.

        Raises
        ------
        IndexError
            The bytes end inside an event.
        InputError
            ``midi.damaged``, ``midi.too_many_notes`` or ``midi.too_many_events``.
        """
        running, ended = 0, False
        while self.position < len(self.chunk) and not ended:
            self.tick += self._number()
            self.events.count += 1
            if self.events.count > MAX_EVENTS:
                raise _too_many("events", f"{MAX_EVENTS} events")
            status = self.chunk[self.position]
            if status >= 0x80:
                self.position += 1
            elif running:
                status = running
            else:
                raise _damaged(self.track, "has data where an event should start")
            if status < 0xF0:
                running = status
                self._channel_event(status)
            else:
                ended = self._system_event(status)
            self.events.last_tick = max(self.events.last_tick, self.tick)
        return ended

    def _channel_event(self, status: int) -> None:
        two = status & 0xE0 != 0xC0  # program change and channel pressure have one data byte
        first = self.chunk[self.position]
        second = self.chunk[self.position + 1] if two else 0
        self.position += 1 + two
        if first > 127 or second > 127:
            raise _damaged(self.track, "has an event with a data byte above 127")
        kind, key, rows = status & 0xF0, (status & 0x0F, first), self.events.rows
        if kind == _NOTE_ON and second:
            self.sounding.setdefault(key, deque()).append(len(rows))
            rows.extend((self.tick, -1, self.track, *key, second))
            if len(rows) > MAX_NOTES * len(ROW):
                raise _too_many("notes", f"{MAX_NOTES} notes")
        elif kind in (_NOTE_ON, _NOTE_OFF) and self.sounding.get(key):
            rows[self.sounding[key].popleft() + 1] = self.tick

    def _system_event(self, status: int) -> bool:
        """Step over one system event, keep it if it is a tempo or meter; True at the track's end."""
        kind = -1
        if status == META:
            kind = self.chunk[self.position]
            self.position += 1
        if status in (META, *_SYSEX):
            length = self._number()
        elif status in _SYSTEM_DATA_BYTES:
            length = _SYSTEM_DATA_BYTES[status]
        else:
            raise _damaged(self.track, f"has an undefined event 0x{status:02x}")
        start = self.position
        self.position += length
        if self.position > len(self.chunk):
            raise IndexError
        if kind in (SET_TEMPO, TIME_SIGNATURE):
            payload = self.chunk[start : min(self.position, start + 8)]
            self.events.maps.append((self.tick, kind, payload))
            if len(self.events.maps) > MAX_MAP_EVENTS:
                raise _too_many("events", f"{MAX_MAP_EVENTS} tempo and meter events")
        return kind == _END_OF_TRACK

    def _number(self) -> int:
        """Read a variable-length number, of at most four bytes."""
        value = 0
        for _ in range(4):
            byte = self.chunk[self.position]
            self.position += 1
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise _damaged(self.track, "has a number of more than four bytes")


def _truncated(name: str) -> InputError:
    return InputError(
        "midi.truncated", f"{name} ends too early.", "Copy or download it again; the rest of it is missing."
    )


def _damaged(track: int, what: str) -> InputError:
    return InputError("midi.damaged", f"Track {track + 1} {what}.", EXPORT_AGAIN)


def _too_many(what: str, limit: str) -> InputError:
    return InputError(
        f"midi.too_many_{what}",
        f"The file holds more than {limit}.",
        "Cut it into shorter pieces, or choose the MIDI file of one piece.",
    )

"""A capture as notes and pedals, made from timed MIDI messages, and as a Standard MIDI File.

Threading: functions of their arguments; any thread may call them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np

from pkontext.expressive_midi import write_midi
from pkontext.midi_bytes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    RESET_CONTROLLERS,
    SOFT,
    SOSTENUTO,
    SUSTAIN,
    Voice,
    parse_voice,
)
from pkontext.types import NOTE, PEDAL

#: One event of another pedal: sostenuto (66) or soft (67).
CONTROL_EVENT = np.dtype([("time_sec", "f8"), ("controller", "u1"), ("value", "u1")])

TICKS_PER_QUARTER = 960
PEDALS = (SUSTAIN, SOSTENUTO, SOFT)
#: Length of a note that is released at the moment in which it is struck.
SHORTEST_SEC = 0.001

#: A channel message with its ``time.monotonic()``.
Event = tuple[float, Voice]


@dataclass(frozen=True)
class Captured:
    """Notes as they were played.

    Attributes
    ----------
    notes : ndarray of NOTE
        Sorted by onset, seconds from the start of the take; a key never sounds twice at one time.
    pedals : ndarray of PEDAL
        Changes of the sustain pedal; first its value at second 0 if it was down.
    controls : ndarray of CONTROL_EVENT
        Changes of the sostenuto and soft pedals.
    started : float
        Wall-clock time of second 0, in seconds since 1970.
    duration_sec : float
        To the end of the take, also when its end is silent.
    dropped : int
        Events that were lost while playing, because the computer could not keep up or memory was full.
    tempo_bpm : float or None
        Of the metronome, whose beats then lie at multiples of ``60 / tempo_bpm`` seconds.
    beats_per_bar : int or None
        Of the metronome.
    """

    notes: np.ndarray
    pedals: np.ndarray
    controls: np.ndarray
    started: float
    duration_sec: float
    dropped: int = 0
    tempo_bpm: float | None = None
    beats_per_bar: int | None = None


def captured_from_events(events: Iterable[tuple[float, bytes]], started: float = 0.0) -> Captured:
    """Make a take of timed messages, such as those of a journal, from the first note on.

    Parameters
    ----------
    events : iterable of (float, bytes)
        In the order in which they came; seconds.
    started : float
        Wall-clock time of second 0 of the events.
    """
    parsed = [(when, voice) for when, data in events if (voice := parse_voice(data)) is not None]
    end = parsed[-1][0] if parsed else 0.0
    return trim_events(parsed, end, dict.fromkeys(PEDALS, 0), origin=started)


def captured_midi(captured: Captured) -> mido.MidiFile:
    """A type-0 file of a take: 960 ticks a quarter, at the metronome's tempo or 120 quarters a minute."""
    tempo_us = round(60e6 / (captured.tempo_bpm or 120.0))
    file = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_QUARTER, charset="utf-8")
    per_second = TICKS_PER_QUARTER * 1e6 / tempo_us
    start = np.rint(captured.notes["onset_sec"] * per_second).astype(int)
    stop = (captured.notes["onset_sec"] + captured.notes["duration_sec"]) * per_second
    stop = np.maximum(np.rint(stop).astype(int), start + 1)
    events: list[tuple[int, int, mido.Message]] = []
    for note, on, off in zip(captured.notes, start.tolist(), stop.tolist(), strict=True):
        pitch, velocity = int(note["pitch"]), int(note["velocity"])
        events.append((on, 2, mido.Message("note_on", note=pitch, velocity=velocity)))
        events.append((off, 0, mido.Message("note_off", note=pitch, velocity=64)))
    changes = [(when, SUSTAIN, value) for when, value in captured.pedals.tolist()]
    for when, control, value in [*changes, *captured.controls.tolist()]:
        message = mido.Message("control_change", control=control, value=value)
        events.append((round(when * per_second), 1, message))
    track, now = mido.MidiTrack(), 0
    track.append(mido.MetaMessage("set_tempo", tempo=tempo_us))
    if captured.beats_per_bar:
        track.append(mido.MetaMessage("time_signature", numerator=captured.beats_per_bar, denominator=4))
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    end = max(round(captured.duration_sec * per_second), now)
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    file.tracks.append(track)
    return file


def save_captured(captured: Captured, path: Path) -> None:
    """Write a take as a Standard MIDI File, under a temporary name first.

    Raises
    ------
    RenderError
        ``output.write`` when the disk does not take it.
    """
    write_midi(captured_midi(captured), path)


# ---- events to notes --------------------------------------------------------------------------------


def trim_events(
    events: list[Event], end: float, pedal: dict[int, int], origin: float | None = None
) -> Captured:
    """Capture from the first note on."""
    begin = next((when for when, voice in events if voice.kind == NOTE_ON), end)
    for when, voice in events:
        if when < begin:
            turn_pedal(pedal, voice)
    return capture_events([event for event in events if event[0] >= begin], begin, end, pedal, origin=origin)


def capture_events(
    events: list[Event],
    begin: float,
    end: float,
    pedal: dict[int, int],
    dropped: int = 0,
    tempo_bpm: float | None = None,
    beats_per_bar: int | None = None,
    origin: float | None = None,
) -> Captured:
    """Notes and pedals of the events between two times; ``pedal`` is how the pedals stood before.

    ``origin`` is the wall-clock time at which the events' times are 0; by default they are monotonic.
    """
    origin = time.time() - time.monotonic() if origin is None else origin
    end = max(end, begin)
    events = [(when - begin, voice) for when, voice in events]
    controls = _control_events(events, pedal)
    sustain = [(when, value) for when, number, value in controls if number == SUSTAIN]
    others = [change for change in controls if change[1] != SUSTAIN]
    return Captured(
        np.array(_notes(events, end - begin), NOTE),
        np.array(sustain, PEDAL),
        np.array(others, CONTROL_EVENT),
        origin + begin,
        end - begin,
        dropped,
        tempo_bpm,
        beats_per_bar,
    )


def _notes(events: list[Event], end: float) -> list[tuple[float, float, int, int]]:
    """Rows of NOTE. A strike ends the same key's note before it; what is open at the end ends there."""
    rows: list[tuple[float, float, int, int]] = []
    open_notes: dict[int, tuple[float, int, int]] = {}  # key to onset, velocity, channel

    def close(key: int, when: float) -> None:
        onset, velocity, _ = open_notes.pop(key)
        rows.append((max(onset, 0.0), max(when - onset, SHORTEST_SEC), key, velocity))

    for when, voice in events:
        key = voice.first
        if voice.kind == NOTE_ON:
            if key in open_notes:
                close(key, when)
            open_notes[key] = (when, voice.second, voice.channel)
        elif voice.kind == NOTE_OFF and key in open_notes and open_notes[key][2] == voice.channel:
            close(key, when)
        elif silences(voice):
            for held in [key for key, note in open_notes.items() if note[2] == voice.channel]:
                close(held, when)
    for key in list(open_notes):
        close(key, end)
    return _without_overlap(rows)


def _without_overlap(rows: list[tuple[float, float, int, int]]) -> list[tuple[float, float, int, int]]:
    """Sort notes, and end each when its key is struck again; of two strikes at once the last one counts."""
    following: dict[int, float] = {}
    kept: list[tuple[float, float, int, int]] = []
    for onset, duration, key, velocity in reversed(sorted(rows, key=lambda row: row[0])):
        longest = following.get(key, onset + duration) - onset
        following[key] = onset
        if longest > 0:
            kept.append((onset, min(duration, longest), key, velocity))
    return sorted(kept)


def _control_events(events: list[Event], before: dict[int, int]) -> list[tuple[float, int, int]]:
    """Changes of the pedals, first those that are down at second 0."""
    now: dict[int, int] = dict.fromkeys(PEDALS, 0)
    changes: list[tuple[float, int, int]] = []

    def compare(when: float, wanted: dict[int, int]) -> None:
        for control, value in wanted.items():
            if now[control] != value:
                now[control] = value
                changes.append((max(when, 0.0), control, value))

    compare(0.0, before)
    wanted = dict(before)
    for when, voice in events:
        turn_pedal(wanted, voice)
        compare(when, wanted)
    return changes


def turn_pedal(pedal: dict[int, int], voice: Voice) -> None:
    if voice.kind != CONTROL:
        return
    if voice.first in pedal:
        pedal[voice.first] = voice.second
    elif voice.first == RESET_CONTROLLERS:
        pedal.update(dict.fromkeys(pedal, 0))


def silences(voice: Voice) -> bool:
    return voice.kind == CONTROL and voice.first in (ALL_NOTES_OFF, ALL_SOUND_OFF)

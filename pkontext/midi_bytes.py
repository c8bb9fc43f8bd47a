"""MIDI messages as bytes: what a channel message says, and the bytes that silence an instrument.

Live MIDI is parsed here and nowhere else, so that a damaged message is dropped in one place: every
consumer sees complete channel messages with data bytes of seven bits, or nothing.

Threading: functions of their arguments; any thread may call them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

NOTE_OFF, NOTE_ON, KEY_PRESSURE, CONTROL = 0x80, 0x90, 0xA0, 0xB0
PROGRAM, CHANNEL_PRESSURE, BEND = 0xC0, 0xD0, 0xE0
VOLUME, EXPRESSION, SUSTAIN, SOSTENUTO, SOFT = 7, 11, 64, 66, 67
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123
CHANNELS, KEYS = 16, 128
CLOCK, START, CONTINUE, STOP, SONG_POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2

_DATA_BYTES = {
    NOTE_OFF: 2,
    NOTE_ON: 2,
    KEY_PRESSURE: 2,
    CONTROL: 2,
    PROGRAM: 1,
    CHANNEL_PRESSURE: 1,
    BEND: 2,
}


class Voice(NamedTuple):
    """One channel message: its kind (`NOTE_ON`, ...), channel 0..15 and data bytes, 0 where it has one."""

    kind: int
    channel: int
    first: int
    second: int


def parse_voice(data: bytes) -> Voice | None:
    """Read a channel message; a note-on with velocity 0 is a note-off.

    Returns
    -------
    Voice or None
        None for system messages and for anything that is cut short, too long or out of range.
    """
    if not data:
        return None
    kind, needed = data[0] & 0xF0, _DATA_BYTES.get(data[0] & 0xF0)
    if needed is None or len(data) != needed + 1 or max(data[1:]) > 127:
        return None
    first, second = data[1], data[2] if needed == 2 else 0
    if kind == NOTE_ON and second == 0:
        kind = NOTE_OFF
    return Voice(kind, data[0] & 0x0F, first, second)


def release_messages() -> list[bytes]:
    """Pedals up and all notes off, on every channel: 64 messages."""
    controls = ((SUSTAIN, 0), (SOSTENUTO, 0), (SOFT, 0), (ALL_NOTES_OFF, 0))
    return [bytes((CONTROL | c, number, value)) for c in range(CHANNELS) for number, value in controls]


def panic_messages() -> Iterator[list[bytes]]:
    """Yield everything that can end a stuck note, in groups that fit any port's buffer.

    First sustain up, all notes off (123) and all sound off (120) on every channel, then a note-off
    for each of the 128 keys of each channel, for instruments that ignore those controllers.
    """
    controls = ((SUSTAIN, 0), (ALL_NOTES_OFF, 0), (ALL_SOUND_OFF, 0))
    yield [bytes((CONTROL | c, number, value)) for c in range(CHANNELS) for number, value in controls]
    for channel in range(CHANNELS):
        yield [bytes((NOTE_OFF | channel, key, 0)) for key in range(KEYS)]

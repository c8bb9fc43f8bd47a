"""Write the demo piece: J. S. Bach, Prelude in C major, BWV 846 (The Well-Tempered Clavier I).

The work is in the public domain; this encoding is CC0. Every bar up to the 32nd is five notes:
two held by the left hand and three that the right hand repeats. Only the last three bars are
written out. There is no bar after the 22nd by Schwencke. The bytes are the same on every run.

Usage: ``python examples/make_demo_piece.py [demo.mid]``
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import mido

SIXTEENTH = 120
BAR = 16 * SIXTEENTH
BPM = 66
VELOCITY = 64
DEFAULT_PATH = Path(__file__).parents[1] / "pkontext" / "data" / "demo.mid"

#: Bars 1 to 32, four a line: the bass, the note held above it, the three notes of the right hand.
BARS = """
C4 E4 G4 C5 E5  | C4 D4 A4 D5 F5   | B3 D4 G4 D5 F5  | C4 E4 G4 C5 E5
C4 E4 A4 E5 A5  | C4 D4 F#4 A4 D5  | B3 D4 G4 D5 G5  | B3 C4 E4 G4 C5
A3 C4 E4 G4 C5  | D3 A3 D4 F#4 C5  | G3 B3 D4 G4 B4  | G3 Bb3 E4 G4 C#5
F3 A3 D4 A4 D5  | F3 Ab3 D4 F4 B4  | E3 G3 C4 G4 C5  | E3 F3 A3 C4 F4
D3 F3 A3 C4 F4  | G2 D3 G3 B3 F4   | C3 E3 G3 C4 E4  | C3 G3 Bb3 C4 E4
F2 F3 A3 C4 E4  | F#2 C3 A3 C4 Eb4 | Ab2 F3 B3 C4 D4 | G2 F3 G3 B3 D4
G2 E3 G3 C4 E4  | G2 D3 G3 C4 F4   | G2 D3 G3 B3 F4  | G2 Eb3 A3 C4 F#4
G2 E3 G3 C4 G4  | G2 D3 G3 C4 F4   | G2 D3 G3 B3 F4  | C2 C3 G3 Bb3 E4
"""

#: Bars 33 and 34: the bass, the note held above it, and the right hand from the second eighth on.
CLOSE = (
    ("C2", "C3", "F3 A3 C4 F4 C4 A3 C4 A3 F3 A3 F3 D3 F3 D3"),
    ("C2", "B2", "G4 B4 D5 F5 D5 B4 D5 B4 G4 B4 D4 F4 E4 D4"),
)

#: Bar 35: left hand, right hand.
LAST = ("C2 C3", "E4 G4 C5")


def pitch(name: str) -> int:
    """Return the MIDI pitch of a name such as ``"F#4"``; C4 is 60."""
    step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[name[0]]
    return 12 * (int(name[-1]) + 1) + step + name.count("#") - name[1:].count("b")


def hands() -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return right and left hand as (onset in ticks, duration in ticks, pitch)."""
    right: list[tuple[int, int, int]] = []
    left: list[tuple[int, int, int]] = []
    bars = [bar.split() for line in BARS.strip().splitlines() for bar in line.split("|")]
    for index, (bass, tenor, *broken) in enumerate(bars):
        for half in (0, 8):
            start = index * BAR + half * SIXTEENTH
            left.append((start, 8 * SIXTEENTH, pitch(bass)))
            left.append((start + SIXTEENTH, 7 * SIXTEENTH, pitch(tenor)))
            for i, name in enumerate(2 * broken):
                right.append((start + (2 + i) * SIXTEENTH, SIXTEENTH, pitch(name)))
    for index, (bass, tenor, run) in enumerate(CLOSE, len(bars)):
        start = index * BAR
        left.append((start, BAR, pitch(bass)))
        left.append((start + SIXTEENTH, BAR - SIXTEENTH, pitch(tenor)))
        for i, name in enumerate(run.split()):
            right.append((start + (2 + i) * SIXTEENTH, SIXTEENTH, pitch(name)))
    start = (len(bars) + len(CLOSE)) * BAR
    for hand, chord in zip((left, right), LAST, strict=True):
        hand.extend((start, BAR, pitch(name)) for name in chord.split())
    return right, left


def build() -> bytes:
    """Return the demo piece as a type 1 MIDI file of two tracks, right hand first."""
    midi = mido.MidiFile(type=1, ticks_per_beat=4 * SIXTEENTH)
    for channel, (name, notes) in enumerate(zip(("Right hand", "Left hand"), hands(), strict=True)):
        track = midi.add_track(name)
        if channel == 0:
            track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(BPM)))
            track.append(mido.MetaMessage("time_signature", numerator=4, denominator=4))
            track.append(mido.MetaMessage("key_signature", key="C"))
        # At one tick the releases come first, so that a repeated key is free again.
        events = [(onset + duration, 0, key) for onset, duration, key in notes]
        events += [(onset, 1, key) for onset, _, key in notes]
        now = 0
        for tick, is_on, key in sorted(events):
            kind = "note_on" if is_on else "note_off"
            velocity = VELOCITY if is_on else 0
            track.append(mido.Message(kind, channel=channel, note=key, velocity=velocity, time=tick - now))
            now = tick
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def main() -> None:
    """Write the file named on the command line, or the one that the package ships."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PATH
    path.write_bytes(build())


if __name__ == "__main__":
    main()

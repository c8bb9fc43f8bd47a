"""The values that travel between stages: notes, score, pcm, specs. NumPy only, no behaviour.

Times are seconds unless the field name says ticks or frames. Arrays are read-only by
convention: a stage returns new arrays and never writes into its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: One score note. ``onset_sec`` and ``duration_sec`` follow the notated tempo map.
SCORE_NOTE = np.dtype(
    [
        ("onset_sec", "f8"),
        ("duration_sec", "f8"),
        ("onset_tick", "i8"),
        ("duration_tick", "i8"),
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("track", "u2"),
        ("channel", "u1"),
    ]
)

#: One sounding note, deadpan or performed.
NOTE = np.dtype([("onset_sec", "f8"), ("duration_sec", "f8"), ("pitch", "u1"), ("velocity", "u1")])

#: One sustain-pedal event: MIDI controller 64, value 0..127.
PEDAL = np.dtype([("time_sec", "f8"), ("value", "u1")])

#: One tempo event: from this tick on, microseconds per quarter note.
TEMPO = np.dtype([("tick", "i8"), ("us_per_quarter", "f8")])

#: One time signature.
METER = np.dtype([("tick", "i8"), ("numerator", "u2"), ("denominator", "u2")])


@dataclass(frozen=True)
class Score:
    """Notes as loaded or captured, with tempo map and meter.

    Attributes
    ----------
    notes : ndarray of SCORE_NOTE
        Sorted by (onset_tick, pitch); seconds start at tick 0 of the file.
    ticks_per_quarter : int
    tempi : ndarray of TEMPO
        Sorted, the first at tick 0.
    meters : ndarray of METER
        Sorted, the first at tick 0.
    title : str
        File name or track name, for people.
    warnings : tuple of str
        What was repaired or left out while reading, one sentence each.
    """

    notes: np.ndarray
    ticks_per_quarter: int
    tempi: np.ndarray
    meters: np.ndarray
    title: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def duration_sec(self) -> float:
        """Seconds from tick 0 to the end of the last note."""
        return float((self.notes["onset_sec"] + self.notes["duration_sec"]).max())


@dataclass(frozen=True)
class Pcm:
    """Audio: float32 ``[frames, channels]`` and its sample rate in hertz."""

    samples: np.ndarray
    sample_rate: int

    @property
    def duration_sec(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

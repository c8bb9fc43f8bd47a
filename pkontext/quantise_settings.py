"""The knobs of `pkontext.quantise`, their ranges, and what is said when one is out of range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkontext import rhythm
from pkontext.errors import InputError

MIN_TEMPO, MAX_TEMPO = 10.0, 400.0
DIVISIONS = (1, 2, 3, 4, 6, 8, 12)


@dataclass(frozen=True)
class QuantiseSettings:
    """How playing becomes a score; None means found.

    Attributes
    ----------
    tempo_bpm : float or None
        Beats a minute. With ``first_beat_sec`` it is exact, a metronome's; alone it is about right, and the
        beats follow the playing around it.
    first_beat_sec : float or None
        Time of a beat. With a tempo and ``beats_per_bar`` it also starts a bar.
    beats_per_bar : int or None
        2, 3, 4, or 6 for a 6/8 whose eighths are the beats.
    downbeat : int or None
        Number of the beat, counted from 0 in `Quantised.beat_sec`, that starts a bar.
    ternary : bool or None
        Beats are dotted quarters, as in 6/8 of two beats.
    divisions : tuple of int or None
        Parts a beat may be divided into, of `DIVISIONS`; None lets every beat take what fits.
    strength : float
        0 leaves notes where they were played between the beats, 1 puts them on the grid.
    constant_tempo : bool
        One tempo; False writes a tempo map that follows the playing.
    chord_sec : float
        Notes that start within this time are one chord.
    quantise_durations : bool
        Write lengths as notation does; False keeps how long keys were held.
    split : str or int
        ``"found"``, ``"none"``, or the lowest pitch of the right hand.
    keep_dynamics : bool
        Write smoothed dynamics; False gives every note the same velocity.
    title : str
    """

    tempo_bpm: float | None = None
    first_beat_sec: float | None = None
    beats_per_bar: int | None = None
    downbeat: int | None = None
    ternary: bool | None = None
    divisions: tuple[int, ...] | None = None
    strength: float = 1.0
    constant_tempo: bool = True
    chord_sec: float = rhythm.CHORD_SEC
    quantise_durations: bool = True
    split: str | int = "found"
    keep_dynamics: bool = False
    title: str = ""


def check_settings(settings: QuantiseSettings) -> None:
    """Refuse settings out of range.

    Raises
    ------
    InputError
        ``quantise.settings``, naming the first that is.
    """
    tempo, first, divisions = settings.tempo_bpm, settings.first_beat_sec, settings.divisions
    checks = (
        (tempo is None or MIN_TEMPO <= tempo <= MAX_TEMPO, "tempo_bpm", f"{MIN_TEMPO:g} to {MAX_TEMPO:g}"),
        (first is None or bool(np.isfinite(first)), "first_beat_sec", "a time in seconds"),
        (settings.beats_per_bar in (None, 2, 3, 4, 6), "beats_per_bar", "2, 3, 4 or 6"),
        (settings.downbeat is None or settings.downbeat >= 0, "downbeat", "the number of a beat, from 0"),
        (
            divisions is None or (len(divisions) > 0 and set(divisions) <= set(DIVISIONS)),
            "divisions",
            "some of " + ", ".join(map(str, DIVISIONS)),
        ),
        (0 <= settings.strength <= 1, "strength", "0 to 1"),
        (0 <= settings.chord_sec <= 0.2, "chord_sec", "0 to 0.2 seconds"),
        (
            settings.split in ("found", "none")
            or (isinstance(settings.split, int) and 0 <= settings.split <= 127),
            "split",
            "'found', 'none' or a pitch from 0 to 127",
        ),
    )
    for fine, name, wanted in checks:
        if not fine:
            value = getattr(settings, name)
            raise InputError("quantise.settings", f"{name} cannot be {value!r}.", f"Use {wanted}.")

"""From playing to score: notes as captured become notes as written, deadpan, on a grid, in two hands.

`quantise` finds beats (or takes the metronome's), places every note between them, and writes lengths, hands,
bars and tempo as a score would. It never changes what was captured: each score note says which captured note
it comes from, and any setting can be tried again on the same notes.

Threading: functions of their arguments without shared state; any thread may call them, a worker best: an hour
of playing takes some seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkontext import beats as finding
from pkontext import notate, rhythm, smf
from pkontext.errors import InputError
from pkontext.hands import right_hand
from pkontext.ornaments import grid_units, join_broken_chords
from pkontext.quantise_settings import QuantiseSettings, check_settings
from pkontext.rhythm import UNITS
from pkontext.score import MAX_DURATION_SEC
from pkontext.types import NOTE, PEDAL, SCORE_NOTE, Score

__all__ = ["PREVIEW", "QuantiseSettings", "Quantised", "describe", "quantise", "score_of_playing"]

#: What `describe` returns: a captured note beside its score note.
PREVIEW = np.dtype(
    [
        ("row", "i8"), ("pitch", "u1"), ("right_hand", "?"),
        ("captured_sec", "f8"), ("captured_end_sec", "f8"),
        ("score_sec", "f8"), ("score_end_sec", "f8"), ("bar", "i8"), ("beat", "f8"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Quantised:
    """A score of captured notes, and where it came from.

    Attributes
    ----------
    score : Score
    rows : ndarray of int
        ``[score notes]``, row of the captured notes that each comes from.
    merged : ndarray of int
        ``[n, 2]``, captured rows that fell on an equal note, and the row that stands for them.
    left_out : ndarray of int
        Captured rows that no piano has.
    right_hand : ndarray of bool
        ``[score notes]``.
    beat_sec : ndarray
        ``[beats]``, beats in captured seconds.
    bar_starts : ndarray of bool
        ``[beats]``.
    beat_ticks : int
        Ticks of a beat in the score.
    tempo_bpm : float
        Mean beats a minute.
    settings : QuantiseSettings
    warnings : tuple of str
        What a user should know, one sentence each.
    """

    score: Score
    rows: np.ndarray
    merged: np.ndarray
    left_out: np.ndarray
    right_hand: np.ndarray
    beat_sec: np.ndarray
    bar_starts: np.ndarray
    beat_ticks: int
    tempo_bpm: float
    settings: QuantiseSettings
    warnings: tuple[str, ...]


def quantise(notes: np.ndarray, pedals: np.ndarray, settings: QuantiseSettings | None = None) -> Quantised:
    """Make a score of what was played.

    Parameters
    ----------
    notes : ndarray of NOTE
        In any order; not written to.
    pedals : ndarray of PEDAL
        May be empty. Presses help to find beats; lengths ignore the pedal.
    settings : QuantiseSettings, optional

    Returns
    -------
    Quantised

    Raises
    ------
    InputError
        ``notes.empty`` without a note that a piano has, ``notes.invalid`` for times that are negative or not
        finite or too many notes, ``quantise.settings`` for a setting out of range, ``quantise.too_long``.
    """
    settings = settings or QuantiseSettings()
    check_settings(settings)
    rows, played, pressed, warnings = _usable(notes, pedals)
    events = rhythm.find_events(played, pressed, settings.chord_sec)
    heard = rhythm.listen(events)
    if settings.tempo_bpm is not None and settings.first_beat_sec is not None:
        beat_sec = finding.steady_beats(events, settings.tempo_bpm, settings.first_beat_sec)
    else:
        beat_sec = finding.find_beats(events, heard, settings.tempo_bpm, settings.first_beat_sec)
    beats = join_broken_chords(played, events, finding.place(events, heard, beat_sec, settings.divisions))
    unit = grid_units(played, events, beats)
    right = _right_hand(played, settings)
    bar, first = _bar(events, heard, beats, settings)
    # The bar with the earliest note is the first bar of the score.
    first += bar.beats * int((float(unit.min()) / UNITS - first) // bar.beats)
    tick, end = _ticks(played, unit, first, beats, right, bar, settings)
    kept, merged = notate.one_note_a_key(tick, end, played["pitch"])
    if len(merged):
        warnings.append(f"{len(merged)} of {len(played)} notes fell on an equal note and were merged.")
    span = _span(events, beats)
    tempi = notate.tempo_map(
        beats.time_sec, -first * bar.beat_ticks, bar, settings.constant_tempo, span, warnings
    )
    score_notes = _score_notes(played, tick, end, right, bar, kept, settings)
    score = notate.make_score(score_notes, tempi, bar, settings.title, tuple(warnings))
    if score.duration_sec > MAX_DURATION_SEC:
        raise InputError(
            "quantise.too_long",
            f"The score would last {score.duration_sec / 3600:.1f} hours; "
            f"{MAX_DURATION_SEC / 3600:.0f} are the most.",
            "Choose a shorter part of what was played, or a faster tempo.",
        )
    used = beats.time_sec[span]
    return Quantised(
        score=score,
        rows=rows[kept],
        merged=rows[merged],
        left_out=np.setdiff1d(np.arange(len(notes)), rows),
        right_hand=right[kept],
        beat_sec=beats.time_sec,
        bar_starts=(np.arange(len(beats.time_sec)) - first) % bar.beats == 0,
        beat_ticks=bar.beat_ticks,
        tempo_bpm=60.0 * (len(used) - 1) / float(used[-1] - used[0]),
        settings=settings,
        warnings=tuple(warnings),
    )


def score_of_playing(
    notes: np.ndarray, pedals: np.ndarray, settings: QuantiseSettings | None = None
) -> Score:
    """Return the score alone, ready to be performed; see `quantise`."""
    return quantise(notes, pedals, settings).score


def describe(quantised: Quantised, notes: np.ndarray) -> np.ndarray:
    """Lay captured and score notes side by side, for a piano roll.

    Parameters
    ----------
    quantised : Quantised
    notes : ndarray of NOTE
        What was captured.

    Returns
    -------
    ndarray of PREVIEW
        ``[score notes]``: captured times in captured seconds, score times in score seconds, bars and beats
        counted from 1.
    """
    score, captured = quantised.score, np.asarray(notes, NOTE)[quantised.rows]
    out = np.zeros(len(score.notes), PREVIEW)
    out["row"], out["pitch"], out["right_hand"] = quantised.rows, captured["pitch"], quantised.right_hand
    out["captured_sec"] = captured["onset_sec"]
    out["captured_end_sec"] = captured["onset_sec"] + captured["duration_sec"]
    out["score_sec"] = score.notes["onset_sec"]
    out["score_end_sec"] = score.notes["onset_sec"] + score.notes["duration_sec"]
    meter = score.meters[0]
    bar_ticks = 4 * score.ticks_per_quarter * int(meter["numerator"]) // int(meter["denominator"])
    out["bar"] = 1 + score.notes["onset_tick"] // bar_ticks
    out["beat"] = 1 + (score.notes["onset_tick"] % bar_ticks) / quantised.beat_ticks
    return out


def _usable(notes: np.ndarray, pedals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Rows of the notes that a piano has, sorted by onset, these notes, the pedal, and warnings."""
    notes, pedals = np.asarray(notes, NOTE), np.asarray(pedals, PEDAL)
    fine = np.isfinite(notes["onset_sec"]) & np.isfinite(notes["duration_sec"])
    fine &= (notes["onset_sec"] >= 0) & (notes["duration_sec"] >= 0)
    fine[fine] &= (notes["onset_sec"] + notes["duration_sec"])[fine] <= MAX_DURATION_SEC
    if not fine.all() or len(notes) > smf.MAX_NOTES or not np.isfinite(pedals["time_sec"]).all():
        raise InputError(
            "notes.invalid",
            f"{int((~fine).sum())} of {len(notes)} notes have times that cannot be used.",
            f"Use at most {smf.MAX_NOTES} notes with times from 0 to three hours.",
        )
    has = notate.on_piano(notes["pitch"])
    if not has.any():
        raise InputError("notes.empty", "There are no notes that a piano has.", "Play at least one note.")
    warnings = []
    if not has.all():
        warnings.append(f"Left out {int((~has).sum())} of {len(notes)} notes outside the piano's range.")
    rows = np.flatnonzero(has)
    rows = rows[np.lexsort((notes["pitch"][rows], notes["onset_sec"][rows]))]
    pedals = pedals[np.argsort(pedals["time_sec"], kind="stable")]
    return rows, notes[rows], pedals, warnings


def _right_hand(played: np.ndarray, settings: QuantiseSettings) -> np.ndarray:
    if settings.split == "found":
        return right_hand(played)
    lowest = settings.split if isinstance(settings.split, int) else 0
    return played["pitch"] >= lowest


def _bar(
    events: rhythm.Events, heard: rhythm.Heard, beats: finding.Beats, settings: QuantiseSettings
) -> tuple[notate.Bar, int]:
    """Metre, and the number of a beat that starts a bar."""
    count, first = finding.find_bar(events, heard, beats, settings.beats_per_bar)
    given = settings.first_beat_sec
    if settings.downbeat is not None:
        first = settings.downbeat
    elif given is not None and settings.tempo_bpm is not None and settings.beats_per_bar is not None:
        first = round(float(finding.beats_at(np.array(given), beats.time_sec)))
    ternary = settings.ternary
    if ternary is None:
        ternary = count != 6 and finding.is_ternary(beats)
    return notate.make_bar(count, ternary), first


def _ticks(
    played: np.ndarray,
    unit: np.ndarray,
    first: int,
    beats: finding.Beats,
    right: np.ndarray,
    bar: notate.Bar,
    settings: QuantiseSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """First and last tick of each note; tick 0 is at beat ``first``."""
    exact = UNITS * finding.beats_at(played["onset_sec"], beats.time_sec)
    length = UNITS * finding.beats_at(played["onset_sec"] + played["duration_sec"], beats.time_sec) - exact
    if settings.quantise_durations:
        length = notate.written_lengths(unit, length, right, settings.divisions)
    start = settings.strength * unit + (1 - settings.strength) * exact - UNITS * first
    per_unit = bar.beat_ticks / UNITS
    tick = np.maximum(np.rint(start * per_unit), 0).astype(np.int64)
    return tick, np.maximum(np.rint((start + length) * per_unit).astype(np.int64), tick + 1)


def _span(events: rhythm.Events, beats: finding.Beats) -> slice:
    """The beats from the one at or before the first event to the one after the last."""
    first = min(int(beats.unit.min() // UNITS), len(beats.time_sec) - 2)
    return slice(first, max(int(beats.unit.max() // UNITS) + 2, first + 2))


def _score_notes(
    played: np.ndarray,
    tick: np.ndarray,
    end: np.ndarray,
    right: np.ndarray,
    bar: notate.Bar,
    kept: np.ndarray,
    settings: QuantiseSettings,
) -> np.ndarray:
    notes = np.zeros(len(kept), SCORE_NOTE)
    notes["onset_tick"], notes["duration_tick"] = tick[kept], (end - tick)[kept]
    notes["pitch"] = played["pitch"][kept]
    notes["velocity"] = notate.FLAT_VELOCITY
    if settings.keep_dynamics:
        bar_ticks = bar.beats * bar.beat_ticks
        notes["velocity"] = notate.written_dynamics(tick[kept], played["velocity"][kept], bar_ticks)
    split = settings.split != "none"
    notes["track"] = np.where(right[kept] | (not split), notate.RIGHT_TRACK, notate.LEFT_TRACK)
    return notes

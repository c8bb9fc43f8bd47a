"""Standard MIDI files to `Score`: what is repaired, what is refused, and the time maps of a score.

`pkontext.smf` walks the bytes of a file under fixed limits; here its events become notes of one
piano. Only well-framed tempo and meter messages reach mido.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mido
import numpy as np

from pkontext import smf
from pkontext.errors import InputError
from pkontext.types import METER, NOTE, SCORE_NOTE, TEMPO, Score

MAX_DURATION_SEC = 3 * 3600.0

#: The piano's keys, A0 to C8.
LOWEST_PITCH, HIGHEST_PITCH = 21, 108
#: General MIDI percussion, channel 10 counted from 0.
DRUM_CHANNEL = 9
#: A note that is never released ends after this time or at the last event, whichever is first.
HANGING_NOTE_SEC = 4.0
MIN_BPM, MAX_BPM = 5.0, 1000.0
DEFAULT_US_PER_QUARTER = 500_000.0
#: Resolution of scores that were not read from a file.
CAPTURE_TICKS_PER_QUARTER = 960


def load_score(path: Path) -> Score:
    """Read a Standard MIDI File, or a RIFF file that wraps one.

    All melodic channels are taken as one piano. Velocities are kept; pedal, program and other
    controllers are not part of a score. One key sounds one note: of equal notes in two voices the
    longest stays, and a key that is struck again is released first, as `pkontext.synth` plays it.

    A tempo of zero says nothing and is left out; other tempi outside `MIN_BPM`..`MAX_BPM` are
    moved to the limit, because one stray event should not make a piece unusable.

    Parameters
    ----------
    path : Path
        The ``.mid`` file.

    Returns
    -------
    Score
        Its title is the file's name without suffix; `Score.warnings` names every repair.

    Raises
    ------
    InputError
        ``midi.missing``, ``midi.directory``, ``midi.unreadable``, ``midi.too_large``,
        ``midi.empty``, ``midi.not_midi``, ``midi.truncated``, ``midi.damaged``, ``midi.type2``,
        ``midi.division``, ``midi.too_many_tracks``, ``midi.too_many_events``,
        ``midi.too_many_notes``, ``midi.no_notes``, ``midi.drums_only``, ``midi.out_of_range``
        or ``midi.too_long``. Nothing else escapes, whatever the file holds.
    """
    path = Path(path)
    warnings: list[str] = []
    division, events = smf.read_events(path, warnings)
    ticks_per_quarter, tempi = _tempo_map(division, events, warnings)
    notes = _notes(events, ticks_per_quarter, tempi, warnings)
    end_tick = int((notes["onset_tick"] + notes["duration_tick"]).max())
    meters = _meter_map(events, warnings)
    return Score(
        notes=notes,
        ticks_per_quarter=ticks_per_quarter,
        tempi=tempi[tempi["tick"] < end_tick],
        meters=meters[meters["tick"] < end_tick],
        title=path.stem,
        warnings=tuple(warnings),
    )


def score_from_notes(
    notes: np.ndarray, title: str = "", bpm: float = 120.0, meter: tuple[int, int] = (4, 4)
) -> Score:
    """Make a score of captured notes, at one tempo.

    Parameters
    ----------
    notes : ndarray of NOTE
        In any order. Times are rounded to ticks (0.5 ms at 120 bpm).
    title : str
    bpm : float
        Quarter notes a minute.
    meter : tuple of int
        Numerator and denominator.

    Returns
    -------
    Score

    Raises
    ------
    InputError
        ``notes.empty`` without notes, ``notes.invalid`` for times that are negative, not finite
        or beyond `MAX_DURATION_SEC`, pitches off the piano, or a tempo or meter out of range.
    """
    notes = np.asarray(notes, NOTE)
    if len(notes) == 0:
        raise InputError("notes.empty", "There are no notes.", "Play or draw at least one note.")
    end_sec = notes["onset_sec"] + notes["duration_sec"]
    on_piano = (notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)
    in_time = (notes["onset_sec"] >= 0) & (notes["duration_sec"] >= 0) & (end_sec <= MAX_DURATION_SEC)
    fits = MIN_BPM <= bpm <= MAX_BPM and meter[0] > 0 and meter[1] in (1, 2, 4, 8, 16, 32, 64)
    if len(notes) > smf.MAX_NOTES or not (on_piano & in_time).all() or not fits:
        raise InputError(
            "notes.invalid",
            f"{_count(int((~(on_piano & in_time)).sum()), 'note')} of {len(notes)} cannot be used "
            f"at {bpm:g} bpm in {meter[0]}/{meter[1]}.",
            f"Use at most {smf.MAX_NOTES} notes of pitch {LOWEST_PITCH} to {HIGHEST_PITCH}, within three "
            f"hours, at {MIN_BPM:g} to {MAX_BPM:g} bpm.",
        )
    tempi = np.array([(0, 60e6 / bpm)], TEMPO)
    tpq = CAPTURE_TICKS_PER_QUARTER
    rows = np.zeros((len(notes), len(smf.ROW)), np.int64)
    rows[:, 0] = np.rint(seconds_to_ticks(notes["onset_sec"], tempi, tpq))
    rows[:, 1] = np.maximum(np.rint(seconds_to_ticks(end_sec, tempi, tpq)), rows[:, 0] + 1)
    rows[:, 4], rows[:, 5] = notes["pitch"], notes["velocity"]
    return Score(
        notes=_score_notes(_one_note_a_key(rows, []), tempi, tpq),
        ticks_per_quarter=tpq,
        tempi=tempi,
        meters=np.array([(0, *meter)], METER),
        title=title,
    )


def ticks_to_seconds(ticks: np.ndarray, tempi: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """Convert ticks to seconds through the whole tempo map.

    Parameters
    ----------
    ticks : array_like
        Any shape, in any order, not negative.
    tempi : ndarray of TEMPO
        Sorted, the first at tick 0.
    ticks_per_quarter : int

    Returns
    -------
    ndarray of float64
        Same shape; seconds from tick 0.
    """
    ticks = np.asarray(ticks)
    start_sec, sec_per_tick = _tempo_segments(tempi, ticks_per_quarter)
    at = np.searchsorted(tempi["tick"], ticks, side="right") - 1
    return start_sec[at] + (ticks - tempi["tick"][at]) * sec_per_tick[at]


def seconds_to_ticks(seconds: np.ndarray, tempi: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """Convert seconds to fractional ticks: the inverse of `ticks_to_seconds`.

    Parameters
    ----------
    seconds : array_like
        Any shape, in any order, not negative.
    tempi : ndarray of TEMPO
        Sorted, the first at tick 0.
    ticks_per_quarter : int

    Returns
    -------
    ndarray of float64
        Same shape; not rounded.
    """
    seconds = np.asarray(seconds, np.float64)
    start_sec, sec_per_tick = _tempo_segments(tempi, ticks_per_quarter)
    at = np.searchsorted(start_sec, seconds, side="right") - 1
    return tempi["tick"][at] + (seconds - start_sec[at]) / sec_per_tick[at]


def bar_at(score: Score, seconds: float) -> int:
    """Return the bar, counted from 1, that sounds at a time.

    A change of meter starts a new bar, also where the bar before it is not full.
    """
    here = np.array(max(seconds, 0.0))
    # A bar line given in seconds can land a rounding error before its tick.
    tick = 1e-3 + float(seconds_to_ticks(here, score.tempi, score.ticks_per_quarter))
    first_bar, bar_ticks = _bars(score)
    at = int(np.searchsorted(score.meters["tick"], tick, side="right")) - 1
    return int(first_bar[at] + (tick - score.meters["tick"][at]) // bar_ticks[at])


def bar_start_sec(score: Score, bar: int) -> float:
    """Return the time in seconds at which a bar, counted from 1, starts."""
    first_bar, bar_ticks = _bars(score)
    at = max(int(np.searchsorted(first_bar, bar, side="right")) - 1, 0)
    tick = score.meters["tick"][at] + max(bar - first_bar[at], 0) * bar_ticks[at]
    return float(ticks_to_seconds(tick, score.tempi, score.ticks_per_quarter))


def bar_span_sec(score: Score, first: int, last: int) -> tuple[float, float]:
    """Return the seconds from the start of a bar to the end of another, both counted from 1.

    The piece's last bar ends with the piece.

    Raises
    ------
    InputError
        ``score.bars`` when the piece does not have these bars.
    """
    count = bar_at(score, score.duration_sec - 2e-3)
    if not 1 <= first <= last <= count:
        raise InputError(
            "score.bars",
            f"There are no bars {first} to {last}; the piece has {_count(count, 'bar')}.",
            f"Choose bars from 1 to {count}, the earlier one first.",
        )
    end = score.duration_sec if last == count else bar_start_sec(score, last + 1)
    return bar_start_sec(score, first), end


def _bars(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Return for each meter the number of its first bar and the ticks a bar lasts."""
    meters = score.meters
    bar_ticks = 4.0 * score.ticks_per_quarter * meters["numerator"] / meters["denominator"]
    bars = np.ceil(np.diff(meters["tick"]) / bar_ticks[:-1] - 1e-9).astype(np.int64)
    return np.concatenate(([1], 1 + np.cumsum(bars))), bar_ticks


def _tempo_segments(tempi: np.ndarray, ticks_per_quarter: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each tempo the second at which it starts and the seconds a tick lasts."""
    sec_per_tick = tempi["us_per_quarter"] / (1e6 * ticks_per_quarter)
    spans = np.diff(tempi["tick"]) * sec_per_tick[:-1]
    return np.concatenate(([0.0], np.cumsum(spans))), sec_per_tick


def _tempo_map(division: int, events: smf.Events, warnings: list[str]) -> tuple[int, np.ndarray]:
    """Return ticks per quarter and the tempo map, sorted, from tick 0."""
    if division & 0x8000:
        frames_per_sec, ticks_per_frame = 256 - (division >> 8), division & 0xFF
        if frames_per_sec not in (24, 25, 29, 30) or ticks_per_frame == 0:
            raise _bad_division(division)
        # One "quarter" is one nominal second of frames; 29 stands for 30 drop frame, 30000/1001 Hz.
        nominal, us = (30, 1_001_000.0) if frames_per_sec == 29 else (frames_per_sec, 1_000_000.0)
        warnings.append("The file counts SMPTE frames instead of beats; its bars and tempo are made up.")
        return nominal * ticks_per_frame, np.array([(0, us)], TEMPO)
    if division == 0:
        raise _bad_division(division)
    slowest, fastest = 60e6 / MIN_BPM, 60e6 / MAX_BPM
    tempi, unusable, clamped = [(0, DEFAULT_US_PER_QUARTER)], 0, 0
    for tick, message in _messages(events, smf.SET_TEMPO):
        us = float(message.tempo) if message is not None else 0.0
        if us == 0.0:
            unusable += 1
            continue
        clamped += not fastest <= us <= slowest
        tempi.append((tick, min(max(us, fastest), slowest)))
    if unusable:
        warnings.append(f"Left out {_count(unusable, 'tempo event')} without a usable tempo.")
    if clamped:
        warnings.append(f"Moved {_count(clamped, 'tempo event')} into {MIN_BPM:g} to {MAX_BPM:g} bpm.")
    return division, _last_of_each_tick(np.array(tempi, TEMPO))


def _meter_map(events: smf.Events, warnings: list[str]) -> np.ndarray:
    meters, unusable = [(0, 4, 4)], 0
    for tick, message in _messages(events, smf.TIME_SIGNATURE):
        if message is None or message.numerator == 0 or message.denominator > 64:
            unusable += 1
        else:
            meters.append((tick, message.numerator, message.denominator))
    if unusable:
        warnings.append(f"Left out {_count(unusable, 'time signature')} that cannot be read.")
    return _last_of_each_tick(np.array(meters, METER))


def _messages(events: smf.Events, kind: int) -> list[tuple[int, Any]]:
    """Decode one kind of meta message with mido, sorted by tick; None where mido cannot."""
    found: list[tuple[int, Any]] = []
    for tick, message_kind, payload in events.maps:
        if message_kind == kind:
            try:
                message = mido.MetaMessage.from_bytes([smf.META, kind, len(payload), *payload])
            except (LookupError, ValueError, TypeError, ArithmeticError):
                message = None
            found.append((tick, message))
    return sorted(found, key=lambda pair: pair[0])


def _last_of_each_tick(changes: np.ndarray) -> np.ndarray:
    """Keep the last change at each tick, without changes to what already holds."""
    changes = changes[np.append(np.diff(changes["tick"]) > 0, True)]
    values = changes[[name for name in changes.dtype.names or () if name != "tick"]]
    return changes[np.append(True, values[1:] != values[:-1])]


def _notes(events: smf.Events, ticks_per_quarter: int, tempi: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Filter and repair the collected notes; return them as SCORE_NOTE, sorted."""
    rows = np.array(events.rows, np.int64).reshape(-1, len(smf.ROW))
    if len(rows) == 0:
        raise InputError(
            "midi.no_notes", "The file holds no notes.", "Check the export, or choose another file."
        )
    drums = rows[:, 3] == DRUM_CHANNEL
    if drums.all():
        raise InputError(
            "midi.drums_only",
            f"All {_count(len(rows), 'note')} of the file are drums (channel 10).",
            "Move the notes to another channel, or choose a file with pitched notes.",
        )
    rows = rows[~drums]
    on_piano = (rows[:, 4] >= LOWEST_PITCH) & (rows[:, 4] <= HIGHEST_PITCH)
    if not on_piano.any():
        raise InputError(
            "midi.out_of_range",
            "All notes of the file lie outside the piano's range (A0 to C8).",
            "Transpose the piece, or choose another file.",
        )
    rows = rows[on_piano]
    if drums.any():
        warnings.append(f"Left out {_count(int(drums.sum()), 'drum note')} on channel 10.")
    if not on_piano.all():
        outside = _count(int((~on_piano).sum()), "note")
        warnings.append(f"Left out {outside} outside the piano's range (A0 to C8).")
    rows = _end_every_note(rows, events.last_tick, ticks_per_quarter, tempi, warnings)
    notes = _score_notes(_one_note_a_key(rows, warnings), tempi, ticks_per_quarter)
    end_sec = float((notes["onset_sec"] + notes["duration_sec"]).max())
    if end_sec > MAX_DURATION_SEC:
        raise InputError(
            "midi.too_long",
            f"The piece lasts {end_sec / 3600:.1f} hours; {MAX_DURATION_SEC / 3600:.0f} are the most.",
            "Cut it into shorter pieces, or check its tempo and resolution.",
        )
    return notes


def _end_every_note(
    rows: np.ndarray, last_tick: int, ticks_per_quarter: int, tempi: np.ndarray, warnings: list[str]
) -> np.ndarray:
    """Give hanging notes an end and notes of no length a 1/64 note."""
    rows = rows.copy()
    onset, end = rows[:, 0], rows[:, 1]
    hanging, empty = end < 0, end == onset
    onset_sec = ticks_to_seconds(onset[hanging], tempi, ticks_per_quarter)
    latest = seconds_to_ticks(onset_sec + HANGING_NOTE_SEC, tempi, ticks_per_quarter).astype(np.int64)
    end[hanging] = np.minimum(latest, last_tick)
    end[end <= onset] = (onset + max(1, ticks_per_quarter // 16))[end <= onset]
    if hanging.any():
        hung = _count(int(hanging.sum()), "note")
        warnings.append(f"Ended {hung} without a note-off, after {HANGING_NOTE_SEC:g} s at the latest.")
    if empty.any():
        warnings.append(f"Gave {_count(int(empty.sum()), 'note')} of no length a 1/64 note.")
    return rows


def _one_note_a_key(rows: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Merge equal notes of several voices and end a note where its key is struck again."""
    onset, end, pitch = rows[:, 0], rows[:, 1], rows[:, 4]
    rows = rows[np.lexsort((-end, onset, pitch))]  # the longest of equal notes comes first
    same_key = rows[1:, 4] == rows[:-1, 4]
    double = np.append(False, same_key & (rows[1:, 0] == rows[:-1, 0]))
    rows = rows[~double]
    same_key = rows[1:, 4] == rows[:-1, 4]
    held = np.append(same_key & (rows[:-1, 1] > rows[1:, 0]), False)
    rows[held, 1] = rows[np.flatnonzero(held) + 1, 0]
    if double.any():
        warnings.append(f"Merged {_count(int(double.sum()), 'note')} with an equal note of another voice.")
    if held.any():
        warnings.append(f"Shortened {_count(int(held.sum()), 'note')} whose key is struck again.")
    return rows


def _score_notes(rows: np.ndarray, tempi: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """Turn rows into SCORE_NOTE, sorted by (onset_tick, pitch)."""
    onset, end, track, channel, pitch, velocity = rows[np.lexsort((rows[:, 4], rows[:, 0]))].T
    notes = np.zeros(len(rows), SCORE_NOTE)
    notes["onset_tick"], notes["duration_tick"] = onset, end - onset
    notes["onset_sec"] = ticks_to_seconds(onset, tempi, ticks_per_quarter)
    notes["duration_sec"] = ticks_to_seconds(end, tempi, ticks_per_quarter) - notes["onset_sec"]
    notes["track"], notes["channel"], notes["pitch"], notes["velocity"] = track, channel, pitch, velocity
    return notes


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _bad_division(division: int) -> InputError:
    return InputError("midi.division", f"The time division 0x{division:04x} is invalid.", smf.EXPORT_AGAIN)

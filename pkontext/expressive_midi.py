"""A take's notes as a Standard MIDI File, in two forms.

*Fixed*: everything at its performed time, at 120 quarters a minute throughout; any player sounds it as
performed, bars mean nothing. *Score*: every chord stays on its score tick, and a tempo map that changes
from chord to chord reproduces the performed seconds, so bars and notation survive in a sequencer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np

from pkontext.errors import RenderError
from pkontext.score import seconds_to_ticks, ticks_to_seconds
from pkontext.types import TEMPO, Score

FORMS = ("fixed", "score")
_FIXED_TICKS, _FIXED_US = 960, 500_000
#: Longest tick of the score form, so that rounding to ticks stays below a quarter of a millisecond.
_LONGEST_TICK_SEC = 0.0005
_MOST_TICKS = 32_767
_SLOWEST_US = 2**24 - 1
_LEAST_STEP_SEC = 0.001


@dataclass(frozen=True)
class TakeNotes:
    """What a file is made of.

    Attributes
    ----------
    score : Score
    rows : ndarray
        ``[notes]``, which notes of the score are played.
    notes : ndarray of NOTE
        Row by row as performed, seconds of the audio.
    pedals : ndarray of PEDAL
        In seconds of the audio.
    texts : tuple of str
        Seed, settings and bundle, kept in the file as text events.
    """

    score: Score
    rows: np.ndarray
    notes: np.ndarray
    pedals: np.ndarray
    texts: tuple[str, ...] = ()


def expressive_midi(take: TakeNotes, form: str = "fixed") -> mido.MidiFile:
    """Make a type-1 file: a track of tempo, metre and texts, then a track for each track of the score.

    Parameters
    ----------
    take : TakeNotes
    form : str
        One of `FORMS`. In the score form, second 0 of the file is `score_offset_sec` of the audio.

    Returns
    -------
    mido.MidiFile
        Events are within half a millisecond of the take's.

    Raises
    ------
    ValueError
        For an unknown form.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; use one of {', '.join(FORMS)}")
    if form == "fixed":
        tempi = np.array([(0, _FIXED_US)], TEMPO)
        ticks_per_quarter, offset, meters = _FIXED_TICKS, 0.0, take.score.meters[:0]
    else:
        scale = _tick_scale(take)
        ticks_per_quarter = take.score.ticks_per_quarter * scale
        tempi, offset = _tempo_map(take, scale)
        meters = take.score.meters.copy()
        meters["tick"] *= scale
    file = mido.MidiFile(type=1, ticks_per_beat=ticks_per_quarter, charset="utf-8")
    file.tracks.append(
        _conductor(tempi, meters, (*take.texts, f"pkontext form={form} offset_sec={offset:.6f}"))
    )

    def ticks(seconds: np.ndarray) -> np.ndarray:
        after = np.maximum(np.asarray(seconds, np.float64) - offset, 0.0)
        return np.rint(seconds_to_ticks(after, tempi, ticks_per_quarter)).astype(np.int64)

    played = take.score.notes[take.rows]
    for number in np.unique(played["track"]):
        inside = played["track"] == number
        channel = int(played["channel"][inside][0])
        file.tracks.append(_note_track(take.notes[inside], take.pedals, channel, ticks))
    return file


def score_offset_sec(take: TakeNotes) -> float:
    """Second of the audio at which the score form's tick 0 lies."""
    return _tempo_map(take, _tick_scale(take))[1]


def write_midi(file: mido.MidiFile, path: Path) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Raises
    ------
    RenderError
        ``output.write`` when the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        file.save(temporary)
        temporary.replace(path)
    except OSError as error:
        raise RenderError(
            "output.write",
            f"{path} could not be written ({error.strerror or error}).",
            "Make room on the disk, or choose another folder.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _tick_scale(take: TakeNotes) -> int:
    """Factor on the score's resolution that keeps the longest tick short."""
    tick, second = _chords(take)
    slowest = float((np.diff(second) / np.diff(tick)).max()) if len(tick) > 1 else 0.0
    wanted = int(np.ceil(max(slowest, 0.5 / take.score.ticks_per_quarter) / _LONGEST_TICK_SEC))
    return max(min(wanted, _MOST_TICKS // take.score.ticks_per_quarter), 1)


def _chords(take: TakeNotes) -> tuple[np.ndarray, np.ndarray]:
    """Score tick and performed second of every chord, both increasing.

    The second is the median of its notes; the first chord's is its first note, as nothing can come before.
    """
    onset = take.score.notes["onset_tick"][take.rows]
    tick, first = np.unique(onset, return_inverse=True)
    second = np.array([np.median(take.notes["onset_sec"][first == i]) for i in range(len(tick))])
    second[0] = take.notes["onset_sec"][first == 0].min()
    least = np.arange(len(second)) * _LEAST_STEP_SEC
    return tick, np.maximum.accumulate(second - least) + least


def _tempo_map(take: TakeNotes, scale: int) -> tuple[np.ndarray, float]:
    """Tempo events at the chords, and the second of the audio at tick 0."""
    tick, second = _chords(take)
    tick, ticks_per_quarter = tick * scale, take.score.ticks_per_quarter * scale
    notated = float(ticks_to_seconds(tick[0], _scaled(take.score.tempi, scale), ticks_per_quarter))
    lead = min(notated, max(float(second[0]), 0.0)) if tick[0] else 0.0
    rows: list[tuple[int, int]] = []
    reached, offset = float(second[0]), float(second[0]) - lead
    if tick[0]:
        rows.append((0, _us(lead, int(tick[0]), ticks_per_quarter)))
        reached = offset + rows[0][1] * 1e-6 * int(tick[0]) / ticks_per_quarter
    for (start, stop), wanted in zip(pairwise(tick.tolist()), second[1:].tolist(), strict=True):
        us = _us(wanted - reached, stop - start, ticks_per_quarter)
        rows.append((start, us))
        reached += us * 1e-6 * (stop - start) / ticks_per_quarter
    last = rows[-1][1] if rows else _FIXED_US
    rows.append((int(tick[-1]), last))
    return np.array(rows, TEMPO), offset


def _us(seconds: float, ticks: int, ticks_per_quarter: int) -> int:
    """Microseconds a quarter at which ``ticks`` last ``seconds``, as far as a MIDI file can say it."""
    return int(np.clip(round(seconds * 1e6 * ticks_per_quarter / ticks), 1, _SLOWEST_US))


def _scaled(tempi: np.ndarray, scale: int) -> np.ndarray:
    scaled = tempi.copy()
    scaled["tick"] *= scale
    return scaled


def _conductor(tempi: np.ndarray, meters: np.ndarray, texts: tuple[str, ...]) -> mido.MidiTrack:
    events: list[tuple[int, mido.MetaMessage]] = [(0, mido.MetaMessage("text", text=text)) for text in texts]
    events += [
        (
            int(m["tick"]),
            mido.MetaMessage(
                "time_signature", numerator=int(m["numerator"]), denominator=int(m["denominator"])
            ),
        )
        for m in meters
    ]
    events += [(int(t["tick"]), mido.MetaMessage("set_tempo", tempo=int(t["us_per_quarter"]))) for t in tempi]
    return _track([(tick, order, message) for order, (tick, message) in enumerate(events)])


def _note_track(notes: np.ndarray, pedals: np.ndarray, channel: int, ticks) -> mido.MidiTrack:
    """Notes and pedal of one channel. A key is released before it is struck again, and every note ends."""
    start = ticks(notes["onset_sec"])
    stop = np.maximum(ticks(notes["onset_sec"] + notes["duration_sec"]), start + 1)
    events: list[tuple[int, int, mido.Message]] = []
    for key in np.unique(notes["pitch"]):
        rows = np.flatnonzero(notes["pitch"] == key)
        rows = rows[np.argsort(start[rows], kind="stable")]
        for row, following in pairwise(rows):
            start[following] = max(start[following], start[row] + 1)
            stop[following] = max(stop[following], start[following] + 1)
            stop[row] = min(stop[row], start[following])
    for row, note in enumerate(notes):
        pitch, velocity = int(note["pitch"]), int(note["velocity"])
        on = mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)
        off = mido.Message("note_off", note=pitch, velocity=0, channel=channel)
        events += [(int(start[row]), 2, on), (int(stop[row]), 0, off)]
    for when, pedal in zip(ticks(pedals["time_sec"]), pedals, strict=True):
        change = mido.Message("control_change", control=64, value=int(pedal["value"]), channel=channel)
        events.append((int(when), 1, change))
    if len(pedals) and pedals["value"][-1]:
        up = mido.Message("control_change", control=64, value=0, channel=channel)
        events.append((max(event[0] for event in events), 3, up))
    return _track(events)


def _track(events: Sequence[tuple[int, int, mido.Message | mido.MetaMessage]]) -> mido.MidiTrack:
    """Messages at absolute ticks to a track of differences, releases first at equal ticks."""
    track, now = mido.MidiTrack(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track

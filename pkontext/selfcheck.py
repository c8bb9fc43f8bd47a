"""Self-check of a take: what is heard in it against the notes that it plays, and those against the score.

What is heard comes from a transcription (`pkontext.transcriber`). A heard note is right when it has the
pitch of a note of the take and their onsets are within `TOLERANCE_SEC`, paired so that as many as possible
are right and then the onsets differ least. What is left of one pitch within `DISPLACED_SEC` is early or late.
A heard note at the time of an unheard one, near to it or octaves off, is one wrong note; all else is missing
or extra. A key that is struck twice within `UNISON_SEC` sounds as one note.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from pkontext.expressive_midi import TakeNotes
from pkontext.pairing import near_pairs, pair_by_key
from pkontext.score import bar_at, bar_start_sec, seconds_to_ticks
from pkontext.types import Score

#: Most that the onset of a right note is off, as is usual (MIREX, mir_eval).
TOLERANCE_SEC = 0.05
#: Most that the onset of an early or late note is off.
DISPLACED_SEC = 0.15
#: Strikes of one key that are nearer than this sound as one.
UNISON_SEC = 0.05
KINDS = ("missing", "extra", "wrong", "order")
_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


@dataclass(frozen=True)
class Finding:
    """One note that is not as it should be.

    Attributes
    ----------
    kind : str
        One of `KINDS`, or ``"early"`` or ``"late"`` in `CheckReport.displaced`.
    row : int
        Of the score's notes; -1 for an extra note.
    pitch : int
        MIDI pitch as heard or played; of a missing note, the wanted one.
    wanted : int
        MIDI pitch of the score's note; -1 for an extra note.
    time_sec : float
        In the audio: when it is heard, or should be.
    bar : int
        Counted from 1.
    beat : float
        Counted from 1, in the metre's own unit: eighths in 6/8.
    offset_sec : float
        How much later it is heard than the take plays it; 0 for missing and extra notes.
    """

    kind: str
    row: int
    pitch: int
    wanted: int
    time_sec: float
    bar: int
    beat: float
    offset_sec: float = 0.0

    def text(self) -> str:
        """For people: ``bar 12, beat 3 (0:34.2): missing C5``."""
        minutes, tenths = divmod(round(10 * self.time_sec), 600)
        place = f"bar {self.bar}, beat {self.beat:g} ({minutes}:{tenths / 10:04.1f})"
        if self.kind == "wrong":
            return f"{place}: {note_name(self.pitch)} instead of {note_name(self.wanted)}"
        if self.kind in ("early", "late"):
            return f"{place}: {note_name(self.pitch)} {1000 * abs(self.offset_sec):.0f} ms {self.kind}"
        kind = "out of order" if self.kind == "order" else self.kind
        return f"{place}: {kind} {note_name(self.pitch)}"


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes
    ----------
    source : str
        ``"audio"`` for heard notes against the take's, ``"notes"`` for the take's against the score's.
    expected, heard, matched : int
        Notes to be heard, notes that are, and how many of these are right.
    findings : tuple of Finding
        Sorted by time.
    displaced : tuple of Finding
        Notes of the right pitch that are early or late, sorted by time; they do not count as matched.
    """

    source: str
    expected: int
    heard: int
    matched: int
    findings: tuple[Finding, ...]
    displaced: tuple[Finding, ...] = ()

    @property
    def precision(self) -> float:
        """Share of the heard notes that are right."""
        return self.matched / self.heard if self.heard else 0.0

    @property
    def recall(self) -> float:
        """Share of the expected notes that are heard, and right."""
        return self.matched / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.expected + self.heard
        return 2 * self.matched / total if total else 0.0

    def count(self, kind: str) -> int:
        """How many findings or displaced notes are of this kind."""
        return sum(finding.kind == kind for finding in (*self.findings, *self.displaced))

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in ("source", "expected", "heard", "matched")},
            **{name: round(getattr(self, name), 4) for name in ("precision", "recall", "f1")},
            **{kind: self.count(kind) for kind in (*KINDS, "early", "late")},
            "findings": [_plain(finding) for finding in self.findings],
            "displaced": [_plain(finding) for finding in self.displaced],
        }


def note_name(pitch: int) -> str:
    """Name of a MIDI pitch; 60 is C4."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def check_notes(
    take: TakeNotes, heard: np.ndarray, span_sec: tuple[float, float] = (-np.inf, np.inf)
) -> CheckReport:
    """Compare the notes that are heard in a take's audio with those that it plays.

    Parameters
    ----------
    take : TakeNotes
        Only its own rows are expected: score notes that it does not play are no findings.
    heard : ndarray of NOTE
        Transcribed from the take's audio, in seconds of the audio, in any order.
    span_sec : tuple of float
        Seconds of the audio to report on, the first included, the last not; all of them when left out.

    Returns
    -------
    CheckReport
        Its source is ``"audio"``.
    """
    sounding = _sounding(take.notes)
    onset, pitch = take.notes["onset_sec"][sounding], take.notes["pitch"][sounding].astype(int)
    heard = np.sort(heard, order="onset_sec")
    when, sound = heard["onset_sec"], heard["pitch"].astype(int)
    right = pair_by_key((onset, pitch), (when, sound), TOLERANCE_SEC)
    silent, stray = set(range(len(onset))) - set(right), set(range(len(when))) - set(right.values())
    moved = pair_by_key((onset, pitch), (when, sound), DISPLACED_SEC, silent, stray)
    silent, stray = silent - set(moved), stray - set(moved.values())
    wrong = near_pairs((onset, pitch), (when, sound), TOLERANCE_SEC, silent, stray)

    rows, score_sec = take.rows[sounding], _to_score_sec(take)

    def finding(kind: str, i: int, j: int) -> Finding:
        """Of note ``i`` of the take and heard note ``j``; -1 is none."""
        seconds = float(when[j] if j >= 0 else onset[i])
        place = take.score.notes["onset_sec"][rows[i]] if i >= 0 else score_sec(seconds)
        return Finding(
            kind,
            int(rows[i]) if i >= 0 else -1,
            int(sound[j] if j >= 0 else pitch[i]),
            int(pitch[i]) if i >= 0 else -1,
            seconds,
            *bar_and_beat(take.score, float(place)),
            float(when[j] - onset[i]) if i >= 0 and j >= 0 else 0.0,
        )

    found = [finding("wrong", i, j) for i, j in wrong.items()]
    found += [finding("missing", i, -1) for i in silent - set(wrong)]
    found += [finding("extra", -1, j) for j in stray - set(wrong.values())]
    findings = _inside(found, span_sec)
    displaced = _inside(
        (finding("late" if when[j] > onset[i] else "early", i, j) for i, j in moved.items()), span_sec
    )
    matched = sum(bool(span_sec[0] <= onset[i] < span_sec[1]) for i in right)
    missing, extra = (sum(f.kind == kind for f in findings) for kind in ("missing", "extra"))
    every = matched + len(findings) + len(displaced)
    return CheckReport("audio", every - extra, every - missing, matched, findings, displaced)


def check_plan(take: TakeNotes) -> CheckReport:
    """Compare the notes that a take plays with the score: all of its span, once, at their pitch, in order.

    A note is out of order when it begins more than `TOLERANCE_SEC` before the notes of an earlier score
    time do on average, or not after the note before it of its own key. These are the notes that the
    sampler voice plays and that a MIDI file holds.

    Parameters
    ----------
    take : TakeNotes

    Returns
    -------
    CheckReport
        Its source is ``"notes"``.
    """
    score, rows = take.score.notes, np.asarray(take.rows, np.int64)
    onset, pitch = take.notes["onset_sec"], take.notes["pitch"]
    unique, first = np.unique(rows, return_index=True)
    twice = np.setdiff1d(np.arange(len(rows)), first)
    tick = score["onset_tick"]
    span = np.flatnonzero((tick >= tick[unique].min()) & (tick <= tick[unique].max()))
    score_sec = _to_score_sec(take)

    def finding(kind: str, row: int, heard: int, seconds: float) -> Finding:
        place = float(score["onset_sec"][row]) if row >= 0 else score_sec(seconds)
        wanted = int(score["pitch"][row]) if row >= 0 else -1
        return Finding(kind, row, heard, wanted, seconds, *bar_and_beat(take.score, place))

    found = [finding("extra", -1, int(pitch[i]), float(onset[i])) for i in twice]
    for row in np.setdiff1d(span, unique):
        after = onset[first][tick[unique] >= tick[row]]
        found.append(finding("missing", int(row), int(score["pitch"][row]), float(after.min())))
    for i in first:
        if pitch[i] != score["pitch"][rows[i]]:
            found.append(finding("wrong", int(rows[i]), int(pitch[i]), float(onset[i])))
    for i in first[_out_of_order(tick[unique], pitch[first], onset[first])]:
        found.append(finding("order", int(rows[i]), int(pitch[i]), float(onset[i])))
    bad = {f.row for f in found if f.kind in ("wrong", "order")}
    return CheckReport("notes", len(span), len(rows), len(unique) - len(bad), _inside(found))


def bar_and_beat(score: Score, seconds: float) -> tuple[int, float]:
    """Return bar and beat, both counted from 1, at a time of the score; a beat is the metre's own unit."""
    bar = bar_at(score, seconds)
    edges = np.array([max(seconds, 0.0), bar_start_sec(score, bar)])
    tick, start = seconds_to_ticks(edges, score.tempi, score.ticks_per_quarter)
    meter = score.meters[np.searchsorted(score.meters["tick"], start + 1e-3, side="right") - 1]
    beat_ticks = 4.0 * score.ticks_per_quarter / int(meter["denominator"])
    beat = min(round(max(tick - start, 0.0) / beat_ticks, 2), int(meter["numerator"]) - 0.01)
    return bar, round(1 + float(beat), 2)


def _sounding(notes: np.ndarray) -> np.ndarray:
    """Indices of the notes whose strike is heard by itself, sorted by onset."""
    kept: list[int] = []
    last: dict[int, float] = {}
    for index in np.argsort(notes["onset_sec"], kind="stable"):
        key, onset = int(notes["pitch"][index]), float(notes["onset_sec"][index])
        if onset - last.get(key, -np.inf) >= UNISON_SEC:
            kept.append(int(index))
            last[key] = onset
    return np.array(kept, np.int64)


def _to_score_sec(take: TakeNotes) -> Callable[[float], float]:
    """Return the map from seconds of the audio to the score's, through the take's chords."""
    places, chord = np.unique(take.score.notes["onset_sec"][take.rows], return_inverse=True)
    played = np.bincount(chord, take.notes["onset_sec"]) / np.bincount(chord)
    played = np.maximum.accumulate(played)
    return lambda seconds: float(np.interp(seconds, played, places))


def _out_of_order(tick: np.ndarray, pitch: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """Which notes, sorted by tick, are played too early for their place, bool ``[notes]``."""
    _, chord = np.unique(tick, return_inverse=True)
    before = np.maximum.accumulate(np.bincount(chord, onset) / np.bincount(chord))
    early = (chord > 0) & (onset < before[np.maximum(chord - 1, 0)] - TOLERANCE_SEC)
    last: dict[int, float] = {}
    for index, (key, time) in enumerate(zip(pitch.tolist(), onset.tolist(), strict=True)):
        early[index] |= time <= last.get(key, -np.inf)
        last[key] = time
    return early


def _inside(
    findings: Iterable[Finding], span_sec: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[Finding, ...]:
    """Those of a span of the audio, sorted by time."""
    kept = (f for f in findings if span_sec[0] <= f.time_sec < span_sec[1])
    return tuple(sorted(kept, key=lambda f: (f.time_sec, f.pitch, f.row)))


def _plain(finding: Finding) -> dict[str, object]:
    exact = {name: round(getattr(finding, name), 4) for name in ("time_sec", "offset_sec")}
    return {**asdict(finding), **exact}

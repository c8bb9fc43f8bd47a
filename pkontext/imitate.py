"""Play it like a take: a performance of the same score becomes curves on the axis of a deadpan.

The curves have the units of `pkontext.curves.CHANNELS` and are read as in training. Only the local
tempo is taken, not the average one, so the tempo control stays the user's.

Threading: functions of their arguments without shared state; any thread may call them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pkontext import curves as pc
from pkontext import smf
from pkontext.deadpan import DeadpanScore
from pkontext.errors import InputError
from pkontext.match import covered_spans, match_notes
from pkontext.score import DRUM_CHANNEL, load_score, ticks_to_seconds
from pkontext.types import NOTE, PEDAL

#: A score note this much shorter than what it leads to is an ornament: its place is only conventional.
ORNAMENT_SEC = 0.08
#: Performed seconds beyond what the tempo asks for that tell a break from a fermata, when notes that
#: are not in the score (a passage that was tried and begun again) lie in it, and how many.
BREAK_SEC, BREAK_NOTES = 1.5, 4

_SUSTAIN = 64
_CONTROL_CHANGE = 0xB0


def imitated_curves(
    deadpan: DeadpanScore, performed: np.ndarray, pedals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Read the curves off a performance of the score, wherever it covers the score.

    Parameters
    ----------
    deadpan : DeadpanScore
        Of the take that shall be played like the performance.
    performed : ndarray of NOTE
        Seconds from anywhere, at any average tempo; a phrase of the piece will do.
    pedals : ndarray of PEDAL
        Sustain events in the same seconds; without any, the pedal is not given.

    Returns
    -------
    curves : ndarray
        float32 ``[frames, 12]``, zero where nothing is given. Over all passages that were played the
        tempo takes as long as the deadpan.
    given : ndarray
        bool ``[frames, 12]``.

    Raises
    ------
    InputError
        ``match.no_notes`` or ``match.other_piece``, see `pkontext.match.match_notes`;
        ``imitate.too_short``.
    """
    pairs = match_notes(deadpan.notes, performed)
    frames, frame_sec = deadpan.frames, deadpan.frame_sec
    spans = covered_spans(pairs, deadpan.notes)
    plain = pairs[~_ornaments(deadpan.notes)[pairs[:, 0]]]
    curves = np.zeros((frames, len(pc.CHANNELS)), np.float32)
    given = np.zeros(curves.shape, bool)
    pieces = [part for span in spans for part in _between_breaks(deadpan.notes, performed, plain, span)]
    pieces = [part for part in pieces if _lasts(deadpan.notes, part) > 2 * frame_sec]
    if not pieces:
        raise InputError(
            "imitate.too_short",
            f"The performance has {len(pairs)} notes of the score and no passage of two chords or more.",
            "Play or choose a longer passage.",
        )
    slower = sum(_takes(performed, part) for part in pieces) / sum(
        _lasts(deadpan.notes, part) for part in pieces
    )
    last_onset = float(deadpan.notes["onset_sec"].max())
    for part in pieces:
        read = _curves_of(deadpan, performed, pedals, part, slower)
        onset = deadpan.notes["onset_sec"][part[:, 0]] / frame_sec
        first, last = float(onset.min()), float(onset.max())
        centre = np.arange(frames) + 0.5
        inside = (centre >= first - 1) & (centre <= last + 1)  # notes read the frames on both sides
        tempo = (centre >= first) & (centre <= last)
        whole_end = last * frame_sec >= last_onset - 1e-6
        where = np.repeat(inside[:, None], len(pc.CHANNELS), axis=1)
        where[:, pc.TEMPO] = tempo
        where[:, pc.PEDAL_CHANNEL] = (tempo | (whole_end & (centre > last))) & bool(len(pedals))
        where &= ~given
        curves[where], given = read[where], given | where
    return curves, given


def read_performance(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a performance from a Standard MIDI File, or a RIFF file that wraps one.

    Notes are read, repaired and refused as `pkontext.score.load_score` does it.

    Returns
    -------
    notes : ndarray of NOTE
        Sorted by onset, seconds from tick 0.
    pedals : ndarray of PEDAL
        Sustain events of all channels but the drums', sorted by time.

    Raises
    ------
    InputError
        As `pkontext.score.load_score`; nothing else escapes, whatever the file holds.
    """
    path = Path(path)
    score = load_score(path)
    notes = np.empty(len(score.notes), NOTE)
    for name in NOTE.names or ():
        notes[name] = score.notes[name]
    moves = sorted(_sustain_moves(path))
    pedals = np.empty(len(moves), PEDAL)
    ticks = np.array([tick for tick, _ in moves], np.float64)
    pedals["time_sec"] = ticks_to_seconds(ticks, score.tempi, score.ticks_per_quarter)
    pedals["value"] = [value for _, value in moves]
    return notes, pedals


class _PedalReader(smf._TrackReader):
    """Walks a track like `pkontext.smf` and keeps its sustain moves as (tick, value)."""

    def __init__(self, chunk: bytes, track: int, moves: list[tuple[int, int]]) -> None:
        super().__init__(chunk, track, smf.Events())
        self.moves = moves

    def _channel_event(self, status: int) -> None:
        at = self.position
        super()._channel_event(status)
        sustain = status & 0xF0 == _CONTROL_CHANGE and self.chunk[at] == _SUSTAIN
        if sustain and status & 0x0F != DRUM_CHANNEL:
            self.moves.append((self.tick, self.chunk[at + 1]))


def _sustain_moves(path: Path) -> list[tuple[int, int]]:
    """Sustain moves of a file that `load_score` has read."""
    data = smf._unwrap_riff(smf._read_file(path), path.name)
    moves: list[tuple[int, int]] = []
    for track, (start, end) in enumerate(smf._split_chunks(data, path.name, [])[1]):
        try:
            _PedalReader(data[start:end], track, moves).read()
        except IndexError:  # the file has changed since load_score read it
            break
    return moves


def _ornaments(notes: np.ndarray) -> np.ndarray:
    """Whether each note is so short and so close before another that it has no time of its own."""
    onsets = np.unique(notes["onset_sec"])
    following = np.append(onsets, np.inf)[np.searchsorted(onsets, notes["onset_sec"] + 1e-3)]
    wait = following - notes["onset_sec"]
    return (notes["duration_sec"] < ORNAMENT_SEC) & (wait < ORNAMENT_SEC)


def _between_breaks(
    notes: np.ndarray, performed: np.ndarray, pairs: np.ndarray, span: tuple[float, float]
) -> list[np.ndarray]:
    """Pairs of a passage, cut where the player stopped and began again."""
    onset = notes["onset_sec"][pairs[:, 0]]
    pairs = pairs[(onset >= span[0]) & (onset <= span[1])]
    if len(pairs) < 2:
        return []
    onset, heard = notes["onset_sec"][pairs[:, 0]], performed["onset_sec"][pairs[:, 1]]
    chords, first = np.unique(onset, return_inverse=True)
    if len(chords) < 2:
        return []
    time = np.bincount(first, heard) / np.bincount(first)
    steps, waits = np.diff(chords), np.diff(time)
    extra = np.ones(len(performed), bool)
    extra[pairs[:, 1]] = False
    strange = np.sort(performed["onset_sec"][extra])
    between = np.diff(np.searchsorted(strange, time))
    usual = float(np.median(waits / steps))
    breaks = chords[1:][(waits - steps * usual > BREAK_SEC) & (between >= BREAK_NOTES)]
    part = np.searchsorted(breaks, onset, side="right")
    return [pairs[part == number] for number in range(len(breaks) + 1) if (part == number).sum() > 1]


def _lasts(notes: np.ndarray, pairs: np.ndarray) -> float:
    """Deadpan seconds from the first to the last onset of these pairs."""
    return float(np.ptp(notes["onset_sec"][pairs[:, 0]])) if len(pairs) else 0.0


def _takes(performed: np.ndarray, pairs: np.ndarray) -> float:
    """Performed seconds from the first to the last onset of these pairs."""
    return float(np.ptp(performed["onset_sec"][pairs[:, 1]]))


def _curves_of(
    deadpan: DeadpanScore, performed: np.ndarray, pedals: np.ndarray, pairs: np.ndarray, slower: float
) -> np.ndarray:
    """Curves of all frames by these pairs, read at the performance's pace.

    The deadpan is stretched to the performance and not the other way round, so asynchrony is in the
    seconds that were played.
    """
    notes, heard = deadpan.notes[pairs[:, 0]].copy(), performed[pairs[:, 1]].copy()
    notes["onset_sec"] *= slower
    notes["duration_sec"] *= slower
    return pc.curves_from_notes(notes, heard, pedals, deadpan.frames, deadpan.frame_sec * slower)

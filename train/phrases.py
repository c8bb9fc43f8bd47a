"""Phrases of held-out performances, as a pianist would capture them, with the truth about their notes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pkontext.types import NOTE, PEDAL
from train import asap

JITTER_SEC = 0.015
_LEAST_NOTES = 20


@dataclass(frozen=True)
class Phrase:
    """A phrase as captured, and what is true of those of its notes that are in the score.

    ``rows`` are these notes; ``beat``, ``length`` and ``right`` (-1 unknown) belong to them; ``beat_sec`` are
    the beats, ``bar_start`` which of them start a bar.
    """

    name: str
    notes: np.ndarray
    pedals: np.ndarray
    rows: np.ndarray
    beat: np.ndarray
    length: np.ndarray
    right: np.ndarray
    beat_sec: np.ndarray
    bar_start: np.ndarray


def phrases(data: Path, split: str, per_piece: int, seconds: float) -> list[Phrase]:
    """Two phrases of each of some performances, at places that the performance's name decides."""
    found = []
    for performance in asap.pick(asap.read_index(data, split), per_piece):
        notes, pedals = asap.read_midi_notes(performance.midi)
        pairs = asap.read_pairs(performance.alignment)
        rng = np.random.default_rng(zlib.crc32(performance.name.encode()))
        first, last = float(pairs["beat_perf"][0]), float(pairs["beat_perf"][-1])
        for start in rng.uniform(first, max(last - seconds, first + 0.01), 2):
            phrase = _cut(performance.name, notes, pedals, pairs, float(start), seconds)
            if phrase is not None:
                found.append(phrase)
    return found


def _cut(
    name: str,
    notes: np.ndarray,
    pedals: np.ndarray,
    pairs: dict[str, np.ndarray],
    start: float,
    seconds: float,
) -> Phrase | None:
    """One phrase; None where it is too short, or where annotators gave up on its beats."""
    inside = (notes["onset_sec"] >= start) & (notes["onset_sec"] < start + seconds)
    played, beats = notes[inside], pairs["beat_perf"].astype(np.float64)
    near = (beats >= start - 2) & (beats < start + seconds + 2)
    within = (beats >= start) & (beats <= start + seconds)
    if len(played) < _LEAST_NOTES or within.sum() < 6 or (pairs["beat_type"][near] == 2).any():
        return None
    row_of = {
        (round(float(np.float32(note["onset_sec"])), 3), int(note["pitch"])): row
        for row, note in enumerate(played)
    }
    onsets = np.round(pairs["perf_onset"].astype(np.float64), 3).tolist()
    rows = np.array([row_of.get(key, -1) for key in zip(onsets, pairs["pitch"].tolist(), strict=True)])
    chosen = np.flatnonzero((rows >= 0) & (pairs["grace"] == 0))
    onset, end = pairs["score_onset"].astype(np.float64), pairs["score_dur"].astype(np.float64)
    score_beats = pairs["beat_score"].astype(np.float64)
    beat = np.interp(onset, score_beats, np.arange(len(score_beats)))
    length = np.interp(onset + end, score_beats, np.arange(len(score_beats))) - beat
    staff = pairs["staff"][chosen].astype(int)
    sounding = (pedals["time_sec"] > start - 1) & (pedals["time_sec"] < start + seconds)
    return Phrase(
        name, played, pedals[sounding], rows[chosen], beat[chosen], length[chosen],
        np.select([staff == 1, staff == 2], [1, 0], -1),
        beats[within], pairs["beat_type"][within] == 1,
    )  # fmt: skip


def metronomic(phrase: Phrase) -> Phrase:
    """The phrase's score played to a metronome from second 1: 15 ms of noise, any velocity, no pedal."""
    rng = np.random.default_rng(zlib.crc32(phrase.name.encode()) + 1)
    period = float(np.median(np.diff(phrase.beat_sec)))
    base = np.floor(phrase.beat.min())
    notes = np.zeros(len(phrase.rows), NOTE)
    notes["onset_sec"] = 1.0 + (phrase.beat - base) * period + rng.normal(0, JITTER_SEC, len(notes))
    notes["duration_sec"] = np.maximum(phrase.length * period * 0.9, 0.03)
    notes["pitch"] = phrase.notes["pitch"][phrase.rows]
    notes["velocity"] = rng.integers(40, 101, len(notes))
    beats = 1.0 + period * np.arange(np.ceil(phrase.beat.max() - base) + 1)
    return replace(
        phrase, notes=notes, pedals=np.zeros(0, PEDAL), rows=np.arange(len(notes)), beat_sec=beats,
        bar_start=np.zeros(len(beats), bool),
    )  # fmt: skip

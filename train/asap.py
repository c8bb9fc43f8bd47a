"""Reading the (n)ASAP training pack: index, splits, performed notes, note pairs.

The pack's own README describes its files. Splits are by work, so no work is in two of them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np

from pkontext.types import NOTE, PEDAL


@dataclass(frozen=True)
class Performance:
    """One performance of the pack: where its files are and which split it belongs to."""

    piece: str
    performer: str
    split: str
    composer: str
    score: Path
    midi: Path
    alignment: Path
    duration_sec: float
    match_rate: float

    @property
    def name(self) -> str:
        """Piece and performer, unique in the pack."""
        return f"{self.piece}--{self.performer}"


def read_index(root: Path, split: str | None = None) -> list[Performance]:
    """Performances of a split (or all) in the order of ``index.csv``."""
    with (root / "index.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if split in (None, row["split"])]
    return [
        Performance(
            piece=row["piece_id"],
            performer=row["performer"],
            split=row["split"],
            composer=row["composer"],
            score=root / row["score"],
            midi=root / row["performance"],
            alignment=root / row["alignment"],
            duration_sec=float(row["perf_dur_s"]),
            match_rate=float(row["match_rate_perf"]),
        )
        for row in rows
    ]


def pick(performances: list[Performance], per_piece: int, skip: int = 0) -> list[Performance]:
    """Take at most ``per_piece`` performances of each piece, best note match first."""
    by_piece: dict[str, list[Performance]] = {}
    for performance in sorted(performances, key=lambda p: (-p.match_rate, p.performer)):
        by_piece.setdefault(performance.piece, []).append(performance)
    return [p for piece in sorted(by_piece) for p in by_piece[piece][skip : skip + per_piece]]


def read_midi_notes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read every note and sustain-pedal event of a MIDI file, in seconds from tick 0.

    Returns
    -------
    notes : ndarray of NOTE
    pedals : ndarray of PEDAL
    """
    time, down = 0.0, {}
    notes: list[tuple[float, float, int, int]] = []
    pedals: list[tuple[float, int]] = []
    for message in mido.MidiFile(path):
        time += message.time
        if message.type == "control_change" and message.control == 64:
            pedals.append((time, message.value))
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if key in down:
                onset, velocity = down.pop(key)
                notes.append((onset, time - onset, message.note, velocity))
            if message.type == "note_on" and message.velocity:
                down[key] = (time, message.velocity)
    return np.sort(np.array(notes, NOTE), order="onset_sec"), np.array(pedals, PEDAL)


def read_pairs(path: Path) -> dict[str, np.ndarray]:
    """Read the note pairs and beats of one performance (arrays as in the pack's README)."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}

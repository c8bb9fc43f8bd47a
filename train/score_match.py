"""Transcribed notes against the score, by parangonar's note alignment (needs the ``evaluate`` extra).

The measure of a listener who has the score and no other truth: which notes of it were played, whenever that
was. It forgives timing, which is the performer's, and nothing else.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy as np

_SCORE = [("onset_beat", "f4"), ("duration_beat", "f4"), ("pitch", "i4"), ("is_grace", "?"), ("id", "U16")]
_PERFORMANCE = [
    ("onset_sec", "f4"),
    ("duration_sec", "f4"),
    ("pitch", "i4"),
    ("velocity", "i4"),
    ("id", "U16"),
]


@lru_cache(maxsize=1)
def _matcher() -> Any:
    """Parangonar's `DualDTWNoteMatcher`.

    It needs partitura, which downloads a soundfont of 40 MB while it is imported where it finds the
    fluidsynth package; nothing here needs either, so the package is hidden from it.
    """
    hidden = sys.modules.get("fluidsynth")
    sys.modules["fluidsynth"] = None  # type: ignore[assignment]
    try:
        import parangonar
    finally:
        del sys.modules["fluidsynth"]
        if hidden is not None:
            sys.modules["fluidsynth"] = hidden
    return parangonar.DualDTWNoteMatcher()


def match_to_score(score_notes: np.ndarray, ticks_per_quarter: int, transcribed: np.ndarray) -> np.ndarray:
    """Align notes to a score.

    Parameters
    ----------
    score_notes : ndarray of SCORE_NOTE
    ticks_per_quarter : int
    transcribed : ndarray of NOTE
        Sorted by onset.

    Returns
    -------
    ndarray
        int ``[matches, 2]``, rows of ``score_notes`` and of ``transcribed``, always of equal pitch.
    """
    score = np.zeros(len(score_notes), _SCORE)
    score["onset_beat"] = (
        score_notes["onset_tick"] - score_notes["onset_tick"].min(initial=1 << 40)
    ) / ticks_per_quarter
    score["duration_beat"] = score_notes["duration_tick"] / ticks_per_quarter
    score["pitch"] = score_notes["pitch"]
    score["id"] = [f"s{i}" for i in range(len(score))]
    played = np.zeros(len(transcribed), _PERFORMANCE)
    for name in ("onset_sec", "duration_sec", "pitch", "velocity"):
        played[name] = transcribed[name]
    played["id"] = [f"p{i}" for i in range(len(played))]
    if len(np.unique(score["onset_beat"])) < 2 or len(played) < 2:
        return np.zeros((0, 2), int)
    found = _matcher()(score, played)
    rows = [(int(m["score_id"][1:]), int(m["performance_id"][1:])) for m in found if m["label"] == "match"]
    matches = np.array(rows, int).reshape(-1, 2)
    return matches[score["pitch"][matches[:, 0]] == played["pitch"][matches[:, 1]]]


def score_match_scores(
    score_notes: np.ndarray, ticks_per_quarter: int, transcribed: np.ndarray
) -> dict[str, float]:
    """Precision (matched / transcribed), recall (matched / score) and F1 against the score."""
    matched = len(match_to_score(score_notes, ticks_per_quarter, transcribed))
    precision, recall = matched / max(len(transcribed), 1), matched / max(len(score_notes), 1)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
    }

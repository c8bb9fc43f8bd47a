"""How well playing becomes a score: beats, places, lengths and hands of phrases whose score is known.

``python -m train.evaluate_quantise --data DIR`` cuts phrases out of held-out performances of the (n)ASAP
pack, as a pianist would capture them, and compares `pkontext.quantise` with partitura and with the simplest
thing that could work, on the same phrases. Needs the ``evaluate`` extra.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pkontext.quantise import Quantised, QuantiseSettings, quantise
from pkontext.rhythm import group
from pkontext.types import NOTE
from train.phrases import Phrase, metronomic, phrases

BEAT_WINDOW_SEC = 0.07
#: A place is right when it is this close, in beats, to where its neighbours say it should be.
PLACE_BEATS = 1 / 12
#: A length is right within a 16th (a quarter of a beat), half a step either way.
LENGTH_BEATS = 1 / 8
#: Factors between a beat and another level of the metre.
LEVELS = (1.0, 2.0, 0.5, 3.0, 1 / 3, 1.5, 2 / 3)
_SAME_TEMPO = 0.2
_EASY_STEP_SEC = 0.2
_GRID = np.array([0, 3, 4, 6, 8, 9, 12, 15, 16, 18, 20, 21, 24]) / 24


@dataclass(frozen=True)
class Answer:
    """What a method says: beats in seconds, place of every note in beats; further parts where it has them."""

    beat_sec: np.ndarray
    place: np.ndarray
    length: np.ndarray | None = None
    right: np.ndarray | None = None
    bar_sec: np.ndarray | None = None


def ours(phrase: Phrase, settings: QuantiseSettings | None = None) -> Answer:
    """`pkontext.quantise`."""
    found: Quantised = quantise(phrase.notes, phrase.pedals, settings)
    notes, count = found.score.notes, len(phrase.notes)
    place, length, right = np.zeros(count), np.zeros(count), np.zeros(count, bool)
    place[found.rows] = notes["onset_tick"] / found.beat_ticks
    length[found.rows] = notes["duration_tick"] / found.beat_ticks
    right[found.rows] = found.right_hand
    for values in (place, length, right):
        values[found.merged[:, 0]] = values[found.merged[:, 1]]
    return Answer(found.beat_sec, place, length, right, found.beat_sec[found.bar_starts])


def with_tempo(phrase: Phrase) -> Answer:
    """`pkontext.quantise`, told the tempo."""
    return ours(phrase, QuantiseSettings(tempo_bpm=60 / float(np.median(np.diff(phrase.beat_sec)))))


def with_metronome(phrase: Phrase) -> Answer:
    """`pkontext.quantise`, told tempo and first beat: for metronomic phrases."""
    bpm = 60 / float(np.median(np.diff(phrase.beat_sec)))
    return ours(phrase, QuantiseSettings(tempo_bpm=bpm, first_beat_sec=float(phrase.beat_sec[0])))


def simplest(phrase: Phrase) -> Answer:
    """A steady grid of the median time between chords, doubled to near 0.6 s; middle C splits the hands."""
    onset = phrase.notes["onset_sec"]
    chord = group(onset)
    time = np.bincount(chord, onset) / np.bincount(chord)
    period = float(np.median(np.diff(time)))
    period *= 2.0 ** round(float(np.log2(0.6 / period)))
    beats = time[0] + period * np.arange((time[-1] - time[0]) // period + 2)
    return Answer(beats, _snap(time, beats)[chord], right=phrase.notes["pitch"] >= 60)


def partitura_says(phrase: Phrase) -> Answer:
    """Partitura's beats (Dixon 2001) with notes on the nearest 16th or triplet, and its voices (Chew 2004).

    A voice is of the right hand when its mean pitch is at least middle C.
    """
    analysis = _partitura()
    signed = [(name, "f8" if name.endswith("sec") else "i4") for name in NOTE.names or ()]
    notes = np.zeros(len(phrase.notes), [*signed, ("id", "U8")])
    for name, _ in signed:
        notes[name] = phrase.notes[name]
    notes["duration_sec"] = np.maximum(notes["duration_sec"], 0.01)
    start = float(notes["onset_sec"][0])
    notes["onset_sec"] -= start
    chord = group(notes["onset_sec"])
    time = np.bincount(chord, notes["onset_sec"]) / np.bincount(chord)
    beats = np.unique(np.array([second for second, _ in analysis.estimate_time(notes)["beats"]]))
    if len(beats) < 2:
        beats = np.array([0.0, 0.5])
    voice = analysis.estimate_voices(notes)
    right = np.zeros(len(notes), bool)
    for number in np.unique(voice):
        right[voice == number] = notes["pitch"][voice == number].mean() >= 60
    return Answer(beats + start, _snap(time, beats)[chord], right=right)


def _partitura() -> Any:
    """`partitura.musicanalysis`; it downloads a soundfont at import where it finds the fluidsynth package."""
    hidden = sys.modules.get("fluidsynth")
    sys.modules["fluidsynth"] = None  # type: ignore[assignment]
    try:
        from partitura import musicanalysis
    finally:
        del sys.modules["fluidsynth"]
        if hidden is not None:
            sys.modules["fluidsynth"] = hidden
    return musicanalysis


def _snap(time: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Nearest 16th or triplet between beats, which go on steadily beyond their ends."""
    at = np.interp(time, beats, np.arange(len(beats)))
    at += np.minimum(time - beats[0], 0) / (beats[1] - beats[0])
    at += np.maximum(time - beats[-1], 0) / (beats[-1] - beats[-2])
    whole = np.floor(at)
    return whole + _GRID[np.argmin(np.abs((at - whole)[:, None] - _GRID), axis=1)]


def beat_f(truth: np.ndarray, found: np.ndarray) -> float:
    """F-measure of beats within 70 ms, each used once; beats outside the true ones do not count."""
    from mir_eval.beat import f_measure

    found = found[(found > truth[0] - 0.2) & (found < truth[-1] + 0.2)]
    return float(f_measure(truth, found, BEAT_WINDOW_SEC)) if len(found) else 0.0


def places_right(truth: np.ndarray, place: np.ndarray, level: float = 1.0) -> float:
    """Share of notes that are with their chord and as far from the chords before and after as in the score.

    ``truth`` and ``place`` in beats; ``level`` multiplies the latter. A chord that is right towards one of
    two neighbours counts half.
    """
    place = place * level
    chord, at = np.unique(np.round(truth * 48), return_inverse=True)
    middle = np.array([np.median(place[at == n]) for n in range(len(chord))])
    with_chord = np.abs(place - middle[at]) < PLACE_BEATS
    step = np.abs(np.diff(middle) - np.diff(chord) / 48) < PLACE_BEATS
    sides = np.append(step, False).astype(float) + np.append(False, step)
    neighbours = np.full(len(chord), 2.0)
    neighbours[[0, -1]] = 1.0
    return float(np.mean((sides / neighbours)[at] * with_chord))


def score(phrase: Phrase, answer: Answer) -> dict[str, float]:
    """Every measure that the answer allows, as shares from 0 to 1."""
    truth, found = phrase.beat_sec, answer.beat_sec
    ratio = float(np.median(np.diff(found)) / np.median(np.diff(truth)))
    off = [abs(np.log2(ratio * level)) for level in LEVELS]
    place = answer.place[phrase.rows]
    by_level = [places_right(phrase.beat, place, level) for level in LEVELS]
    result = {
        "beats": beat_f(truth, found),
        "tempo right": float(off[0] < _SAME_TEMPO),
        "tempo another level": float(off[0] >= _SAME_TEMPO and min(off[1:]) < _SAME_TEMPO),
        "own place": float(
            (np.abs(place - phrase.beat - np.median(place - phrase.beat)) < PLACE_BEATS).mean()
        ),
        "places": by_level[0],
        "places at best level": max(by_level),
    }
    if answer.bar_sec is not None and phrase.bar_start.sum() >= 2:
        result["bars"] = beat_f(truth[phrase.bar_start], answer.bar_sec)
    if answer.length is not None:
        same = np.abs(answer.length[phrase.rows] - phrase.length) <= LENGTH_BEATS
        result["lengths"] = float(same.mean())
    known = phrase.right >= 0
    if answer.right is not None and known.mean() > 0.5 and 0.03 < phrase.right[known].mean() < 0.97:
        result["hands"] = float((answer.right[phrase.rows] == phrase.right)[known].mean())
    return result


def quickest(phrase: Phrase) -> float:
    """Seconds from chord to chord of the score that a tenth of them undercuts."""
    steps = np.diff(np.unique(np.round(phrase.beat * 48))) / 48
    return float(np.percentile(steps, 10) * np.median(np.diff(phrase.beat_sec)))


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean over phrases ± standard deviation, a line for each method."""
    names = list(dict.fromkeys(name for rows in results.values() for row in rows for name in row))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method, rows in results.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows if name in row]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.2f}" if values else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True, file_okay=False)],
    split: Annotated[str, typer.Option(help="val for choices, test for the final table.")] = "val",
    per_piece: Annotated[int, typer.Option(help="Performances of a piece.")] = 4,
    seconds: Annotated[float, typer.Option(help="Length of a phrase.")] = 25.0,
) -> None:
    """Print two tables: phrases as played, and their scores played to a metronome."""
    played = phrases(data, split, per_piece, seconds)
    strict = [metronomic(phrase) for phrase in played]
    methods: dict[str, tuple[list[Phrase], Callable[[Phrase], Answer]]] = {
        "played: found": (played, ours),
        "played: tempo given": (played, with_tempo),
        "played: partitura": (played, partitura_says),
        "played: simplest": (played, simplest),
        "metronomic: metronome given": (strict, with_metronome),
        "metronomic, steps of 0.2 s and more: metronome given": (
            [phrase for phrase in strict if quickest(phrase) >= _EASY_STEP_SEC],
            with_metronome,
        ),
        "metronomic: found": (strict, ours),
        "metronomic: partitura": (strict, partitura_says),
        "metronomic: simplest": (strict, simplest),
    }
    print(f"{len(played)} phrases of {seconds:g} s, {len({p.name for p in played})} performances, {split}")
    results, took = {}, {}
    for name, (inputs, method) in methods.items():
        method(inputs[0])  # compiled and imported before the clock runs
        start = time.perf_counter()
        answers = [method(phrase) for phrase in inputs]
        took[name] = (time.perf_counter() - start) / len(inputs)
        results[name] = [score(*both) for both in zip(inputs, answers, strict=True)]
    print(table(results))
    print("seconds a phrase: " + ", ".join(f"{name} {value:.3f}" for name, value in took.items()))


if __name__ == "__main__":
    typer.run(main)

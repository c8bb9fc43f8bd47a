"""Curves that the user draws: a take follows them, and the network fits everything else to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pkontext import curves as pc
from pkontext.deadpan import LEAD_FRAMES, DeadpanScore
from pkontext.errors import InputError
from pkontext.score import bar_start_sec
from pkontext.types import Score

#: What can be drawn: unit and range of its values.
DRAWABLE: dict[str, tuple[str, float, float]] = {
    "tempo": ("a factor on the average tempo", 0.25, 4.0),
    "loudness": ("a MIDI velocity", 1.0, 127.0),
    "pedal": ("0 up to 1 down", 0.0, 1.0),
}


@dataclass(frozen=True)
class Drawn:
    """One curve over a part of the score, linear between its points (tempo: linear in its logarithm).

    Attributes
    ----------
    name : str
        One of `DRAWABLE`.
    points : tuple of (float, float)
        Score seconds, rising, and values; the curve holds from the first to the last.
    """

    name: str
    points: tuple[tuple[float, float], ...]


def check_drawn(drawn: tuple[Drawn, ...]) -> None:
    """Raise `InputError` for the first curve that cannot be followed or overlaps another of its name."""
    ends: dict[str, list[tuple[float, float]]] = {}
    for curve in drawn:
        if curve.name not in DRAWABLE:
            raise InputError(
                "settings.drawn", f"There is no curve '{curve.name}'.", f"Draw {', '.join(DRAWABLE)}."
            )
        unit, low, high = DRAWABLE[curve.name]
        if len(curve.points) < 2 or any(b[0] <= a[0] for a, b in pairwise(curve.points)):
            raise InputError(
                "settings.drawn",
                f"The {curve.name} curve does not have two or more points that go forward in time.",
                "Give each point a later time than the one before it.",
            )
        for second, value in curve.points:
            if not (np.isfinite(second) and low <= value <= high):
                raise InputError(
                    "settings.drawn",
                    f"The {curve.name} curve has the value {value:g} at {second:g} s.",
                    f"Its values are {unit}, from {low:g} to {high:g}.",
                )
        span = curve.points[0][0], curve.points[-1][0]
        if any(span[0] < other[1] and other[0] < span[1] for other in ends.get(curve.name, [])):
            raise InputError(
                "settings.drawn",
                f"Two {curve.name} curves are drawn over the same music, around {span[0]:.1f} s.",
                "Keep one of them, or draw one curve through both.",
            )
        ends.setdefault(curve.name, []).append(span)


def drawn_frames(
    drawn: tuple[Drawn, ...], deadpan: DeadpanScore, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn, on the frames of the deadpan.

    Parameters
    ----------
    drawn : tuple of Drawn
    deadpan : DeadpanScore
    mean : ndarray
        ``[12]``, means of the curves; a drawn loudness keeps their differences between registers.

    Returns
    -------
    values : ndarray
        float32 ``[frames, 12]`` in the units of `pkontext.curves.CHANNELS`.
    given : ndarray
        bool ``[frames, 12]``, where something is drawn.
    """
    values = np.zeros((deadpan.frames, len(pc.CHANNELS)), np.float32)
    given = np.zeros(values.shape, bool)
    centre = (np.arange(deadpan.frames) + 0.5 - LEAD_FRAMES) * deadpan.frame_sec
    second = centre * deadpan.tempo + deadpan.score_sec
    half = 0.5 * deadpan.frame_sec * deadpan.tempo  # a curve up to the last onset holds in its frame, too
    level = mean[pc.LOUDNESS] - mean[pc.LOUDNESS].mean()
    for curve in drawn:
        at, value = np.array(curve.points).T
        inside = (second >= at[0] - half) & (second <= at[-1] + half)
        if curve.name == "tempo":
            values[inside, pc.TEMPO] = np.interp(second[inside], at, np.log2(value))
            given[inside, pc.TEMPO] = True
        elif curve.name == "loudness":
            values[inside, pc.LOUDNESS] = np.interp(second[inside], at, value)[:, None] + level
            given[inside, pc.LOUDNESS] = True
        else:
            values[inside, pc.PEDAL_CHANNEL] = np.interp(second[inside], at, value)
            given[inside, pc.PEDAL_CHANNEL] = True
    return values, given


def read_drawn(file: Path, score: Score) -> tuple[Drawn, ...]:
    """Read curves drawn over bars from a JSON file.

    ``{"tempo": [[1, 1.0], [4.5, 0.8]], "loudness": [[1, 50], [9, 90]]}``: bar (counted from 1, fractions
    are places in the bar) and value. A list of such lists draws several parts.

    Raises
    ------
    InputError
        ``drawn.file`` or ``drawn.bars``; values are checked by `check_drawn`.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        curves = []
        for name, found in document.items():
            parts = found if found and isinstance(found[0][0], list) else [found]
            curves += [(name, [(float(bar), float(value)) for bar, value in part]) for part in parts]
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise InputError(
            "drawn.file",
            f"{file} does not hold drawn curves ({error}).",
            'Write it as {"tempo": [[1, 1.0], [5, 0.8]]}: bar and value, from point to point.',
        ) from error
    drawn = tuple(
        Drawn(name, tuple((_second(score, bar), v) for bar, v in points)) for name, points in curves
    )
    check_drawn(drawn)
    return drawn


def _second(score: Score, bar: float) -> float:
    if not 1 <= bar < 100_000:
        raise InputError("drawn.bars", f"There is no bar {bar:g}.", "Bars are counted from 1.")
    start = bar_start_sec(score, int(bar))
    return start + (bar - int(bar)) * (bar_start_sec(score, int(bar) + 1) - start)

"""Where a place of the score is in a take's audio, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pkontext.reroll import Plan


@dataclass(frozen=True)
class Places:
    """Score seconds and audio seconds of the same musical places, linear between them.

    Attributes
    ----------
    score_sec, audio_sec : ndarray
        float64 ``[points]``, two or more, strictly increasing; outside of them time runs as the deadpan's.
    tempo : float
        Score seconds in a second of the deadpan.
    """

    score_sec: np.ndarray
    audio_sec: np.ndarray
    tempo: float

    def to_audio(self, score_sec: float) -> float:
        """Audio seconds of a place in the score; negative before the audio begins."""
        return _interp(score_sec, self.score_sec, self.audio_sec, 1 / self.tempo)

    def to_score(self, audio_sec: float) -> float:
        """Score seconds that are heard at a time of the audio."""
        return _interp(audio_sec, self.audio_sec, self.score_sec, self.tempo)

    @property
    def known_sec(self) -> float:
        """Audio seconds up to which places are decided."""
        return float(self.audio_sec[-1])


def performed_points(
    deadpan: np.ndarray, performed: np.ndarray, plans: Sequence[Plan]
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a time map with re-rolled ranges in place, both strictly increasing.

    Parameters
    ----------
    deadpan, performed : ndarray
        ``[points]``, the base's time map.
    plans : sequence of Plan
        In order of time.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    done, moved = -np.inf, 0.0
    for plan in plans:
        low, high = plan.first * plan.frame_sec, np.inf if plan.last is None else plan.last * plan.frame_sec
        shift = plan.shift * plan.frame_sec
        before = (performed >= done) & (performed < low)
        parts.append((deadpan[before], performed[before] + moved))
        own = plan.time_map
        inside = (own.performed >= low) & (own.performed < high + shift)
        parts.append((own.deadpan[inside], own.performed[inside] + moved))
        done, moved = high, moved + shift
    after = performed >= done
    parts.append((deadpan[after], performed[after] + moved))
    places, times = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    new_place = np.diff(np.maximum.accumulate(places), prepend=-np.inf) > 1e-9
    new_time = np.diff(np.maximum.accumulate(times), prepend=-np.inf) > 1e-9
    return places[new_place & new_time], times[new_place & new_time]


def _interp(x: float, points: np.ndarray, values: np.ndarray, slope: float) -> float:
    if x <= points[0]:
        return float(values[0] + (x - points[0]) * slope)
    if x >= points[-1]:
        return float(values[-1] + (x - points[-1]) * slope)
    return float(np.interp(x, points, values))

"""Re-rolled ranges: another performance of some bars, and every other note as it was.

A re-roll is planned on the take without re-rolls, its base, and on nothing else, so that one
re-roll does not change another one. The curve network gets the base's curves before and after the range
and makes new ones between (the masks of its training). Their tempo is bent, so that the take keeps its
pace and the range lasts a whole number of latent frames more or less than before: what follows
moves by whole frames, and its latents and samples stay what they are. `pkontext.splice` makes the sound.

Two time axes occur: the base's, and a plan's own, which is the base's up to the range and moved by
`Plan.shift` frames after it. In the take all plans before move a plan's own axis as well.

Threading: a `Rerolls` belongs to the thread of its `Rendering`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pkontext import curves as pc
from pkontext.codec import Codec
from pkontext.errors import InputError
from pkontext.manifest import SamplerEntry
from pkontext.perform import CurveSource, bend, sample_range
from pkontext.take import CancelFn, Reroll
from pkontext.types import PEDAL, Score

#: Seconds of the crossfades; less than a latent frame. They end where a range begins, and where it ends.
FADE_SEC = 0.05
#: Window numbers of re-rolls start here, where a take's own never get: they draw other noise.
REROLL_WINDOWS = 1 << 40
#: A range ends at the first note after it, but at most so long after its last bar line (a rest follows).
_BORDER_SEC = 0.15
#: Half of what a range would be longer or shorter than before is taken back, and all beyond this part of it:
#: the network's mean tempo is a few percent off, which the base makes up for from window to window.
_MOST_LONGER = 0.05
_STRIKE_SEC = 0.005
_SAME_SEC = 1e-6

Played = tuple[np.ndarray, np.ndarray, pc.TimeMap]


@dataclass(frozen=True)
class Base:
    """What re-rolls need of the take that they change.

    Attributes
    ----------
    sampler : SamplerEntry
    codec : Codec
    curves : CurveSource
        Curves of the base.
    playing : ndarray
        Rows of the score's notes that are played.
    first_frame : callable
        Performed frame at which the audio starts.
    last_frame : callable
        ``notes → performed frame`` after the decay of the last one.
    sample_latents : callable
        ``(start, given, known, played, seed, number) → latents`` of a window, all float32 of its shape.
    cancelled : callable
        Whether the caller asked to stop.
    """

    sampler: SamplerEntry
    codec: Codec
    curves: CurveSource
    playing: np.ndarray
    first_frame: Callable[[], int]
    last_frame: Callable[[np.ndarray], int]
    sample_latents: Callable[[int, np.ndarray, np.ndarray, Played, int, int], np.ndarray]
    cancelled: CancelFn


@dataclass(frozen=True)
class Plan:
    """One re-rolled range, decided.

    Attributes
    ----------
    seed, number : int
        Of the noise of its first window.
    first, last : int, int or None
        Performed frames ``[first, last)`` of the base that it replaces; None to the end.
    from_start : bool
        Whether nothing of the base sounds before.
    shift : int
        Frames by which the base moves after it.
    inside : ndarray
        bool, which of the played notes are performed anew.
    notes, pedals, time_map : ndarray, ndarray, TimeMap
        Base with this range alone, own axis; complete up to some windows after the range.
    frame_sec : float
    """

    seed: int
    number: int
    first: int
    last: int | None
    from_start: bool
    shift: int
    inside: np.ndarray
    notes: np.ndarray
    pedals: np.ndarray
    time_map: pc.TimeMap
    frame_sec: float

    @property
    def span_sec(self) -> tuple[float, float]:
        """Base seconds between which nothing of the base is left."""
        return _span_sec(self.first, self.last, self.frame_sec)


class Rerolls:
    """The plans of a take, in order of time, each one made when it is asked for.

    Parameters
    ----------
    base : Base
    rerolls : tuple of Reroll
        Checked, see `pkontext.take.check_settings` and `check_inside`.
    """

    def __init__(self, base: Base, rerolls: tuple[Reroll, ...]) -> None:
        self.base = base
        self._rerolls = sorted(rerolls, key=lambda reroll: reroll.start_sec)
        self._plans: list[Plan | None] = []

    def due(self, index: int, base_sec: float) -> bool:
        """Whether a range may begin before a time of the base; its curves must be committed."""
        reach = self.base.curves.time_map().to_deadpan(np.array([base_sec + 1.0]))[0]
        return bool(reach >= self._deadpan_sec(self._rerolls[index].start_sec))

    def __len__(self) -> int:
        return len(self._rerolls)

    def plan(self, index: int) -> Plan | None:
        """The plan of a range; None when none of its notes is played."""
        while len(self._plans) <= index:
            self._plans.append(self._make(self._rerolls[len(self._plans)], self.made()))
        return self._plans[index]

    def made(self) -> list[Plan]:
        """The plans that there are by now, in order."""
        return [plan for plan in self._plans if plan is not None]

    def apply(self, notes: np.ndarray, pedals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Notes and pedal of the take, from those of the base; all in seconds of the performance."""
        if not self._rerolls:
            return notes, pedals
        plans = [plan for index in range(len(self)) if (plan := self.plan(index)) is not None]
        return splice_notes(notes, plans), splice_pedals(pedals, plans)

    def _deadpan_sec(self, score_sec: float) -> float:
        deadpan = self.base.curves.deadpan
        return float(deadpan.notes["onset_sec"][0]) + (score_sec - deadpan.score_sec) / deadpan.tempo

    def _make(self, reroll: Reroll, before: list[Plan]) -> Plan | None:
        base, curves = self.base, self.base.curves
        deadpan, frame_sec = curves.deadpan, curves.deadpan.frame_sec
        start_sec, end_sec = self._deadpan_sec(reroll.start_sec), self._deadpan_sec(reroll.end_sec)
        onset = deadpan.notes["onset_sec"]
        earlier, later = onset < start_sec - _SAME_SEC, onset >= end_sec - _SAME_SEC
        start = max(int(start_sec / frame_sec - 0.5), 0) if earlier.any() else 0
        stop = int(end_sec / frame_sec) if later.any() else deadpan.frames
        earlier, later = earlier[base.playing], later[base.playing]
        mine = ~(earlier | later)
        if not mine.any():
            return None
        frames = self._frames_needed(stop, bool(later.any()))
        old_map = curves.time_map(frames)
        old, old_pedals = self._played(curves.curves(frames), old_map)

        first, last = base.first_frame(), None
        if earlier.any():
            lowest = max([first + 1, *(plan.last + 2 for plan in before if plan.last is not None)])
            first = max(int(old["onset_sec"][mine].min() / frame_sec) - 1, lowest)
        if later.any():
            border = float(old_map.to_performed(np.array([end_sec]))[0]) + _BORDER_SEC
            last = int(min(old["onset_sec"][later].min(), border) / frame_sec)
            if last < first + 2:  # possible only at many times the score's tempo
                return None
        low, high = _span_sec(first, last, frame_sec)
        mine &= (old["onset_sec"] >= low) & (old["onset_sec"] < high)

        number = REROLL_WINDOWS | start << 16
        state = sample_range(curves, start, stop, base.sampler, reroll.seed, number, base.cancelled)
        new_curves, shift = curves.curves_with(start, state, frames), 0
        if last is not None:
            tempo = new_curves[start:stop, pc.TEMPO]
            old_sec = float(old_map.performed[stop] - old_map.performed[start])
            longer = float(pc.time_map_from_tempo(tempo, frame_sec).performed[-1]) - old_sec
            change = np.clip(0.5 * longer, -_MOST_LONGER * old_sec, _MOST_LONGER * old_sec)
            shift = max(round(change / frame_sec), first + 2 - last)
            new_curves[start:stop, pc.TEMPO] = bend(tempo, old_sec + shift * frame_sec, frame_sec)
        time_map = pc.time_map_from_tempo(new_curves[:, pc.TEMPO], frame_sec)
        new, pedals = self._played(new_curves, time_map)
        keep_order(new, old, mine, low, high, shift * frame_sec)
        plan = Plan(
            reroll.seed, number, first, last, not earlier.any(), shift, mine, new, pedals, time_map, frame_sec
        )
        return replace(plan, notes=splice_notes(old, [plan]), pedals=splice_pedals(old_pedals, [plan]))

    def _played(self, curves: np.ndarray, time_map: pc.TimeMap) -> tuple[np.ndarray, np.ndarray]:
        """Notes that are played and pedal, by these curves."""
        deadpan = self.base.curves.deadpan
        notes = pc.notes_from_curves(deadpan.notes, curves, deadpan.frame_sec, time_map)
        return notes[self.base.playing], pc.pedals_from_curves(curves, time_map, deadpan.frame_sec)

    def _frames_needed(self, stop: int, followed: bool) -> int:
        """Base curves that a range's windows can see: the same number, however many are committed."""
        curves, sampler = self.base.curves, self.base.sampler
        if not followed:
            curves.extend(curves.deadpan.frames, self.base.cancelled)
            return curves.deadpan.frames
        reach = stop + sampler.curve_window
        frames = curves.frames_until(0.0, reach, self.base.cancelled)
        border = float(curves.time_map(frames).performed[stop])
        until = border + 3 * sampler.latent_window * curves.deadpan.frame_sec
        return curves.frames_until(until, reach, self.base.cancelled)


def _span_sec(first: int, last: int | None, frame_sec: float) -> tuple[float, float]:
    return first * frame_sec, np.inf if last is None else last * frame_sec - FADE_SEC


def splice_notes(base: np.ndarray, plans: list[Plan]) -> np.ndarray:
    """Notes of the base with the plans' notes in place of theirs, and what follows moved."""
    notes, moved = base.copy(), 0.0
    for plan in plans:
        notes[plan.inside] = plan.notes[plan.inside]
        notes["onset_sec"][plan.inside] += moved
        after = base["onset_sec"] >= plan.span_sec[1]
        notes["onset_sec"][after] += plan.shift * plan.frame_sec
        moved += plan.shift * plan.frame_sec
    return notes


def splice_pedals(base: np.ndarray, plans: list[Plan]) -> np.ndarray:
    """Pedal of the base with the plans' pedal between their borders, and what follows moved."""
    parts, done, moved = [], -np.inf, 0.0
    for plan in plans:
        low, high = plan.span_sec
        shift = plan.shift * plan.frame_sec
        parts.append(cut_pedals(base, done, low, moved))
        parts.append(cut_pedals(plan.pedals, low, high + shift, moved))
        done, moved = high, moved + shift
    parts.append(cut_pedals(base, done, np.inf, moved))
    pedals = np.concatenate(parts)
    return pedals[np.diff(pedals["value"].astype(int), prepend=0) != 0]


def cut_pedals(pedals: np.ndarray, start: float, stop: float, moved: float = 0.0) -> np.ndarray:
    """Events of ``[start, stop)``, the first one with the value there, all moved by some seconds."""
    low, high = np.searchsorted(pedals["time_sec"], [start, stop])
    cut = pedals[low:high].copy()
    if np.isfinite(start) and start < stop:
        value = pedals["value"][low - 1] if low else 0
        cut = np.concatenate([np.array([(start, value)], PEDAL), cut])
    cut["time_sec"] += moved
    return cut


def keep_order(
    notes: np.ndarray, base: np.ndarray, inside: np.ndarray, low: float, high: float, shift_sec: float
) -> None:
    """Keep a range's notes, in place, between its borders and between other strikes of their keys.

    ``low`` and ``high`` are base seconds; those after ``high`` move by ``shift_sec``.
    """
    fixed = base["onset_sec"] + np.where(base["onset_sec"] >= high, shift_sec, 0.0)
    for key in np.unique(notes["pitch"][inside]):
        rows = np.flatnonzero(notes["pitch"] == key)
        mine = np.flatnonzero(inside[rows])
        least = max(low, fixed[rows[: mine[0]]].max(initial=low))
        most = min(high + shift_sec, fixed[rows[mine[-1] + 1 :]].min(initial=np.inf))
        gap = min(_STRIKE_SEC, max(most - least, 0.0) / (len(mine) + 1))
        place = np.arange(1, len(mine) + 1) * gap
        onset = np.maximum(notes["onset_sec"][rows[mine]], least + place)
        notes["onset_sec"][rows[mine]] = np.minimum(onset, most - place[::-1])


def check_inside(score: Score, rerolls: tuple[Reroll, ...]) -> None:
    """Raise `InputError` for a range outside the piece or without a note."""
    onset = score.notes["onset_sec"]
    for reroll in rerolls:
        shown = f"The range to re-roll from {reroll.start_sec:g} s to {reroll.end_sec:g} s"
        if reroll.end_sec > score.duration_sec + _SAME_SEC:
            raise InputError(
                "settings.reroll",
                f"{shown} is not inside the piece.",
                f"The piece ends at {score.duration_sec:.2f} s.",
            )
        found = (onset >= reroll.start_sec - _SAME_SEC) & (onset < reroll.end_sec - _SAME_SEC)
        if not found.any():
            raise InputError("settings.reroll", f"{shown} has no note.", "Choose a range where notes start.")

"""The sound of a take with re-rolled ranges: its base, with other audio in the ranges.

The base is rendered as it would be alone. Where a range begins, its audio fades into the range's,
and where it ends, back: outside the fades every sample is the base's, moved by whole latent frames.
The fades lie before the attacks at both borders. The range's latents come from the network with
the base's latents given on both sides (the masks of its training). They are decoded from some frames
ahead, in a phase of their own, which is why there are fades at all.

Threading: as the `Rendering` that they belong to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from pkontext import synth
from pkontext.reroll import FADE_SEC, Plan, Rerolls, cut_pedals
from pkontext.take import Progress, ProgressFn
from pkontext.windows import LATENT_LOOKAHEAD, LATENT_SUFFIX, range_windows

#: Frames decoded ahead of a range, until the phase has settled; frames that the sampler plays ahead of it,
#: so that what still sounds there has been struck.
_DECODE_AHEAD, _PLAY_AHEAD = 12, 216


#: Makes more of the base come; returns whether there was more.
Pull = Callable[[], bool]


class Stream:
    """Audio chunks ``[n, 1]`` read by position, in samples from the first one."""

    def __init__(self, chunks: Iterator[np.ndarray]) -> None:
        self.position = 0
        self._chunks = chunks
        self._held = np.zeros((0, 1), np.float32)
        self._end = 0

    @property
    def end(self) -> int:
        """Position after the last sample that has come."""
        return self._end

    def fill(self) -> bool:
        """Get one more chunk; returns whether there was one."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        begin, self._end = self._end, self._end + len(chunk)
        self._held = np.concatenate([self._held, chunk[max(self.position - begin, 0) :]])
        return True

    def skip_to(self, position: int) -> None:
        """Drop what lies before a position, also what is still to come."""
        self._held = self._held[max(position - self.position, 0) :]
        self.position = max(position, self.position)

    def take(self, count: int) -> np.ndarray:
        """The next samples; fewer at the end of the stream."""
        while len(self._held) < count and self.fill():
            pass
        taken, self._held = self._held[:count], self._held[count:]
        self.position += len(taken)
        return taken

    def until(self, position: float = np.inf) -> Iterator[np.ndarray]:
        """Chunks up to a position, or to the end."""
        while self.position < position and (len(self._held) or self.fill()):
            chunk = self.take(int(min(len(self._held), position - self.position)))
            if len(chunk):
                yield chunk


#: Audio of a plan from some samples before its first frame on.
Patch = Callable[[Plan, int, Pull], Stream]


class KeptLatents:
    """Passes latents on and keeps them, for the ranges that look back at them.

    Parameters
    ----------
    pieces : iterator of ndarray
        float32 ``[frames, dim]``.
    first : int
        Performed frame of the first one.
    dim : int
    """

    def __init__(self, pieces: Iterator[np.ndarray], first: int, dim: int) -> None:
        self._pieces, self._first = pieces, first
        self._kept = [np.zeros((0, dim), np.float32)]
        self._stop = first

    def __iter__(self) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            self._kept.append(piece)
            self._stop += len(piece)
            yield piece

    def rows(self, start: int, stop: int, pull: Pull) -> np.ndarray:
        """Performed frames ``[start, stop)``, fewer at the end; ``pull`` makes more come."""
        while self._stop < stop and pull():
            pass
        self._kept = [np.concatenate(self._kept)]
        return self._kept[0][start - self._first : stop - self._first]


def neural_take(
    rerolls: Rerolls, render: Callable[[ProgressFn | None], Iterator[np.ndarray]], progress: ProgressFn | None
) -> Iterator[np.ndarray]:
    """Audio of a take with re-rolled ranges, neural voice.

    Parameters
    ----------
    rerolls : Rerolls
    render : callable
        ``progress → latents`` of the base, from its first frame on.
    progress : callable or None
        Hears of the base's windows and of each range's.
    """
    base, report = rerolls.base, _Report(rerolls, progress)
    first, context = base.first_frame(), base.codec.entry.decode_context
    kept = KeptLatents(render(None if progress is None else report.base), first, base.codec.entry.dim)

    def patch(plan: Plan, fade: int, pull: Pull) -> Stream:
        ahead = kept.rows(max(plan.first - _DECODE_AHEAD, first), plan.first, pull)

        def pieces() -> Iterator[np.ndarray]:
            yield ahead
            for number, (made, stop, count) in enumerate(_patch_latents(rerolls, plan, kept, pull), 1):
                report.window(plan, number, count, stop)
                yield made
            if plan.last is not None:
                yield kept.rows(plan.last, plan.last + context + 2, pull)

        audio = Stream(base.codec.decode_stream(pieces()))
        audio.skip_to(len(ahead) * base.codec.entry.hop - fade)
        return audio

    yield from _spliced(rerolls, base.codec.decode_stream(kept), patch)


def sampler_take(
    rerolls: Rerolls, spec: synth.SynthSpec, base_audio: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """Audio of a take with re-rolled ranges, sampler voice, from the audio of its base."""
    hop, first = rerolls.base.codec.entry.hop, rerolls.base.first_frame()

    def patch(plan: Plan, fade: int, pull: Pull) -> Stream:
        start = max(plan.first - _PLAY_AHEAD, first)
        start_sec = start * plan.frame_sec
        notes = plan.notes[plan.notes["onset_sec"] >= start_sec]
        notes["onset_sec"] -= start_sec
        pedals = cut_pedals(plan.pedals, start_sec, np.inf, -start_sec)
        events = synth.events_from_notes(notes, pedals, spec.sample_rate)
        audio = Stream(synth.render(events, spec, (_own_end(rerolls, plan) - start) * hop))
        audio.skip_to((plan.first - start) * hop - fade)
        return audio

    yield from _spliced(rerolls, base_audio, patch)


def crossfade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Fade from one signal to the other at constant power, by how much they correlate.

    With gains ``a`` and ``b`` and correlation ``r`` the power of the sum is ``a² + b² + 2abr``
    where both are equally loud; dividing by its root keeps it at one.
    """
    angle = 0.5 * np.pi * np.sin(np.linspace(0, 0.5 * np.pi, len(old), dtype=np.float32)) ** 2
    a, b = np.cos(angle)[:, None], np.sin(angle)[:, None]
    power = float(np.sqrt((old.astype(np.float64) ** 2).sum() * (new.astype(np.float64) ** 2).sum()))
    same = float((old.astype(np.float64) * new).sum()) / (power + 1e-12)
    level = np.sqrt(1 + 2 * a * b * np.float32(min(max(same, -0.5), 1.0)))
    return ((a * old + b * new) / level).astype(np.float32)


def fade_end(chunks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Fade out the last ``samples`` of a stream, so that a ringing chord never ends in a click."""
    held = np.zeros((0, 1), np.float32)
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        if len(held) > samples:
            yield held[:-samples]
            held = held[-samples:]
    if len(held):
        ramp = np.cos(np.linspace(0, np.pi / 2, len(held), dtype=np.float32)) ** 2
        yield held * ramp[:, None]


def _spliced(rerolls: Rerolls, base_audio: Iterator[np.ndarray], patch: Patch) -> Iterator[np.ndarray]:
    """The base's audio with each range's in its place.

    ``patch`` gives a plan's audio from some samples before `Plan.first` on; calling what it is given last
    makes more of the base come.
    """
    entry, first = rerolls.base.codec.entry, rerolls.base.first_frame()
    frame_sec, full = rerolls.base.codec.frame_sec, round(FADE_SEC * entry.sample_rate)
    base = Stream(base_audio)
    for index in range(len(rerolls)):
        while base.fill() and not rerolls.due(index, first * frame_sec + base.end / entry.sample_rate):
            yield from base.until(base.end)
        plan = rerolls.plan(index)
        if plan is None:
            continue
        fade, start = 0 if plan.from_start else full, (plan.first - first) * entry.hop
        yield from base.until(start - fade)
        old = base.take(fade)
        if plan.last is not None:
            base.skip_to((plan.last - first) * entry.hop - full)
        other = patch(plan, fade, base.fill)
        begin = other.position + fade
        yield crossfade(old, other.take(fade))
        if plan.last is None:
            yield from other.until()
            return
        yield from other.until(begin + (plan.last + plan.shift - plan.first) * entry.hop - full)
        yield crossfade(other.take(full), base.take(full))
    yield from base.until()


def _patch_latents(
    rerolls: Rerolls, plan: Plan, kept: KeptLatents, pull: Pull
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Latents of a range window by window; with each the frame after it and the number of windows."""
    base, sampler = rerolls.base, rerolls.base.sampler
    size, dim, lowest = sampler.latent_window, base.codec.entry.dim, base.first_frame()
    end = _own_end(rerolls, plan)
    ahead = LATENT_LOOKAHEAD if plan.last is None else LATENT_SUFFIX
    windows = list(range_windows(plan.first, end, size, sampler.latent_overlap, ahead, lowest))
    low = windows[0][0]
    state = kept.rows(low, plan.first, pull)
    for number, (start, begin, stop) in enumerate(windows):
        given, known = np.zeros((2, 1, size, dim), np.float32)
        given[0, : begin - start] = state[start - low : begin - low]
        known[0, : begin - start] = 1
        if plan.last is not None and start + size > end:
            after = kept.rows(plan.last, plan.last + start + size - end, pull)
            given[0, end - start :][: len(after)] = after
            known[0, end - start :][: len(after)] = 1
        played = plan.notes, plan.pedals, plan.time_map
        made = base.sample_latents(start, given, known, played, plan.seed, plan.number + number)
        made = made[begin - start : stop - start]
        state = np.concatenate([state, made])
        yield made, stop, len(windows)


def _own_end(rerolls: Rerolls, plan: Plan) -> int:
    """Frame after a range, on the plan's own axis."""
    return rerolls.base.last_frame(plan.notes) if plan.last is None else plan.last + plan.shift


class _Report:
    """Progress of a take with re-rolls, from that of its base and of the ranges."""

    def __init__(self, rerolls: Rerolls, progress: ProgressFn | None) -> None:
        self._rerolls, self._progress = rerolls, progress
        self._begun, self._total = time.monotonic(), 0.0

    def base(self, state: Progress) -> None:
        """Pass on a window of the base, with its times moved."""
        first, moved, frame_sec = self._rerolls.base.first_frame(), 0.0, self._rerolls.base.codec.frame_sec
        total = state.total_sec
        for plan in self._rerolls.made():
            total += plan.shift * frame_sec
            if plan.last is not None and (plan.last - first) * frame_sec <= state.rendered_sec:
                moved += plan.shift * frame_sec
        self._total = total
        if self._progress is not None:
            self._progress(replace(state, rendered_sec=state.rendered_sec + moved, total_sec=total))

    def window(self, plan: Plan, number: int, count: int, stop: int) -> None:
        """Tell of a window of a range, up to frame ``stop`` of the plan's axis."""
        moved = sum(other.shift for other in self._rerolls.made() if other.first < plan.first)
        done = (stop + moved - self._rerolls.base.first_frame()) * plan.frame_sec
        if plan.last is None:
            self._total = done if number == count else max(self._total, done)
        if self._progress is not None:
            elapsed = time.monotonic() - self._begun
            self._progress(Progress("reroll", number, count, done, self._total, elapsed))

"""What ``pkontext render`` does: a take to a file, listened to on request, or the best of several takes.

What can be found out before the work is checked before it. The audio appears under its name when it is
complete; copies to listen to and candidates lie in a temporary folder that is removed however a job ends.

Threading: `run` blocks the thread that calls it.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from pkontext import render_report as say
from pkontext import settings as options
from pkontext import sinks, transcriber
from pkontext.best_of import best_of, listen_aside
from pkontext.bundle import Bundle, open_bundle
from pkontext.drawn import read_drawn
from pkontext.engine import Rendering, RenderSettings, Reroll, open_rendering
from pkontext.errors import Cancelled, InputError
from pkontext.expressive_midi import TakeNotes, expressive_midi, write_midi
from pkontext.score import bar_span_sec, load_score
from pkontext.selfcheck import CheckReport, check_notes
from pkontext.take import CancelFn, check_cancelled, settings_from_options
from pkontext.types import Score

if TYPE_CHECKING:
    from pkontext.cli_common import Reporter

MIDI_ENDINGS = (".mid", ".midi")
_BLOCK_FRAMES = 2**18


@dataclass(frozen=True)
class Job:
    """One render as asked for on the command line; ``start_sec`` and ``end_sec`` are score seconds.

    ``rerolls`` holds first bar, last bar and seed of each range.
    """

    source: Path
    output: str
    settings: options.Settings
    start_sec: float
    end_sec: float | None
    rerolls: tuple[tuple[int, int, int], ...]
    force: bool
    midi: Path | None
    midi_form: str
    draw: Path | None
    like: Path | None
    like_amount: float
    check: bool
    best_of: int | None

    @property
    def notes_alone(self) -> bool:
        """Whether the output is a MIDI file, without audio."""
        return self.output != sinks.STDOUT and Path(self.output).suffix.lower() in MIDI_ENDINGS

    @property
    def listens(self) -> bool:
        """Whether audio is transcribed: only the neural voice can sound other notes than it was asked for."""
        neural = self.settings.voice == "neural" and not self.notes_alone
        return self.best_of is not None or (self.check and neural)

    @property
    def audio_format(self) -> str:
        """``"wav"`` or ``"flac"``; `InputError` for a name that is neither."""
        found = self.settings
        return sinks.choose_format(self.output, found.format, found.sources["format"] == "flag")


def check_job(job: Job) -> None:
    """Raise `InputError` or `DeviceError` for what can be found out before any work."""
    if not job.notes_alone:
        sinks.check_spec(job.audio_format, job.settings.bits)
    targets = {Path(job.output)} if job.output != sinks.STDOUT else set()
    for target in targets | ({job.midi} if job.midi else set()):
        sinks.check_output(target, job.force)
    if job.best_of is not None:
        _check_best_of(job, job.best_of)
    if job.listens:
        transcriber.check_available()


def _check_best_of(job: Job, count: int) -> None:
    if job.notes_alone or job.settings.voice != "neural":
        reason = f"the {job.settings.voice} voice sounds every note"
        if job.notes_alone:
            reason = f"{job.output} holds notes alone"
        raise InputError(
            "render.best_of",
            f"--best-of compares how takes sound in the neural voice, and {reason}.",
            "Leave --best-of out, or write audio with --voice neural (and its notes with --midi).",
        )
    first, most = job.settings.seed, int(options.OPTIONS["seed"].maximum or 0)
    if first + count - 1 > most:
        raise InputError(
            "render.best_of",
            f"--best-of {count} from seed {first} on goes beyond the last seed, {most}.",
            f"Choose a seed of at most {most - count + 1}.",
        )


def run(job: Job, reporter: Reporter, stopped: CancelFn) -> None:
    """Do a job.

    Parameters
    ----------
    job : Job
    reporter : Reporter
    stopped : callable
        Returns True when the user has asked to stop.

    Raises
    ------
    PkError
    Cancelled
        Nothing was left behind.
    typer.Exit
        The check was cancelled after the audio was written, and that has been said.
    """
    check_job(job)
    began = time.perf_counter()
    score = load_score(job.source)
    for warning in score.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    settings = _render_settings(job, score)
    bundle = open_bundle(job.settings.bundle)
    check_cancelled(stopped)

    def open_take(seed: int) -> Rendering:
        threads, provider = job.settings.threads, job.settings.provider
        return open_rendering(score, bundle, replace(settings, seed=seed), threads, provider)

    with tempfile.TemporaryDirectory(prefix="pkontext-") as folder:
        task = _Task(job, reporter, bundle, stopped, Path(folder), began)
        if job.notes_alone:
            task.write_notes_alone(open_take(settings.seed))
        elif job.best_of is None:
            task.render_one(open_take(settings.seed))
        else:
            task.render_best(open_take, range(settings.seed, settings.seed + job.best_of))


def _render_settings(job: Job, score: Score) -> RenderSettings:
    if job.start_sec >= score.duration_sec:
        raise InputError(
            "render.range",
            f"--start is at {job.start_sec:g} s, and the piece ends at {score.duration_sec:.1f} s.",
            "Choose an earlier start.",
        )
    return replace(
        settings_from_options(job.settings),
        start_sec=job.start_sec,
        end_sec=job.end_sec,
        rerolls=tuple(Reroll(*bar_span_sec(score, first, last), seed) for first, last, seed in job.rerolls),
        like=job.like,
        like_amount=job.like_amount,
        drawn=() if job.draw is None else read_drawn(job.draw, score),
    )


@dataclass(frozen=True)
class _Task:
    """A job while it is done: where it reports, how it is stopped, and a folder that is removed after it."""

    job: Job
    reporter: Reporter
    bundle: Bundle
    stopped: CancelFn
    folder: Path
    began: float

    def write_notes_alone(self, rendering: Rendering) -> None:
        """Write the take as a MIDI file."""
        take = rendering.take_notes(self.stopped)
        if self.job.midi is not None:
            self._write_notes(take, self.job.midi, "midi")
        self._write_notes(take, Path(self.job.output), "done")
        if self.job.check:
            say.say_check(self.reporter, take, None)

    def render_one(self, rendering: Rendering) -> None:
        """Render a take to the output; with --check, listen to a copy of it afterwards."""
        spec = self._spec(rendering.channels, self.job.settings.seed)
        copy = self.folder / "take.wav"
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(sinks.open_sink(self.job.output, spec, self.job.force))
            outputs = [output]
            if self.job.listens:
                exact = replace(spec, format="wav", bits="32f")
                outputs.append(opened.enter_context(sinks.open_sink(copy, exact)))
            with self.reporter.progress() as show:
                for chunk in rendering.chunks(show, self.stopped):
                    for sink in outputs:
                        sink.write(chunk)
                    check_cancelled(self.stopped)
            report = output.close()
        wanted = self.job.check or self.job.midi is not None
        take = rendering.take_notes(self.stopped) if wanted else None
        if take is not None and self.job.midi is not None:
            self._write_notes(take, self.job.midi, "midi")
        say.say_done(self.reporter, report, spec, self.began, self.bundle)
        if take is not None and self.job.check:
            heard = self._listen(take, copy, report.name) if self.job.listens else None
            say.say_check(self.reporter, take, heard)

    def render_best(self, open_take: Callable[[int], Rendering], seeds: range) -> None:
        """Render several takes and write the one that sounds its notes best."""
        sinks.open_sink(
            self.job.output, self._spec(1, seeds[0]), self.job.force
        ).abort()  # can it be written?
        best = best_of(
            open_take,
            seeds,
            self.folder,
            self._transcribe,
            lambda number: self.reporter.progress(
                f"candidate {number} of {len(seeds)}: ", candidate=number, candidates=len(seeds)
            ),
            lambda candidate: say.say_candidate(self.reporter, candidate, len(seeds)),
            self.stopped,
        )
        with sinks.load_soundfile().SoundFile(best.audio) as audio:
            spec = self._spec(audio.channels, best.seed)
            with sinks.open_sink(self.job.output, spec, self.job.force) as sink:
                for block in audio.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
                    sink.write(block)
                    check_cancelled(self.stopped)
                report = sink.close()
        if self.job.midi is not None:
            self._write_notes(best.take, self.job.midi, "midi")
        say.say_done(self.reporter, report, spec, self.began, self.bundle, chosen=True)
        if self.job.check:
            say.say_check(self.reporter, best.take, best.report)

    def _spec(self, channels: int, seed: int) -> sinks.SinkSpec:
        """What the output is written as; the dither is seeded like the take."""
        rate = self.bundle.manifest.codec.sample_rate
        return sinks.SinkSpec(rate, channels, self.job.audio_format, self.job.settings.bits, seed)

    def _transcribe(self, audio: Path, cancelled: CancelFn | None) -> np.ndarray:
        return transcriber.transcribe_file(audio, cancelled, self.job.settings.threads)

    def _listen(self, take: TakeNotes, audio: Path, name: str) -> CheckReport:
        """Compare what is heard with the take; when that is cancelled, say that the audio stays."""
        try:
            with self.reporter.progress() as show:
                return check_notes(take, listen_aside(self._transcribe, audio, show, self.stopped))
        except (Cancelled, KeyboardInterrupt):
            self.reporter.event("cancelled", output=name)
            self.reporter.line(f"The check was cancelled; {name} is complete.")
            raise typer.Exit(Cancelled.exit_code) from None

    def _write_notes(self, take: TakeNotes, path: Path, event: str) -> None:
        """Write the take's notes as a MIDI file and say so, with a JSON line of this name."""
        form = self.job.midi_form
        write_midi(expressive_midi(take, form), sinks.check_output(path, self.job.force))
        self.reporter.event(event, output=str(path), form=form, notes=len(take.notes))
        self.reporter.line(f"{path}: {len(take.notes)} notes, {form} form", "green")

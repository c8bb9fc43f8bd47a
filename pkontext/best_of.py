"""Several takes of a score, one of which is kept: the one whose audio sounds its own notes best.

The rule: every candidate is rendered, transcribed and compared with the notes that it was asked to play
(`pkontext.selfcheck.check_notes`); the highest note F1 wins, the lower seed where two are equal. A
candidate without a mistake ends the search, because no later one can win.

Threading: `best_of` blocks the thread that calls it; candidates are rendered and heard one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pkontext.engine import Rendering
from pkontext.expressive_midi import TakeNotes
from pkontext.selfcheck import CheckReport, check_notes
from pkontext.sinks import SinkSpec, open_sink
from pkontext.take import CancelFn, Progress, ProgressFn

#: Audio file and cancel function to the notes that are heard, as `pkontext.transcriber.transcribe_file`.
Listener = Callable[[Path, CancelFn | None], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """One take of the search.

    Attributes
    ----------
    number : int
        Counted from 1.
    seed : int
    take : TakeNotes
        What it plays.
    report : CheckReport
        What is heard of it.
    audio : Path
        WAV of 32-bit floats, the engine's own samples; it is there until the next better one is found.
    """

    number: int
    seed: int
    take: TakeNotes
    report: CheckReport
    audio: Path


def best_of(
    open_take: Callable[[int], Rendering],
    seeds: Iterable[int],
    folder: Path,
    listen: Listener,
    showing: Callable[[int], AbstractContextManager[ProgressFn]],
    tell: Callable[[Candidate], None],
    cancelled: CancelFn | None = None,
) -> Candidate:
    """Render a take with each seed and return the best one.

    Parameters
    ----------
    open_take : callable
        Seed to a take that is not rendered yet.
    seeds : iterable of int
        Rising; at least one.
    folder : Path
        For the audio of candidates, two at most at a time; the caller removes it.
    listen : callable
        Transcribes a file.
    showing : callable
        Candidate's number to a context, which lasts while that candidate is made, with the function
        that shows how far it is; the stage after rendering is ``"listen"``.
    tell : callable
        Called with each candidate when it is measured.
    cancelled : callable, optional
        Asked while rendering and listening.

    Raises
    ------
    Cancelled
    PkError
        Whatever rendering or listening raises; the first failure ends the search.
    """
    best: Candidate | None = None
    for number, seed in enumerate(seeds, 1):
        audio = folder / f"candidate-{number}.wav"
        with showing(number) as show:
            take = render_aside(open_take(seed), audio, show, cancelled)
            report = check_notes(take, listen_aside(listen, audio, show, cancelled))
        candidate = Candidate(number, seed, take, report, audio)
        tell(candidate)
        if best is None or report.f1 > best.report.f1:
            best, candidate = candidate, best
        if candidate is not None:
            candidate.audio.unlink()
        if best.report.f1 == 1.0:
            break
    if best is None:
        raise ValueError("there are no seeds")
    return best


def render_aside(
    rendering: Rendering, audio: Path, progress: ProgressFn, cancelled: CancelFn | None
) -> TakeNotes:
    """Render a take to a WAV of 32-bit floats; returns its notes."""
    spec = SinkSpec(rendering.sample_rate, rendering.channels, "wav", "32f")
    with open_sink(audio, spec) as sink:
        for chunk in rendering.chunks(progress, cancelled):
            sink.write(chunk)
    return rendering.take_notes(cancelled)


def listen_aside(
    listen: Listener, audio: Path, progress: ProgressFn, cancelled: CancelFn | None
) -> np.ndarray:
    """Listen to a file, and say when that begins and ends."""
    begun = time.monotonic()
    progress(Progress("listen", 0, 1, 0.0, 0.0, 0.0))
    heard = listen(audio, cancelled)
    progress(Progress("listen", 1, 1, 0.0, 0.0, time.monotonic() - begun))
    return heard

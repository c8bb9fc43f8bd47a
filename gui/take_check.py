"""Listening to takes in the background: the self-check of one, and the best of several.

Functions here run in an `Operation`; they touch no widget and no document.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gui.background import copy_audio, finished_notes, open_aside, shown_progress, yield_to_others
from gui.operations import Operation
from pkontext import transcriber
from pkontext.best_of import render_aside
from pkontext.bundle import Bundle
from pkontext.selfcheck import CheckReport, check_notes
from pkontext.take import RenderSettings, check_cancelled
from pkontext.take_audio import LiveTake
from pkontext.types import Score

#: Transcribes a file; see `pkontext.transcriber.transcribe_file`.
Listener = Callable[[Path, Callable[[], bool]], np.ndarray]


@dataclass(frozen=True)
class Heard:
    """A take's settings, and what was heard with them."""

    settings: RenderSettings
    report: CheckReport


def listen(audio: Path, cancelled: Callable[[], bool]) -> np.ndarray:
    """Transcribe with one thread, so that the player's render goes on."""
    return transcriber.transcribe_file(audio, cancelled, 1)


def check_take(
    operation: Operation,
    score: Score,
    bundle: Bundle,
    settings: RenderSettings,
    live: LiveTake | None = None,
    listener: Listener = listen,
) -> CheckReport:
    """Compare what is heard in the neural voice of a take with what it plays.

    What the player has rendered to its end is listened to as it is; another take is rendered beside it.

    Raises
    ------
    PkError
        ``check.library`` where the transcriber is missing, and whatever rendering raises.
    Cancelled
    """
    transcriber.check_available()
    yield_to_others()
    with tempfile.TemporaryDirectory(prefix="pkontext-") as folder:
        audio = Path(folder) / "take.wav"
        take = finished_notes(score, live)
        if take is not None and live is not None:
            operation.report(-1.0, "writing")
            copy_audio(live.audio["neural"], live.rendering.sample_rate, audio, operation)
        else:
            rendering = open_aside(score, bundle, replace(settings, voice="neural"))
            show = shown_progress(operation, lambda _: "rendering", 0.0, 0.5)
            take = render_aside(rendering, audio, show, operation.cancelled)
        check_cancelled(operation.cancelled)
        operation.report(-1.0, "listening")
        return check_notes(take, listener(audio, operation.cancelled))


def check_seeds(
    operation: Operation,
    score: Score,
    bundle: Bundle,
    settings: RenderSettings,
    count: int,
    listener: Listener = listen,
) -> list[Heard]:
    """Make takes with seeds from the settings' own on, and listen to each.

    Returns
    -------
    list of Heard
        In the order of their seeds. A take without a mistake ends the search.
    """
    found = []
    for number in range(count):
        numbered = _Part(operation, number, count)
        one = replace(settings, seed=(settings.seed + number) % 1_000_000_000, voice="neural")
        report = check_take(numbered, score, bundle, one, None, listener)  # type: ignore[arg-type]
        found.append(Heard(one, report))
        if report.f1 == 1.0:
            break
    return found


class _Part:
    """One take's share of an operation that makes several."""

    def __init__(self, operation: Operation, number: int, count: int) -> None:
        self._operation, self._number, self._count = operation, number, count
        self.cancelled = operation.cancelled

    def report(self, share: float, text: str = "") -> None:
        done = (self._number + (0.5 if share < 0 else share)) / self._count
        self._operation.report(done, f"take {self._number + 1} of {self._count}: {text}")

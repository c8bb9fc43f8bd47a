"""Renders beside the player, for exports and checks: networks of their own, at low priority."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gui.operations import Operation
from pkontext.bundle import Bundle
from pkontext.engine import Rendering, open_rendering
from pkontext.expressive_midi import TakeNotes
from pkontext.sinks import SinkSpec, open_sink
from pkontext.take import Progress, RenderSettings, check_cancelled
from pkontext.take_audio import LiveTake, TakeAudio
from pkontext.types import Score

_NICE = 10
_BLOCK = 1 << 18


def yield_to_others() -> None:
    """Let the calling thread, and those that it starts, give way to the player's; where the system can."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def open_aside(
    score: Score, bundle: Bundle, settings: RenderSettings, threads: int = 0, provider: str = "auto"
) -> Rendering:
    """A rendering for the calling thread alone; see `pkontext.engine.open_rendering` for errors."""
    yield_to_others()
    return open_rendering(score, bundle, settings, threads, provider)


def shown_progress(
    operation: Operation, text: Callable[[Progress], str], first: float = 0.0, last: float = 1.0
) -> Callable[[Progress], None]:
    """A function that reports a render's progress as a part of an operation's."""

    def show(state: Progress) -> None:
        share = state.rendered_sec / state.total_sec if state.total_sec else 0.0
        operation.report(first + (last - first) * min(share, 1.0), text(state))

    return show


def copy_audio(audio: TakeAudio, rate: int, path: Path, operation: Operation) -> None:
    """Write what the player has rendered of a take to a WAV of 32-bit floats."""
    with open_sink(path, SinkSpec(rate, 1, "wav", "32f")) as sink:
        for start in range(0, audio.frames, _BLOCK):
            check_cancelled(operation.cancelled)
            block = np.zeros(min(_BLOCK, audio.frames - start), np.float32)
            audio.read_into(start, block)
            sink.write(block[:, None])


def finished_notes(score: Score, live: LiveTake | None) -> TakeNotes | None:
    """Notes of a take whose neural audio the player has rendered to its end; None before that."""
    if live is None or not live.audio["neural"].done:
        return None
    sketch = live.sketch
    if sketch is None or not sketch.complete:
        return None
    return TakeNotes(score, sketch.rows, sketch.notes, sketch.pedals)

"""Notes through a soundfont, as far ahead as they are known."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from pkontext import synth
from pkontext.take import Progress, ProgressFn

#: ``frame → notes, pedals, last frame`` of a take's audio, final up to that frame.
Ready = Callable[[int], tuple[np.ndarray, np.ndarray, int]]


def play_notes(
    spec: synth.SynthSpec, ready: Ready, hop: int, step: int, progress: ProgressFn | None
) -> Iterator[np.ndarray]:
    """Audio of notes that become known on the way, the same as if all were known before.

    Parameters
    ----------
    spec : SynthSpec
    ready : callable
        See `Ready`.
    hop, step : int
        Samples of a latent frame; frames a chunk.
    progress : callable or None
        Called after each chunk.

    Yields
    ------
    ndarray
        float32 ``[n, 1]``.
    """
    begun, rate = time.monotonic(), spec.sample_rate
    done, last, number = 0, 1, 0
    with contextlib.closing(synth.Voice(spec)) as voice:
        while done < last:
            notes, pedals, last = ready(done + step)
            count = min(step, last - done)
            if count <= 0:
                return
            chunk = voice.play(synth.events_from_notes(notes, pedals, rate), count * hop)
            done, number = done + count, number + 1
            if progress is not None:
                elapsed, windows = time.monotonic() - begun, -(-last // step)
                progress(Progress("play", number, windows, done * hop / rate, last * hop / rate, elapsed))
            yield chunk

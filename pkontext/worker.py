"""The thread that renders takes: FluidSynth, ONNX Runtime and everything else that takes time.

It is told which voice of which take is wanted most and renders that one a chunk further, until
nothing is left to do; then it sleeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from pkontext.bundle import Bundle
from pkontext.engine import Networks, Rendering, open_networks
from pkontext.errors import Cancelled, PkError, RenderError
from pkontext.take import RenderSettings
from pkontext.take_audio import LiveTake
from pkontext.types import Score

_Made = TypeVar("_Made")

#: A voice of a take: the take's number and the voice's name.
Source = tuple[int, str]


class RenderWorker:
    """Renders takes on a thread of its own.

    Methods may be called from any thread and never wait, but for `close`.

    Parameters
    ----------
    bundle : Bundle
    threads : int
    provider : str
        See `pkontext.engine.open_networks`.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, provider: str = "auto") -> None:
        self.takes: dict[int, LiveTake] = {}
        self.errors: dict[int, PkError] = {}
        self._open = lambda: open_networks(bundle, threads, provider)
        self._bundle = bundle
        self._asked: deque[tuple[int, Score, RenderSettings]] = deque()
        self._dropped: set[int] = set()  # for good: one of them may still be asked for
        self._wanted: Sequence[Source] = ()
        self._numbers = 0
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pkontext-render", daemon=True)
        self._thread.start()

    def new_take(self, score: Score, settings: RenderSettings) -> int:
        """Begin a take; returns its number at once. It shows up in `takes` or `errors`."""
        self._numbers += 1
        self._asked.append((self._numbers, score, settings))
        self._wake.set()
        return self._numbers

    def want(self, sources: Sequence[Source]) -> None:
        """Say what to render, the most urgent first."""
        if list(sources) != list(self._wanted):
            self._wanted = tuple(sources)
            self._wake.set()

    def drop(self, number: int) -> None:
        """Forget a take and stop rendering it, within one network call."""
        self._dropped.add(number)
        self._wake.set()

    def close(self) -> None:
        """Stop rendering, and wait until the thread has ended."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    # -- on the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        networks: Networks | None = None
        while not self._closing:
            self._wake.clear()
            for number in self._dropped & {*self.takes, *self.errors}:
                self._forget(number)
            if self._asked:
                number, score, settings = self._asked.popleft()
                if number in self._dropped:
                    continue
                if networks is None:
                    networks = self._guarded(number, self._open)
                if networks is not None:
                    opened = networks
                    made = self._guarded(
                        number,
                        lambda: Rendering(score, self._bundle, settings, opened),  # noqa: B023
                    )
                    if made is not None:
                        self.takes[number] = LiveTake(number, made)
                continue
            source = self._next()
            if source is None:
                self._wake.wait()
                continue
            number, voice = source
            take = self.takes[number]

            def stopped(number: int = number) -> bool:
                return self._closing or number in self._dropped

            self._guarded(number, lambda: take.advance(voice, stopped))  # noqa: B023
        for number in tuple(self.takes):
            self._forget(number)

    def _next(self) -> Source | None:
        """The most wanted voice that is not finished."""
        for number, voice in self._wanted:
            take = self.takes.get(number)
            if take is not None and number not in self.errors and not take.audio[voice].done:
                return number, voice
        return None

    def _forget(self, number: int) -> None:
        self.errors.pop(number, None)
        take = self.takes.pop(number, None)
        if take is not None:
            with contextlib.suppress(Exception):
                take.close()

    def _guarded(self, number: int, action: Callable[[], _Made]) -> _Made | None:
        """Run a step; an error is kept as that take's."""
        try:
            return action()
        except Cancelled:
            return None
        except PkError as error:
            self.errors[number] = error
        except MemoryError:
            self.errors[number] = RenderError(
                "render.memory", "There is not enough memory for this take.", "Close other programs or takes."
            )
        except Exception as error:
            self.errors[number] = RenderError(
                "render.failed",
                f"Rendering stopped by a bug ({type(error).__name__}: {error}).",
                "Make a new take; please report this if it happens again.",
            )
        return None

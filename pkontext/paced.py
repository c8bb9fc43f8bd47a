"""Outputs without a sound card, at the pace of real time or any other: nowhere, or a file.

A thread takes frames from the ring on a schedule that does not drift, as a sound card would, and
counts what was missing in the same way.

Threading: one thread starts, stops and closes an output; ``status`` and ``expecting`` belong to any.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from pkontext.errors import PkError
from pkontext.output_status import OutputStatus
from pkontext.ring import Ring
from pkontext.sinks import SinkReport, SinkSpec, check_spec, choose_format, open_sink

_BLOCK = 512
_IDLE_SEC = 0.001
#: What is made up for after the thread was held up; beyond it, such as after sleep, time is dropped.
_LONGEST_CATCH_UP_SEC = 0.25


class NullOutput:
    """Plays to nowhere.

    Parameters
    ----------
    ring : Ring
    sample_rate : int
    pace : float
        1 plays in real time, 2 twice as fast; 0 takes frames as they come, without underruns.
    """

    def __init__(self, ring: Ring, sample_rate: int, pace: float = 1.0) -> None:
        self.sample_rate = sample_rate
        self.channels = ring.channels
        self.expecting = False
        self._ring = ring
        self._pace = pace
        self._block = np.zeros((_BLOCK, ring.channels), np.float32)
        self._underruns = self._missing = self._late = 0
        self._longest = 0.0
        self._error: PkError | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Take frames from now on; again after `stop`.

        Raises
        ------
        PkError
            What ended it before.
        """
        if self._error is not None:
            raise self._error
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name=f"pkontext-{self._name()}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take no more frames; what is in the ring stays there."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stop; harmless when repeated."""
        self.stop()

    def status(self) -> OutputStatus:
        """Return the counts and what is wrong."""
        return OutputStatus(
            name=self._name(),
            sample_rate=self.sample_rate,
            latency_sec=0.0 if self._pace == 0 else _BLOCK / self.sample_rate / self._pace,
            consumed=self._ring.consumed,
            underruns=self._underruns,
            missing_frames=self._missing,
            xruns=0,
            late=self._late,
            longest_sec=self._longest,
            error=self._error,
        )

    def _name(self) -> str:
        return "null"

    def _take(self, samples: np.ndarray) -> None:
        """Do with ``[n, channels]`` what this output does; valid during the call."""

    def _run(self) -> None:
        try:
            if self._pace == 0:
                while not self._stopping.is_set():
                    n = self._ring.read_into(self._block)
                    self._take(self._block[:n])
                    if n == 0:
                        self._stopping.wait(_IDLE_SEC)
            else:
                self._run_paced(_BLOCK / self.sample_rate / self._pace)
        except PkError as error:
            self._error = error

    def _run_paced(self, period: float) -> None:
        due = time.perf_counter()
        while not self._stopping.is_set():
            started = time.perf_counter()
            self._play_block()
            seconds = time.perf_counter() - started
            self._longest = max(self._longest, seconds)
            self._late += seconds > period
            due = max(due + period, started - _LONGEST_CATCH_UP_SEC)
            self._stopping.wait(max(0.0, due - time.perf_counter()))

    def _play_block(self) -> None:
        expecting = self.expecting
        n = self._ring.read_into(self._block)
        if n < _BLOCK and expecting:
            self._underruns += 1
            self._missing += _BLOCK - n
            self._block[n:] = 0.0
            n = _BLOCK
        self._take(self._block[:n])


class FileOutput(NullOutput):
    """Plays into a WAV or FLAC file, which appears when it is closed.

    What is written is what would be heard: the ring's frames, and the silence of underruns. Silence
    while nothing is expected is left out. What is unread when it is closed is not in the file: wait until
    the ring is empty.

    Parameters
    ----------
    ring, sample_rate, pace
        As for `NullOutput`.
    path : str or Path
    bits : str
        ``"16"``, ``"24"`` or ``"32f"``.
    force : bool
        Replace an existing file.

    Raises
    ------
    InputError
        When there can be no such file, see `pkontext.sinks.open_sink`.
    """

    def __init__(
        self,
        ring: Ring,
        sample_rate: int,
        path: str | Path,
        pace: float = 1.0,
        bits: str = "32f",
        force: bool = False,
    ) -> None:
        super().__init__(ring, sample_rate, pace)
        audio_format = choose_format(str(path))
        check_spec(audio_format, bits)
        self._path = str(path)
        self._sink = open_sink(path, SinkSpec(sample_rate, ring.channels, audio_format, bits), force)
        self._report: SinkReport | None = None

    def close(self) -> None:
        """Finish the file; nothing is left behind if it could not be written.

        Raises
        ------
        RenderError
            When the last of it cannot be written.
        """
        self.stop()
        if self._error is None:
            self._report = self._sink.close()

    def abort(self) -> None:
        """Stop, and remove what was written; harmless after `close`."""
        self.stop()
        self._sink.abort()

    @property
    def report(self) -> SinkReport | None:
        """What was written, once it is closed."""
        return self._report

    def _name(self) -> str:
        return self._path

    def _take(self, samples: np.ndarray) -> None:
        self._sink.write(samples)

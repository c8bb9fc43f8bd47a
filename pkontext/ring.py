"""The ring buffer between the thread that makes audio and the callback that plays it.

One producer writes, one consumer reads, nobody locks: each side owns one index and only looks at
the other's. The indices are totals that grow for ever (2**63 frames), so full and empty cannot be
confused and a position in the audio is a subtraction.

Threading: `Ring.write` and `Ring.writable` belong to the producer, `Ring.read_into` to the
consumer; `readable`, `written` and `consumed` may be read by any thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Slots of the shared index cells: a cache line apart, so that the two sides do not slow each other.
WRITTEN, CONSUMED = 0, 8
_CELLS = 16


def _fence(_typing: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


#: For compiled code: orders all memory accesses before it before all after it, also on ARM.
fence: Any = intrinsic(_fence)


@njit(cache=True)
def publish(cells: np.ndarray, slot: int, total: int) -> None:
    """Store an index after everything that was written or read before it."""
    fence()
    cells[slot] = total


@njit(cache=True)
def observe(cells: np.ndarray, slot: int) -> int:
    """Load an index before everything that is read or written after it."""
    total = cells[slot]
    fence()
    return total


class Ring:
    """Single-producer single-consumer buffer of float32 frames, allocated once.

    Why it is correct without a lock: the producer writes samples, then publishes ``written``; the
    consumer sees the new total only after the samples, and the slots it reads are not written again
    before it has published ``consumed``. An index is one aligned 64-bit integer with one writer,
    so it is never seen half-changed, and a fence stands between samples and index on both sides.
    The GIL is not needed for any of this, so the consumer may be compiled code that does not hold it.

    Parameters
    ----------
    frames : int
        Capacity.
    channels : int
        1 or more.
    """

    def __init__(self, frames: int, channels: int) -> None:
        if frames < 1 or channels < 1:
            raise ValueError(f"A ring of {frames} frames and {channels} channels cannot be made.")
        self.frames = frames
        self.channels = channels
        self.buffer = np.zeros((frames, channels), np.float32)
        self.cells = np.zeros(_CELLS, np.int64)
        publish(self.cells, CONSUMED, observe(self.cells, CONSUMED))  # compiled now, not while playing

    @property
    def written(self) -> int:
        """Frames written since the ring was made."""
        return int(self.cells[WRITTEN])

    @property
    def consumed(self) -> int:
        """Frames read since the ring was made."""
        return int(self.cells[CONSUMED])

    @property
    def readable(self) -> int:
        """Frames that wait to be read."""
        consumed = self.consumed  # first: it never grows beyond what was written
        return min(self.written - consumed, self.frames)

    @property
    def writable(self) -> int:
        """Frames that may be written now."""
        return self.frames - (self.written - observe(self.cells, CONSUMED))

    def write(self, samples: np.ndarray) -> int:
        """Append as many frames as fit; the producer only.

        Parameters
        ----------
        samples : ndarray
            float32 ``[n, channels]``.

        Returns
        -------
        int
            Frames taken, the first ones of ``samples``.
        """
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            raise ValueError(f"Samples of shape {samples.shape} do not fit {self.channels} channels.")
        written = self.written
        n = min(len(samples), self.writable)
        start = written % self.frames
        first = min(n, self.frames - start)
        self.buffer[start : start + first] = samples[:first]
        self.buffer[: n - first] = samples[first:n]
        publish(self.cells, WRITTEN, written + n)
        return n

    def read_into(self, out: np.ndarray) -> int:
        """Move frames to ``out``; the consumer only.

        Parameters
        ----------
        out : ndarray
            float32 ``[n, channels]``; what is beyond the frames returned is not touched.

        Returns
        -------
        int
            Frames read, at most ``n``.
        """
        consumed = self.consumed
        n = min(len(out), observe(self.cells, WRITTEN) - consumed)
        start = consumed % self.frames
        first = min(n, self.frames - start)
        out[:first] = self.buffer[start : start + first]
        out[first:n] = self.buffer[: n - first]
        publish(self.cells, CONSUMED, consumed + n)
        return n

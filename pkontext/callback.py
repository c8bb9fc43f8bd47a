"""What the sound card calls: copy from the ring, count, nothing else.

Two callbacks do the same. The native one is compiled by Numba to a plain C function, which neither
needs Python nor waits for its interpreter lock; the other one is Python, for the case that the
first cannot be made. Both share `CallbackState`: integers at fixed places, which one side writes.

Threading: PortAudio calls a callback on its own thread. `CallbackState` may be read by any thread;
`CallbackState.expecting` is set by the producer.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

from pkontext.ring import CONSUMED, WRITTEN, Ring, fence

# Slots of the shared cells: those that the callback reads, and, a cache line on, those that it writes.
(
    _BUFFER,
    _INDICES,
    _FRAMES,
    _CHANNELS,
    _DEVICE_CHANNELS,
    _EXPECTING,
    _CLOCK,
    _STREAM,
    _NS_A_FRAME,
    _DETACHED,
) = range(10)
_CALLS, _UNDERRUNS, _MISSING, _XRUNS, _LATE, _LONGEST_NS, _FAILED = range(16, 23)
_CELLS = 24

#: PortAudio's ``paOutputUnderflow``: the device had to play without us.
_OUTPUT_UNDERFLOW = 4
_PA_CONTINUE = 0


#: States that a stream which could not be closed may look at until the process ends.
_detached: list[CallbackState] = []


def _slot(index: int) -> property:
    return property(lambda self: int(self.cells[index]))


class CallbackState:
    """The cells that a callback and the rest of the program share, and their names.

    Parameters
    ----------
    ring : Ring
        Kept alive as long as this object.
    device_channels : int
        Channels of the stream.
    """

    def __init__(self, ring: Ring, device_channels: int) -> None:
        self.ring = ring
        self.device_channels = device_channels
        self.cells = np.zeros(_CELLS, np.int64)
        self.cells[:5] = (
            ring.buffer.ctypes.data,
            ring.cells.ctypes.data,
            ring.frames,
            ring.channels,
            device_channels,
        )

    @property
    def expecting(self) -> bool:
        """Whether an empty ring is an underrun, rather than silence that is meant."""
        return bool(self.cells[_EXPECTING])

    @expecting.setter
    def expecting(self, value: bool) -> None:
        self.cells[_EXPECTING] = value

    def detach(self) -> None:
        """Leave the ring alone from now on, even if the stream cannot be closed: it plays silence."""
        self.cells[_DETACHED] = 1
        _detached.append(self)

    calls = _slot(_CALLS)
    underruns = _slot(_UNDERRUNS)
    missing_frames = _slot(_MISSING)
    xruns = _slot(_XRUNS)
    late = _slot(_LATE)
    longest_ns = _slot(_LONGEST_NS)
    failed = _slot(_FAILED)

    def set_clock(self, clock: int, stream: int, sample_rate: float) -> None:
        """Tell the native callback the addresses of ``Pa_GetStreamTime`` and of the stream, and its rate."""
        self.cells[_STREAM], self.cells[_NS_A_FRAME] = stream, round(1e9 / sample_rate)
        self.cells[_CLOCK] = clock


def python_callback(state: CallbackState, clock: Callable[[], float], sample_rate: float) -> Callable:
    """Return a callback for ``sounddevice.OutputStream``; its time includes the wait for the GIL.

    Parameters
    ----------
    state : CallbackState
    clock : callable
        The stream's time in seconds.
    sample_rate : float
    """
    cells, ring = state.cells, state.ring
    scratch = np.zeros((8192, ring.channels), np.float32)

    def play(out: np.ndarray, frames: int, time: Any, status: Any) -> None:
        started = time.currentTime
        try:
            done = frames if cells[_DETACHED] else 0
            out[:done] = 0.0
            while done < frames:
                wanted = min(frames - done, len(scratch))
                got = ring.read_into(scratch[:wanted])
                _spread(scratch[:got], out[done : done + got])
                done += got
                if got < wanted:
                    break
            out[done:] = 0.0
            if done < frames and cells[_EXPECTING]:
                cells[_UNDERRUNS] += 1
                cells[_MISSING] += frames - done
            if status.output_underflow:
                cells[_XRUNS] += 1
            seconds = clock() - started
            cells[_LONGEST_NS] = max(int(cells[_LONGEST_NS]), int(seconds * 1e9))
            if seconds > frames / sample_rate:
                cells[_LATE] += 1
        except Exception:  # an exception out of here would end the stream
            out[:] = 0.0
            cells[_FAILED] += 1
        cells[_CALLS] += 1

    return play


def _spread(samples: np.ndarray, out: np.ndarray) -> None:
    """Mono to all channels, stereo to the first two, or its mean to the only one."""
    if samples.shape[1] == 1:
        out[:] = samples
    elif out.shape[1] == 1:
        np.add(samples[:, :1], samples[:, 1:2], out=out)
        out *= np.float32(0.5)
    else:
        out[:, :2] = samples[:, :2]
        out[:, 2:] = 0.0


def _make_pointer(_typing: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def _make_call(_typing: Any, _function: Any, _stream: Any) -> Any:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        void = ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.DoubleType(), [void]).as_pointer()
        call = builder.inttoptr(arguments[0], function)
        return builder.call(call, [builder.inttoptr(arguments[1], void)])

    return types.float64(types.int64, types.int64), generate


#: For compiled code: an array at a pointer.
_view: Any = numba.carray  # pyright: ignore[reportPrivateImportUsage]
#: For compiled code: an integer as an untyped pointer.
_pointer: Any = intrinsic(_make_pointer)
#: For compiled code: call ``double function(void *stream)`` at an address.
_call_clock: Any = intrinsic(_make_call)


@njit(cache=True, error_model="numpy")
def _copy(buffer: np.ndarray, at: int, out: np.ndarray, ready: int) -> None:
    """Put ``ready`` frames of the ring, from slot ``at`` on, into the block, and silence after them."""
    for frame in range(ready):
        for channel in range(out.shape[1]):
            if buffer.shape[1] == 1:
                value = buffer[at, 0]
            elif out.shape[1] == 1:
                value = (buffer[at, 0] + buffer[at, 1]) * np.float32(0.5)
            elif channel < 2:
                value = buffer[at, channel]
            else:
                value = np.float32(0.0)
            out[frame, channel] = value
        at = at + 1 if at + 1 < len(buffer) else 0
    for frame in range(ready, len(out)):
        for channel in range(out.shape[1]):
            out[frame, channel] = np.float32(0.0)


def _play(_input: Any, output: Any, n_frames: Any, time: Any, flags: Any, user: Any) -> int:
    """The native callback: ``PaStreamCallback`` of portaudio.h."""
    cells = _view(user, (_CELLS,), np.int64)
    frames = np.int64(n_frames)
    capacity, channels, device_channels = cells[_FRAMES], cells[_CHANNELS], cells[_DEVICE_CHANNELS]
    buffer = _view(_pointer(cells[_BUFFER]), (capacity, channels), np.float32)
    indices = _view(_pointer(cells[_INDICES]), (CONSUMED + 1,), np.int64)
    out = _view(output, (frames, device_channels), np.float32)

    consumed = indices[CONSUMED]
    ready = 0 if cells[_DETACHED] != 0 else min(frames, indices[WRITTEN] - consumed)
    fence()
    _copy(buffer, consumed % capacity, out, ready)  # pyright: ignore[reportArgumentType]
    fence()
    if ready > 0:
        indices[CONSUMED] = consumed + ready
    if ready < frames and cells[_EXPECTING] != 0 and cells[_DETACHED] == 0:
        cells[_UNDERRUNS] += 1
        cells[_MISSING] += frames - ready
    if np.int64(flags) & _OUTPUT_UNDERFLOW:
        cells[_XRUNS] += 1
    if cells[_CLOCK] != 0:
        started = _view(time, (3,), np.float64)[1]  # PaStreamCallbackTimeInfo.currentTime
        nanoseconds = np.int64((_call_clock(cells[_CLOCK], cells[_STREAM]) - started) * 1e9)
        cells[_LONGEST_NS] = max(cells[_LONGEST_NS], nanoseconds)
        if nanoseconds > cells[_NS_A_FRAME] * frames:
            cells[_LATE] += 1
    cells[_CALLS] += 1
    return _PA_CONTINUE


@functools.cache
def native_callback() -> Any:
    """Return the compiled callback; its ``address`` is the C function, valid while it is alive.

    The first call on a machine compiles for about a second, later ones load what is on the disk.
    """
    long = types.uint32 if ctypes.sizeof(ctypes.c_ulong) == 4 else types.uint64
    pointer = types.voidptr
    signature = types.int32(pointer, pointer, long, pointer, long, pointer)
    return cfunc(signature, cache=True, error_model="numpy")(_play)

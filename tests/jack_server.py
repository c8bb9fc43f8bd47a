"""A private JACK server without a sound card, and a recorder of what was really played through it.

Its driver is a dummy that runs in real time; it waits for every client to finish a period, so a
recording has no gaps of its own, whatever else the machine does. Used as::

    with jack_server(period=512, rate=44100) as server:
        output = SpeakerOutput(ring, 44100, server.device)
        with server.recorder() as recorder:
            recorder.connect()
            output.start()
            ...
            recorder.wait_frames(44100)
        recorder.samples  # float32 [frames, channels], with the silence before and after

Environment variables that lead JACK clients to this server are set inside and restored behind; child
processes inherit them. A process whose server is killed cannot use JACK again (`pkontext.portaudio`),
so the client of a server that a test kills belongs into a child process.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_ulong, c_void_p
from pathlib import Path
from typing import Any, Self

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pkontext.devices import DeviceName
from tests.conftest import REPOSITORY

HOST = "JACK Audio Connection Kit"
_AUDIO = b"32 bit float mono audio"
_IS_INPUT, _IS_OUTPUT = 1, 2
_NO_START_SERVER = 1
_numbers = itertools.count()

#: A client that does nothing until its standard input ends, and that all others wait for.
_FREEZABLE = """
import sys
from tests.jack_server import Recorder
with Recorder(10, 48000, 1, "nobody"):
    print("ready", flush=True)
    sys.stdin.read()
"""


class JackServer:
    """A running server; made by `jack_server`."""

    device = DeviceName(HOST, "system")

    def __init__(self, period: int, rate: int, channels: int, synchronous: bool) -> None:
        if shutil.which("jackd") is None:
            raise RuntimeError("These tests need JACK: apt-get install jackd2 libportaudio2.")
        self.period, self.rate, self.channels = period, rate, channels
        self.name = f"pkontext-{os.getpid()}-{next(_numbers)}"
        self._synchronous = synchronous
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again after `kill`, and wait until clients are served."""
        assert self._process is None
        leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        driver = ["-d", "dummy", "-r", self.rate, "-p", self.period, "-C", 2, "-P", self.channels]
        command = [*leash, "jackd", "--no-realtime", "-n", self.name, "-t", 5000]
        command += ["-S", *driver] if self._synchronous else driver
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | self.environment,
        )
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # type: ignore[union-attr]
        self._wait_until_ready()

    def _wait_until_ready(self, timeout: float = 20.0) -> None:
        until = time.monotonic() + timeout
        command, environment = ["jack_wait", "-c"], os.environ | self.environment
        while True:
            answer = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            ).stdout
            if re.search(r"^running", answer, re.MULTILINE):
                return
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError("The JACK server did not start; run jackd by hand to see why.")
            time.sleep(0.02)

    @property
    def environment(self) -> dict[str, str]:
        """What leads JACK clients to this server."""
        return {
            "JACK_DEFAULT_SERVER": self.name,
            "JACK_NO_AUDIO_RESERVATION": "1",
            "JACK_NO_START_SERVER": "1",
        }

    def kill(self) -> None:
        """Let the server die without a word; only while no PortAudio of this process uses it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Let no client of a synchronous server be called, for less than its patience of five seconds."""
        command = [sys.executable, "-c", _FREEZABLE]
        environment = os.environ | self.environment | {"PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n"
            client.send_signal(signal.SIGSTOP)
            try:
                yield
            finally:
                client.send_signal(signal.SIGCONT)
                client.stdin.close()

    def clean_up(self) -> None:
        """End the server, and leave nothing of it behind, also if it was killed."""
        if self._process is None:
            self.start()  # its name and memory stay registered until a server of that name ends
        self.stop()
        for pattern in (f"jack_sem.*_{self.name}_*", f"jack_{self.name}_*"):
            for left in Path("/dev/shm").glob(pattern):
                left.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def recorder(self, seconds: float = 60.0, source: str = r"PortAudio.*") -> Recorder:
        """Return a recorder of the clients whose name matches ``source``, a regular expression."""
        return Recorder(seconds, self.rate, self.channels, source)


@contextlib.contextmanager
def jack_server(
    period: int = 512, rate: int = 44100, channels: int = 2, synchronous: bool = True, ours: bool = True
) -> Iterator[JackServer]:
    """Run a server; PortAudio, where it is loaded already, is initialised anew inside and behind.

    Parameters
    ----------
    period, rate : int
        Frames a callback, and hertz.
    channels : int
        Channels of its sound card.
    synchronous : bool
        Wait for slow clients; otherwise a late client loses a period, as with a real card.
    ours : bool
        PortAudio of this process uses the server. With False it is shut down meanwhile, so that the
        server may be killed.

    Raises
    ------
    RuntimeError
        Without JACK, or when it does not start.
    """
    server = JackServer(period, rate, channels, synchronous)
    before = {name: os.environ.get(name) for name in server.environment}
    try:
        server.start()
        os.environ.update(server.environment)
        _restart_portaudio(ours)
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        try:
            _restart_portaudio()  # while the server still runs: PortAudio does not survive its end
        finally:
            server.clean_up()


def _restart_portaudio(running: bool = True) -> None:
    """Let PortAudio find the server that the environment names, if the tests have loaded it already."""
    sounddevice: Any = sys.modules.get("sounddevice")
    if sounddevice is None:
        return
    from pkontext import portaudio

    for output in list(portaudio._library.outputs):  # left open by a test that failed
        output.close()
    assert not sounddevice._initialized or portaudio.jack_is_sound(), "kill only servers that are not ours"
    while sounddevice._initialized:
        sounddevice._terminate()
    if running:
        sounddevice._initialize()


# ---- the recorder ------------------------------------------------------------------------------

_POSITION, _CAPACITY, _CHANNELS, _DATA, _GET_BUFFER, _XRUNS, _GONE, _PORTS = 0, 1, 2, 3, 4, 5, 6, 8
_CELLS = 16


def _make_pointer(_typing: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def _make_get_buffer(_typing: Any, _function: Any, _port: Any, _frames: Any) -> Any:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        void = ir.IntType(8).as_pointer()
        function = ir.FunctionType(void, [void, ir.IntType(32)]).as_pointer()
        call = builder.inttoptr(arguments[0], function)
        return builder.call(call, [builder.inttoptr(arguments[1], void), arguments[2]])

    return types.voidptr(types.int64, types.int64, types.uint32), generate


_pointer: Any = intrinsic(_make_pointer)
_get_buffer: Any = intrinsic(_make_get_buffer)


def _record(n_frames: Any, user: Any) -> int:
    cells = numba.carray(user, (_CELLS,), np.int64)
    position, channels = cells[_POSITION], cells[_CHANNELS]
    data = numba.carray(_pointer(cells[_DATA]), (cells[_CAPACITY], channels), np.float32)
    frames = min(np.int64(n_frames), cells[_CAPACITY] - position)
    for channel in range(channels):
        source = _get_buffer(cells[_GET_BUFFER], cells[_PORTS + channel], n_frames)
        samples = numba.carray(source, (np.int64(n_frames),), np.float32)
        for frame in range(frames):
            data[position + frame, channel] = samples[frame]
    cells[_POSITION] = position + frames
    return 0


def _count_xrun(user: Any) -> int:
    numba.carray(user, (_CELLS,), np.int64)[_XRUNS] += 1
    return 0


def _note_end(user: Any) -> None:
    numba.carray(user, (_CELLS,), np.int64)[_GONE] = 1


class Recorder:
    """A JACK client that keeps what others play, from `__enter__` to `__exit__`.

    Its callbacks are compiled, so that it disturbs nothing and does not wait for Python.

    Parameters
    ----------
    seconds : float
        Longest recording.
    rate, channels : int
    source : str
        Regular expression for the names of clients to record.
    """

    def __init__(self, seconds: float, rate: int, channels: int, source: str) -> None:
        self._source = source
        self._channels = channels
        self._data = np.zeros((int(seconds * rate), channels), np.float32)
        self._cells = np.zeros(_CELLS, np.int64)
        self._record = numba.cfunc(types.int32(types.uint32, types.voidptr), cache=True)(_record)
        self._count_xrun = numba.cfunc(types.int32(types.voidptr), cache=True)(_count_xrun)
        self._note_end = numba.cfunc(types.void(types.voidptr), cache=True)(_note_end)
        self._jack = _load_jack()
        self._client: Any = None
        self._done = threading.Event()
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        jack, cells = self._jack, self._cells
        status = c_int()
        self._client = jack.jack_client_open(b"pkontext-recorder", _NO_START_SERVER, ctypes.byref(status))
        if not self._client:
            raise RuntimeError(f"The recorder cannot reach the JACK server (status {status.value:#x}).")
        cells[:5] = 0, len(self._data), self._channels, self._data.ctypes.data, 0
        cells[_GET_BUFFER] = ctypes.cast(jack.jack_port_get_buffer, c_void_p).value
        self._names = []
        for channel in range(self._channels):
            port = jack.jack_port_register(self._client, b"in_%d" % channel, _AUDIO, _IS_INPUT, 0)
            cells[_PORTS + channel] = port
            self._names.append(jack.jack_port_name(port))
        user = cells.ctypes.data
        jack.jack_set_process_callback(self._client, self._record.address, user)
        jack.jack_set_xrun_callback(self._client, self._count_xrun.address, user)
        jack.jack_on_shutdown(self._client, self._note_end.address, user)
        if jack.jack_activate(self._client) != 0:
            raise RuntimeError("The recorder was refused by the JACK server.")
        self._connector = threading.Thread(
            target=self._keep_connecting, name="recorder-connects", daemon=True
        )
        self._connector.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._connector.join()
        self._jack.jack_client_close(self._client)
        self._client = None

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return int(self._cells[_POSITION])

    @property
    def xruns(self) -> int:
        """Periods that the server could not keep."""
        return int(self._cells[_XRUNS])

    @property
    def samples(self) -> np.ndarray:
        """Copy of what was recorded so far: float32 ``[frames, channels]``."""
        return self._data[: self.frames].copy()

    @property
    def sound(self) -> np.ndarray:
        """`samples` without the silence before and after."""
        samples = self.samples
        loud = np.flatnonzero(samples.any(axis=1))
        return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]

    def connect(self, timeout: float = 5.0) -> None:
        """Wait until a source has output ports and connect them: call it between opening and starting.

        Sources that open later are connected some milliseconds after, which may miss their beginning.
        """
        until = time.monotonic() + timeout
        while not self._connect():
            if time.monotonic() > until:
                raise TimeoutError(f"No JACK client '{self._source}' has opened an output.")
            time.sleep(0.002)

    def wait_frames(self, frames: int, timeout: float = 30.0) -> None:
        """Wait until so many more frames are recorded."""
        target, until = self.frames + frames, time.monotonic() + timeout
        while self.frames < target:
            if time.monotonic() > until:
                raise TimeoutError("The JACK server stands still, or the recording is full.")
            time.sleep(0.005)

    def _keep_connecting(self) -> None:
        while not self._done.wait(0.005) and not self._cells[_GONE]:
            self._connect()

    def _connect(self) -> int:
        """Connect output ``k`` of every source to input ``k``; return the number of outputs found.

        One thread at a time: libjack sends a client's requests through one socket and does not keep them
        apart, and after a request that was mixed up it takes the server for dead in the whole process.
        """
        with self._asking:
            return self._connect_all()

    def _connect_all(self) -> int:
        found: dict[bytes, int] = {}
        total = 0
        ports = self._jack.jack_get_ports(self._client, None, _AUDIO, c_ulong(_IS_OUTPUT))
        for name in itertools.takewhile(bool, ports or ()):
            client = name.split(b":")[0]
            if re.fullmatch(self._source, client.decode()):
                channel = found[client] = found.get(client, -1) + 1
                if channel < self._channels and not self._is_connected(channel, name):
                    self._jack.jack_connect(self._client, name, self._names[channel])
                total += 1
        if ports:
            self._jack.jack_free(ports)
        return total

    def _is_connected(self, channel: int, name: bytes) -> bool:
        return bool(self._jack.jack_port_connected_to(int(self._cells[_PORTS + channel]), name))


def _load_jack() -> Any:
    """Return libjack with the types of the functions that are used."""
    try:
        jack = ctypes.CDLL("libjack.so.0")
    except OSError as error:
        raise RuntimeError("These tests need JACK: apt-get install libjack-jackd2-0.") from error
    jack.jack_client_open.restype = c_void_p
    jack.jack_client_open.argtypes = [c_char_p, c_int, POINTER(c_int)]
    jack.jack_port_register.restype = c_void_p
    jack.jack_port_register.argtypes = [c_void_p, c_char_p, c_char_p, c_ulong, c_ulong]
    jack.jack_port_name.restype = c_char_p
    jack.jack_port_name.argtypes = [c_void_p]
    for name in ("jack_set_process_callback", "jack_set_xrun_callback", "jack_on_shutdown"):
        getattr(jack, name).argtypes = [c_void_p, c_void_p, c_void_p]
    jack.jack_activate.argtypes = jack.jack_client_close.argtypes = [c_void_p]
    jack.jack_get_ports.restype = POINTER(c_char_p)
    jack.jack_get_ports.argtypes = [c_void_p, c_char_p, c_char_p, c_ulong]
    jack.jack_connect.argtypes = [c_void_p, c_char_p, c_char_p]
    jack.jack_free.argtypes = [c_void_p]
    jack.jack_port_connected_to.argtypes = [c_void_p, c_char_p]
    return jack

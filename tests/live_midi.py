"""A MIDI keyboard for tests: messages sent in real time between real ports of a private JACK server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.conftest import REPOSITORY
from tests.jack_server import JackServer, jack_server

#: JACK needs a moment to pass messages on after a connection was made.
SETTLE_SEC = 0.3


@contextmanager
def midi_server() -> Iterator[JackServer]:
    """Run a JACK server with periods of 2.9 ms."""
    with jack_server(period=128, rate=44100) as server:
        yield server


@contextmanager
def keyboard(to: str | None = None, client: str = "kbd") -> Iterator[Callable[[Sequence[int] | bytes], None]]:
    """Open an output port, connected to the input port of this name or to whoever chooses it; yield its send.

    The bytes are sent as they are, also when they are no MIDI.
    """
    import rtmidi

    port = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name=client)
    try:
        if to is None:
            port.open_virtual_port("out")
        else:
            names = port.get_ports()
            port.open_port(next(i for i, name in enumerate(names) if name.startswith(to)), "out")
            time.sleep(SETTLE_SEC)
        yield port.send_message
        time.sleep(0.05)
    finally:
        port.close_port()
        port.delete()


def run_child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, with its input and output as pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def wait_for(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    """Wait until a condition holds; return whether it does."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True

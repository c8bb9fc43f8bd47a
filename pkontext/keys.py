"""Single key presses from a terminal, without Return; names for the keys that are more than one character."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

_SEQUENCES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end", "[1~": "home"}
_WINDOWS = {"H": "up", "P": "down", "M": "right", "K": "left", "G": "home", "O": "end"}

#: Waits for a key up to so many seconds; its name, or None.
ReadKey = Callable[[float], str | None]


@contextlib.contextmanager
def key_presses(stream: Any = None) -> Iterator[ReadKey]:
    """Take the terminal's keys while the context lasts; put it back as it was, whatever happens.

    Without a terminal no key ever comes.
    """
    stream = sys.stdin if stream is None else stream
    if stream is None or not stream.isatty():
        import time

        def none(wait_sec: float) -> str | None:
            time.sleep(wait_sec)
            return None

        yield none
    elif sys.platform == "win32":
        yield _read_windows
    else:
        import termios
        import tty

        descriptor = stream.fileno()
        before = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor)
            yield lambda wait_sec: _read_unix(descriptor, wait_sec)
        finally:
            with contextlib.suppress(termios.error):  # the terminal may have been closed
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_unix(descriptor: int, wait_sec: float) -> str | None:
    import select

    if not select.select([descriptor], [], [], wait_sec)[0]:
        return None
    key = os.read(descriptor, 1).decode("ascii", "replace")
    if key != "\x1b":
        return {"\n": "enter", "\r": "enter", " ": "space"}.get(key, key)
    rest = ""
    while len(rest) < 4 and select.select([descriptor], [], [], 0.02)[0]:
        rest += os.read(descriptor, 1).decode("ascii", "replace")
        if rest in _SEQUENCES:
            break
    return _SEQUENCES.get(rest.replace("O", "[", 1) if rest.startswith("O") else rest, "escape")


def _read_windows(wait_sec: float) -> str | None:
    import msvcrt
    import time

    end = time.monotonic() + wait_sec
    read: Any = msvcrt
    while not read.kbhit():
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)
    key = read.getwch()
    if key in ("\x00", "\xe0"):
        return _WINDOWS.get(read.getwch())
    return {"\r": "enter", " ": "space", "\x1b": "escape"}.get(key, key)

"""The MIDI systems of this computer: which of those that rtmidi was built with answer.

ALSA, CoreMIDI and Windows Multimedia are tried first, JACK last, in rtmidi's own order.

Threading: functions without shared state; any thread may call them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from pkontext.errors import DeviceError
from pkontext.event_queue import CAPACITY

CLIENT = "PianoKontext"


def load_rtmidi() -> Any:
    """Return the ``rtmidi`` module.

    Raises
    ------
    DeviceError
        ``midi.library`` when it is not installed.
    """
    try:
        import rtmidi
    except (ImportError, OSError) as error:
        raise DeviceError(
            "midi.library",
            f"The MIDI library could not be loaded ({error}).",
            "Install it with `pip install python-rtmidi`.",
        ) from error
    return rtmidi


def short_name(name: str, api: str) -> str:
    """A port's name without the numbers that differ from one connection to the next.

    ALSA writes ``Piano:Piano MIDI 1 20:0`` and Windows ``Piano 1``; other systems add nothing.
    """
    if api == "alsa":
        return re.sub(r" \d+:\d+$", "", name)
    return re.sub(r" \d+$", "", name) if api == "winmm" else name


def answers(api: str) -> bool:
    """Whether it is worth opening a client: on Linux both systems say so by a file, and failing is noisy."""
    if not sys.platform.startswith("linux"):
        return True
    if api == "alsa":
        return Path("/dev/snd/seq").exists()
    if api == "jack":
        server = os.environ.get("JACK_DEFAULT_SERVER", "default")
        return any(Path("/dev/shm").glob(f"jack_{server}_*_0"))
    return True


def open_client(api: str, kind: str = "MidiIn", client: str = f"{CLIENT} probe") -> Any:
    """An rtmidi object that is not connected, or None where the system does not answer."""
    rtmidi = load_rtmidi()
    number = next((n for n in rtmidi.get_compiled_api() if rtmidi.get_api_name(n) == api), None)
    if number is None or not answers(api):
        return None
    limit = {"queue_size_limit": CAPACITY} if kind == "MidiIn" else {}
    try:
        return getattr(rtmidi, kind)(number, name=client, **limit)
    except (OSError, RuntimeError):  # rtmidi's errors are of these
        return None


def first_client(kind: str, client: str) -> tuple[Any, str]:
    """A client of the first MIDI system that answers, and the system's name."""
    rtmidi = load_rtmidi()
    for number in rtmidi.get_compiled_api():
        api = rtmidi.get_api_name(number)
        port = open_client(api, kind, client)
        if port is not None:
            return port, api
    raise DeviceError(
        "midi.none",
        "No MIDI system answers on this computer.",
        "On Linux load the ALSA sequencer (sudo modprobe snd-seq) or start a JACK server, then try again.",
    )


def discard(port: Any) -> None:
    """Close an rtmidi object for good."""
    with contextlib.suppress(Exception):  # a system that is gone cannot be told
        port.close_port()
    port.delete()

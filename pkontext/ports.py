"""MIDI ports: what there is, opening one by name, and getting it back after it was unplugged.

A port is remembered by its name without the client and port numbers that ALSA and Windows append,
so it is found again after it was plugged into another socket.

Threading: rtmidi calls back on a thread of its own, and all that happens there is
`EventQueue.push`; JACK's messages are fetched by a thread instead (`pkontext.midi_poll`). Functions
and constructors may be called from any thread, but one at a time for one object. Every open port is
closed when the program exits.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pkontext.errors import DeviceError
from pkontext.event_queue import CAPACITY, EventQueue
from pkontext.midi_bytes import release_messages
from pkontext.midi_poll import Poller
from pkontext.midi_systems import CLIENT, discard, first_client, short_name

#: JACK sends in its next periods, so a port stays open a little after its last message.
_LAST_MESSAGES_SEC = 0.05
_LAST_CALLBACK_SEC = 0.02
_THROUGH = "Midi Through"

_open_ports: set[MidiInput | MidiOutput] = set()


@dataclass(frozen=True)
class PortInfo:
    """A MIDI port: ``api`` is alsa, core, winmm or jack, ``name`` is without changing numbers."""

    api: str
    name: str


# ---- what there is ------------------------------------------------------------------------------


def list_inputs() -> list[PortInfo]:
    """Ports that can be listened to, as the system orders them; those of this program are left out.

    Raises
    ------
    DeviceError
        ``midi.library``, or ``midi.none`` when no MIDI system answers.
    """
    return _listed("MidiIn")


def list_outputs() -> list[PortInfo]:
    """Ports that can be played to; see `list_inputs`."""
    return _listed("MidiOut")


def find_port(name: str, ports: Sequence[PortInfo]) -> int:
    """Index of the port of this name: matched exactly, else from its beginning, else anywhere in it.

    Raises
    ------
    DeviceError
        ``midi.unknown_port``, with the ports that there are.
    """
    wanted = name.casefold().strip()
    names = [port.name.casefold() for port in ports]
    tests: tuple[Callable[[str], bool], ...] = (
        lambda n: n == wanted,
        lambda n: n.startswith(wanted),
        lambda n: wanted in n,
    )
    for matches in tests:
        for index, candidate in enumerate(names):
            if wanted and matches(candidate):
                return index
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    ordered = sorted(ports, key=lambda port: port.name.casefold() not in close)
    there = ", ".join(f'"{port.name}"' for port in ordered) or "none"
    raise DeviceError(
        "midi.unknown_port",
        f'There is no MIDI port "{name}".',
        f"Connect and switch on the instrument, or choose one of these ports: {there}.",
    )


def default_input() -> PortInfo:
    """The first port that is an instrument.

    Raises
    ------
    DeviceError
        ``midi.no_input`` when there is none.
    """
    for port in list_inputs():
        if not port.name.startswith(_THROUGH):
            return port
    raise DeviceError(
        "midi.no_input",
        "No MIDI instrument is connected.",
        "Connect and switch on a keyboard, or use a virtual port that other programs can play to.",
    )


# ---- open ports -----------------------------------------------------------------------------------


class MidiInput:
    """An open input port that pushes every message but SysEx and active sensing into a queue.

    The time is ``time.monotonic()`` of the callback, or of JACK's cycle. On Windows rtmidi's time differences
    lack the time of ignored messages, so they are not used there.

    Parameters
    ----------
    name : str or None
        Which port; None makes a virtual one that other programs can play to.
    events : EventQueue
    client : str
        Name that other programs see.

    Raises
    ------
    DeviceError
        ``midi.library``, ``midi.none``, ``midi.unknown_port``, ``midi.open``, or
        ``midi.no_virtual`` where the system has no virtual ports.
    """

    def __init__(self, name: str | None, events: EventQueue, client: str = CLIENT) -> None:
        self.virtual = name is None
        self._port, self.info = _open("MidiIn", name, client)
        self._port.ignore_types(sysex=True, timing=False, active_sense=True)
        self._poller: Poller | None = None
        if self.info.api == "jack":
            self._poller = Poller(self._port.get_message, events, CAPACITY)
        else:
            self._port.set_callback(_stores(events))
        _remember(self)

    def close(self) -> None:
        """Close the port; doing so again is harmless."""
        _close(self)

    def _fall_silent(self) -> None:
        if self._poller is not None:
            self._poller.stop()
            return
        # rtmidi closes a port without releasing Python's lock, and waits for a callback that waits for the
        # lock: so no callback may be under way.
        self._port.cancel_callback()
        time.sleep(_LAST_CALLBACK_SEC)

    def __enter__(self) -> MidiInput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MidiOutput:
    """An open output port; closing it ends every note it may have left sounding.

    Parameters and errors are those of `MidiInput`. One thread sends at a time.
    """

    def __init__(self, name: str | None, client: str = CLIENT) -> None:
        self.virtual = name is None
        self._port, self.info = _open("MidiOut", name, client)
        self._used = False
        _remember(self)

    def send(self, data: bytes) -> None:
        """Send one message.

        Raises
        ------
        DeviceError
            ``midi.lost`` when the port does not take it.
        """
        self._used = True
        try:
            self._port.send_message(data)
        except Exception as error:  # rtmidi raises its own, OSError and ValueError
            raise DeviceError(
                "midi.lost",
                f'The MIDI port "{self.info.name}" does not take messages any more ({error}).',
                "Connect the instrument again, or choose another port.",
            ) from error

    def close(self) -> None:
        """Send pedals up and all notes off if anything was played, and close the port."""
        if self in _open_ports and self._used:
            with contextlib.suppress(DeviceError):
                for message in release_messages():
                    self.send(message)
                time.sleep(_LAST_MESSAGES_SEC)
        _close(self)

    def __enter__(self) -> MidiOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- inside ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _borrowed(kind: str) -> Iterator[tuple[Any, str]]:
    port, api = first_client(kind, f"{CLIENT} probe")
    try:
        yield port, api
    finally:
        discard(port)


def _listed(kind: str) -> list[PortInfo]:
    with _borrowed(kind) as (port, api):
        ports = [PortInfo(api, short_name(name, api)) for name in port.get_ports()]
    return [port for port in ports if not port.name.startswith(CLIENT)]


def _open(kind: str, name: str | None, client: str) -> tuple[Any, PortInfo]:
    port, api = first_client(kind, client)
    try:
        info = _connect(port, api, name, "in" if kind == "MidiIn" else "out", client)
    except BaseException:
        discard(port)
        raise
    return port, info


def _connect(port: Any, api: str, name: str | None, end: str, client: str) -> PortInfo:
    if name is None and api == "winmm":
        raise DeviceError(
            "midi.no_virtual",
            "Windows has no virtual MIDI ports.",
            "Install loopMIDI, make a port with it, and choose that port here and in the other program.",
        )
    try:
        if name is None:
            port.open_virtual_port(end)
            return PortInfo(api, f"{client}:{end}")
        ports = [PortInfo(api, short_name(other, api)) for other in port.get_ports()]
        index = find_port(name, ports)
        port.open_port(index, end)
        return ports[index]
    except DeviceError:
        raise
    except Exception as error:  # rtmidi raises its own, OSError and ValueError
        raise DeviceError(
            "midi.open",
            f"The MIDI port {name or client} could not be opened ({error}).",
            "Close other programs that use it, or plug the instrument in again.",
        ) from error


def _stores(events: EventQueue) -> Callable[[tuple[list[int], float], object], None]:
    push, now = events.push, time.monotonic

    def store(event: tuple[list[int], float], _: object) -> None:
        push(now(), bytes(event[0]))

    return store


def _remember(port: MidiInput | MidiOutput) -> None:
    if not _open_ports:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _open_ports.add(port)


def _close(port: MidiInput | MidiOutput) -> None:
    if port in _open_ports:
        _open_ports.discard(port)
        if isinstance(port, MidiInput):
            port._fall_silent()
        discard(port._port)


def _close_all() -> None:
    for port in list(_open_ports):
        port.close()

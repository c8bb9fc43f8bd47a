"""MIDI ports between real clients of a real JACK server: latency, floods, garbage, unplugging."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pkontext import midi_systems, ports
from pkontext.errors import DeviceError
from pkontext.event_queue import EventQueue
from pkontext.midi_bytes import NOTE_OFF, NOTE_ON, parse_voice, release_messages
from pkontext.port_watch import PortWatcher
from pkontext.ports import MidiInput, MidiOutput, PortInfo, find_port
from tests.live_midi import SETTLE_SEC, keyboard, midi_server, run_child, wait_for

#: Cut short, without status, reserved, out of range, and system exclusive.
GARBAGE = [b"\x90", b"\x90\x3c", b"\x40\x40", b"\xf4\x01", b"\xff\x03", b"\x90\xc8\x90", b"\xf0\x01\x02\xf7"]
PORTS = [PortInfo("alsa", name) for name in ("Midi Through:Midi Through Port-0", "Piano:Piano MIDI 1", "Pad")]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with midi_server():
        yield


# ---- without ports ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "index"), [("Pad", 2), ("pad", 2), ("Piano", 1), ("Piano:Piano MIDI 1", 1), ("MIDI 1", 1)]
)
def test_a_port_is_found_by_name(name: str, index: int) -> None:
    assert find_port(name, PORTS) == index


def test_an_exact_name_wins_over_a_longer_one() -> None:
    assert find_port("Pad", [PortInfo("core", "Pad 2"), PortInfo("core", "Pad")]) == 1


@pytest.mark.parametrize("name", ["Organ", ""])
def test_an_unknown_port_is_an_error_that_lists_what_is_there(name: str) -> None:
    with pytest.raises(DeviceError) as raised:
        find_port(name, PORTS)
    assert raised.value.code == "midi.unknown_port" and '"Pad"' in raised.value.hint


def test_numbers_that_change_are_no_part_of_a_name() -> None:
    assert midi_systems.short_name("Piano:Piano MIDI 1 20:0", "alsa") == "Piano:Piano MIDI 1"
    assert midi_systems.short_name("Piano 1", "winmm") == "Piano"
    assert midi_systems.short_name("Stage 3", "core") == "Stage 3"


def test_a_full_queue_counts_what_it_drops() -> None:
    queue = EventQueue(capacity=10)
    for index in range(25):
        queue.push(float(index), b"\x90\x3c\x40")
    assert (queue.received, queue.dropped) == (10, 15)
    assert [when for when, _ in queue.drain()] == list(range(10))
    assert queue.drain() == []


def test_waiting_for_events_ends_when_one_comes() -> None:
    queue = EventQueue()
    began = time.monotonic()
    assert queue.drain(0.05) == [] and time.monotonic() - began >= 0.045


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90", b"\x90\x3c", b"\x3c\x3c\x3c", b"\x90\xc8\x40", b"\x90\x3c\x40\x01", b"\xf8", b"\xff\x01"],
)
def test_damaged_messages_say_nothing(data: bytes) -> None:
    assert parse_voice(data) is None


def test_strike_without_velocity_is_a_release() -> None:
    assert parse_voice(b"\x93\x3c\x00") == (NOTE_OFF, 3, 60, 0)
    assert parse_voice(b"\x93\x3c\x01") == (NOTE_ON, 3, 60, 1)


def test_without_a_midi_system_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    with pytest.raises(DeviceError) as raised:
        ports.list_inputs()
    assert raised.value.code == "midi.none" and "snd-seq" in raised.value.hint


def test_without_the_library_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    with pytest.raises(DeviceError) as raised:
        ports.list_outputs()
    assert raised.value.code == "midi.library" and "python-rtmidi" in raised.value.hint


# ---- between real ports -------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_ports_are_listed_and_our_own_are_not() -> None:
    with keyboard(), MidiInput(None, EventQueue()), MidiInput(None, EventQueue(), client="Synth"):
        assert ports.list_inputs() == [PortInfo("jack", "kbd:out")] == [ports.default_input()]
        assert ports.list_outputs() == [PortInfo("jack", "Synth:in")]


@pytest.mark.usefixtures("server")
def test_no_instrument_is_an_error_that_says_so() -> None:
    with pytest.raises(DeviceError) as raised:
        ports.default_input()
    assert raised.value.code == "midi.no_input"


@pytest.mark.usefixtures("server")
def test_messages_arrive_whole_in_order_and_soon() -> None:
    def once() -> tuple[list[bytes], list[bytes], np.ndarray]:
        queue, draw = EventQueue(), random.Random(1)
        sent: list[bytes] = []
        times: list[float] = []
        with MidiInput(None, queue), keyboard("PianoKontext") as send:
            for index in range(300):
                data = bytes((0x90, index % 128, 1 + index % 127))
                times.append(time.monotonic())
                send(data)
                sent.append(data)
                time.sleep(draw.uniform(0.001, 0.006))
            wait_for(lambda: queue.received >= len(sent), 2)
        heard = queue.drain()
        late = np.array([when for when, _ in heard]) - np.array(times)[: len(heard)]
        return sent, [data for _, data in heard], late * 1e3

    sent, heard, late_ms = once()
    if heard != sent or np.percentile(late_ms, 95) > 8:  # JACK loses or delays messages on a loaded machine
        sent, heard, late_ms = once()
    assert heard == sent
    assert late_ms.min() >= 0 and np.median(late_ms) < 4 and np.percentile(late_ms, 95) < 10


@pytest.mark.usefixtures("server")
def test_ten_thousand_events_a_second_and_garbage() -> None:
    def once() -> tuple[int, int, list[bytes]]:
        queue, garbage = EventQueue(), random.Random(2)
        with MidiInput(None, queue), keyboard("PianoKontext") as send:
            began = time.monotonic()
            for index in range(10_000):
                if index % 100 == 0:
                    send(garbage.choice(GARBAGE))
                send((0x90, index % 128, 1 + index // 128))
                while time.monotonic() < began + (index + 1) * 1e-4:
                    pass
            took = time.monotonic() - began
            assert took < 2
            wait_for(lambda: queue.received + queue.dropped >= 10_000, 2)
            time.sleep(0.05)
        heard = [data for _, data in queue.drain()]
        good = [data for data in heard if len(data) == 3 and data[0] == 0x90 and parse_voice(data)]
        return queue.dropped, len(good), heard

    dropped, good, heard = once()
    if good < 10_000:
        dropped, good, heard = once()
    assert dropped == 0 and good >= 10_000
    for data in heard:
        parse_voice(data)


@pytest.mark.usefixtures("server")
def test_an_instrument_that_comes_back_is_opened_again() -> None:
    queue, changes = EventQueue(), []
    with keyboard() as send:
        watcher = PortWatcher("kbd", queue, changes.append, interval=0.1)
        try:
            time.sleep(SETTLE_SEC)
            send((0x90, 60, 70))
            assert wait_for(lambda: queue.received == 1)
        except BaseException:
            watcher.close()
            raise
    try:
        assert wait_for(lambda: changes == [False]) and not watcher.connected
        silenced = [data for _, data in queue.drain()][1:]
        assert silenced == release_messages()
        with keyboard() as send:
            assert wait_for(lambda: changes == [False, True]) and watcher.connected
            time.sleep(SETTLE_SEC)
            send((0x80, 60, 70))
            assert wait_for(lambda: queue.received == 66)
        assert queue.drain()[-1][1] == bytes((0x80, 60, 70))
    finally:
        watcher.close()
    assert not watcher.connected


@pytest.mark.usefixtures("server")
def test_a_port_that_vanished_between_listing_and_opening() -> None:
    with pytest.raises(DeviceError) as raised:
        MidiInput("kbd", EventQueue())
    assert raised.value.code == "midi.unknown_port" and "none" in raised.value.hint


@pytest.mark.usefixtures("server")
def test_the_end_of_the_program_closes_ports_and_ends_notes() -> None:
    """A program that forgets to close its output, and ends by an error, leaves no note sounding."""
    code = (
        "import time\nfrom pkontext.ports import MidiOutput\n"
        "port = MidiOutput('Synth')\ntime.sleep(0.3)\n"
        "port.send(b'\\x90\\x3c\\x40')\ntime.sleep(0.05)\nraise SystemExit(9)\n"
    )
    queue = EventQueue()
    with MidiInput(None, queue, client="Synth"):
        child = run_child(code)
        _, errors = child.communicate(timeout=20)
        assert child.returncode == 9, errors
        assert wait_for(lambda: queue.received == 65, 2)
    heard = [data for _, data in queue.drain()]
    assert heard == [b"\x90\x3c\x40", *release_messages()]


@pytest.mark.usefixtures("server")
def test_a_port_can_be_closed_while_events_pour_in() -> None:
    """rtmidi holds Python's lock while it opens or closes a port; a callback that waits for it would hang."""
    code = (
        "import signal, sys, time\nfrom tests.live_midi import keyboard\n"
        "with keyboard() as send:\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "    print('up', flush=True)\n"
        "    until = time.monotonic() + 20\n"
        "    while time.monotonic() < until:\n"
        "        send((0x90, 60, 60)); time.sleep(0.0003)\n"
    )
    flood = run_child(code)
    try:
        assert flood.stdout is not None and flood.stdout.readline() == "up\n"
        for _ in range(10):
            queue = EventQueue()
            port = MidiInput("kbd", queue)
            assert wait_for(lambda queue=queue: queue.received > 20)
            began = time.monotonic()
            MidiOutput(None).close()
            port.close()
            assert time.monotonic() - began < 1
    finally:
        flood.terminate()  # it closes its port, else the JACK server waits for it
        flood.communicate()


@pytest.mark.usefixtures("server")
def test_an_output_that_was_not_used_stays_silent() -> None:
    queue = EventQueue()
    with MidiInput(None, queue, client="Synth"):
        MidiOutput("Synth").close()
        time.sleep(0.05)
    assert queue.drain() == []


def test_listing_without_a_server_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's libraries print to standard error when they are asked in vain; they are not asked."""
    code = (
        "from pkontext.errors import DeviceError\nfrom pkontext.ports import list_inputs\n"
        "try: list_inputs()\nexcept DeviceError as error: print(error.code)\n"
    )
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert (child.stdout, child.stderr) == ("midi.none\n", "")

"""The monitor's sound, recorded from a real sound server: how soon it comes, and what it obeys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pkontext.bundle import PACKAGE_DATA
from pkontext.errors import DeviceError, InputError
from pkontext.event_queue import EventQueue
from pkontext.live import Listener
from pkontext.monitor import CLIENT, Monitor
from pkontext.ports import MidiInput
from tests.jack_server import JackServer, Recorder
from tests.live_midi import keyboard, midi_server, wait_for

FONT = PACKAGE_DATA / "FluidR3_piano.sf2"
RATE = 44100
_LOUD = 1e-3


@pytest.fixture(scope="module")
def server() -> Iterator[JackServer]:
    with midi_server() as running:
        yield running


@contextmanager
def recorded(server: JackServer, monitor: Monitor) -> Iterator[Recorder]:
    """Record what a monitor plays."""
    with server.recorder(30, CLIENT) as recorder:
        recorder.connect()
        recorder.wait_frames(256)
        yield recorder


def level(recorder: Recorder, begin: int, end: int | None = None) -> float:
    """RMS of a part of a recording."""
    part = recorder.samples[begin:end].astype(np.float64)
    return float(np.sqrt((part**2).mean()))


def test_a_strike_sounds_within_20_ms_of_its_message(server: JackServer) -> None:
    """From a key of another program to the sound that the sound server got."""
    queue = EventQueue()
    with Monitor(FONT, driver="jack") as monitor, recorded(server, monitor) as recorder:
        listener = Listener(queue, [monitor.feed])
        try:
            with MidiInput(None, queue), keyboard("PianoKontext") as send:
                times = []
                for index in range(8):
                    times.append(recorder.frames)  # a whole period may have passed since
                    send((0x90, 60 + index, 127))
                    time.sleep(0.12)
                    send((0x80, 60 + index, 0))
                    monitor.feed(time.monotonic(), b"\xb0\x78\x00")
                    time.sleep(0.05)
        finally:
            listener.stop()
        sound = np.abs(recorder.samples).max(axis=1)
        added = monitor.status().added_ms
    delays = [np.flatnonzero(sound[at:] > _LOUD)[0] / RATE for at in times]
    assert np.median(delays) < 0.020, delays
    assert added[0] < 3 and added[1] < 20, added


def test_velocity_is_heard(server: JackServer) -> None:
    levels = []
    with Monitor(FONT, driver="jack") as monitor, recorded(server, monitor) as recorder:
        for velocity in (20, 60, 120):
            begin = recorder.frames
            monitor.feed(time.monotonic(), bytes((0x90, 60, velocity)))
            recorder.wait_frames(RATE // 4)
            levels.append(level(recorder, begin))
            monitor.panic()
            recorder.wait_frames(RATE // 10)
    assert levels[1] > 1.5 * levels[0] and levels[2] > 1.5 * levels[1]


def test_the_sustain_pedal_holds_and_panic_ends_all_sound(server: JackServer) -> None:
    def after_release(pedal: int) -> float:
        monitor.feed(time.monotonic(), bytes((0xB0, 64, pedal)))
        monitor.feed(time.monotonic(), b"\x90\x30\x64")
        recorder.wait_frames(RATE // 10)
        monitor.feed(time.monotonic(), b"\x80\x30\x00")
        recorder.wait_frames(RATE)
        return level(recorder, recorder.frames - RATE // 10)

    with Monitor(FONT, driver="jack") as monitor, recorded(server, monitor) as recorder:
        without, held = after_release(0), after_release(127)
        assert held > 10 * without and held > _LOUD
        monitor.panic()
        recorder.wait_frames(RATE // 4)
        assert level(recorder, recorder.frames - RATE // 10) < 1e-5
        assert wait_for(lambda: monitor.status().voices == 0)


def test_volume_mute_and_click(server: JackServer) -> None:
    def of_click(accent: bool) -> float:
        begin = recorder.frames
        monitor.click(accent)
        recorder.wait_frames(RATE // 5)
        return float(np.abs(recorder.samples[begin:]).max())

    with Monitor(FONT, driver="jack") as monitor, recorded(server, monitor) as recorder:
        loud, plain = of_click(True), of_click(False)
        assert loud > 0.02 and plain > 0.01
        monitor.set_muted(True)
        recorder.wait_frames(2000)
        assert of_click(True) == 0
        monitor.set_muted(False)
        monitor.set_volume(0.25)
        recorder.wait_frames(2000)
        assert 0.1 * loud < of_click(True) < 0.5 * loud
        status = monitor.status()
        assert (status.volume, status.muted, status.driver) == (0.25, False, "jack")


def test_garbage_and_closing_while_others_feed(server: JackServer) -> None:
    monitor, stop = Monitor(FONT, driver="jack"), threading.Event()

    def feed() -> None:
        index = 0
        while not stop.is_set():
            index += 1
            monitor.feed(time.monotonic(), bytes((0x80 | index % 128, index % 256, index * 7 % 256)))
            monitor.feed(time.monotonic(), bytes((0x90, index % 128)))
            monitor.click(False)

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(0.1)
    monitor.close()
    time.sleep(0.05)
    stop.set()
    thread.join()
    monitor.close()
    assert monitor.status().voices == 0


def test_without_a_sound_device_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    with pytest.raises(DeviceError) as raised:
        Monitor(FONT, driver="pulseaudio")
    assert raised.value.code == "monitor.device" and "--no-monitor" in raised.value.hint
    assert "fluidsynth" not in capfd.readouterr().err


def test_a_bad_soundfont_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.sf2").write_bytes(b"RIFF")
    for path in (tmp_path / "bad.sf2", tmp_path / "none.sf2"):
        with pytest.raises(InputError) as raised:
            Monitor(path)
        assert raised.value.code == "synth.soundfont"

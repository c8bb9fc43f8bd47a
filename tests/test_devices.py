"""Which outputs there are, how one is found by name, and the command that lists and tries them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pkontext import cli_devices, devices, portaudio
from pkontext.devices import AudioDevice, DeviceName, find_output, list_outputs
from pkontext.errors import DeviceError
from tests.clicks import find_clicks
from tests.jack_server import HOST, JackServer, jack_server


@pytest.fixture(scope="module")
def server() -> Iterator[JackServer]:
    with jack_server(period=1024) as running:
        yield running


@pytest.fixture
def program() -> typer.Typer:
    """A program with this command and another one, as Typer gives a single one no name."""
    app = typer.Typer()
    cli_devices.register(app)
    app.command("other")(lambda: None)
    return app


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list as on a desktop, with names as PortAudio gives them."""
    names = [
        ("ALSA", "HDA Intel PCH: ALC295 Analog (hw:0,0)"),
        ("ALSA", "USB Audio: - (hw:1,0)"),
        ("ALSA", "default"),
        (HOST, "system"),
        (HOST, "USB Audio"),
    ]
    found = [
        AudioDevice(host, name, 2, 48000, 5.0, 20.0, name == "default", index)
        for index, (host, name) in enumerate(names)
    ]
    monkeypatch.setattr(devices, "list_outputs", lambda: found)
    monkeypatch.setattr(devices, "refresh", lambda: None)
    monkeypatch.setattr(portaudio, "jack_is_sound", lambda: True)


# ---- the real list ------------------------------------------------------------------------------


def test_the_list(server: JackServer) -> None:
    system = next(device for device in list_outputs() if device.host == HOST and device.name == "system")
    assert (system.channels, system.default_rate) == (server.channels, server.rate)
    assert 0 < system.latency_low_ms <= system.latency_high_ms < 200
    assert find_output(server.device) == find_output("SYSTEM") == find_output(f"{HOST}: system") == system
    assert find_output().is_default
    assert list_outputs()[0].is_default


def test_a_new_server_is_found_without_a_restart(server: JackServer) -> None:
    with jack_server(rate=32000):
        assert find_output(server.device).default_rate == 32000
    assert find_output(server.device).default_rate == server.rate


def test_without_any_device() -> None:
    """In a process of its own, which no server is told to."""
    code = (
        "from pkontext import devices\n"
        "from pkontext.errors import DeviceError\n"
        "print(len(devices.list_outputs()))\n"
        "try:\n"
        "    devices.find_output('nothing like this')\n"
        "except DeviceError as error:\n"
        "    print(error.code)\n"
    )
    environment = {"JACK_NO_START_SERVER": "1", "JACK_DEFAULT_SERVER": "pkontext-nobody", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    count, code = done.stdout.split()
    assert code == ("device.none" if count == "0" else "device.unknown"), done.stderr
    assert done.returncode == 0


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError) as caught:
        list_outputs()
    assert caught.value.code == "device.library"
    assert "libportaudio2" in caught.value.hint


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 2),
        ("default", 2),
        ("system", 3),
        ("USB Audio", 4),
        ("usb audio: - (hw:1,0)", 1),
        ("ALC295", 0),
        (f"{HOST}: USB Audio", 4),
        (DeviceName("ALSA", "USB Audio: - (hw:1,0)"), 1),
        (DeviceName("ALSA", "USB Audio: - (hw:7,0)"), 1),  # the cards were found in another order
    ],
)
def test_names(many: None, wanted: DeviceName | str | None, index: int) -> None:
    assert find_output(wanted).index == index


def test_a_name_that_fits_several(many: None) -> None:
    with pytest.raises(DeviceError) as caught:
        find_output("usb")
    assert caught.value.code == "device.ambiguous"
    assert "ALSA: USB Audio: - (hw:1,0)" in caught.value.hint
    assert f"{HOST}: USB Audio" in caught.value.hint


@pytest.mark.parametrize("wanted", ["HDA Intel PCH: ALC259", DeviceName("ALSA", "ALC295"), "", "hw:9"])
def test_a_name_that_fits_none(many: None, wanted: DeviceName | str) -> None:
    with pytest.raises(DeviceError) as caught:
        find_output(wanted)
    assert caught.value.code == "device.unknown"
    assert all(str(device.device_name) in caught.value.hint for device in devices.list_outputs())
    if "ALC259" in wanted:
        assert caught.value.hint.startswith("Choose one of: ALSA: HDA Intel PCH")


# ---- the command --------------------------------------------------------------------------------


def test_the_command_lists(server: JackServer, program: typer.Typer) -> None:
    shown = CliRunner().invoke(program, ["devices"])
    assert shown.exit_code == 0
    assert f"{HOST}: system" in shown.stdout
    listed = json.loads(CliRunner().invoke(program, ["devices", "--json"]).stdout)
    assert listed["event"] == "devices"
    system = next(device for device in listed["devices"] if device["name"] == "system")
    assert (system["host"], system["channels"], system["default_rate"]) == (HOST, 2, server.rate)
    assert "index" not in system


def test_the_command_plays_a_tone(server: JackServer, program: typer.Typer) -> None:
    with server.recorder() as recorder:
        done = CliRunner().invoke(program, ["devices", "--test", f"{HOST}: system", "--json"])
        recorder.wait_frames(server.rate // 10)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["event"], said["name"], said["frames"]) == ("test", "system", 2 * server.rate)
    heard = recorder.samples[-int(1.5 * server.rate) :]  # the recorder is connected some time after the start
    assert np.array_equal(heard[:, 0], heard[:, 1])
    assert 0.05 < np.abs(heard).max() < 0.07
    if said["underruns"] == 0:
        assert find_clicks(heard, server.rate) == []


def test_the_command_names_what_is_wrong(server: JackServer, program: typer.Typer) -> None:
    done = CliRunner().invoke(program, ["devices", "--test", "Grand Hall"])
    assert done.exit_code == DeviceError.exit_code
    assert "There is no audio output 'Grand Hall'." in done.stderr
    assert f"{HOST}: system" in done.stderr

"""``pkontext ports`` and ``pkontext record`` as a user meets them, with a keyboard in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pkontext.cli_live import note_name, register
from pkontext.journal import Journal, recover
from pkontext.score import load_score
from tests.jack_server import JackServer
from tests.live_midi import SETTLE_SEC, keyboard, midi_server, run_child

PROGRAM = "import typer\nfrom pkontext.cli_live import register\napp = typer.Typer()\nregister(app)\napp()\n"


@pytest.fixture
def server() -> Iterator[JackServer]:
    """One for each test, as one that has lost a client waits for it."""
    with midi_server() as running:
        yield running


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return run_child(PROGRAM, *map(str, arguments))


def wait_event(child: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """Read lines until an event of this name."""
    assert child.stdout is not None
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no {name}: {child.communicate()}")


def events_of(output: str) -> dict[str, dict[str, Any]]:
    return {event["event"]: event for event in map(json.loads, output.splitlines())}


def run(*arguments: str | Path) -> tuple[int, str, str]:
    child = start(*arguments)
    output, errors = child.communicate(timeout=30)
    return child.returncode, output, errors


def play(count: int = 20) -> None:
    """Play notes with pedal to the virtual port of the program."""
    with keyboard("PianoKontext") as send:
        send((0xB0, 64, 127))
        for index in range(count):
            send((0x90, 60 + index, 50 + index))
            time.sleep(0.01)
            send((0x80, 60 + index, 0))
        send((0xB0, 64, 0))
        time.sleep(0.1)


@pytest.mark.usefixtures("server")
def test_ports_are_listed() -> None:
    with keyboard():
        code, output, _ = run("ports")
        assert code == 0 and "  kbd:out  (jack)" in output and "Outputs, to play to:\n  none" in output
        code, output, _ = run("ports", "--json")
    listed = json.loads(output)
    assert code == 0 and listed["inputs"] == [{"api": "jack", "name": "kbd:out"}] and listed["outputs"] == []


@pytest.mark.usefixtures("server")
def test_a_take_is_recorded_until_ctrl_c(tmp_path: Path) -> None:
    target = tmp_path / "take.mid"
    child = start("record", "-o", target, "--virtual", "--json")
    listening = wait_event(child, "listening")
    assert listening["port"].startswith("PianoKontext") and listening["monitor"] == "jack"
    play()
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=20)
    done = events_of(output)["done"]
    assert child.returncode == 0, errors
    assert done["notes"] == 20 and done["dropped"] == 0 and done["pedals"] == 2
    notes = load_score(target).notes
    assert notes["pitch"].tolist() == list(range(60, 80)) and notes["velocity"].tolist() == list(
        range(50, 70)
    )
    gaps = np.diff(notes["onset_sec"])
    assert np.median(gaps) == pytest.approx(0.0105, abs=0.003)
    assert recover() == [] and [file.name for file in tmp_path.iterdir()] == ["take.mid"]


def test_a_killed_program_loses_nothing(tmp_path: Path, server: JackServer) -> None:
    child = start("record", "-o", tmp_path / "a.mid", "--virtual", "--no-monitor", "--json")
    wait_event(child, "listening")
    play()
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    server.kill()  # it would wait for the program
    assert list(tmp_path.iterdir()) == []

    code, output, errors = run("record", "-o", tmp_path / "b.mid", "--recover", "--json")
    recovered = events_of(output)["recovered"]
    assert code == 0, errors
    assert recovered["notes"] == 20 and recovered["pedals"] == 2 and recovered["remaining"] == 0
    assert load_score(tmp_path / "b.mid").notes["velocity"].tolist() == list(range(50, 70))
    code, output, _ = run("record", "-o", tmp_path / "c.mid", "--recover", "--json")
    assert code == 3 and events_of(output)["error"]["code"] == "record.nothing_to_recover"


@pytest.mark.usefixtures("server")
def test_an_unplugged_instrument_ends_its_notes_and_the_take_goes_on(tmp_path: Path) -> None:
    with keyboard() as send:
        child = start("record", "-o", tmp_path / "take.mid", "--port", "kbd", "--no-monitor", "--json")
        wait_event(child, "listening")
        time.sleep(SETTLE_SEC)
        send((0x90, 60, 64))
        time.sleep(0.05)
    event = {"connected": True}
    while event["connected"]:
        event = wait_event(child, "progress")
    with keyboard() as send:
        while not event["connected"]:
            event = wait_event(child, "progress")
        time.sleep(SETTLE_SEC)
        send((0x90, 72, 64))
        time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        output, errors = child.communicate(timeout=20)
    assert child.returncode == 0, errors
    assert events_of(output)["done"]["notes"] == 2
    notes = load_score(tmp_path / "take.mid").notes
    assert notes["onset_sec"][0] + notes["duration_sec"][0] < notes["onset_sec"][1]


@pytest.mark.usefixtures("server")
def test_count_in_and_metronome_give_the_file_its_tempo(tmp_path: Path) -> None:
    target = tmp_path / "take.mid"
    child = start("record", "-o", target, "--virtual", "--metronome", "300", "--beats", "3", "--seconds", "1.5", "--json")  # fmt: skip  # noqa: E501
    wait_event(child, "listening")
    time.sleep(0.6)
    play(10)
    output, errors = child.communicate(timeout=20)
    assert child.returncode == 0 and events_of(output)["done"]["duration_sec"] < 1.8, errors
    score = load_score(target)
    assert score.tempi["us_per_quarter"].tolist() == [200_000] and score.meters["numerator"].tolist() == [3]


@pytest.mark.usefixtures("server")
def test_without_sound_a_take_is_still_recorded(tmp_path: Path) -> None:
    child = start("record", "-o", tmp_path / "t.mid", "--virtual", "--driver", "pulseaudio", "--json")
    warning = wait_event(child, "warning")
    assert "No sound device" in warning["message"]
    play(3)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=20)
    assert child.returncode == 0 and events_of(output)["done"]["notes"] == 3


@pytest.mark.usefixtures("server")
def test_nothing_played_writes_nothing(tmp_path: Path) -> None:
    code, output, _ = run("record", "-o", tmp_path / "t.mid", "--virtual", "--no-monitor", "--seconds", "0.2", "--json")  # fmt: skip  # noqa: E501
    assert code == 3 and events_of(output)["error"]["code"] == "record.empty"
    assert list(tmp_path.iterdir()) == [] and recover() == []


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.mid").write_bytes(b"precious")
    code, output, _ = run("record", "-o", tmp_path / "t.mid", "--virtual", "--json")
    assert code == 3 and events_of(output)["error"]["code"] == "output.exists"
    assert (tmp_path / "t.mid").read_bytes() == b"precious"


def test_without_a_midi_system_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    book = Journal()
    book.append(time.monotonic(), b"\x90\x3c\x40")
    book.close()
    code, output, errors = run("record", "-o", tmp_path / "t.mid", "--no-monitor", "--json")
    found = events_of(output)
    assert code == 5 and found["error"]["code"] == "midi.none" and errors == ""
    assert found["recoverable"]["journals"] == [str(book.path)] and book.path.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["record"],
        ["record", "-o", "take.wav"],
        ["record", "-o", "t.mid", "--virtual", "--port", "kbd"],
        ["record", "-o", "t.mid", "--metronome", "5"],
        ["record", "-o", "t.mid", "--metronome", "90", "--no-monitor"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    app = typer.Typer()
    register(app)
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_names_of_keys() -> None:
    assert [note_name(key) for key in (0, 21, 60, 61, 127)] == ["C-1", "A0", "C4", "C#4", "G9"]

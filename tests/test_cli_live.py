"""``pkontext ports`` and ``pkontext record`` as a user meets them, with a keyboard at a real port."""

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
import soundfile
import typer
from typer.testing import CliRunner

from pkontext.captured import Captured
from pkontext.cli_live import register
from pkontext.event_queue import EventQueue
from pkontext.journal import Journal, recover
from pkontext.perform_captured import settings_of_take
from pkontext.ports import MidiInput
from pkontext.score import load_score
from pkontext.types import NOTE, PEDAL
from tests.jack_server import JackServer
from tests.live_midi import SETTLE_SEC, keyboard, midi_server, run_child, wait_for

PROGRAM = "from pkontext.cli import app\napp()\n"


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
        ["record", "-o", "t.mid", "--seed", "3"],
        ["record", "-o", "t.mid", "--perform", "t.mid"],
        ["record", "-o", "t.mid", "--perform", "-"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("named", [(), ("Second",)])
def test_panic_reaches_one_output_or_all(named: tuple[str, ...]) -> None:
    first, second = EventQueue(), EventQueue()
    with MidiInput(None, first, client="First"), MidiInput(None, second, client="Second"):
        code, output, errors = run("ports", *named, "--panic", "--json")
        assert code == 0, errors
        ports = [json.loads(line)["port"] for line in output.splitlines()]
        assert [port.split(":")[0] for port in ports] == list(named or ("First", "Second"))
        assert wait_for(lambda: second.received > 2000, 2)
        assert {(0x80 | channel, 60, 0) for channel in range(16)} <= {
            tuple(data) for _, data in second.drain()
        }
        assert (first.received > 2000) is (not named)
        code, output, _ = run("ports", "Third", "--panic", "--json")
        error = events_of(output)["error"]
        assert code == 5 and error["code"] == "midi.unknown_port" and "First" in error["hint"]


@pytest.mark.usefixtures("server")
def test_panic_without_an_output() -> None:
    code, output, _ = run("ports", "--panic", "--json")
    assert code == 5 and events_of(output)["error"]["code"] == "midi.no_output"
    assert run("ports", "Synth")[0] == 2


# ---- performed in one go --------------------------------------------------------------------------


@pytest.fixture
def toy(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(toy_bundle))
    return toy_bundle


@pytest.mark.usefixtures("server", "toy")
def test_a_take_is_performed_by_the_metronomes_beats(tmp_path: Path) -> None:
    target, sound = tmp_path / "take.mid", tmp_path / "take.wav"
    child = start(
        "record", "-o", target, "--virtual", "--metronome", "300", "--beats", "3", "--seconds", "2",
        "--perform", sound, "--seed", "3", "--voice", "sampler", "--json",
    )  # fmt: skip
    wait_event(child, "listening")
    time.sleep(0.6)
    play(10)
    output, errors = child.communicate(timeout=60)
    found = events_of(output)
    assert child.returncode == 0, errors
    assert found["recorded"]["output"] == str(target) and found["recorded"]["notes"] == 10
    assert found["notated"]["tempo_bpm"] == 300
    assert found["notated"]["meter"] in ("3/4", "9/8")  # three beats, of whatever was played between clicks
    assert found["notated"]["notes"] == 10 - found["notated"]["merged"]
    assert found["done"]["output"] == str(sound) and found["done"]["seed"] == 3 and "progress" in found
    samples, _ = soundfile.read(sound)
    assert np.abs(samples).max() > 0.01 and len(load_score(target).notes) == 10
    assert sorted(file.name for file in tmp_path.iterdir()) == ["take.mid", "take.wav"]


@pytest.mark.usefixtures("server", "toy")
def test_a_recording_outlives_a_performance_that_fails(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(b"RIFF")
    os.environ["PKONTEXT_SOUNDFONT"] = str(broken)
    try:
        child = start(
            "record", "-o", tmp_path / "t.mid", "--virtual", "--no-monitor", "--perform", tmp_path / "t.wav",
            "--voice", "sampler", "--json",
        )  # fmt: skip
    finally:
        del os.environ["PKONTEXT_SOUNDFONT"]
    wait_event(child, "listening")
    play(5)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    found = events_of(output)
    assert child.returncode != 0 and "done" not in found and found["error"]["code"]
    assert found["kept"]["output"] == str(tmp_path / "t.mid")
    assert len(load_score(tmp_path / "t.mid").notes) == 5 and not (tmp_path / "t.wav").exists()


@pytest.mark.usefixtures("server", "toy")
def test_stopping_the_performance_keeps_the_recording(tmp_path: Path) -> None:
    child = start("record", "-o", tmp_path / "t.mid", "--virtual", "--no-monitor", "--perform", tmp_path / "t.wav", "--json")  # fmt: skip  # noqa: E501
    wait_event(child, "listening")
    play(20)
    child.send_signal(signal.SIGINT)
    wait_event(child, "notated")
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert events_of(output)["cancelled"]["kept"] == str(tmp_path / "t.mid")
    assert [file.name for file in tmp_path.iterdir()] == ["t.mid"]


@pytest.mark.usefixtures("toy")
def test_what_a_crash_left_is_performed_too(tmp_path: Path) -> None:
    book = Journal()
    for index in range(6):
        book.append(1.0 + 0.5 * index, bytes((0x90, 60 + index, 64)))
        book.append(1.4 + 0.5 * index, bytes((0x80, 60 + index, 64)))
    book.close()
    code, output, errors = run(
        "record", "-o", tmp_path / "t.mid", "--recover", "--perform", tmp_path / "t.flac", "--json"
    )
    assert code == 0, errors
    assert events_of(output)["recovered"]["notes"] == 6 and events_of(output)["done"]["format"] == "flac"


def test_before_anything_is_recorded_the_performance_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.wav").write_bytes(b"precious")
    arguments = ("record", "-o", tmp_path / "t.mid", "--perform", tmp_path / "t.wav", "--json")
    code, output, _ = run(*arguments)
    assert code == 3 and events_of(output)["error"]["code"] == "output.exists"
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(tmp_path / "none"))
    code, output, _ = run(*arguments, "--force")
    assert code == 4 and (tmp_path / "t.wav").read_bytes() == b"precious"


@pytest.mark.parametrize(("beats", "kept"), [(3, 3), (4, 4), (6, 6), (5, None), (1, None), (None, None)])
def test_the_metronome_says_where_beats_are(beats: int | None, kept: int | None) -> None:
    captured = Captured(np.zeros(0, NOTE), np.zeros(0, PEDAL), np.zeros(0), 0.0, 1.0, 0, 96.0, beats)
    settings = settings_of_take(captured, "name")
    assert (settings.tempo_bpm, settings.first_beat_sec, settings.title) == (96.0, 0.0, "name")
    assert settings.beats_per_bar == kept
    without = Captured(np.zeros(0, NOTE), np.zeros(0, PEDAL), np.zeros(0), 0.0, 1.0)
    assert settings_of_take(without).tempo_bpm is settings_of_take(without).first_beat_sec is None

"""Notes of a take on another instrument: transport, and silence on every way out, also of the program."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pkontext.bundle import open_bundle
from pkontext.engine import open_rendering
from pkontext.errors import DeviceError
from pkontext.event_queue import EventQueue
from pkontext.expressive_midi import TakeNotes
from pkontext.midi_bytes import NOTE_OFF, NOTE_ON, SUSTAIN, parse_voice
from pkontext.midi_play import KEYS, MidiTake, play_until_end
from pkontext.places import Places
from pkontext.ports import MidiInput
from pkontext.score import load_score
from pkontext.take import RenderSettings
from pkontext.types import NOTE, PEDAL
from tests.conftest import REPOSITORY
from tests.live_midi import midi_server, wait_for


class Sent:
    """Collects what is sent; fails from the ``fail_at``-th message on."""

    def __init__(self, fail_at: int = 10**9) -> None:
        self.messages: list[bytes] = []
        self.fail_at = fail_at

    def __call__(self, data: bytes) -> None:
        if len(self.messages) >= self.fail_at:
            raise DeviceError("midi.lost", "The port is gone.", "Connect it again.")
        self.messages.append(data)

    def keys(self) -> list[int]:
        return [data[1] for data in self.messages if data[0] == 0x90]


def left_on(messages: list[bytes]) -> tuple[set[int], int]:
    """Keys that are down after these messages, and where the pedal is."""
    down: set[int] = set()
    pedal = 0
    for data in messages:
        voice = parse_voice(data)
        if voice is None:
            continue
        if voice.kind == NOTE_ON:
            down.add(voice.first)
        elif voice.kind == NOTE_OFF:
            down.discard(voice.first)
        elif voice.first == SUSTAIN:
            pedal = voice.second
    return down, pedal


SILENT = (set(), 0)


@pytest.fixture
def take(long_midi_file: Path) -> TakeNotes:
    """Two minutes in eighths of 0.25 s, performed twice as fast, each note a little early, pedal down."""
    score = load_score(long_midi_file)
    notes = np.zeros(len(score.notes), NOTE)
    notes["onset_sec"] = 0.1 + score.notes["onset_sec"] / 2 - 0.01
    notes["duration_sec"], notes["pitch"], notes["velocity"] = 0.12, score.notes["pitch"], 70
    return TakeNotes(score, np.arange(len(notes)), notes, np.array([(0.1, 100)], PEDAL))


PLACES = Places(np.array([0.0, 120.0]), np.array([0.1, 60.1]), 1.0)


def test_pause_seeks_and_bars(take: TakeNotes) -> None:
    sent, pitches = Sent(), take.notes["pitch"].tolist()
    with MidiTake(take, PLACES, sent) as playing:
        assert playing.status().state == "paused" and sent.messages == []
        playing.toggle()
        assert wait_for(lambda: len(sent.keys()) >= 4)
        assert playing.status().state == "playing"
        assert not playing.press("space")
        assert left_on(sent.messages) == SILENT and playing.status().state == "paused"
        at = playing.status()
        assert 0.4 < at.position_sec < 2 and at.score_sec == pytest.approx(2 * (at.position_sec - 0.1))
        struck = len(sent.keys())
        playing.press("space")
        assert wait_for(lambda: len(sent.keys()) >= struck + 3)
        playing.pause()
        assert sent.keys() == pitches[: len(sent.keys())]  # each once, none left out

        playing.press("right")
        assert playing.status().position_sec == pytest.approx(at.position_sec + 5, abs=2)
        playing.seek(20.0)
        playing.press("up")  # a bar lasts 2 s
        assert playing.status().score_sec == pytest.approx(22.0, abs=0.03)
        playing.seek_by(0.8)
        playing.press("down")
        assert playing.status().score_sec == pytest.approx(22.0, abs=0.03)
        playing.press("down")
        assert playing.status().score_sec == pytest.approx(20.0, abs=0.03)
        sent.messages.clear()
        playing.play()
        assert wait_for(lambda: len(sent.keys()) >= 3)
        assert sent.keys()[:2] == pitches[80:82]  # the one that is early in its chord, too
        assert sent.messages[0] == b"\xb0\x40\x64"
        playing.seek(40.0)  # while it plays
        assert wait_for(lambda: pitches[160:163] == sent.keys()[-3:])
        playing.press("home")
        assert playing.status().position_sec < 0.5 and playing.status().state == "playing"
        assert playing.press("q")
    assert left_on(sent.messages) == SILENT


def test_the_end_and_again(take: TakeNotes) -> None:
    sent = Sent()
    with MidiTake(take, PLACES, sent) as playing:
        playing.seek(119.0)
        playing.play()
        assert wait_for(lambda: playing.status().state == "stopped")
        assert left_on(sent.messages) == SILENT and len(sent.keys()) == 4
        playing.toggle()
        assert playing.status().position_sec < 0.5 and playing.status().state == "playing"


def test_a_port_that_goes_away_is_an_error(take: TakeNotes) -> None:
    playing = MidiTake(take, PLACES, Sent(fail_at=5))
    with pytest.raises(DeviceError, match="gone"):
        play_until_end(playing, lambda wait: None, lambda: False, lambda status: None, print)


def test_whatever_raises_all_notes_end(take: TakeNotes) -> None:
    sent = Sent()

    def broken(wait: float) -> str | None:
        wait_for(lambda: len(sent.keys()) >= 2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        play_until_end(MidiTake(take, PLACES, sent), broken, lambda: False, lambda status: None, print)
    assert sent.keys() and left_on(sent.messages) == SILENT


# ---- the command, with a synthesizer at the other end of a real port --------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with midi_server():
        yield


@pytest.fixture
def synth(server: None) -> Iterator[EventQueue]:
    """What arrives at an instrument called Synth."""
    del server
    queue = EventQueue()
    with MidiInput(None, queue, client="Synth"):
        yield queue


_started: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    """A program that a failed test left behind does not play on."""
    yield
    for process in _started:
        process.kill()
        process.wait(10)
    _started.clear()


def play(folder: Path, *arguments: str | Path, **more: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "pkontext", "play", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120"},
        **more,  # type: ignore[call-overload]
    )
    _started.append(process)
    return process


def heard(queue: EventQueue, after_sec: float = 0.3) -> list[tuple[float, bytes]]:
    time.sleep(after_sec)
    return queue.drain()


def test_a_take_arrives_whole_and_in_time(
    synth: EventQueue, toy_bundle: Path, midi_file: Path, tmp_path: Path
) -> None:
    rendering = open_rendering(load_score(midi_file), open_bundle(toy_bundle), RenderSettings(seed=5), 1)
    wanted = rendering.take_notes().notes
    wanted = wanted[np.argsort(wanted["onset_sec"], kind="stable")]

    def once() -> np.ndarray:
        command = (midi_file, "--midi-out", "Synth", "--seed", "5", "--bundle", toy_bundle, "--json")
        process = play(tmp_path, *command, stdout=subprocess.PIPE)
        lines = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
        assert process.returncode == 0 and lines[-1]["event"] == "done"
        assert lines[-1]["state"] == "stopped" and lines[-1]["notes"] == len(wanted)
        states = [line for line in lines if line["event"] == "status"]
        assert len(states) >= 3 and all(line["port"].startswith("Synth") for line in states)
        assert np.all(np.diff([line["position_sec"] for line in states]) > 0)
        events = heard(synth)
        messages = [data for _, data in events]
        assert left_on(messages) == SILENT
        strikes = [(when, data) for when, data in events if data[0] == 0x90]
        assert sorted((data[1], data[2]) for _, data in strikes) == sorted(
            zip(wanted["pitch"].tolist(), wanted["velocity"].tolist(), strict=True)
        )
        return np.array([when for when, _ in strikes]) - wanted["onset_sec"]

    for _ in range(3):  # a loaded machine is late now and then
        late = once()
        if np.percentile(late, 90) - np.percentile(late, 10) < 0.008:
            return
    raise AssertionError(late)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_all_notes(
    number: int, synth: EventQueue, toy_bundle: Path, long_midi_file: Path, tmp_path: Path
) -> None:
    process = play(
        tmp_path,
        long_midi_file,
        "--midi-out",
        "Synth",
        "--bundle",
        toy_bundle,
        "--json",
        stdout=subprocess.PIPE,
    )
    assert wait_for(lambda: synth.received > 12, 60)
    process.send_signal(number)
    last = json.loads(process.communicate(timeout=20)[0].splitlines()[-1])
    messages = [data for _, data in heard(synth)]
    assert sum(data[0] == 0x90 for data in messages) >= 3 and left_on(messages) == SILENT
    assert bytes((0xBF, 123, 0)) in messages
    if number == signal.SIGHUP:
        assert process.returncode == 130 and last["event"] == "cancelled"
    else:
        assert process.returncode == 0 and last["event"] == "done" and last["state"] == "paused"


def test_keys_in_a_real_terminal(
    synth: EventQueue, toy_bundle: Path, long_midi_file: Path, tmp_path: Path
) -> None:
    controller, terminal = pty.openpty()
    command = (long_midi_file, "--midi-out", "Synth", "--bundle", toy_bundle)
    process = play(tmp_path, *command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown: list[bytes] = []
    reader = threading.Thread(target=_collect, args=(controller, shown), daemon=True)
    reader.start()
    messages: list[bytes] = []

    def more() -> list[bytes]:
        messages.extend(data for _, data in synth.drain())
        return messages

    assert wait_for(lambda: sum(data[0] == 0x90 for data in more()) >= 3, 60)
    os.write(controller, b" h")
    assert wait_for(lambda: b"paused" in b"".join(shown))
    assert wait_for(lambda: left_on(more()) == SILENT)
    time.sleep(0.5)
    count = len(more())
    assert all(meaning.encode() in b"".join(shown) for _, meaning in KEYS)
    time.sleep(0.3)
    assert len(more()) == count  # nothing comes while it is paused
    os.write(controller, b"\x1b[C \x1b[A")
    assert wait_for(lambda: sum(data[0] == 0x90 for data in more()[count:]) >= 3)
    os.write(controller, b"q")
    assert process.wait(20) == 0
    time.sleep(0.2)
    assert left_on(more()) == SILENT
    os.close(controller)


def _collect(descriptor: int, into: list[bytes]) -> None:
    try:
        while data := os.read(descriptor, 4096):
            into.append(data)
    except OSError:
        return


def test_a_closed_terminal_ends_all_notes(
    synth: EventQueue, toy_bundle: Path, long_midi_file: Path, tmp_path: Path
) -> None:
    controller, terminal = pty.openpty()
    command = (long_midi_file, "--midi-out", "Synth", "--bundle", toy_bundle, "--quiet")
    process = play(tmp_path, *command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert wait_for(lambda: synth.received > 12, 60)
    os.close(controller)
    assert process.wait(20) in (0, 1)
    assert left_on([data for _, data in heard(synth)]) == SILENT


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("piece.mid", "--midi-out", "No such port"), "midi.unknown_port"),
        (("missing.mid", "--midi-out", "Synth"), "midi.missing"),
    ],
)
def test_what_cannot_be_played(
    synth: EventQueue,
    run_cli: Callable[..., subprocess.CompletedProcess[bytes]],
    toy_bundle: Path,
    midi_file: Path,
    arguments: tuple[str, ...],
    code: str,
) -> None:
    done = run_cli("play", *arguments, "--bundle", toy_bundle, "--json")
    error = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode in (3, 5) and error["code"] == code and error["hint"]
    assert heard(synth, 0.1) == []
    assert run_cli("play", midi_file, "--midi-out", "Synth", "-o", "null").returncode == 2

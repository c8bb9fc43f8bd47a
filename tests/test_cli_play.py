"""``pkontext play``: its keys, its line, and the command as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pkontext.bundle import open_bundle
from pkontext.keys import key_presses
from pkontext.output import NullOutput
from pkontext.play_keys import KEYS, Transport
from pkontext.play_line import clock, describe, meter
from pkontext.player import Player
from pkontext.score import bar_start_sec, load_score
from tests.conftest import REPOSITORY

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def until(condition: Callable[[], bool], limit_sec: float = 30.0) -> None:
    end = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_every_key_does_what_the_help_says(toy_bundle: Path, long_midi_file: Path) -> None:
    score = load_score(long_midi_file)
    player = Player(open_bundle(toy_bundle), NullOutput, 1, "cpu")
    player.load(score)
    said: list[str] = []
    transport = Transport(player, score, said.append)

    def deck() -> Any:
        return player.call(lambda processor: processor.status())

    until(lambda: deck().duration_sec > 0 and deck().rendered_sec == deck().duration_sec)
    transport.press("space")
    until(lambda: player.status.heard_score_sec > 0.5)
    transport.press("right")
    until(lambda: player.status.heard_score_sec > 5)
    transport.press("space")
    until(lambda: deck().state == "paused")
    transport.press("left")
    until(lambda: player.status.heard_score_sec < 4)
    transport.press("home")
    until(lambda: player.status.heard_score_sec < 0.1)
    transport.press("up")
    until(lambda: abs(player.status.heard_score_sec - bar_start_sec(score, 2)) < 0.02)
    transport.press("up")
    until(lambda: abs(player.status.heard_score_sec - bar_start_sec(score, 3)) < 0.02)
    transport.press("down")
    until(lambda: abs(player.status.heard_score_sec - bar_start_sec(score, 2)) < 0.02)
    for key, voice in (("a", "deadpan"), ("a", "neural"), ("v", "sampler"), ("v", "neural")):
        transport.press(key)
        until(lambda voice=voice: deck().voice == voice)
    transport.press("n")
    until(lambda: deck().take == 2)
    transport.press("-")
    assert player.call(lambda processor: processor.get("volume")) == -2
    for _ in range(10):
        transport.press("+")
    assert player.call(lambda processor: processor.get("volume")) == 6
    transport.press("l")
    transport.press("right")
    until(lambda: player.status.heard_score_sec > 6)
    transport.press("l")
    until(lambda: player.call(lambda processor: processor.deck.span) is not None)
    transport.press("l")
    assert player.call(lambda processor: processor.deck.span) is None
    transport.press("h")
    assert all(meaning in said[0] for _, meaning in KEYS)
    transport.press("x")
    assert not transport.quit
    transport.press("q")
    assert transport.quit
    assert describe(player.status, score).startswith("paused")
    player.close()


def test_the_meter_and_the_clock() -> None:
    assert meter(1.0) == "█" * 12 and meter(0.0) == "·" * 12 and meter(10 ** (-24 / 20)).count("█") == 6
    assert clock(0) == "0:00" and clock(65.9) == "1:05" and clock(3600) == "60:00"


def test_playing_into_a_file(run_cli: Run, toy_bundle: Path, midi_file: Path, tmp_path: Path) -> None:
    done = run_cli("play", midi_file, "-o", "played.wav", "--bundle", toy_bundle, "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "done" and "sound" in kinds and "status" in kinds
    assert all(event["underruns"] == 0 for event in events if event["event"] == "done")
    assert (
        run_cli("render", midi_file, "-o", "r.wav", "--bits", "32f", "--bundle", toy_bundle).returncode == 0
    )
    played, rate = soundfile.read(tmp_path / "played.wav", dtype="float32")
    rendered, _ = soundfile.read(tmp_path / "r.wav", dtype="float32")
    first, second = (np.flatnonzero(samples) for samples in (played, rendered))
    assert rate == 44100
    assert np.array_equal(played[first[0] : first[-1] + 1], rendered[second[0] : second[-1] + 1])
    assert run_cli("play", midi_file, "-o", "played.wav", "--bundle", toy_bundle).returncode == 3  # exists


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("missing.mid", "-o", "null"), "midi.missing"),
        (("piece.mid", "-o", "null", "--device", "x"), "play.output"),
        (("piece.mid", "--device", "No such device"), "device."),
        (("piece.mid", "-o", "null", "--voice", "sampler", "--soundfont", "no.sf2"), "synth.soundfont"),
    ],
)
def test_what_cannot_be_played(
    run_cli: Run, toy_bundle: Path, midi_file: Path, arguments: tuple[str, ...], code: str
) -> None:
    done = run_cli("play", *arguments, "--bundle", toy_bundle, "--json")
    error = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode in (3, 5) and error["code"].startswith(code) and error["hint"]


def test_keys_in_a_real_terminal(toy_bundle: Path, long_midi_file: Path, tmp_path: Path) -> None:
    """Space, arrows and q, typed into a pseudo-terminal, which is as before afterwards."""
    controller, terminal = pty.openpty()
    import termios

    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-m", "pkontext", "play", long_midi_file, "-o", "null", "--bundle", toy_bundle],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "160"},
    )
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(controller, 4096):
                shown.append(data)
        except OSError:
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until(lambda: b"playing" in b"".join(shown), 60)
    os.write(controller, b" ")
    until(lambda: b"paused" in b"".join(shown))
    os.write(controller, b"\x1b[C\x1b[Ch")
    until(lambda: b"another performance" in b"".join(shown))
    until(lambda: any(b"bar %d " % bar in b"".join(shown) for bar in (6, 7, 8)))  # 10 s on, at 2 s a bar
    os.write(controller, b"q")
    assert process.wait(20) == 0
    assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    os.close(controller)


def test_interrupting_ends_it_cleanly(toy_bundle: Path, long_midi_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pkontext", "play", long_midi_file, "-o", "null", "--json"]
    process = subprocess.Popen(
        [*command, "--bundle", str(toy_bundle)],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "sound":
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read().splitlines()
    assert process.wait(20) == 0 and json.loads(rest[-1])["event"] == "done"


def test_without_a_terminal_no_key_comes() -> None:
    with open(os.devnull) as nothing, key_presses(nothing) as read_key:
        begun = time.monotonic()
        assert read_key(0.05) is None and time.monotonic() - begun >= 0.05

"""A clock leads the player: start, stop, place, tempo, lost clocks, late starts; in-process and over JACK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mido
import pytest

from pkontext.bundle import open_bundle
from pkontext.errors import DeviceError
from pkontext.follow import MOST_JUMPS, ClockLink, ClockTransport
from pkontext.output import NullOutput
from pkontext.player import Player
from pkontext.score import load_score
from pkontext.types import Score
from tests.conftest import REPOSITORY
from tests.live_midi import SETTLE_SEC as CONNECT_SEC
from tests.live_midi import keyboard, midi_server, wait_for

CLOCK, START, CONTINUE, STOP = b"\xf8", b"\xfa", b"\xfb", b"\xfc"


def song_position(sixteenths: int) -> bytes:
    return bytes((0xF2, sixteenths & 0x7F, sixteenths >> 7))


@pytest.fixture
def score(tmp_path: Path) -> Score:
    """120 quarters a minute for 16 quarters, then 60; a minute in all."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    for quarter in range(68):
        if quarter == 16:
            track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
        track.append(mido.Message("note_on", note=48 + 5 * quarter % 36, velocity=64))
        track.append(mido.Message("note_off", note=48 + 5 * quarter % 36, time=480))
    file.tracks.append(track)
    file.save(tmp_path / "two-tempi.mid")
    return load_score(tmp_path / "two-tempi.mid")


class Led:
    """A player that obeys at once and plays at the score's tempo; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.deck = SimpleNamespace(state="stopped", take=1, next_take=1)
        self.heard_score_sec = 0.0

    @property
    def status(self) -> Any:
        return self

    def play(self) -> None:
        self.told.append(("play",))
        self.deck.state = "playing"

    def pause(self) -> None:
        self.told.append(("pause",))
        self.deck.state = "paused"

    def seek(self, score_sec: float) -> None:
        self.told.append(("seek", round(score_sec, 2)))
        self.heard_score_sec = score_sec

    def set(self, name: str, value: float) -> None:
        self.told.append(("set", name, value))


class Master:
    """Sends clocks of a tempo to a transport on a time of its own, and moves what is led along."""

    def __init__(self, transport: ClockTransport, led: Led) -> None:
        self.transport, self.led, self.now = transport, led, 100.0
        self.speed = 1.0

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.transport.feed(self.now, message)

    def run(self, seconds: float, bpm: float, to_bpm: float | None = None, clocks: bool = True) -> None:
        """Let time pass, with clocks, looked after four times a second."""
        begun, looked = self.now, self.now
        while self.now < begun + seconds:
            share = (self.now - begun) / seconds
            step = 60 / (bpm + share * ((to_bpm or bpm) - bpm)) / 24
            self.now += step
            if clocks:
                self.send(CLOCK)
            if self.led.deck.state == "playing":
                self.led.heard_score_sec += step * self.speed
            if self.now - looked > 0.25:
                looked = self.now
                self.transport.attend(self.now)


@pytest.fixture
def led() -> Led:
    return Led()


@pytest.fixture
def master(led: Led, score: Score) -> Master:
    return Master(ClockTransport(led, score), led)


def test_start_stop_and_continue(led: Led, master: Master) -> None:
    master.run(3, 120)
    assert led.told == []
    master.send(START)
    assert led.told == [("seek", 0.0), ("play",)]
    master.run(4, 120)  # 8 quarters
    master.send(STOP)
    assert led.told[2:] == [("pause",)] and led.heard_score_sec == pytest.approx(4, abs=0.05)
    master.run(3, 120)
    led.heard_score_sec = 4.3  # with its rubato it was elsewhere
    master.send(CONTINUE)
    assert led.told[3:] == [("seek", pytest.approx(4.0, abs=0.05)), ("play",)]
    master.run(2, 120)
    master.send(START)
    assert led.told[5:] == [("seek", 0.0), ("play",)]


def test_song_position_goes_through_the_tempo_map(led: Led, master: Master) -> None:
    master.send(song_position(4 * 20), CONTINUE)
    assert led.told == [("seek", 12.0), ("seek", 12.0), ("play",)]  # 8 s for 16 quarters, then a second each
    assert master.transport.status(master.now).score_sec == pytest.approx(12.0)
    master.run(1, 60)
    master.send(song_position(0))  # a loop of the other side, while it plays
    assert led.told[3:] == [("seek", 0.0)]
    master.send(STOP, STOP, b"\xf2\x00", b"\xfa\x00", b"", b"\x90\x3c\x40", b"\xf2\x80\x01")
    assert led.told[4:] == [("pause",)]


def test_a_lost_clock_pauses_until_it_comes_back(led: Led, master: Master) -> None:
    master.send(START)
    master.run(4, 120)
    master.run(3, 120, clocks=False)
    assert led.told[2:] == [("pause",)]
    master.run(2, 120)
    assert led.told[3:] == [("seek", pytest.approx(4.0, abs=0.05)), ("play",)]
    master.run(3, 120, clocks=False)
    master.send(STOP)
    master.run(2, 120)
    assert led.told[5:] == [("pause",)]


def test_clocks_only_while_playing_are_no_loss(led: Led, master: Master) -> None:
    for _ in range(2):
        master.send(START)
        master.run(4, 120)
        master.send(STOP)
        master.run(10, 120, clocks=False)
    assert led.told == [("seek", 0.0), ("play",), ("pause",)] * 2
    master.send(START)  # without any clock, as a simple sequencer does
    master.run(5, 120, clocks=False)
    assert led.told[6:] == [("seek", 0.0), ("play",)]


def test_a_tempo_that_has_settled_becomes_the_takes(led: Led, master: Master) -> None:
    master.run(1.5, 96)
    assert led.told == []
    master.run(2.5, 96)
    assert led.told == [("set", "tempo", 0.8)] and master.transport.status(master.now).tempo == 0.8
    master.run(4, 97)  # 1 % off
    master.run(4, 96, to_bpm=150)  # never steady within 1 % for two seconds
    assert len(led.told) == 1
    master.run(4, 150)
    assert led.told[1:] == [("set", "tempo", 1.25)]
    master.run(4, 1000)
    assert led.told[2:] == [("set", "tempo", 4.0)]


def test_the_score_has_a_tempo_of_its_own_at_each_place(led: Led, master: Master) -> None:
    master.send(START)
    master.run(8, 120)
    master.run(8, 60)  # as notated: a jump of the clock, and none of the take
    master.speed = 0.75
    master.run(8, 45)
    assert led.told[2:] == [("set", "tempo", 0.75)]


def test_a_late_start_is_caught_up_once(led: Led, master: Master) -> None:
    master.send(START)
    led.deck.state = "waiting"  # for its audio
    master.run(3, 120)
    assert led.told == [("seek", 0.0), ("play",)]
    led.deck.state = "playing"
    master.run(2, 120)
    told = led.told[2:]
    assert len(told) == 1 and told[0][1] == pytest.approx(3.2, abs=0.3)
    led.heard_score_sec -= 5  # later it may be anywhere: rubato is not corrected
    master.run(3, 120)
    assert led.told[2:] == told


def test_a_player_that_cannot_keep_up_is_not_chased_for_ever(led: Led, master: Master) -> None:
    master.send(START)
    master.speed = -4
    master.run(7, 120)
    assert sum(command[0] == "seek" for command in led.told) == 1 + MOST_JUMPS


def test_a_take_at_a_new_tempo_joins_the_other_side(led: Led, master: Master) -> None:
    master.send(START)
    master.speed = 2.0
    master.run(2, 60)
    led.deck.next_take = 2
    master.run(4, 60)
    assert led.told[2:] == [("set", "tempo", 0.5)]
    led.deck.take = 2
    master.speed = 1.0
    master.run(2, 60)
    assert led.told[3][0] == "seek" and len(led.told) == 4


# ---- real ports, a real player --------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[None]:
    with midi_server():
        yield


class Clock:
    """A clock in real time, on a thread of its own; `send` is for other messages to the same port."""

    def __init__(self, send: Callable[[bytes], None], bpm: float) -> None:
        self._send, self.bpm = send, bpm
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Clock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def send(self, data: bytes) -> None:
        with self._one_at_a_time:
            self._send(data)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.send(CLOCK)
            due += 60 / self.bpm / 24
            time.sleep(max(due - time.monotonic(), 0))


@pytest.mark.usefixtures("server")
def test_a_player_follows_a_clock_through_jack(toy_bundle: Path, score: Score) -> None:
    player = Player(open_bundle(toy_bundle), NullOutput, 1, "cpu")
    player.load(score)
    try:
        assert wait_for(lambda: 0 < player.status.deck.duration_sec == player.status.deck.rendered_sec, 60)
        with keyboard(client="Conductor") as send, ClockLink(player, score, "Conductor") as link:
            time.sleep(CONNECT_SEC)
            assert link.connected and link.port.name.startswith("Conductor")
            with Clock(send, 120) as clock:
                assert wait_for(lambda: abs((link.status().clock.tempo_bpm or 0) - 120) < 1.2)
                begun = time.monotonic()
                clock.send(START)
                assert wait_for(lambda: player.status.deck.state == "playing")
                assert time.monotonic() - begun < 1.0
                assert wait_for(lambda: player.status.heard_score_sec > 1.0)
                clock.send(STOP)
                assert wait_for(lambda: player.status.deck.state == "paused")
                clock.send(song_position(4 * 18))
                assert wait_for(lambda: abs(player.status.heard_score_sec - 10.0) < 0.05)
                clock.send(CONTINUE)
                assert wait_for(lambda: player.status.heard_score_sec > 10.5)
                clock.send(STOP)
                clock.send(song_position(0))
            with Clock(send, 90):
                assert wait_for(lambda: link.status().tempo == 0.75, 8)
                assert player.call(lambda processor: processor.get("tempo")) == 0.75
                assert wait_for(lambda: player.call(lambda p: p.settings.tempo) == 0.75)
                assert wait_for(lambda: player.status.deck.take == player.status.deck.next_take == 2, 20)
        player.pause()
    finally:
        player.close()
    assert player.status.error is None


@pytest.mark.usefixtures("server")
def test_a_port_that_is_not_there_leaves_nothing_behind(score: Score) -> None:
    before = threading.active_count()
    with pytest.raises(DeviceError) as raised:
        ClockLink(Led(), score, "No such port")
    assert raised.value.code == "midi.unknown_port" and threading.active_count() == before


@pytest.mark.usefixtures("server")
def test_the_command_plays_by_the_clock(toy_bundle: Path, long_midi_file: Path, tmp_path: Path) -> None:
    command = ["play", long_midi_file, "--clock", "Conductor", "-o", "null", "--bundle", toy_bundle, "--json"]
    with keyboard(client="Conductor") as send:
        process = subprocess.Popen(
            [sys.executable, "-m", "pkontext", *map(str, command)],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert process.stdout is not None
        try:
            events = (json.loads(line) for line in process.stdout)
            following = next(event for event in events if event["event"] == "following")
            assert following["port"].startswith("Conductor") and following["state"] == "stopped"
            time.sleep(CONNECT_SEC)
            with Clock(send, 120) as clock:
                states = (event for event in events if event["event"] == "status")
                assert next(states)["state"] in ("stopped", "waiting")
                clock.send(START)
                playing = next(state for state in islice(states, 40) if state["state"] == "playing")
                assert playing["clock"]["state"] == "playing"
                near = pytest.approx(120, rel=0.01)
                assert any(state["clock"]["tempo_bpm"] == near for state in islice(states, 20))
                clock.send(STOP)
                assert any(state["state"] == "paused" for state in islice(states, 10))
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait(10)


def test_the_clock_needs_a_port(run_cli: Any, toy_bundle: Path, midi_file: Path) -> None:
    arguments = ("play", midi_file, "-o", "null", "--bundle", toy_bundle, "--json")
    done = run_cli(*arguments, "--clock", "No such port")
    assert done.returncode == 5 and json.loads(done.stdout.splitlines()[-1])["code"].startswith("midi.")
    assert run_cli(*arguments, "--clock", "a", "--midi-out", "b").returncode == 2

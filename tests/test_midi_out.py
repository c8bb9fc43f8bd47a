"""Playing a take to a port in time, and silence on every way out; the metronome's beats."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from pkontext.errors import DeviceError, InputError
from pkontext.event_queue import EventQueue
from pkontext.metronome import Metronome
from pkontext.midi_bytes import NOTE_OFF, NOTE_ON, parse_voice
from pkontext.midi_out import NotePlayer, panic, play_take, timed_messages
from pkontext.ports import MidiInput, MidiOutput
from pkontext.types import NOTE, PEDAL
from tests.live_midi import SETTLE_SEC, midi_server, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with midi_server():
        yield


def scale(count: int, step: float = 0.02) -> np.ndarray:
    """Notes one after another, each as long as a step."""
    notes = np.zeros(count, NOTE)
    notes["onset_sec"] = np.arange(count) * step
    notes["duration_sec"], notes["pitch"], notes["velocity"] = step, 40 + np.arange(count) % 40, 70
    return notes


def sounding(messages: list[bytes]) -> set[int]:
    """Keys that are down after these messages."""
    down: set[int] = set()
    for data in messages:
        voice = parse_voice(data)
        if voice and voice.kind == NOTE_ON:
            down.add(voice.first)
        elif voice and voice.kind == NOTE_OFF:
            down.discard(voice.first)
    return down


class Sent:
    """Collects what is sent, with its time; fails from the ``fail_at``-th message on."""

    def __init__(self, fail_at: int = 10**9) -> None:
        self.times: list[float] = []
        self.messages: list[bytes] = []
        self._fail_at = fail_at

    def __call__(self, data: bytes) -> None:
        if len(self.messages) >= self._fail_at:
            raise DeviceError("midi.lost", "The port is gone.", "Connect it again.")
        self.times.append(time.monotonic())
        self.messages.append(data)


def test_releases_come_before_strikes_and_never_end_a_later_note() -> None:
    notes = np.array([(0.0, 1.0, 60, 64), (0.5, 1.0, 60, 70), (1.5, 0.0, 62, 64)], NOTE)
    pedals = np.array([(0.5, 127)], PEDAL)
    assert timed_messages(notes, pedals, channel=2) == [
        (0.0, b"\x92\x3c\x40"),
        (0.5, b"\x82\x3c\x40"),
        (0.5, b"\xb2\x40\x7f"),
        (0.5, b"\x92\x3c\x46"),
        (1.5, b"\x82\x3c\x40"),
        (1.5, b"\x92\x3e\x40"),
        (1.501, b"\x82\x3e\x40"),
    ]


def test_messages_are_sent_at_their_times_without_drift() -> None:
    sent = Sent()
    with NotePlayer(timed_messages(scale(60)), sent) as player:
        begin = time.monotonic() + 0.05
        player.start(0.0, begin)
        assert player.wait(5) and player.position_sec == pytest.approx(1.2)
    strikes = [when for when, data in zip(sent.times, sent.messages, strict=True) if data[0] == 0x90]
    late = np.array(strikes) - begin - np.arange(60) * 0.02
    assert late.min() >= 0 and np.median(late) < 0.002
    assert np.median(late[-20:]) - np.median(late[:20]) < 0.001  # it does not add up


@pytest.mark.parametrize("pause_at", [0.105, 0.31])
def test_stop_releases_everything_and_start_goes_on(pause_at: float) -> None:
    sent = Sent()
    pedals = np.array([(0.05, 127), (0.7, 0)], PEDAL)
    player = NotePlayer(timed_messages(scale(40), pedals), sent)
    player.start()
    time.sleep(pause_at)
    at = player.stop()
    assert pause_at <= at < pause_at + 0.2 and not player.playing and player.position_sec == at
    assert not sounding(sent.messages) and sent.messages[-1] == b"\xb0\x40\x00"
    struck = sum(data[0] == 0x90 for data in sent.messages)
    player.start(at)
    assert player.wait(5)
    resumed = [data for data in sent.messages if data[0] == 0x90][struck:]
    assert struck + len(resumed) == 40 and b"\xb0\x40\x7f" in sent.messages[-3 * len(resumed) - 6 :]
    assert not sounding(sent.messages)


def test_a_seek_while_playing_strikes_only_what_comes_after_it() -> None:
    sent = Sent()
    with NotePlayer(timed_messages(scale(200)), sent) as player:
        player.start()
        time.sleep(0.05)
        player.start(3.9)
        assert player.wait(5)
    keys = [data[1] for data in sent.messages if data[0] == 0x90]
    assert keys[-5:] == scale(200)["pitch"][-5:].tolist() and len(keys) < 20
    assert not sounding(sent.messages)


def test_a_port_that_goes_away_stops_the_player_with_an_error() -> None:
    sent = Sent(fail_at=10)
    player = NotePlayer(timed_messages(scale(50)), sent)
    player.start()
    assert player.wait(5)
    assert player.error is not None and player.error.code == "midi.lost"


def test_a_take_without_notes_ends_at_once() -> None:
    player = NotePlayer([], Sent())
    player.start()
    assert player.wait(1) and player.stop() == 0.0


@pytest.mark.usefixtures("server")
def test_a_take_through_a_real_port_arrives_in_time() -> None:
    notes = scale(150, 0.01)

    def once() -> tuple[list[bytes], np.ndarray]:
        queue = EventQueue()
        with MidiInput(None, queue, client="Synth"), MidiOutput("Synth") as port:
            time.sleep(SETTLE_SEC)
            begin = time.monotonic()
            with play_take(notes, np.array([(0.1, 127)], PEDAL), port) as player:
                assert player.wait(5)
            wait_for(lambda: queue.received >= 302, 1)
        events = queue.drain()
        onsets = np.array([when for when, data in events if data[0] == 0x90]) - begin
        return [data for _, data in events], onsets

    heard, onsets = once()
    if len(onsets) != 150 or np.percentile(onsets - notes["onset_sec"], 95) > 0.010:  # a loaded machine
        heard, onsets = once()
    assert [data[1] for data in heard if data[0] == 0x90] == notes["pitch"].tolist()
    assert not sounding(heard) and b"\xb0\x40\x00" in heard
    jitter = onsets - notes["onset_sec"]
    assert np.percentile(jitter, 95) - np.percentile(jitter, 5) < 0.006


@pytest.mark.usefixtures("server")
def test_panic_reaches_every_key_of_every_channel() -> None:
    def once() -> list[bytes]:
        queue = EventQueue()
        with MidiInput(None, queue, client="Synth"), MidiOutput("Synth") as port:
            time.sleep(SETTLE_SEC)
            port.send(b"\x95\x3c\x40")
            panic(port.send)
            wait_for(lambda: queue.received >= 1 + 48 + 2048, 2)
            return [data for _, data in queue.drain()]

    heard = once()
    if len(heard) != 2097:
        heard = once()
    assert len(heard) == 2097
    for channel in range(16):
        assert {bytes((0xB0 | channel, number, 0)) for number in (64, 120, 123)} <= set(heard)
        assert {bytes((0x80 | channel, key, 0)) for key in range(128)} <= set(heard)


# ---- the metronome ------------------------------------------------------------------------------


def test_beats_come_in_time_with_accents_and_the_take_begins_after_the_count_in() -> None:
    clicks: list[tuple[float, bool]] = []
    metronome = Metronome(300, 3, 1, lambda accent: clicks.append((time.monotonic(), accent)))
    first = time.monotonic() + 0.02
    begin = metronome.start(first)
    assert begin == pytest.approx(first + 0.6)
    assert wait_for(lambda: len(clicks) >= 7)
    metronome.stop()
    count = len(clicks)
    time.sleep(0.25)
    assert len(clicks) == count
    assert [accent for _, accent in clicks[:7]] == [True, False, False, True, False, False, True]
    late = np.array([when for when, _ in clicks]) - first - np.arange(count) * 0.2
    assert late.min() >= 0 and np.median(late) < 0.003


def test_beats_that_are_long_over_are_left_out() -> None:
    clicks: list[bool] = []
    metronome = Metronome(120, 4, 0, clicks.append)
    metronome.start(time.monotonic() - 60.1)  # as after the computer slept
    time.sleep(0.1)
    metronome.stop()
    assert len(clicks) <= 1 and metronome.skipped >= 120


@pytest.mark.parametrize("values", [(19, 4, 1), (401, 4, 1), (float("nan"), 4, 1), (90, 0, 1), (90, 4, 17)])
def test_a_metronome_out_of_range_is_an_error(values: tuple[float, int, int]) -> None:
    with pytest.raises(InputError) as raised:
        Metronome(*values, click=lambda accent: None)
    assert raised.value.code == "metronome.range"

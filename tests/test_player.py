"""The player: commands in, a status out, and an output that gets exactly the samples of the take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pkontext.bundle import Bundle
from pkontext.deck import PAUSED, PLAYING, STOPPED
from pkontext.engine import RenderSettings, open_rendering
from pkontext.errors import DeviceError, InputError
from pkontext.output import FileOutput, NullOutput, OutputStatus
from pkontext.player import FILL_SEC, Player
from pkontext.resample import StreamResampler
from pkontext.ring import Ring
from pkontext.score import score_from_notes
from pkontext.types import NOTE, Score

RATE = 44100
#: Times real time; the toy bundle renders at more than ten.
FASTEST = 4.0


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(60, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(60) * 0.2, 0.18
    notes["pitch"], notes["velocity"] = 50 + (np.arange(60) * 7) % 30, 64
    return score_from_notes(notes)


@pytest.fixture(scope="module")
def take(score: Score, bundle: Bundle) -> np.ndarray:
    rendering = open_rendering(score, bundle, RenderSettings(), 1, "cpu")
    return np.concatenate(list(rendering.chunks()))[:, 0]


class Braked(NullOutput):
    """Without a pace it takes frames as they come, yet no faster than a take is surely rendered.

    A deck that plays what is not there yet fades out and waits; it promises not to at the pace of music.
    """

    def _take(self, samples: np.ndarray) -> None:
        super()._take(samples)
        if self._pace == 0:
            time.sleep(len(samples) / self.sample_rate / FASTEST)


class BrakedFile(Braked, FileOutput):
    """A file that is written as frames come."""


class Recording(Braked):
    """Keeps what it played; can be told to die."""

    def __init__(self, ring: Ring, rate: int, pace: float = 2.0) -> None:
        super().__init__(ring, rate, pace)
        self.played: list[np.ndarray] = []
        self.dead: DeviceError | None = None

    def _take(self, samples: np.ndarray) -> None:
        super()._take(samples)
        self.played.append(samples[:, 0].copy())

    def die(self) -> None:
        self.stop()
        self.dead = DeviceError("device.lost", "The device is gone.", "Choose another.")

    def status(self) -> OutputStatus:
        from dataclasses import replace

        status = super().status()
        return status if self.dead is None else replace(status, error=self.dead)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.played])


@pytest.fixture
def made() -> list[Recording]:
    """Every output that a player opened, the newest last."""
    return []


@pytest.fixture
def player(
    bundle: Bundle, score: Score, made: list[Recording], request: pytest.FixtureRequest
) -> Iterator[Player]:
    def opens(ring: Ring, rate: int) -> Recording:
        made.append(Recording(ring, rate, pace))
        return made[-1]

    pace = getattr(request, "param", 2.0)
    before = threading.active_count()
    player = Player(bundle, opens, 1, "cpu")
    player.load(score)
    yield player
    player.close()
    assert threading.active_count() == before


def until(condition: Callable[[], bool], limit_sec: float = 30.0) -> None:
    end = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.004)


def complete(player: Player) -> None:
    """Wait until the take is rendered."""
    until(lambda: bool((take := player.call(lambda p: p.take(1))) and take.audio["neural"].done))


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Without the zeros around."""
    rows = np.flatnonzero(samples)
    return samples[rows[0] : rows[-1] + 1] if len(rows) else samples[:0]


@pytest.mark.parametrize("player", [0.0], indirect=True)
def test_what_is_played_is_what_is_exported(player: Player, made: list[Recording], take: np.ndarray) -> None:
    """From a cold start, to the end, to the sample, with no frame missing."""
    player.play()
    until(lambda: player.status.deck.position_sec > 0)
    until(lambda: player.status.deck.state == STOPPED)
    until(lambda: player.status.level == 0)
    assert np.array_equal(trimmed(made[0].samples), trimmed(take))
    status = player.status
    assert status.underruns == status.missing_frames == 0 and status.error is None
    assert status.deck.rendered_sec == pytest.approx(len(take) / RATE)


def test_nothing_is_opened_before_play(player: Player, made: list[Recording]) -> None:
    complete(player)
    assert made == [] and player.status.device == "" and player.status.deck.state == STOPPED


def test_a_file_gets_the_samples_of_the_take(
    bundle: Bundle, score: Score, take: np.ndarray, tmp_path: Path
) -> None:
    player = Player(bundle, lambda ring, rate: BrakedFile(ring, rate, tmp_path / "out.wav", 0.0), 1, "cpu")
    player.load(score)
    player.play()
    until(lambda: player.status.deck.position_sec > 0)
    until(lambda: player.status.deck.state == STOPPED)
    time.sleep(0.1)
    player.close()
    found, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == RATE and np.array_equal(trimmed(found), trimmed(take))


def test_another_rate_is_resampled(bundle: Bundle, score: Score, take: np.ndarray) -> None:
    outputs: list[Recording] = []

    def opens(ring: Ring, rate: int) -> Recording:
        outputs.append(Recording(ring, 48000, 0.0))
        return outputs[0]

    player = Player(bundle, opens, 1, "cpu")
    player.load(score)
    player.play()
    until(lambda: player.status.deck.position_sec > 0)
    assert player.status.sample_rate == 48000
    until(lambda: player.status.deck.state == STOPPED)
    until(lambda: player.status.level == 0)
    player.close()
    resampler = StreamResampler(RATE, 48000, 1)
    want = np.concatenate([resampler.process(take[:, None]), resampler.flush()])[:, 0]
    found = outputs[0].samples
    # Silence before the start is resampled too, so the grid of the two may differ by part of a sample.
    start = np.flatnonzero(np.abs(found) > 1e-3)[0] - np.flatnonzero(np.abs(want) > 1e-3)[0]
    a, b = found[start + 2000 : start + 200_000], want[2000:200_000]
    assert np.corrcoef(a, b)[0, 1] > 0.99
    assert abs(np.sqrt((a**2).mean() / (b**2).mean()) - 1) < 0.01


def test_pause_seek_and_loop_through_the_ring(
    player: Player, made: list[Recording], take: np.ndarray
) -> None:
    complete(player)
    player.play()
    until(lambda: player.status.heard_sec > 1.0)
    player.pause()
    until(lambda: player.status.deck.state == PAUSED and player.status.level == 0)
    count = len(made[0].samples)
    time.sleep(0.3)
    assert len(made[0].samples) == count  # silence is not even fed
    here = player.status.heard_sec
    player.play()
    until(lambda: player.status.deck.state == PLAYING and player.status.heard_sec > here + 0.3)
    player.seek(8.0)
    until(lambda: player.status.heard_score_sec > 8.2)
    player.loop((8.0, 8.5))
    until(lambda: player.status.deck.score_sec < 8.2)
    until(lambda: player.status.deck.score_sec > 8.4)
    until(lambda: player.status.deck.score_sec < 8.2)
    player.stop()
    until(lambda: player.status.deck.state == STOPPED)
    assert player.status.deck.position_sec == 0 and player.status.underruns == 0


def test_a_lost_device_pauses_and_the_next_one_goes_on(
    player: Player, made: list[Recording], take: np.ndarray
) -> None:
    """Nothing of the take is lost: what was made and not played comes again."""
    complete(player)
    player.play()
    until(lambda: player.status.heard_sec > 1.5)
    made[0].die()
    until(lambda: player.status.error is not None)
    assert player.status.deck.state == PAUSED and player.status.error.code == "device.lost"
    first = trimmed(made[0].samples)
    heard = np.flatnonzero(take)[0] + len(first)
    player.play()
    until(lambda: player.status.deck.state == STOPPED)
    until(lambda: player.status.level == 0)
    assert len(made) == 2 and player.status.error is None
    second = made[1].samples
    rest = trimmed(second)
    assert np.array_equal(rest[-100_000:], trimmed(take)[-100_000:])
    begin = np.flatnonzero(take)[-1] + 1 - len(rest)
    latency = round(512 / 2)
    assert heard - FILL_SEC * RATE - latency - 600 <= begin <= heard + 1


def test_a_device_that_cannot_be_opened(bundle: Bundle, score: Score) -> None:
    def refuses(ring: Ring, rate: int) -> NullOutput:
        raise DeviceError("device.none", "There is no audio output.", "Connect one.")

    player = Player(bundle, refuses, 1, "cpu")
    player.load(score)
    player.play()
    until(lambda: player.status.error is not None)
    assert player.status.error.code == "device.none" and player.status.deck.state == PAUSED
    player.use_output(Recording)
    player.play()
    until(lambda: player.status.deck.state == PLAYING)
    assert player.status.error is None
    player.close()


def test_another_output_while_playing_goes_on_there(player: Player, made: list[Recording]) -> None:
    complete(player)
    player.play()
    until(lambda: player.status.heard_sec > 1.0)
    others: list[Recording] = []
    player.use_output(lambda ring, rate: others.append(Recording(ring, rate)) or others[0])
    until(lambda: bool(others) and player.status.heard_sec > 2.0)
    assert player.status.deck.state == PLAYING and np.abs(others[0].samples).max() > 0


def test_changed_parameters_make_another_take(player: Player, made: list[Recording]) -> None:
    complete(player)
    player.play()
    until(lambda: player.status.heard_sec > 0.5)
    player.set("seed", 9)
    player.set("tempo", 0.8)
    until(lambda: player.status.deck.take == 2)
    assert player.status.deck.state == PLAYING
    assert player.call(lambda p: (p.settings.seed, p.settings.tempo)) == (9, 0.8)
    player.set("volume", -60)
    until(lambda: player.status.level == 0)
    with pytest.raises(InputError, match="Did you mean 'tempo'"):
        player.call(lambda p: p.set("tempi", 1.0))
    until(lambda: player.status.error is not None)  # shown, and playing goes on
    assert player.status.deck.state == PLAYING


def test_live_notes_sound_while_paused(player: Player, made: list[Recording]) -> None:
    player.play()
    until(lambda: player.status.deck.state == PLAYING)
    player.stop()
    until(lambda: player.status.level == 0)
    count = len(made[0].samples)
    player.midi(bytes([0x90, 60, 100]))
    until(lambda: player.status.level > 0.01)
    player.midi(bytes([0x80, 60, 0]))
    until(lambda: len(made[0].samples) > count)  # the level is known before the output has played it


@pytest.mark.parametrize("player", [1.0], indirect=True)  # what the output's own thread costs counts here
def test_an_idle_player_costs_next_to_nothing(player: Player) -> None:
    complete(player)
    until(lambda: player.call(lambda p: p.take(1)).audio["deadpan"].done)
    player.play()
    until(lambda: player.status.heard_sec > 0.5)
    player.pause()
    until(lambda: player.status.deck.state == PAUSED and player.status.level == 0)
    time.sleep(0.2)
    begun = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - begun < 0.05


def test_a_bug_pauses_and_says_so(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    complete(player)
    player.play()
    until(lambda: player.status.deck.state == PLAYING)
    mix = player._processor.deck.mix

    def fails(count: int) -> np.ndarray:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(player._processor.deck, "mix", fails)
    until(lambda: player.status.error is not None)
    assert player.status.error.code == "player.failed" and "boom" in player.status.error.message
    monkeypatch.setattr(player._processor.deck, "mix", mix)
    player.play()
    until(lambda: player.status.deck.state == PLAYING and player.status.error is None)

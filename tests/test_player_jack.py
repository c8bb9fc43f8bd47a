"""The player through a real sound system: what is recorded there are the samples of the export."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pkontext.bundle import Bundle
from pkontext.engine import RenderSettings, open_rendering
from pkontext.output import SpeakerOutput
from pkontext.player import Player
from pkontext.score import score_from_notes
from pkontext.types import NOTE, Score
from tests.clicks import find_clicks
from tests.jack_server import JackServer, jack_server
from tests.soak_player import soak

PERIOD = 256


@pytest.fixture(scope="module")
def server() -> Iterator[JackServer]:
    with jack_server(period=PERIOD) as server:
        yield server


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(40, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(40) * 0.1, 0.09
    notes["pitch"], notes["velocity"] = 50 + (np.arange(40) * 7) % 30, 64
    return score_from_notes(notes)


def until(condition: Callable[[], bool], limit_sec: float = 30.0) -> None:
    end = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_a_recording_is_the_export(server: JackServer, bundle: Bundle, score: Score, voice: str) -> None:
    settings = RenderSettings(seed=5, voice=voice)
    take = np.concatenate(list(open_rendering(score, bundle, settings, 1, "cpu").chunks()))[:, 0]
    with server.recorder() as recorder:
        player = Player(bundle, lambda ring, rate: SpeakerOutput(ring, rate, server.device, PERIOD), 1, "cpu")
        player.load(score, settings)
        until(lambda: bool((first := player.call(lambda p: p.take(1))) and first.audio[voice].frames))
        player.play()
        until(lambda: player.status.level > 0)
        until(lambda: player.status.deck.state == "stopped" and player.status.level == 0)
        time.sleep(0.2)
        status = player.status
        player.close()
        heard = recorder.sound
    expected = take[np.flatnonzero(take)[0] : np.flatnonzero(take)[-1] + 1]
    assert heard.shape[1] == 2 and np.array_equal(heard[:, 0], heard[:, 1])  # mono, on both speakers
    assert np.array_equal(heard[:, 0], expected)
    assert status.underruns == status.missing_frames == 0
    assert status.late == 0, "a callback took longer than its 256 frames"
    if voice == "sampler":
        assert find_clicks(heard[:, 0], 44100) == []


def test_a_short_soak(server: JackServer, bundle: Bundle, score: Score) -> None:
    """Everything that a user can press, at random, and lost devices; `tests.soak_player` runs for longer."""
    report = soak(server, bundle, score, 12, PERIOD, seed=3)
    assert report.actions > 10 and report.frames_played > 44100
    assert report.lost_frames == report.underruns == report.threads_left == report.files_left == 0, report
    assert report.errors == 0 and report.late == 0, report

"""Following a MIDI clock: tempo through jitter, changes, transport, song position, loss, garbage."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pkontext.midi_clock import PER_QUARTER, ClockFollower

CLOCK, START, CONTINUE, STOP = b"\xf8", b"\xfa", b"\xfb", b"\xfc"


def run(
    follower: ClockFollower, begin: float, bpm: float, clocks: int, jitter: float = 0.0, seed: int = 0
) -> float:
    """Feed clocks; the time at which the next one is due."""
    draw, step = random.Random(seed), 60 / bpm / PER_QUARTER
    times = sorted(begin + i * step + draw.uniform(-jitter, jitter) for i in range(clocks))
    for when in times:
        follower.feed(when, CLOCK)
    return begin + clocks * step


@pytest.mark.parametrize("bpm", [30, 60, 120, 187.3, 300])
@pytest.mark.parametrize("seed", range(5))
def test_tempo_through_jitter(bpm: float, seed: int) -> None:
    follower = ClockFollower()
    now = run(follower, 100.0, bpm, 96, jitter=0.0015, seed=seed)  # that of JACK with 128 frames
    tempo = follower.status(now).tempo_bpm
    assert tempo == pytest.approx(bpm, rel=0.005)


@pytest.mark.parametrize(("before", "after"), [(120, 60), (60, 240), (120, 126), (90, 88)])
def test_a_new_tempo_is_found_within_two_quarters(before: float, after: float) -> None:
    follower = ClockFollower()
    now = run(follower, 0.0, before, 96, jitter=0.001)
    now = run(follower, now, after, 49 if abs(after - before) < 10 else 24, jitter=0.001, seed=1)
    assert follower.status(now).tempo_bpm == pytest.approx(after, rel=0.01)


def test_a_single_late_clock_does_not_change_the_tempo() -> None:
    follower = ClockFollower()
    now = run(follower, 0.0, 120, 48)
    follower.feed(now + 0.012, CLOCK)
    assert follower.status(now + 0.012).tempo_bpm == pytest.approx(120, rel=0.02)


def test_start_counts_from_the_first_clock_after_it() -> None:
    follower = ClockFollower()
    now = run(follower, 0.0, 120, 30)
    follower.feed(now - 0.001, START)
    assert follower.status(now).position_quarters == 0
    now = run(follower, now, 120, 25)  # clocks 0 to 24
    status = follower.status(now - 60 / 120 / 24)
    assert status.state == "playing" and status.position_quarters == pytest.approx(1.0, abs=0.005)
    assert follower.status(now - 30 / 120 / 24).position_quarters == pytest.approx(1 + 0.5 / 24, abs=0.005)


def test_position_grows_evenly_and_waits_for_late_clocks() -> None:
    follower, seen = ClockFollower(), []
    now = run(follower, 0.0, 120, 48, jitter=0.002)
    follower.feed(now - 0.001, START)
    for index in range(96):
        now = run(follower, now, 120, 1, jitter=0.002, seed=index)
        seen += [follower.status(now - part * 0.02083).position_quarters for part in (0.8, 0.4, 0.1)]
    steps = np.diff(seen)
    assert steps.min() >= -0.1 / 24 and steps.max() < 0.9 / 24
    assert follower.status(now + 0.4).position_quarters <= 96 / 24 + 1e-9


def test_stop_and_continue_keep_the_position_and_song_position_sets_it() -> None:
    follower = ClockFollower()
    follower.feed(0.0, START)
    now = run(follower, 0.01, 120, 48)
    follower.feed(now, STOP)
    now = run(follower, now, 120, 48)  # clocks go on while stopped
    status = follower.status(now)
    assert status.state == "stopped" and status.running and status.position_quarters == 2
    follower.feed(now, CONTINUE)
    now = run(follower, now, 120, 24)
    assert follower.status(now).position_quarters == pytest.approx(3, abs=0.05)
    follower.feed(now, STOP)
    follower.feed(now, b"\xf2\x10\x01")  # 144 sixteenths
    assert follower.status(now).position_quarters == 36
    follower.feed(now, CONTINUE)
    assert follower.status(now).position_quarters == 36
    now = run(follower, now, 120, 1)
    assert follower.status(now - 60 / 120 / 24).position_quarters == pytest.approx(36, abs=0.01)
    follower.feed(now, START)
    assert follower.status(now).position_quarters == 0


def test_a_lost_clock_is_noticed() -> None:
    follower = ClockFollower()
    assert not follower.status(0.0).running and follower.status(0.0).tempo_bpm is None
    follower.feed(0.0, START)
    now = run(follower, 0.01, 120, 48)
    assert follower.status(now + 0.4).running and follower.status(now + 0.4).lost == 0
    gone = follower.status(now + 0.6)
    assert not gone.running and gone.lost == 1 and gone.state == "playing"
    assert gone.position_quarters == pytest.approx(2.0)
    now = run(follower, now + 3, 90, 30)
    back = follower.status(now)
    assert back.running and back.lost == 1 and back.tempo_bpm == pytest.approx(90, rel=0.001)


def test_garbage_changes_nothing() -> None:
    follower = ClockFollower()
    follower.feed(0.0, START)
    now = run(follower, 0.01, 120, 48)
    before, draw = follower.status(now), random.Random(3)
    for _ in range(3000):
        data = draw.randbytes(draw.randrange(5))
        if data[:1] not in (CLOCK, START, CONTINUE, STOP) and not (data[:1] == b"\xf2" and len(data) == 3):
            follower.feed(now, data)
    follower.feed(now, b"\xf2\x90\x01")
    follower.feed(now, b"\xfc\x00")
    assert follower.status(now) == before
    follower.feed(now - 5, CLOCK)  # a time that runs backwards begins anew
    assert follower.status(now).tempo_bpm is None

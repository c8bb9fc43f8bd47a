"""The deck: whatever is paused, sought, looped or compared, what is heard are the samples of the takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkontext.bundle import Bundle
from pkontext.deck import EMPTY, FAILED, PAUSED, PLAYING, STOPPED, WAITING, Deck
from pkontext.engine import RenderSettings, open_rendering
from pkontext.readiness import SAFE_SPEED, enough, wait_sec
from pkontext.score import score_from_notes
from pkontext.take_audio import LiveTake
from pkontext.types import NOTE, Score

RATE = 44100


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(60, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(60) * 0.2, 0.18
    notes["pitch"], notes["velocity"] = 50 + (np.arange(60) * 7) % 30, 64
    return score_from_notes(notes)


@pytest.fixture(scope="module")
def takes(score: Score, bundle: Bundle) -> dict[str, np.ndarray]:
    """The take in every voice as it is exported, and another seed."""
    made = {
        voice: np.concatenate(
            list(open_rendering(score, bundle, RenderSettings(voice=voice), 1, "cpu").chunks())
        )[:, 0]
        for voice in ("neural", "sampler", "deadpan")
    }
    other = open_rendering(score, bundle, RenderSettings(seed=9), 1, "cpu")
    return made | {"other": np.concatenate(list(other.chunks()))[:, 0]}


@pytest.fixture
def deck(bundle: Bundle, score: Score) -> Iterator[Deck]:
    deck = Deck(bundle, 1, "cpu")
    deck.load(score)
    yield deck
    deck.close()


def until(deck: Deck, condition: Callable[[], bool], limit_sec: float = 30.0) -> None:
    """Attend until a condition holds."""
    end = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < end, deck.status()
        deck.attend()
        time.sleep(0.005)


def rendered(deck: Deck, number: int, voice: str = "neural") -> None:
    """Wait until a voice of a take is complete."""
    until(deck, lambda: (take := deck.take(number)) is not None and take.audio[voice].done)


def ready(deck: Deck) -> int:
    """Make the first take and wait until all of it is there."""
    number = deck.new_take(RenderSettings())
    rendered(deck, number)
    return number


def test_playing_to_the_end_is_the_export_to_the_sample(deck: Deck, takes: dict[str, np.ndarray]) -> None:
    """Also when playing begins before anything is rendered, in blocks of any size."""
    deck.new_take(RenderSettings())
    deck.play()
    assert deck.status().state == WAITING
    rng, out = np.random.default_rng(0), []
    end = time.monotonic() + 60
    while deck.status().state in (WAITING, PLAYING):
        assert time.monotonic() < end
        out.append(deck.mix(int(rng.integers(1, 3000))))
        if deck.status().state == WAITING or deck.status().ahead_sec < 0.5:
            time.sleep(0.01)
    heard = np.concatenate(out)
    silence = len(heard) - len(takes["neural"])
    starts = np.flatnonzero(heard)[0] - np.flatnonzero(takes["neural"])[0]
    assert np.array_equal(heard[starts : starts + len(takes["neural"])], takes["neural"])
    assert not heard[:starts].any() and not heard[starts + len(takes["neural"]) :].any() and silence >= 0
    status = deck.status()
    assert status.state == STOPPED and status.position_sec == pytest.approx(len(takes["neural"]) / RATE)
    deck.play()
    assert np.array_equal(deck.mix(20_000), takes["neural"][:20_000])


def test_nothing_to_play_is_silence(deck: Deck, bundle: Bundle) -> None:
    assert deck.status().state == STOPPED and not deck.mix(500).any()
    empty = Deck(bundle, 1, "cpu")
    empty.play()
    empty.seek(3.0)
    assert empty.status().state == EMPTY and not empty.mix(500).any()
    with pytest.raises(ValueError, match="load a score"):
        empty.new_take(RenderSettings())
    empty.close()


def test_a_pause_resumes_where_it_stopped(deck: Deck, takes: dict[str, np.ndarray]) -> None:
    ready(deck)
    deck.play()
    first = deck.mix(30_000)
    deck.pause()
    assert deck.status().state == PAUSED
    fading = deck.mix(5_000)
    assert deck.idle and not fading[441:].any()
    deck.play()
    second = deck.mix(30_000)
    assert np.array_equal(first, takes["neural"][:30_000])
    assert np.array_equal(second[441:], takes["neural"][30_441:60_000])
    deck.stop()
    deck.mix(500)
    assert deck.status().state == STOPPED and deck.status().position_sec == 0
    deck.play()
    assert np.array_equal(deck.mix(1000), takes["neural"][:1000])


def test_seeking_goes_to_the_place_at_once(deck: Deck, takes: dict[str, np.ndarray], score: Score) -> None:
    number = ready(deck)
    take = deck.take(number)
    assert take is not None
    places = take.audio["neural"].places
    assert places is not None
    deck.play()
    deck.mix(5000)
    deck.seek(7.0)
    out = deck.mix(8000)
    start = round(places.to_audio(7.0) * RATE)
    assert np.array_equal(out[441:], takes["neural"][start + 441 : start + 8000])
    assert deck.status().score_sec == pytest.approx(7.0 + 8000 / RATE, abs=0.15)
    for wanted, found in ((-5.0, 0.0), (1e9, score.duration_sec)):
        deck.pause()
        deck.seek(wanted)
        assert deck.status().score_sec == pytest.approx(found, abs=0.02)


def test_seeking_beyond_what_is_rendered_waits_and_then_plays(
    deck: Deck, takes: dict[str, np.ndarray]
) -> None:
    deck.new_take(RenderSettings())
    deck.play()
    deck.seek(11.0)
    assert deck.status().state == WAITING and deck.status().score_sec == 11.0
    end = time.monotonic() + 60
    while deck.status().state == WAITING:
        assert not deck.mix(64).any() or deck.status().state == PLAYING
        assert time.monotonic() < end
        time.sleep(0.002)
    take = deck.take(1)
    assert take is not None and take.audio["neural"].places is not None
    out = deck.mix(2000)
    now = round(deck.status().position_sec * RATE)
    assert np.array_equal(out[600:], takes["neural"][now - 2000 : now][600:])
    assert deck.status().score_sec == pytest.approx(11.0, abs=0.3)


def test_a_loop_repeats_the_same_samples(deck: Deck, takes: dict[str, np.ndarray]) -> None:
    number = ready(deck)
    take = deck.take(number)
    assert take is not None and take.audio["neural"].places is not None
    places = take.audio["neural"].places
    deck.loop((2.0, 3.0))
    deck.play()
    start, stop = (round(places.to_audio(second) * RATE) for second in (2.0, 3.0))
    length, fade = stop - start, 441
    out = np.concatenate([deck.mix(777) for _ in range(5 * length // 777)])
    for turn in range(1, 4):
        part = out[turn * length + fade : (turn + 1) * length][: length - fade]
        assert np.array_equal(part, takes["neural"][start + fade : stop])
    deck.loop(None)
    deck.mix(2 * length)
    assert deck.status().position_sec * RATE > stop
    with pytest.raises(ValueError, match="no loop"):
        deck.loop((3.0, 3.0))


def test_comparing_voices_stays_at_the_same_place_of_the_music(
    deck: Deck, takes: dict[str, np.ndarray]
) -> None:
    number = ready(deck)
    rendered(deck, number, "deadpan")
    deck.play()
    deck.mix(100_000)
    before = deck.status().score_sec
    deck.select(voice="deadpan")
    out = deck.mix(2000)
    assert deck.status().voice == "deadpan"
    now = round(deck.status().position_sec * RATE)
    assert np.array_equal(out[441:], takes["deadpan"][now - 2000 + 441 : now])
    assert deck.status().score_sec - before == pytest.approx(2000 / RATE, abs=0.03)
    deck.select(voice="neural")
    deck.mix(10)
    here = round(deck.status().position_sec * RATE)
    deck.select(voice="sampler")
    until(deck, lambda: bool(deck.mix(1).size) and deck.status().voice == "sampler")
    moved = round(deck.status().position_sec * RATE)
    rest = deck.mix(1000)
    assert np.array_equal(rest[441:], takes["sampler"][moved + 441 : moved + 1000]) and moved >= here


def test_a_new_take_takes_over_while_the_old_one_plays(deck: Deck, takes: dict[str, np.ndarray]) -> None:
    first = ready(deck)
    deck.play()
    deck.mix(60_000)
    second = deck.new_take(RenderSettings(seed=9))
    assert deck.status().take == first and deck.status().next_take == second
    old = deck.mix(500)
    if deck.status().take == first:
        assert np.array_equal(old, takes["neural"][60_000:60_500])
    until(deck, lambda: bool(deck.mix(64).size) and deck.status().take == second)
    now = round(deck.status().position_sec * RATE)
    assert np.array_equal(deck.mix(2000)[441:], takes["other"][now + 441 : now + 2000])
    deck.select(first)
    deck.mix(100)
    assert deck.status().take == first and deck.takes() == [first, second]
    deck.drop(second)
    until(deck, lambda: deck.takes() == [first])
    with pytest.raises(ValueError, match="in use"):
        deck.drop(first)
    with pytest.raises(ValueError, match="no neural voice of a take 77"):
        deck.select(77)


def test_a_take_can_be_chosen_before_it_is_begun(deck: Deck) -> None:
    first = ready(deck)
    second, third = deck.new_take(RenderSettings(seed=1)), deck.new_take(RenderSettings(seed=2))
    deck.select(second)
    until(deck, lambda: deck.status().take == second)
    rendered(deck, second)
    deck.select(first)
    deck.drop(third)
    with pytest.raises(ValueError, match="take 3"):
        deck.select(third)


def test_passing_takes_go_when_the_next_one_comes(deck: Deck) -> None:
    first = ready(deck)
    deck.new_take(RenderSettings(seed=1), passing=True)
    third = deck.new_take(RenderSettings(seed=2), passing=True)
    until(deck, lambda: deck.status().take == third and deck.takes() == [first, third])
    fourth = deck.new_take(RenderSettings(seed=3), passing=True)
    until(deck, lambda: deck.status().take == fourth and deck.takes() == [first, fourth])


def test_a_paused_change_of_take_keeps_the_place(deck: Deck) -> None:
    ready(deck)
    deck.seek(6.0)
    deck.new_take(RenderSettings(seed=9, tempo=0.5))
    until(deck, lambda: deck.status().take == 2)
    assert deck.status().score_sec == pytest.approx(6.0)
    until(deck, lambda: deck.status().position_sec > 9)
    assert deck.status().score_sec == pytest.approx(6.0, abs=0.02)


def test_a_take_that_cannot_be_rendered_says_why(deck: Deck, tmp_path: Path) -> None:
    deck.new_take(RenderSettings(voice="sampler", soundfont=tmp_path / "missing.sf2"))
    deck.play()
    until(deck, lambda: deck.status().state == FAILED)
    error = deck.status().error
    assert error is not None and error.code == "synth.soundfont"
    number = deck.new_take(RenderSettings())
    until(deck, lambda: deck.status().take == number and bool(deck.mix(64).size))
    until(deck, lambda: bool(deck.mix(64).size) and deck.status().state == PLAYING)
    assert deck.status().error is None


def test_another_score_replaces_everything(deck: Deck, score: Score, bundle: Bundle) -> None:
    ready(deck)
    deck.play()
    deck.mix(9000)
    short = replace(score, notes=score.notes[:20])
    deck.load(short)
    assert not deck.mix(2000)[441:].any() and deck.status().state == STOPPED
    number = deck.new_take(RenderSettings())
    rendered(deck, number)
    assert deck.takes() == [number]
    expected = np.concatenate(list(open_rendering(short, bundle, RenderSettings(), 1, "cpu").chunks()))[:, 0]
    deck.play()
    assert np.array_equal(deck.mix(len(expected)), expected)


def test_unheard_frames_are_played_again(deck: Deck, takes: dict[str, np.ndarray]) -> None:
    ready(deck)
    deck.play()
    deck.mix(50_000)
    deck.move_back(3_000)
    assert deck.status().state == PAUSED and deck.idle and not deck.mix(100).any()
    deck.play()
    assert np.array_equal(deck.mix(5_000)[441:], takes["neural"][47_441:52_000])


def test_when_playing_can_start(score: Score, bundle: Bundle) -> None:
    """By the speed so far: at once when rendering is fast, after a head start when it is slow."""
    take = LiveTake(1, open_rendering(score, bundle, RenderSettings(), 1, "cpu"))
    audio, pace = take.audio["neural"], take._pace["neural"]
    assert not enough(take, "neural", 0.0) and wait_sec(take, "neural", 0.0) == 0.0
    audio.append(np.zeros((RATE, 1), np.float32))
    audio.total = 101 * RATE
    pace.add(1.0, 0.1)
    assert enough(take, "neural", 0.0) and not enough(take, "neural", 0.9)
    assert wait_sec(take, "neural", 21.0) == pytest.approx(2.0)
    slow = LiveTake(2, take.rendering)
    slow.audio["neural"] = audio
    slow._pace["neural"].add(1.0, 2.0)  # half as fast as it plays, 100 s to go
    assert not enough(slow, "neural", 0.0)
    wait = wait_sec(slow, "neural", 0.0)
    made, left = 1 + 0.5 * wait, 100 - 0.5 * wait
    assert made >= left * (SAFE_SPEED / 0.5 - 1) - 1e-6  # what is there then lasts until the end is rendered
    audio.finish()
    assert enough(slow, "neural", 0.0)

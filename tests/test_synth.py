"""FluidSynth offline: same bits for any chunking, events where they belong, no hanging notes."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pkontext.bundle import PACKAGE_DATA
from pkontext.errors import DeviceError, InputError
from pkontext.synth import (
    BLOCK,
    CONTROL,
    DEADPAN_VELOCITY,
    NOTE_OFF,
    NOTE_ON,
    SynthSpec,
    deadpan_events,
    events_from_notes,
    load_fluidsynth,
    render,
)
from pkontext.types import NOTE, PEDAL

SPEC = SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
RATE = SPEC.sample_rate
#: Samples after which the attack of any key exceeds -80 dBFS; the soundfont's samples start softly.
LATENCY = 128


def notes(*rows: tuple[float, float, int, int]) -> np.ndarray:
    return np.array(list(rows), NOTE)


def pedal(*rows: tuple[float, int]) -> np.ndarray:
    return np.array(list(rows), PEDAL)


def play(events: np.ndarray, frames: int, chunk: int = 65536, channels: int = 1) -> np.ndarray:
    return np.concatenate(list(render(events, SPEC, frames, chunk, channels)))


def level(samples: np.ndarray) -> float:
    """Level in dBFS."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) + 1e-12))


PHRASE = events_from_notes(
    notes((0.01, 0.2, 60, 90), (0.05, 0.1, 64, 40), (0.1234, 0.02, 60, 70), (0.2, 0.05, 33, 127)),
    pedal((0.02, 127), (0.21, 0)),
)
PHRASE_FRAMES = 12345


@pytest.fixture(scope="module")
def phrase() -> np.ndarray:
    return play(PHRASE, PHRASE_FRAMES, channels=2)


@settings(max_examples=20, deadline=None)
@given(chunk=st.integers(1, 15000))
@example(chunk=1)
@example(chunk=63)
@example(chunk=64)
@example(chunk=65)
@example(chunk=12345)
def test_any_chunk_size_gives_the_same_bits(phrase: np.ndarray, chunk: int) -> None:
    assert np.array_equal(play(PHRASE, PHRASE_FRAMES, chunk, channels=2), phrase)
    assert level(phrase) > -40


def test_chunks_are_no_longer_than_asked_and_add_up() -> None:
    lengths = [len(chunk) for chunk in render(PHRASE, SPEC, PHRASE_FRAMES, 1000)]
    assert lengths == [1000] * 12 + [345]


def test_a_chunk_stays_as_it_was_when_the_next_one_is_rendered() -> None:
    for channels in (1, 2):
        stream = render(PHRASE, SPEC, PHRASE_FRAMES, 2048, channels)
        first = next(stream)
        copy = first.copy()
        next(stream)
        assert np.array_equal(first, copy)


def test_two_fresh_renders_are_identical(phrase: np.ndarray) -> None:
    assert np.array_equal(play(PHRASE, PHRASE_FRAMES, channels=2), phrase)


def test_mono_is_the_mean_of_stereo(phrase: np.ndarray) -> None:
    mono = play(PHRASE, PHRASE_FRAMES)
    assert mono.shape == (PHRASE_FRAMES, 1) and mono.dtype == np.float32
    assert not np.array_equal(phrase[:, 0], phrase[:, 1])
    assert np.array_equal(mono[:, 0], (phrase[:, 0] + phrase[:, 1]) / 2)


@pytest.mark.parametrize("onset", [0.0, 0.0007, 0.0113, 0.1, 0.25, 0.333333, 1.0])
@pytest.mark.parametrize("pitch", [21, 60, 108])
def test_a_note_sounds_from_the_block_nearest_to_its_time(onset: float, pitch: int) -> None:
    """Not a sample before the block, and from there on exactly what the note at time zero gives."""
    start = round(onset * RATE / BLOCK) * BLOCK
    assert abs(start - onset * RATE) <= BLOCK / 2
    audio = play(events_from_notes(notes((onset, 0.05, pitch, 100))), start + 4096)
    at_zero = play(events_from_notes(notes((0.0, 0.05, pitch, 100))), 4096)
    assert not audio[:start].any()
    assert np.abs(audio[start : start + LATENCY]).max() > 1e-4
    assert np.array_equal(audio[start:][:2048], at_zero[:2048])


def test_a_higher_velocity_is_louder() -> None:
    levels = [level(play(events_from_notes(notes((0, 0.3, 60, v))), 8192)) for v in (1, 30, 64, 100, 127)]
    assert np.all(np.diff(levels) > 2)


def test_a_note_ends_with_its_key() -> None:
    audio = play(events_from_notes(notes((0.1, 0.2, 60, 100))), 2 * RATE)
    assert level(audio[: round(0.1 * RATE) - BLOCK]) < -200
    assert level(audio[round(0.2 * RATE) : round(0.3 * RATE)]) > -40
    assert level(audio[RATE:]) < -90


def test_a_key_struck_again_is_released_first() -> None:
    """Overlapping strikes of one key: each has its own release, and the first one's is the restrike."""
    twice = notes((0.0, 1.0, 60, 80), (0.5, 1.0, 60, 90), (0.2, 0.1, 64, 50))
    events = events_from_notes(twice)
    key = events[events["key"] == 60]
    assert key["kind"].tolist() == [NOTE_ON, NOTE_OFF, NOTE_ON, NOTE_OFF]
    assert key["value"].tolist()[::2] == [80, 90]
    assert key["frame"][1] == key["frame"][2] == round(0.5 * RATE / BLOCK) * BLOCK
    assert key["frame"][3] == round(1.5 * RATE / BLOCK) * BLOCK


def test_of_two_strikes_in_one_block_the_last_one_sounds() -> None:
    events = events_from_notes(notes((0.1, 0.2, 60, 30), (0.1002, 0.3, 60, 90)))
    assert events["kind"].tolist() == [NOTE_ON, NOTE_OFF]
    assert events["value"][0] == 90


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.5), st.floats(0, 0.6), st.sampled_from([60, 60, 60, 61, 72]), st.integers(1, 127)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_note_hangs(rows: list[tuple[float, float, int, int]]) -> None:
    """Whatever overlaps, every note-on has its own note-off and the end is silent."""
    events = events_from_notes(notes(*rows))
    assert np.all(np.diff(events["frame"]) >= 0) and np.all(events["frame"] % BLOCK == 0)
    for key in np.unique(events["key"]):
        kinds = events["kind"][events["key"] == key]
        assert kinds.tolist() == [NOTE_ON, NOTE_OFF] * (len(kinds) // 2)
    audio = play(events, round(2.2 * RATE))
    assert np.abs(audio[: round(1.2 * RATE)]).max() > 0
    assert level(audio[round(2.0 * RATE) :]) < -90


def test_the_pedal_holds_and_releases() -> None:
    note = notes((0.0, 0.1, 48, 100))
    frames = 3 * RATE
    dry = play(events_from_notes(note), frames)
    held = play(events_from_notes(note, pedal((0.05, 127), (1.0, 0))), frames)
    late = slice(round(0.8 * RATE), RATE)
    assert level(held[late]) > -45
    assert level(dry[late]) < level(held[late]) - 40
    assert level(held[2 * RATE :]) < -90


def test_a_pedal_below_half_does_not_hold() -> None:
    note = notes((0.0, 0.1, 48, 100))
    dry = play(events_from_notes(note), RATE)
    assert np.array_equal(play(events_from_notes(note, pedal((0.0, 63))), RATE), dry)


def test_at_one_time_the_pedal_comes_first_and_releases_before_strikes() -> None:
    events = events_from_notes(notes((0.0, 0.5, 60, 80), (0.5, 0.5, 62, 80)), pedal((0.5, 127)))
    assert events["kind"].tolist() == [NOTE_ON, CONTROL, NOTE_OFF, NOTE_ON, NOTE_OFF]


def test_the_deadpan_has_one_velocity() -> None:
    events = deadpan_events(np.array([0.0, 0.1, 0.2]), np.full(3, 0.5), np.array([60, 62, 64]), RATE)
    strikes = events[events["kind"] == NOTE_ON]
    assert strikes["value"].tolist() == [DEADPAN_VELOCITY] * 3
    assert not (events["kind"] == CONTROL).any()


def test_events_after_the_end_are_ignored() -> None:
    inside = notes((0.0, 5.0, 60, 80))
    late = notes((0.0, 5.0, 60, 80), (1.0, 0.1, 72, 127), (2.0, 0.1, 73, 127))
    frames = round(RATE / BLOCK) * BLOCK  # the second note is exactly at the end
    assert np.array_equal(play(events_from_notes(late), frames), play(events_from_notes(inside), frames))


def test_no_events_give_silence_of_the_length_asked_for() -> None:
    audio = play(events_from_notes(notes()), 1000)
    assert audio.shape == (1000, 1) and not audio.any()


def test_notes_are_not_changed() -> None:
    given_notes = notes((0.5, 1.0, 60, 80), (0.0, 1.0, 60, 90))
    before = given_notes.copy()
    events_from_notes(given_notes)
    assert np.array_equal(given_notes, before)


@pytest.mark.parametrize("content", [None, b"", b"not a soundfont at all" * 100, b"RIFF\x10\0\0\0sfbkLIST"])
def test_an_unusable_soundfont_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "piano.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        next(render(PHRASE, SynthSpec(path), 1000))
    assert caught.value.code == "synth.soundfont"
    assert str(path) in caught.value.message and caught.value.hint


def test_a_truncated_soundfont_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "half.sf2"
    data = SPEC.soundfont.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError) as caught:
        next(render(PHRASE, SynthSpec(path), 1000))
    assert caught.value.code == "synth.soundfont"


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name == "fluidsynth":
            raise ImportError("Couldn't find the FluidSynth library.")
        return real(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "fluidsynth", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DeviceError) as caught:
        load_fluidsynth()
    assert caught.value.code == "synth.library"
    assert "sudo apt-get install libfluidsynth3" in caught.value.hint
    with pytest.raises(DeviceError):
        next(render(PHRASE, SPEC, 1000))


def test_library_says_nothing_on_standard_output() -> None:
    """The wheel prints where it found the library when ``CI`` is set; audio and JSON go there."""
    code = "from pkontext.synth import load_fluidsynth; load_fluidsynth()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "CI": "true"}, check=True
    )
    assert done.stdout == b""

"""The processor as a plugin host uses it: blocks, parameters, presets, state, live notes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkontext import parameters, synth
from pkontext.bundle import Bundle
from pkontext.drawn import Drawn
from pkontext.engine import RenderSettings, Reroll, open_rendering
from pkontext.errors import InputError
from pkontext.parameters import PRESETS, TABLE
from pkontext.processor import Processor
from pkontext.score import score_from_notes
from pkontext.session import pack_state, unpack_state
from pkontext.types import NOTE, Score

RATE = 44100


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(30, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(30) * 0.2, 0.18
    notes["pitch"], notes["velocity"] = 50 + (np.arange(30) * 7) % 30, 64
    return score_from_notes(notes, "etude")


@pytest.fixture
def processor(bundle: Bundle) -> Iterator[Processor]:
    processor = Processor(bundle, 1, "cpu")
    processor.prepare(RATE, 512)
    yield processor
    processor.release()


def until(processor: Processor, condition: Callable[[], bool], limit_sec: float = 30.0) -> None:
    end = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < end, processor.status()
        processor.attend()
        time.sleep(0.005)


def loaded(processor: Processor, score: Score, settings: RenderSettings | None = None) -> int:
    number = processor.load(score, settings)
    until(processor, lambda: bool((take := processor.take(number)) and take.audio["neural"].done))
    return number


def test_blocks_of_any_size_give_the_take(processor: Processor, score: Score, bundle: Bundle) -> None:
    loaded(processor, score, RenderSettings(seed=3))
    rendering = open_rendering(score, bundle, RenderSettings(seed=3), 1, "cpu")
    take = np.concatenate(list(rendering.chunks()))
    processor.deck.play()
    out = [processor.process((), size) for size in (1, 64, 441, 512, 4096, 100_000)]
    assert all(block.dtype == np.float32 and block.shape[1] == 1 for block in out)
    joined = np.concatenate(out)
    assert np.array_equal(joined, take[: len(joined)]) and processor.latency_frames == 0


def test_volume_is_exact_at_0_db_and_ramps_elsewhere(processor: Processor, score: Score) -> None:
    loaded(processor, score)
    processor.deck.play()
    processor.process((), 60_000)
    processor.set("volume", -12)
    ramp = processor.process((), 882)
    processor.deck.pause()
    processor.process((), 1000)
    position = processor.status().position_sec
    processor.deck.play()
    soft = processor.process((), 5000)
    processor.set("volume", 0)
    processor.process((), 900)
    processor.deck.pause()
    processor.process((), 1000)
    processor.deck.move_back(0)
    assert position > 0 and np.abs(ramp).max() > np.abs(soft[441:]).max() > 0
    processor.set("volume", -60)
    processor.deck.play()
    processor.process((), 2000)
    assert not processor.process((), 2000).any() and processor.peak == 0


def test_notes_played_live_sound_at_once_and_where_they_are(processor: Processor) -> None:
    out = processor.process([(100, bytes([0x90, 60, 100]))], 2048)[:, 0]
    assert not out[:100].any() and np.abs(out[100 : 100 + 1200]).max() > 1e-4
    assert not processor.idle and not processor.silent
    spec = synth.SynthSpec(processor.bundle.soundfont, processor.bundle.manifest.synth.gain)
    reference = synth.Voice(spec)
    reference.play(np.zeros(0, synth.EVENT), 100)
    reference.send(synth.NOTE_ON, 60, 100)
    assert np.array_equal(out[100:], reference.play(np.zeros(0, synth.EVENT), 1948)[:, 0])
    reference.close()
    processor.process([(0, bytes([0xB0, 64, 127])), (0, bytes([0x80, 60, 0]))], 512)
    held = np.abs(processor.process((), RATE)).max()
    processor.process([(0, bytes([0xB0, 123, 0]))], 512)
    processor.process((), RATE)
    assert np.abs(processor.process((), 4096)).max() < 0.1 * held
    processor.set("monitor", -60)
    assert not processor.process([(0, bytes([0x90, 70, 100]))], 4096).any()


@pytest.mark.parametrize(
    "message", [b"", b"\x90", b"\x90\x3c", b"\x90\xff\xff", b"\xf0\x01\x02\xf7", b"\xe0\x00\x40", b"\xfe"]
)
def test_messages_without_a_meaning_do_nothing(processor: Processor, message: bytes) -> None:
    assert not processor.process([(0, message)], 512).any() and processor.silent


def test_midi_start_continue_and_stop(processor: Processor, score: Score) -> None:
    loaded(processor, score)
    processor.process([(0, b"\xfa")], 9000)
    assert processor.status().state == "playing"
    processor.process([(0, b"\xfc")], 1000)
    here = processor.status().position_sec
    assert processor.status().state == "paused" and here > 0
    processor.process([(0, b"\xfb")], 1000)
    assert processor.status().position_sec > here
    processor.process([(0, b"\xfa")], 500)
    assert processor.status().position_sec < here


def test_the_table_converts_text_both_ways() -> None:
    for parameter in TABLE:
        assert parameter.help and parameter.minimum <= parameter.default <= parameter.maximum
        for share in (0.0, 0.3, 1.0):
            value = parameter.checked(parameter.minimum + share * (parameter.maximum - parameter.minimum))
            assert parameter.from_text(parameter.to_text(value)) == pytest.approx(value, abs=1e-6)
        with pytest.raises(InputError) as caught:
            parameter.from_text("nonsense")
        assert caught.value.code == "parameter.value" and parameter.name in caught.value.message
        for bad in (parameter.maximum + 1, parameter.minimum - 1, float("nan"), float("inf")):
            with pytest.raises(InputError):
                parameter.checked(bad)
    tempo = parameters.find("tempo")
    assert tempo.to_text(0.8) == "80 %" and tempo.from_text("80 %") == tempo.from_text("80") == 0.8
    assert parameters.find("volume").to_text(-60) == "silent"
    with pytest.raises(InputError, match="Did you mean 'voice'"):
        parameters.find("voices")


def test_parameters_and_settings_are_one(processor: Processor, score: Score) -> None:
    settings = RenderSettings(
        seed=5, tempo=0.8, steps=4, expressiveness=0.5, guidance=2.0, temperature=0.3, voice="sampler"
    )
    assert (
        parameters.applied(parameters.defaults() | parameters.taken(settings), RenderSettings()) == settings
    )
    assert parameters.applied(parameters.defaults(), RenderSettings()) == RenderSettings()
    drawn = (Drawn("tempo", ((0.0, 1.0), (2.0, 0.8))),)
    assert parameters.applied(parameters.defaults(), RenderSettings(drawn=drawn)).drawn == drawn


def test_presets_hold_what_the_parameters_allow(processor: Processor) -> None:
    for name, values in PRESETS.items():
        for key, value in values.items():
            assert parameters.find(key).checked(value) == pytest.approx(value), name
        processor.use_preset(name)
        assert all(processor.get(key) == pytest.approx(value) for key, value in values.items())
    with pytest.raises(KeyError):
        processor.use_preset("Nobody's")


def test_one_take_for_a_burst_of_changes(processor: Processor, score: Score) -> None:
    first = loaded(processor, score)
    for step in range(20):
        processor.set("tempo", 0.8 + 0.01 * step)
        processor.set("seed", step)
        processor.process((), 256)
    assert processor.deck.takes() == [first]
    until(processor, lambda: processor.status().take == first + 1)
    assert processor.settings.tempo == pytest.approx(0.99) and processor.settings.seed == 19
    processor.select(first)
    assert processor.get("tempo") == 1.0 and processor.settings.seed == 0


def test_state_comes_back_whole(processor: Processor, score: Score, bundle: Bundle, tmp_path: Path) -> None:
    drawn = (Drawn("loudness", ((0.0, 40.0), (3.0, 90.0))),)
    settings = RenderSettings(
        seed=4, tempo=0.9, voice="sampler", rerolls=(Reroll(1.0, 3.0, 2),), drawn=drawn, end_sec=5.0
    )
    number = processor.load(score, settings)
    until(processor, lambda: bool((take := processor.take(number)) and take.audio["sampler"].done))
    processor.set("volume", -6)
    processor.deck.seek(2.0)
    processor.deck.loop((1.0, 4.0))
    state = processor.save_state()
    json.loads(state)
    other = Processor(bundle, 1, "cpu")
    other.prepare(RATE)
    other.load_state(state)
    assert other.settings == settings and other.get("volume") == -6 and other.get("voice") == 1
    assert other.deck.score is not None and np.array_equal(other.deck.score.notes, score.notes)
    assert other.deck.score.title == "etude" and other.deck.span == (1.0, 4.0)
    until(other, lambda: other.status().state == "stopped" and other.status().ahead_sec > 0)
    assert other.status().score_sec == pytest.approx(processor.status().score_sec, abs=0.02)
    assert other.save_state() == state or abs(other.status().score_sec - 2.0) < 0.02
    other.release()


def test_a_state_that_does_not_fit_changes_nothing(processor: Processor, score: Score) -> None:
    loaded(processor, score)
    good = json.loads(processor.save_state())
    bad = [
        b"",
        b"\x80\x04garbage",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps(good | {"score": good["score"] | {"notes": "AAAA"}}).encode(),
        json.dumps(good | {"score": good["score"] | {"notes": good["score"]["tempi"]}}).encode(),
        json.dumps(good | {"values": {"tempo": 99}}).encode(),
        json.dumps(good | {"values": {"colour": 1}}).encode(),
        json.dumps(good | {"settings": good["settings"] | {"tempo": "fast"}}).encode(),
        json.dumps(good | {"place": None}).encode(),
        json.dumps({key: value for key, value in good.items() if key != "settings"}).encode(),
    ]
    for state in bad:
        with pytest.raises(InputError) as caught:
            processor.load_state(state)
        assert caught.value.code.startswith(("state.", "parameter.", "settings.")), state[:80]
    with pytest.raises(InputError) as caught:
        processor.load_state(json.dumps(good | {"version": 99}).encode())
    assert caught.value.code == "state.version"
    assert processor.deck.score is score and processor.status().take == 1


def test_an_empty_state(score: Score) -> None:
    state = pack_state(None, RenderSettings(seed=2), {"seed": 2.0}, 0.0, None)
    assert unpack_state(state) == (None, RenderSettings(seed=2), {"seed": 2.0}, 0.0, None)
    kept = unpack_state(pack_state(score, RenderSettings(like=Path("a.mid")), {}, 1.0, (0.0, 1.0)))
    assert kept[0] is not None and kept[1] == replace(RenderSettings(), like=Path("a.mid"))


def test_another_rate_plays_as_long(processor: Processor, score: Score) -> None:
    number = loaded(processor, score)
    take = processor.take(number)
    assert take is not None
    processor.prepare(48000, 512)
    processor.deck.play()
    blocks = []
    while processor.status().state == "playing" or not blocks:
        blocks.append(processor.process((), 512))
    seconds = sum(map(len, blocks)) / 48000
    assert seconds == pytest.approx(take.audio["neural"].frames / RATE, abs=0.05)
    assert processor.latency_frames >= 0


def test_an_offline_host_gets_every_sample(processor: Processor, score: Score, bundle: Bundle) -> None:
    """No block is silent because of a render that is slower than the host, nor is anything faded."""
    take = np.concatenate(list(open_rendering(score, bundle, RenderSettings(seed=3), 1, "cpu").chunks()))
    processor.offline = True
    processor.load(score, RenderSettings(seed=3))
    processor.deck.play()
    joined = np.concatenate([processor.process((), 1000) for _ in range(len(take) // 1000)])
    assert np.array_equal(joined, take[: len(joined)])


def test_the_example_host_runs(tmp_path: Path, midi_file: Path) -> None:
    from examples.host import RATE as HOST_RATE
    from examples.host import main

    main(str(midi_file), str(tmp_path / "host.wav"))
    import soundfile

    samples, rate = soundfile.read(tmp_path / "host.wav")
    assert rate == HOST_RATE and len(samples) > 11 * rate and np.abs(samples).max() > 0.01
    assert json.loads((tmp_path / "host.state.json").read_bytes())["version"] == 1

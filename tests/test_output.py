"""Outputs: what is heard is what was written, sample for sample, and what is missing is counted.

The speaker is a real PortAudio stream into a real JACK server; another JACK client records it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pkontext import devices, portaudio
from pkontext.callback import CallbackState, native_callback, python_callback
from pkontext.errors import DeviceError, InputError
from pkontext.output import FileOutput, NullOutput, Output, OutputStatus, SpeakerOutput
from pkontext.resample import StreamResampler
from pkontext.ring import Ring
from tests.conftest import REPOSITORY
from tests.jack_server import JackServer, jack_server

RATE = 44100


@pytest.fixture(scope="module")
def server() -> Iterator[JackServer]:
    with jack_server(period=256) as running:
        yield running


def _noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.002)


def _feed(output: Output, ring: Ring, audio: np.ndarray) -> None:
    """Write all of the audio, as the ring has room for it, and wait until it was taken."""
    done = 0
    while done < len(audio):
        done += ring.write(audio[done : done + 1000])
        output.expecting = done < len(audio)
        time.sleep(0.001)
    _wait(lambda: ring.readable == 0)


def _without_gaps(samples: np.ndarray) -> np.ndarray:
    """Noise without the blocks of silence inside."""
    return samples[samples.any(axis=1)]


def _play(
    server: JackServer, ring: Ring, rate: int = RATE, **options: bool
) -> tuple[OutputStatus, np.ndarray]:
    """Play what is in the ring; return the status and what was heard."""
    output = SpeakerOutput(ring, rate, server.device, **options)
    with server.recorder() as recorder:
        recorder.connect()
        output.start()
        _wait(lambda: ring.readable == 0)
        recorder.wait_frames(4 * server.period)
        status = output.status()
        output.close()
    return status, recorder.sound


# ---- speaker ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_c", [True, False])
def test_what_is_heard_is_what_was_written(server: JackServer, prefer_c: bool) -> None:
    audio, ring = _noise(RATE), Ring(RATE // 5, 2)
    output = SpeakerOutput(ring, RATE, server.device, prefer_c=prefer_c)
    with server.recorder() as recorder:
        recorder.connect()
        ring.write(audio[: ring.frames])
        output.start()
        _feed(output, ring, audio[ring.frames :])
        recorder.wait_frames(4 * server.period)
        status = output.status()
        output.close()
    assert status.underruns > 0 or np.array_equal(recorder.sound, audio)
    assert np.array_equal(_without_gaps(recorder.sound), audio)
    assert (status.consumed, status.error, status.sample_rate) == (len(audio), None, RATE)
    assert status.name == "JACK Audio Connection Kit: system"
    assert 0 < status.latency_sec < 0.1


@pytest.mark.parametrize("prefer_c", [True, False])
def test_a_full_ring_is_played_without_a_gap(server: JackServer, prefer_c: bool) -> None:
    audio, ring = _noise(RATE), Ring(RATE, 2)
    ring.write(audio)
    status, heard = _play(server, ring, prefer_c=prefer_c)
    assert np.array_equal(heard, audio)
    assert (status.underruns, status.missing_frames) == (0, 0)


def test_mono_goes_to_all_channels(server: JackServer) -> None:
    audio, ring = _noise(5000, 1), Ring(5000, 1)
    ring.write(audio)
    _, heard = _play(server, ring)
    assert np.array_equal(heard, np.repeat(audio, 2, axis=1))


@pytest.mark.parametrize("prefer_c", [True, False])
def test_a_starved_output_counts_and_plays_silence(server: JackServer, prefer_c: bool) -> None:
    audio, ring = _noise(3000), Ring(RATE, 2)
    output = SpeakerOutput(ring, RATE, server.device, prefer_c=prefer_c)
    with server.recorder() as recorder:
        recorder.connect()
        output.start()
        recorder.wait_frames(4 * server.period)
        assert output.status().underruns == 0  # silence that is meant
        ring.write(audio[:1000])
        output.expecting = True
        _wait(lambda: output.status().underruns >= 3)
        output.expecting = False
        time.sleep(0.05)
        before = output.status()
        ring.write(audio[1000:])
        _wait(lambda: ring.readable == 0)
        recorder.wait_frames(4 * server.period)
        after = output.status()
        output.close()
    assert (after.underruns, after.missing_frames) == (before.underruns, before.missing_frames)
    blocks = server.period * before.underruns
    assert blocks - server.period < before.missing_frames <= blocks
    heard = recorder.sound
    gap = len(heard) - len(audio)
    assert gap >= before.missing_frames
    assert np.array_equal(heard[:1000], audio[:1000])
    assert not heard[1000 : 1000 + gap].any()
    assert np.array_equal(heard[1000 + gap :], audio[1000:])


def test_another_output_continues_with_the_next_frame(server: JackServer) -> None:
    audio, ring = _noise(RATE), Ring(RATE, 2)
    ring.write(audio)
    heard = []
    for part in range(3):
        output = SpeakerOutput(ring, RATE, server.device, prefer_c=part != 1)
        with server.recorder() as recorder:
            recorder.connect()
            output.start()
            _wait(lambda part=part: ring.consumed >= (part + 1) * 10000 or ring.readable == 0)
            if part == 2:
                _wait(lambda: ring.readable == 0)
            output.stop()
            recorder.wait_frames(4 * server.period)
            output.close()
        heard.append(recorder.sound)
    assert np.array_equal(np.concatenate(heard), audio)


def test_an_output_stops_and_starts_again(server: JackServer) -> None:
    audio, ring = _noise(RATE), Ring(RATE, 2)
    ring.write(audio)
    output = SpeakerOutput(ring, RATE, server.device)
    with server.recorder() as recorder:
        recorder.connect()
        output.start()
        _wait(lambda: ring.consumed > 5000)
        output.stop()
        held = ring.readable
        time.sleep(0.05)
        assert ring.readable == held > 0
        recorder.connect()
        output.start()
        _wait(lambda: ring.readable == 0)
        recorder.wait_frames(4 * server.period)
        output.close()
        output.close()
    assert np.array_equal(_without_gaps(recorder.sound), audio)
    with pytest.raises(ValueError, match="closed output"):
        output.start()


def test_a_device_of_one_channel_and_another_rate() -> None:
    """Stereo becomes its mean, and the audio is resampled to the one rate that there is."""
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)
    audio = np.stack([0.5 * tone, 0.25 * tone], axis=1).astype(np.float32)
    with jack_server(period=512, rate=48000, channels=1) as server:
        for prefer_c in (True, False):
            ring = Ring(48000, 2)
            output = SpeakerOutput(ring, RATE, server.device, prefer_c=prefer_c)
            assert output.sample_rate == output.status().sample_rate == 48000
            output.close()
            resampler = StreamResampler(RATE, output.sample_rate, 2)
            wanted = np.concatenate([resampler.process(audio), resampler.flush()])
            ring.write(wanted)
            _, heard = _play(server, ring, prefer_c=prefer_c)
            mean = (wanted[:, :1] + wanted[:, 1:]) * np.float32(0.5)
            loud = np.flatnonzero(mean[:, 0])
            assert np.array_equal(heard, mean[loud[0] : loud[-1] + 1])


def test_a_device_that_is_not_there(server: JackServer) -> None:
    with pytest.raises(DeviceError) as caught:
        SpeakerOutput(Ring(10, 1), RATE, "Grand Hall")
    assert caught.value.code == "device.unknown"
    assert "JACK Audio Connection Kit: system" in caught.value.hint


def test_the_list_is_not_renewed_under_an_open_output(server: JackServer) -> None:
    output = SpeakerOutput(Ring(10, 1), RATE, server.device)
    with pytest.raises(DeviceError) as caught:
        devices.refresh()
    output.close()
    assert caught.value.code == "device.busy"
    devices.refresh()


def test_compiled_playing_does_not_wait_for_python(server: JackServer) -> None:
    """A thread that keeps the interpreter lock for itself delays no callback of ours."""
    ring, stop = Ring(RATE * 2, 2), threading.Event()
    ring.write(_noise(RATE * 2))

    def keep_the_lock() -> None:
        while not stop.is_set():
            sum(range(2_000_000))  # in C, without letting go

    output = SpeakerOutput(ring, RATE, server.device)
    hog = threading.Thread(target=keep_the_lock)
    output.expecting = True
    hog.start()
    output.start()
    try:
        _wait(lambda: ring.consumed > RATE)
        status = output.status()
    finally:
        stop.set()
        hog.join()
        output.close()
    assert status.underruns == 0
    assert status.late <= 2  # the operating system may still take the processor away


# ---- loss ---------------------------------------------------------------------------------------

_LISTENER = """
import sys, time
import numpy as np
from pkontext import devices
from pkontext.callback import CallbackState, native_callback, python_callback
from pkontext.errors import DeviceError
from pkontext.output import FileOutput, SpeakerOutput
from pkontext.ring import Ring

audio = np.load(sys.argv[1])
ring = Ring(len(audio), 2)
ring.write(audio)
output = SpeakerOutput(ring, 44100, "JACK Audio Connection Kit: system", prefer_c=sys.argv[3] == "True")
output.expecting = True
print("open", flush=True)
sys.stdin.readline()
output.start()
print("playing", flush=True)
while output.status().error is None:
    time.sleep(0.02)
print(output.status().error.code, flush=True)
print(output.status().error.message, flush=True)
started = time.monotonic()
output.close()
print(f"{time.monotonic() - started:.3f}", flush=True)
for attempt in (devices.refresh, lambda: devices.find_output("system")):
    try:
        attempt()
    except DeviceError as error:
        print(error.code, flush=True)
rest = FileOutput(ring, 44100, sys.argv[2], pace=0)
rest.start()
while ring.readable:
    time.sleep(0.01)
rest.close()
"""


@pytest.mark.parametrize("prefer_c", [True, False])
def test_a_lost_device_is_noticed_and_nothing_is_lost(tmp_path: Path, prefer_c: bool) -> None:
    audio = _noise(RATE * 4)
    np.save(tmp_path / "audio.npy", audio)
    with jack_server(period=256, ours=False) as server, server.recorder() as recorder:
        command = [sys.executable, "-c", _LISTENER, "audio.npy", "rest.wav", str(prefer_c)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            recorder.connect()
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "playing\n"
            recorder.wait_frames(RATE // 2)
            server.kill()
            said, _ = child.communicate(timeout=30)
    code, message, seconds, *errors = said.splitlines()
    assert code == "device.lost"
    assert "JACK Audio Connection Kit: system" in message
    assert float(seconds) < 2 * portaudio.PATIENCE_SEC
    assert errors == ["device.jack_died", "device.none"]
    assert child.returncode == 0  # PortAudio itself would end the process
    heard, rest = recorder.sound, soundfile.read(tmp_path / "rest.wav", dtype="float32")[0]
    assert len(heard) > RATE // 4
    assert np.array_equal(heard, audio[: len(heard)])
    assert np.array_equal(rest, audio[-len(rest) :])
    assert 0 <= len(audio) - len(heard) - len(rest) <= 2 * server.period  # a block on its way


def test_a_device_that_stands_still_is_lost_and_another_one_continues() -> None:
    audio, ring = _noise(RATE), Ring(RATE, 2)
    ring.write(audio)
    with jack_server(period=256) as server, server.recorder() as recorder:
        output = SpeakerOutput(ring, RATE, server.device)
        recorder.connect()
        output.start()
        recorder.wait_frames(RATE // 4)
        with server.stalled():
            frozen = time.monotonic()
            _wait(lambda: output.status().error is not None)
            seconds = time.monotonic() - frozen
            with pytest.raises(DeviceError, match="is gone"):
                output.start()
        error = output.status().error
        output.close()
        again = SpeakerOutput(ring, RATE, server.device)
        recorder.connect()
        again.start()
        _wait(lambda: ring.readable == 0)
        recorder.wait_frames(4 * server.period)
        assert again.status().error is None
        again.close()
    assert error is not None
    assert error.code == "device.lost"
    assert 0.5 < seconds < 4
    assert np.array_equal(_without_gaps(recorder.sound), audio)


# ---- callbacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "device_channels"), [(1, 1), (1, 2), (1, 6), (2, 1), (2, 2), (2, 4)])
def test_both_callbacks_do_the_same(channels: int, device_channels: int) -> None:
    audio, flags = _noise(2000, channels), type("Flags", (), {"output_underflow": True})()
    times = np.array([0.0, 10.0, 0.0])
    now = type("Time", (), {"currentTime": 10.0})()
    results = []
    for compiled in (False, True):
        ring = Ring(1500, channels)
        state = CallbackState(ring, device_channels)
        play = python_callback(state, lambda: 10.5, RATE)
        native = _as_function(native_callback().address)
        heard = []
        for step, frames in enumerate((300, 700, 900, 256, 5000)):
            ring.write(audio[step * 400 : (step + 1) * 400])
            state.expecting = step != 2
            out = np.full((frames, device_channels), 7, np.float32)
            if compiled:
                address = state.cells.ctypes.data
                assert native(None, out.ctypes.data, frames, times.ctypes.data, 4, address) == 0
            else:
                play(out, frames, now, flags)
            heard.append(out)
        counts = (state.calls, state.underruns, state.missing_frames, state.xruns, state.failed)
        results.append((np.concatenate(heard), counts))
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert results[0][1] == (5, 2, 200 + 4456, 5, 0)


def _as_function(address: int) -> Callable[..., int]:
    words, pointer = ctypes.c_ulong, ctypes.c_void_p
    return ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, words, pointer, words, pointer)(address)


# ---- without a sound card -----------------------------------------------------------------------


def test_nowhere_in_real_time() -> None:
    ring = Ring(RATE, 1)
    ring.write(_noise(RATE, 1))
    output = NullOutput(ring, RATE, pace=4.0)
    output.expecting = True
    started = time.monotonic()
    output.start()
    _wait(lambda: output.status().underruns > 0)
    seconds = time.monotonic() - started
    output.close()
    status = output.status()
    assert 0.2 < seconds < 1.0
    assert (status.consumed, status.error) == (RATE, None)
    assert status.missing_frames > 0


def test_nowhere_as_fast_as_frames_come() -> None:
    ring = Ring(1000, 2)
    output = NullOutput(ring, RATE, pace=0)
    output.expecting = True
    output.start()
    _feed(output, ring, _noise(50_000))
    output.close()
    output.close()
    assert (output.status().consumed, output.status().underruns) == (50_000, 0)


@pytest.mark.parametrize("pace", [0.0, 8.0])
def test_a_file_holds_what_was_played(tmp_path: Path, pace: float) -> None:
    audio, ring = _noise(RATE), Ring(RATE, 2)
    output = FileOutput(ring, RATE, tmp_path / "played.wav", pace)
    output.start()
    time.sleep(0.02)  # nothing is expected: not in the file
    ring.write(audio)
    _wait(lambda: ring.consumed > 1000)
    output.stop()
    assert not (tmp_path / "played.wav").exists()
    output.start()
    _wait(lambda: ring.readable == 0)
    output.close()
    samples, rate = soundfile.read(tmp_path / "played.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(samples, audio)
    assert output.report is not None
    assert output.report.frames == len(audio)


def test_a_file_shows_the_gaps_of_underruns(tmp_path: Path) -> None:
    audio, ring = _noise(1000, 1), Ring(RATE, 1)
    output = FileOutput(ring, RATE, tmp_path / "gaps.flac", pace=8.0, bits="24")
    ring.write(audio)
    output.expecting = True
    output.start()
    _wait(lambda: output.status().underruns > 2)
    output.close()
    samples, _ = soundfile.read(tmp_path / "gaps.flac", dtype="float32", always_2d=True)
    assert len(samples) == 1000 + output.status().missing_frames
    assert np.abs(samples[:1000] - audio).max() < 2**-22
    assert np.abs(samples[1000:]).max() < 2**-22


def test_a_file_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    ring = Ring(1000, 1)
    ring.write(_noise(1000, 1))
    output = FileOutput(ring, RATE, tmp_path / "no.wav", pace=0)
    output.start()
    _wait(lambda: ring.readable == 0)
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        FileOutput(Ring(10, 1), RATE, tmp_path / "missing" / "x.wav")
    ring = Ring(1000, 1)
    output = FileOutput(ring, RATE, tmp_path / "x.wav", pace=0)
    ring.write(np.full((1000, 1), np.nan, np.float32))
    output.start()
    _wait(lambda: output.status().error is not None)
    output.close()
    error = output.status().error
    assert error is not None
    assert error.code == "render.not_finite"
    assert list(tmp_path.iterdir()) == []


# ---- resampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(44100, 48000), (48000, 44100), (44100, 96000), (44100, 22050)])
def test_resampled_audio_is_in_place_and_whole(rates: tuple[int, int]) -> None:
    before, after = rates

    def tone(rate: int) -> np.ndarray:
        seconds = np.arange(rate) / rate
        return np.stack([np.sin(2 * np.pi * f * seconds) for f in (440, 5000)], axis=1).astype(np.float32)

    resampler, random = StreamResampler(before, after, 2), np.random.default_rng(0)
    out, done = [], 0
    while done < before:
        n = int(random.integers(1, 3000))
        out.append(resampler.process(tone(before)[done : done + n]))
        assert 0 <= resampler.held_frames < 0.1 * after
        done += n
    cut = np.concatenate([*out, resampler.flush()])
    assert len(cut) == after
    middle = slice(after // 10, -after // 10)
    assert np.abs(cut - tone(after))[middle].max() < 2e-6
    resampler.process(_noise(999))
    resampler.clear()  # a seek
    again = np.concatenate([resampler.process(tone(before)), resampler.flush()])
    assert np.array_equal(again, cut)


def test_equal_rates_pass_through() -> None:
    resampler, audio = StreamResampler(RATE, RATE, 2), _noise(100)
    assert resampler.process(audio) is audio
    assert len(resampler.flush()) == 0
    assert len(StreamResampler(RATE, 48000, 1).flush()) == 0

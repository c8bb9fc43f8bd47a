"""The ring buffer: nothing lost, nothing twice, in order, whoever reads and however fast."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from pkontext.callback import CallbackState, native_callback
from pkontext.ring import Ring


@pytest.fixture
def busy_interpreter() -> Iterator[None]:
    """Let threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def _noise(frames: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (frames, channels)).astype(np.float32)


def test_a_ring_takes_what_fits_and_gives_what_it_has() -> None:
    ring, audio = Ring(5, 2), _noise(9, 2)
    assert (ring.write(audio), ring.readable, ring.writable) == (5, 5, 0)
    assert ring.write(audio) == 0
    out = np.full((3, 2), 9, np.float32)
    assert ring.read_into(out) == 3
    assert np.array_equal(out, audio[:3])
    assert ring.write(audio[5:]) == 3  # over the end of the buffer
    out = np.full((8, 2), 9, np.float32)
    assert ring.read_into(out) == 5
    assert np.array_equal(out[:5], audio[3:8])
    assert (out[5:] == 9).all()
    assert (ring.written, ring.consumed, ring.readable, ring.writable) == (8, 8, 0, 5)


def test_audio_that_does_not_fit_the_channels_is_refused() -> None:
    ring = Ring(8, 1)
    for wrong in (_noise(4, 2), _noise(4, 1)[:, 0]):
        with pytest.raises(ValueError, match="1 channels"):
            ring.write(wrong)
    assert ring.written == 0
    with pytest.raises(ValueError, match="0 frames"):
        Ring(0, 1)


def test_any_layout_of_samples_is_taken() -> None:
    audio = _noise(64, 2)
    for samples in (np.asfortranarray(audio), audio[::-1][::-1], np.broadcast_to(audio[:1], (64, 2))):
        ring, out = Ring(64, 2), np.zeros((64, 2), np.float32)
        assert ring.write(samples) == ring.read_into(out) == 64
        assert np.array_equal(out, samples)


@pytest.mark.parametrize("capacity", [7, 512, 4411])
def test_two_threads(capacity: int, busy_interpreter: None) -> None:
    audio, ring = _noise(min(100_000, 200 * capacity), 2), Ring(capacity, 2)
    heard = np.zeros_like(audio)

    def produce() -> None:
        random, done = np.random.default_rng(1), 0
        while done < len(audio):
            done += ring.write(audio[done : done + random.integers(1, 3000)])

    thread = threading.Thread(target=produce)
    thread.start()
    random, done = np.random.default_rng(2), 0
    while done < len(audio) and (thread.is_alive() or ring.readable):
        assert 0 <= ring.readable <= capacity
        done += ring.read_into(heard[done : done + random.integers(1, 3000)])
    thread.join()
    assert done == ring.written == ring.consumed == len(audio)
    assert np.array_equal(heard, audio)


def test_a_reader_without_the_interpreter_lock() -> None:
    """The compiled callback reads on a thread of its own, truly at the same time as Python writes."""
    audio, ring = _noise(100_000, 2), Ring(1000, 2)
    state = CallbackState(ring, 2)
    words, pointer = ctypes.c_ulong, ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, words, pointer, words, pointer)
    play = kind(native_callback().address)  # ctypes lets go of the lock around the call
    heard: list[np.ndarray] = []
    finished = threading.Event()

    def consume() -> None:
        random, out = np.random.default_rng(3), np.zeros((700, 2), np.float32)
        while not finished.is_set() or ring.readable:
            frames, before = int(random.integers(1, 700)), ring.consumed
            play(None, out.ctypes.data, frames, None, 0, state.cells.ctypes.data)
            got = ring.consumed - before
            heard.append(out[:got].copy())
            assert not out[got:frames].any()

    thread = threading.Thread(target=consume)
    thread.start()
    done = 0
    while done < len(audio):
        done += ring.write(audio[done : done + 900])
    finished.set()
    thread.join()
    assert np.array_equal(np.concatenate(heard), audio)

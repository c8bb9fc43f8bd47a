"""The codec on a fixed grid: chunked, whole-file and direct passes through the graphs agree."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkontext import synth
from pkontext.bundle import PACKAGE_DATA, Bundle, CodecEntry, open_bundle
from pkontext.codec import PianoCodec, open_codec
from pkontext.phase import PhaseStream
from pkontext.runtime import Graph
from pkontext.stft import log_magnitude
from pkontext.types import NOTE

HOP = 4096
BLOCK = CodecEntry.block
#: Largest difference allowed between two ways through the same graph.
AGREE = 1e-4


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return open_bundle(toy_bundle)


@pytest.fixture(scope="module")
def codec(bundle: Bundle) -> PianoCodec:
    return PianoCodec.from_bundle(bundle, threads=1, provider="cpu")


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """61.2 latent frames of piano, so blocks, their rest and an incomplete frame all occur."""
    notes = np.zeros(30, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(30) * 0.18, 0.5
    notes["pitch"], notes["velocity"] = 36 + (np.arange(30) * 11) % 50, 50 + (np.arange(30) * 17) % 60
    spec = synth.SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
    events = synth.events_from_notes(notes, None, spec.sample_rate)
    return np.concatenate(list(synth.render(events, spec, 61 * HOP + 800)))


@pytest.fixture(scope="module")
def latents(codec: PianoCodec, audio: np.ndarray) -> np.ndarray:
    return codec.encode(audio)


def cut(array: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Pieces of these sizes, then the rest."""
    start = 0
    for size in sizes:
        yield array[start : start + size]
        start += size
    yield array[start:]


def joined(pieces: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(pieces))


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 70_000), max_size=12))
def test_encoding_gives_the_same_bits_for_any_chunking(
    codec: PianoCodec, audio: np.ndarray, latents: np.ndarray, sizes: list[int]
) -> None:
    assert np.array_equal(joined(codec.encode_stream(cut(audio, sizes))), latents)


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12))
def test_decoding_gives_the_same_bits_for_any_chunking(
    codec: PianoCodec, latents: np.ndarray, sizes: list[int]
) -> None:
    assert np.array_equal(joined(codec.decode_stream(cut(latents, sizes))), codec.decode(latents))


def test_blocks_equal_one_run_of_the_encoder_over_the_whole_file(
    bundle: Bundle, codec: PianoCodec, audio: np.ndarray, latents: np.ndarray
) -> None:
    entry, ratio = codec.entry, HOP // codec.entry.stft_hop
    samples = np.pad(audio[:, 0], (0, -len(audio) % HOP))
    log_mag = log_magnitude(np.pad(samples, codec.stft.lead), codec.stft)
    quiet = ((entry.encode_context * ratio,) * 2, (0, 0))
    log_mag = np.pad(log_mag, quiet, constant_values=np.log(np.float32(entry.floor)))
    direct = Graph(bundle.graph_path("encoder"), 1, "cpu")(log_mag=log_mag[None])[0]
    direct = direct[entry.encode_context : len(direct) - entry.encode_context]
    assert direct.shape == latents.shape and len(latents) > 2 * BLOCK
    assert np.abs(direct - latents).max() < AGREE
    assert latents.std() > 0.1


def test_blocks_equal_one_run_of_the_decoder_over_the_whole_file(
    bundle: Bundle, codec: PianoCodec, latents: np.ndarray
) -> None:
    """The phase stream is fed the frames that one long run gives."""
    seen: list[np.ndarray] = []
    context, ratio = codec.entry.decode_context, HOP // codec.entry.stft_hop
    padded = np.concatenate([np.repeat(codec.silence[None], context, 0), latents])
    padded = np.concatenate([padded, np.repeat(codec.silence[None], context, 0)])
    direct = Graph(bundle.graph_path("decoder"), 1, "cpu")(latents=padded[None])[0]
    direct = direct[context * ratio : len(direct) - context * ratio]

    class Recorder(PhaseStream):
        def push(self, log_mag: np.ndarray) -> np.ndarray:
            seen.append(log_mag.copy())
            return super().push(log_mag)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pkontext.codec.PhaseStream", Recorder)
        codec.decode(latents)
    blocks = np.concatenate(seen)
    assert blocks.shape == direct.shape
    assert np.abs(blocks - direct).max() < AGREE


def mix(rows: np.ndarray, context: int) -> np.ndarray:
    """Each row with its neighbours; beyond the ends there are zeros, as in a convolution."""
    padded = np.pad(rows, ((context, context), (0, 0)))
    return sum(padded[k : k + len(rows)] / (k + 1) for k in range(2 * context + 1))  # type: ignore[return-value]


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("frames", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_every_block_sees_as_much_context_as_the_network_uses(
    codec: PianoCodec, context: int, frames: int
) -> None:
    """Networks that mix neighbours up to the promised distance, against one run over everything."""
    entry = replace(codec.entry, dim=3, encode_context=context, decode_context=context)
    bins, floor = codec.stft.bins, np.log(np.float32(entry.floor))
    pushed: list[np.ndarray] = []

    def encoder(log_mag: np.ndarray) -> np.ndarray:
        return mix(log_mag[0].reshape(-1, 8, bins).mean(1)[:, 10:13], context)[None].astype(np.float32)

    def decoder(latents: np.ndarray) -> np.ndarray:
        level = floor + np.abs(mix(latents[0], context)).mean(1) * 0.01
        return np.repeat(np.repeat(level, 8)[None, :, None], bins, 2).astype(np.float32)

    class Recorder(PhaseStream):
        def push(self, log_mag: np.ndarray) -> np.ndarray:
            pushed.append(log_mag.copy())
            return super().push(log_mag)

    mixing = PianoCodec(entry, encoder, decoder)  # type: ignore[arg-type]
    samples = np.random.default_rng(0).normal(0, 0.1, frames * HOP).astype(np.float32)
    log_mag = log_magnitude(np.pad(samples, codec.stft.lead), codec.stft)
    log_mag = np.pad(log_mag, ((context * 8,) * 2, (0, 0)), constant_values=floor)
    found = mixing.encode(samples)
    assert np.abs(found - encoder(log_mag[None])[0, context:-context]).max() < 1e-5

    quiet = np.repeat(mixing.silence[None], context, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pkontext.codec.PhaseStream", Recorder)
        assert mixing.decode(found).shape == (frames * HOP, 1)
    direct = decoder(np.concatenate([quiet, found, quiet])[None])[0, context * 8 : -context * 8]
    assert np.abs(np.concatenate(pushed) - direct).max() < 1e-5


@pytest.mark.parametrize("length", [1, HOP - 1, HOP, HOP + 1, BLOCK * HOP, BLOCK * HOP + 1])
def test_lengths(codec: PianoCodec, audio: np.ndarray, length: int) -> None:
    latents = codec.encode(audio[:length])
    assert latents.shape == (-(-length // HOP), codec.entry.dim) and latents.dtype == np.float32
    decoded = codec.decode(latents)
    assert decoded.shape == (len(latents) * HOP, 1) and decoded.dtype == np.float32
    assert np.isfinite(decoded).all()


def test_a_prefix_encodes_as_in_the_whole_file(
    codec: PianoCodec, audio: np.ndarray, latents: np.ndarray
) -> None:
    """Outside the last frames, which see the end, nothing depends on what follows."""
    short = codec.encode(audio[: 40 * HOP])
    inside = 40 - codec.entry.encode_context - 1
    assert np.abs(short[:inside] - latents[:inside]).max() < AGREE


def test_an_excerpt_encodes_as_in_the_whole_file_apart_from_its_edges(
    codec: PianoCodec, audio: np.ndarray, latents: np.ndarray
) -> None:
    edge = codec.entry.encode_context + 1
    excerpt = codec.encode(audio[7 * HOP : 50 * HOP])
    assert np.abs(excerpt[edge:-edge] - latents[7 + edge : 50 - edge]).max() < AGREE
    assert np.abs(excerpt[0] - latents[7]).max() > AGREE  # else the edges would prove nothing


def test_nothing_in_nothing_out(codec: PianoCodec) -> None:
    assert codec.encode(np.zeros((0, 1), np.float32)).shape == (0, codec.entry.dim)
    assert codec.decode(np.zeros((0, codec.entry.dim), np.float32)).shape == (0, 1)
    assert list(codec.encode_stream([])) == []
    assert list(codec.decode_stream([])) == []


def test_silence_stays_silent(codec: PianoCodec) -> None:
    latents = codec.encode(np.zeros((60 * HOP, 1), np.float32))
    assert np.abs(latents - codec.silence).max() < AGREE
    decoded = codec.decode(latents)
    assert 20 * np.log10(np.abs(decoded).max() + 1e-12) < -70


def test_the_audio_comes_back_recognisably(codec: PianoCodec, audio: np.ndarray, latents: np.ndarray) -> None:
    """Log magnitudes of input and output correlate (0.85 for this tiny codec), shifted ones less (0.63)."""
    decoded = codec.decode(latents)

    def analyse(samples: np.ndarray) -> np.ndarray:
        return log_magnitude(np.pad(samples[: 60 * HOP, 0], codec.stft.lead), codec.stft)[:, :400]

    true, back = analyse(audio), analyse(decoded)
    right = np.corrcoef(true.ravel(), back.ravel())[0, 1]
    wrong = np.corrcoef(np.roll(true, 100, 0).ravel(), back.ravel())[0, 1]
    assert right > 0.83
    assert right > wrong + 0.2


def test_a_bundle_opens_as_the_codec_it_names(bundle: Bundle, codec: PianoCodec, latents: np.ndarray) -> None:
    opened = open_codec(bundle, threads=1, provider="cpu")
    assert isinstance(opened, PianoCodec) and opened.entry.kind == "log-magnitude"
    assert np.array_equal(opened.decode(latents[:30]), codec.decode(latents[:30]))


def test_the_block_is_the_entrys(codec: PianoCodec, audio: np.ndarray, latents: np.ndarray) -> None:
    sizes: list[int] = []

    def encoder(log_mag: np.ndarray) -> np.ndarray:
        sizes.append(log_mag.shape[1] // 8)
        return codec._encoder(log_mag=log_mag)

    entry = replace(codec.entry, block=10)
    other = PianoCodec(entry, encoder, codec._decoder)  # type: ignore[arg-type]
    sizes.clear()  # of the latent of silence
    assert np.abs(other.encode(audio) - latents).max() < AGREE
    assert set(sizes) == {10 + 2 * entry.encode_context}


def test_inputs_are_not_changed(codec: PianoCodec, audio: np.ndarray, latents: np.ndarray) -> None:
    samples, rows = audio.copy(), latents.copy()
    codec.encode(audio)
    codec.decode(latents)
    assert np.array_equal(samples, audio) and np.array_equal(rows, latents)


def test_memory_does_not_grow_with_the_length(codec: PianoCodec) -> None:
    """Audio to latents to audio, as one stream: the peak is that of a few blocks."""

    def peak(frames: int) -> int:
        noise = np.random.default_rng(0).normal(0, 0.05, (HOP * 4, 1)).astype(np.float32)
        tracemalloc.start()
        total = sum(
            len(chunk)
            for chunk in codec.decode_stream(codec.encode_stream(noise for _ in range(frames // 4)))
        )
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert total == frames * HOP
        return highest

    peak(BLOCK * 2)
    assert peak(BLOCK * 10) < 1.1 * peak(BLOCK * 3)


def test_resident_memory_does_not_grow_either(codec: PianoCodec) -> None:
    """What ONNX Runtime and FFTs hold is no Python object: five more minutes add next to nothing."""
    resource = pytest.importorskip("resource", reason="Unix only")
    unit = 1e6 if sys.platform == "darwin" else 1e3

    def peak_mb(minutes: float) -> float:
        noise = np.random.default_rng(0).normal(0, 0.05, (HOP * 24, 1)).astype(np.float32)
        rounds = round(minutes * 60 * 44100 / len(noise))
        for _ in codec.decode_stream(codec.encode_stream(noise for _ in range(rounds))):
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    assert peak_mb(5) - peak_mb(1) < 4

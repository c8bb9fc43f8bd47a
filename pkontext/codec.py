"""Codecs, audio to latents and back in streams: how to open one, and the piano codec.

`open_codec` chooses by the kind in the codec's entry: our piano codec, here, or Music2Latent, in
`pkontext.music2latent`.

The piano codec's graphs see log magnitudes; the STFT and the phase are outside. Both directions work on a
fixed grid of blocks with as many latent frames of context on each side as the networks can see,
so the result does not depend on how the input was cut, and equals a whole-file pass.

Latents here are normalised: about zero mean and unit variance in every channel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from pkontext.blocks import blocks, joined
from pkontext.bundle import Bundle, CodecEntry
from pkontext.manifest import LatentStats, parse_codec
from pkontext.music2latent import Music2LatentCodec
from pkontext.phase import PhaseStream
from pkontext.runtime import Graph
from pkontext.stft import StftSpec, log_magnitude


class Codec(Protocol):
    """What every codec can do; all that the rest of the project knows of one is its ``entry``."""

    entry: CodecEntry

    @property
    def frame_sec(self) -> float:
        """Seconds of one latent frame."""
        ...

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Encode audio ``[n]`` or ``[n, channels]`` to latents ``[ceil(n / hop), dim]``."""
        ...

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode latents ``[frames, dim]`` to audio ``[frames * hop, channels]``."""
        ...

    def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Encode chunks ``[n, channels]`` of any size to latents ``[frames, dim]``, piece by piece."""
        ...

    def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Decode latents ``[frames, dim]``, any number at a time, to audio ``[n, channels]``."""
        ...


def open_codec(bundle: Bundle, threads: int = 0, provider: str = "auto") -> Codec:
    """Open the codec of a verified bundle, whichever kind it is.

    Parameters
    ----------
    bundle : Bundle
    threads, provider
        As in `pkontext.runtime.Graph`.

    Raises
    ------
    BundleError, ProviderError
        When the graphs cannot be opened.
    """
    graphs = [Graph(bundle.graph_path(name), threads, provider) for name in ("encoder", "decoder")]
    return _make(bundle.manifest.codec, bundle.manifest.latent_stats, *graphs)


def open_codec_folder(folder: Path, threads: int = 0, provider: str = "auto") -> Codec:
    """Open the codec of a run folder: ``encoder.onnx``, ``decoder.onnx`` and what describes them.

    Raises
    ------
    BundleError, ProviderError
        When the description is not valid or the graphs cannot be opened.
    """
    entry, stats = read_codec_folder(folder)
    graphs = [Graph(folder / f"{name}.onnx", threads, provider) for name in ("encoder", "decoder")]
    return _make(entry, stats, *graphs)


def read_codec_folder(folder: Path) -> tuple[CodecEntry, LatentStats]:
    """Read ``codec.json`` and, where there is one, ``latent_stats.json`` of a run folder.

    Raises
    ------
    BundleError
        ``bundle.field`` or ``bundle.value``.
    """
    stats = folder / "latent_stats.json"
    described = json.loads((folder / "codec.json").read_text(encoding="utf-8"))
    return parse_codec(described, json.loads(stats.read_text(encoding="utf-8")) if stats.exists() else None)


def _make(entry: CodecEntry, stats: LatentStats, encoder: Graph, decoder: Graph) -> Codec:
    if entry.kind == "music2latent":
        return Music2LatentCodec(entry, encoder, decoder, stats)
    return PianoCodec(entry, encoder, decoder)


class PianoCodec:
    """The embedded codec: mono, log-magnitude autoencoder, phase by gradient integration.

    Its graphs give and take normalised latents, so a bundle's statistics are not used.

    Parameters
    ----------
    entry : CodecEntry
        Rates, sizes and contexts.
    encoder, decoder : Graph
        ``log_mag [1, frames * 8, bins] → latents [1, frames, dim]`` and back.
    """

    def __init__(self, entry: CodecEntry, encoder: Graph, decoder: Graph) -> None:
        self.entry = entry
        self.stft = StftSpec(entry.n_fft, entry.stft_hop, entry.floor)
        self._encoder, self._decoder = encoder, decoder
        self._ratio = entry.hop // entry.stft_hop
        frames = 2 * entry.encode_context + 1
        silence = np.full((frames * self._ratio, self.stft.bins), np.log(entry.floor), np.float32)
        #: Latent of silence, ``[dim]``.
        self.silence = encoder(log_mag=silence[None])[0, entry.encode_context]

    @classmethod
    def from_bundle(cls, bundle: Bundle, threads: int = 0, provider: str = "auto") -> PianoCodec:
        """Open the codec of a verified bundle."""
        graphs = [Graph(bundle.graph_path(name), threads, provider) for name in ("encoder", "decoder")]
        return cls(bundle.manifest.codec, *graphs)

    @property
    def frame_sec(self) -> float:
        """Seconds of one latent frame."""
        return self.entry.hop / self.entry.sample_rate

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Encode audio ``[n]`` or ``[n, 1]`` to latents ``[ceil(n / hop), dim]``."""
        return joined(self.encode_stream([samples]), self.entry.dim)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode latents ``[frames, dim]`` to audio ``[frames * hop, 1]``."""
        return joined(self.decode_stream([latents]), self.entry.channels)

    def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Codec.encode_stream`; the last frame is filled up with silence."""
        context = self.entry.encode_context * self._ratio
        quiet = np.full((context, self.stft.bins), np.log(self.entry.floor), np.float32)
        for block, keep in blocks(
            self._log_magnitudes(chunks), self.entry.block * self._ratio, context, quiet
        ):
            latents = self._encoder(log_mag=block[None])[0]
            start = self.entry.encode_context
            yield latents[start : start + keep // self._ratio]

    def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Codec.decode_stream`."""
        context = self.entry.decode_context
        quiet = np.repeat(self.silence[None], context, axis=0)
        phase = PhaseStream(self.stft)
        for block, keep in blocks(chunks, self.entry.block, context, quiet):
            log_mag = self._decoder(latents=block[None])[0]
            start = context * self._ratio
            samples = phase.push(log_mag[start : start + keep * self._ratio])
            if len(samples):
                yield samples[:, None]
        samples = phase.flush()
        if len(samples):
            yield samples[:, None]

    def _log_magnitudes(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Log magnitudes of whole latent frames, as soon as their samples are there."""
        spec, hop = self.stft, self.entry.hop
        pending = np.zeros(spec.lead, np.float32)
        total = 0

        def ready() -> np.ndarray | None:
            nonlocal pending
            count = (len(pending) - 2 * spec.lead) // hop
            if count < 1:
                return None
            frames = log_magnitude(pending[: count * hop + 2 * spec.lead], spec)
            pending = pending[count * hop :]
            return frames

        for chunk in chunks:
            samples = np.asarray(chunk, np.float32).reshape(-1)
            total += len(samples)
            pending = np.concatenate([pending, samples])
            frames = ready()
            if frames is not None:
                yield frames
        tail = np.zeros(-total % hop + spec.lead, np.float32)
        pending = np.concatenate([pending, tail])
        frames = ready()
        if frames is not None:
            yield frames

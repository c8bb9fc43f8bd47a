"""The piano codec: audio to latents and back, in streams, with exact context.

The graphs see log magnitudes; the STFT and the phase are outside. Both directions work on a
fixed grid of blocks with as many latent frames of context on each side as the networks can see,
so the result does not depend on how the input was cut, and equals a whole-file pass.

Latents here are normalised: about zero mean and unit variance in every channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from pkontext.bundle import Bundle, CodecEntry
from pkontext.phase import PhaseStream
from pkontext.runtime import Graph
from pkontext.stft import StftSpec, log_magnitude

#: Latent frames that one call of a graph encodes or decodes, context not counted.
BLOCK = 24


class Codec(Protocol):
    """What every codec can do; all that the rest of the project knows of one is its ``entry``."""

    entry: CodecEntry

    def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Encode chunks ``[n, channels]`` of any size to latents ``[frames, dim]``, piece by piece."""
        ...

    def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Decode latents ``[frames, dim]``, any number at a time, to audio ``[n, channels]``."""
        ...


class PianoCodec:
    """The embedded codec: mono, log-magnitude autoencoder, phase by gradient integration.

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
        return _join(self.encode_stream([samples]), self.entry.dim)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode latents ``[frames, dim]`` to audio ``[frames * hop, 1]``."""
        return _join(self.decode_stream([latents]), self.entry.channels)

    def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Codec.encode_stream`; the last frame is filled up with silence."""
        context = self.entry.encode_context * self._ratio
        quiet = np.full((context, self.stft.bins), np.log(self.entry.floor), np.float32)
        for block, keep in _blocks(self._log_magnitudes(chunks), BLOCK * self._ratio, context, quiet):
            latents = self._encoder(log_mag=block[None])[0]
            start = self.entry.encode_context
            yield latents[start : start + keep // self._ratio]

    def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Codec.decode_stream`."""
        context = self.entry.decode_context
        quiet = np.repeat(self.silence[None], context, axis=0)
        phase = PhaseStream(self.stft)
        for block, keep in _blocks(chunks, BLOCK, context, quiet):
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


def _blocks(
    chunks: Iterable[np.ndarray], size: int, context: int, quiet: np.ndarray
) -> Iterator[tuple[np.ndarray, int]]:
    """Cut a stream of rows into blocks of ``size`` rows with ``context`` rows on both sides.

    Outside the stream the context is ``quiet``. The last block is filled up with it, so that every
    block has the same shape.

    Yields
    ------
    block : ndarray
        ``[context + size + context, columns]``.
    keep : int
        How many of its ``size`` rows belong to the stream.
    """
    buffer = quiet
    whole = size + 2 * context
    for chunk in chunks:
        buffer = np.concatenate([buffer, chunk])
        while len(buffer) >= whole:
            yield np.ascontiguousarray(buffer[:whole]), size
            buffer = buffer[size:]
    left = len(buffer) - context
    filler = (
        np.repeat(quiet[:1], whole, axis=0) if context else np.zeros((whole, *buffer.shape[1:]), np.float32)
    )
    while left > 0:
        buffer = np.concatenate([buffer, filler])[:whole] if len(buffer) < whole else buffer
        yield np.ascontiguousarray(buffer[:whole]), min(size, left)
        buffer = buffer[size:]
        left -= size


def _join(pieces: Iterator[np.ndarray], columns: int) -> np.ndarray:
    parts = list(pieces)
    return np.concatenate(parts) if parts else np.zeros((0, columns), np.float32)

"""Music2Latent behind our codec interface: spectra, blocks and noise around its two graphs.

Music2Latent (Pasini, Lattner, Fazekas, ISMIR 2024) encodes 44.1 kHz audio to 64 channels of about
11 frames a second, and decodes them in one step of a consistency model. Its graphs see real and
imaginary parts of compressed spectra ``0.34 · |X|^0.65 · e^{i·arg X}``, of 1024 bins; the STFT and
its inverse are here. `export.music2latent` makes the graphs from the original package.

Both directions work on a fixed grid of blocks with context on both sides, so a result does not
depend on how the input was cut. The contexts cover what the convolutions can see. But its group
norms take mean and variance over all the time that a call sees, which is the block and its context
here and the whole file (at most a minute) in the package. So blocks are deterministic, and equal to
the package's output for the same span of audio, but not to its output for a longer file.

Noise belongs to the absolute number of a latent frame, so blocks that overlap see the same.

Threading: as the graphs, one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from pkontext.blocks import blocks, joined
from pkontext.manifest import CodecEntry, LatentStats
from pkontext.runtime import Graph
from pkontext.sampler import CODEC_STAGE, window_noise
from pkontext.stft import StftSpec, hann, overlap_add, window_sum

#: Compressed magnitude is ``SCALE * magnitude ** POWER`` (the package's beta and alpha).
SCALE, POWER = 0.34, 0.65
#: Magnitudes below this are silence; keeps the power finite.
_SILENT = np.float32(1e-30)


class Music2LatentCodec:
    """Mono codec of graphs made by `export.music2latent`; see the module.

    Parameters
    ----------
    entry : CodecEntry
        Rates, sizes, block and contexts.
    encoder : Graph
        ``spectrum [1, 2, bins, frames * ratio] → latents [1, frames, dim]``, the package's latents,
        where frames are block and contexts and ratio is STFT frames in a latent frame.
    decoder : Graph
        ``latents [1, frames, dim]``, ``noise [1, 2, bins, frames * ratio]`` (standard normal) →
        ``spectrum [1, 2, bins, frames * ratio]``.
    stats : LatentStats
        What normalises the package's latents to the ones handed out.
    """

    def __init__(self, entry: CodecEntry, encoder: Graph, decoder: Graph, stats: LatentStats) -> None:
        self.entry = entry
        self.stft = StftSpec(entry.n_fft, entry.stft_hop, entry.floor)
        self._encoder, self._decoder = encoder, decoder
        self._ratio = entry.hop // entry.stft_hop
        self._mean, self._std = np.array(stats.mean, np.float32), np.array(stats.std, np.float32)

    @property
    def frame_sec(self) -> float:
        """Seconds of one latent frame."""
        return self.entry.hop / self.entry.sample_rate

    @cached_property
    def silence(self) -> np.ndarray:
        """Latent of silence, ``[dim]``; encoded on first use."""
        return self.encode(np.zeros(self.entry.hop, np.float32))[0]

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Encode audio ``[n]`` or ``[n, 1]`` to latents ``[ceil(n / hop), dim]``."""
        return joined(self.encode_stream([samples]), self.entry.dim)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode latents ``[frames, dim]`` to audio ``[frames * hop, 1]``."""
        return joined(self.decode_stream([latents]), self.entry.channels)

    def encode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `pkontext.codec.Codec.encode_stream`; the last frame is filled up with silence."""
        entry = self.entry
        context = entry.encode_context * entry.hop + self.stft.lead
        samples = (np.asarray(chunk, np.float32).reshape(-1) for chunk in chunks)
        quiet = np.zeros(context, np.float32)
        for block, keep in blocks(samples, entry.block * entry.hop, context, quiet):
            latents = self._encoder(spectrum=compressed_spectrum(block, self.stft)[None])[0]
            start = entry.encode_context
            yield (latents[start : start - (-keep // entry.hop)] - self._mean) / self._std

    def decode_stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `pkontext.codec.Codec.decode_stream`; audio is clipped to ±1."""
        entry, spec, context = self.entry, self.stft, self.entry.decode_context
        rows = (np.asarray(chunk, np.float32) for chunk in chunks)
        first, skip = -context, spec.lead
        begun = np.zeros(spec.n_fft - spec.hop, np.float32)  # sums that further frames complete
        for block, keep in blocks(rows, entry.block, context, self._quiet(context)):
            latents = block * self._std + self._mean
            spectrum = self._decoder(latents=latents[None], noise=self._noise(first, len(block))[None])[0]
            kept = spectrum[:, :, context * self._ratio : (context + keep) * self._ratio]
            summed = samples_from_spectrum(kept, spec)
            summed[: len(begun)] += begun
            samples, begun = summed[skip : keep * entry.hop], summed[keep * entry.hop :]
            yield np.clip(samples, -1, 1)[:, None]
            first, skip = first + entry.block, 0
        if skip == 0:
            yield np.clip(begun[: spec.lead], -1, 1)[:, None]

    def _quiet(self, frames: int) -> np.ndarray:
        """Latents of silence, ``[frames, dim]``."""
        return np.repeat(self.silence[None], frames, axis=0)

    def _noise(self, first: int, frames: int) -> np.ndarray:
        """Standard normal noise of latent frames, ``[2, bins, frames * ratio]``.

        Frames of the context before the stream have negative numbers and noise of their own.
        """
        shape = (2, self.stft.n_fft // 2, self._ratio)
        numbers = (number % 2**48 for number in range(first, first + frames))
        return np.concatenate([window_noise(0, CODEC_STAGE, number, shape) for number in numbers], axis=2)


def compressed_spectrum(samples: np.ndarray, spec: StftSpec) -> np.ndarray:
    """Compressed spectrum of consecutive frames, as the package's ``wv2realimag``.

    Parameters
    ----------
    samples : ndarray
        float32 ``[hop * (frames - 1) + n_fft]``.
    spec : StftSpec

    Returns
    -------
    ndarray
        float32 ``[2, n_fft / 2, frames]``: real and imaginary parts, without the highest bin.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop]
    spectrum = np.fft.rfft(frames * hann(spec.n_fft), axis=1)[:, :-1].T.astype(np.complex64)
    gain = np.float32(SCALE) * np.maximum(np.abs(spectrum), _SILENT) ** np.float32(POWER - 1)
    spectrum = spectrum * gain
    return np.stack([spectrum.real, spectrum.imag])


def samples_from_spectrum(compressed: np.ndarray, spec: StftSpec) -> np.ndarray:
    """Inverse of `compressed_spectrum`, as the package's ``realimag2wv`` without its clipping.

    Parameters
    ----------
    compressed : ndarray
        float32 ``[2, n_fft / 2, frames]``.
    spec : StftSpec

    Returns
    -------
    ndarray
        float32 ``[hop * (frames - 1) + n_fft]``; the first and last ``n_fft - hop`` samples lack
        what frames outside would add.
    """
    spectrum = compressed[0] + 1j * compressed[1]
    gain = (np.abs(spectrum) / np.float32(SCALE)) ** np.float32(1 / POWER - 1) / np.float32(SCALE)
    spectrum = np.pad((spectrum * gain).T, ((0, 0), (0, 1)))
    return overlap_add(spectrum, spec) / np.float32(window_sum(spec))

"""Export Sony's Music2Latent as a codec of ours: ``python -m export music2latent``.

The network is built by its own package and its weights are the user's; neither is part of this
project. Its graphs have a fixed length of block and contexts, because the package's attention
reshapes do not export with a length that may change, and need none.

Contexts
--------
Attention runs over frequency and group norms over everything, so what a frame can see through
convolutions alone is the sum of their reaches in time. In STFT frames (stride × reach):

* encoder: 6·1 + 3·2 + 3·4 + 10·8 = 104, which is 13 latent frames;
* decoder, from a latent: up to its first pyramid level 10·8 + 3·4 + 3·2 + 3·1 + 2·1 = 103, then down
  and up the UNet 9·1 + 5·2 + 5·4 + 8·8 + 5·4 + 5·2 + 10·1 = 143, which is 246 or 31 latent frames.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.graphs import PARITY_ATOL, export_graph, golden, rounded
from pkontext.bundle import CodecEntry, LatentStats, LicenceEntry
from pkontext.codec import open_codec_folder
from pkontext.errors import InputError
from pkontext.music2latent import Music2LatentCodec

KIND = "music2latent"
PACKAGE = "music2latent==0.1.8"
#: Latent frames on each side that convolutions can see; see the module.
ENCODE_CONTEXT, DECODE_CONTEXT = 13, 31
BLOCK = 32

TERMS = "CC BY-NC 4.0 (non-commercial)"
INSTALL = f"Run `pip install {PACKAGE}`; its code and weights are licensed under {TERMS}."
FETCH = (
    f'They are licensed under {TERMS}: fetch them with `python -c "from huggingface_hub import '
    "hf_hub_download as get; print(get('SonyCSLParis/music2latent', 'music2latent.pt'))\"` "
    "and name the printed file with --weights."
)
LICENCE_FILE = "LICENSE.music2latent.txt"
LICENCE_TEXT = """\
encoder.onnx and decoder.onnx in this folder hold the weights of Music2Latent. They are licensed
under Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0), and no other
licence in this folder applies to them.
The licence text: https://creativecommons.org/licenses/by-nc/4.0/legalcode

Attribution
-----------
Music2Latent, Sony Computer Science Laboratories Paris,
https://github.com/SonyCSLParis/music2latent

* M. Pasini, S. Lattner, G. Fazekas, "Music2Latent: Consistency Autoencoders for Latent Audio
  Compression", ISMIR 2024, arXiv:2408.06500

Changes: converted to ONNX graphs of a fixed length, large weights rounded to float16.
"""
LICENCE = LicenceEntry(
    LICENCE_FILE,
    "CC-BY-NC-4.0",
    "Music2Latent weights (Pasini, Lattner, Fazekas 2024; Sony CSL Paris), converted to ONNX",
)


class StepwiseGroupNorm(nn.Module):
    """`nn.GroupNorm` with its means taken one axis after the other.

    ONNX Runtime would sum up to a million and a half float32 numbers into one, and be off by 4e-3
    deviations of the latents where a block is partly silent.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[batch, channels, …]``."""
        grouped = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        centred = grouped - self._mean(grouped)
        normal = centred * torch.rsqrt(self._mean(centred * centred) + self.eps)
        shape = (1, -1, *([1] * (x.ndim - 2)))
        return normal.reshape(x.shape) * self.weight.reshape(shape) + self.bias.reshape(shape)

    @staticmethod
    def _mean(x: Tensor) -> Tensor:
        for axis in range(x.ndim - 1, 1, -1):
            x = x.mean(axis, keepdim=True)
        return x


def with_stepwise_norms(network: nn.Module) -> Any:
    """Copy of a network with its group norms replaced."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, StepwiseGroupNorm(child))
    return network


class EncoderGraph(nn.Module):
    """``spectrum [1, 2, bins, 8 * frames] → latents [1, frames, 64]``, scaled as the package does."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.encoder = with_stepwise_norms(unet.encoder)  # type: ignore[arg-type]
        self.scale: float = _package("hparams_inference").sigma_rescale

    def forward(self, spectrum: Tensor) -> Tensor:
        """Encode a compressed spectrum."""
        return self.encoder(spectrum).transpose(1, 2) / self.scale


class DecoderGraph(nn.Module):
    """``latents [1, frames, 64], noise [1, 2, bins, 8 * frames] → spectrum``, in one step."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = with_stepwise_norms(unet)
        del self.unet.encoder  # which decoding does not use
        self.scale: float = _package("hparams_inference").sigma_rescale
        self.sigma: float = _package("hparams").sigma_max

    def forward(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Decode latents from standard normal noise."""
        return self.unet(latents.transpose(1, 2) * self.scale, noise * self.sigma, self.sigma)


def default_weights() -> Path:
    """Where the package keeps its weights.

    Raises
    ------
    InputError
        ``music2latent.package`` when it is not installed.
    """
    return Path(_package("hparams_inference").load_path_inference_default)


def load_unet(weights: Path) -> nn.Module:
    """Build the package's network and load weights into it.

    The file may hold more than the network needs, as the package allows, but not less.

    Raises
    ------
    InputError
        ``music2latent.package``, ``music2latent.weights`` when there is no such file, and
        ``music2latent.checkpoint`` when the file is not one of Music2Latent.
    """
    unet = _package("models").UNet()
    if not weights.is_file():
        raise InputError("music2latent.weights", f"There are no Music2Latent weights at {weights}.", FETCH)
    try:
        with torch.serialization.safe_globals(_numbers()):
            state = torch.load(weights, map_location="cpu", weights_only=True)["gen_state_dict"]
        missing = unet.load_state_dict(state, strict=False).missing_keys
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, AttributeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _not_a_checkpoint(weights, reason) from error
    if missing:
        raise _not_a_checkpoint(weights, f"{len(missing)} tensors are missing, such as {missing[0]}")
    return unet.eval()


def export_music2latent(
    unet: nn.Module,
    out: Path,
    block: int = BLOCK,
    encode_context: int = ENCODE_CONTEXT,
    decode_context: int = DECODE_CONTEXT,
    excerpts: np.ndarray | None = None,
    threads: int = 0,
) -> dict[str, float]:
    """Write a run folder: graphs, ``codec.json``, ``latent_stats.json``, golden tensors, licence.

    Parameters
    ----------
    unet : nn.Module
        The package's network, see `load_unet`.
    out : Path
    block : int
        Latent frames that one call of a graph keeps.
    encode_context, decode_context : int
        Latent frames on both sides of them.
    excerpts : ndarray, optional
        float32 ``[count, samples]`` to measure the latents' mean and deviation on; without it they
        are 0 and 1.
    threads : int
        Of ONNX Runtime, 0 for all cores.

    Returns
    -------
    dict
        Largest difference of each graph from torch, and of both chains (our STFT, blocks and
        graphs) from the package's functions on the same audio and noise.

    Raises
    ------
    ValueError
        When one of these is larger than `export.graphs.PARITY_ATOL`.
    """
    unet = unet.eval()
    entry = codec_entry(block, encode_context, decode_context)
    generator = torch.Generator().manual_seed(0)
    bins, ratio = entry.n_fft // 2, entry.hop // entry.stft_hop
    encode_frames, decode_frames = block + 2 * encode_context, block + 2 * decode_context
    examples = {
        "encoder": {"spectrum": torch.randn(1, 2, bins, ratio * encode_frames, generator=generator)},
        "decoder": {
            "latents": torch.randn(1, decode_frames, entry.dim, generator=generator),
            "noise": torch.randn(1, 2, bins, ratio * decode_frames, generator=generator),
        },
    }
    modules = {"encoder": EncoderGraph(unet), "decoder": DecoderGraph(unet)}
    outputs = {"encoder": "latents", "decoder": "spectrum"}
    out.mkdir(parents=True, exist_ok=True)
    (out / "latent_stats.json").unlink(missing_ok=True)
    (out / "codec.json").write_text(json.dumps(asdict(entry), indent=1))
    (out / LICENCE_FILE).write_text(LICENCE_TEXT, encoding="utf-8")
    errors: dict[str, float] = {}
    tensors: dict[str, np.ndarray] = {}
    for name, module in modules.items():
        errors[name] = export_graph(module, out / f"{name}.onnx", examples[name], outputs[name])
        tensors |= golden(name, module, examples[name])
    np.savez_compressed(out / "parity.npz", **tensors)  # type: ignore[arg-type]
    codec = open_codec_folder(out, threads, "cpu")
    assert isinstance(codec, Music2LatentCodec)
    errors |= chain_errors(codec, unet)
    far = {name: error for name, error in errors.items() if not error <= PARITY_ATOL}
    if far:
        raise ValueError(f"These differ from the package by more than {PARITY_ATOL:g}: {far}")
    if excerpts is not None:
        stats = measure_stats(codec.encode, excerpts)
        (out / "latent_stats.json").write_text(json.dumps(asdict(stats), indent=1))
    return errors


def codec_entry(
    block: int = BLOCK, encode_context: int = ENCODE_CONTEXT, decode_context: int = DECODE_CONTEXT
) -> CodecEntry:
    """What the runtime must know of Music2Latent, from the package's own constants."""
    constants = _package("hparams")
    return CodecEntry(
        name="music2latent",
        sample_rate=constants.sample_rate,
        channels=1,
        hop=constants.hop * 2 ** constants.freq_downsample_list.count(0),
        dim=constants.bottleneck_channels,
        n_fft=4 * constants.hop,
        stft_hop=constants.hop,
        floor=0.0,
        encode_context=encode_context,
        decode_context=decode_context,
        kind=KIND,
        block=block,
    )


def measure_stats(encode: Callable[[np.ndarray], np.ndarray], excerpts: np.ndarray) -> LatentStats:
    """Mean and deviation of every channel of the latents of audio ``[count, samples]``."""
    latents = np.concatenate([encode(samples) for samples in excerpts]).astype(np.float64)
    deviation = np.maximum(latents.std(0), 1e-6)
    return LatentStats(tuple(map(float, latents.mean(0))), tuple(map(float, deviation)))


def chain_errors(codec: Music2LatentCodec, unet: nn.Module, seed: int = 0) -> dict[str, float]:
    """Compare one block through our chain with the package's functions on the same span of audio.

    The codec's statistics must be 0 and 1. The package runs with weights rounded as stored.

    Returns
    -------
    dict
        Largest absolute differences: of ``encode chain`` in latents, of ``decode chain`` in samples.
    """
    entry, unet = codec.entry, rounded(unet)
    rng = np.random.default_rng(seed)
    seconds = np.arange(entry.block * entry.hop) / entry.sample_rate
    tones = [np.sin(2 * np.pi * rng.uniform(50, 4000) * seconds) / (k + 2) for k in range(12)]
    audio = (0.1 * np.sum(tones, axis=0) + rng.normal(0, 0.01, len(seconds))).astype(np.float32)
    found = codec.encode(audio)
    expected = package_encode(unet, np.pad(audio, entry.encode_context * entry.hop + codec.stft.lead))
    expected = expected[entry.encode_context : entry.encode_context + entry.block]
    errors = {"encode chain": float(np.abs(found - expected).max())}

    context, ratio = entry.decode_context, entry.hop // entry.stft_hop
    around = np.concatenate([codec.silence[None]] * context + [expected] + [codec.silence[None]] * context)
    whole = package_decode(unet, around, codec._noise(-context, len(around)))
    kept = whole[..., context * ratio : (context + entry.block) * ratio]
    samples = package_samples(kept)[codec.stft.lead :][: len(audio)]
    return errors | {"decode chain": float(np.abs(codec.decode(expected)[:, 0] - samples).max())}


def package_encode(unet: nn.Module, samples: np.ndarray) -> np.ndarray:
    """Latents ``[frames, dim]`` of the package's own encoding of samples ``[n]``, in one piece."""
    encode = _package("inference").encode_audio_inference
    return encode(samples, SimpleNamespace(gen=unet), 10**9, 1, torch.device("cpu"))[0].T.numpy()


def package_decode(unet: nn.Module, latents: np.ndarray, noise: np.ndarray) -> Tensor:
    """Spectrum of the package's one-step decoding of latents ``[frames, dim]`` from given noise."""
    steps, constants = _package("utils"), _package("hparams_inference")
    latent = torch.from_numpy(latents.T * np.float32(constants.sigma_rescale))[None]
    start = torch.from_numpy(noise)[None] * _package("hparams").sigma_max
    return steps.reverse_diffusion(unet, start, 1, latents=latent)


def package_samples(spectrum: Tensor) -> np.ndarray:
    """Samples ``[n]`` of the package's inverse STFT of a compressed spectrum."""
    return _package("audio").to_waveform(spectrum)[0].numpy()


def _package(module: str) -> Any:
    """Import a module of the package."""
    import importlib

    try:
        return importlib.import_module(f"music2latent.{module}")
    except ImportError as error:
        raise InputError(
            "music2latent.package", f"The package music2latent cannot be imported ({error}).", INSTALL
        ) from error


def _numbers() -> list[Any]:
    """NumPy's scalars, such as a loss, which may stand beside the weights and cannot run code."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _not_a_checkpoint(weights: Path, reason: str) -> InputError:
    return InputError(
        "music2latent.checkpoint", f"{weights} does not hold the weights of Music2Latent ({reason}).", FETCH
    )

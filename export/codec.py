"""Export a trained piano codec: two graphs and the entry that describes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from export.graphs import Store, export_graph, golden
from pkontext.bundle import CodecEntry
from train.codec_model import Codec, CodecConfig
from train.fine_model import FineCodec, FineConfig

SAMPLE_RATE = 44100
STORE: Store = "int8"


def codec_entry(config: CodecConfig | FineConfig, name: str = "piano-logmag") -> CodecEntry:
    """What the runtime must know of a codec of this configuration."""
    stft = config.stft
    return CodecEntry(
        name=name,
        sample_rate=SAMPLE_RATE,
        channels=1,
        hop=stft.hop * config.frames_per_latent,
        dim=config.dim,
        n_fft=stft.n_fft,
        stft_hop=stft.hop,
        floor=stft.floor,
        encode_context=config.encode_context,
        decode_context=config.decode_context,
    )


def export_codec(model: Codec | FineCodec, out: Path, name: str = "piano-logmag") -> dict[str, float]:
    """Write ``encoder.onnx``, ``decoder.onnx`` and ``codec.json``, with linear layers as int8.

    Returns
    -------
    dict
        Largest difference from torch of each graph.
    """
    config = model.encoder.config
    stft, frames = config.stft, 6
    generator = torch.Generator().manual_seed(0)
    log_mag = torch.randn(1, frames * config.frames_per_latent, stft.bins, generator=generator) - 3
    latents = torch.randn(1, frames, config.dim, generator=generator)
    out.mkdir(parents=True, exist_ok=True)
    errors = {
        "encoder": export_graph(
            model.encoder,
            out / "encoder.onnx",
            {"log_mag": log_mag},
            "latents",
            {"log_mag": {1: "stft_frames"}},
            STORE,
        ),
        "decoder": export_graph(
            model.decoder,
            out / "decoder.onnx",
            {"latents": latents},
            "log_mag",
            {"latents": {1: "frames"}},
            STORE,
        ),
    }
    tensors = golden("encoder", model.encoder, {"log_mag": log_mag}, STORE)
    tensors |= golden("decoder", model.decoder, {"latents": latents}, STORE)
    np.savez_compressed(out / "parity.npz", **tensors)  # type: ignore[arg-type]
    (out / "codec.json").write_text(json.dumps(asdict(codec_entry(config, name)), indent=1))
    return errors

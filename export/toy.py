"""A tiny bundle with untrained weights, so that tests run every real stage in a second.

Sizes are small, everything else is as in a trained bundle: the codec starts from a PCA of
synthesised notes, the networks are random and export like any other.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from export.bundle import write_bundle
from export.codec import export_codec
from pkontext import synth
from pkontext.bundle import PACKAGE_DATA, LicenceEntry, SamplerEntry
from pkontext.curves import CHANNELS
from pkontext.features import CURVE_LOCAL, local_channels
from pkontext.stft import StftSpec, log_magnitude
from pkontext.types import NOTE
from train.codec_model import Codec, CodecConfig
from train.dit_model import DiT, DiTConfig

SAMPLER = SamplerEntry(
    solver="dpmpp",
    curve_steps=2,
    latent_steps=2,
    curve_window=128,
    curve_overlap=32,
    latent_window=48,
    latent_overlap=12,
    context_frames=72,
    guidance=1.0,
    temperature=1.0,
    tempo_spread=1.0,
    loudness_spread=1.0,
    conditioning="notes",
)


def build_toy_bundle(folder: Path, seed: int = 0) -> Path:
    """Write a toy bundle to ``folder`` and return it."""
    torch.manual_seed(seed)
    codec = _toy_codec()
    parts = folder.with_name(folder.name + "-codec")
    export_codec(codec, parts, name="toy")
    dim = codec.encoder.config.dim
    curve_model = DiT(DiTConfig(len(CHANNELS), CURVE_LOCAL, width=32, depth=1, heads=2)).eval()
    latent_model = DiT(DiTConfig(dim, local_channels(dim), context=dim, width=32, depth=1, heads=2)).eval()
    mean = [0.0] + [64.0] * 4 + [0.0] * 4 + [-0.3] * 2 + [0.5]
    std = [0.2] + [12.0] * 4 + [0.01] * 4 + [0.3] * 2 + [0.4]
    licence = LicenceEntry("LICENCE.txt", "CC0-1.0", "Untrained weights for tests")
    return write_bundle(
        folder, parts, curve_model, latent_model, {"mean": mean, "std": std}, SAMPLER,
        identity="toy", version="0", training={"data": "none"},
        documents={"LICENCE.txt": "Untrained weights for tests. CC0 1.0.\n"}, licences=(licence,),
    )  # fmt: skip


def _toy_codec() -> Codec:
    """PCA codec of a scale through the bundled soundfont; no training."""
    config = CodecConfig(
        width=48, latent_width=64, dim=32, encoder_blocks=(1, 0), decoder_blocks=(0, 1), expansion=1
    )
    model = Codec(config)
    notes = np.zeros(40, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(40) * 0.15, 0.4
    notes["pitch"], notes["velocity"] = 30 + (np.arange(40) * 7) % 60, 40 + (np.arange(40) * 13) % 70
    spec = synth.SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
    events = synth.events_from_notes(notes, None, spec.sample_rate)
    stft = StftSpec()
    audio = np.concatenate(list(synth.render(events, spec, 72 * 4096)))[:, 0]
    log_mag = torch.from_numpy(log_magnitude(np.pad(audio, stft.lead), stft))[None]
    model.init_pca(log_mag)
    model.calibrate([log_mag])
    return model.eval()

"""A bundle's weights come back into torch, whichever way they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.bundle import write_bundle
from export.codec import export_codec
from export.dit import example_inputs, export_dit, load_dit
from export.graphs import Store, export_graph, rounded
from export.toy import SAMPLER
from pkontext.bundle import open_bundle
from pkontext.curves import CHANNELS
from pkontext.errors import BundleError
from pkontext.features import CURVE_LOCAL, local_channels
from train.codec import load_codec
from train.codec_model import CodecConfig
from train.dit_model import DiT, DiTConfig
from train.fine_model import FineCodec, FineConfig
from train.loop import run_record
from train.restore import restore, restore_bundle

CODEC = FineConfig(
    CodecConfig(width=48, latent_width=96, dim=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1)),
    fine=48,
    fine_width=24,
)
LATENTS = DiTConfig(
    CODEC.dim, local_channels(CODEC.dim), context=CODEC.dim, patch=4, width=64, depth=2, heads=4
)
CURVES = DiTConfig(len(CHANNELS), CURVE_LOCAL, width=64, depth=1, heads=4, stride=2)


def stirred(module: nn.Module) -> nn.Module:
    """With random weights everywhere, also where a network starts with zeros."""
    torch.manual_seed(0)
    for value in module.parameters():
        nn.init.normal_(value, std=0.1)
    return module.eval()


@pytest.mark.parametrize("store", ["float32", "half", "int8"])
@pytest.mark.parametrize("config", [LATENTS, CURVES])
def test_weights_come_back_as_they_were_stored(tmp_path: Path, config: DiTConfig, store: Store) -> None:
    model = stirred(DiT(config))
    assert export_dit(model, 48, tmp_path / "dit.onnx", store) < 1e-4
    again = DiT(config)
    restore(again, tmp_path / "dit.onnx", example_inputs(config, 48))
    for name, value in rounded(model, store).state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-6, rtol=1e-3, msg=name)


def test_whole_numbers_take_a_quarter_of_the_room(tmp_path: Path) -> None:
    model = stirred(nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 128)))
    x = {"input": torch.randn(1, 7, 256)}
    sizes = {}
    for store in ("float32", "half", "int8"):
        assert export_graph(model, tmp_path / store, x, "y", None, store) < 1e-4  # type: ignore[arg-type]
        sizes[store] = (tmp_path / store).stat().st_size
    assert sizes["half"] < 0.52 * sizes["float32"] and sizes["int8"] < 0.28 * sizes["float32"]
    exact = model(x["input"])
    with torch.no_grad():
        off = (rounded(model, "int8")(x["input"]) - exact).abs().max() / exact.abs().max()
    assert 0 < float(off) < 0.02  # 0.007 measured


def test_a_graph_of_other_sizes_is_refused(tmp_path: Path) -> None:
    export_dit(stirred(DiT(CURVES)), 48, tmp_path / "dit.onnx")
    other = DiT(DiTConfig(len(CHANNELS), CURVE_LOCAL, width=32, depth=1, heads=4, stride=2))
    with pytest.raises(BundleError, match="does not fit") as caught:
        restore(other, tmp_path / "dit.onnx", example_inputs(CURVES, 48))
    assert caught.value.code == "restore.fit" and "same sizes" in caught.value.hint


def build(folder: Path, training: dict) -> Path:
    codec = folder / "codec"
    export_codec(stirred(FineCodec(CODEC)), codec)  # type: ignore[arg-type]
    stats = {"mean": [0.0] * len(CHANNELS), "std": [1.0] * len(CHANNELS)}
    return write_bundle(
        folder / "bundle", codec, stirred(DiT(CURVES)), stirred(DiT(LATENTS)), stats, SAMPLER,  # type: ignore[arg-type]
        identity="small", version="4", training=training,
    )  # fmt: skip


def test_run_folders_of_a_bundle_are_what_it_was_made_of(tmp_path: Path) -> None:
    sizes = {"codec": CODEC, "curves": CURVES, "latents": LATENTS}
    training = {part: {"steps": 3, "sizes": config.to_dict()} for part, config in sizes.items()}
    bundle = build(tmp_path, training)
    folders = restore_bundle(bundle, tmp_path / "runs")
    assert [folder.name for folder in folders] == ["codec", "curves", "latents"]
    codec = load_codec(folders[0])
    assert codec.encoder.config == CODEC
    want = rounded(stirred(FineCodec(CODEC)), "int8").state_dict()
    for name, value in codec.state_dict().items():
        torch.testing.assert_close(value, want[name], atol=1e-6, rtol=1e-3, msg=name)
    latents, meta = load_dit(folders[2])
    assert latents.config == LATENTS and meta["conditioning"] == "notes"
    assert run_record(folders[2]) == training["latents"] | {"bundle": "small 4"}
    stored = json.loads((folders[0] / "codec.json").read_text())
    assert stored["dim"] == CODEC.dim == open_bundle(bundle).manifest.codec.dim
    assert (folders[0] / "encoder.onnx").read_bytes() == (bundle / "encoder.onnx").read_bytes()
    _, curve_meta = load_dit(folders[1])
    assert np.array_equal(curve_meta["stats"]["std"], np.ones(len(CHANNELS)))


def test_a_bundle_that_does_not_say_its_sizes_is_refused(tmp_path: Path) -> None:
    bundle = build(tmp_path, {"codec": {"steps": 3}})
    with pytest.raises(BundleError, match="sizes of its codec") as caught:
        restore_bundle(bundle, tmp_path / "runs")
    assert caught.value.code == "restore.sizes" and "version 4" in caught.value.hint

"""Weights of a bundle's graphs back into torch, to train its networks on or to start others from.

The exporter keeps the names of most tensors; the weights of linear layers it transposes and renames. Those
are found by the order in which the layers act, which is the order of the products in the graph.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from pkontext.bundle import Bundle, open_bundle
from pkontext.errors import BundleError


def restore_bundle(folder: Path, runs: Path) -> list[Path]:
    """Make run folders ``codec``, ``curves`` and ``latents`` of a bundle.

    They can be exported again, trained on from (``--init``) or extended (``train fine``), but not resumed: a
    bundle holds no state of the optimizer.

    Returns
    -------
    list of Path
        The folders.

    Raises
    ------
    BundleError
        When the bundle is damaged, does not say the sizes of its networks, or has another codec than ours.
    """
    from export.dit import example_inputs
    from train.codec import make_codec, save_calibrated
    from train.dit_model import DiT, DiTConfig

    bundle = open_bundle(folder)
    entry, sampler = bundle.manifest.codec, bundle.manifest.sampler
    codec = make_codec(_sizes(bundle, "codec"))
    ratio = entry.hop // entry.stft_hop
    restore(
        codec.encoder,
        bundle.graph_path("encoder"),
        {"log_mag": torch.zeros(1, 2 * ratio, entry.n_fft // 2 + 1)},
    )
    restore(codec.decoder, bundle.graph_path("decoder"), {"latents": torch.zeros(1, 2, entry.dim)})
    out = _begin(bundle, runs, "codec", {"codec": _sizes(bundle, "codec")})
    save_calibrated(codec, out)
    for name in ("encoder", "decoder"):
        shutil.copyfile(bundle.graph_path(name), out / f"{name}.onnx")
    described = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["codec"]
    (out / "codec.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    folders = [out]
    curves = {
        "mean": [c.mean for c in bundle.manifest.curves],
        "std": [c.std for c in bundle.manifest.curves],
    }
    for part, frames, more in (
        ("curves", sampler.curve_window, {"stats": curves}),
        ("latents", sampler.latent_window, {"conditioning": sampler.conditioning}),
    ):
        config = DiTConfig(**_sizes(bundle, part))
        model = DiT(config)
        restore(model, bundle.graph_path(f"dit_{part}"), example_inputs(config, frames))
        out = _begin(bundle, runs, part, {"dit": config.to_dict(), "frames": frames, **more})
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "model.safetensors")
        folders.append(out)
    return folders


def _begin(bundle: Bundle, runs: Path, part: str, meta: dict[str, Any]) -> Path:
    out = runs / part
    out.mkdir(parents=True, exist_ok=True)
    training = bundle.manifest.training
    record = training[part] | {"bundle": f"{bundle.manifest.id} {bundle.manifest.version}"}
    loop = {"seed": training.get("seed", 0)}
    (out / "config.json").write_text(json.dumps({**meta, "loop": loop, "record": record}, indent=1))
    return out


def _sizes(bundle: Bundle, part: str) -> dict[str, Any]:
    """Sizes of a network, which the bundle's record of its training holds."""
    record = bundle.manifest.training.get(part)
    if not isinstance(record, dict) or "sizes" not in record:
        raise BundleError(
            "restore.sizes",
            f"{bundle.path} does not say the sizes of its {part} network, so it cannot be trained on.",
            "Use a bundle of version 4 or later, or the run folders themselves.",
        )
    return record["sizes"]


@torch.no_grad()
def restore(module: nn.Module, graph: Path, inputs: dict[str, Tensor]) -> None:
    """Set all weights and buffers of a module to those of an ONNX graph.

    Parameters
    ----------
    module : nn.Module
        Of the class and sizes that were exported; changed in place, left in evaluation mode.
    graph : Path
        A graph of `export.graphs.export_graph`.
    inputs : dict
        Any valid inputs by name; the module is run on them once to learn the order of its layers.

    Raises
    ------
    BundleError
        ``restore.fit`` when a weight is missing in the graph, or has another size than the module's.
    """
    model = onnx.load(str(graph))
    stored = _weights(model)
    products = [
        stored[name]
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm")
        for name in node.input[1:2]
        if name in stored and not (node.op_type == "Gemm" and name.endswith(".weight"))
    ]
    renamed = iter(products)
    found: dict[str, np.ndarray] = {}
    for name in _linear_weights(module.eval(), inputs):
        found[name] = stored[name] if name in stored else next(renamed, np.empty(0)).T
    for name, value in module.state_dict().items():
        source = found.get(name, stored.get(name))
        if source is None or source.shape != tuple(value.shape):
            has = "no such weight" if source is None else f"one of size {list(source.shape)}"
            raise BundleError(
                "restore.fit",
                f"{graph.name} does not fit: {name} needs size {list(value.shape)}, the graph has {has}.",
                "Name the bundle or run folder that was trained with the same sizes.",
            )
        value.copy_(torch.from_numpy(source.astype(np.float32)))


def _weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Tensors of a graph by name, whichever way they are stored (see `export.graphs`)."""
    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for name, value in raw.items():
        plain = name.removesuffix("__int8").removesuffix("__half")
        scaled = name.endswith("__int8")
        found[plain] = value.astype(np.float32) * raw[f"{plain}__scale"] if scaled else value
    return found


def _linear_weights(module: nn.Module, inputs: dict[str, Tensor]) -> Iterator[str]:
    """Names of the weights of the linear layers, in the order in which they act on the inputs."""
    order: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: order.append(f"{name}.weight"))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    module(**inputs)
    for hook in hooks:
        hook.remove()
    return iter(order)

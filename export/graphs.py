"""Torch modules to ONNX graphs with float16 weights, each checked against torch.

Weights are stored as float16 with a cast to float32 behind each; ONNX Runtime folds the casts
when it loads a graph, so files are half as large and arithmetic stays float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
#: ONNX Runtime against torch, on values of about unit size.
PARITY_ATOL = 2e-3
#: Initializers smaller than this stay float32; they are norms, biases and constants.
_HALF_FROM = 4096


def export_graph(
    module: nn.Module,
    path: Path,
    inputs: dict[str, Tensor],
    output: str,
    dynamic: dict[str, dict[int, str]] | None = None,
    half: bool = True,
) -> float:
    """Write a module as an ONNX graph and compare it with torch on the given inputs.

    Parameters
    ----------
    module : nn.Module
    path : Path
        The ``.onnx`` file.
    inputs : dict
        Example inputs by name, in the order of ``forward``.
    output : str
        Name of the output.
    dynamic : dict, optional
        Axes that may change: input name → axis → symbol.
    half : bool
        Store large weights as float16. Torch is compared with weights rounded the same way, so
        the number returned is the error of the graph, not of the rounding.

    Returns
    -------
    float
        Largest absolute difference.
    """
    module = module.eval()
    if half:
        module = rounded(module)
    dims = {
        name: {axis: torch.export.Dim(symbol, min=2, max=65536) for axis, symbol in axes.items()}
        for name, axes in (dynamic or {}).items()
    }
    shared: dict[str, object] = {}
    for axes in dims.values():
        for axis, dim in axes.items():
            axes[axis] = shared.setdefault(dim.__name__, dim)
    program = torch.onnx.export(
        module,
        kwargs=inputs,
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes={name: dims.get(name, {}) for name in inputs} if dims else None,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    if half:
        _store_half(model)
    _strip(model)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {k: v.numpy() for k, v in inputs.items()})[0]
    with torch.no_grad():
        want = module(**inputs).numpy()
    return float(np.abs(got - want).max())


def graph_signature(path: Path) -> tuple[list[dict], list[dict], int]:
    """Inputs and outputs (name, dtype, shape) and opset of a graph file."""
    model = onnx.load(str(path), load_external_data=False)

    def entries(values: object) -> list[dict]:
        return [
            {
                "name": v.name,
                "dtype": np.dtype(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)).name,
                "shape": [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            }
            for v in values  # type: ignore[attr-defined]
        ]

    return entries(model.graph.input), entries(model.graph.output), model.opset_import[0].version


def parameters(path: Path) -> int:
    """How many numbers the weights of a graph file have."""
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load(str(path)).graph.initializer)


def golden(role: str, module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Inputs and torch's output, with the weights as stored, as `pkontext.parity` reads them."""
    with torch.no_grad():
        expected = rounded(module.eval())(**inputs).numpy()
    return {f"{role}/in/{key}": value.numpy() for key, value in inputs.items()} | {f"{role}/out": expected}


def rounded(module: nn.Module) -> nn.Module:
    """Copy with every weight that will be stored as float16 rounded to it."""
    import copy

    module = copy.deepcopy(module)
    with torch.no_grad():
        for value in module.parameters():
            if value.numel() >= _HALF_FROM:
                value.copy_(value.half().float())
    return module


def _store_half(model: onnx.ModelProto) -> None:
    graph = model.graph
    casts = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _HALF_FROM:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        name = tensor.name
        graph.initializer[index].CopyFrom(numpy_helper.from_array(half, f"{name}__half"))
        casts.append(helper.make_node("Cast", [f"{name}__half"], [name], to=TensorProto.FLOAT))
    for value in list(graph.value_info):
        graph.value_info.remove(value)
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def _strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes, which name source files of the machine it ran on."""
    model.doc_string = ""
    model.producer_name = "pkontext"
    model.producer_version = ""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        value.doc_string = ""
        del value.metadata_props[:]

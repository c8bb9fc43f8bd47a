"""Torch modules to ONNX graphs with small weights, each checked against torch.

Weights are stored as float16 with a cast to float32 behind each, or, those of linear layers, as int8 with
a scale for each output. ONNX Runtime folds the casts and products when it loads a graph, so files are a
half or a quarter as large and arithmetic stays float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
_SMALL_FROM = 4096
#: How large weights can be stored.
Store = Literal["float32", "half", "int8"]


def export_graph(
    module: nn.Module,
    path: Path,
    inputs: dict[str, Tensor],
    output: str,
    dynamic: dict[str, dict[int, str]] | None = None,
    store: Store = "half",
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
    store : str
        How to keep large weights: float32, float16 ("half"), or linear layers as "int8" and the rest as
        float16. Torch is compared with weights rounded the same way, so the number returned is the error of
        the graph, not of the rounding.

    Returns
    -------
    float
        Largest absolute difference.
    """
    module = rounded(module.eval(), store)
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
    _store_small(model, store)
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


def golden(
    role: str, module: nn.Module, inputs: dict[str, Tensor], store: Store = "half"
) -> dict[str, np.ndarray]:
    """Inputs and torch's output, with the weights as stored, as `pkontext.parity` reads them."""
    with torch.no_grad():
        expected = rounded(module.eval(), store)(**inputs).numpy()
    return {f"{role}/in/{key}": value.numpy() for key, value in inputs.items()} | {f"{role}/out": expected}


def rounded(module: nn.Module, store: Store = "half") -> nn.Module:
    """Copy with every weight rounded to what will be stored."""
    import copy

    module = copy.deepcopy(module)
    if store == "float32":
        return module
    linear = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)}
    with torch.no_grad():
        for value in module.parameters():
            if value.numel() < _SMALL_FROM:
                continue
            if store == "int8" and id(value) in linear:
                whole, scale = _as_int8(value.numpy().T)
                value.copy_(torch.from_numpy((whole.astype(np.float32) * scale).T))
            else:
                value.copy_(value.half().float())
    return module


def _as_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[inputs, outputs]`` as whole numbers up to 127 and a float32 scale ``[1, outputs]``."""
    scale = np.maximum(np.abs(weight).max(0, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(weight / scale).astype(np.int8), scale


def _linear_layers(graph: onnx.GraphProto) -> dict[str, bool]:
    """Names of the weights of linear layers, and whether their first axis is that of the outputs."""
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            found[node.input[1]] = False
        elif node.op_type == "Gemm":
            found[node.input[1]] = any(a.name == "transB" and a.i for a in node.attribute)
    return found


def _store_small(model: onnx.ModelProto, store: Store) -> None:
    """Replace large float32 weights by smaller ones and the nodes that make them float32 again."""
    if store == "float32":
        return
    graph = model.graph
    outputs_first = _linear_layers(graph)
    nodes = []
    scales = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL_FROM:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if store == "int8" and name in outputs_first and values.ndim == 2:
            turned = outputs_first[name]
            whole, scale = _as_int8(values.T if turned else values)
            whole, scale = (x.T.copy() if turned else x for x in (whole, scale))
            graph.initializer[index].CopyFrom(numpy_helper.from_array(whole, f"{name}__int8"))
            scales.append(numpy_helper.from_array(scale, f"{name}__scale"))
            nodes.append(
                helper.make_node("Cast", [f"{name}__int8"], [f"{name}__whole"], to=TensorProto.FLOAT)
            )
            nodes.append(helper.make_node("Mul", [f"{name}__whole", f"{name}__scale"], [name]))
        else:
            half = numpy_helper.from_array(values.astype(np.float16), f"{name}__half")
            graph.initializer[index].CopyFrom(half)
            nodes.append(helper.make_node("Cast", [f"{name}__half"], [name], to=TensorProto.FLOAT))
    graph.initializer.extend(scales)
    for value in list(graph.value_info):
        graph.value_info.remove(value)
    for node in reversed(nodes):
        graph.node.insert(0, node)


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

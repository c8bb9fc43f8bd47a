"""ONNX Runtime sessions: one way to open a graph, on CPU or GPU, with clear errors.

A session may be used by one thread at a time. ONNX Runtime is imported on first use, and its
worker threads do not spin, so an idle app uses no CPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.errors import BundleError, ProviderError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Graph:
    """An opened ONNX graph with one output.

    Parameters
    ----------
    path : Path
        A verified ``.onnx`` file.
    threads : int
        Threads inside an operator; 0 means all cores.
    provider : str
        ``"cpu"``, ``"cuda"`` or ``"auto"`` (CUDA where it works, else CPU).

    Raises
    ------
    ProviderError
        ``provider.missing`` without ONNX Runtime, ``provider.unavailable`` when CUDA was asked for
        and cannot be used.
    BundleError
        ``bundle.graph`` when the file is not a graph that this ONNX Runtime can run.
    """

    def __init__(self, path: Path, threads: int = 0, provider: str = "auto") -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(ort, provider)
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime has no common class of its errors
            raise BundleError(
                "bundle.graph",
                f"ONNX Runtime cannot open {path.name} ({str(error).partition(chr(10))[0]}).",
                "Run `pkontext bundle verify`, and update onnxruntime if the bundle is newer than it.",
            ) from error
        self.provider: str = self._session.get_providers()[0]
        if provider == "cuda" and self.provider != PROVIDERS["cuda"]:
            raise ProviderError(
                "provider.unavailable",
                "CUDA was asked for, but ONNX Runtime could not start it.",
                "Install a CUDA driver and `pip install 'pkontext[gpu]'`, or use --provider cpu.",
            )

    def __call__(self, **inputs: np.ndarray) -> np.ndarray:
        """Run the graph and return its first output."""
        return self._session.run(None, inputs)[0]


def available_providers() -> list[str]:
    """Names that ONNX Runtime was built with; being listed does not mean that it works."""
    return list(_onnxruntime().get_available_providers())


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            "provider.missing",
            f"ONNX Runtime is not installed ({error}).",
            "Run `pip install 'pkontext[cpu]'`, or `pip install 'pkontext[gpu]'` for an NVIDIA GPU.",
        ) from error
    return onnxruntime


def _providers(ort: Any, provider: str) -> list[str]:
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    listed = PROVIDERS["cuda"] in ort.get_available_providers()
    if provider == "cuda" and not listed:
        raise ProviderError(
            "provider.unavailable",
            "CUDA was asked for, but the installed ONNX Runtime has no CUDA support.",
            "Run `pip install 'pkontext[gpu]'` in a fresh environment, or use --provider cpu.",
        )
    if listed:
        ort.preload_dlls()
        return [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    return [PROVIDERS["cpu"]]

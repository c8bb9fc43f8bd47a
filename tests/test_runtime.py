"""Opening graphs: every way it fails ends in one clear error of the right class."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pkontext import runtime
from pkontext.bundle import open_bundle
from pkontext.errors import BundleError, ProviderError
from pkontext.runtime import Graph, available_providers


@pytest.fixture(scope="module")
def encoder(toy_bundle: Path) -> Path:
    return open_bundle(toy_bundle).graph_path("encoder")


def run(graph: Graph) -> np.ndarray:
    log_mag = np.random.default_rng(0).normal(-2, 1, (1, 80, 1025)).astype(np.float32)
    return graph(log_mag=log_mag)


def test_a_graph_runs_and_gives_its_output(encoder: Path) -> None:
    graph = Graph(encoder, threads=1, provider="cpu")
    assert graph.provider == "CPUExecutionProvider"
    found = run(graph)
    assert found.shape == (1, 10, 32) and found.dtype == np.float32
    assert np.array_equal(found, run(graph))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_number_of_threads_hardly_changes_the_result(encoder: Path, threads: int) -> None:
    alone = run(Graph(encoder, threads=1, provider="cpu"))
    assert np.abs(run(Graph(encoder, threads=threads, provider="cpu")) - alone).max() < 1e-5


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
def test_a_damaged_graph_is_a_bundle_error(tmp_path: Path, encoder: Path, damage: str) -> None:
    path = tmp_path / "encoder.onnx"
    data = encoder.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "noise": b"\xff" * 4096, "empty": b""}[damage])
    with pytest.raises(BundleError) as caught:
        Graph(path, threads=1, provider="cpu")
    assert caught.value.code == "bundle.graph"
    assert "encoder.onnx" in caught.value.message and "\n" not in caught.value.message
    assert "pkontext bundle verify" in caught.value.hint


def test_cuda_where_there_is_none_is_a_provider_error(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError) as caught:
        Graph(encoder, threads=1, provider="cuda")
    assert caught.value.code == "provider.unavailable"
    assert "pkontext[gpu]" in caught.value.hint and "--provider cpu" in caught.value.hint


def test_cuda_that_does_not_start_is_a_provider_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime then falls back to the CPU without a word; who asked for CUDA must hear of it."""
    fake_onnxruntime(monkeypatch, runs_on=["CPUExecutionProvider"])
    with pytest.raises(ProviderError) as caught:
        Graph(Path("any.onnx"), provider="cuda")
    assert caught.value.code == "provider.unavailable"


def test_auto_takes_cuda_where_it_works_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_onnxruntime(monkeypatch, runs_on=["CPUExecutionProvider"])
    assert Graph(Path("any.onnx")).provider == "CPUExecutionProvider"
    fake_onnxruntime(monkeypatch, runs_on=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert Graph(Path("any.onnx")).provider == "CUDAExecutionProvider"
    assert Graph(Path("any.onnx"), provider="cuda").provider == "CUDAExecutionProvider"


def fake_onnxruntime(monkeypatch: pytest.MonkeyPatch, runs_on: list[str]) -> None:
    """An ONNX Runtime with CUDA support whose sessions run on the given providers."""
    options = SimpleNamespace(add_session_config_entry=lambda name, value: None)
    session = SimpleNamespace(get_providers=lambda: runs_on)
    fake = SimpleNamespace(
        SessionOptions=lambda: options,
        InferenceSession=lambda path, options, providers: session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: None,
    )
    monkeypatch.setattr(runtime, "_onnxruntime", lambda: fake)


def test_without_onnxruntime_the_error_says_what_to_install(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for attempt in (lambda: Graph(encoder), available_providers):
        with pytest.raises(ProviderError) as caught:
            attempt()
        assert caught.value.code == "provider.missing"
        assert "pip install 'pkontext[cpu]'" in caught.value.hint


def test_the_processor_is_always_listed() -> None:
    assert "CPUExecutionProvider" in available_providers()

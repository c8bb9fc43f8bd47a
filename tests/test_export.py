"""Exported graphs compute what torch computed, are half as large, and tell nothing about the machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn

import export.bundle as writer
from export.codec import codec_entry, export_codec
from export.graphs import graph_signature, rounded
from export.toy import SAMPLER
from pkontext import bundle as bundles
from pkontext.curves import CHANNELS
from pkontext.errors import BundleError
from pkontext.features import CURVE_LOCAL, local_channels
from pkontext.parity import check_parity, read_golden
from train.codec_model import Block, Codec, CodecConfig
from train.dit_model import DiT, DiTConfig

CONFIG = CodecConfig(width=32, latent_width=32, dim=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
ROLES = ("decoder", "dit_curves", "dit_latents", "encoder")


@pytest.fixture(scope="module")
def codec() -> Codec:
    """A random codec whose blocks, which start as the identity, have an effect."""
    torch.manual_seed(0)
    model = Codec(CONFIG).eval()
    for module in model.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.down.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def codec_folder(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that the codec was exported to."""
    folder = tmp_path_factory.mktemp("codec")
    errors = export_codec(codec, folder)
    assert set(errors) == {"encoder", "decoder"} and max(errors.values()) < 1e-5  # 1e-6 measured
    return folder


def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """Output of a graph in ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def graphs(folder: Path) -> dict[str, onnx.ModelProto]:
    """The graphs of a folder by file name."""
    return {path.name: onnx.load(str(path)) for path in sorted(folder.glob("*.onnx"))}


# ---- graphs -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 5, 33])
def test_codec_graphs_equal_torch_at_any_length(codec: Codec, codec_folder: Path, frames: int) -> None:
    """They were traced at 8 frames. Torch has the weights as stored; the rounding itself costs little."""
    torch.manual_seed(frames)
    for name, module, x in (
        ("log_mag", codec.encoder, torch.randn(1, 8 * frames, CONFIG.bins) - 3),
        ("latents", codec.decoder, torch.randn(1, frames, CONFIG.dim)),
    ):
        found = run(
            codec_folder / f"{'encoder' if name == 'log_mag' else 'decoder'}.onnx", **{name: x.numpy()}
        )
        exact = module(x).numpy()
        np.testing.assert_allclose(found, rounded(module, "int8")(x).numpy(), atol=1e-5)  # 1e-6 measured
        off = np.abs(found - exact).max()
        assert 0 < off < 0.02 * np.abs(exact).max()


def test_rounding_leaves_the_model_alone(codec: Codec) -> None:
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    copy = rounded(codec)
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
    large = copy.encoder.inp.weight  # type: ignore[union-attr]
    assert torch.equal(large, large.half().float()) and not torch.equal(large, codec.encoder.inp.weight)
    assert torch.equal(copy.encoder.out.bias, codec.encoder.out.bias)  # type: ignore[union-attr]


def test_large_weights_are_stored_small(codec_folder: Path, toy_bundle: Path) -> None:
    """The curve network as float16, linear layers of the others as int8."""
    for folder in (codec_folder, toy_bundle):
        for name, model in graphs(folder).items():
            large = {t.data_type for t in model.graph.initializer if np.prod(t.dims) >= 4096}
            if name == "dit_curves.onnx":
                assert large == {TensorProto.FLOAT16}
            else:
                assert TensorProto.INT8 in large and large <= {TensorProto.FLOAT16, TensorProto.INT8}, name
    for name in ("encoder.onnx", "decoder.onnx"):  # here nearly all weights are in large matrices
        count = sum(int(np.prod(t.dims)) for t in graphs(toy_bundle)[name].graph.initializer)
        assert (toy_bundle / name).stat().st_size < 0.35 * 4 * count


def test_graphs_tell_nothing_about_the_machine(codec_folder: Path, toy_bundle: Path) -> None:
    private = (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages", b".py", str(Path.home()).encode())
    for folder in (codec_folder, toy_bundle):
        for name, model in graphs(folder).items():
            data = (folder / name).read_bytes()
            assert not [word for word in private if word in data], name
            assert not model.functions and not model.metadata_props
            described = [model, model.graph, *model.graph.node, *model.graph.initializer]
            described += [*model.graph.input, *model.graph.output, *model.graph.value_info]
            assert not any(part.doc_string for part in described), name


def test_codec_entry_is_what_was_exported(codec_folder: Path) -> None:
    stored = bundles.CodecEntry(**json.loads((codec_folder / "codec.json").read_text()))
    assert stored == codec_entry(CONFIG)
    assert (stored.hop, stored.encode_context, stored.decode_context) == (4096, 2, 2)
    (entry,), (output,), opset = graph_signature(codec_folder / "encoder.onnx")
    assert entry == {"name": "log_mag", "dtype": "float32", "shape": [1, "stft_frames", 1025]}
    assert output["shape"][-1] == CONFIG.dim and opset == 18


# ---- the bundle ---------------------------------------------------------------------------------


def test_toy_bundle_verifies(toy_bundle: Path) -> None:
    bundle = bundles.open_bundle(toy_bundle)
    manifest = bundle.manifest
    assert tuple(sorted(manifest.graphs)) == ROLES
    names = {role: [t.name for t in graph.inputs] for role, graph in manifest.graphs.items()}
    state = ["x", "known", "local", "position", "time"]
    assert names["dit_curves"] == state
    assert names["dit_latents"] == [*state, "context", "context_position"]
    assert manifest.graphs["dit_latents"].inputs[0].shape == (1, SAMPLER.latent_window, manifest.codec.dim)
    assert manifest.graphs["dit_latents"].inputs[5].shape[1] == SAMPLER.context_frames
    assert manifest.graphs["dit_curves"].inputs[0].shape == (1, SAMPLER.curve_window, len(CHANNELS))
    assert [(c.name, c.unit) for c in manifest.curves] == list(CHANNELS)
    assert {entry.file for entry in manifest.licences} <= {entry.file for entry in manifest.files}
    listed = {entry.file for entry in bundles.listed_files(manifest)} | {bundles.MANIFEST}
    assert {path.name for path in toy_bundle.iterdir()} == {n for n in listed if ":" not in n}


def test_golden_tensors_come_out_again(toy_bundle: Path) -> None:
    bundle = bundles.open_bundle(toy_bundle)
    differences = check_parity(bundle, threads=1)
    assert {"dit_curves", "dit_latents"} <= set(differences) <= set(ROLES)
    assert max(differences.values()) < 1e-5  # 1.2e-7 measured
    assert bundle.manifest.parity is not None
    golden = read_golden(bundle.file(bundle.manifest.parity.file))
    assert all(np.abs(output).max() > 0.1 for _, output in golden.values())


def with_golden(bundle: Path, out: Path, change: Callable[[dict[str, np.ndarray]], object]) -> bundles.Bundle:
    """Copy a bundle with other golden tensors, and a manifest that agrees."""
    shutil.copytree(bundle, out)
    manifest, _ = bundles.read_manifest(out)
    assert manifest.parity is not None
    file = out / manifest.parity.file
    with np.load(file) as archive:
        arrays = dict(archive)
    changed = change(arrays)
    if isinstance(changed, bytes):
        file.write_bytes(changed)
    else:
        np.savez(file, **arrays)
    parity = bundles.ParityEntry(file.name, *bundles.describe_file(file), atol=manifest.parity.atol)
    bundles.write_manifest(out, dataclasses.replace(manifest, parity=parity))
    return bundles.open_bundle(out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.update({"dit_curves/out": a["dit_curves/out"] + 0.01}), "off by 0.01"),
        (lambda a: a.update({"dit_curves/out": a["dit_curves/out"] * np.nan}), "off by nan"),
        (lambda a: a.update({"dit_curves/out": a["dit_curves/out"][:, 1:]}), "where training had"),
        (lambda a: a.update({"dit_curves/in/x": a["dit_curves/in/x"][:, 1:]}), "do not fit"),
        (lambda a: a.pop("dit_curves/in/x"), "do not fit"),
        (lambda a: a.pop("dit_curves/out"), "unexpected entry"),
        (lambda a: a.update({"dit_curves/note": np.zeros(1)}), "unexpected entry"),
        (lambda a: a.clear(), "no golden outputs"),
        (lambda a: a.update({"dit_curves/out": np.array([{}], object)}), "cannot be read"),
        (lambda a: b"PK\x03\x04 not an archive", "cannot be read"),
    ],
)
def test_wrong_golden_tensors_are_one_clear_error(
    toy_bundle: Path, tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], words: str
) -> None:
    bundle = with_golden(toy_bundle, tmp_path / "changed", change)
    with pytest.raises(BundleError, match=words) as caught:
        check_parity(bundle, threads=1)
    assert caught.value.code == "bundle.parity" and caught.value.hint


def test_golden_tensors_of_an_unknown_graph(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = with_golden(toy_bundle, tmp_path / "changed", lambda a: a.update({"vocoder/out": np.zeros(1)}))
    with pytest.raises(BundleError, match="no graph 'vocoder'"):
        check_parity(bundle, threads=1)


def test_bundle_without_golden_tensors(toy_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(toy_bundle, folder)
    manifest, _ = bundles.read_manifest(folder)
    bundles.write_manifest(folder, dataclasses.replace(manifest, parity=None))
    with pytest.raises(BundleError) as caught:
        check_parity(bundles.open_bundle(folder))
    assert caught.value.code == "bundle.no_parity"


def test_deep_verification_from_the_command_line(toy_bundle: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pkontext.cli import app

    def verify(folder: Path, *more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["bundle", "verify", str(folder), "--deep", *more])
        return result.exit_code, result.stdout

    code, output = verify(toy_bundle)
    assert code == 0 and "graph dit_latents" in output
    report = json.loads(verify(toy_bundle, "--json")[1])
    assert report["ok"] is True and report["parity"]["dit_curves"] < 1e-5
    off = with_golden(
        toy_bundle,
        tmp_path / "off",
        lambda a: a.update({"dit_latents/out": a["dit_latents/out"] + 1}),
    )
    code, output = verify(off.path, "--json")
    report, error = (json.loads(line) for line in output.splitlines())
    assert code == 4 and report["ok"] is False and error["code"] == "bundle.parity"
    plain = CliRunner().invoke(app, ["bundle", "verify", str(off.path)])
    assert plain.exit_code == 0  # every file is what the manifest says


# ---- writing ------------------------------------------------------------------------------------


def write(out: Path, codec_folder: Path, **changes: object) -> Path:
    """Write a bundle of random networks around the exported codec."""
    torch.manual_seed(1)
    curve_model = DiT(DiTConfig(len(CHANNELS), CURVE_LOCAL, width=32, depth=1, heads=2)).eval()
    dim = CONFIG.dim
    latent_model = DiT(DiTConfig(dim, local_channels(dim), context=dim, width=32, depth=1, heads=2)).eval()
    stats = {"mean": [0.0] * len(CHANNELS), "std": [1.0] * len(CHANNELS)}
    settings = {"identity": "new", "version": "2", "training": {}, **changes}
    return writer.write_bundle(out, codec_folder, curve_model, latent_model, stats, SAMPLER, **settings)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Names and bytes of the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Where a bundle is already."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("precious")
    return folder


@pytest.fixture
def quick_export(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the toy bundle's graphs for the ones that a real export would write."""

    def copy(model: DiT, frames: int, path: Path, store: str) -> float:
        shutil.copyfile(toy_bundle / path.name, path)
        return 0.0

    monkeypatch.setattr(writer, "export_dit", copy)


@pytest.mark.usefixtures("quick_export")
def test_new_bundle_replaces_the_old_one(old: Path, codec_folder: Path) -> None:
    (old / "left-over.onnx").write_bytes(b"old")
    documents = {"MODEL_CARD.md": "# Card\n"}
    assert write(old, codec_folder, documents=documents) == old
    bundle = bundles.open_bundle(old)
    assert bundle.manifest.id == "new" and bundle.file("MODEL_CARD.md").read_text() == "# Card\n"
    assert not (old / "left-over.onnx").exists()
    assert [path.name for path in old.parent.iterdir()] == ["bundle"]


def test_failing_export_leaves_the_old_bundle(
    old: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("the exporter gave up")

    before = contents(old)
    monkeypatch.setattr(writer, "export_dit", fail)
    with pytest.raises(RuntimeError, match="gave up"):
        write(old, codec_folder)
    monkeypatch.setattr(writer, "export_dit", lambda *_: 0.5)
    with pytest.raises(ValueError, match=r"dit_curves differs from torch by 0\.5"):
        write(old, codec_folder)
    assert contents(old) == before


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 3},
        {"soundfont": "package:missing.sf2"},
        {"licences": (bundles.LicenceEntry("package:x", "MIT", ""),)},
    ],
)
def test_manifest_that_no_reader_accepts_leaves_the_old_bundle(
    old: Path, codec_folder: Path, wrong: dict[str, object]
) -> None:
    before = contents(old)
    with pytest.raises((BundleError, OSError)):
        write(old, codec_folder, **wrong)
    assert contents(old) == before


@pytest.mark.usefixtures("quick_export")
def test_failure_does_not_disturb_the_next_attempt(old: Path, codec_folder: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.sf2"):
        write(old, codec_folder, soundfont="package:missing.sf2")
    write(old, codec_folder)
    assert bundles.open_bundle(old).manifest.version == "2"

"""Bundles: what is refused, and that nothing is opened before it is verified."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkontext import bundle as bundles
from pkontext.bundle import (
    CodecEntry,
    CurveEntry,
    FileEntry,
    GraphEntry,
    LatentStats,
    LicenceEntry,
    Manifest,
    ParityEntry,
    SamplerEntry,
    SynthEntry,
    TensorEntry,
)
from pkontext.errors import BundleError


def make_bundle(folder: Path) -> Manifest:
    """Write a bundle whose graphs are three bytes: enough for everything but opening one."""
    described: dict[str, tuple[str, int]] = {}
    for name in ("encoder.onnx", "parity.npz", "LICENSE.txt", "font.sf2"):
        (folder / name).write_bytes(name.encode() * 3)
        described[name] = bundles.describe_file(folder / name)
    frames = TensorEntry("x", "float32", ("frames", 4))
    manifest = Manifest(
        schema=2,
        id="tiny",
        version="1.0",
        min_app_version="0.1.0",
        created="2026-01-01T00:00:00Z",
        git_revision="",
        graphs={"encoder": GraphEntry("encoder.onnx", *described["encoder.onnx"], 17, (frames,), (frames,))},
        codec=CodecEntry("toy", 44100, 1, 4096, 2, 2048, 512, 0.01, 1, 2),
        latent_stats=LatentStats((0.0, 1.0), (1.0, 2.0)),
        curves=(CurveEntry("tempo", "log2", 0.0, 0.2),),
        sampler=SamplerEntry("heun", 4, 8, 128, 16, 96, 16, 192, 1.0, 1.0, 1.2, 1.1, "notes", 1.5, 0.3, 1.4),
        synth=SynthEntry("font.sf2", *described["font.sf2"], 1.2, 64),
        parity=ParityEntry("parity.npz", *described["parity.npz"], 1e-4),
        training={"steps": 3},
        licences=(LicenceEntry("LICENSE.txt", "CC0-1.0", "nobody"),),
        files=(FileEntry("LICENSE.txt", *described["LICENSE.txt"]),),
    )
    bundles.write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a valid bundle."""
    make_bundle(tmp_path)
    return tmp_path


def change(folder: Path, *path: str | int, to: Any) -> None:
    """Set one field in a manifest, behind the writer's back."""
    document = json.loads((folder / "manifest.json").read_text())
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = to
    (folder / "manifest.json").write_text(json.dumps(document))


def code_of(folder: Path) -> str:
    """Code of the error that opening the bundle raises."""
    with pytest.raises(BundleError) as caught:
        bundles.open_bundle(folder)
    assert caught.value.message and caught.value.hint
    return caught.value.code


def test_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    manifest = make_bundle(tmp_path)
    bundle = bundles.open_bundle(tmp_path)
    assert bundle.manifest == manifest
    assert bundle.graph_path("encoder").read_bytes().startswith(b"encoder")
    assert bundle.file("LICENSE.txt") == tmp_path / "LICENSE.txt"
    assert bundle.soundfont == tmp_path / "font.sf2"
    assert not list(tmp_path.glob(".*"))


def test_manifests_from_before_there_were_kinds_are_read(tiny: Path) -> None:
    document = json.loads((tiny / "manifest.json").read_text())
    del document["codec"]["kind"], document["codec"]["block"]
    (tiny / "manifest.json").write_text(json.dumps(document))
    codec = bundles.open_bundle(tiny).manifest.codec
    assert (codec.kind, codec.block) == ("log-magnitude", 24)


def test_manifests_from_before_latents_were_guided_are_read_as_they_sounded(tiny: Path) -> None:
    document = json.loads((tiny / "manifest.json").read_text())
    assert document["sampler"].pop("latent_guidance") == 1.5
    assert document["sampler"].pop("latent_temperature") == 0.3
    assert document["sampler"].pop("velocity_contrast") == 1.4
    (tiny / "manifest.json").write_text(json.dumps(document))
    sampler = bundles.open_bundle(tiny).manifest.sampler
    assert (sampler.latent_guidance, sampler.latent_temperature, sampler.velocity_contrast) == (1.0, 1.0, 1.0)


def test_identity_changes_with_the_content(tiny: Path) -> None:
    before = bundles.open_bundle(tiny).sha256
    change(tiny, "sampler", "curve_steps", to=5)
    assert bundles.open_bundle(tiny).sha256 != before


def test_unlisted_files_are_not_handed_out(tiny: Path) -> None:
    (tiny / "other.onnx").write_bytes(b"x")
    bundle = bundles.open_bundle(tiny)
    with pytest.raises(BundleError, match="lists no file"):
        bundle.file("other.onnx")
    with pytest.raises(BundleError, match="has no graph 'decoder'"):
        bundle.graph_path("decoder")


@pytest.mark.parametrize("name", ["encoder.onnx", "parity.npz", "LICENSE.txt", "font.sf2"])
def test_every_file_is_verified(tiny: Path, name: str) -> None:
    original = (tiny / name).read_bytes()
    (tiny / name).write_bytes(bytes([original[0] ^ 1]) + original[1:])
    assert code_of(tiny) == "bundle.sha256"
    (tiny / name).write_bytes(original[:-1])
    assert code_of(tiny) == "bundle.size"
    (tiny / name).unlink()
    assert code_of(tiny) == "bundle.missing"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/hostname",
        "a/../../x",
        "",
        ".",
        "a//b",
        "c:x",
        "a\\b",
        "x\x00",
        "package:../errors.py",
        "package:",
    ],
)
def test_no_name_leaves_the_folder(tiny: Path, name: str) -> None:
    change(tiny, "synth", "soundfont", to=name)
    assert code_of(tiny) == "bundle.path"


def test_no_link_leaves_the_folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_bytes((tiny / "encoder.onnx").read_bytes())
    (tiny / "encoder.onnx").unlink()
    (tiny / "encoder.onnx").symlink_to(outside)
    assert code_of(tiny) == "bundle.path"


def test_soundfont_of_the_package(tiny: Path) -> None:
    font = bundles.PACKAGE_DATA / "FluidR3_piano.sf2"
    digest, size = bundles.describe_file(font)
    change(tiny, "synth", to=dataclasses.asdict(SynthEntry("package:" + font.name, digest, size, 1.2, 64)))
    assert bundles.open_bundle(tiny).soundfont == font
    change(tiny, "graphs", "encoder", "file", to="package:" + font.name)
    assert code_of(tiny) == "bundle.value"


def test_every_field_is_needed_and_typed(tiny: Path) -> None:
    """Drop each required field, and give each one a value of another type."""
    document = json.loads((tiny / "manifest.json").read_text())
    optional = {("parity",), ("training",), ("licences",), ("files",), ("codec", "kind"), ("codec", "block")}
    latents = ("latent_guidance", "latent_temperature", "velocity_contrast")
    optional |= {("sampler", name) for name in latents}
    tried = 0

    def visit(node: Any, path: tuple[Any, ...]) -> None:
        nonlocal tried
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            here = (*path, key)
            if here[0] == "training":
                continue
            for replacement in (
                None,
                True,
                {"no": 1},
                *([] if isinstance(node, list) or here[0] == "graphs" else [...]),
            ):
                if replacement is ... and here in optional:
                    continue
                if replacement is None and here == ("parity",):
                    continue
                changed = copy.deepcopy(document)
                target = changed
                for step in path:
                    target = target[step]
                if replacement is ...:
                    del target[key]
                else:
                    target[key] = replacement
                with pytest.raises(BundleError) as caught:
                    bundles.parse_manifest(changed)
                assert caught.value.code in ("bundle.field", "bundle.schema"), here
                tried += 1
            visit(value, here)

    visit(document, ())
    assert tried > 150


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("schema",), 1, "bundle.schema"),
        (("sampler", "conditioning"), "audio", "bundle.value"),
        (("sampler", "tempo_spread"), -1.0, "bundle.value"),
        (("sampler", "latent_guidance"), -0.5, "bundle.value"),
        (("sampler", "latent_temperature"), -0.1, "bundle.value"),
        (("sampler", "velocity_contrast"), -1.0, "bundle.value"),
        (("min_app_version",), "99.0", "bundle.app_version"),
        (("min_app_version",), "new", "bundle.field"),
        (("surprise",), 1, "bundle.field"),
        (("codec", "hop"), 0, "bundle.value"),
        (("codec", "dim"), 3, "bundle.value"),
        (("codec", "kind"), "mp3", "bundle.value"),
        (("codec", "block"), 0, "bundle.value"),
        (("codec", "encode_context"), -1, "bundle.value"),
        (("latent_stats", "std"), [1.0, 0.0], "bundle.value"),
        (("sampler", "curve_overlap"), 128, "bundle.value"),
        (("synth", "sha256"), "abc", "bundle.value"),
    ],
)
def test_values_that_cannot_be(tiny: Path, path: tuple[str, ...], value: Any, code: str) -> None:
    change(tiny, *path, to=value)
    assert code_of(tiny) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "bundle.json"),
        (b"{", "bundle.json"),
        (b"\xff\xfe{}", "bundle.json"),
        (b"[1]", "bundle.field"),
        (b'{"schema": 1, "schema": 1}', "bundle.json"),
        (b'{"schema": NaN}', "bundle.json"),
        (b"[" * 100_000, "bundle.json"),
    ],
)
def test_manifests_that_are_not_json(tiny: Path, text: bytes, code: str) -> None:
    (tiny / "manifest.json").write_bytes(text)
    assert code_of(tiny) == code


def test_missing_folder_and_missing_manifest(tmp_path: Path) -> None:
    assert code_of(tmp_path / "nowhere") == "bundle.missing"
    assert code_of(tmp_path) == "bundle.missing"
    (tmp_path / "manifest.json").mkdir()
    assert code_of(tmp_path) == "bundle.unreadable"


def test_environment_names_the_bundle(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(tiny))
    assert bundles.open_bundle().manifest.id == "tiny"


def test_writer_refuses_what_a_reader_would(tiny: Path) -> None:
    manifest, _ = bundles.read_manifest(tiny)
    wrong = dataclasses.replace(manifest, latent_stats=LatentStats((0.0,), (1.0,)))
    before = (tiny / "manifest.json").read_bytes()
    with pytest.raises(BundleError):
        bundles.write_manifest(tiny, wrong)
    assert (tiny / "manifest.json").read_bytes() == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    field=st.sampled_from([field.name for field in dataclasses.fields(Manifest)]),
    value=_JSON,
)
def test_any_value_is_accepted_or_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-bundle"
    if not folder.exists():
        folder.mkdir()
        make_bundle(folder)
    document = json.loads((folder / "manifest.json").read_text())
    document[field] = value
    try:
        assert isinstance(bundles.parse_manifest(document), Manifest)
    except BundleError as error:
        assert error.code.startswith("bundle.")

"""Write a bundle: graphs, manifest with hashes, parity tensors, licences, model card."""

from __future__ import annotations

import datetime
import hashlib
import shutil
from pathlib import Path

import numpy as np

from export import music2latent
from export.dit import example_inputs, export_dit
from export.graphs import PARITY_ATOL, Store, golden, graph_signature
from pkontext import __version__, bundle, synth
from pkontext.codec import read_codec_folder
from pkontext.curves import CHANNELS
from train.dit_model import DiT
from train.loop import git_revision

ATTRIBUTION = (
    "Weights trained on (n)ASAP v2.1 (Peter et al. 2023; Foscarin et al. 2020; performances from "
    "MAESTRO, Hawthorne et al. 2019, and the Yamaha e-Piano Competition), CC BY-NC-SA 4.0"
)
PARITY_FILE = "parity.npz"


def write_bundle(
    out: Path,
    codec_folder: Path,
    curve_model: DiT,
    latent_model: DiT,
    curve_stats: dict[str, list[float]],
    sampler: bundle.SamplerEntry,
    identity: str,
    version: str,
    training: dict,
    soundfont: str = "package:FluidR3_piano.sf2",
    documents: dict[str, str] | None = None,
    licences: tuple[bundle.LicenceEntry, ...] = (),
) -> Path:
    """Export both DiTs beside a codec's graphs and describe everything in the manifest.

    With Music2Latent as the codec, the notice and the entry of its weights' licence are added.

    Parameters
    ----------
    out : Path
        New bundle folder; an old one is replaced only when all of the new one is written.
    codec_folder : Path
        What `export.codec.export_codec` or `export.music2latent.export_music2latent` wrote.
    curve_stats : dict
        ``mean`` and ``std`` of the curves in training.
    documents : dict, optional
        Text files by name, such as the model card and licence texts.

    Returns
    -------
    Path
        The bundle's folder, verified.
    """
    entry, latent_stats = read_codec_folder(codec_folder)
    documents = dict(documents or {})
    if entry.kind == music2latent.KIND:
        documents[music2latent.LICENCE_FILE] = music2latent.LICENCE_TEXT
        licences = (*licences, music2latent.LICENCE)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    parity: dict[str, np.ndarray] = dict(np.load(codec_folder / "parity.npz"))
    for name in ("encoder", "decoder"):
        shutil.copyfile(codec_folder / f"{name}.onnx", part / f"{name}.onnx")
    models: dict[str, tuple[DiT, int, Store]] = {
        "dit_curves": (curve_model, sampler.curve_window, "half"),
        "dit_latents": (latent_model, sampler.latent_window, "int8"),
    }
    for name, (model, frames, store) in models.items():
        error = export_dit(model, frames, part / f"{name}.onnx", store)
        if error > PARITY_ATOL:
            raise ValueError(f"{name} differs from torch by {error:.2g}, more than {PARITY_ATOL:g}")
        parity |= golden(name, model, example_inputs(model.config, frames, seed=1), store)
    np.savez_compressed(part / PARITY_FILE, **parity)  # type: ignore[arg-type]
    for name, text in documents.items():
        (part / name).write_text(text, encoding="utf-8")

    manifest = bundle.Manifest(
        schema=bundle.SCHEMA,
        id=identity,
        version=version,
        min_app_version=__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git_revision=git_revision(),
        graphs={name: _graph_entry(part, f"{name}.onnx") for name in ("encoder", "decoder", *models)},
        codec=entry,
        latent_stats=latent_stats,
        curves=tuple(
            bundle.CurveEntry(name, unit, float(mean), float(std))
            for (name, unit), mean, std in zip(CHANNELS, curve_stats["mean"], curve_stats["std"], strict=True)
        ),
        sampler=sampler,
        synth=_synth_entry(part, soundfont),
        parity=bundle.ParityEntry(PARITY_FILE, *_hash(part / PARITY_FILE), atol=PARITY_ATOL),
        training=training,
        licences=licences,
        files=tuple(bundle.FileEntry(name, *_hash(part / name)) for name in documents),
    )
    bundle.write_manifest(part, manifest)
    bundle.open_bundle(part)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    return out


def _graph_entry(folder: Path, file: str) -> bundle.GraphEntry:
    inputs, outputs, opset = graph_signature(folder / file)
    tensors = [
        tuple(bundle.TensorEntry(t["name"], t["dtype"], tuple(t["shape"])) for t in side)
        for side in (inputs, outputs)
    ]
    return bundle.GraphEntry(file, *_hash(folder / file), opset, *tensors)


def _synth_entry(folder: Path, soundfont: str) -> bundle.SynthEntry:
    path = bundle.resolve_file(folder, soundfont)
    gain = synth.SynthSpec(path).gain
    return bundle.SynthEntry(soundfont, *_hash(path), gain=gain, deadpan_velocity=synth.DEADPAN_VELOCITY)


def _hash(path: Path) -> tuple[str, int]:
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest(), len(data)

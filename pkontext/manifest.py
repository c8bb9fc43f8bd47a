"""The manifest of a bundle: its fields, strict reading, and JSON.

Every field is one of these dataclasses, and `parse_manifest` accepts exactly them: no field
missing, unknown or of another type. The exporter writes manifests with the same classes. Which
files a manifest names, and whether they are intact, is the business of `pkontext.bundle`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pkontext
from pkontext.errors import BundleError

SCHEMA = 2
CONDITIONINGS = ("notes", "latents")
MANIFEST = "manifest.json"
#: Prefix of the name of a soundfont that ships in the package.
PACKAGE_PREFIX = "package:"
CODEC_KINDS = ("log-magnitude", "music2latent")

REINSTALL = "Download or export the bundle again, or name another one with --bundle."


@dataclass(frozen=True)
class TensorEntry:
    """One input or output of a graph: its name, its dtype, and sizes or symbols of its axes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph: its file, the file's sha256 and size, its opset, and its signature."""

    file: str
    sha256: str
    bytes: int
    opset: int
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


@dataclass(frozen=True)
class CodecEntry:
    """How audio becomes latents.

    Attributes
    ----------
    name : str
        Which codec this is, for people.
    sample_rate : int
        Hertz.
    channels : int
        Channels of the audio.
    hop : int
        Samples in one latent frame.
    dim : int
        Channels of the latents.
    n_fft : int
        Window length of the STFT in samples.
    stft_hop : int
        Hop of the STFT in samples.
    floor : float
        Added to magnitudes before the log.
    encode_context : int
        Latent frames on each side that can change what a frame is encoded to.
    decode_context : int
        Latent frames on each side that can change what a frame is decoded to.
    kind : str
        What the graphs see, one of `CODEC_KINDS`: log magnitudes, or the compressed spectra of
        Music2Latent.
    block : int
        Latent frames that one call of a graph encodes or decodes, context not counted.
    """

    name: str
    sample_rate: int
    channels: int
    hop: int
    dim: int
    n_fft: int
    stft_hop: int
    floor: float
    encode_context: int
    decode_context: int
    kind: str = "log-magnitude"
    block: int = 24


@dataclass(frozen=True)
class LatentStats:
    """Mean and standard deviation of every latent channel, which normalise the codec's output."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class CurveEntry:
    """One performance curve: its name and unit, and the mean and deviation that normalise it."""

    name: str
    unit: str
    mean: float
    std: float


@dataclass(frozen=True)
class SamplerEntry:
    """How the flow is sampled.

    Attributes
    ----------
    solver : str
        Name of the ODE solver.
    curve_steps : int
        Network calls for the curves of one window.
    latent_steps : int
        Network calls for the latents of one window.
    curve_window : int
        Deadpan frames in a window of the curve network.
    curve_overlap : int
        Of these, frames given from the window before.
    latent_window : int
        Performed frames in a window of the latent network.
    latent_overlap : int
        Of these, frames given from the window before.
    context_frames : int
        Deadpan frames that a window of the latent network shows as context.
    guidance : float
        Strength of classifier-free guidance of the curves; 1 is none, others double their calls.
    temperature : float
        Scale of the noise that the curves start from; below 1 performances are more alike and calmer.
    tempo_spread : float
        Factor on the deviations of tempo and asynchrony that gives takes a human's.
    loudness_spread : float
        The same for loudness.
    conditioning : str
        What the latent network goes by, one of `CONDITIONINGS`: the performed notes and the deadpan at
        their place beside the context, or, as in PianoKontext, deadpan latents as context alone.
    latent_guidance : float
        How strongly latents follow the performed notes: classifier-free guidance away from what the network
        expects without them. 1 is none, others double the calls. Without notes to go by it does nothing.
    latent_temperature : float
        Scale of the noise that the latents start from; below 1 they are nearer to what is expected of them.
    velocity_contrast : float
        Factor on how much louder or softer than its surroundings a note is shown to the latent network.
    """

    solver: str
    curve_steps: int
    latent_steps: int
    curve_window: int
    curve_overlap: int
    latent_window: int
    latent_overlap: int
    context_frames: int
    guidance: float
    temperature: float
    tempo_spread: float
    loudness_spread: float
    conditioning: str
    latent_guidance: float = 1.0
    latent_temperature: float = 1.0
    velocity_contrast: float = 1.0


@dataclass(frozen=True)
class SynthEntry:
    """The deadpan voice: soundfont (with its sha256 and size), gain, and the one key velocity."""

    soundfont: str
    sha256: str
    bytes: int
    gain: float
    deadpan_velocity: int


@dataclass(frozen=True)
class ParityEntry:
    """Inputs and outputs of the graphs as computed in training, and how far we may be from them."""

    file: str
    sha256: str
    bytes: int
    atol: float


@dataclass(frozen=True)
class LicenceEntry:
    """A licence text in the bundle, its SPDX identifier, and whom to credit for what."""

    file: str
    spdx: str
    attribution: str


@dataclass(frozen=True)
class FileEntry:
    """Any other file of the bundle, with its sha256 and size in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle that is not weights.

    Attributes
    ----------
    schema : int
        Version of this format.
    id : str
        Name of the bundle.
    version : str
        Version of the bundle.
    min_app_version : str
        Oldest PianoKontext that can use it.
    created : str
        When it was exported, ISO 8601 in UTC.
    git_revision : str
        Revision of the code that exported it.
    graphs : dict of GraphEntry
        The networks by their role, such as ``encoder``.
    codec : CodecEntry
        How audio becomes latents.
    latent_stats : LatentStats
        What normalises the latents.
    curves : tuple of CurveEntry
        The performance curves in the order of their channels.
    sampler : SamplerEntry
        How the flow is sampled by default.
    synth : SynthEntry
        How the deadpan is rendered.
    parity : ParityEntry or None
        Golden inputs and outputs, if the bundle carries them.
    training : dict
        Data, hours, steps, seed, hardware and metrics, for people.
    licences : tuple of LicenceEntry
        Licence of each part.
    files : tuple of FileEntry
        Further files, such as licence texts and the model card.
    """

    schema: int
    id: str
    version: str
    min_app_version: str
    created: str
    git_revision: str
    graphs: dict[str, GraphEntry]
    codec: CodecEntry
    latent_stats: LatentStats
    curves: tuple[CurveEntry, ...]
    sampler: SamplerEntry
    synth: SynthEntry
    parity: ParityEntry | None = None
    training: dict[str, Any] = field(default_factory=dict)
    licences: tuple[LicenceEntry, ...] = ()
    files: tuple[FileEntry, ...] = ()


def manifest_from_json(data: bytes, name: str = MANIFEST) -> Manifest:
    """Parse the bytes of a manifest; ``name`` is what errors call it.

    Raises
    ------
    BundleError
        ``bundle.json``, or as `parse_manifest`.
    """
    try:
        document = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BundleError("bundle.json", f"{name} is not valid JSON ({error}).", REINSTALL) from error
    return parse_manifest(document)


def parse_manifest(document: object) -> Manifest:
    """Turn a JSON document into a manifest, strictly: no field missing, unknown or of another type.

    Raises
    ------
    BundleError
        ``bundle.schema``, ``bundle.app_version``, ``bundle.field`` or ``bundle.value``.
    """
    if not isinstance(document, dict):
        raise _bad("field", "The manifest is not a JSON object")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise BundleError(
            "bundle.schema",
            f"The bundle's schema is {schema!r}, and this version reads schema {SCHEMA}.",
            "Install a PianoKontext that fits the bundle, or choose another bundle with --bundle.",
        )
    _check_app_version(document.get("min_app_version"))
    manifest: Manifest = _read(Manifest, document, "manifest")
    _check_values(manifest)
    return manifest


def parse_codec(codec: object, stats: object = None) -> tuple[CodecEntry, LatentStats]:
    """Turn a codec's JSON documents, as they lie in a run folder, into its entry and statistics.

    Parameters
    ----------
    codec : object
        Fields of `CodecEntry`.
    stats : object, optional
        Fields of `LatentStats`; without them means are 0 and deviations 1.

    Raises
    ------
    BundleError
        ``bundle.field`` or ``bundle.value``.
    """
    entry: CodecEntry = _read(CodecEntry, codec, "codec")
    found = LatentStats((0.0,) * entry.dim, (1.0,) * entry.dim)
    if stats is not None:
        found = _read(LatentStats, stats, "latent_stats")
    _check_codec(entry, found)
    return entry, found


def manifest_to_json(manifest: Manifest) -> str:
    """Return the manifest as indented JSON that `parse_manifest` reads back to an equal object."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def listed_files(manifest: Manifest) -> tuple[FileEntry, ...]:
    """Return every file that the manifest names with a hash, once each, in its order."""
    entries: list[GraphEntry | ParityEntry | FileEntry] = [*manifest.graphs.values()]
    if manifest.parity is not None:
        entries.append(manifest.parity)
    entries.extend(manifest.files)
    listed = [FileEntry(entry.file, entry.sha256, entry.bytes) for entry in entries]
    synth = manifest.synth
    listed.append(FileEntry(synth.soundfont, synth.sha256, synth.bytes))
    return tuple(dict.fromkeys(listed))


def _bad(kind: str, sentence: str) -> BundleError:
    return BundleError(f"bundle.{kind}", f"{sentence}.", REINSTALL)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else set()
    if repeated:
        raise ValueError(f"the key {sorted(repeated)[0]!r} occurs twice")
    return dict(pairs)


def _check_app_version(wanted: object) -> None:
    if not isinstance(wanted, str) or not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", wanted):
        raise _bad("field", f"manifest.min_app_version is not a version such as 0.1.0: {wanted!r}")
    if _numbers(wanted) > _numbers(pkontext.__version__):
        raise BundleError(
            "bundle.app_version",
            f"The bundle needs PianoKontext {wanted} or newer, and this is {pkontext.__version__}.",
            "Update PianoKontext, or choose another bundle with --bundle.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, padded so that 0.1 equals 0.1.0."""
    found = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in found[0].split(".")] if found else []
    return tuple([*parts, 0, 0, 0, 0][:4])


def _check_values(manifest: Manifest) -> None:
    """Check what types alone do not say: sizes that agree, hashes that are hashes, safe names."""
    sampler = manifest.sampler
    _check_codec(manifest.codec, manifest.latent_stats)
    if any(curve.std <= 0 for curve in manifest.curves):
        raise _bad("value", "A standard deviation in manifest.curves is not positive")
    for name in ("curve", "latent"):
        window, overlap = getattr(sampler, f"{name}_window"), getattr(sampler, f"{name}_overlap")
        if not 0 <= overlap < window or getattr(sampler, f"{name}_steps") < 1:
            raise _bad("value", f"manifest.sampler: {name} window {window}, overlap {overlap} or steps")
    if sampler.conditioning not in CONDITIONINGS:
        raise _bad("value", f"manifest.sampler.conditioning is {sampler.conditioning!r}")
    names = ("guidance", "temperature", "tempo_spread", "loudness_spread")
    for name in (*names, "latent_guidance", "latent_temperature", "velocity_contrast"):
        if getattr(sampler, name) < 0:
            raise _bad("value", f"manifest.sampler.{name} is {getattr(sampler, name)}, which is negative")
    for entry in listed_files(manifest):
        if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or entry.bytes < 0:
            raise _bad("value", f"sha256 or bytes of {entry.file!r} is not valid")
    owners = [*manifest.graphs.values(), *manifest.files, *manifest.licences]
    for name in [owner.file for owner in owners + ([manifest.parity] if manifest.parity else [])]:
        if name.startswith(PACKAGE_PREFIX):
            raise _bad("value", f"Only the soundfont may be in the package, not {name!r}")


def _check_codec(codec: CodecEntry, stats: LatentStats) -> None:
    for name in ("sample_rate", "channels", "hop", "dim", "n_fft", "stft_hop", "block"):
        if getattr(codec, name) < 1:
            raise _bad("value", f"codec.{name} is {getattr(codec, name)}, not positive")
    for name in ("encode_context", "decode_context"):
        if getattr(codec, name) < 0:
            raise _bad("value", f"codec.{name} is {getattr(codec, name)}, which is negative")
    if codec.kind not in CODEC_KINDS:
        raise _bad("value", f"codec.kind is {codec.kind!r}, not one of {', '.join(CODEC_KINDS)}")
    if not len(stats.mean) == len(stats.std) == codec.dim:
        raise _bad("value", f"latent_stats does not have codec.dim = {codec.dim} channels")
    if min(stats.std) <= 0:
        raise _bad("value", "A standard deviation in latent_stats is not positive")


def _read(kind: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to a dataclass, container or plain type, or say where it does not fit."""
    if dataclasses.is_dataclass(kind):
        return _read_object(typing.cast(type, kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise _bad("field", f"{where} is not a list")
        return tuple(_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            raise _bad("field", f"{where} is not an object")
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        chosen = [argument for argument in arguments if argument is not types.NoneType]
        if value is None and len(chosen) < len(arguments):
            return None
        matching = [argument for argument in chosen if type(value) is argument]
        return _read((matching or chosen)[0], value, where)
    return _read_plain(kind, value, where)


def _read_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise _bad("field", f"{where} is {value!r}, which is not of type {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise _bad("field", f"{where} is not a finite number")
    return value


def _read_object(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _bad("field", f"{where} is not an object")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name in value:
        if name not in known:
            raise _bad("field", f"{where} has an unknown field {name!r}")
    hints = typing.get_type_hints(kind)
    found = {}
    for name, entry in known.items():
        if name in value:
            found[name] = _read(hints[name], value[name], f"{where}.{name}")
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise _bad("field", f"{where}.{name} is missing")
    make: Callable[..., Any] = kind
    return make(**found)

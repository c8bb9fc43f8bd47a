"""A model bundle: one folder with a manifest and the files that it lists by sha256.

`open_bundle` reads the manifest strictly and compares the size and sha256 of every listed file
before anyone may open one, so that a damaged download fails with one clear sentence instead of
strange audio. File names are relative to the folder and cannot leave it; a soundfont may also be
``package:NAME``, one that ships in the package. Nothing here opens a graph, and nothing is ever
unpickled. The fields of the manifest are in `pkontext.manifest`, and can be had from here too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pkontext.errors import BundleError
from pkontext.manifest import (
    MANIFEST,
    PACKAGE_PREFIX,
    REINSTALL,
    SCHEMA,
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
    listed_files,
    manifest_from_json,
    manifest_to_json,
    parse_manifest,
)

__all__ = [
    "ENVIRONMENT",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "PACKAGE_DATA",
    "PACKAGE_PREFIX",
    "REINSTALL",
    "SCHEMA",
    "Bundle",
    "CodecEntry",
    "CurveEntry",
    "FileEntry",
    "GraphEntry",
    "LatentStats",
    "LicenceEntry",
    "Manifest",
    "ParityEntry",
    "SamplerEntry",
    "SynthEntry",
    "TensorEntry",
    "bundle_folder",
    "describe_file",
    "listed_files",
    "manifest_to_json",
    "open_bundle",
    "parse_manifest",
    "read_manifest",
    "resolve_file",
    "verify_file",
    "write_manifest",
]

PACKAGE_DATA = Path(__file__).parent / "data"
ENVIRONMENT = "PKONTEXT_BUNDLE"
#: No manifest is this large; a file that is was not written by us.
MAX_MANIFEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been verified.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
        What it contains.
    sha256 : str
        Hash of the manifest, which names the hash of every file: the identity of the bundle.
    """

    path: Path
    manifest: Manifest
    sha256: str

    def graph_path(self, name: str) -> Path:
        """Return the file of the graph with this role; `BundleError` if there is none."""
        if name not in self.manifest.graphs:
            known = ", ".join(sorted(self.manifest.graphs)) or "none"
            raise BundleError(
                "bundle.graph",
                f"The bundle {self.manifest.id} has no graph '{name}' (it has: {known}).",
                REINSTALL,
            )
        return resolve_file(self.path, self.manifest.graphs[name].file)

    def file(self, name: str) -> Path:
        """Return a listed file by its name in the manifest; `BundleError` for any other."""
        if name not in {entry.file for entry in listed_files(self.manifest)}:
            raise BundleError(
                "bundle.file", f"The bundle {self.manifest.id} lists no file '{name}'.", REINSTALL
            )
        return resolve_file(self.path, name)

    @property
    def soundfont(self) -> Path:
        """The soundfont of the deadpan voice."""
        return resolve_file(self.path, self.manifest.synth.soundfont)


def open_bundle(path: Path | None = None) -> Bundle:
    """Read the manifest and verify every listed file.

    Parameters
    ----------
    path : Path, optional
        The bundle's folder. Without it: the folder in the environment variable
        ``PKONTEXT_BUNDLE``, else the one inside the package.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        What is missing, damaged or does not fit, and what to do.
    """
    folder = bundle_folder(path)
    manifest, digest = read_manifest(folder)
    for entry in listed_files(manifest):
        verify_file(folder, entry)
    return Bundle(folder, manifest, digest)


def bundle_folder(path: Path | None = None) -> Path:
    """Return the folder that `open_bundle` would open."""
    chosen = path or os.environ.get(ENVIRONMENT) or PACKAGE_DATA / "bundle"
    return Path(chosen).expanduser()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read the manifest of a bundle without verifying its files.

    Returns
    -------
    Manifest
    str
        sha256 of the manifest's bytes.

    Raises
    ------
    BundleError
    """
    file = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError("bundle.missing", f"There is no bundle folder {folder}.", REINSTALL)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError("bundle.missing", f"{folder} has no {MANIFEST}.", REINSTALL) from error
    except OSError as error:
        raise BundleError(
            "bundle.unreadable", f"{file} cannot be read ({error.strerror}).", "Check its permissions."
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError("bundle.json", f"{file} is larger than any manifest.", REINSTALL)
    return manifest_from_json(data, str(file)), hashlib.sha256(data).hexdigest()


def verify_file(folder: Path, entry: FileEntry) -> None:
    """Compare a file with its size and sha256 in the manifest.

    Raises
    ------
    BundleError
        ``bundle.path``, ``bundle.missing``, ``bundle.size``, ``bundle.sha256`` or
        ``bundle.unreadable``.
    """
    path = resolve_file(folder, entry.file)
    if not path.is_file():
        raise BundleError("bundle.missing", f"The bundle's file {path} is missing.", REINSTALL)
    try:
        found = describe_file(path)
    except OSError as error:
        raise BundleError(
            "bundle.unreadable", f"{path} cannot be read ({error.strerror}).", "Check its permissions."
        ) from error
    if found[1] != entry.bytes:
        raise BundleError("bundle.size", f"{path} has {found[1]} bytes instead of {entry.bytes}.", REINSTALL)
    if found[0] != entry.sha256:
        raise BundleError(
            "bundle.sha256",
            f"{path} is damaged: its sha256 is {found[0][:12]}…, not {entry.sha256[:12]}….",
            REINSTALL,
        )


def describe_file(path: Path) -> tuple[str, int]:
    """Return sha256 (hexadecimal) and size in bytes of a file, read as a stream."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return digest.hexdigest(), stream.tell()


def resolve_file(folder: Path, name: str) -> Path:
    """Return the path of a name in the manifest.

    Raises
    ------
    BundleError
        ``bundle.path`` when the name would leave the folder, by ``..``, as an absolute path or
        through a link.
    """
    root = folder
    inside = name
    if name.startswith(PACKAGE_PREFIX):
        root, inside = PACKAGE_DATA, name.removeprefix(PACKAGE_PREFIX)
    parts = inside.split("/")
    unsafe = any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\x00-\x1f]", inside)
    if unsafe or not (root / inside).resolve().is_relative_to(root.resolve()):
        raise BundleError(
            "bundle.path",
            f"The bundle names a file outside its folder: {name!r}.",
            "Do not use this bundle unless you trust its author; get it again from its source.",
        )
    return root / inside


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Check the manifest as a reader would, then write it to its folder in one step.

    Returns
    -------
    Path
        The file.
    """
    text = manifest_to_json(manifest)
    parse_manifest(json.loads(text))
    target = folder / MANIFEST
    temporary = folder / f".{MANIFEST}.{secrets.token_hex(4)}.part"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target

"""Project files: a score with its takes, drawn curves and settings, in one JSON document.

``{"format", "version", "sha256", "project"}``: the hash is that of the project as `_canonical` writes it,
so that a damaged file is refused instead of being half believed. Nothing is unpickled. A file appears under
its name when it is complete, and replaces the one before in one step.

Threading: functions of their arguments; any thread may call them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from pkontext import __version__
from pkontext.errors import InputError, RenderError
from pkontext.selfcheck import Finding
from pkontext.session import score_from_plain, score_to_plain, settings_from_plain
from pkontext.take import RenderSettings
from pkontext.types import Score

ENDING = ".pkproj"
FORMAT = "pkontext-project"
VERSION = 1
#: No project is this large.
MAX_BYTES = 256 * 2**20
#: From a version to the one after it: each gets the project as its version has it and returns the next one's.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

_UNFIT = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    zlib.error,
    InputError,
)


@dataclass(frozen=True)
class SavedTake:
    """One take as a project keeps it; its audio is rendered again.

    Attributes
    ----------
    id : str
        Tells it from the project's other takes.
    name : str
    settings : RenderSettings
    bundle : str
        Identity of the model that made it.
    created : float
        Unix time.
    starred : bool
    findings : tuple of Finding or None
        Of the self-check; None before one.
    """

    id: str
    name: str
    settings: RenderSettings
    bundle: str = ""
    created: float = 0.0
    starred: bool = False
    findings: tuple[Finding, ...] | None = None


@dataclass(frozen=True, eq=False)
class Project:
    """What a project file holds; equal to another one that would be saved as the same file.

    Attributes
    ----------
    title : str
    score : Score
    settings : RenderSettings
        Of the next take; the drawn curves are in it.
    takes : tuple of SavedTake
    current : str
        Id of the chosen take, or empty.
    view : dict
        How the window showed it: plain values by name, for the interface alone.
    app : str
        Version of the program that saved it.
    """

    title: str
    score: Score
    settings: RenderSettings
    takes: tuple[SavedTake, ...] = ()
    current: str = ""
    view: dict[str, Any] = field(default_factory=dict)
    app: str = __version__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Project) and _canonical(_to_plain(self)) == _canonical(_to_plain(other))

    __hash__ = None  # type: ignore[assignment]


def autosave_folder() -> Path:
    """Folder of the safety copies on this platform; it need not exist."""
    return platformdirs.user_data_path("pkontext", appauthor=False) / "autosave"


def save_project(path: Path, project: Project) -> None:
    """Write a project file, in place of the one before.

    Raises
    ------
    RenderError
        ``project.write`` when the disk does not take it; the file before is still there.
    """
    data = project_to_bytes(project)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RenderError(
            "project.write",
            f"{path} could not be saved ({error.strerror or error}).",
            "Make room on the disk, or save the project in another folder.",
        ) from error


def load_project(path: Path) -> Project:
    """Read a project file.

    Raises
    ------
    InputError
        ``project.missing`` or ``project.unreadable``, and as `project_from_bytes`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(
            "project.missing", f"There is no file {path}.", "Check its name, or choose another project."
        ) from error
    except OSError as error:
        raise InputError(
            "project.unreadable",
            f"{path} cannot be read ({error.strerror or error}).",
            "Check its permissions, or choose another project.",
        ) from error
    return project_from_bytes(data, path.name)


def project_to_bytes(project: Project) -> bytes:
    """The file of a project."""
    body = _to_plain(project)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": hashlib.sha256(_canonical(body)).hexdigest(),
        "project": body,
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode()


def project_from_bytes(data: bytes, name: str = "The file") -> Project:
    """Read what `project_to_bytes` wrote, by this version of the program or an earlier one.

    Raises
    ------
    InputError
        ``project.version`` for a file of a later program, ``project.damaged`` for anything else that is
        no project. Nothing else escapes, whatever the bytes are.
    """
    if len(data) > MAX_BYTES:
        raise _damaged(name, "it is too large")
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _damaged(name, "it is cut short, or no project") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _damaged(name, "it is no project")
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise _damaged(name, "it names no version")
    if version > VERSION:
        raise InputError(
            "project.version",
            f"{name} was saved by a later PianoKontext (file version {version}; this one reads {VERSION}).",
            "Update PianoKontext, then open it again.",
        )
    try:
        body = found["project"]
        if hashlib.sha256(_canonical(body)).hexdigest() != found["sha256"]:
            raise ValueError("its checksum is wrong")
        for step in range(version, VERSION):
            body = MIGRATIONS[step](body)
        return _from_plain(body)
    except _UNFIT as error:
        said = error.message if isinstance(error, InputError) else f"{error}" or type(error).__name__
        raise _damaged(name, " ".join(said.split())[:100]) from error


def _canonical(body: Any) -> bytes:
    """The one way in which a project is written for its hash."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _to_plain(project: Project) -> dict[str, Any]:
    plain = {
        "app": project.app,
        "title": project.title,
        "score": score_to_plain(project.score),
        "settings": asdict(project.settings),
        "takes": [asdict(take) for take in project.takes],
        "current": project.current,
        "view": project.view,
    }
    return json.loads(json.dumps(plain, default=str))  # paths to texts, tuples to lists


def _from_plain(body: dict[str, Any]) -> Project:
    score = score_from_plain(body["score"])
    _check_score(score)
    takes = tuple(_take(found) for found in body["takes"])
    if len({take.id for take in takes}) < len(takes):
        raise ValueError("two takes have the same id")
    return Project(
        title=_typed(body["title"], str),
        score=score,
        settings=_settings(body["settings"]),
        takes=takes,
        current=_typed(body["current"], str),
        view=_typed(body["view"], dict),
        app=_typed(body["app"], str),
    )


def _take(found: dict[str, Any]) -> SavedTake:
    findings = found["findings"]
    return SavedTake(
        id=_typed(found["id"], str),
        name=_typed(found["name"], str),
        settings=_settings(found["settings"]),
        bundle=_typed(found["bundle"], str),
        created=float(found["created"]),
        starred=_typed(found["starred"], bool),
        findings=None if findings is None else tuple(Finding(**finding) for finding in findings),
    )


def _settings(found: dict[str, Any]) -> RenderSettings:
    settings = settings_from_plain(_typed(found, dict))
    _typed(settings.seed, int)
    return settings


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


def _check_score(score: Score) -> None:
    """Raise `ValueError` for rows that no score has."""
    notes, tempi, meters = score.notes, score.tempi, score.meters
    times = np.concatenate([notes["onset_sec"], notes["duration_sec"], tempi["us_per_quarter"]])
    sorted_ticks = all((np.diff(rows) >= 0).all() for rows in (notes["onset_tick"], tempi["tick"]))
    begins = len(tempi) > 0 and len(meters) > 0 and tempi["tick"][0] == 0 and meters["tick"][0] == 0
    if not (np.isfinite(times).all() and (times >= 0).all() and sorted_ticks and begins):
        raise ValueError("its score is none")
    if score.ticks_per_quarter < 1 or not meters["denominator"].all() or not tempi["us_per_quarter"].all():
        raise ValueError("its score has no metre")


def _sync_folder(folder: Path) -> None:
    """Have the folder on the disk, too, where a system knows how."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(name: str, why: str) -> InputError:
    return InputError(
        "project.damaged",
        f"{name} cannot be read as a project ({why}).",
        "Open an earlier copy of it, or the MIDI file that it was made from.",
    )

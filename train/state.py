"""The state of a run on disk: everything needed to go on, in one file or in parts of at most 15 MB.

In one file it is ``state.safetensors``. In parts it is ``state.index.json`` and the files that it
names, ``state-STEP-NUMBER.safetensors``; a tensor that is too large for one part is cut. A save
takes effect by one replacement, of the file or of the index, so an interrupted save leaves the
state before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pkontext.errors import PkError

WHOLE, INDEX = "state.safetensors", "state.index.json"
#: Bytes of a part, and how many of them a tensor's line in its header may take besides the name.
PART_BYTES, LINE_BYTES = 15_000_000, 128


class StateError(PkError):
    """A run cannot go on from its folder."""

    exit_code = 3


def save_state(out: Path, tensors: dict[str, Tensor], parts: bool, limit: int = PART_BYTES) -> None:
    """Replace the state of a run folder.

    Parameters
    ----------
    out : Path
    tensors : dict
        Everything to keep; with parts, ``step`` names them.
    parts : bool
        Write files of at most ``limit`` bytes with an index.
    limit : int
        Bytes of a part, its header included.
    """
    if not parts:
        replace_file(out / WHOLE, tensors)
        (out / INDEX).unlink(missing_ok=True)
        kept: set[str] = set()
    else:
        index = {"step": int(tensors["step"]), "files": {}, "cut": {}}
        for number, (part, shapes) in enumerate(_parts(tensors, limit), 1):
            name = f"state-{index['step']:07d}-{number:03d}.safetensors"
            replace_file(out / name, part)
            index["files"][name] = (out / name).stat().st_size
            index["cut"] |= shapes
        temporary = out / f"{INDEX}.part"
        temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")
        os.replace(temporary, out / INDEX)
        (out / WHOLE).unlink(missing_ok=True)
        kept = set(index["files"])
    for old in out.glob("state-*.safetensors"):
        if old.name not in kept:
            old.unlink()


def load_state(out: Path) -> dict[str, Tensor]:
    """Read the state of a run folder, whichever form it has; the later one where there are both.

    Raises
    ------
    StateError
        ``state.missing``, ``state.part`` for a part that is not there, or ``state.broken``.
    """
    whole, index = out / WHOLE, out / INDEX
    if not whole.exists() and not index.exists():
        raise StateError(
            "state.missing",
            f"There is nothing to go on from in {out}: it has neither {WHOLE} nor {INDEX}.",
            "Leave out --resume to start the run anew, or name its folder with --out.",
        )
    try:
        entry = json.loads(index.read_text(encoding="utf-8")) if index.exists() else None
        if entry is not None and not (whole.exists() and _step(whole) > entry["step"]):
            return _join(out, entry)
        return load_file(whole)
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise broken(out, str(error)) from error


def broken(out: Path, why: str) -> StateError:
    """The error for a state that cannot be used."""
    return StateError(
        "state.broken",
        f"The state in {out} cannot be used: {why.strip().rstrip('.')}.",
        "Put back a copy of the folder, or leave out --resume to start the run anew.",
    )


def replace_file(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file at once or not at all."""
    temporary = path.with_suffix(".part")
    save_file({k: v.cpu().clone() for k, v in tensors.items()}, temporary)
    os.replace(temporary, path)


def _parts(
    tensors: dict[str, Tensor], limit: int
) -> Iterator[tuple[dict[str, Tensor], dict[str, list[int]]]]:
    """Tensors in groups of at most ``limit`` bytes, with the shapes of those that begin cut in a group."""
    part: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    used = LINE_BYTES
    for name, whole in tensors.items():
        tensor = whole.detach()
        pieces: dict[str, Tensor] = {name: tensor}
        room = limit - 2 * LINE_BYTES - len(name)
        if tensor.nbytes > room:
            flat = tensor.reshape(-1).split(max(room // tensor.element_size(), 1))
            pieces = {f"{name}#{i}": piece for i, piece in enumerate(flat)}
            shapes[name] = list(tensor.shape)
        for key, piece in pieces.items():
            size = piece.nbytes + len(name) + LINE_BYTES
            if part and used + size > limit:
                yield part, shapes
                part, shapes, used = {}, {}, LINE_BYTES
            part[key] = piece
            used += size
    yield part, shapes


def _join(out: Path, index: dict) -> dict[str, Tensor]:
    """All tensors of the parts that an index names."""
    pieces: dict[str, Tensor] = {}
    for name, size in index["files"].items():
        path = out / name
        if not path.exists():
            raise StateError(
                "state.part",
                f"The state in {out} lacks {name}, one of its {len(index['files'])} parts.",
                "Put the file back beside the others, or leave out --resume to start the run anew.",
            )
        if path.stat().st_size != size:
            raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {size}")
        pieces |= load_file(path)
    for name, shape in index["cut"].items():
        count = sum(key.startswith(f"{name}#") for key in pieces)
        flat = torch.cat([pieces.pop(f"{name}#{i}") for i in range(count)])
        pieces[name] = flat.reshape(shape)
    return pieces


def _step(path: Path) -> int:
    with safe_open(path, "pt") as archive:
        return int(archive.get_tensor("step"))

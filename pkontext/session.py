"""The processor's state as bytes: score, settings, parameters and place, in JSON that stays readable.

Nothing is unpickled; what does not fit is refused with one error.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from pkontext import parameters
from pkontext.drawn import Drawn
from pkontext.errors import InputError
from pkontext.take import RenderSettings, Reroll, check_settings
from pkontext.types import METER, SCORE_NOTE, TEMPO, Score

VERSION = 1
_LARGEST = 64_000_000

State = tuple[Score | None, RenderSettings, dict[str, float], float, tuple[float, float] | None]


def pack_state(
    score: Score | None,
    settings: RenderSettings,
    values: dict[str, float],
    place: float,
    loop: tuple[float, float] | None,
) -> bytes:
    """Write a state; `unpack_state` reads it."""
    state: dict[str, Any] = {
        "version": VERSION,
        "settings": asdict(settings),
        "values": values,
        "place": place,
        "loop": loop,
    }
    if score is not None:
        state["score"] = score_to_plain(score)
    return json.dumps(state, default=str).encode()


def unpack_state(state: bytes) -> State:
    """Read a state.

    Returns
    -------
    tuple
        Score or None, settings, values of parameters, place in score seconds, loop or None.

    Raises
    ------
    InputError
        ``state.version`` for one of a later program, ``state.damaged`` for anything else that does not fit.
    """
    try:
        found = json.loads(state)
        version = found["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged("it is no saved state") from error
    if version != VERSION:
        raise InputError(
            "state.version",
            f"This state has version {version}, and this program knows {VERSION}.",
            "Update it.",
        )
    try:
        score = None if found.get("score") is None else score_from_plain(found["score"])
        settings = settings_from_plain(found["settings"])
        values = {
            name: parameters.find(name).checked(float(value)) for name, value in found["values"].items()
        }
        loop = None if found["loop"] is None else (float(found["loop"][0]), float(found["loop"][1]))
        return score, settings, values, float(found["place"]), loop
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error, EOFError) as error:
        raise _damaged(f"{type(error).__name__}: {error}"[:80]) from error


def score_to_plain(score: Score) -> dict[str, Any]:
    """A score as plain values, for JSON."""
    return {
        "notes": _packed(score.notes),
        "tempi": _packed(score.tempi),
        "meters": _packed(score.meters),
        "ticks_per_quarter": score.ticks_per_quarter,
        "title": score.title,
        "warnings": list(score.warnings),
    }


def settings_from_plain(found: dict[str, Any]) -> RenderSettings:
    """Settings from their plain values, as `dataclasses.asdict` makes them; unknown ones are left out.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, InputError
        For values that do not fit.
    """
    known = {field.name for field in fields(RenderSettings)}
    values = {name: value for name, value in found.items() if name in known}
    for name in ("soundfont", "like"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    values["rerolls"] = tuple(Reroll(**reroll) for reroll in values.get("rerolls", ()))
    values["drawn"] = tuple(
        Drawn(str(drawn["name"]), tuple((float(second), float(value)) for second, value in drawn["points"]))
        for drawn in values.get("drawn", ())
    )
    settings = RenderSettings(**values)
    check_settings(settings)
    return settings


def score_from_plain(found: dict[str, Any]) -> Score:
    """The score of `score_to_plain`.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, zlib.error
        For values that do not fit.
    """
    notes = _unpacked(found["notes"], SCORE_NOTE)
    if not len(notes):
        raise ValueError("no notes")
    return Score(
        notes,
        int(found["ticks_per_quarter"]),
        _unpacked(found["tempi"], TEMPO),
        _unpacked(found["meters"], METER),
        str(found["title"]),
        tuple(map(str, found["warnings"])),
    )


def _packed(rows: np.ndarray) -> str:
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def _unpacked(text: str, dtype: np.dtype) -> np.ndarray:
    inflate = zlib.decompressobj()
    raw = inflate.decompress(base64.b64decode(text, validate=True), _LARGEST)
    rows = np.load(io.BytesIO(raw), allow_pickle=False)
    if rows.dtype != dtype or rows.ndim != 1:
        raise ValueError(f"rows of {rows.dtype}")
    return rows


def _damaged(why: str) -> InputError:
    return InputError("state.damaged", f"The saved state cannot be read ({why}).", "Load the piece anew.")

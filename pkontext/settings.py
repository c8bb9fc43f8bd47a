"""Options as data: one table with type, default, range and help text, and where a value comes from.

A value on the command line wins over the environment variable ``PKONTEXT_<NAME>``, that over
``settings.toml`` in the platform's configuration folder, and that over the default. The command
line builds its options from this table; an error names the place that the bad value came from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs

from pkontext.errors import InputError

APP = "pkontext"
FILE_NAME = "settings.toml"
PREFIX = "PKONTEXT_"

Kind = Literal["int", "float", "choice", "path", "text"]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes
    ----------
    name : str
        As in ``--name``, ``PKONTEXT_NAME`` and ``settings.toml``.
    kind : {"int", "float", "choice", "path", "text"}
        Type of the value.
    default : object
        Value when nobody gives one; None lets the program choose.
    help : str
        What it does, for ``--help``.
    minimum, maximum : float, optional
        Range of a number, both ends included.
    choices : tuple of str
        Allowed words of a choice.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range_text(self) -> str:
        """The allowed values in words."""
        if self.kind == "choice":
            return ", ".join(self.choices[:-1]) + f" or {self.choices[-1]}"
        if self.kind in ("path", "text"):
            return "a path" if self.kind == "path" else "a name"
        number = "a whole number" if self.kind == "int" else "a number"
        return f"{number} from {self.minimum:g} to {self.maximum:g}"


_TABLE = (
    Option("seed", "int", 0, "Which performance: the same number gives the same audio.", 0, 999_999_999),
    Option("tempo", "float", 1.0, "Speed against the score: 0.5 is half as fast, 2 twice.", 0.25, 4.0),
    Option("steps", "int", None, "Network calls for each window: more is slower and finer.", 1, 128),
    Option("expressiveness", "float", 1.0, "0 is strict, 1 as learned, more exaggerates.", 0.0, 1.5),
    Option(
        "guidance", "float", None, "How closely a performance follows the score; 1 is unguided.", 1.0, 5.0
    ),
    Option("temperature", "float", None, "How far seeds differ: 0 is the plainest reading.", 0.0, 1.5),
    Option(
        "voice",
        "choice",
        "neural",
        "neural (the network's sound), sampler (through a soundfont) or deadpan (the plain score).",
        choices=("neural", "sampler", "deadpan"),
    ),
    Option(
        "format",
        "choice",
        "auto",
        "Audio format; auto goes by the ending of the file's name, else wav.",
        choices=("auto", "wav", "flac"),
    ),
    Option(
        "bits",
        "choice",
        "24",
        "Bits of a sample: 16, 24, or 32f for floats (WAV only).",
        choices=("16", "24", "32f"),
    ),
    Option("threads", "int", 0, "Threads of the networks; 0 lets the program choose.", 0, 256),
    Option(
        "provider",
        "choice",
        "auto",
        "Where the networks run; auto takes a GPU if one works.",
        choices=("auto", "cpu", "cuda"),
    ),
    Option("bundle", "path", None, "Folder of the model bundle, instead of the built-in one."),
    Option("soundfont", "path", None, "Soundfont of the sampler voice, instead of the built-in piano."),
    Option("reverb", "float", 0.0, "Room around the sampler voice: 0 is dry.", 0.0, 1.0),
    Option("device", "text", None, "Audio output to play on; `pkontext devices` lists them."),
)
OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}


@dataclass(frozen=True)
class Settings:
    """Resolved values of `OPTIONS`, and for each one where it came from.

    ``sources`` maps a name to ``"flag"``, ``"environment"``, ``"file"`` or ``"default"``.
    """

    seed: int
    tempo: float
    steps: int | None
    expressiveness: float
    guidance: float | None
    temperature: float | None
    voice: str
    format: str
    bits: str
    threads: int
    provider: str
    bundle: Path | None
    soundfont: Path | None
    reverb: float
    device: str | None
    sources: Mapping[str, str]


def config_folder() -> Path:
    """The platform's folder for our ``settings.toml``; it need not exist."""
    return platformdirs.user_config_path(APP, appauthor=False)


def log_folder() -> Path:
    """The platform's folder for logs; it need not exist."""
    return platformdirs.user_log_path(APP, appauthor=False)


def resolve(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Find the value of every option.

    Parameters
    ----------
    flags : mapping, optional
        Values from the command line by name; None means not given.
    environment : mapping, optional
        Variables; those of the process if left out. An empty one counts as not set.
    file : Path, optional
        The settings file; the one in `config_folder` if left out. It need not exist.

    Returns
    -------
    Settings

    Raises
    ------
    InputError
        ``settings.value`` for a value that does not fit, ``settings.unknown`` for a name in the
        file that is no option, ``settings.file`` when the file cannot be read.
    """
    environment = os.environ if environment is None else environment
    file = config_folder() / FILE_NAME if file is None else file
    from_file = read_settings_file(file)
    values, sources = {}, {}
    for name, option in OPTIONS.items():
        variable = PREFIX + name.upper()
        if flags is not None and flags.get(name) is not None:
            values[name], sources[name] = check_value(option, flags[name], f"--{name}"), "flag"
        elif environment.get(variable):
            values[name], sources[name] = check_value(option, environment[variable], variable), "environment"
        elif name in from_file:
            value = check_value(option, from_file[name], f"{name} in {file}")
            if isinstance(value, Path):
                value = file.parent / value
            values[name], sources[name] = value, "file"
        else:
            values[name], sources[name] = option.default, "default"
    return Settings(**values, sources=sources)


def read_settings_file(file: Path) -> dict[str, Any]:
    """Return the file's values by option name, unchecked; nothing if there is no file.

    Raises
    ------
    InputError
        ``settings.file`` or ``settings.unknown``.
    """
    try:
        with file.open("rb") as stream:
            found = tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            "settings.file",
            f"The settings file {file} cannot be read ({reason}).",
            "Mend or remove it: one line for each option, such as `tempo = 0.9`.",
        ) from error
    for name in found:
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, OPTIONS, 1)
            raise InputError(
                "settings.unknown",
                f"The settings file {file} has an unknown option '{name}'.",
                f"Did you mean '{close[0]}'?" if close else f"These exist: {', '.join(OPTIONS)}.",
            )
    return found


def check_value(option: Option, value: Any, source: str) -> Any:
    """Convert a value to the option's type and check its range.

    Parameters
    ----------
    option : Option
    value : object
        Text, or a value from TOML.
    source : str
        Where it came from, for the error.

    Raises
    ------
    InputError
        ``settings.value``.
    """
    try:
        return _convert(option, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            "settings.value",
            f"{source} is {str(value)[:80]!r}, which is not {option.range_text}.",
            f"Correct it: {option.help}",
        ) from error


def _convert(option: Option, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Path):
        raise TypeError(value)
    if option.kind == "choice":
        if str(value) not in option.choices:
            raise ValueError(value)
        return str(value)
    if option.kind == "path":
        if not isinstance(value, str | Path) or not str(value):
            raise TypeError(value)
        return Path(value).expanduser()
    if option.kind == "text":
        if not isinstance(value, str) or not value:
            raise TypeError(value)
        return value
    return _number(option, value)


def _number(option: Option, value: Any) -> int | float:
    if isinstance(value, Path) or (option.kind == "int" and isinstance(value, float)):
        raise TypeError(value)
    number = int(value) if option.kind == "int" else float(value)
    assert option.minimum is not None and option.maximum is not None
    if not option.minimum <= number <= option.maximum:
        raise ValueError(value)
    return number

"""What the user has chosen for good: typed, checked, kept in `QSettings`.

For options that `pkontext.settings` has, flag, environment and ``settings.toml`` win over what was chosen
in the window, and that wins over the default; `Preferences.source` says where a value comes from, so that
the dialog can show what it cannot change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, QSettings, pyqtSignal

from gui.theme import THEMES
from pkontext.errors import InputError
from pkontext.player import OutputFactory
from pkontext.settings import FILE_NAME, PREFIX, Settings, config_folder, resolve

_GROUP = "preferences"


@dataclass(frozen=True)
class Preference:
    """One thing to choose.

    Attributes
    ----------
    name : str
        As in `QSettings`; that of the option where `pkontext.settings` has one.
    kind : type
        bool, int, float, str, Path, or list for several paths.
    default : object
        None lets the program choose.
    minimum, maximum : float
        Range of a number.
    choices : tuple of str
        Words; empty for any text.
    """

    name: str
    kind: type
    default: Any
    minimum: float = 0.0
    maximum: float = 0.0
    choices: tuple[str, ...] = ()


_TABLE = (
    Preference("theme", str, "system", choices=THEMES),
    Preference("language", str, "en", choices=("en",)),
    Preference("device", str, None),
    Preference("latency", str, "low", choices=("low", "high")),
    Preference("threads", int, 0, 0, 256),
    Preference("provider", str, "auto", choices=("auto", "cpu", "cuda")),
    Preference("bundle", Path, None),
    Preference("bundles", list, ()),
    Preference("midi_port", str, None),
    Preference("monitor", bool, True),
    Preference("monitor_volume", float, 1.0, 0.0, 2.0),
    Preference("monitor_driver", str, None),
    Preference("metronome", bool, False),
    Preference("metronome_bpm", float, 100.0, 20.0, 400.0),
    Preference("metronome_beats", int, 4, 1, 32),
    Preference("count_in", int, 1, 0, 16),
)
PREFERENCES: dict[str, Preference] = {entry.name: entry for entry in _TABLE}


class Preferences(QObject):
    """The user's choices. Belongs to the Qt thread.

    Parameters
    ----------
    settings : QSettings, Path or None
        Where they are kept; a path is an INI file; None keeps them in memory only.
    flags : mapping, optional
        Options of the command line, by name.
    environment : mapping, optional
        As for `pkontext.settings.resolve`.
    file : Path, optional
        The settings file, as for `pkontext.settings.resolve`.
    """

    #: Name of a preference that has another value now.
    changed = pyqtSignal(str)

    def __init__(
        self,
        settings: QSettings | Path | None = None,
        flags: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        if isinstance(settings, Path):
            settings = QSettings(str(settings), QSettings.Format.IniFormat)
        self._settings = settings
        self._memory: dict[str, Any] = {}
        self._file = file or config_folder() / FILE_NAME
        #: What is wrong with ``settings.toml`` or the environment; they are not used then.
        self.problem: InputError | None = None
        self._given: Settings | None = None
        try:
            self._given = resolve(flags, environment, self._file)
        except InputError as error:
            self.problem = error

    def get(self, name: str) -> Any:
        """The value that holds."""
        if self.source(name) in ("flag", "environment", "file"):
            return getattr(self._given, name)
        entry = PREFERENCES[name]
        return _checked(entry, self._stored(name))

    def set(self, name: str, value: Any) -> None:
        """Choose a value; None is the default. It is on disk at once.

        Raises
        ------
        ValueError
            For a value that does not fit: a control has let it through.
        """
        entry = PREFERENCES[name]
        if value is not None and _checked(entry, _plain(value)) != value:
            raise ValueError(f"{name} cannot be {value!r}")
        before = self.get(name)
        if self._settings is None:
            self._memory[name] = _plain(value)
        elif value is None:
            self._settings.remove(f"{_GROUP}/{name}")
        else:
            self._settings.setValue(f"{_GROUP}/{name}", _plain(value))
        if self._settings is not None:
            self._settings.sync()
        if self.get(name) != before:
            self.changed.emit(name)

    def source(self, name: str) -> str:
        """Where a value comes from: flag, environment, file, chosen or default."""
        given = "default" if self._given is None else self._given.sources.get(name, "default")
        if given != "default":
            return given
        return "default" if self._stored(name) is None else "chosen"

    def fixed(self, name: str) -> str:
        """What keeps a value from being chosen here, for people; empty if nothing does."""
        return {
            "flag": self.tr("the option --{0} of the command line").format(name),
            "environment": self.tr("the environment variable {0}").format(PREFIX + name.upper()),
            "file": self.tr("the settings file {0}").format(self._file),
        }.get(self.source(name), "")

    def output(self) -> OutputFactory:
        """An output factory for the chosen device and latency."""
        return speaker(self.device, self.get("latency"))

    @property
    def theme(self) -> str:
        """One of `gui.theme.THEMES`."""
        return self.get("theme")

    @property
    def device(self) -> str | None:
        """Audio output as ``HOST: NAME``, or None for the system's default."""
        return self.get("device")

    @property
    def bundle(self) -> Path | None:
        """Folder of the model, or None for the built-in one."""
        return self.get("bundle")

    @property
    def threads(self) -> int:
        """Threads of the networks; 0 lets the program choose."""
        return self.get("threads")

    @property
    def provider(self) -> str:
        """Where the networks run."""
        return self.get("provider")

    def _stored(self, name: str) -> Any:
        if self._settings is None:
            return self._memory.get(name)
        return self._settings.value(f"{_GROUP}/{name}")


def speaker(device: str | None, latency: str) -> OutputFactory:
    """An output factory for a device of the sound card with ``"low"`` or ``"high"`` latency."""
    from pkontext.output import SpeakerOutput

    return lambda ring, rate: SpeakerOutput(ring, rate, device, latency=latency)


def _plain(value: Any) -> Any:
    """What an INI file holds."""
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _checked(entry: Preference, raw: Any) -> Any:
    """A stored value as its type; the default where it is missing or does not fit."""
    if raw is None:
        return entry.default
    try:
        value = _converted(entry.kind, raw)
    except (TypeError, ValueError):
        return entry.default
    if entry.choices and value not in entry.choices:
        return entry.default
    if entry.kind in (int, float) and not entry.minimum <= value <= entry.maximum:
        return entry.default
    return value


def _converted(kind: type, raw: Any) -> Any:
    if kind is bool:
        if str(raw).lower() not in ("true", "false"):
            raise ValueError(raw)
        return str(raw).lower() == "true"
    if kind is list:
        parts = [raw] if isinstance(raw, str) else list(raw)
        return tuple(Path(part) for part in parts if part)
    if kind in (str, Path) and not str(raw):
        raise ValueError(raw)
    return kind(raw)

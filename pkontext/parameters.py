"""Parameters of the processor as data: hosts build their controls from this table.

Every value is a float, as plugin hosts have it; a choice is the index of its word. Text and value
are converted both ways, so that a host can show and take either.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace

from pkontext.errors import InputError
from pkontext.take import VOICES, RenderSettings

#: Gain at the lower end of the volume means silence.
SILENT_DB = -60.0


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    id, name, unit : str
        For programs; for people; unit of the number shown, or empty.
    minimum, maximum, default, step : float
        Values lie on ``minimum + k * step``; a step of 0 is continuous.
    choices : tuple of str
        Words of the values 0, 1, …; empty for numbers.
    scale : float
        Number shown for a value of 1.
    makes_take : bool
        Whether a change makes another take; the others are heard at once.
    help : str
    """

    id: str
    name: str
    unit: str
    minimum: float
    maximum: float
    default: float
    step: float
    help: str
    choices: tuple[str, ...] = ()
    scale: float = 1.0
    makes_take: bool = True

    def checked(self, value: float) -> float:
        """The nearest allowed value.

        Raises
        ------
        InputError
            ``parameter.value`` when it is not a number or out of range.
        """
        if not (isinstance(value, int | float) and math.isfinite(value)):
            raise self._bad(str(value))
        if not self.minimum - 1e-9 <= value <= self.maximum + 1e-9:
            raise self._bad(f"{value:g}")
        if self.step:
            value = self.minimum + round((value - self.minimum) / self.step) * self.step
        return float(min(max(value, self.minimum), self.maximum))

    def to_text(self, value: float) -> str:
        """What a person reads, such as ``"80 %"``."""
        if self.choices:
            return self.choices[round(value)]
        if self.id == "volume" and value <= SILENT_DB:
            return "silent"
        shown = value * self.scale
        number = f"{shown:.0f}" if self.step * self.scale >= 1 else f"{shown:.4g}"
        return f"{number} {self.unit}".strip()

    def from_text(self, text: str) -> float:
        """The value of what a person wrote, with or without the unit.

        Raises
        ------
        InputError
            ``parameter.value``.
        """
        text = text.strip()
        if self.choices:
            if text in self.choices:
                return float(self.choices.index(text))
            raise self._bad(text)
        if self.id == "volume" and text == "silent":
            return SILENT_DB
        number = text.removesuffix(self.unit).strip().replace(",", ".") if self.unit else text
        try:
            return self.checked(float(number) / self.scale)
        except ValueError as error:
            raise self._bad(text) from error

    def _bad(self, text: str) -> InputError:
        if self.choices:
            allowed = ", ".join(self.choices[:-1]) + f" or {self.choices[-1]}"
        else:
            allowed = f"{self.to_text(self.minimum)} to {self.to_text(self.maximum)}"
        return InputError(
            "parameter.value",
            f"{self.name} cannot be {text[:40]!r}.",
            f"Choose {allowed}.",
        )


#: What a take is made with, then what is heard at once.
TABLE: tuple[Parameter, ...] = (
    Parameter("seed", "Seed", "", 0, 999_999_999, 0, 1, "Another number is another performance."),
    Parameter("tempo", "Tempo", "%", 0.25, 4.0, 1.0, 0.01, "Speed against the score.", scale=100),
    Parameter(
        "expressiveness",
        "Expressiveness",
        "%",
        0,
        1.5,
        1.0,
        0.01,
        "0 % is strict, 100 % as learned, more exaggerates.",
        scale=100,
    ),
    Parameter(
        "guidance", "Guidance", "", 0, 5, 0, 0.1, "How closely it follows the score; 0 is the model's own."
    ),
    Parameter(
        "temperature", "Freedom", "", -0.1, 1.5, -0.1, 0.1, "How far seeds differ; -0.1 is the model's own."
    ),
    Parameter("steps", "Quality", "calls", 0, 128, 0, 1, "Network calls a window; 0 is the model's own."),
    Parameter("reverb", "Room", "%", 0, 1, 0, 0.01, "Reverb of the sampler voice.", scale=100),
    Parameter(
        "voice",
        "Voice",
        "",
        0,
        len(VOICES) - 1,
        0,
        1,
        "The network's sound, a sampled piano, or the score without a performance.",
        VOICES,
        makes_take=False,
    ),
    Parameter("volume", "Volume", "dB", SILENT_DB, 6, 0, 0.5, "Level of the take.", makes_take=False),
    Parameter(
        "monitor", "Monitor", "dB", SILENT_DB, 6, 0, 0.5, "Level of notes played live.", makes_take=False
    ),
)
BY_ID: dict[str, Parameter] = {parameter.id: parameter for parameter in TABLE}

#: Named sets of values; what they leave out stays.
PRESETS: dict[str, dict[str, float]] = {
    "As learned": {"expressiveness": 1.0, "guidance": 0, "temperature": -0.1},
    "Restrained": {"expressiveness": 0.6, "guidance": 0, "temperature": 0.5},
    "Free": {"expressiveness": 1.15, "guidance": 2.0, "temperature": 1.1},
    "Plain reading": {"expressiveness": 1.0, "guidance": 0, "temperature": 0.0},
    "Strict": {"expressiveness": 0.0, "guidance": 0, "temperature": -0.1},
}


def defaults() -> dict[str, float]:
    """Every parameter's default by its id."""
    return {parameter.id: parameter.default for parameter in TABLE}


def find(name: str) -> Parameter:
    """The parameter of an id.

    Raises
    ------
    InputError
        ``parameter.unknown``.
    """
    if name not in BY_ID:
        close = difflib.get_close_matches(name, BY_ID, 1)
        raise InputError(
            "parameter.unknown",
            f"There is no parameter '{name}'.",
            f"Did you mean '{close[0]}'?" if close else f"These exist: {', '.join(BY_ID)}.",
        )
    return BY_ID[name]


def gain(value: float) -> float:
    """Factor of a level in dB; nothing at `SILENT_DB`."""
    return 0.0 if value <= SILENT_DB else 10 ** (value / 20)


def applied(values: dict[str, float], base: RenderSettings) -> RenderSettings:
    """Settings with the parameters in place of theirs; ranges, drawn curves and soundfont stay."""
    return replace(
        base,
        seed=int(values["seed"]),
        tempo=values["tempo"],
        expressiveness=values["expressiveness"],
        guidance=values["guidance"] if values["guidance"] >= 1 else None,
        temperature=values["temperature"] if values["temperature"] >= 0 else None,
        steps=int(values["steps"]) or None,
        reverb=values["reverb"],
        voice=VOICES[round(values["voice"])],
    )


def taken(settings: RenderSettings) -> dict[str, float]:
    """The parameters' values of some settings; `applied` the other way round."""
    return {
        "seed": float(settings.seed),
        "tempo": settings.tempo,
        "expressiveness": settings.expressiveness,
        "guidance": settings.guidance if settings.guidance is not None else 0.0,
        "temperature": settings.temperature if settings.temperature is not None else -0.1,
        "steps": float(settings.steps or 0),
        "reverb": settings.reverb,
        "voice": float(VOICES.index(settings.voice)),
    }

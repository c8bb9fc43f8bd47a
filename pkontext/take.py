"""What a take is rendered with, how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pkontext.errors import Cancelled, InputError

VOICES = ("neural", "sampler")


@dataclass(frozen=True)
class RenderSettings:
    """What a take is rendered with; with score and bundle it determines every sample.

    Attributes
    ----------
    seed : int
        Another seed is another performance.
    tempo : float
        Factor on the notated tempo, 0.25 to 4.
    steps : int or None
        Network calls for the latents of a window; None takes the bundle's default.
    expressiveness : float
        0 plays deadpan timing and one loudness, 1 as the model does, up to 1.5.
    voice : str
        ``"neural"`` (codec decoder) or ``"sampler"`` (notes through a soundfont).
    soundfont : Path or None
        Of the sampler voice; None takes the bundle's.
    start_sec, end_sec : float, float or None
        Which notes to play, in score seconds; the performance is that of the whole piece.
    """

    seed: int = 0
    tempo: float = 1.0
    steps: int | None = None
    expressiveness: float = 1.0
    voice: str = "neural"
    soundfont: Path | None = None
    start_sec: float = 0.0
    end_sec: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far a render is; ``windows`` and ``total_sec`` are estimates until the curves are done."""

    stage: str
    window: int
    windows: int
    rendered_sec: float
    total_sec: float
    elapsed_sec: float


ProgressFn = Callable[[Progress], None]
CancelFn = Callable[[], bool]


def check_settings(settings: RenderSettings) -> None:
    """Raise `InputError` for the first setting that is out of range."""
    ranges = {"tempo": (0.25, 4.0), "expressiveness": (0.0, 1.5)}
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise InputError(
                f"settings.{name}", f"The {name} is {value:g}.", f"Choose a value from {low:g} to {high:g}."
            )
    if settings.steps is not None and not 1 <= settings.steps <= 128:
        raise InputError(
            "settings.steps", f"The number of steps is {settings.steps}.", "Choose a value from 1 to 128."
        )
    if settings.voice not in VOICES:
        raise InputError(
            "settings.voice", f"There is no voice '{settings.voice}'.", f"Choose {' or '.join(VOICES)}."
        )


def check_cancelled(cancelled: CancelFn | None) -> None:
    """Raise `Cancelled` when the caller asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled

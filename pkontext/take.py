"""What a take is rendered with, how far it is, and how it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pkontext import __version__
from pkontext.drawn import Drawn, check_drawn
from pkontext.errors import Cancelled, InputError
from pkontext.settings import Settings
from pkontext.types import Score

VOICES = ("neural", "sampler", "deadpan")
#: Least length of a re-rolled range, and of what stays between two, in seconds at the take's tempo.
LEAST_REROLL_SEC = LEAST_GAP_SEC = 1.0


@dataclass(frozen=True)
class Reroll:
    """A range of the score to perform once more, while the rest of the take stays as it is.

    Attributes
    ----------
    start_sec, end_sec : float
        Score seconds; notes that start in ``[start_sec, end_sec)`` are performed anew.
    seed : int
        Another seed is another performance of the range; it has nothing to do with the take's.
    """

    start_sec: float
    end_sec: float
    seed: int


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
    guidance : float or None
        Strength of classifier-free guidance of the curves, 1 to 5; None takes the bundle's.
    temperature : float or None
        Scale of the noise that the curves start from, 0 to 1.5; None takes the bundle's.
    voice : str
        ``"neural"`` (codec decoder), ``"sampler"`` (notes through a soundfont) or ``"deadpan"`` (the score
        without a performance through a soundfont, for comparison).
    soundfont : Path or None
        Of the sampler and deadpan voices; None takes the bundle's.
    reverb : float
        Level of the room of the sampler and deadpan voices, 0 (dry) to 1.
    start_sec, end_sec : float, float or None
        Which notes to play, in score seconds; the performance is that of the whole piece.
    rerolls : tuple of Reroll
        Ranges to perform anew, in any order; outside of them the take is the one without them.
    drawn : tuple of Drawn
        Curves that the take follows where they are drawn, whatever the expressiveness.
    like : Path or None
        MIDI file of a performance of the same score to play like, where it covers the score.
    like_amount : float
        How far: 0 is the take without it, 1 the performance's own curves.
    """

    seed: int = 0
    tempo: float = 1.0
    steps: int | None = None
    expressiveness: float = 1.0
    guidance: float | None = None
    temperature: float | None = None
    voice: str = "neural"
    soundfont: Path | None = None
    reverb: float = 0.0
    start_sec: float = 0.0
    end_sec: float | None = None
    rerolls: tuple[Reroll, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    like: Path | None = None
    like_amount: float = 1.0


def settings_from_options(found: Settings) -> RenderSettings:
    """What of the user's options makes a take; the rest of the settings keeps its defaults."""
    names = (
        "seed",
        "tempo",
        "steps",
        "expressiveness",
        "guidance",
        "temperature",
        "voice",
        "soundfont",
        "reverb",
    )
    return RenderSettings(**{name: getattr(found, name) for name in names})


@dataclass(frozen=True)
class Progress:
    """How far a render is; ``windows`` and ``total_sec`` are estimates until the curves are done.

    Each re-rolled range of a neural take is a stage of its own ("reroll") with its own windows; the
    seconds are those of the take.
    """

    stage: str
    window: int
    windows: int
    rendered_sec: float
    total_sec: float
    elapsed_sec: float


ProgressFn = Callable[[Progress], None]
CancelFn = Callable[[], bool]


def settings_texts(settings: RenderSettings) -> tuple[str, ...]:
    """The settings as short texts for a file that is made with them, without folders of this computer."""
    shown = {name: value for name, value in asdict(settings).items() if value not in (None, ())}
    for name in ("soundfont", "like"):
        if name in shown:
            shown[name] = Path(shown[name]).name
    return (f"PianoKontext {__version__}", f"seed={settings.seed}", f"settings={json.dumps(shown)}")


def check_settings(settings: RenderSettings) -> None:
    """Raise `InputError` for the first setting that is out of range."""
    ranges = {
        "tempo": (0.25, 4.0),
        "expressiveness": (0.0, 1.5),
        "guidance": (1.0, 5.0),
        "temperature": (0.0, 1.5),
        "like_amount": (0.0, 1.0),
        "reverb": (0.0, 1.0),
    }
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise InputError(
                f"settings.{name}",
                f"The {name.replace('_', ' ')} is {value:g}.",
                f"Choose a value from {low:g} to {high:g}.",
            )
    if settings.steps is not None and not 1 <= settings.steps <= 128:
        raise InputError(
            "settings.steps", f"The number of steps is {settings.steps}.", "Choose a value from 1 to 128."
        )
    if settings.voice not in VOICES:
        raise InputError(
            "settings.voice",
            f"There is no voice '{settings.voice}'.",
            f"Choose {', '.join(VOICES[:-1])} or {VOICES[-1]}.",
        )
    _check_rerolls(settings)
    check_drawn(settings.drawn)


def _check_rerolls(settings: RenderSettings) -> None:
    """Raise `InputError` for the first range that is empty, too short or too near another one."""
    before: Reroll | None = None
    for reroll in sorted(settings.rerolls, key=lambda range_: range_.start_sec):
        start, end = reroll.start_sec, reroll.end_sec
        shown = f"The range to re-roll from {start:g} s to {end:g} s"
        if not 0 <= start < end < float("inf"):
            raise InputError("settings.reroll", f"{shown} is none.", "Choose an end after the start.")
        if (end - start) / settings.tempo < LEAST_REROLL_SEC - 1e-6:
            raise InputError(
                "settings.reroll",
                f"{shown} lasts {(end - start) / settings.tempo:.2f} s at this tempo.",
                f"Choose a range of {LEAST_REROLL_SEC:g} s or more.",
            )
        if before is not None and (start - before.end_sec) / settings.tempo < LEAST_GAP_SEC - 1e-6:
            raise InputError(
                "settings.reroll",
                f"{shown} begins less than {LEAST_GAP_SEC:g} s after the end of another, at "
                f"{before.end_sec:g} s.",
                "Re-roll them as one range, or leave more between them.",
            )
        before = reroll


def check_cancelled(cancelled: CancelFn | None) -> None:
    """Raise `Cancelled` when the caller asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled


def notes_in_span(score: Score, settings: RenderSettings) -> np.ndarray:
    """Which notes of the score start inside the span; row numbers."""
    onset = score.notes["onset_sec"]
    end = np.inf if settings.end_sec is None else settings.end_sec
    rows = np.flatnonzero((onset >= settings.start_sec - 1e-9) & (onset < end))
    if not len(rows):
        raise InputError(
            "settings.span",
            f"No note starts between {settings.start_sec:g} s and {end:g} s.",
            f"The piece runs from {onset[0]:.1f} s to {score.duration_sec:.1f} s.",
        )
    return rows

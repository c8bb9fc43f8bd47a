"""The command ``pkontext notate``: from what was played, as a MIDI file, to a score of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkontext.cli_common import Json, Reporter, parse_time, shows_errors, time_option
from pkontext.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from pkontext.quantise import Quantised

#: Rows of a preview that people see; ``--json`` has all.
PREVIEW_ROWS = 40
#: A note this far from where it was played has been moved.
MOVED_SEC = 0.001
METRES = (2, 3, 4, 6)
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(shows_errors(notate))


def parse_divisions(text: str) -> tuple[int, ...]:
    """Return the numbers of ``"1,2,4"``.

    Raises
    ------
    ValueError
        When it is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of parts of a beat such as 1,2,3,4") from None


def parse_split(text: str) -> str | int:
    """Return ``"found"``, ``"none"``, or the pitch of ``"60"``, ``"C4"`` or ``"Bb3"``.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    text = text.strip()
    if text in ("found", "none"):
        return text
    named = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?\d)", text)
    pitch = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else -1
    if named is not None:
        step, sign, octave = named.groups()
        pitch = _STEPS[step.upper()] + _SIGNS[sign] + 12 * (int(octave) + 1)
    if not 0 <= pitch <= 127:
        raise ValueError(f"{text!r} is not found, none, or a note such as C4 or 60")
    return pitch


def _checked(read: Any) -> Any:
    """Make a callback that refuses a text which cannot be read."""

    def check(text: str | None) -> str | None:
        if text is not None:
            try:
                read(text)
            except ValueError as error:
                raise typer.BadParameter(f"{error}.") from error
        return text

    return check


def _beats(value: int | None) -> int | None:
    if value not in (None, *METRES):
        raise typer.BadParameter(f"{value} is not 2, 3, 4 or 6.")
    return value


def notate(
    *,
    played: Annotated[Path, typer.Argument(metavar="PLAYED.mid", help="A MIDI file of someone's playing.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="SCORE.mid", help="The score as a MIDI file.", dir_okay=False),
    ] = None,
    bpm: Annotated[
        float | None,
        typer.Option(
            min=10, max=400, help="Beats a minute, about; exact with --first-beat.", show_default="found"
        ),
    ] = None,
    first_beat: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Where a beat is in what was played: seconds or m:ss. With --bpm it is a metronome's, and"
            " with --beats as well it starts a bar.",
            callback=time_option,
        ),
    ] = None,
    beats: Annotated[
        int | None,
        typer.Option(
            metavar="2|3|4|6", help="Beats of a bar; 6 are eighths.", callback=_beats, show_default="found"
        ),
    ] = None,
    divisions: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Parts that a beat may be divided into, of 1, 2, 3, 4, 6, 8 and 12.",
            callback=_checked(parse_divisions),
            show_default="each beat what fits",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="0 leaves notes as played, 1 puts them on the grid.")
    ] = 1.0,
    split: Annotated[
        str,
        typer.Option(
            metavar="found|none|NOTE",
            help="Hands: found, none, or the lowest note of the right one (C4 or 60).",
            callback=_checked(parse_split),
        ),
    ] = "found",
    keep_dynamics: Annotated[
        bool, typer.Option("--keep-dynamics", help="Write loud and soft as dynamic marks.")
    ] = False,
    follow_tempo: Annotated[
        bool, typer.Option("--follow-tempo", help="Write a tempo map that follows the playing.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what would be written, and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Write what was played as a score: notes on beats, bars, two hands. What was played is left as it is."""
    from pkontext.imitate import read_performance
    from pkontext.notate import score_midi
    from pkontext.quantise import QuantiseSettings, describe, quantise

    if output is None and not preview:
        raise typer.BadParameter("give -o SCORE.mid to write the score, or --preview to look at it")
    reporter = Reporter(as_json, quiet)
    target = None if output is None or preview else check_target(output, played, force)
    notes, pedals = read_performance(played)
    settings = QuantiseSettings(
        tempo_bpm=bpm,
        first_beat_sec=None if first_beat is None else parse_time(first_beat),
        beats_per_bar=beats,
        divisions=None if divisions is None else parse_divisions(divisions),
        strength=strength,
        constant_tempo=not follow_tempo,
        split=parse_split(split),
        keep_dynamics=keep_dynamics,
        title=(output or played).stem,
    )
    found = quantise(notes, pedals, settings)
    for warning in found.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    if target is None:
        _say_preview(reporter, describe(found, notes), found, notes)
        return
    from pkontext.expressive_midi import write_midi

    write_midi(score_midi(found.score), target)
    fields = summary(found, notes)
    reporter.event("done", output=str(target), **fields)
    reporter.line(f"{target}: {describe_score(fields)}", "green")


def check_target(output: Path, source: Path, force: bool) -> Path:
    """Return the path of the score if a file may be written there.

    Raises
    ------
    InputError
        ``notate.same_file`` when it is what was played, and those of `pkontext.sinks.check_output`.
    """
    from pkontext.sinks import check_output

    if output.suffix.lower() not in (".mid", ".midi"):
        raise typer.BadParameter(f"{output} does not end in .mid")
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(
            "notate.same_file",
            f"{output} is what was played.",
            "Choose another name for the score; the recording is never replaced.",
        )
    return check_output(output, force)


def shifts(found: Quantised, notes: np.ndarray) -> np.ndarray:
    """Seconds by which each score note is later than it was played, float64 ``[score notes]``.

    The places of the score are taken back to what was played through the beats that were found there, so a
    change of tempo is no shift.
    """
    import numpy as np

    from pkontext.beats import beats_at

    onset = notes["onset_sec"][found.rows]
    place = found.score.notes["onset_tick"] / found.beat_ticks
    first = round(float(np.median(beats_at(onset, found.beat_sec) - place)))
    # Beats go on steadily beyond both ends, as far as the notes may reach.
    more = np.arange(1, 2 + int(np.ceil(max(-first, place.max() + first - len(found.beat_sec), 0))))
    beat_sec = found.beat_sec
    early = beat_sec[0] - more[::-1] * (beat_sec[1] - beat_sec[0])
    late = beat_sec[-1] + more * (beat_sec[-1] - beat_sec[-2])
    every = np.concatenate([early, beat_sec, late])
    return np.interp(place + first, np.arange(len(every)) - len(more), every) - onset


def summary(found: Quantised, notes: np.ndarray) -> dict[str, Any]:
    """What there is to say about a score of playing."""
    import numpy as np

    from pkontext.score import bar_at

    shift, meter = np.abs(shifts(found, notes)), found.score.meters[0]
    return {
        "tempo_bpm": round(found.tempo_bpm, 2),
        "meter": f"{meter['numerator']}/{meter['denominator']}",
        "bars": bar_at(found.score, float(found.score.notes["onset_sec"].max())),
        "notes": len(found.score.notes),
        "merged": len(found.merged),
        "left_out": len(found.left_out),
        "moved": round(float((shift > MOVED_SEC).mean()), 4),
        "mean_shift_ms": round(1000 * float(shift.mean()), 2),
    }


def describe_score(fields: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    text = (
        f"{fields['notes']} notes in {fields['bars']} bars of {fields['meter']}, {fields['tempo_bpm']:.1f} "
        f"beats a minute; {100 * fields['moved']:.0f} % of the notes moved, {fields['mean_shift_ms']:.0f} ms "
        "in the mean"
    )
    if fields["merged"] or fields["left_out"]:
        text += f"; {fields['merged']} merged, {fields['left_out']} left out"
    return text


def _say_preview(reporter: Reporter, rows: np.ndarray, found: Quantised, notes: np.ndarray) -> None:
    fields = summary(found, notes)
    reporter.event("preview", **fields, rows=[_row_fields(row) for row in rows] if reporter.as_json else [])
    if reporter.as_json:
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("bar", "beat", "note", "hand", "played (s)", "score (s)", box=SIMPLE)
    for row in rows[:PREVIEW_ROWS]:
        shown = _row_fields(row)
        times = (f"{shown['captured_sec']:.3f}", f"{shown['score_sec']:.3f}")
        table.add_row(str(shown["bar"]), f"{shown['beat']:.2f}", shown["note"], shown["hand"], *times)
    Console(soft_wrap=True, markup=False, highlight=False).print(table)
    if len(rows) > PREVIEW_ROWS:
        print(f"and {len(rows) - PREVIEW_ROWS} more notes (--json lists all)")
    print(describe_score(fields))


def _row_fields(row: np.void) -> dict[str, Any]:
    from pkontext.selfcheck import note_name

    return {
        "bar": int(row["bar"]),
        "beat": round(float(row["beat"]), 3),
        "note": note_name(int(row["pitch"])),
        "hand": "right" if row["right_hand"] else "left",
        "captured_sec": round(float(row["captured_sec"]), 4),
        "score_sec": round(float(row["score_sec"]), 4),
    }

"""What an export writes, and how: the same stages as ``pkontext render``, a file at a time.

`write` runs in an `Operation`; the rest are functions of their arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from gui.background import open_aside, shown_progress
from gui.document import Take
from gui.operations import Operation
from pkontext.bundle import Bundle
from pkontext.expressive_midi import expressive_midi, write_midi
from pkontext.sinks import SinkReport, SinkSpec, check_output, open_sink
from pkontext.take import Progress, RenderSettings, check_cancelled
from pkontext.types import Score

AUDIO = ("wav", "flac")
#: Kinds of files: id and ending.
KINDS = {"wav": ".wav", "flac": ".flac", "midi-fixed": ".mid", "midi-score": ".mid"}
PATTERN = "{title} - {take}"
FIELDS = ("title", "take", "seed", "tempo", "voice", "number")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}
_LONGEST = 120


@dataclass(frozen=True)
class ExportJob:
    """One file to write.

    Attributes
    ----------
    take : Take
    settings : RenderSettings
        The take's, with the voice and the span that are exported.
    path : Path
    kind : str
        One of `KINDS`.
    bits : str
        Of `pkontext.sinks.BITS`, for audio.
    """

    take: Take
    settings: RenderSettings
    path: Path
    kind: str
    bits: str = "24"


def file_name(pattern: str, title: str, take: Take, voice: str, number: int) -> str:
    """A file's name without its ending, fit for every system.

    Braces with one of `FIELDS` are filled in; others stay as they are.
    """
    values = {
        "title": title,
        "take": take.name,
        "seed": str(take.settings.seed),
        "tempo": f"{100 * take.settings.tempo:.0f}",
        "voice": voice,
        "number": f"{number:02d}",
    }
    filled = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), pattern)
    clean = " ".join(_FORBIDDEN.sub("_", filled).split()).strip(". ")[:_LONGEST].rstrip(". ")
    if not clean or clean.lower() in _RESERVED:
        clean = f"take {number:02d}"
    return clean


def plan(
    takes: list[Take],
    title: str,
    folder: Path,
    pattern: str,
    kind: str,
    bits: str,
    voice: str,
    span: tuple[float, float | None],
) -> list[ExportJob]:
    """The files of an export, with names that differ from one another."""
    jobs: list[ExportJob] = []
    used: set[str] = set()
    for number, take in enumerate(takes, 1):
        name = base = file_name(pattern, title, take, voice, number)
        again = 2
        while name.lower() in used:
            name, again = f"{base} ({again})", again + 1
        used.add(name.lower())
        settings = replace(take.settings, voice=voice, start_sec=span[0], end_sec=span[1])
        jobs.append(ExportJob(take, settings, folder / (name + KINDS[kind]), kind, bits))
    return jobs


def write(
    operation: Operation,
    job: ExportJob,
    score: Score,
    bundle: Bundle,
    threads: int = 0,
    provider: str = "auto",
) -> SinkReport | int:
    """Render a take to its file, which appears under its name when it is complete.

    With the player's threads and provider the samples are those that were heard; with others the last bits of
    sums may differ.

    Returns
    -------
    SinkReport or int
        Of audio; for MIDI, the number of its notes.

    Raises
    ------
    PkError
    Cancelled
        Nothing was left behind.
    """
    path = check_output(job.path, force=True)  # asked before
    rendering = open_aside(score, bundle, job.settings, threads, provider)
    check_cancelled(operation.cancelled)
    if job.kind not in AUDIO:
        operation.report(-1.0, "performing")
        take = rendering.take_notes(operation.cancelled)
        check_cancelled(operation.cancelled)
        write_midi(expressive_midi(take, job.kind.removeprefix("midi-")), path)
        return len(take.notes)
    spec = SinkSpec(rendering.sample_rate, rendering.channels, job.kind, job.bits, job.settings.seed)
    show = shown_progress(operation, _seconds)
    with open_sink(path, spec, force=True) as sink:
        for chunk in rendering.chunks(show, operation.cancelled):
            sink.write(chunk)
            check_cancelled(operation.cancelled)
        return sink.close()


def _seconds(state: Progress) -> str:
    return f"{state.rendered_sec:.0f} of {state.total_sec:.0f} s"

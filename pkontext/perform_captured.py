"""From a recording to its performance in one go: notated, then rendered. The recording is safe before that.

Threading: `perform_captured` blocks the thread that calls it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pkontext import bundle as bundles
from pkontext.captured import Captured
from pkontext.cli_common import stop_requests
from pkontext.cli_notate import METRES, describe_score, summary
from pkontext.errors import Cancelled
from pkontext.expressive_midi import write_midi
from pkontext.notate import score_midi
from pkontext.quantise import QuantiseSettings, quantise
from pkontext.render_job import Job, check_job, run
from pkontext.settings import Settings

if TYPE_CHECKING:
    from pkontext.cli_common import Reporter


def prepare_job(target: Path, found: Settings, force: bool) -> Job:
    """Make the job of a performance that is still to be played, and check what can be checked before.

    Raises
    ------
    InputError, BundleError, DeviceError
        Where it could not be written or rendered.
    """
    job = Job(
        source=Path(),
        output=str(target),
        settings=found,
        start_sec=0.0,
        end_sec=None,
        rerolls=(),
        force=force,
        midi=None,
        midi_form="fixed",
        draw=None,
        like=None,
        like_amount=1.0,
        check=False,
        best_of=None,
    )
    check_job(job)
    bundles.read_manifest(bundles.bundle_folder(found.bundle))
    return job


def settings_of_take(captured: Captured, title: str = "") -> QuantiseSettings:
    """How to notate a take: by its metronome, whose first beat is at second 0, else by what is heard."""
    if captured.tempo_bpm is None:
        return QuantiseSettings(title=title)
    beats = captured.beats_per_bar if captured.beats_per_bar in METRES else None
    return QuantiseSettings(
        tempo_bpm=captured.tempo_bpm, first_beat_sec=0.0, beats_per_bar=beats, title=title
    )


def perform_captured(captured: Captured, recording: Path, job: Job, reporter: Reporter) -> None:
    """Notate a take that is saved as ``recording``, and render its performance.

    Raises
    ------
    PkError
        What failed; that the recording is there has been said then.
    typer.Exit
        It was cancelled, and that has been said.
    """
    again = f"To perform it later: pkontext notate {recording} -o score.mid, then pkontext render score.mid."
    try:
        with stop_requests() as stopped, tempfile.TemporaryDirectory(prefix="pkontext-") as folder:
            source = Path(folder) / f"{recording.stem}.mid"
            _write_score(captured, source, reporter)
            run(replace(job, source=source), reporter, stopped)
    except (Cancelled, KeyboardInterrupt):
        reporter.event("cancelled", kept=str(recording))
        reporter.line(f"Cancelled; {recording} holds what was played. {again}")
        raise typer.Exit(Cancelled.exit_code) from None
    except Exception:
        reporter.event("kept", output=str(recording))
        if not reporter.as_json:
            reporter.line(
                f"{recording} holds what was played; only its performance failed. {again}",
                "yellow",
                always=True,
            )
        raise


def _write_score(captured: Captured, path: Path, reporter: Reporter) -> None:
    found = quantise(captured.notes, captured.pedals, settings_of_take(captured, path.stem))
    for warning in found.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    write_midi(score_midi(found.score), path)
    fields = summary(found, captured.notes)
    reporter.event("notated", **fields)
    reporter.line(f"Notated: {describe_score(fields)}")

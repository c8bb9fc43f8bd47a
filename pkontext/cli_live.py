"""The command ``pkontext record``: what is played on a MIDI keyboard, to a file, and performed on request.

Heavy modules are imported inside the command.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkontext import settings as options
from pkontext.cli_common import STDOUT, Json, Reporter, flag, shows_errors, stop_requests
from pkontext.errors import InputError

if TYPE_CHECKING:
    from pkontext.captured import Captured
    from pkontext.journal import Recovered
    from pkontext.live import LiveOptions, LiveSession, LiveStatus

_LOOK_SEC = 0.05
_JSON_SEC = 1.0
_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(shows_errors(record))


def record(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.mid", help="The MIDI file.", dir_okay=False)
    ],
    port: Annotated[
        str | None, typer.Option(metavar="NAME", help="Input port; see pkontext ports.", show_default="first")
    ] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Make a port that other programs can play to.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop by itself after this time.")] = None,
    metronome: Annotated[
        float | None, typer.Option(metavar="BPM", help="Click this many beats a minute.", min=20, max=400)
    ] = None,
    beats: Annotated[int, typer.Option(help="Beats a bar of the metronome.", min=1, max=32)] = 4,
    count_in: Annotated[int, typer.Option(help="Bars of clicks before the take.", min=0, max=16)] = 1,
    monitor: Annotated[bool, typer.Option(help="Sound what is played.")] = True,
    soundfont: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What it sounds with.", show_default="built-in piano")
    ] = None,
    driver: Annotated[
        str | None, typer.Option(metavar="NAME", help="FluidSynth's audio driver, such as pulseaudio.")
    ] = None,
    perform: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.wav",
            help="Then perform what was played, by the metronome's beats where there was one.",
            dir_okay=False,
        ),
    ] = None,
    seed: Annotated[int | None, flag("seed")] = None,
    voice: Annotated[str | None, flag("voice")] = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="Save what a crashed program had recorded; record nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Record what is played on a MIDI keyboard, until Ctrl-C, as a MIDI file.

    Every event is also written to a journal at once; after a crash, --recover saves what it holds.
    """
    from pkontext.bundle import PACKAGE_DATA
    from pkontext.live import LiveOptions
    from pkontext.sinks import check_output

    if output.suffix.lower() not in (".mid", ".midi"):
        raise typer.BadParameter(f"{output} does not end in .mid")
    if virtual and port is not None:
        raise typer.BadParameter("--port and --virtual exclude each other")
    if metronome is not None and not monitor:
        raise typer.BadParameter("--metronome is heard through the monitor; leave out --no-monitor")
    if perform is None and (seed is not None or voice is not None):
        raise typer.BadParameter("--seed and --voice say how to perform; give --perform OUT.wav, too")
    if perform is not None and (str(perform) == STDOUT or perform.absolute() == output.absolute()):
        raise typer.BadParameter("--perform needs a file of its own")
    reporter = Reporter(as_json, quiet)
    target = check_output(output, force)
    job = None
    if perform is not None:
        from pkontext.perform_captured import prepare_job

        job = prepare_job(perform, options.resolve({"seed": seed, "voice": voice}), force)
    event = "done" if job is None else "recorded"
    if recover:
        captured = _recover(target, reporter)
    else:
        font = (soundfont or PACKAGE_DATA / "FluidR3_piano.sf2") if monitor else None
        source = LiveOptions(port, virtual, font, driver=driver)
        captured = _record(_Take(target, source, seconds, metronome, beats, count_in, event), reporter)
    if job is not None:
        from pkontext.perform_captured import perform_captured

        perform_captured(captured, target, job, reporter)


@dataclass(frozen=True)
class _Take:
    """One recording as asked for on the command line."""

    target: Path
    options: LiveOptions
    seconds: float | None
    bpm: float | None
    beats: int
    count_in: int
    event: str


def _record(take: _Take, reporter: Reporter) -> Captured:
    from pkontext.captured import save_captured
    from pkontext.live import LiveSession

    _mention_journals(reporter)
    with stop_requests() as stopped, LiveSession(take.options) as session:
        try:
            captured = _play(session, take, reporter, stopped)
            if not len(captured.notes):
                session.close(saved=True)
                raise InputError(
                    "record.empty",
                    f"Nothing was played on {session.status().port.name}.",
                    "Check with `pkontext ports` that it is the right port.",
                )
            save_captured(captured, take.target)
        except KeyboardInterrupt:
            session.close()
            reporter.event("cancelled")
            reporter.line(f"Stopped without saving. {_KEPT}", always=True)
            raise typer.Exit(_INTERRUPTED) from None
        session.close(saved=True)
        _say_done(take.event, take.target, captured, reporter)
    return captured


def _play(session: LiveSession, take: _Take, reporter: Reporter, stopped: Callable[[], bool]) -> Captured:
    """Record until a stop is asked for or the time is over."""
    status = session.status()
    reporter.event(
        "listening",
        port=status.port.name,
        api=status.port.api,
        virtual=take.options.virtual,
        monitor=status.monitor.driver if status.monitor else None,
    )
    reporter.line(f"Recording from {status.port.name}. Ctrl-C stops and saves.", "green")
    begin = session.start_take(take.bpm, take.beats, take.count_in)
    shown: tuple[str, ...] = ()
    next_event = begin
    with _status_line(reporter) as show:
        while not stopped() and (take.seconds is None or time.monotonic() < begin + take.seconds):
            status = session.status()
            for warning in status.warnings:
                if warning not in shown:
                    reporter.event("warning", message=warning)
                    reporter.line(f"Note: {warning}", "yellow")
            shown = status.warnings
            show(_line(status, begin))
            if time.monotonic() >= next_event:
                next_event += _JSON_SEC
                reporter.event("progress", **_fields(status))
            time.sleep(_LOOK_SEC)
    return session.stop_take()


def _fields(status: LiveStatus) -> dict[str, Any]:
    added = status.monitor.added_ms if status.monitor else None
    return {
        "elapsed_sec": round(status.recorder.elapsed_sec, 2),
        "connected": status.connected,
        "notes": status.recorder.notes,
        "held": list(status.recorder.held),
        "pedal": status.recorder.pedal,
        "dropped": status.dropped,
        "monitor_added_ms": added,
    }


def _line(status: LiveStatus, begin: float) -> str:
    from pkontext.selfcheck import note_name

    now = time.monotonic()
    if now < begin:
        return f"count-in: {begin - now:.1f} s"
    held = " ".join(note_name(key) for key in status.recorder.held) or "-"
    parts = [f"{status.recorder.elapsed_sec:6.1f} s", f"{status.recorder.notes} notes", f"held: {held}"]
    if status.recorder.pedal:
        parts.append(f"pedal {status.recorder.pedal}")
    if status.dropped:
        parts.append(f"{status.dropped} events lost")
    if not status.connected:
        parts.append("the instrument is gone; waiting for it to come back")
    return ", ".join(parts)


class _status_line:  # noqa: N801 - used like a function
    """Show a line that replaces itself, where a person looks at a terminal."""

    def __init__(self, reporter: Reporter) -> None:
        from rich.console import Console
        from rich.status import Status

        console = Console(stderr=True)
        hidden = reporter.as_json or reporter.quiet or not console.is_terminal
        self._status = None if hidden else Status("", console=console, spinner="dots")

    def __enter__(self) -> Callable[[str], None]:
        if self._status is None:
            return lambda text: None
        self._status.start()
        return self._status.update

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()


# ---- after a crash ----------------------------------------------------------------------------------

_KEPT = "What was played is kept: pkontext record --recover -o take.mid"


def _unsaved() -> list[Recovered]:
    """Journals of ended programs in which a key was struck, oldest first."""
    from pkontext.journal import recover

    return [journal for journal in recover() if journal.strikes]


def _mention_journals(reporter: Reporter) -> None:
    found = _unsaved()
    if found:
        reporter.event("recoverable", journals=[str(journal.path) for journal in found])
        reporter.line(
            f"{len(found)} recordings were never saved. Save them with: pkontext record --recover -o old.mid",
            "yellow",
        )


def _recover(target: Path, reporter: Reporter) -> Captured:
    """Save the newest journal as a MIDI file, and remove the journal."""
    from pkontext.captured import captured_from_events, save_captured
    from pkontext.journal import discard

    found = _unsaved()
    if not found:
        raise InputError(
            "record.nothing_to_recover", "There is no unsaved recording.", "Leave out --recover to record."
        )
    newest = found[-1]
    captured = captured_from_events(newest.events, newest.started)
    save_captured(captured, target)
    discard(newest.path)
    if newest.damaged_bytes:
        text = f"{newest.damaged_bytes} damaged bytes of the journal were skipped."
        reporter.event("warning", message=text)
        reporter.line(f"Note: {text}", "yellow")
    _say_done("recovered", target, captured, reporter, remaining=len(found) - 1)
    if len(found) > 1:
        reporter.line(f"{len(found) - 1} older recordings remain; call it again for the next one.", "yellow")
    return captured


def _say_done(event: str, path: Path, captured: Captured, reporter: Reporter, **more: Any) -> None:
    reporter.event(
        event,
        output=str(path),
        notes=len(captured.notes),
        pedals=len(captured.pedals),
        duration_sec=round(captured.duration_sec, 3),
        dropped=captured.dropped,
        started=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(captured.started)),
        **more,
    )
    seconds = captured.duration_sec
    reporter.line(f"{path}: {len(captured.notes)} notes in {seconds:.1f} s", "green")
    if captured.dropped:
        reporter.line(f"{captured.dropped} events were lost: the computer could not keep up.", "yellow")

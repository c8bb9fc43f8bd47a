"""``pkontext play``: hear a performance while it is rendered, with transport keys in the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkontext import settings as options
from pkontext.cli_common import Json, Reporter, flag, parse_time, shows_errors, stop_requests, time_option
from pkontext.errors import InputError
from pkontext.keys import key_presses
from pkontext.play_keys import Transport, keys_text
from pkontext.play_line import (
    Line,
    clock_fields,
    describe,
    describe_clock,
    describe_midi,
    midi_fields,
    status_fields,
)

if TYPE_CHECKING:
    from pkontext.follow import ClockLink
    from pkontext.player import Player, PlayerStatus
    from pkontext.settings import Settings
    from pkontext.take import RenderSettings
    from pkontext.types import Score

_TICK_SEC = 0.08
#: Largest sample, lately, from which on something is heard.
_AUDIBLE = 1e-3


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command("play")
    @shows_errors
    def play_command(
        *,
        score: Annotated[Path, typer.Argument(metavar="IN.mid", help="A MIDI file.")],
        device: Annotated[str | None, flag("device", "NAME")] = None,
        output: Annotated[
            str | None,
            typer.Option("--output", "-o", metavar="OUT", help="Play into a file, or to nowhere (null)."),
        ] = None,
        midi_out: Annotated[
            str | None,
            typer.Option(
                metavar="PORT",
                help="Send the notes to this MIDI port instead; `pkontext ports` lists them.",
            ),
        ] = None,
        clock: Annotated[
            str | None,
            typer.Option(metavar="PORT", help="Let the MIDI clock on this port start, stop and pace it."),
        ] = None,
        seed: Annotated[int | None, flag("seed")] = None,
        tempo: Annotated[float | None, flag("tempo")] = None,
        steps: Annotated[int | None, flag("steps")] = None,
        expressiveness: Annotated[float | None, flag("expressiveness")] = None,
        guidance: Annotated[float | None, flag("guidance")] = None,
        temperature: Annotated[float | None, flag("temperature")] = None,
        voice: Annotated[str | None, flag("voice")] = None,
        soundfont: Annotated[Path | None, flag("soundfont", "FILE")] = None,
        reverb: Annotated[float | None, flag("reverb")] = None,
        start: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                help="Begin here in the score: seconds or m:ss.",
                callback=time_option,
            ),
        ] = None,
        bundle: Annotated[Path | None, flag("bundle", "FOLDER")] = None,
        threads: Annotated[int | None, flag("threads")] = None,
        provider: Annotated[str | None, flag("provider")] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
        as_json: Json = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    ) -> None:
        """Play a performance while it is rendered. Space pauses, q quits; h shows all keys."""
        given = {name: value for name, value in locals().items() if name in options.OPTIONS}
        found = options.resolve(given)
        if midi_out is not None and (output is not None or device is not None or clock is not None):
            raise typer.BadParameter("--midi-out goes without --device, --output and --clock")
        route = Route(output, midi_out, clock, force)
        with stop_requests() as stopped:
            play_file(score, found, route, parse_time(start or "0"), Reporter(as_json, quiet), stopped)


@dataclass(frozen=True)
class Route:
    """Where playing goes and what leads it, as asked for on the command line."""

    output: str | None
    midi_out: str | None
    clock: str | None
    force: bool


def play_file(
    source: Path,
    found: Settings,
    route: Route,
    start_sec: float,
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Load a file, play it, and say how it went."""
    begun = time.perf_counter()
    from pkontext.score import load_score
    from pkontext.take import check_settings, settings_from_options

    score = load_score(source)
    for warning in score.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    settings = settings_from_options(found)
    check_settings(settings)
    if route.midi_out is not None:
        _play_notes(score, settings, found, route.midi_out, start_sec, reporter, stopped)
    else:
        _play_audio(score, settings, found, route, start_sec, reporter, stopped, begun)


def _play_audio(
    score: Score,
    settings: RenderSettings,
    found: Settings,
    route: Route,
    start_sec: float,
    reporter: Reporter,
    stopped: Callable[[], bool],
    begun: float,
) -> None:
    from pkontext.bundle import open_bundle
    from pkontext.player import Player

    factory = output_factory(route.output, found.device, route.force)
    player = Player(open_bundle(found.bundle), factory, found.threads, found.provider)
    try:
        player.load(score, settings)
        with contextlib.ExitStack() as opened:
            clock = None
            if route.clock is not None:
                from pkontext.follow import ClockLink

                clock = opened.enter_context(ClockLink(player, score, route.clock, settings.tempo))
                reporter.line(f"Following {clock.port.name}. Start it there, or press Space; q quits.")
            read_key = opened.enter_context(key_presses())
            play(player, score, reporter, read_key, stopped, start_sec, begun, clock)
    finally:
        player.close()
    status = player.status
    reporter.event("done", **status_fields(status))
    if status.underruns or status.xruns:
        reporter.line(
            f"{status.underruns} underruns, {status.xruns} xruns: other programs may need the processor.",
            "yellow",
        )


def play(
    player: Player,
    score: Score,
    reporter: Reporter,
    read_key: Callable[[float], str | None],
    stopped: Callable[[], bool],
    start_sec: float = 0.0,
    begun: float | None = None,
    clock: ClockLink | None = None,
) -> PlayerStatus:
    """Play a loaded score until its end, or until someone quits; returns the last status.

    With a clock it begins when that does, and waits after its end for another start.

    Raises
    ------
    PkError
        When the device or the take fails.
    """
    transport = Transport(player, score, reporter.line)
    if start_sec:
        player.seek(start_sec)
    player.call(lambda processor: None)  # the score is loaded
    if clock is None:
        player.play()
    else:
        reporter.event("following", **clock_fields(clock))
    begun = time.perf_counter() if begun is None else begun
    begun_playing = heard = False
    line = Line(reporter)
    while not (transport.quit or stopped()):
        key = read_key(_TICK_SEC)
        if key is not None:
            transport.press(key)
        status = player.status
        if status.error is not None and status.deck.state in ("paused", "stopped", "failed"):
            raise status.error
        begun_playing |= status.deck.position_sec > 0
        if status.level > _AUDIBLE and not heard:
            heard = True
            reporter.event("sound", first_sound_sec=round(time.perf_counter() - begun, 3))
        _show(line, status, score, clock)
        if clock is None and begun_playing and status.deck.state == "stopped" and status.level == 0:
            break
    status = player.status
    player.stop()
    line.end()
    return status


def _show(line: Line, status: PlayerStatus, score: Score, clock: ClockLink | None) -> None:
    if clock is None:
        line.show(lambda: status_fields(status), lambda: describe(status, score))
    else:
        line.show(
            lambda: status_fields(status) | {"clock": clock_fields(clock)},
            lambda: f"{describe(status, score)}  {describe_clock(clock)}",
        )


def _play_notes(
    score: Score,
    settings: RenderSettings,
    found: Settings,
    port: str,
    start_sec: float,
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Send the notes of a take to a MIDI port; no audio is opened."""
    from pkontext.bundle import open_bundle
    from pkontext.engine import open_rendering
    from pkontext.midi_play import KEYS, MidiTake, hangups_interrupt, open_output, play_until_end

    with hangups_interrupt(), open_output(port) as output:
        name = output.info.name
        reporter.event("performing", port=name, api=output.info.api)
        reporter.line(f"Performing for {name} ...")
        rendering = open_rendering(score, open_bundle(found.bundle), settings, found.threads, found.provider)
        notes = rendering.take_notes(stopped)
        take = MidiTake(notes, rendering.places(), output.send)
        if start_sec:
            take.seek(start_sec)
        line = Line(reporter)
        with key_presses() as read_key:
            status = play_until_end(
                take,
                read_key,
                stopped,
                lambda status: line.show(
                    lambda: midi_fields(status, name), lambda: describe_midi(status, score, name)
                ),
                lambda: reporter.line(keys_text(KEYS)),
            )
        line.end()
    reporter.event("done", **midi_fields(status, name), notes=len(notes.notes))


def output_factory(output: str | None, device: str | None, force: bool) -> Any:
    """Where to play: the speaker, a file at the pace of playing, or nowhere (``null``).

    Raises
    ------
    InputError
        ``play.output`` when both are asked for, and those of the file.
    """
    from pkontext.output import FileOutput, NullOutput
    from pkontext.player import speaker

    if output is None:
        return speaker(device)
    if device is not None:
        raise InputError(
            "play.output",
            "Both --device and --output are given.",
            "Leave one out: --output plays into a file instead of a device.",
        )
    if output == "null":
        return NullOutput
    from pkontext.sinks import check_output

    path = check_output(Path(output), force)
    return lambda ring, rate: FileOutput(ring, rate, path, force=force)

"""``pkontext play``: hear a performance while it is rendered, with transport keys in the terminal."""

from __future__ import annotations

import math
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

if TYPE_CHECKING:
    from pkontext.player import Player, PlayerStatus
    from pkontext.settings import Settings
    from pkontext.types import Score

KEYS = (
    ("Space", "pause, play on"),
    ("← →", "5 seconds back, forward"),
    ("↓ ↑", "a bar back, forward"),
    ("Home", "to the beginning"),
    ("a", "compare with the deadpan score, and back"),
    ("v", "neural or sampler voice"),
    ("n", "another performance"),
    ("l", "loop: from here, to here, off"),
    ("- +", "softer, louder"),
    ("q", "quit"),
)
_SEEK_SEC = 5.0
_TICK_SEC = 0.08
_METER_CELLS, _METER_DB = 12, 48.0
_JSON_SEC = 0.5


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
        reporter = Reporter(as_json, quiet)
        with stop_requests() as stopped:
            play_file(score, found, output, parse_time(start or "0"), force, reporter, stopped)


def play_file(
    source: Path,
    found: Settings,
    output: str | None,
    start_sec: float,
    force: bool,
    reporter: Any,
    stopped: Callable[[], bool],
) -> None:
    """Load a file, play it, and say how it went."""
    begun = time.perf_counter()
    from pkontext.bundle import open_bundle
    from pkontext.player import Player
    from pkontext.score import load_score
    from pkontext.take import RenderSettings, check_settings

    score = load_score(source)
    for warning in score.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    settings = RenderSettings(
        seed=found.seed,
        tempo=found.tempo,
        steps=found.steps,
        expressiveness=found.expressiveness,
        guidance=found.guidance,
        temperature=found.temperature,
        voice=found.voice,
        soundfont=found.soundfont,
        reverb=found.reverb,
    )
    check_settings(settings)
    factory = output_factory(output, found.device, force)
    player = Player(open_bundle(found.bundle), factory, found.threads, found.provider)
    try:
        player.load(score, settings)
        with key_presses() as read_key:
            status = play(player, score, reporter, read_key, stopped, start_sec, begun)
    finally:
        player.close()
    status = player.status
    reporter.event("done", **status_fields(status))
    if status.underruns or status.xruns:
        reporter.line(
            f"{status.underruns} underruns, {status.xruns} xruns: other programs may need the processor.",
            "yellow",
        )


@dataclass
class Transport:
    """What the keys do; one thread."""

    player: Player
    score: Score
    say: Callable[[str], None] = print
    quit: bool = False
    loop_start: float | None = None
    looping: bool = False

    def press(self, key: str) -> None:
        """Obey a key; one without a meaning does nothing."""
        actions: dict[str, Callable[[], None]] = {
            "space": self._toggle,
            "left": lambda: self._seek(-_SEEK_SEC),
            "right": lambda: self._seek(_SEEK_SEC),
            "down": lambda: self._bar(-1),
            "up": lambda: self._bar(1),
            "home": lambda: self.player.seek(0.0),
            "a": self._compare,
            "v": self._voice,
            "n": self._another,
            "l": self._loop,
            "-": lambda: self._volume(-2.0),
            "+": lambda: self._volume(2.0),
            "=": lambda: self._volume(2.0),
            "h": self._help,
            "?": self._help,
            "q": self._quit,
            "escape": self._quit,
            "\x03": self._quit,
        }
        action = actions.get(key)
        if action is not None:
            action()

    def _toggle(self) -> None:
        if self.player.status.deck.state in ("playing", "waiting"):
            self.player.pause()
        else:
            self.player.play()

    def _seek(self, seconds: float) -> None:
        tempo = self.player.call(lambda processor: processor.settings.tempo)
        self.player.seek(self.player.status.heard_score_sec + seconds * tempo)

    def _bar(self, count: int) -> None:
        from pkontext.score import bar_at, bar_start_sec

        here = self.player.status.heard_score_sec
        bar = bar_at(self.score, here)
        if count < 0 and here - bar_start_sec(self.score, bar) > 1.0:
            count = 0  # first to the beginning of this one
        self.player.seek(bar_start_sec(self.score, max(bar + count, 1)))

    def _compare(self) -> None:
        voice = self.player.status.deck.next_voice
        if voice != "deadpan":
            self._performed = voice
        self.player.select(voice="deadpan" if voice != "deadpan" else getattr(self, "_performed", "neural"))

    def _voice(self) -> None:
        voice = self.player.status.deck.next_voice
        self.player.select(voice="sampler" if voice == "neural" else "neural")

    def _another(self) -> None:
        self.player.call(lambda processor: processor.set("seed", (processor.get("seed") + 1) % 1_000_000_000))

    def _loop(self) -> None:
        here = self.player.status.heard_score_sec
        if self.looping:
            self.player.loop(None)
            self.looping = False
        elif self.loop_start is None or here <= self.loop_start + 0.1:
            self.loop_start = here
        else:
            self.player.loop((self.loop_start, here))
            self.loop_start, self.looping = None, True

    def _volume(self, change: float) -> None:
        def turn(processor: Any) -> None:
            processor.set("volume", min(max(processor.get("volume") + change, -60.0), 6.0))

        self.player.call(turn)

    def _help(self) -> None:
        width = max(len(key) for key, _ in KEYS)
        self.say("\n" + "\n".join(f"  {key:<{width}}  {meaning}" for key, meaning in KEYS))

    def _quit(self) -> None:
        self.quit = True


def meter(level: float) -> str:
    """A bar for a level of 0 to 1, over `_METER_DB` decibels."""
    db = 20 * math.log10(max(level, 1e-9))
    cells = min(max(round((db / _METER_DB + 1) * _METER_CELLS), 0), _METER_CELLS)
    return "█" * cells + "·" * (_METER_CELLS - cells)


def clock(seconds: float) -> str:
    """Minutes and seconds, ``1:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def describe(status: PlayerStatus, score: Score) -> str:
    """One line for people: state, place, lead of the render, level, what went wrong."""
    from pkontext.score import bar_at

    deck = status.deck
    place = (
        f"bar {bar_at(score, status.heard_score_sec)}  {clock(status.heard_sec)}/{clock(deck.duration_sec)}"
    )
    voice = deck.voice if deck.voice == deck.next_voice else f"{deck.voice} → {deck.next_voice}"
    take = f"take {deck.take}" if deck.take == deck.next_take else f"take {deck.take} → {deck.next_take}"
    parts = [f"{_state_words(status):<8}", place, meter(status.level), f"{take}, {voice}"]
    if deck.rendered_sec < deck.duration_sec:
        parts.append(f"{deck.ahead_sec:.0f} s ahead")
    if status.underruns or status.xruns:
        parts.append(f"{status.underruns} underruns, {status.xruns} xruns")
    return "  ".join(parts)


def play(
    player: Player,
    score: Score,
    reporter: Any,
    read_key: Callable[[float], str | None],
    stopped: Callable[[], bool],
    start_sec: float = 0.0,
    begun: float | None = None,
) -> PlayerStatus:
    """Play a loaded score until its end, or until someone quits; returns the last status.

    Raises
    ------
    PkError
        When the device or the take fails.
    """
    transport = Transport(player, score, reporter.line)
    if start_sec:
        player.seek(start_sec)
    player.call(lambda processor: None)  # the score is loaded
    player.play()
    begun = time.perf_counter() if begun is None else begun
    said, heard, show = 0.0, False, _Line(reporter)
    while not (transport.quit or stopped()):
        key = read_key(_TICK_SEC)
        if key is not None:
            transport.press(key)
        status, now = player.status, time.perf_counter()
        if status.error is not None and status.deck.state in ("paused", "stopped", "failed"):
            raise status.error
        if status.level > 0 and not heard:
            heard = True
            reporter.event("sound", first_sound_sec=round(now - begun, 3))
        if now - said >= (_JSON_SEC if reporter.as_json else _TICK_SEC):
            said = now
            show(status, score)
        if heard and status.deck.state == "stopped" and status.level == 0:
            break
    status = player.status
    player.stop()
    show.end()
    return status


class _Line:
    """The line that says where playing is: rewritten in a terminal, an event in JSON."""

    def __init__(self, reporter: Any) -> None:
        import sys

        self._reporter = reporter
        self._live = not reporter.as_json and not reporter.quiet and sys.stderr.isatty()
        self._width = 0

    def __call__(self, status: PlayerStatus, score: Score) -> None:
        if self._reporter.as_json:
            self._reporter.event("status", **status_fields(status))
        elif self._live:
            import sys

            text = describe(status, score)
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)

    def end(self) -> None:
        """Leave the line as it is."""
        if self._live and self._width:
            import sys

            print(file=sys.stderr)


def status_fields(status: PlayerStatus) -> dict[str, Any]:
    """A status as JSON has it."""
    deck = status.deck
    return {
        "state": deck.state,
        "score_sec": round(status.heard_score_sec, 3),
        "position_sec": round(status.heard_sec, 3),
        "duration_sec": round(deck.duration_sec, 3),
        "rendered_sec": round(deck.rendered_sec, 3),
        "wait_sec": round(deck.wait_sec, 3),
        "real_time_factor": round(deck.rtf, 4),
        "take": deck.take,
        "voice": deck.voice,
        "level": round(status.level, 5),
        "device": status.device,
        "latency_sec": round(status.latency_sec, 4),
        "underruns": status.underruns,
        "xruns": status.xruns,
    }


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


def _state_words(status: PlayerStatus) -> str:
    deck = status.deck
    if deck.state == "waiting":
        return f"waiting {deck.wait_sec:.0f} s" if deck.wait_sec >= 1 else "waiting"
    return deck.state

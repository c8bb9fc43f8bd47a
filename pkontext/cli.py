"""The command line: ``pkontext render``, ``doctor``, ``bundle info`` and ``bundle verify``.

Audio and ``--json`` lines go to standard output, everything for people to standard error; when
the audio itself goes to standard output (``-o -``), ``--json`` lines move to standard error. Every
`PkError` is shown as message and hint and exits with the code of its class; usage errors exit
with 2, Ctrl-C with 130.

Heavy modules are imported inside the commands, so that help appears at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pkontext
from pkontext import settings as options
from pkontext.errors import Cancelled, InputError, PkError, RenderError

if TYPE_CHECKING:
    from pkontext.bundle import Bundle
    from pkontext.engine import Progress, Rendering
    from pkontext.sinks import SinkReport, SinkSpec

STDOUT = "-"
MIDI_ENDINGS = (".mid", ".midi")
MIDI_FORMS = ("fixed", "score")

app = typer.Typer(
    name="pkontext",
    help="Perform notes on the piano: MIDI in, expressive audio out, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bundle_app = typer.Typer(help="Look at a model bundle.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bundle_app, name="bundle")


# ---- what the user sees -----------------------------------------------------------------------


@dataclass
class Reporter:
    """Says what happens: JSON lines for scripts, or lines and a progress bar for people."""

    as_json: bool = False
    quiet: bool = False
    audio_on_stdout: bool = False

    def event(self, event: str, **fields: Any) -> None:
        """Print one JSON object on one line; nothing unless ``--json`` was given."""
        if self.as_json:
            stream = sys.stderr if self.audio_on_stdout else sys.stdout
            print(json.dumps({"event": event, **fields}, ensure_ascii=False), file=stream, flush=True)

    def line(self, text: str, style: str = "", always: bool = False) -> None:
        """Print a line for people on standard error, unless JSON or silence was asked for."""
        if always or not (self.as_json or self.quiet):
            from rich.console import Console

            Console(stderr=True, soft_wrap=True).print(text, style=style, markup=False, highlight=False)

    def error(self, error: PkError) -> None:
        """Show an error, also when silence was asked for."""
        fields = {"code": error.code, "message": error.message, "hint": error.hint}
        self.event("error", **fields, exit_code=error.exit_code)
        if not self.as_json:
            self.line(f"Error: {error.message}", "bold red", always=True)
            self.line(error.hint, always=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[Progress], None]]:
        """Yield the function that shows progress: a bar by window with the time that remains."""
        if self.as_json:
            yield lambda state: self.event("progress", **asdict(state))
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("window {task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        hidden = self.quiet or not console.is_terminal
        with Bar(*columns, console=console, disable=hidden, transient=True) as bar:
            task = bar.add_task("", total=1, start=False, visible=False)
            stage = ""

            def show(state: Progress) -> None:
                nonlocal stage
                if state.stage != stage:
                    stage = state.stage
                    bar.reset(task, total=state.windows, description=stage, visible=True)
                bar.update(task, completed=state.window, total=state.windows)

            yield show


def _shows_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn exceptions of a command into messages and exit codes."""

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> None:
        reporter = Reporter(
            arguments.get("as_json", False), arguments.get("quiet", False), arguments.get("output") == STDOUT
        )
        try:
            command(**arguments)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except PkError as error:
            reporter.error(error)
            raise typer.Exit(error.exit_code) from None
        except (Cancelled, KeyboardInterrupt):
            reporter.event("cancelled")
            reporter.line("Cancelled; nothing was left behind.")
            raise typer.Exit(Cancelled.exit_code) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except MemoryError:
            shown = RenderError(
                "render.memory",
                "There is not enough memory.",
                "Close other programs, or render a part with --end.",
            )
            reporter.error(shown)
            raise typer.Exit(shown.exit_code) from None
        except Exception as error:
            reporter.error(_unexpected(error))
            raise typer.Exit(1) from None

    return wrapped


def _unexpected(error: Exception) -> PkError:
    """Save the traceback of a bug to a log file, and say where it is."""
    summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    text = f"pkontext {pkontext.__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}"
    folder = options.log_folder()
    log = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text(text, encoding="utf-8")
    except OSError:
        return PkError(
            "internal", f"This is a bug in PianoKontext ({summary}).", f"Please report it:\n{text}"
        )
    return PkError(
        "internal", f"This is a bug in PianoKontext ({summary}).", f"Please report it with the file {log}"
    )


# ---- options ------------------------------------------------------------------------------------


def _flag(name: str, metavar: str | None = None) -> Any:
    """Make a command-line option from its row in the settings table."""
    option = options.OPTIONS[name]

    def check(value: Any) -> Any:
        if value is None:
            return None
        try:
            return options.check_value(option, value, f"--{name}")
        except InputError as error:
            raise typer.BadParameter(error.message) from error

    default = "" if option.default is None else f" [default: {option.default}]"
    return typer.Option(
        f"--{name}",
        help=option.help + default,
        min=option.minimum,
        max=option.maximum,
        metavar="|".join(option.choices) or metavar,
        callback=check,
    )


def parse_time(text: str) -> float:
    """Return seconds of ``"83.5"``, ``"1:23.5"`` or ``"1:02:03"``.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    if not re.fullmatch(r"(\d{1,4}:){0,2}\d{1,9}(\.\d*)?", text.strip()):
        raise ValueError(f"{text!r} is not a time such as 83.5 or 1:23.5")
    seconds = 0.0
    for part in text.strip().split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _time_option(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_time(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return text


def parse_bars(text: str) -> tuple[int, int, int]:
    """Return first bar, last bar and seed of ``"12-16:7"``, or of ``"12:7"`` for one bar.

    Raises
    ------
    ValueError
        When it is neither.
    """
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?:(\d{1,9})", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not bars and a seed such as 12-16:7")
    first, last, seed = found.groups()
    return int(first), int(last or first), int(seed)


def _bars_option(texts: list[str] | None) -> list[str] | None:
    for text in texts or []:
        try:
            parse_bars(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return texts


_Json = Annotated[bool, typer.Option("--json", help="One JSON object on each line, for scripts.")]
_BundlePath = Annotated[
    Path | None, typer.Argument(help="The bundle's folder.", show_default="the built-in one")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pkontext {pkontext.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Perform notes on the piano: MIDI in, expressive audio out, offline."""


# ---- render -------------------------------------------------------------------------------------


@app.command()
@_shows_errors
def render(
    *,
    score: Annotated[Path, typer.Argument(metavar="IN.mid", help="A MIDI file.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The audio file; - is standard output.")
    ],
    seed: Annotated[int | None, _flag("seed")] = None,
    tempo: Annotated[float | None, _flag("tempo")] = None,
    steps: Annotated[int | None, _flag("steps")] = None,
    expressiveness: Annotated[float | None, _flag("expressiveness")] = None,
    guidance: Annotated[float | None, _flag("guidance")] = None,
    temperature: Annotated[float | None, _flag("temperature")] = None,
    voice: Annotated[str | None, _flag("voice")] = None,
    soundfont: Annotated[Path | None, _flag("soundfont", "FILE")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin here in the score: seconds or m:ss.", callback=_time_option),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop here in the score: seconds or m:ss.", callback=_time_option),
    ] = None,
    reroll: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BARS:SEED",
            help="Perform bars anew, keep the rest: 12-16:7 is bars 12 to 16, seed 7. May be repeated.",
            callback=_bars_option,
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='Curves to follow, over bars: {"tempo": [[1, 1.0], [5, 0.8]]}.',
            dir_okay=False,
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="TAKE.mid", help="Play like this performance of the piece.", dir_okay=False),
    ] = None,
    like_amount: Annotated[
        float, typer.Option(min=0, max=100, help="How far to play like it, in percent.")
    ] = 100.0,
    midi: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the performance as a MIDI file, too.", dir_okay=False),
    ] = None,
    midi_form: Annotated[
        str, typer.Option(help="fixed: times as played; score: the score's bars and a tempo map.")
    ] = "fixed",
    format: Annotated[str | None, _flag("format")] = None,
    bits: Annotated[str | None, _flag("bits")] = None,
    bundle: Annotated[Path | None, _flag("bundle", "FOLDER")] = None,
    threads: Annotated[int | None, _flag("threads")] = None,
    provider: Annotated[str | None, _flag("provider")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Perform a MIDI file and write it as WAV or FLAC, or its notes as MIDI (-o take.mid).

    Options can also be set as environment variables (PKONTEXT_TEMPO=0.9) or in settings.toml.
    """
    start_sec, end_sec = parse_time(start or "0"), None if end is None else parse_time(end)
    if end_sec is not None and end_sec <= start_sec:
        raise typer.BadParameter("--end must be later than --start")
    found = options.resolve({name: value for name, value in locals().items() if name in options.OPTIONS})
    bars = tuple(parse_bars(text) for text in reroll or [])
    if midi_form not in MIDI_FORMS:
        raise typer.BadParameter(f"--midi-form is {midi_form}, not {' or '.join(MIDI_FORMS)}")
    job = _Job(
        score, output, found, start_sec, end_sec, bars, force, midi, midi_form, draw, like, like_amount / 100
    )
    _render(job, Reporter(as_json, quiet, output == STDOUT))


@dataclass(frozen=True)
class _Job:
    """One render as asked for on the command line; ``start_sec`` and ``end_sec`` are score seconds.

    ``rerolls`` holds first bar, last bar and seed of each range.
    """

    source: Path
    output: str
    settings: options.Settings
    start_sec: float
    end_sec: float | None
    rerolls: tuple[tuple[int, int, int], ...]
    force: bool
    midi: Path | None
    midi_form: str
    draw: Path | None
    like: Path | None
    like_amount: float


def _render(job: _Job, reporter: Reporter) -> None:
    from pkontext import sinks

    found = job.settings
    notes_alone = job.output != STDOUT and Path(job.output).suffix.lower() in MIDI_ENDINGS
    audio_format = "wav"
    if not notes_alone:
        audio_format = sinks.choose_format(job.output, found.format, found.sources["format"] == "flag")
        sinks.check_spec(audio_format, found.bits)
    targets = {Path(job.output)} if job.output != STDOUT else set()
    for target in targets | ({job.midi} if job.midi else set()):
        sinks.check_output(target, job.force)
    began = time.perf_counter()

    from pkontext.bundle import open_bundle
    from pkontext.drawn import read_drawn
    from pkontext.engine import RenderSettings, Reroll, open_rendering
    from pkontext.score import bar_span_sec, load_score

    score = load_score(job.source)
    for warning in score.warnings:
        reporter.event("warning", message=warning)
        reporter.line(f"Note: {warning}", "yellow")
    if job.start_sec >= score.duration_sec:
        raise InputError(
            "render.range",
            f"--start is at {job.start_sec:g} s, and the piece ends at {score.duration_sec:.1f} s.",
            "Choose an earlier start.",
        )
    rerolls = tuple(Reroll(*bar_span_sec(score, first, last), seed) for first, last, seed in job.rerolls)
    bundle = open_bundle(found.bundle)
    render_settings = RenderSettings(
        seed=found.seed,
        tempo=found.tempo,
        steps=found.steps,
        expressiveness=found.expressiveness,
        guidance=found.guidance,
        temperature=found.temperature,
        voice=found.voice,
        soundfont=found.soundfont,
        start_sec=job.start_sec,
        end_sec=job.end_sec,
        rerolls=rerolls,
        like=job.like,
        like_amount=job.like_amount,
        drawn=() if job.draw is None else read_drawn(job.draw, score),
    )
    with _stop_requests() as stopped:
        rendering = open_rendering(score, bundle, render_settings, found.threads, found.provider)
        if notes_alone:
            for event, path in (("midi", job.midi), ("done", Path(job.output))):
                if path is not None:
                    _write_notes(rendering, path, job, reporter, event, stopped)
            return
        spec = sinks.SinkSpec(rendering.sample_rate, rendering.channels, audio_format, found.bits, found.seed)
        with sinks.open_sink(job.output, spec, job.force) as sink:
            with reporter.progress() as show:
                for chunk in rendering.chunks(show, stopped):
                    sink.write(chunk)
                    if stopped():
                        raise Cancelled
            report = sink.close()
        if job.midi is not None:
            _write_notes(rendering, job.midi, job, reporter, "midi", stopped)
    _say_done(report, spec, time.perf_counter() - began, reporter, bundle)


def _write_notes(
    rendering: Rendering, path: Path, job: _Job, reporter: Reporter, event: str, stopped: Callable[[], bool]
) -> None:
    """Write the take's notes as a MIDI file and say so, with a JSON line of this name."""
    from pkontext import sinks
    from pkontext.expressive_midi import expressive_midi, write_midi

    take = rendering.take_notes(stopped)
    write_midi(expressive_midi(take, job.midi_form), sinks.check_output(path, job.force))
    reporter.event(event, output=str(path), form=job.midi_form, notes=len(take.notes))
    reporter.line(f"{path}: {len(take.notes)} notes, {job.midi_form} form", "green")


def _say_done(report: SinkReport, spec: SinkSpec, elapsed: float, reporter: Reporter, bundle: Bundle) -> None:
    duration = report.frames / spec.sample_rate
    factor = elapsed / duration if duration else 0.0
    reporter.event(
        "done",
        output=report.name,
        format=spec.format,
        bits=spec.bits,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        frames=report.frames,
        duration_sec=round(duration, 3),
        elapsed_sec=round(elapsed, 3),
        real_time_factor=round(factor, 4),
        peak=report.peak,
        clipped=report.clipped,
        seed=spec.dither_seed,
        bundle={"id": bundle.manifest.id, "version": bundle.manifest.version, "sha256": bundle.sha256},
    )
    minutes, seconds = divmod(round(duration), 60)
    reporter.line(f"{report.name}: {minutes}:{seconds:02d} of audio, real-time factor {factor:.2f}", "green")
    if report.clipped:
        reporter.line(
            f"{report.clipped} samples were beyond full scale and are clipped. Use --bits 32f to keep them.",
            "yellow",
        )


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second one interrupts at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def request(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# ---- bundle -------------------------------------------------------------------------------------


@bundle_app.command("info")
@_shows_errors
def bundle_info(path: _BundlePath = None, as_json: _Json = False) -> None:
    """Say what a bundle contains, without opening its graphs."""
    from pkontext import bundle as bundles

    folder = bundles.bundle_folder(path or options.resolve().bundle)
    manifest, digest = bundles.read_manifest(folder)
    if as_json:
        print(json.dumps({"path": str(folder), "sha256": digest, "manifest": asdict(manifest)}))
        return
    codec, sampler = manifest.codec, manifest.sampler
    rows = [
        ("bundle", f"{manifest.id} {manifest.version}, made {manifest.created}"),
        ("folder", str(folder)),
        ("identity", digest),
        ("codec", f"{codec.name}: {codec.sample_rate} Hz, hop {codec.hop}, {codec.dim} channels"),
        ("curves", ", ".join(curve.name for curve in manifest.curves) or "none"),
        (
            "sampler",
            f"{sampler.solver}, calls {sampler.curve_steps} (curves) {sampler.latent_steps} (latents)",
        ),
        ("deadpan", f"{manifest.synth.soundfont}, gain {manifest.synth.gain:g}"),
        *((f"graph {name}", f"{g.file}, {g.bytes / 1e6:.1f} MB") for name, g in manifest.graphs.items()),
        *((f"licence {entry.spdx}", f"{entry.file}: {entry.attribution}") for entry in manifest.licences),
    ]
    _print_rows(rows)


@bundle_app.command("verify")
@_shows_errors
def bundle_verify(
    path: _BundlePath = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also run the networks and compare with their outputs in training.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Compare every file of a bundle with its sha256."""
    from pkontext import bundle as bundles

    folder = bundles.bundle_folder(path or options.resolve().bundle)
    manifest, _ = bundles.read_manifest(folder)
    rows: list[tuple[str, str]] = []
    first: PkError | None = None
    for entry in bundles.listed_files(manifest):
        try:
            bundles.verify_file(folder, entry)
            rows.append((entry.file, "ok"))
        except PkError as error:
            first = first or error
            rows.append((entry.file, error.message))
    report: dict[str, Any] = {"files": dict(rows)}
    if deep and first is None:
        from pkontext.parity import check_parity

        try:
            report["parity"] = check_parity(bundles.open_bundle(folder))
            rows += [(f"graph {name}", f"within {value:.1g}") for name, value in report["parity"].items()]
        except PkError as error:
            first = error
    if as_json:
        print(json.dumps({"event": "verify", "ok": first is None, **report}))
    else:
        _print_rows(rows)
    if first is not None:
        raise first


def _print_rows(rows: list[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


# ---- doctor -------------------------------------------------------------------------------------


@app.command()
@_shows_errors
def doctor(
    bundle: Annotated[Path | None, _flag("bundle", "FOLDER")] = None,
    provider: Annotated[str | None, _flag("provider")] = None,
    as_json: _Json = False,
) -> None:
    """Check every part that a render needs, and say how to mend what is broken."""
    from pkontext.doctor import run_checks

    checks = run_checks(options.resolve({"bundle": bundle, "provider": provider}))
    healthy = all(check.ok for check in checks if check.required)
    if as_json:
        print(json.dumps({"event": "doctor", "ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL" if check.required else "-   "
            print(f"{mark} {check.name}: {check.detail}")
            if not check.ok:
                print(f"     {check.hint}")
        print("Everything that a render needs works." if healthy else "Mend the rows marked FAIL.")
    if not healthy:
        raise typer.Exit(1)

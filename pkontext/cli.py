"""The command line: ``pkontext render``, ``doctor``, ``bundle info`` and ``bundle verify``.

Audio and ``--json`` lines go to standard output, everything for people to standard error; when
the audio itself goes to standard output (``-o -``), ``--json`` lines move to standard error. Every
`PkError` is shown as message and hint and exits with the code of its class; usage errors exit
with 2, Ctrl-C with 130.

Heavy modules are imported inside the commands, so that help appears at once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import pkontext
from pkontext import cli_devices, cli_live, cli_notate, cli_play, cli_ports
from pkontext import settings as options
from pkontext.cli_common import (
    STDOUT,
    Json,
    Reporter,
    flag,
    parse_time,
    shows_errors,
    stop_requests,
    time_option,
)
from pkontext.errors import DeviceError, PkError

MIDI_FORMS = ("fixed", "score")

app = typer.Typer(
    name="pkontext",
    help="Perform notes on the piano: MIDI in, expressive audio out, offline.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bundle_app = typer.Typer(help="Look at a model bundle.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bundle_app, name="bundle")


# ---- options ----------------------------------------------------------------------------------


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


_BundlePath = Annotated[
    Path | None, typer.Argument(help="The bundle's folder.", show_default="the built-in one")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pkontext {pkontext.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Perform notes on the piano: MIDI in, expressive audio out, offline.

    Without a command the desktop app opens where there is a desktop.
    """
    if context.invoked_subcommand is None:
        if has_desktop():
            raise typer.Exit(start_app([]))
        print(context.get_help())


def has_desktop() -> bool:
    """Whether there is a screen to show a window on, and Qt to do it."""
    from importlib.util import find_spec

    shown = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return shown and find_spec("PyQt6") is not None


def start_app(arguments: list[str]) -> int:
    """Run the desktop app in a process of its own; returns its exit code.

    Raises
    ------
    DeviceError
        ``gui.missing`` without Qt.
    """
    from importlib.util import find_spec

    if find_spec("PyQt6") is None:
        raise DeviceError(
            "gui.missing",
            "The desktop app needs PyQt6, which is not installed.",
            "Install it with `pip install 'pkontext[gui]'`.",
        )
    return subprocess.call([sys.executable, "-m", "gui", *arguments])


@app.command()
@shows_errors
def gui(
    file: Annotated[Path | None, typer.Argument(help="A MIDI file or a project to open.")] = None,
    bundle: Annotated[Path | None, flag("bundle", "FOLDER")] = None,
    silent: Annotated[bool, typer.Option("--silent", help="Play to nowhere.")] = False,
) -> None:
    """Open the desktop app."""
    arguments = [str(file)] if file is not None else []
    arguments += ["--bundle", str(bundle)] if bundle is not None else []
    code = start_app([*arguments, *(["--silent"] if silent else [])])
    if code:
        raise typer.Exit(code)


# ---- render -------------------------------------------------------------------------------------


@app.command()
@shows_errors
def render(
    *,
    score: Annotated[Path, typer.Argument(metavar="IN.mid", help="A MIDI file.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The audio file; - is standard output.")
    ],
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
        typer.Option(metavar="TIME", help="Begin here in the score: seconds or m:ss.", callback=time_option),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop here in the score: seconds or m:ss.", callback=time_option),
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
    check: Annotated[
        bool, typer.Option("--check", help="Then listen to the take: list wrong, missing and extra notes.")
    ] = False,
    best_of: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=32,
            metavar="N",
            help="Render N seeds, listen to them, keep the one with fewest mistakes.",
        ),
    ] = None,
    format: Annotated[str | None, flag("format")] = None,
    bits: Annotated[str | None, flag("bits")] = None,
    bundle: Annotated[Path | None, flag("bundle", "FOLDER")] = None,
    threads: Annotated[int | None, flag("threads")] = None,
    provider: Annotated[str | None, flag("provider")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
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
    from pkontext.render_job import Job, run

    if midi_form not in MIDI_FORMS:
        raise typer.BadParameter(f"--midi-form is {midi_form}, not {' or '.join(MIDI_FORMS)}")
    job = Job(
        source=score,
        output=output,
        settings=found,
        start_sec=start_sec,
        end_sec=end_sec,
        rerolls=bars,
        force=force,
        midi=midi,
        midi_form=midi_form,
        draw=draw,
        like=like,
        like_amount=like_amount / 100,
        check=check,
        best_of=best_of,
    )
    with stop_requests() as stopped:
        run(job, Reporter(as_json, quiet, output == STDOUT), stopped)


# ---- bundle -------------------------------------------------------------------------------------


@bundle_app.command("info")
@shows_errors
def bundle_info(path: _BundlePath = None, as_json: Json = False) -> None:
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
@shows_errors
def bundle_verify(
    path: _BundlePath = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also run the networks and compare with their outputs in training.")
    ] = False,
    as_json: Json = False,
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
@shows_errors
def doctor(
    bundle: Annotated[Path | None, flag("bundle", "FOLDER")] = None,
    provider: Annotated[str | None, flag("provider")] = None,
    as_json: Json = False,
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


for _module in (cli_play, cli_devices, cli_ports, cli_live, cli_notate):
    _module.register(app)

"""What the commands of the command line share: messages, progress, errors, options."""

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
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pkontext
from pkontext import settings as options
from pkontext.errors import Cancelled, InputError, PkError, RenderError

if TYPE_CHECKING:
    from pkontext.engine import Progress

STDOUT = "-"


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
    def progress(self, prefix: str = "", **fields: Any) -> Iterator[Callable[[Progress], None]]:
        """Yield the function that shows progress: a bar by window with the time that remains.

        The prefix stands before the stage in the bar, the fields are added to each JSON line.
        """
        if self.as_json:
            yield lambda state: self.event("progress", **asdict(state), **fields)
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
                    bar.reset(task, total=state.windows, description=prefix + stage, visible=True)
                bar.update(task, completed=state.window, total=state.windows)

            yield show


def shows_errors(command: Callable[..., None]) -> Callable[..., None]:
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


def flag(name: str, metavar: str | None = None) -> Any:
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


def time_option(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_time(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return text


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
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


Json = Annotated[bool, typer.Option("--json", help="One JSON object on each line, for scripts.")]

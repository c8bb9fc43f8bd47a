"""Errors that nobody expected: saved with their trace, shown in two sentences, and nothing is lost."""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType

import pkontext
from pkontext.errors import PkError
from pkontext.settings import log_folder


def unexpected(error: BaseException) -> PkError:
    """Save the trace of a bug to a log file; returns what to show (any thread)."""
    summary = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    text = "".join(traceback.format_exception(error))
    log = log_folder() / f"error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"pkontext {pkontext.__version__}, Python {sys.version}\n{text}\n")
    except OSError:
        return PkError(
            "internal", f"This is a bug in PianoKontext ({summary}).", f"Please report it:\n{text}"
        )
    return PkError(
        "internal",
        f"This is a bug in PianoKontext ({summary}).",
        f"Your work is safe; please report it with the file {log}.",
    )


def install(show) -> None:  # type: ignore[no-untyped-def]
    """Show what escapes from Qt's slots; ``show`` gets a `PkError`."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        show(unexpected(error.with_traceback(trace)))

    sys.excepthook = hook

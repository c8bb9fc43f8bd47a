"""The one error tree of the project: what is wrong, and what to do next.

Every error a user can meet is a `PkError` with a stable ``code``, one sentence that says
what is wrong (with the value) and one that says what to do next. The command line prints
both and exits with ``exit_code`` of the class; the desktop app shows the same two sentences.
"""

from __future__ import annotations


class PkError(Exception):
    """Base of all expected failures.

    Parameters
    ----------
    code : str
        Stable identifier such as ``"midi.not_midi"``, for scripts and tests.
    message : str
        What is wrong, with the offending value.
    hint : str
        What to do next.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.code = code
        self.message = message
        self.hint = hint


class InputError(PkError):
    """The user's file or option cannot be used."""

    exit_code = 3


class BundleError(PkError):
    """A model bundle is missing, damaged or does not fit this version."""

    exit_code = 4


class DeviceError(PkError):
    """An audio or MIDI device, or a system library for one, is not usable."""

    exit_code = 5


class ProviderError(PkError):
    """ONNX Runtime cannot run a graph where it was asked to."""

    exit_code = 6


class RenderError(PkError):
    """A render failed after it had started, such as on a full disk."""

    exit_code = 7


class Cancelled(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The user asked to stop; nothing is wrong."""

    exit_code = 130

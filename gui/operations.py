"""Work in the background: one class for all that takes longer than a frame, with progress and cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from PyQt6.QtCore import QObject, pyqtSignal

from pkontext.errors import Cancelled, PkError


class Operation(QObject):
    """A function on a thread of its own; signals come on the Qt thread.

    The function gets the operation and may call `report` and ask `cancelled`, from its thread; it must not
    touch widgets. Exactly one of the last three signals comes.

    Parameters
    ----------
    name : str
        For people, such as ``"Exporting take.wav"``.
    function : callable
        ``operation → result``.
    """

    #: Share done, 0 to 1 (negative: unknown), and what is being done.
    progress = pyqtSignal(float, str)
    #: The function's result.
    finished = pyqtSignal(object)
    #: A `PkError`.
    failed = pyqtSignal(object)
    #: It was cancelled, and nothing is left behind.
    stopped = pyqtSignal()

    running: ClassVar[set[Operation]] = set()

    def __init__(
        self, name: str, function: Callable[[Operation], Any], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.name = name
        self._function = function
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pkontext-{name}", daemon=True)

    def start(self) -> Operation:
        """Begin; returns itself."""
        Operation.running.add(self)
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ask it to stop; `stopped` comes when it has."""
        self._cancel.set()

    def cancelled(self) -> bool:
        """Whether someone asked it to stop (any thread)."""
        return self._cancel.is_set()

    def report(self, share: float, text: str = "") -> None:
        """Say how far it is (its own thread)."""
        self.progress.emit(share, text)

    def wait(self, timeout: float = 30.0) -> None:
        """Wait for its thread, as when the program ends."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            result = self._function(self)
        except Cancelled:
            name, arguments = "stopped", ()
        except PkError as error:
            name, arguments = "failed", (error,)
        except Exception as error:
            from gui.errors import unexpected

            name, arguments = "failed", (unexpected(error),)
        else:
            name, arguments = "finished", (result,)
        Operation.running.discard(self)
        try:
            getattr(self, name).emit(*arguments)
        except RuntimeError:
            return  # its window is gone


def stop_all(timeout: float = 10.0) -> None:
    """Cancel everything that runs, and wait for it."""
    for operation in tuple(Operation.running):
        operation.cancel()
    for operation in tuple(Operation.running):
        operation.wait(timeout)

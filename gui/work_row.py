"""One background operation as a row: what is done, how far it is, and a button that cancels it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from gui.icons import IconButton
from gui.operations import Operation


class WorkRow(QWidget):
    """Runs one operation at a time; hidden where there is none."""

    #: Whether an operation runs.
    busy_changed = pyqtSignal(bool)
    #: For people.
    message = pyqtSignal(str)
    #: A `PkError`.
    failed = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.operation: Operation | None = None
        self._name = ""
        self.text = QLabel()
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(max(self.fontMetrics().height() // 3, 4))
        self.cancel_button = IconButton("stop", self.tr("Cancel"))
        self.cancel_button.clicked.connect(self.cancel)
        row, column = QHBoxLayout(self), QVBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.text)
        column.addWidget(self.bar)
        row.addLayout(column, 1)
        row.addWidget(self.cancel_button)
        self.hide()

    @property
    def busy(self) -> bool:
        """Whether an operation runs."""
        return self.operation is not None

    def run(
        self, name: str, function: Callable[[Operation], Any], done: Callable[[Any], None]
    ) -> Operation | None:
        """Start an operation, unless one is running; ``done`` gets its result on the Qt thread."""
        if self.operation is not None:
            self.message.emit(self.tr("{0} is not over yet. Wait, or cancel it first.").format(self._name))
            return None
        self._name = name
        operation = self.operation = Operation(name, function, self)
        operation.progress.connect(self._show)
        operation.finished.connect(lambda result: self._end(lambda: done(result)))
        operation.failed.connect(lambda error: self._end(lambda: self.failed.emit(error)))
        operation.stopped.connect(
            lambda: self._end(lambda: self.message.emit(self.tr("{0}: cancelled.").format(name)))
        )
        self._show(-1.0, "")
        self.show()
        operation.start()
        self.busy_changed.emit(True)
        return operation

    def cancel(self) -> None:
        """Ask the operation to stop."""
        if self.operation is not None:
            self.text.setText(self.tr("Stopping..."))
            self.operation.cancel()

    def _show(self, share: float, text: str) -> None:
        if self.operation is None or self.operation.cancelled():
            return
        said = f"{self._name}: {text}" if text else self._name
        self.text.setText(said)
        self.text.setToolTip(said)
        self.bar.setAccessibleName(said)
        self.bar.setRange(0, 0 if share < 0 else 1000)
        if share >= 0:
            self.bar.setValue(round(1000 * share))

    def _end(self, then: Callable[[], None]) -> None:
        if self.operation is not None:
            self.operation.deleteLater()
        self.operation = None
        self.hide()
        self.busy_changed.emit(False)
        then()

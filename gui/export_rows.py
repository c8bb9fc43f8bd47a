"""Files that are being written: a row for each, one after another, and each can be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QGridLayout, QLabel, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from gui.export_job import ExportJob
from gui.icons import IconButton
from gui.operations import Operation
from gui.path_label import PathLabel
from gui.theme import theme
from pkontext.errors import PkError
from pkontext.sinks import SinkReport


class ExportRows(QWidget):
    """Runs jobs.

    Parameters
    ----------
    function : callable
        Job to the function of its `Operation`.
    """

    #: All jobs are over; how many files were written.
    finished = pyqtSignal(int)

    def __init__(
        self, function: Callable[[ExportJob], Callable[[Operation], Any]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._function = function
        self.rows: list[ExportRow] = []
        self.busy = False
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.summary = QLabel()
        self.summary.setAccessibleName(self.tr("Result"))
        self.summary.setWordWrap(True)
        self._column.addWidget(self.summary)
        self._column.addStretch(1)

    def start(self, jobs: list[ExportJob]) -> None:
        """Write files, one after another."""
        self.busy = True
        self.summary.setText(self.tr("Exporting..."))
        for job in jobs:
            row = ExportRow(job)
            row.over.connect(self._next)
            self.rows.append(row)
            self._column.insertWidget(self._column.count() - 1, row)
        self._next()

    def cancel_all(self) -> None:
        """Stop what runs, and begin no other."""
        for row in self.rows:
            row.cancel()

    def _next(self) -> None:
        if any(row.state == "running" for row in self.rows):
            return
        waiting = next((row for row in self.rows if row.state == "waiting"), None)
        if waiting is not None:
            waiting.start(self._function(waiting.job))
        elif self.busy:
            self.busy = False
            written = sum(row.state == "written" for row in self.rows)
            self.summary.setText(self._summary(written))
            self.finished.emit(written)

    def _summary(self, written: int) -> str:
        count = len(self.rows)
        if written == count:
            files = self.tr("1 file") if count == 1 else self.tr("{0} files").format(count)
            return self.tr("{0} written to {1}.").format(files, self.rows[0].job.path.parent)
        return self.tr("{0} of {1} files were written. Nothing is left of the others.").format(written, count)


class ExportRow(QWidget):
    """One file.

    Attributes
    ----------
    state : str
        ``waiting``, ``running``, ``written``, ``failed`` or ``cancelled``.
    """

    #: It is written, failed or cancelled.
    over = pyqtSignal()

    def __init__(self, job: ExportJob, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.job, self.state = job, "waiting"
        self._operation: Operation | None = None
        name = PathLabel("")
        name.show_path(job.path)
        name.setAccessibleName(self.tr("File"))
        self.said = QLabel(self.tr("waiting"))
        self.said.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.error = QLabel()
        self.error.setWordWrap(True)
        self.error.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.MinimumExpanding)
        self.error.hide()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(max(self.fontMetrics().height() // 3, 4))
        self.bar.setAccessibleName(self.tr("Progress of {0}").format(job.path.name))
        self.cancel_button = IconButton("stop", self.tr("Cancel {0}").format(job.path.name))
        self.cancel_button.clicked.connect(self.cancel)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 1)
        grid.addWidget(name, 0, 0)
        grid.addWidget(self.said, 0, 1)
        grid.addWidget(self.bar, 1, 0, 1, 2)
        grid.addWidget(self.cancel_button, 0, 2, 2, 1)
        grid.addWidget(self.error, 2, 0, 1, 3)

    def start(self, function: Callable[[Operation], Any]) -> None:
        """Write the file in the background."""
        self.state = "running"
        self.said.setText(self.tr("preparing"))
        operation = self._operation = Operation(f"Exporting {self.job.path.name}", function, self)
        operation.progress.connect(self._show)
        operation.finished.connect(self._written)
        operation.failed.connect(self._failed)
        operation.stopped.connect(lambda: self._end("cancelled", self.tr("cancelled")))
        operation.start()

    def cancel(self) -> None:
        """Stop it, or do not begin."""
        if self.state == "waiting":
            self._end("cancelled", self.tr("cancelled"))
        elif self._operation is not None and self.state == "running":
            self.said.setText(self.tr("stopping"))
            self._operation.cancel()

    def _show(self, share: float, text: str) -> None:
        if self._operation is None or self._operation.cancelled():
            return
        self.bar.setRange(0, 0 if share < 0 else 1000)
        if share >= 0:
            self.bar.setValue(round(1000 * share))
        self.said.setText(text)

    def _written(self, result: SinkReport | int) -> None:
        if isinstance(result, SinkReport):
            text = self.tr("✓ written")
            if result.clipped:
                text = self.tr("✓ written, {0} samples clipped").format(result.clipped)
        else:
            text = self.tr("✓ {0} notes written").format(result)
        self.bar.setRange(0, 1000)
        self.bar.setValue(1000)
        self._end("written", text)

    def _failed(self, error: PkError) -> None:
        self.error.setText(f"{error.message} {error.hint}")
        self.error.setStyleSheet(f"color: {theme.colours.wrong.name()};")
        self.error.show()
        self._end("failed", self.tr("✗ failed"))

    def _end(self, state: str, text: str) -> None:
        self.state = state
        self.said.setText(text)
        if state != "written":
            self.bar.setRange(0, 1000)
            self.bar.setValue(0)
        self.cancel_button.setEnabled(False)
        self.over.emit()

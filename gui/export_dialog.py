"""The export dialog: takes to WAV, FLAC or MIDI files, with progress and cancel for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QStandardPaths, Qt, QUrl
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.document import Document, Take
from gui.export_job import AUDIO, FIELDS, PATTERN, ExportJob, plan, write
from gui.export_rows import ExportRows
from gui.parameter_controls import label
from gui.theme import theme
from pkontext.errors import PkError
from pkontext.score import bar_at, bar_span_sec

_TAKE = Qt.ItemDataRole.UserRole


class ExportDialog(QDialog):
    """Asks what to write, then writes it.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    takes : list of Take
        Those that are checked at first.
    selection : tuple of float, optional
        Score seconds that are selected.
    """

    def __init__(
        self,
        document: Document,
        client: PlayerClient,
        takes: list[Take],
        parent: QWidget | None = None,
        selection: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(parent)
        self._document, self._client, self._selection = document, client, selection
        self.setWindowTitle(self.tr("Export {0}").format(document.title))
        self._make_takes(takes)
        self._make_form()
        self._make_buttons()
        self.rows = ExportRows(self._run_job)
        self.rows.finished.connect(self._finished)
        self._lay_out()
        self._connect()
        self._show()

    # -- parts ------------------------------------------------------------------------------------------

    def _make_takes(self, takes: list[Take]) -> None:
        self.takes = QListWidget()
        self.takes.setAccessibleName(self.tr("Takes to export"))
        for take in self._document.takes:
            item = QListWidgetItem(f"★ {take.name}" if take.starred else take.name)
            item.setData(_TAKE, take)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            chosen = any(take is other for other in takes)
            item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
            self.takes.addItem(item)
        line = self.fontMetrics().height()
        self.takes.setFixedHeight(round(line * 1.6 * min(max(self.takes.count(), 2), 5)) + 6)

    def _make_form(self) -> None:
        tr = self.tr
        self.kind = _combo(
            tr("Format"),
            ("wav", tr("WAV audio")),
            ("flac", tr("FLAC audio, without loss")),
            ("midi-fixed", tr("MIDI, sounds as performed in any player")),
            ("midi-score", tr("MIDI, keeps bars; tempo map follows the performance")),
        )
        self.bits = _combo(
            tr("Bit depth"), ("24", tr("24 bits")), ("16", tr("16 bits")), ("32f", tr("32-bit float"))
        )
        self.voice = _combo(
            tr("Voice"),
            ("neural", tr("Performance, neural voice")),
            ("sampler", tr("Performance, sampler voice")),
            ("deadpan", tr("As written, sampler voice")),
        )
        self.voice.setCurrentIndex(self.voice.findData(self._document.voice))
        self.range = _combo(
            tr("Range"), ("all", tr("Whole piece")), ("selection", tr("Selection")), ("bars", tr("Bars"))
        )
        model: Any = self.range.model()
        model.item(1).setEnabled(self._selection is not None)
        score = self._document.score
        bars = bar_at(score, score.duration_sec - 2e-3) if score is not None else 1
        self.first_bar, self.last_bar = QSpinBox(), QSpinBox()
        for spin, value, name in (
            (self.first_bar, 1, tr("First bar")),
            (self.last_bar, bars, tr("Last bar")),
        ):
            spin.setRange(1, bars)
            spin.setValue(value)
            spin.setAccessibleName(name)
        self.folder = QLineEdit(_music_folder(self._document))
        self.folder.setAccessibleName(tr("Folder"))
        self.browse = QPushButton(tr("Browse..."))
        self.browse.setAutoDefault(False)
        self.pattern = QLineEdit(PATTERN)
        self.pattern.setAccessibleName(tr("File name"))
        self.pattern.setToolTip(
            tr("Filled in for each take: {0}").format(", ".join(f"{{{name}}}" for name in FIELDS))
        )
        self.preview = QLabel()
        self.preview.setAccessibleName(tr("Files to be written"))
        self.preview.setWordWrap(True)
        self.preview.setTextFormat(Qt.TextFormat.PlainText)
        self.problem = QLabel()
        self.problem.setWordWrap(True)

    def _make_buttons(self) -> None:
        self.buttons = QDialogButtonBox()
        role = QDialogButtonBox.ButtonRole
        self.export_button = self.buttons.addButton(self.tr("Export"), role.ApplyRole)
        self.open_button = self.buttons.addButton(self.tr("Show folder"), role.ActionRole)
        self.close_button = self.buttons.addButton(self.tr("Close"), role.RejectRole)
        assert self.export_button and self.open_button and self.close_button
        self.export_button.setDefault(True)
        self.open_button.hide()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.setHorizontalSpacing(16)
        form.setVerticalSpacing(8)
        self._bars_label = label(self.tr("to"), self.last_bar)
        self._bits_label = label(self.tr("&Bit depth"), self.bits)
        folder, bars = QHBoxLayout(), QHBoxLayout()
        folder.addWidget(self.folder, 1)
        folder.addWidget(self.browse)
        for widget, stretch in (
            (self.range, 1),
            (self.first_bar, 0),
            (self._bars_label, 0),
            (self.last_bar, 0),
        ):
            bars.addWidget(widget, stretch)
        form.addRow(label(self.tr("&Takes"), self.takes), self.takes)
        form.addRow(label(self.tr("&Format"), self.kind), self.kind)
        form.addRow(self._bits_label, self.bits)
        form.addRow(label(self.tr("&Voice"), self.voice), self.voice)
        form.addRow(label(self.tr("&Range"), self.range), bars)
        form.addRow(label(self.tr("F&older"), self.folder), folder)
        form.addRow(label(self.tr("File &name"), self.pattern), self.pattern)
        form.addRow("", self.preview)
        form.addRow("", self.problem)
        asked = QWidget()
        asked.setLayout(form)
        form.setContentsMargins(0, 0, 0, 0)
        scroll = QScrollArea()
        scroll.setWidget(self.rows)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self.pages = QStackedWidget()
        self.pages.addWidget(asked)
        self.pages.addWidget(scroll)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(16)
        column.addWidget(self.pages, 1)
        column.addWidget(self.buttons)
        self.setMinimumWidth(34 * self.fontMetrics().height())

    def _connect(self) -> None:
        for combo in (self.kind, self.bits, self.voice, self.range):
            combo.currentIndexChanged.connect(self._show)
        for spin in (self.first_bar, self.last_bar):
            spin.valueChanged.connect(self._show)
        for line in (self.folder, self.pattern):
            line.textChanged.connect(self._show)
        self.takes.itemChanged.connect(self._show)
        self.browse.clicked.connect(self._browse)
        self._client.ready.connect(self._show)
        self.export_button.clicked.connect(self.start)
        self.open_button.clicked.connect(self._open_folder)
        self.close_button.clicked.connect(self.reject)

    # -- what is asked for ------------------------------------------------------------------------------

    def chosen(self) -> list[Take]:
        """The takes that are checked."""
        items = [self.takes.item(row) for row in range(self.takes.count())]
        return [item.data(_TAKE) for item in items if item and item.checkState() == Qt.CheckState.Checked]

    def span(self) -> tuple[float, float | None]:
        """Score seconds to export.

        Raises
        ------
        InputError
            For bars that the piece does not have.
        """
        score, kind = self._document.score, self.range.currentData()
        if kind == "selection" and self._selection is not None:
            return self._selection
        if kind == "bars" and score is not None:
            start, end = bar_span_sec(score, self.first_bar.value(), self.last_bar.value())
            last = self.last_bar.value() == self.last_bar.maximum()
            return start, None if last else end
        return 0.0, None

    def jobs(self) -> list[ExportJob]:
        """The files to be written; `PkError` for what cannot be."""
        return plan(
            self.chosen(),
            self._document.title,
            Path(self.folder.text()).expanduser(),
            self.pattern.text(),
            self.kind.currentData(),
            self.bits.currentData(),
            self.voice.currentData(),
            self.span(),
        )

    # -- exporting --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Write the files, after asking whether those that exist may be replaced."""
        try:
            jobs = self.jobs()
        except PkError as error:
            self._show_problem(f"{error.message} {error.hint}")
            return
        existing = [job.path for job in jobs if job.path.exists()]
        if not jobs or (existing and not self.may_replace(existing)):
            return
        self.pages.setCurrentIndex(1)
        self.export_button.hide()
        self.close_button.setText(self.tr("Cancel"))
        self.rows.start(jobs)

    def may_replace(self, existing: list[Path]) -> bool:
        """Ask whether files may be replaced."""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(self.tr("Replace files"))
        if len(existing) == 1:
            box.setText(self.tr("{0} exists already.").format(existing[0].name))
        else:
            box.setText(self.tr("{0} of these files exist already.").format(len(existing)))
            box.setDetailedText("\n".join(path.name for path in existing))
        box.setInformativeText(self.tr("Replace them, or go back and choose another name or folder?"))
        replace_button = box.addButton(self.tr("Replace"), QMessageBox.ButtonRole.AcceptRole)
        box.addButton(self.tr("Go back"), QMessageBox.ButtonRole.RejectRole)
        box.exec()
        return box.clickedButton() is replace_button

    def reject(self) -> None:
        """Cancel what runs; close when nothing does."""
        if self.rows.busy:
            self.rows.cancel_all()
            self.close_button.setEnabled(False)
        else:
            super().reject()

    def _run_job(self, job: ExportJob) -> Callable[[Any], Any]:
        score, client = self._document.score, self._client
        bundle, threads, provider = client.bundle, client.threads, client.provider
        return lambda operation: write(operation, job, score, bundle, threads, provider)

    def _finished(self, written: int) -> None:
        self.close_button.setText(self.tr("Close"))
        self.close_button.setEnabled(True)
        self.close_button.setDefault(True)
        self.close_button.setFocus()
        self.open_button.setVisible(written > 0)

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(self.folder.text()).expanduser())))

    def _browse(self) -> None:
        name = QFileDialog.getExistingDirectory(self, self.tr("Choose a folder"), self.folder.text())
        if name:
            self.folder.setText(name)

    # -- what is shown ----------------------------------------------------------------------------------

    def _show(self, *_: object) -> None:
        audio, bars = self.kind.currentData() in AUDIO, self.range.currentData() == "bars"
        for widget in (self.first_bar, self.last_bar, self._bars_label):
            widget.setVisible(bars)
        self.bits.setEnabled(audio)
        self._bits_label.setEnabled(audio)
        model: Any = self.bits.model()
        floats = self.bits.findData("32f")
        model.item(floats).setEnabled(self.kind.currentData() != "flac")
        if self.kind.currentData() == "flac" and self.bits.currentData() == "32f":
            self.bits.setCurrentIndex(self.bits.findData("24"))
        try:
            jobs, problem = self.jobs(), ""
        except PkError as error:
            jobs, problem = [], f"{error.message} {error.hint}"
        names = [job.path.name for job in jobs]
        more = self.tr("and {0} more").format(len(names) - 3) if len(names) > 3 else ""
        self.preview.setText("\n".join([*names[:3], *([more] if more else [])]))
        if not self.chosen():
            problem = self.tr("No take is checked. Check at least one.")
        elif self._client.bundle is None:
            problem = self.tr("The model is still being opened. It takes some seconds.")
        elif not Path(self.folder.text()).expanduser().is_dir():
            problem = self.tr("There is no such folder. Choose another one.")
        self._show_problem(problem)
        if self.export_button is not None:
            self.export_button.setEnabled(bool(jobs) and not problem)

    def _show_problem(self, text: str) -> None:
        self.problem.setText(f"⚠ {text}" if text else "")
        self.problem.setStyleSheet(f"color: {theme.colours.wrong.name()};")
        self.problem.setVisible(bool(text))


def _combo(name: str, *items: tuple[str, str]) -> QComboBox:
    made = QComboBox()
    made.setAccessibleName(name)
    for data, text in items:
        made.addItem(text, data)
    return made


def _music_folder(document: Document) -> str:
    if document.path is not None:
        return str(document.path.parent)
    music = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.MusicLocation)
    return music if music and Path(music).is_dir() else str(Path.home())

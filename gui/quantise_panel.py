"""From a recording to a score: the beats that were found, and what can be changed about them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSlider,
    QToolButton,
    QWidget,
)

from gui.live_link import SavedTake
from gui.operations import Operation
from gui.parts import GRID, Card, Form, LeadingButton, StateIcon, give_icon, note, note_name, run
from gui.quantise_view import QuantiseView
from gui.recovery_banner import ask_midi_path
from pkontext.errors import PkError
from pkontext.quantise import Quantised, quantise
from pkontext.quantise_settings import MAX_TEMPO, MIN_TEMPO, QuantiseSettings

_SETTLE_MS = 150
#: Tempi, as factors on a metronome's, whose beats are still the metronome's.
_SAME_BEATS = (0.25, 0.5, 1.0, 2.0, 4.0)


class QuantisePanel(Card):
    """A recording, as played and as a score; hidden until `show_take`."""

    #: A `Quantised` that is to be performed, and its title.
    perform_requested = pyqtSignal(object, str)
    #: A `pkontext.captured.Captured` and the `pathlib.Path` to save it to.
    save_requested = pyqtSignal(object, object)
    #: A new result is shown, a `Quantised`.
    quantised = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(self.tr("Your recording"), parent)
        self.take: SavedTake | None = None
        self.result: Quantised | None = None
        self._settings = QuantiseSettings()
        self._asked = 0
        self._operation: Operation | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MS)
        self._timer.timeout.connect(self._quantise)
        self.where = note(selectable=True)
        self.column.addWidget(self.where)
        self.view = QuantiseView()
        self.view.beat_clicked.connect(self._begin_bar_at)
        self.column.addWidget(self.view, 1)
        self._icon = StateIcon("info")
        self.summary = note()
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.summary, 1)
        self.column.addLayout(row)
        self.column.addLayout(self._make_form())
        self.column.addLayout(self._make_buttons())
        self.hide()

    # -- commands ---------------------------------------------------------------------------------------

    def show_take(self, take: SavedTake) -> None:
        """Show a recording, and find its beats."""
        self.take, self.result = take, None
        captured = take.captured
        self._settings = QuantiseSettings(
            tempo_bpm=captured.tempo_bpm,
            first_beat_sec=0.0 if captured.tempo_bpm else None,
            beats_per_bar=captured.beats_per_bar if captured.beats_per_bar in (2, 3, 4, 6) else None,
        )
        self.title.setText(
            self.tr("Recording {0}").format(time.strftime("%H:%M", time.localtime(captured.started)))
        )
        if take.path is None:
            self.where.setText(self.tr("Not saved yet. Save it with “Save recording as…”."))
        else:
            self.where.setText(self.tr("Saved as played: {0}").format(take.path))
        self._fill_controls()
        self.view.show_nothing()
        self.show()
        self._quantise()

    def change(self, **values: Any) -> None:
        """Try other settings, soon."""
        settings = replace(self._settings, **values)
        if settings != self._settings:
            self._settings = settings
            self._timer.start()

    def set_tempo(self, bpm: float | None) -> None:
        """Take about this tempo, or find one; beats of a metronome stay where they are."""
        captured = None if self.take is None else self.take.captured
        if bpm is not None:
            bpm = min(max(bpm, MIN_TEMPO), MAX_TEMPO)
        clicked = captured is not None and captured.tempo_bpm
        exact = clicked and bpm is not None and any(abs(bpm / clicked - f) < 1e-6 for f in _SAME_BEATS)
        self.change(tempo_bpm=bpm, first_beat_sec=0.0 if exact else None, downbeat=None)
        self._show_tempo(bpm)

    def perform(self) -> None:
        """Have the score performed."""
        if self.result is not None:
            self.perform_requested.emit(self.result, self.title.text().strip())

    # -- parts ------------------------------------------------------------------------------------------

    def _make_form(self) -> Form:
        form = Form()
        self._make_tempo()
        self._make_bars()
        self._make_hands()
        self.divisions = QComboBox()
        for text, value in (
            (self.tr("As found"), None),
            (self.tr("Halves (♪)"), (1, 2)),
            (self.tr("Quarters"), (1, 2, 4)),
            (self.tr("Triplets"), (1, 3)),
            (self.tr("Quarters and triplets"), (1, 2, 3, 4, 6)),
        ):
            self.divisions.addItem(text, value)
        self.divisions.setToolTip(self.tr("Into how many parts a beat may be divided"))
        self.divisions.activated.connect(lambda _: self.change(divisions=self.divisions.currentData()))
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setPageStep(10)
        self.strength.setToolTip(
            self.tr("0 % leaves notes where they were played, 100 % puts them on the grid")
        )
        self._percent = QLabel()
        self._percent.setMinimumWidth(self.fontMetrics().horizontalAdvance("100 %"))
        self._percent.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.strength.valueChanged.connect(self._strength_changed)
        self.dynamics = QCheckBox(self.tr("Keep &dynamics"))
        self.dynamics.setToolTip(self.tr("Write how loud you played into the score"))
        self.dynamics.toggled.connect(lambda on: self.change(keep_dynamics=on))
        self.follow = QCheckBox(self.tr("&Follow my tempo"))
        self.follow.setToolTip(self.tr("Write a tempo that follows your playing, instead of one tempo"))
        self.follow.toggled.connect(lambda on: self.change(constant_tempo=not on))
        self.title = QLineEdit()
        self.title.setMaxLength(120)
        for label, field, name in (
            (self.tr("Tempo"), _row(self.tempo, self.faster, self.slower), None),
            (self.tr("Bar"), _row(self.beats, self.earlier, self.later), self.tr("Beats in a bar")),
            (self.tr("Divisions"), self.divisions, self.tr("Divisions of a beat")),
            (self.tr("Strength"), _row(self.strength, self._percent), self.tr("Strength")),
            (self.tr("Hands"), _row(self.hands, self.split), self.tr("Hands")),
            ("", _checks(self.dynamics, self.follow), None),
            (self.tr("Title"), self.title, self.tr("Title")),
        ):
            form.add(label, field)
            if name is not None:
                target = field if isinstance(field, QWidget) else field.itemAt(0).widget()
                target.setAccessibleName(name)
        return form

    def _make_tempo(self) -> None:
        self.tempo = QDoubleSpinBox()
        self.tempo.setRange(MIN_TEMPO - 1, MAX_TEMPO)
        self.tempo.setDecimals(1)
        self.tempo.setSuffix(self.tr(" bpm"))
        self.tempo.setSpecialValueText(self.tr("as found"))
        self.tempo.setKeyboardTracking(False)
        self.tempo.setAccessibleName(self.tr("Tempo in beats a minute"))
        self.tempo.setToolTip(self.tr("Type about which tempo you played; the lowest value finds it"))
        self.tempo.valueChanged.connect(self._tempo_typed)
        self.faster = _small("×2", self.tr("Twice as many beats"), lambda: self._scale_tempo(2.0))
        self.slower = _small("÷2", self.tr("Half as many beats"), lambda: self._scale_tempo(0.5))

    def _make_bars(self) -> None:
        self.beats = QComboBox()
        for text, value in (
            (self.tr("As found"), None),
            ("2", 2),
            ("3", 3),
            ("4", 4),
            (self.tr("6 (6/8)"), 6),
        ):
            self.beats.addItem(text, value)
        self.beats.setToolTip(self.tr("How many beats a bar has"))
        self.beats.activated.connect(
            lambda _: self.change(beats_per_bar=self.beats.currentData(), downbeat=None)
        )
        self.earlier = _small("◂", self.tr("Begin bars a beat earlier"), lambda: self._shift(-1))
        self.later = _small("▸", self.tr("Begin bars a beat later"), lambda: self._shift(1))

    def _make_hands(self) -> None:
        self.hands = QComboBox()
        for text, value in (
            (self.tr("As found"), "found"),
            (self.tr("One staff"), "none"),
            (self.tr("Split at"), "split"),
        ):
            self.hands.addItem(text, value)
        self.hands.activated.connect(lambda _: self._hands_changed())
        self.split = QComboBox()
        self.split.setAccessibleName(self.tr("Lowest note of the right hand"))
        self.split.setToolTip(self.tr("Lowest note of the right hand"))
        for key in range(36, 85):
            self.split.addItem(note_name(key), key)
        self.split.setCurrentIndex(self.split.findData(60))
        self.split.activated.connect(lambda _: self._hands_changed())

    def _make_buttons(self) -> QHBoxLayout:
        self.perform_button = LeadingButton(self.tr("&Perform it"))
        give_icon(self.perform_button, "play", "accent_text")
        self.perform_button.setToolTip(self.tr("Make this the open piece, and begin a take of it"))
        self.perform_button.clicked.connect(self.perform)
        self.save_button = QPushButton(self.tr("Save recording &as…"))
        give_icon(self.save_button, "save")
        self.save_button.setToolTip(self.tr("Write what you played, as you played it, to a MIDI file"))
        self.save_button.clicked.connect(self._save_as)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.perform_button)
        row.addWidget(self.save_button)
        row.addStretch(1)
        return row

    # -- controls ---------------------------------------------------------------------------------------

    def _fill_controls(self) -> None:
        settings = self._settings
        widgets = (self.beats, self.divisions, self.strength, self.hands, self.dynamics, self.follow)
        for widget in widgets:
            widget.blockSignals(True)
        self.beats.setCurrentIndex(max(self.beats.findData(settings.beats_per_bar), 0))
        self.divisions.setCurrentIndex(0)
        self.strength.setValue(round(100 * settings.strength))
        self._percent.setText(f"{self.strength.value()} %")
        self.hands.setCurrentIndex(0)
        self.dynamics.setChecked(settings.keep_dynamics)
        self.follow.setChecked(not settings.constant_tempo)
        for widget in widgets:
            widget.blockSignals(False)
        self.split.setEnabled(False)
        self._show_tempo(settings.tempo_bpm)

    def _show_tempo(self, bpm: float | None) -> None:
        self.tempo.blockSignals(True)
        self.tempo.setValue(self.tempo.minimum() if bpm is None else bpm)
        self.tempo.blockSignals(False)

    def _tempo_typed(self, bpm: float) -> None:
        self.set_tempo(None if bpm < MIN_TEMPO else bpm)

    def _scale_tempo(self, factor: float) -> None:
        known = self._settings.tempo_bpm or (self.result.tempo_bpm if self.result is not None else None)
        if known is not None:
            self.set_tempo(known * factor)

    def _strength_changed(self, percent: int) -> None:
        self._percent.setText(f"{percent} %")
        self.change(strength=percent / 100)

    def _hands_changed(self) -> None:
        chosen = self.hands.currentData()
        self.split.setEnabled(chosen == "split")
        self.change(split=self.split.currentData() if chosen == "split" else chosen)

    def _shift(self, beats: int) -> None:
        if self.result is not None:
            starts = self.result.bar_starts.nonzero()[0]
            length = int(starts[1] - starts[0]) if len(starts) > 1 else 1
            first = int(starts[0]) if len(starts) else 0
            self._begin_bar_at((first + beats) % max(length, 1))

    def _begin_bar_at(self, beat: int) -> None:
        """Begin bars at a beat; how many beats they have stays."""
        if self.result is None:
            return
        starts = self.result.bar_starts.nonzero()[0]
        length = int(starts[1] - starts[0]) if len(starts) > 1 else None
        beats = self._settings.beats_per_bar or (length if length in (2, 3, 4, 6) else None)
        self.beats.setCurrentIndex(max(self.beats.findData(beats), 0))
        self.change(downbeat=beat, beats_per_bar=beats)

    def _save_as(self) -> None:
        if self.take is None:
            return
        path = ask_midi_path(self, self.title.text().strip())
        if path is not None:
            self.save_requested.emit(self.take.captured, path)

    # -- background -------------------------------------------------------------------------------------

    def _quantise(self) -> None:
        """Make the score anew; what is asked for later wins."""
        if self.take is None:
            return
        self._timer.stop()
        self._asked += 1
        number, captured, settings = self._asked, self.take.captured, self._settings
        self._icon.set_kind("busy")
        self.summary.setText(self.tr("Finding the beats…"))
        self.perform_button.setEnabled(False)

        def finish(show: Callable[[Any], None], value: Any) -> None:
            if number == self._asked:
                show(value)

        run(
            self,
            "quantise",
            lambda _: quantise(captured.notes, captured.pedals, settings),
            lambda result: finish(self._show, result),
            lambda error: finish(self._show_error, error),
        )

    def _show(self, result: Quantised) -> None:
        assert self.take is not None
        self.result = result
        self.view.show_quantised(result, self.take.captured.notes)
        meter = result.score.meters[0]
        text = self.tr("{0} notes, {1}/{2}, {3:.0f} beats a minute.").format(
            len(result.score.notes), int(meter["numerator"]), int(meter["denominator"]), result.tempo_bpm
        )
        dropped = self.take.captured.dropped
        if dropped:
            text += " " + self.tr("{0} events were lost while recording.").format(dropped)
        self.summary.setText(" ".join((text, *result.warnings)))
        self._icon.set_kind("warning" if result.warnings or dropped else "good")
        self.perform_button.setEnabled(True)
        self.quantised.emit(result)

    def _show_error(self, error: PkError) -> None:
        self._icon.set_kind("wrong")
        self.summary.setText(f"{error.message} {error.hint}")


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(GRID)
    for index, widget in enumerate(widgets):
        row.addWidget(widget, 1 if index == 0 else 0)
    return row


def _checks(*boxes: QCheckBox) -> QHBoxLayout:
    row = _row(*boxes)
    row.setStretch(0, 0)
    row.addStretch(1)
    return row


def _small(text: str, tip: str, action: Callable[[], None]) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    button.clicked.connect(lambda _=False: action())
    return button

"""What the next take is made with: tempo, seed, expressiveness, quality. A change that stays makes it."""

from __future__ import annotations

import random

import numpy as np
from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QHBoxLayout, QLabel, QWidget

from gui.document import Document
from gui.icons import IconButton
from gui.parameter_controls import ParameterSlider, ParameterSpin, label, next_take, quietly, say
from gui.timeline import Timeline
from pkontext.parameters import BY_ID, taken
from pkontext.score import seconds_to_ticks


class SettingsRow(QWidget):
    """Controls of the settings that are changed most."""

    #: A `PkError`: the settings do not go together.
    failed = pyqtSignal(object)

    def __init__(self, document: Document, timeline: Timeline, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document, self._timeline = document, timeline
        self._next = next_take(document)
        self._next.failed.connect(self.failed)
        self._make_settings()
        self._lay_out()
        self.tempo.valueChanged.connect(lambda value: self._next.set(tempo=value))
        self.seed.valueChanged.connect(lambda value: self._next.set(seed=value))
        self.dice.clicked.connect(self.roll)
        self.expressiveness.value_edited.connect(lambda value: self._next.set(expressiveness=value))
        self.quality.valueChanged.connect(lambda value: self._next.set(steps=value))
        document.settings_changed.connect(self._show_settings)
        document.score_changed.connect(self._score_changed)
        timeline.moved.connect(self._show_bpm)
        self._next.waiting_changed.connect(self._show_coming)
        self._score_changed()
        self._show_settings()

    def roll(self) -> None:
        """Another seed by chance."""
        self._next.set(seed=float(random.randrange(1_000_000)))

    def _make_settings(self) -> None:
        self.tempo = ParameterSpin(BY_ID["tempo"])
        self.bpm = QLabel()
        self.bpm.setAccessibleName(self.tr("Beats a minute"))
        self.bpm.setMinimumWidth(self.fontMetrics().horizontalAdvance("♩ = 888"))
        self.seed = ParameterSpin(BY_ID["seed"])
        self.dice = IconButton("dice", self.tr("Another seed"), self.tr("Another performance, by chance"))
        self.expressiveness = ParameterSlider(BY_ID["expressiveness"])
        self.expressiveness.setMinimumWidth(6 * self.fontMetrics().height())
        self.expressiveness.setMaximumWidth(14 * self.fontMetrics().height())
        self.expressiveness_text = QLabel()
        self.expressiveness_text.setMinimumWidth(self.fontMetrics().horizontalAdvance("150 %"))
        self.quality = ParameterSpin(BY_ID["steps"], self.tr("Standard"))
        self.coming = QLabel()
        self.coming.setAccessibleName(self.tr("Next take"))

    def _lay_out(self) -> None:
        second = QHBoxLayout(self)
        second.setContentsMargins(0, 0, 0, 0)
        second.setSpacing(4)
        for name, widgets in (
            (label(self.tr("Te&mpo"), self.tempo), (self.tempo, self.bpm)),
            (label(self.tr("See&d"), self.seed), (self.seed, self.dice)),
            (
                label(self.tr("E&xpressiveness"), self.expressiveness),
                (self.expressiveness, self.expressiveness_text),
            ),
            (label(self.tr("&Quality"), self.quality), (self.quality,)),
        ):
            second.addWidget(name)
            for widget in widgets:
                second.addWidget(widget, int(widget is self.expressiveness))
            second.addSpacing(12)
        second.addWidget(self.coming, 1)

    def _score_changed(self) -> None:
        self.dice.setEnabled(self._document.score is not None)
        self._show_bpm(0.0)

    def _show_settings(self) -> None:
        values = taken(self._document.settings)
        for spin, name in ((self.tempo, "tempo"), (self.seed, "seed"), (self.quality, "steps")):
            if spin.value() != values[name]:
                quietly(spin, lambda spin=spin, name=name: spin.setValue(values[name]))
        self.expressiveness.show_value(values["expressiveness"])
        self.expressiveness_text.setText(BY_ID["expressiveness"].to_text(values["expressiveness"]))
        self._show_bpm(self._timeline.playhead)

    def _show_bpm(self, score_sec: float) -> None:
        score = self._document.score
        if score is None:
            say(self.bpm, "")
            return
        tick = float(seconds_to_ticks(np.array(max(score_sec, 0.0)), score.tempi, score.ticks_per_quarter))
        row = max(int(score.tempi["tick"].searchsorted(tick + 1e-3, side="right")) - 1, 0)
        bpm = 60e6 / float(score.tempi["us_per_quarter"][row]) * self._document.settings.tempo
        say(self.bpm, f"♩ = {bpm:.0f}")

    def _show_coming(self, waiting: bool) -> None:
        say(self.coming, self.tr("A new take follows...") if waiting else "")

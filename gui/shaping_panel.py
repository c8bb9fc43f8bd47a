"""The panel that shapes the next take: its character, drawn curves, passages performed anew."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.document import Document
from gui.drawing_tools import DrawingTools
from gui.icons import IconButton
from gui.parameter_controls import ParameterSlider, ParameterSpin, label, next_take, quietly, row, say
from gui.path_label import PathLabel
from gui.timeline import Timeline
from pkontext.errors import PkError
from pkontext.parameters import BY_ID, PRESETS, Parameter, taken
from pkontext.selfcheck import bar_and_beat

#: Parameters that this panel shows; the transport shows the others.
SHOWN = ("guidance", "temperature", "reverb")
_AMOUNT = Parameter(
    "like_amount",
    "Amount",
    "%",
    0,
    1,
    1,
    0.01,
    "How far to play like it: 100 % takes its timing and dynamics over.",
    scale=100,
)


class ShapingPanel(QWidget):
    """Everything that shapes a take beyond tempo, seed and expressiveness.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    timeline : Timeline
    """

    #: One of `gui.drawing_tools.TOOLS`: what the mouse does in the views.
    tool_changed = pyqtSignal(str)
    #: For people.
    message = pyqtSignal(str)
    #: A `PkError`.
    failed = pyqtSignal(object)

    def __init__(
        self, document: Document, client: PlayerClient, timeline: Timeline, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._document, self._client, self._timeline = document, client, timeline
        self._next = next_take(document)
        self._like: Path | None = None
        self.setAccessibleName(self.tr("Shape"))
        self._body = QVBoxLayout()
        self._body.setContentsMargins(8, 8, 8, 8)
        self._body.setSpacing(8)
        self._make_character()
        self._heading(self.tr("Draw"))
        self.drawing = DrawingTools(document)
        self.drawing.tool_changed.connect(self.tool_changed)
        self.drawing.failed.connect(self.failed)
        self._body.addWidget(self.drawing)
        self._make_reroll()
        self._make_like()
        self._body.addStretch(1)
        self._lay_out()
        document.settings_changed.connect(self._show)
        document.score_changed.connect(self._show)
        document.current_changed.connect(self._show)
        timeline.selection_changed.connect(self._show)
        self._show()

    # -- commands ---------------------------------------------------------------------------------------

    def set_tool(self, name: str) -> None:
        """Take a tool of `gui.drawing_tools.TOOLS`, as if its button had been clicked."""
        self.drawing.tools[name].click()

    def use_preset(self, name: str) -> None:
        """Take a preset's values for the next take."""
        self._next.set(**PRESETS[name])

    def use_soundfont(self, path: Path | None) -> None:
        """Play the sampler and deadpan voices through a soundfont; None is the built-in piano."""
        self._next.use(replace(self._document.settings, soundfont=path))

    def reroll(self) -> None:
        """Perform the selected passage anew."""
        span = self._timeline.selection
        if span is None:
            self.message.emit(self.tr("No passage is selected. Drag over some bars first."))
            return
        seed = int(self.reroll_seed.value())
        if self._guarded(lambda: self._document.reroll(*span, seed)):
            self._roll()

    def choose_like(self, path: Path) -> None:
        """Take a MIDI performance to play like."""
        self._like = path
        self._show()

    def play_like(self) -> None:
        """Make a take that plays like the chosen performance."""
        like = self._like
        if like is not None:
            self._guarded(lambda: self._document.play_like(like, self.amount.parameter_value))

    # -- parts ------------------------------------------------------------------------------------------

    def _make_character(self) -> None:
        self._heading(self.tr("Character"))
        form = self._form()
        self.preset = QComboBox()
        self.preset.setAccessibleName(self.tr("Preset"))
        self.preset.setToolTip(self.tr("Sets of values that go well together; each makes another take."))
        self.preset.addItems([*PRESETS, self.tr("Own values")])
        self.preset.activated.connect(self._preset_chosen)
        form.addRow(label(self.tr("&Preset"), self.preset), self.preset)
        self.sliders: dict[str, ParameterSlider] = {}
        self.spins: dict[str, ParameterSpin] = {}
        owns = {"guidance": (self.tr("Model's own"), 1.0), "temperature": (self.tr("Model's own"), 0.0)}
        for name in SHOWN:
            parameter = BY_ID[name]
            own, below = owns.get(name, ("", -1e9))
            slider, spin = ParameterSlider(parameter), ParameterSpin(parameter, own, below)
            slider.value_edited.connect(lambda value, name=name: self._edited(name, value))
            spin.valueChanged.connect(lambda value, name=name: self._edited(name, value))
            self.sliders[name], self.spins[name] = slider, spin
            form.addRow(label(self.tr(parameter.name), spin), row((slider, 1), (spin, 0)))
        wide = max(spin.sizeHint().width() for spin in self.spins.values())
        for spin in self.spins.values():
            spin.setMinimumWidth(wide)
        self.soundfont = PathLabel(self.tr("Built-in piano"))
        self.soundfont.setAccessibleName(self.tr("Soundfont"))
        self.soundfont_button = self._button(
            "open",
            self.tr("Choose a soundfont"),
            self.tr("Soundfont of the sampler voice (.sf2, .sf3)"),
            self._ask_soundfont,
        )
        self.no_soundfont_button = self._button(
            "home",
            self.tr("Built-in piano"),
            self.tr("Back to the built-in piano"),
            lambda: self.use_soundfont(None),
        )
        form.addRow(
            self.tr("Soundfont"),
            row((self.soundfont, 1), (self.soundfont_button, 0), (self.no_soundfont_button, 0)),
        )

    def _make_reroll(self) -> None:
        self._heading(self.tr("Perform a passage anew"))
        self.reroll_text = QLabel()
        self.reroll_text.setWordWrap(True)
        self.reroll_seed = ParameterSpin(BY_ID["seed"])
        self.reroll_seed.setAccessibleName(self.tr("Seed of the passage"))
        self.reroll_seed.setToolTip(self.tr("Another seed is another performance of the passage."))
        self.reroll_dice = self._button(
            "dice", self.tr("Another seed of the passage"), self.tr("Another seed, by chance"), self._roll
        )
        self.reroll_button = QPushButton(self.tr("Re-roll selection"))
        self.reroll_button.setToolTip(self.tr("A take in which only the selected passage is another"))
        self.reroll_button.clicked.connect(self.reroll)
        self._roll()
        self._body.addWidget(self.reroll_text)
        self._body.addLayout(
            row(
                (label(self.tr("Seed"), self.reroll_seed), 0),
                (self.reroll_seed, 0),
                (self.reroll_dice, 0),
                (self.reroll_button, 1),
            )
        )

    def _make_like(self) -> None:
        self._heading(self.tr("Play it like..."))
        self.like = PathLabel(self.tr("No performance is chosen"))
        self.like.setAccessibleName(self.tr("Performance to play like"))
        self.like_open_button = self._button(
            "open",
            self.tr("Choose a performance"),
            self.tr("A MIDI file of someone playing the same piece"),
            self._ask_like,
        )
        self.amount = ParameterSlider(_AMOUNT)
        self.amount_text = QLabel(_AMOUNT.to_text(1.0))
        self.amount_text.setMinimumWidth(self.fontMetrics().horizontalAdvance("100 %"))
        self.amount.value_edited.connect(lambda value: self.amount_text.setText(_AMOUNT.to_text(value)))
        self.like_button = QPushButton(self.tr("Make a take like it"))
        self.like_button.clicked.connect(self.play_like)
        self._body.addLayout(row((self.like, 1), (self.like_open_button, 0)))
        self._body.addLayout(
            row((label(self.tr("Amount"), self.amount), 0), (self.amount, 1), (self.amount_text, 0))
        )
        self._body.addWidget(self.like_button)

    def _lay_out(self) -> None:
        inside = QWidget()
        inside.setLayout(self._body)
        scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        bar = scroll.verticalScrollBar()
        scroll.setMinimumWidth(inside.minimumSizeHint().width() + (bar.sizeHint().width() if bar else 0))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scroll)

    def _heading(self, text: str) -> None:
        if self._body.count():
            line = QFrame()
            line.setFrameShape(QFrame.Shape.HLine)
            line.setFrameShadow(QFrame.Shadow.Plain)
            line.setForegroundRole(self.palette().ColorRole.Mid)
            self._body.addWidget(line)
        made = QLabel(text)
        font = made.font()
        font.setBold(True)
        made.setFont(font)
        self._body.addWidget(made)

    def _form(self) -> QFormLayout:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.setHorizontalSpacing(8)
        form.setVerticalSpacing(8)
        self._body.addLayout(form)
        return form

    def _button(self, name: str, what: str, tip: str, run: Callable[[], Any]) -> IconButton:
        button = IconButton(name, what, tip)
        button.clicked.connect(lambda _=False: run())
        return button

    # -- what the user does -----------------------------------------------------------------------------

    def _edited(self, name: str, value: float) -> None:
        if name == "guidance" and value < 1:
            rising = value > taken(self._document.settings)[name]
            value = 1.0 if rising else 0.0  # below 1 is the model's own
        self._next.set(**{name: value})
        self._show()

    def _preset_chosen(self, index: int) -> None:
        names = list(PRESETS)
        if index < len(names):
            self.use_preset(names[index])
        self._show()

    def _ask_soundfont(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, self.tr("Choose a soundfont"), "", self.tr("Soundfonts (*.sf2 *.sf3);;All files (*)")
        )
        if name:
            self.use_soundfont(Path(name))

    def _ask_like(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, self.tr("Choose a performance"), "", self.tr("MIDI files (*.mid *.midi);;All files (*)")
        )
        if name:
            self.choose_like(Path(name))

    def _roll(self) -> None:
        self.reroll_seed.setValue(random.randrange(1_000_000))

    # -- what is shown ----------------------------------------------------------------------------------

    def _show(self) -> None:
        document = self._document
        values = taken(document.settings)
        for name in SHOWN:
            self.sliders[name].show_value(values[name])
            spin = self.spins[name]
            quietly(spin, lambda spin=spin, name=name: spin.setValue(values[name]))
        names = list(PRESETS)
        match = next(
            (index for index, preset in enumerate(PRESETS.values()) if preset.items() <= values.items()),
            len(names),
        )
        self.preset.setCurrentIndex(match)
        self.soundfont.show_path(document.settings.soundfont)
        self.no_soundfont_button.setEnabled(document.settings.soundfont is not None)
        there = document.score is not None
        self.reroll_button.setEnabled(
            there and self._timeline.selection is not None and document.current is not None
        )
        say(self.reroll_text, self._selection_text())
        self.like.show_path(self._like)
        self.like_button.setEnabled(there and self._like is not None)

    def _selection_text(self) -> str:
        span, score = self._timeline.selection, self._document.score
        if span is None or score is None:
            return self.tr("Select a passage first: drag over some bars.")
        (first, one), (last, other) = bar_and_beat(score, span[0]), bar_and_beat(score, span[1])
        return self.tr("Bar {0}, beat {1:g} to bar {2}, beat {3:g}").format(
            first, round(one, 1), last, round(other, 1)
        )

    def _guarded(self, action: Callable[[], Any]) -> bool:
        """Do something; an error is shown. Returns whether it was done."""
        try:
            action()
        except PkError as error:
            self.failed.emit(error)
            return False
        return True

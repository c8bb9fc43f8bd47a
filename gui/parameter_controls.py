"""Controls made from the table of parameters, and the settings of the next take that they change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PyQt6.QtCore import QObject, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QValidator
from PyQt6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QSlider, QWidget

from gui.document import Document
from pkontext import parameters
from pkontext.errors import InputError, PkError
from pkontext.parameters import Parameter
from pkontext.take import RenderSettings

SETTLE_MS = 400


class NextTake(QObject):
    """Changes the document's settings, and makes the take that they describe when they stay for a while.

    One for each document, see `next_take`: controls of several panels wait for one another.
    """

    #: A `PkError`: the settings do not go together.
    failed = pyqtSignal(object)
    #: Whether a take is about to be made.
    waiting_changed = pyqtSignal(bool)

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.document = document
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._make)
        document.score_changed.connect(self._rest)

    def set(self, **values: float) -> None:
        """Change parameters by their ids."""
        settings = self.document.settings
        self.use(parameters.applied(parameters.taken(settings) | values, settings))

    def use(self, settings: RenderSettings) -> None:
        """Take other settings."""
        if settings == self.document.settings:
            return
        self.document.set_settings(settings)
        if self.document.score is not None:
            self._timer.start()
            self.waiting_changed.emit(True)

    def _rest(self) -> None:
        self._timer.stop()
        self.waiting_changed.emit(False)

    def _make(self) -> None:
        self.waiting_changed.emit(False)
        document = self.document
        wanted = replace(document.settings, drawn=document.drawn)
        for take in document.takes:
            if replace(take.settings, voice=wanted.voice) == wanted:
                if take is not document.current:
                    document.choose(take)
                return
        try:
            document.set_settings(replace(wanted, voice=document.voice))
            document.generate()
        except PkError as error:
            self.failed.emit(error)


def next_take(document: Document) -> NextTake:
    """The document's one `NextTake`."""
    return document.findChild(NextTake) or NextTake(document)


class ParameterSpin(QDoubleSpinBox):
    """A spin box for a parameter, that shows and reads the parameter's own texts.

    Parameters
    ----------
    parameter : Parameter
    own : str
        Shown for the lowest value where that stands for the model's own choice.
    own_below : float
        Values under it mean the lowest one.
    """

    def __init__(
        self, parameter: Parameter, own: str = "", own_below: float = -1e9, parent: QWidget | None = None
    ) -> None:
        self._parameter, self._own, self._own_below = parameter, own, own_below
        super().__init__(parent)
        self.setDecimals(6)
        self.setRange(parameter.minimum, parameter.maximum)
        self.setSingleStep(parameter.step or 0.01)
        self.setKeyboardTracking(False)
        self.setAccessibleName(parameter.name)
        self.setToolTip(parameter.help)

    def sizeHint(self):  # type: ignore[no-untyped-def]
        """Wide enough for the longest text, not for six decimals."""
        hint = super().sizeHint()
        texts = [self.textFromValue(v) for v in (self.minimum(), self.maximum(), self._parameter.default)]
        metrics = self.fontMetrics()
        wide = max(metrics.horizontalAdvance(text) for text in texts)
        hint.setWidth(wide + 3 * metrics.height())
        return hint

    def minimumSizeHint(self):  # type: ignore[no-untyped-def]
        """The same: a cut number misleads."""
        return self.sizeHint()

    def textFromValue(self, value: float) -> str:
        """As the parameter says it."""
        if self._own and value <= max(self._parameter.minimum, self._own_below - 1e-9):
            return self._own
        return self._parameter.to_text(value)

    def valueFromText(self, text: str | None) -> float:
        """As the parameter reads it; the value as it was for what it cannot read."""
        if self._own and (text or "").strip() == self._own:
            return self._parameter.minimum
        try:
            return self._parameter.from_text(text or "")
        except InputError:
            return self.value()

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Let everything be typed; what the parameter reads is acceptable."""
        text = text or ""
        try:
            if text.strip() != self._own:
                self._parameter.from_text(text)
        except InputError:
            return QValidator.State.Intermediate, text, position
        return QValidator.State.Acceptable, text, position

    def fixup(self, text: str | None) -> str:
        """Go back to the value before."""
        return self.textFromValue(self.value())

    def stepBy(self, steps: int) -> None:
        """Step over values that mean the same."""
        low = self._parameter.minimum
        wanted = self.value() + steps * self.singleStep()
        if low < wanted < self._own_below - 1e-9:
            wanted = self._own_below if steps > 0 else low
        self.setValue(wanted)


class ParameterSlider(QSlider):
    """A horizontal slider for a parameter; double click brings the default back."""

    #: The value, in the parameter's own measure.
    value_edited = pyqtSignal(float)

    def __init__(self, parameter: Parameter, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._parameter = parameter
        self._step = parameter.step or 0.01
        self.setRange(0, round((parameter.maximum - parameter.minimum) / self._step))
        self.setPageStep(max(self.maximum() // 15, 1))
        self.setAccessibleName(parameter.name)
        self.setToolTip(parameter.help)
        self.show_value(parameter.default)
        self.valueChanged.connect(lambda _: self.value_edited.emit(self.parameter_value))

    @property
    def parameter_value(self) -> float:
        """In the parameter's own measure."""
        return self._parameter.checked(self._parameter.minimum + self.value() * self._step)

    def show_value(self, value: float) -> None:
        """Show a value without saying that it was edited."""
        quietly(self, lambda: self.setValue(round((value - self._parameter.minimum) / self._step)))
        self.setAccessibleDescription(self._parameter.to_text(self._parameter.checked(value)))

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Back to the default."""
        self.setValue(round((self._parameter.default - self._parameter.minimum) / self._step))


def quietly(widget: QObject, change: Callable[[], Any]) -> None:
    """Change a control without its signals."""
    before = widget.blockSignals(True)
    change()
    widget.blockSignals(before)


def say(shown: QLabel, text: str) -> None:
    """Set a text only where it differs, so that nothing is painted or announced in vain."""
    if shown.text() != text:
        shown.setText(text)


def label(text: str, buddy: QWidget) -> QLabel:
    """A label whose access key goes to a control."""
    made = QLabel(text)
    made.setBuddy(buddy)
    return made


def row(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    """Widgets side by side, each with its stretch."""
    made = QHBoxLayout()
    made.setSpacing(4)
    for widget, stretch in widgets:
        made.addWidget(widget, stretch)
    return made

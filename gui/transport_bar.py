"""The transport: play, place, voice, level, and what the next take is made with."""

from __future__ import annotations

from PyQt6.QtCore import QSize, pyqtSignal
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.document import Document
from gui.icons import IconButton
from gui.level_meter import LevelMeter
from gui.parameter_controls import ParameterSlider, label, quietly, say
from gui.settings_row import SettingsRow
from gui.theme import theme
from gui.timeline import Timeline
from pkontext.parameters import BY_ID
from pkontext.player import PlayerStatus
from pkontext.selfcheck import bar_and_beat

PERFORMANCES = ("neural", "sampler")
DEADPAN = "deadpan"


class TransportBar(QWidget):
    """Two rows: what is heard, and what the next take is made with.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    timeline : Timeline
    """

    #: For people: why something was not done.
    message = pyqtSignal(str)
    #: A `PkError`.
    failed = pyqtSignal(object)
    #: The span that is repeated, or None.
    loop_changed = pyqtSignal(object)

    def __init__(
        self, document: Document, client: PlayerClient, timeline: Timeline, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._document, self._client, self._timeline = document, client, timeline
        self._performance = PERFORMANCES[0]
        self._compact = False
        self.setAccessibleName(self.tr("Transport"))
        self._make_buttons()
        self._make_place()
        self._make_state()
        self._make_sound()
        self.settings_row = SettingsRow(document, timeline)
        self.settings_row.failed.connect(self.failed)
        self._name_sides()
        self._lay_out()
        self._full_width = QWidget.minimumSizeHint(self).width()
        self._connect()
        self._show_voice()
        self._score_changed()

    # -- commands ---------------------------------------------------------------------------------------

    def toggle_loop(self) -> None:
        """Repeat the selection, or no more."""
        self.loop_button.click()

    def compare(self) -> None:
        """Go over between the performance and the score as written, at the same place."""
        self._hear(self._performance if self._document.voice == DEADPAN else DEADPAN)

    # -- parts ------------------------------------------------------------------------------------------

    def _make_buttons(self) -> None:
        self.home_button = IconButton("home", self.tr("To the beginning"), self.tr("To the beginning (Home)"))
        self.play_button = IconButton("play", self.tr("Play"), self.tr("Play (Space)"))
        self.stop_button = IconButton("stop", self.tr("Stop"), self.tr("Stop, and back to the beginning (.)"))
        self.loop_button = IconButton("loop", self.tr("Loop"), self.tr("Repeat the selected passage (L)"))
        self.loop_button.setCheckable(True)
        side = round(1.7 * self.fontMetrics().height())
        for button in (self.home_button, self.play_button, self.stop_button, self.loop_button):
            button.setIconSize(QSize(side, side))
        self.loop_button.setIconSize(QSize(round(0.85 * side), round(0.85 * side)))

    def _make_place(self) -> None:
        self.place = QLabel()
        self.place.setAccessibleName(self.tr("Bar and beat"))
        font = self.place.font()
        font.setPointSizeF(1.3 * font.pointSizeF())
        font.setBold(True)
        self.place.setFont(font)
        self.place.setMinimumWidth(self.place.fontMetrics().horizontalAdvance(self._place_text(888, 88)) + 8)
        self.clock = QLabel()
        self.clock.setAccessibleName(self.tr("Time"))
        self.clock.setMinimumWidth(self.clock.fontMetrics().horizontalAdvance("88:88.8 / 88:88"))

    def _make_state(self) -> None:
        self.state = QLabel()
        self.state.setAccessibleName(self.tr("State"))
        self.state.setToolTip(
            self.tr("What the player is doing; in brackets how many times faster than playing it renders.")
        )
        self.state.setMinimumWidth(9 * self.fontMetrics().averageCharWidth())
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.progress = QProgressBar()
        self.progress.setAccessibleName(self.tr("Rendered"))
        self.progress.setToolTip(self.tr("How much of the take is rendered; it can be heard from there on."))
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(max(self.fontMetrics().height() // 3, 4))

    def _make_sound(self) -> None:
        self.performance_button = IconButton("", self.tr("Hear the performance"), text="A")
        self.deadpan_button = IconButton("", self.tr("Hear the score as written"), text="B")
        self._sides = QButtonGroup(self)
        for button, tip in (
            (
                self.performance_button,
                self.tr("Hear the performance, at the same place (C compares)"),
            ),
            (
                self.deadpan_button,
                self.tr("Hear the score without a performance, at the same place (C compares)"),
            ),
        ):
            button.setCheckable(True)
            button.setToolTip(tip)
            self._sides.addButton(button)
        self.voice = QComboBox()
        self.voice.setAccessibleName(self.tr("Voice"))
        self.voice.setToolTip(
            self.tr("Voice of the performance: the network's own sound (1), or a sampled piano (2)")
        )
        self.voice.addItem(self.tr("Neural"), PERFORMANCES[0])
        self.voice.addItem(self.tr("Sampler"), PERFORMANCES[1])
        self.volume = ParameterSlider(BY_ID["volume"])
        self.volume.setMinimumWidth(4 * self.fontMetrics().height())
        self.volume.setMaximumWidth(8 * self.fontMetrics().height())
        self.volume.setToolTip(self.tr("Volume; double click for 0 dB. Exports are not changed by it."))
        self.volume_text = QLabel()
        self.volume_text.setMinimumWidth(self.fontMetrics().horizontalAdvance("-59.5 dB"))
        self.meter = LevelMeter()
        self.dropouts = QLabel()
        self.dropouts.setAccessibleName(self.tr("Dropouts"))
        self.dropouts.setToolTip(
            self.tr("How often the output ran out of sound. Close other programs if this grows.")
        )
        self._show_dropouts(0)

    def _lay_out(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(2)
        for button in (self.home_button, self.play_button, self.stop_button, self.loop_button):
            first.addWidget(button)
        first.addSpacing(8)
        first.addLayout(_column(self.place, self.clock))
        first.addSpacing(8)
        first.addLayout(_column(self.state, self.progress), 1)
        first.addSpacing(8)
        first.addWidget(self.performance_button)
        first.addWidget(self.deadpan_button)
        first.addSpacing(8)
        first.addWidget(self.voice)
        first.addSpacing(8)
        self._volume_label = label(self.tr("Vol&ume"), self.volume)
        first.addWidget(self._volume_label)
        first.addSpacing(4)
        first.addWidget(self.volume)
        first.addWidget(self.volume_text)
        first.addSpacing(4)
        first.addLayout(_column(self.meter), 1)
        first.addSpacing(4)
        first.addWidget(self.dropouts)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        line.setFrameShadow(QFrame.Shadow.Plain)
        line.setForegroundRole(self.palette().ColorRole.Mid)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 4)
        column.setSpacing(4)
        column.addLayout(first)
        column.addWidget(line)
        column.addWidget(self.settings_row)

    def minimumSizeHint(self) -> QSize:
        """Of the compact form: the bar must not keep a window from being narrow."""
        self.ensurePolished()
        least = super().minimumSizeHint()
        return QSize(min(least.width(), 54 * self.fontMetrics().height()), least.height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Take the compact form where the full one has no room."""
        super().resizeEvent(event)
        self._use_form(self.width() < self._full_width)

    def _use_form(self, compact: bool) -> None:
        if compact != self._compact:
            self._compact = compact
            for widget in (self._volume_label, self.volume_text):
                widget.setHidden(compact)
            self._name_sides()
            self._show_dropouts(self._dropouts)

    def _name_sides(self) -> None:
        self.performance_button.setText("A" if self._compact else self.tr("A  Performance"))
        self.deadpan_button.setText("B" if self._compact else self.tr("B  As written"))

    def _connect(self) -> None:
        document, client = self._document, self._client
        self.home_button.clicked.connect(lambda: client.seek(0.0))
        self.play_button.clicked.connect(client.toggle)
        self.stop_button.clicked.connect(client.stop)
        self.loop_button.toggled.connect(self._loop_toggled)
        self.performance_button.clicked.connect(lambda: self._hear(self._performance))
        self.deadpan_button.clicked.connect(lambda: self._hear(DEADPAN))
        self.voice.activated.connect(lambda _: self._hear(self.voice.currentData()))
        self.volume.value_edited.connect(self._volume_edited)
        document.current_changed.connect(self._show_voice)
        document.score_changed.connect(self._score_changed)
        client.status_changed.connect(self._show_status)
        client.failed.connect(self._stopped)
        self._timeline.selection_changed.connect(self._selection_changed)
        theme.changed.connect(self._colour)
        self._volume_edited(self.volume.parameter_value)

    # -- what the user does -----------------------------------------------------------------------------

    def _hear(self, voice: str) -> None:
        if voice != DEADPAN:
            self._performance = voice
        self._document.set_voice(voice)
        self._show_voice()

    def _volume_edited(self, value: float) -> None:
        self.volume_text.setText(BY_ID["volume"].to_text(value).replace("-", "−"))
        self._client.set("volume", value)

    def _loop_toggled(self, on: bool) -> None:
        span = self._timeline.selection if on else None
        if on and span is None:
            quietly(self.loop_button, lambda: self.loop_button.setChecked(False))
            self.message.emit(
                self.tr("There is no passage to repeat. Drag over some bars first, then press L.")
            )
            return
        self._client.loop(span)
        self.loop_changed.emit(span)

    def _selection_changed(self) -> None:
        """A loop that runs follows another selection; without one it stays as it is."""
        if self.loop_button.isChecked() and self._timeline.selection is not None:
            self._loop_toggled(True)

    # -- what is shown ----------------------------------------------------------------------------------

    def _score_changed(self) -> None:
        there = self._document.score is not None
        for widget in (self.home_button, self.play_button, self.stop_button, self.loop_button):
            widget.setEnabled(there)
        for widget in (self.performance_button, self.deadpan_button, self.voice):
            widget.setEnabled(there)
        if self.loop_button.isChecked():
            self.loop_button.setChecked(False)
        if not there:
            self.place.setText(self._place_text(1, 1))
            self.clock.setText("0:00.0 / 0:00")
            self.state.setText(self.tr("No piece is open"))

    def _show_voice(self) -> None:
        voice = self._document.voice
        if voice != DEADPAN:
            self._performance = voice
        quietly(self.voice, lambda: self.voice.setCurrentIndex(PERFORMANCES.index(self._performance)))
        (self.deadpan_button if voice == DEADPAN else self.performance_button).setChecked(True)

    def _show_status(self, status: PlayerStatus) -> None:
        deck = status.deck
        self._show_play(deck.state in ("playing", "waiting"))
        self.meter.set_level(status.level)
        self._show_dropouts(status.underruns)
        score = self._document.score
        if score is None:
            return
        bar, beat = bar_and_beat(score, status.heard_score_sec)
        say(self.place, self._place_text(bar, int(beat)))
        say(self.clock, f"{_minutes(status.heard_sec, True)} / {_minutes(deck.duration_sec)}")
        say(self.state, self._state_text(status))
        share = deck.rendered_sec / deck.duration_sec if deck.duration_sec else 0.0
        self.progress.setValue(round(1000 * min(share, 1.0)))
        for button, mine in ((self.performance_button, False), (self.deadpan_button, True)):
            font = button.font()
            heard = (deck.voice == DEADPAN) == mine
            if font.bold() != heard:
                font.setBold(heard)
                button.setFont(font)

    def _colour(self) -> None:
        self._show_dropouts(self._dropouts)

    def _stopped(self, _error: object) -> None:
        self._show_play(False)

    def _show_play(self, playing: bool) -> None:
        name = "pause" if playing else "play"
        if self.play_button.icon_name != name:
            what = self.tr("Pause") if playing else self.tr("Play")
            self.play_button.set_icon(name, what, self.tr("{0} (Space)").format(what))

    def _state_text(self, status: PlayerStatus) -> str:
        deck = status.deck
        if deck.state == "waiting":
            wait = deck.wait_sec
            return (
                self.tr("Starts in {0:.0f} s").format(wait) if wait > 0.5 else self.tr("Starts in a moment")
            )
        if deck.state == "failed":
            return self.tr("Rendering failed")
        if (deck.take, deck.voice) != (deck.next_take, deck.next_voice):
            return self.tr("Going over in a moment")
        return self._render_text(status)

    def _render_text(self, status: PlayerStatus) -> str:
        deck = status.deck
        live = self._client.take(deck.take)
        if live is None:
            return self.tr("Preparing")
        if live.audio[deck.voice].done:
            return self.tr("Rendered")
        share = 100 * deck.rendered_sec / deck.duration_sec if deck.duration_sec else 0.0
        if deck.rtf:
            return self.tr("Rendering {0:.0f} % ({1:.1f}×)").format(share, 1 / deck.rtf)
        return self.tr("Rendering")

    def _show_dropouts(self, count: int) -> None:
        self._dropouts = count
        if count == 0:
            text = "○ 0" if self._compact else self.tr("○ no dropouts")
        elif self._compact:
            text = f"▲ {count}"
        else:
            text = self.tr("▲ 1 dropout") if count == 1 else self.tr("▲ {0} dropouts").format(count)
        colour = theme.colours.warning if count else theme.colours.faint_text
        sheet = f"color: {colour.name()};"
        if self.dropouts.text() != text or self.dropouts.styleSheet() != sheet:
            self.dropouts.setText(text)
            self.dropouts.setStyleSheet(sheet)

    def _place_text(self, bar: int, beat: int) -> str:
        return self.tr("bar {0} · beat {1}").format(bar, beat)


def _minutes(seconds: float, tenths: bool = False) -> str:
    """``0:34`` or ``0:34.2``."""
    if tenths:
        whole, part = divmod(int(10 * max(seconds, 0.0)), 600)
        return f"{whole}:{part / 10:04.1f}"
    whole, part = divmod(int(max(seconds, 0.0) + 0.5), 60)
    return f"{whole}:{part:02d}"


def _column(*widgets: QWidget) -> QVBoxLayout:
    made = QVBoxLayout()
    made.setSpacing(0)
    made.addStretch(1)
    for widget in widgets:
        made.addWidget(widget)
    made.addStretch(1)
    return made

"""The two cards of the live panel: the keyboard that is listened to, and the recorder. Widgets only."""

from __future__ import annotations

import time

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QToolButton,
    QWidget,
)

from gui.key_strip import KeyStrip
from gui.parts import GRID, Card, StateIcon, enlarged, give_icon, note, note_name
from gui.preferences_store import Preferences
from pkontext.live import LiveStatus
from pkontext.metronome import FASTEST_BPM, SLOWEST_BPM
from pkontext.ports import PortInfo

#: What the list of ports holds for a virtual one.
VIRTUAL = "\0virtual"
_MOST_SHOWN_KEYS = 8


class KeyboardCard(Card):
    """Which port, how it does, and how loud it is heard."""

    def __init__(self, store: Preferences) -> None:
        super().__init__()
        self.setAccessibleName(self.tr("Keyboard"))
        self._store = store
        self._ports: list[PortInfo] = []
        self.port = QComboBox()
        self.port.setAccessibleName(self.tr("MIDI input"))
        self.port.setToolTip(self.tr("The instrument to listen to"))
        self.port.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.port.setMinimumContentsLength(10)
        self.refresh = QToolButton()
        self.refresh.setText("↻")
        self.refresh.setAccessibleName(self.tr("Refresh"))
        self.refresh.setToolTip(self.tr("Look again which instruments are connected"))
        self.refresh.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.listen = QPushButton(self.tr("&Listen"))
        self.listen.setToolTip(self.tr("Open the port, and hear what is played on it"))
        self._icon, self.state = StateIcon("info"), note(selectable=True)
        self.monitor = QCheckBox(self.tr("&Hear what I play"))
        self.monitor.setToolTip(self.tr("Sound the keyboard with the built-in piano"))
        self.monitor.setChecked(store.get("monitor"))
        self.volume = QSlider(Qt.Orientation.Horizontal)
        self.volume.setRange(0, 200)
        self.volume.setPageStep(10)
        self.volume.setValue(round(100 * store.get("monitor_volume")))
        self.volume.setEnabled(self.monitor.isChecked())
        self.volume.setMinimumWidth(6 * GRID)
        self.volume.setAccessibleName(self.tr("Volume of the keyboard in percent"))
        self.volume.setToolTip(self.tr("How loud you hear yourself; recording does not depend on it"))
        self.panic = QPushButton(self.tr("Notes off"))
        self.panic.setAccessibleName(self.tr("All notes off"))
        self.panic.setToolTip(self.tr("End every sounding note (Ctrl+.)"))
        for widgets in ((self.port, self.refresh, self.listen), (self._icon, self.state)):
            self.column.addLayout(_row(widgets, 0 if widgets[0] is self.port else 1))
        self.column.addLayout(_row((self.monitor, self.volume, self.panic), 1))

    def show_ports(self, ports: list[PortInfo]) -> None:
        """Offer these ports and a virtual one; what is chosen stays chosen."""
        if ports == self._ports and self.port.count():
            return
        wanted = self._store.get("midi_port")
        chosen = VIRTUAL if self.port.currentData() == VIRTUAL and self._ports else wanted
        self._ports = ports
        self.port.clear()
        for port in ports:
            self.port.addItem(port.name, port.name)
        self.port.addItem(self.tr("Virtual port, for other programs"), VIRTUAL)
        self.port.setCurrentIndex(max(self.port.findData(chosen), 0))

    def say(self, kind: str, text: str) -> None:
        """Show how it is; ``kind`` is one of `StateIcon.KINDS`."""
        self._icon.set_kind(kind)
        if text != self.state.text():
            self.state.setText(text)
            self.state.setAccessibleName(text)

    def show_session(self, status: LiveStatus) -> None:
        """Show an open port."""
        if not status.connected:
            text = self.tr("{0} is gone. Connect it again; it is opened by itself.").format(status.port.name)
            self.say("warning", text)
        elif status.warnings:
            self.say("warning", " ".join(status.warnings))
        else:
            text = self.tr("Listening to {0}.").format(status.port.name)
            if status.monitor is not None and not status.monitor.muted:
                text += " " + self.tr("Sound through {0}.").format(status.monitor.driver)
            self.say("good", text)


class RecorderCard(Card):
    """Metronome, time, held keys, and the buttons."""

    def __init__(self, store: Preferences) -> None:
        super().__init__()
        self.setAccessibleName(self.tr("Recorder"))
        self.metronome = QCheckBox(self.tr("&Metronome"))
        self.metronome.setToolTip(
            self.tr("Click while recording; the bars of the score are then the clicks'")
        )
        self.metronome.setChecked(store.get("metronome"))
        self.bpm = QDoubleSpinBox()
        self.bpm.setRange(SLOWEST_BPM, FASTEST_BPM)
        self.bpm.setDecimals(0)
        self.bpm.setSuffix(self.tr(" bpm"))
        self.bpm.setValue(store.get("metronome_bpm"))
        self.bpm.setAccessibleName(self.tr("Tempo of the metronome"))
        self.beats, self.count_in = QSpinBox(), QSpinBox()
        self.beats.setRange(1, 32)
        self.beats.setValue(store.get("metronome_beats"))
        self.count_in.setRange(0, 16)
        self.count_in.setValue(store.get("count_in"))
        self.column.addLayout(self._make_fields())
        self.metronome.toggled.connect(lambda on: store.set("metronome", on))
        self.metronome.toggled.connect(lambda _: self.set_recording(False, True))
        for field, name in (
            (self.bpm, "metronome_bpm"),
            (self.beats, "metronome_beats"),
            (self.count_in, "count_in"),
        ):
            field.valueChanged.connect(lambda value, name=name: store.set(name, value))
        self.elapsed = QLabel("0:00.0")
        self.elapsed.setFont(enlarged(self.font(), 2.0, bold=True))
        self.elapsed.setAccessibleName(self.tr("Recorded time"))
        self.counts = note()
        self.counts.setMinimumHeight(self.fontMetrics().lineSpacing() * 3)
        self.column.addLayout(_row((self.elapsed, self.counts), 1))
        self.keys = KeyStrip()
        self.column.addWidget(self.keys)
        self.record = QPushButton()
        self.record.setMinimumHeight(4 * GRID)
        self.keep = QPushButton(self.tr("&Keep what I just played"))
        self.keep.setToolTip(self.tr("The last five minutes are always kept (K)"))
        self.column.addWidget(self.record)
        self.column.addWidget(self.keep)
        self.set_recording(False, True)

    def set_recording(self, recording: bool, can: bool) -> None:
        """Show whether it records, and whether it can begin or stop now."""
        self.record.setEnabled(can)
        self.record.setText(self.tr("Stop") if recording else self.tr("&Record"))
        give_icon(self.record, "stop" if recording else "record")
        self.record.setToolTip(
            self.tr("End the recording and save it (R)")
            if recording
            else self.tr("Record from the keyboard; listens first if need be (R)")
        )
        self.metronome.setEnabled(not recording)
        for field in (self.bpm, self.beats, self.count_in):
            field.setEnabled(not recording and self.metronome.isChecked())

    def show_status(self, status: LiveStatus | None, begin: float, busy: bool) -> None:
        """Show time, counts and held keys; ``begin`` is the ``time.monotonic()`` of the take's start."""
        recent = 0 if status is None else status.recorder.recent_notes
        self.keep.setEnabled(recent > 0 and not busy)
        self.keys.set_held(() if status is None else status.recorder.held)
        if status is None:
            self.elapsed.setText("0:00.0")
            self.counts.setText("")
            return
        early = begin - time.monotonic()
        if status.recorder.recording and early > 0:
            beats = int(early * self.bpm.value() / 60.0) + 1
            self.elapsed.setText(self.tr("in {0}").format(beats))
        else:
            self.elapsed.setText(clock(status.recorder.elapsed_sec))
        text = "\n".join(self._counts(status))
        if text != self.counts.text():
            self.counts.setText(text)

    def _counts(self, status: LiveStatus) -> list[str]:
        recorder = status.recorder
        if recorder.recording:
            lines = [self.tr("Recording, notes: {0}").format(recorder.notes)]
        else:
            lines = [self.tr("Notes in the last five minutes: {0}").format(recorder.recent_notes)]
        held = " ".join(note_name(key) for key in recorder.held[:_MOST_SHOWN_KEYS])
        pedal = self.tr("pedal {0}").format(recorder.pedal) if recorder.pedal else ""
        if held or pedal:
            lines.append(", ".join(filter(None, (held, pedal))))
        if status.dropped:
            lines.append(self.tr("{0} events were lost: close other programs.").format(status.dropped))
        return lines

    def _make_fields(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * GRID)
        grid.setVerticalSpacing(GRID)
        grid.addWidget(self.metronome, 0, 0)
        grid.addWidget(self.bpm, 0, 1)
        rows = ((self.tr("Beats in a bar"), self.beats), (self.tr("Bars of count-in"), self.count_in))
        for number, (text, field) in enumerate(rows, 1):
            label = QLabel(text)
            label.setBuddy(field)
            field.setAccessibleName(text)
            grid.addWidget(label, number, 0)
            grid.addWidget(field, number, 1)
        grid.setColumnStretch(2, 1)
        return grid


def clock(seconds: float) -> str:
    """Time as a recorder shows it, such as 3:12.4."""
    tenths = int(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _row(widgets: tuple[QWidget, ...], wide: int) -> QHBoxLayout:
    """Widgets side by side; one of them takes what is left."""
    row = QHBoxLayout()
    row.setSpacing(GRID)
    for index, widget in enumerate(widgets):
        small = isinstance(widget, StateIcon)
        row.addWidget(widget, index == wide, Qt.AlignmentFlag.AlignTop if small else Qt.AlignmentFlag(0))
    return row

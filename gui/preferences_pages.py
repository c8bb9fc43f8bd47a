"""Pages of the preferences for sound, MIDI, speed and looks. They show the store and report edits."""

from __future__ import annotations

import os
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.operations import Operation
from gui.parts import GRID, Form, StateIcon, heading, note, run
from gui.preferences_store import Preferences, speaker
from gui.start_checks import on_player
from pkontext.devices import AudioDevice
from pkontext.errors import PkError
from pkontext.output_status import OutputStatus


class Page(QWidget):
    """One page; what is edited is told by `edited` and kept by the dialog until it is applied."""

    #: Name of a preference, and its value.
    edited = pyqtSignal(str, object)

    def __init__(self, title: str, client: PlayerClient, store: Preferences) -> None:
        super().__init__()
        self.client, self.store = client, store
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(3 * GRID, GRID, GRID, GRID)
        self.column.setSpacing(GRID + GRID // 2)
        self.column.addWidget(heading(title, 1.3))
        self.form = Form()
        self.column.addLayout(self.form)
        self.setAccessibleName(title)

    def field(self, label: str, widget: QWidget, name: str = "", hint: str = "") -> None:
        """Add a control; one whose value is fixed elsewhere is disabled, and says by what."""
        widget.setAccessibleName(label)
        self.form.add(label, widget)
        fixed = self.store.fixed(name) if name else ""
        if fixed:
            widget.setEnabled(False)
            hint = self.tr("Set by {0}; change it there.").format(fixed)
        if hint:
            self.form.add("", note(hint))

    def chooser(self, name: str, choices: list[tuple[str, Any]]) -> QComboBox:
        """A list of values of a preference, by their words."""
        box = QComboBox()
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(20)
        fill(box, choices, self.store.get(name))
        box.activated.connect(lambda _: self.edited.emit(name, box.currentData()))
        return box

    def shown(self) -> None:
        """The page was opened: look at what takes time."""


class AudioPage(Page):
    """Which output, with which latency, and whether it works."""

    def __init__(self, client: PlayerClient, store: Preferences) -> None:
        super().__init__(self.tr("Audio"), client, store)
        self._default = (self.tr("The system's default"), None)
        self.device = self.chooser("device", [self._default])
        self.field(self.tr("Output"), self.device, "device")
        self.refresh = QPushButton(self.tr("&Refresh"))
        self.refresh.setToolTip(self.tr("Look again which outputs are connected"))
        self.refresh.clicked.connect(lambda: self._list(anew=True))
        self.test = QPushButton(self.tr("Play a &test tone"))
        self.test.setToolTip(self.tr("A quiet tone on the output that is chosen above"))
        self.test.clicked.connect(self._toggle_tone)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.refresh)
        row.addWidget(self.test)
        row.addStretch(1)
        self.form.add("", row)
        self._icon, self.result = StateIcon("info"), note(selectable=True)
        told = QHBoxLayout()
        told.setSpacing(GRID)
        told.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        told.addWidget(self.result, 1)
        self.form.add("", told)
        self._say("info", "")
        self.latency = self.chooser(
            "latency", [(self.tr("Short"), "low"), (self.tr("Long, for a busy computer"), "high")]
        )
        self.field(
            self.tr("Buffer"), self.latency, "", self.tr("Take the long one if playing crackles or has gaps.")
        )
        self.now = QLabel()
        self.form.add(self.tr("Latency now"), self.now)
        self.column.addStretch(1)
        self._tone: Operation | None = None
        self._shown = False
        client.status_changed.connect(self._show_latency)
        self._show_latency(client.status)

    def shown(self) -> None:
        """List the outputs."""
        if not self._shown:
            self._shown = True
            self._list(anew=False)

    def _list(self, anew: bool) -> None:
        self.refresh.setEnabled(False)
        self._say("busy", self.tr("Looking for outputs…"))

        def work(_: Operation) -> list[AudioDevice]:
            from pkontext import devices

            if anew:
                on_player(self.client, devices.refresh)
            return on_player(self.client, devices.list_outputs)

        run(self, "outputs", work, self._show_devices, self._show_error)

    def _show_devices(self, found: list[AudioDevice]) -> None:
        self.refresh.setEnabled(True)
        names = [(str(device.device_name), str(device.device_name)) for device in found]
        chosen = self.device.currentData()
        if chosen is not None and chosen not in [name for _, name in names]:
            names.append((self.tr("{0} (not connected)").format(chosen), chosen))
        fill(self.device, [self._default, *names], chosen)
        if found:
            self._say("info", self.tr("The default is {0}.").format(found[0].name))
        else:
            self._say("warning", self.tr("There is no audio output. Connect one, then press Refresh."))
        self.test.setEnabled(bool(found))

    def _toggle_tone(self) -> None:
        if self._tone is not None:
            self._tone.cancel()
            return
        from gui.tone import play_tone

        output = speaker(self.device.currentData(), self.latency.currentData())
        self.test.setText(self.tr("&Stop the tone"))
        self._say("busy", self.tr("Playing a tone…"))
        self._tone = run(
            self,
            "tone",
            lambda operation: play_tone(self.client, output, operation),
            self._show_tone,
            self._show_error,
            stopped=lambda: self._say("info", self.tr("Stopped.")),
            over=self._tone_over,
        )

    def _tone_over(self) -> None:
        self._tone = None
        self.test.setText(self.tr("Play a &test tone"))

    def _show_tone(self, status: OutputStatus) -> None:
        gaps = status.underruns + status.xruns
        text = self.tr("Played on {0}: {1} Hz, {2:.0f} ms latency, {3}.").format(
            status.name,
            status.sample_rate,
            1000 * status.latency_sec,
            self.tr("{0} gaps").format(gaps) if gaps else self.tr("no gaps"),
        )
        self._say("warning" if gaps else "good", text)

    def _show_error(self, error: PkError) -> None:
        self.refresh.setEnabled(True)
        self._say("warning", f"{error.message} {error.hint}")

    def _say(self, kind: str, text: str) -> None:
        self._icon.set_kind(kind)
        self._icon.setVisible(bool(text))
        self.result.setText(text)

    def _show_latency(self, status: Any) -> None:
        if status is None or not status.device:
            text = self.tr("no output is open; it is measured while playing")
        else:
            text = self.tr("{0:.0f} ms from a command to the ear, {1} underruns").format(
                1000 * status.latency_sec, status.underruns
            )
        if text != self.now.text():
            self.now.setText(text)


class MidiPage(Page):
    """Which keyboard, and through what it is heard."""

    def __init__(self, client: PlayerClient, store: Preferences) -> None:
        super().__init__(self.tr("MIDI"), client, store)
        self._first = (self.tr("The first instrument"), None)
        self.port = self.chooser("midi_port", [self._first])
        self.field(self.tr("Keyboard"), self.port)
        self.refresh = QPushButton(self.tr("&Refresh"))
        self.refresh.setToolTip(self.tr("Look again which instruments are connected"))
        self.refresh.clicked.connect(self._list)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.refresh)
        row.addStretch(1)
        self.form.add("", row)
        self.result = note(selectable=True)
        self.form.add("", self.result)
        self._automatic = (self.tr("Automatic"), None)
        self.driver = self.chooser("monitor_driver", [self._automatic])
        self.field(
            self.tr("Sound of the keyboard through"),
            self.driver,
            "",
            self.tr("The sound system that you hear yourself play through; used when listening begins."),
        )
        self.volume = QSlider(Qt.Orientation.Horizontal)
        self.volume.setRange(0, 200)
        self.volume.setPageStep(10)
        self.volume.setValue(round(100 * store.get("monitor_volume")))
        self.volume.valueChanged.connect(lambda percent: self.edited.emit("monitor_volume", percent / 100))
        self.field(self.tr("Volume of the keyboard"), self.volume)
        self.column.addStretch(1)
        self._shown = False

    def shown(self) -> None:
        """List ports and drivers."""
        if not self._shown:
            self._shown = True
            self._list()

    def _list(self) -> None:
        self.refresh.setEnabled(False)
        self.result.setText(self.tr("Looking for instruments…"))

        def work(_: Operation) -> tuple[list[str], list[str], PkError | None]:
            from pkontext.monitor import likely_drivers
            from pkontext.ports import list_inputs

            try:
                return likely_drivers(), [port.name for port in list_inputs()], None
            except PkError as error:
                return likely_drivers(), [], error

        run(self, "ports", work, self._show_found, self._show_error)

    def _show_found(self, found: tuple[list[str], list[str], PkError | None]) -> None:
        drivers, ports, error = found
        self.refresh.setEnabled(True)
        for box, first, names in ((self.port, self._first, ports), (self.driver, self._automatic, drivers)):
            chosen = box.currentData() or self.store.get(
                "midi_port" if box is self.port else "monitor_driver"
            )
            rows = [first, *((name, name) for name in names)]
            if chosen is not None and chosen not in names:
                rows.append((self.tr("{0} (not there now)").format(chosen), chosen))
            fill(box, rows, chosen)
        if error is not None:
            self._show_error(error)
        else:
            self.result.setText(
                self.tr("Instruments that are connected: {0}.").format(", ".join(ports))
                if ports
                else self.tr("No instrument is connected. Plug one in, then press Refresh.")
            )

    def _show_error(self, error: PkError) -> None:
        self.refresh.setEnabled(True)
        self.result.setText(f"{error.message} {error.hint}")


class PerformancePage(Page):
    """Threads and processor of the networks."""

    def __init__(self, client: PlayerClient, store: Preferences) -> None:
        super().__init__(self.tr("Performance"), client, store)
        cores = os.cpu_count() or 1
        self.threads = QSpinBox()
        self.threads.setRange(0, min(256, max(64, cores)))
        self.threads.setSpecialValueText(self.tr("automatic ({0} cores)").format(cores))
        self.threads.setValue(store.threads)
        self.threads.valueChanged.connect(lambda value: self.edited.emit("threads", value))
        self.field(
            self.tr("Threads"),
            self.threads,
            "threads",
            self.tr("Fewer threads leave more of the computer to other programs."),
        )
        self.provider = self.chooser(
            "provider",
            [
                (self.tr("Automatic"), "auto"),
                (self.tr("Processor (CPU)"), "cpu"),
                (self.tr("NVIDIA graphics card (CUDA)"), "cuda"),
            ],
        )
        self.provider.activated.connect(lambda _: self._look())
        self.field(self.tr("Networks run on"), self.provider, "provider")
        self.used = note(selectable=True)
        self.form.add(self.tr("Really used"), self.used)
        self.column.addWidget(note(self.tr("Changes on this page hold from the next start of PianoKontext.")))
        self.column.addStretch(1)
        self._asked = 0

    def shown(self) -> None:
        """Find out where networks run."""
        self._look()

    def _look(self) -> None:
        """Open a network as it would be opened, and see where it ends up."""
        bundle, provider = self.client.bundle, self.provider.currentData()
        if bundle is None:
            self.used.setText(self.tr("The model is not open, so this is not known yet."))
            return
        self._asked += 1
        number = self._asked
        self.used.setText(self.tr("Trying…"))

        def work(_: Operation) -> str:
            from pkontext.runtime import Graph

            graphs = bundle.manifest.graphs
            smallest = min(graphs, key=lambda name: graphs[name].bytes)
            return Graph(bundle.graph_path(smallest), 1, provider).provider

        def show(text: str) -> None:
            if number == self._asked:
                self.used.setText(text)

        names = {"CPUExecutionProvider": self.tr("Processor (CPU)"), "CUDAExecutionProvider": "CUDA"}
        run(
            self,
            "provider",
            work,
            lambda found: show(names.get(found, found)),
            lambda error: show(f"{error.message} {error.hint}"),
        )


class AppearancePage(Page):
    """Colours and language."""

    def __init__(self, client: PlayerClient, store: Preferences) -> None:
        super().__init__(self.tr("Appearance"), client, store)
        self.theme = self.chooser(
            "theme",
            [(self.tr("As the system"), "system"), (self.tr("Light"), "light"), (self.tr("Dark"), "dark")],
        )
        self.field(self.tr("Theme"), self.theme)
        self.language = self.chooser("language", [("English", "en")])
        self.field(self.tr("Language"), self.language, "", self.tr("There is no other language yet."))
        self.column.addStretch(1)


def fill(box: QComboBox, choices: list[tuple[str, Any]], chosen: Any) -> None:
    """Offer these values, with one of them chosen; a value that is missing is added as it is."""
    if chosen not in [value for _, value in choices]:
        choices = [*choices, (str(chosen), chosen)]
    box.clear()
    for text, value in choices:
        box.addItem(text, value)
    box.setCurrentIndex([value for _, value in choices].index(chosen))

"""Playing live: choose a keyboard, hear it, record, keep what was just played, and have it performed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PyQt6.QtWidgets import QBoxLayout, QFrame, QScrollArea, QVBoxLayout, QWidget

from gui.client import TICK_MS, PlayerClient
from gui.document import Document
from gui.live_cards import VIRTUAL, KeyboardCard, RecorderCard
from gui.live_link import CLOSED, CLOSING, OPEN, OPENING, LiveLink, SavedTake
from gui.operations import Operation
from gui.parts import GRID, run
from gui.preferences_store import Preferences
from gui.quantise_panel import QuantisePanel
from gui.recovery_banner import RecoveryBanner
from pkontext.bundle import PACKAGE_DATA
from pkontext.captured import Captured, save_captured
from pkontext.errors import DeviceError, PkError
from pkontext.live import LiveOptions
from pkontext.ports import PortInfo
from pkontext.quantise import Quantised, quantise
from pkontext.types import NOTE, PEDAL

_LOOK_FOR_PORTS_MS = 3000


class LivePanel(QScrollArea):
    """Recording from a MIDI keyboard.

    Parameters
    ----------
    document : Document
        Gets the score that is to be performed.
    client : PlayerClient
    store : Preferences, optional
        Port, monitor and metronome of last time.
    folder : pathlib.Path, optional
        Where recordings are kept; by default in the platform's data folder.
    """

    message = pyqtSignal(str)
    #: A `PkError` that has nothing to do with ports; those are shown here.
    failed = pyqtSignal(object)
    #: A recording became the open piece.
    performed = pyqtSignal()

    def __init__(
        self,
        document: Document,
        client: PlayerClient,
        parent: QWidget | None = None,
        store: Preferences | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(parent)
        self.document, self.client = document, client
        self.store = store or Preferences()
        #: Asked before another piece replaces the open one.
        self.may_replace: Callable[[], bool] = lambda: True
        self.link = LiveLink(folder, self)
        self._error: DeviceError | None = None
        self._record_when_open = self._warm = False
        self._make()
        self._connect()
        self._tick_timer, self._port_timer = QTimer(self), QTimer(self)
        self._tick_timer.setInterval(TICK_MS)
        self._tick_timer.timeout.connect(self._tick)
        self._port_timer.setInterval(_LOOK_FOR_PORTS_MS)
        self._port_timer.timeout.connect(self._look_for_ports)
        self.keyboard.show_ports([])
        self._show_state()
        QTimer.singleShot(0, self.link.look_for_journals)

    # -- commands ---------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Open the chosen port."""
        chosen = self.keyboard.port.currentData()
        virtual = chosen == VIRTUAL
        font = PACKAGE_DATA / "FluidR3_piano.sf2"
        driver = self.store.get("monitor_driver")
        self._error = None
        self.link.open(LiveOptions(None if virtual else chosen, virtual, font, driver=driver))

    def toggle_record(self) -> None:
        """Begin a recording, listening first if need be, or end the one that runs."""
        recorder = self.recorder
        if self.link.recording:
            self.link.stop()
        elif self.link.state == OPEN:
            bpm = recorder.bpm.value() if recorder.metronome.isChecked() else None
            self.link.record(bpm, recorder.beats.value(), recorder.count_in.value())
        elif self.link.state == CLOSED:
            self._record_when_open = True
            self.listen()

    def keep(self) -> None:
        """Take what was just played, up to five minutes of it, as a recording."""
        if self.link.session is None:
            self.message.emit(self.tr("Nothing is kept before a keyboard is listened to."))
        else:
            self.link.keep()

    def panic(self) -> None:
        """End all sound of the monitor."""
        session = self.link.session
        if session is not None:
            session.panic()
            self.message.emit(self.tr("All notes are off."))

    def close_session(self) -> None:
        """Save what is being recorded, close the port, and wait for it; as when the program ends."""
        self._tick_timer.stop()
        self._port_timer.stop()
        self.link.shutdown()

    # -- parts ------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName(self.tr("Live"))
        self.banner = RecoveryBanner(self.link)
        self.keyboard, self.recorder = KeyboardCard(self.store), RecorderCard(self.store)
        self.quantise = QuantisePanel()
        left = QVBoxLayout()
        left.setSpacing(GRID)
        left.addWidget(self.keyboard)
        left.addWidget(self.recorder)
        left.addStretch(1)
        self._halves = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._halves.setSpacing(GRID)
        self._halves.addLayout(left, 2)
        self._halves.addWidget(self.quantise, 3)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(GRID, GRID, GRID, GRID)
        column.setSpacing(GRID)
        column.addWidget(self.banner)
        column.addLayout(self._halves)
        column.addStretch(1)
        self.setWidget(inner)

    def _connect(self) -> None:
        keyboard, recorder, link = self.keyboard, self.recorder, self.link
        keyboard.refresh.clicked.connect(link.list_ports)
        keyboard.listen.clicked.connect(self._toggle_listen)
        keyboard.port.activated.connect(self._choose_port)
        keyboard.monitor.toggled.connect(self._set_monitor)
        keyboard.volume.valueChanged.connect(self._set_volume)
        keyboard.volume.sliderReleased.connect(self._keep_volume)
        keyboard.panic.clicked.connect(self.panic)
        recorder.record.clicked.connect(self.toggle_record)
        recorder.keep.clicked.connect(self.keep)
        link.changed.connect(self._link_changed)
        link.ports_listed.connect(self._show_ports)
        link.failed.connect(self._show_failure)
        link.captured.connect(self._show_take)
        link.empty.connect(lambda: self.message.emit(self.tr("Nothing was played, so nothing is kept.")))
        self.quantise.perform_requested.connect(self._perform)
        self.quantise.save_requested.connect(self._save_as)
        self.store.changed.connect(self._preference_changed)

    # -- ports and monitor --------------------------------------------------------------------------------

    def _toggle_listen(self) -> None:
        self._record_when_open = False
        self.link.close() if self.link.state == OPEN else self.listen()

    def _choose_port(self) -> None:
        chosen = self.keyboard.port.currentData()
        if chosen != VIRTUAL:
            self.store.set("midi_port", chosen)
        if self.link.state == OPEN:
            self.listen()

    def _look_for_ports(self) -> None:
        """Notice what is plugged in; an open port is watched by the session itself."""
        if self.link.state == CLOSED:
            self.link.list_ports()

    def _show_ports(self, found: list[PortInfo] | DeviceError) -> None:
        failed = isinstance(found, DeviceError)
        if failed and self.link.state == CLOSED:
            self._error = found
        elif self._error is not None and self._error.code == "midi.none":
            self._error = None
        self.keyboard.show_ports([] if failed else found)
        self._show_state()

    def _set_monitor(self, on: bool) -> None:
        self.store.set("monitor", on)
        self.keyboard.volume.setEnabled(on)
        session = self.link.session
        if session is not None and session.monitor is not None:
            session.monitor.set_muted(not on)

    def _set_volume(self, percent: int) -> None:
        session = self.link.session
        if session is not None and session.monitor is not None:
            session.monitor.set_volume(percent / 100)
        if not self.keyboard.volume.isSliderDown():
            self._keep_volume()

    def _keep_volume(self) -> None:
        self.store.set("monitor_volume", self.keyboard.volume.value() / 100)

    def _preference_changed(self, name: str) -> None:
        if name == "monitor_volume":
            self.keyboard.volume.setValue(round(100 * self.store.get(name)))

    # -- what happens -----------------------------------------------------------------------------------

    def _link_changed(self) -> None:
        if self.link.state == OPEN:
            self._error = None
            self._set_monitor(self.keyboard.monitor.isChecked())
            self._set_volume(self.keyboard.volume.value())
            if self._record_when_open:
                self._record_when_open = False
                self.toggle_record()
        self._show_state()

    def _show_failure(self, error: PkError) -> None:
        self._record_when_open = False
        if isinstance(error, DeviceError):
            self._error = error
            self._show_state()
        else:
            self.failed.emit(error)

    def _show_state(self) -> None:
        link, keyboard = self.link, self.keyboard
        listening, idle = link.state == OPEN, link.state in (OPEN, CLOSED)
        free = idle and not link.recording and not link.busy
        keyboard.port.setEnabled(free)
        keyboard.listen.setEnabled(free)
        keyboard.refresh.setEnabled(free)
        keyboard.listen.setText(self.tr("Stop &listening") if listening else self.tr("&Listen"))
        keyboard.panic.setEnabled(listening)
        self.recorder.set_recording(link.recording, idle and not link.busy)
        if self._error is not None:
            keyboard.say("warning", f"{self._error.message} {self._error.hint}")
        elif link.state == OPENING:
            keyboard.say("busy", self.tr("Opening the port…"))
        elif link.state == CLOSING:
            keyboard.say("busy", self.tr("Closing the port…"))
        elif not listening:
            keyboard.say("info", self.tr("Press Listen to hear your keyboard, or Record to begin at once."))
        self._tick()

    def _tick(self) -> None:
        """Show what the session says now."""
        status = self.link.status()
        self.recorder.show_status(status, self.link.begin, self.link.busy)
        if status is not None and self._error is None:
            self.keyboard.show_session(status)

    # -- takes ------------------------------------------------------------------------------------------

    def _show_take(self, take: SavedTake) -> None:
        self.quantise.show_take(take)
        QTimer.singleShot(0, self._scroll_to_take)
        if take.path is not None:
            self.message.emit(self.tr("The recording is saved as {0}.").format(take.path))

    def _scroll_to_take(self) -> None:
        bar = self.verticalScrollBar()
        assert bar is not None
        bar.setValue(self.quantise.y() if self._halves.direction() != QBoxLayout.Direction.LeftToRight else 0)

    def _perform(self, result: Quantised, title: str) -> None:
        if self.may_replace():
            self.document.set_score(result.score, title or self.tr("Recording"))
            self.performed.emit()

    def _save_as(self, captured: Captured, path: Path) -> None:
        run(
            self,
            "save-recording",
            lambda _: save_captured(captured, path),
            lambda _: self.message.emit(self.tr("The recording is saved as {0}.").format(path)),
            self.failed.emit,
        )

    # -- Qt's events ------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look at ports and status while somebody sees them."""
        super().showEvent(event)
        if not self._warm:
            self._warm = True
            run(self, "warm", _warm_up)
        self._look_for_ports()
        self._tick_timer.start()
        self._port_timer.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """A recording goes on; only looking stops."""
        super().hideEvent(event)
        self._tick_timer.stop()
        self._port_timer.stop()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Side by side where it is wide."""
        super().resizeEvent(event)
        wide = self.width() > self.fontMetrics().averageCharWidth() * 110
        self._halves.setDirection(
            QBoxLayout.Direction.LeftToRight if wide else QBoxLayout.Direction.TopToBottom
        )


def _warm_up(_: Operation) -> None:
    """Have the beat finder compiled before it is needed: the first time ever that takes seconds."""
    notes = np.array([(0.5 * beat, 0.4, 60, 64) for beat in range(8)], NOTE)
    quantise(notes, np.zeros(0, PEDAL))

"""The main window: menus, panels and views around one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt6.QtCore import QByteArray, QSettings, Qt, QTimer
from PyQt6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from PyQt6.QtWidgets import (
    QApplication,
    QDockWidget,
    QFileDialog,
    QLabel,
    QMainWindow,
    QMessageBox,
    QStackedWidget,
    QTabWidget,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from gui import files, message
from gui.about import AboutDialog
from gui.client import PlayerClient
from gui.document import Document, Take
from gui.export_dialog import ExportDialog
from gui.live_panel import LivePanel
from gui.menus import Menus, mouse_rows
from gui.operations import stop_all
from gui.preferences import PreferencesDialog
from gui.preferences_store import Preferences
from gui.score_view import ScoreView
from gui.shaping_panel import ShapingPanel
from gui.shortcuts_dialog import ShortcutsDialog
from gui.takes_panel import TakesPanel
from gui.theme import theme
from gui.timeline import Timeline
from gui.transport_bar import TransportBar
from gui.welcome import WelcomePage
from pkontext.errors import DeviceError, PkError
from pkontext.player import PlayerStatus
from pkontext.score import bar_at, bar_start_sec

DEMO = Path(__file__).resolve().parent.parent / "pkontext" / "data" / "demo.mid"
MUSIC_FILES = (".mid", ".midi", ".rmi", files.ENDING)
_MESSAGE_MS = 6000


class MainWindow(QMainWindow):
    """The program's one window.

    Parameters
    ----------
    client : PlayerClient
    store : Preferences
    settings : QSettings
        Where window and layout are remembered.
    """

    def __init__(self, client: PlayerClient, store: Preferences, settings: QSettings) -> None:
        super().__init__()
        self.client, self.store, self._settings = client, store, settings
        self.document = Document(client, self)
        self.timeline = Timeline(self)
        self.setWindowTitle("PianoKontext")
        self.setAcceptDrops(True)
        self.resize(1280, 800)
        self._make_views()
        self._make_panels()
        self.menus = Menus(self)
        self._make_status_bar()
        self._connect()
        self.autosave = files.Autosave(self.document, self)
        self._restore_layout()
        self._panels_wanted = self.dock.isVisibleTo(self)
        self.dock.hide()
        self._show_title()
        QTimer.singleShot(0, self._offer_recovery)

    # -- parts ------------------------------------------------------------------------------------------

    def _make_views(self) -> None:
        self.transport = TransportBar(self.document, self.client, self.timeline)
        bar = QToolBar(self.tr("Transport"), self)
        bar.setObjectName("transport")
        bar.setMovable(False)
        bar.addWidget(self.transport)
        self.addToolBar(bar)
        self._bar = bar
        self.banner = message.Banner(self)
        self.view = ScoreView(self.document, self.client, self.timeline)
        self.welcome = WelcomePage(store=self.store, client=self.client)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.welcome)
        self.pages.addWidget(self.view)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.banner)
        column.addWidget(self.pages, 1)
        self.setCentralWidget(centre)

    def _make_panels(self) -> None:
        self.takes = TakesPanel(self.document, self.client)
        self.shaping = ShapingPanel(self.document, self.client, self.timeline)
        self.live = LivePanel(self.document, self.client, store=self.store)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setAccessibleName(self.tr("Panels"))
        for widget, name in (
            (self.takes, self.tr("Takes")),
            (self.shaping, self.tr("Shape")),
            (self.live, self.tr("Live")),
        ):
            self.tabs.addTab(widget, name)
        self.dock = QDockWidget(self.tr("Panels"), self)
        self.dock.setObjectName("panels")
        self.dock.setWidget(self.tabs)
        self.dock.setFeatures(
            QDockWidget.DockWidgetFeature.DockWidgetClosable | QDockWidget.DockWidgetFeature.DockWidgetMovable
        )
        self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self._panels_wanted = True  # the welcome page has room for itself

    def _make_status_bar(self) -> None:
        bar = self.statusBar()
        assert bar is not None
        self._device = QLabel()
        self._device.setAccessibleName(self.tr("Audio output"))
        bar.addPermanentWidget(self._device)

    def _connect(self) -> None:
        self.client.failed.connect(self.show_failure)
        self.client.status_changed.connect(self._show_status)
        self.document.score_changed.connect(self._score_changed)
        self.document.dirty_changed.connect(lambda _: self._show_title())
        self.document.takes_changed.connect(self._show_title)
        for part in (self.transport, self.view, self.takes, self.shaping, self.live):
            if hasattr(part, "message"):
                part.message.connect(self.say)
            if hasattr(part, "failed"):
                part.failed.connect(self.show_failure)
        self.view.loop_requested.connect(self._loop_range)
        self.transport.loop_changed.connect(self.view.set_loop)
        self.shaping.tool_changed.connect(self.view.set_tool)
        self.takes.export_requested.connect(self._export_takes)
        self.live.performed.connect(lambda: self.show_panel(0))
        self.welcome.demo_requested.connect(self.open_demo)
        self.welcome.open_requested.connect(lambda path: self.open_path(path) if path else self.open_dialog())
        self.welcome.record_requested.connect(self._go_record)
        self.welcome.preferences_requested.connect(self.preferences)
        self.store.changed.connect(self._apply_preferences)
        self.live.may_replace = self._may_discard
        theme.changed.connect(self.update)

    # -- files ------------------------------------------------------------------------------------------

    def open_dialog(self) -> None:
        """Ask for a MIDI file or a project, and open it."""
        kinds = self.tr("Music (*.mid *.midi *.rmi *{0});;All files (*)").format(files.ENDING)
        name, _ = QFileDialog.getOpenFileName(self, self.tr("Open"), self._folder(), kinds)
        if name:
            self.open_path(Path(name))

    def open_demo(self) -> None:
        """Open the bundled piece and play it."""
        self.open_path(DEMO, play=True)

    def open_path(self, path: Path, play: bool = False) -> None:
        """Open a file in the background, after asking what to do with unsaved work."""
        if not self._may_discard():
            return
        self.say(self.tr("Opening {0}...").format(path.name))
        operation = files.open_any(path, self)
        operation.finished.connect(lambda opened: self._take_opened(opened, path, play))
        operation.failed.connect(self.show_failure)
        operation.start()

    def _take_opened(self, opened: Any, path: Path, play: bool) -> None:
        files.show_opened(opened, self.document)
        view = opened.project.view if opened.project is not None else {}
        if isinstance(view.get("scale"), float) and isinstance(view.get("start"), float):
            self.timeline.zoom(view["scale"] / self.timeline.scale, 0.0)
            self.timeline.scroll_to(view["start"])
        if path != DEMO:
            files.add_recent(self._settings, path)
            self._settings.setValue("folder", str(path.parent))
        self._fill_recent()
        score = self.document.score
        notes = " ".join(score.warnings[:2]) if score is not None else ""
        self.say(notes or self.tr("{0} is open.").format(self.document.title))
        if play:
            self.client.play()

    def save(self) -> bool:
        """Save the project where it came from, or ask; returns whether it was saved."""
        if self.document.score is None:
            return False
        if self.document.path is None:
            return self.save_as()
        return self._save_to(self.document.path)

    def save_as(self) -> bool:
        """Ask where, and save the project there."""
        if self.document.score is None:
            return False
        start = str(Path(self._folder()) / f"{self.document.title}{files.ENDING}")
        kinds = self.tr("PianoKontext project (*{0})").format(files.ENDING)
        name, _ = QFileDialog.getSaveFileName(self, self.tr("Save project"), start, kinds)
        if not name:
            return False
        path = Path(name)
        return self._save_to(
            path if path.suffix == files.ENDING else path.with_name(path.name + files.ENDING)
        )

    def _save_to(self, path: Path) -> bool:
        try:
            files.save(self.document, path, {"start": self.timeline.start, "scale": self.timeline.scale})
        except PkError as error:
            self.show_failure(error)
            return False
        files.add_recent(self._settings, path)
        self._fill_recent()
        self.autosave.forget()
        self._show_title()
        self.say(self.tr("{0} is saved.").format(path.name))
        return True

    def export(self) -> None:
        """Export the current take."""
        self._export_takes([self.document.current] if self.document.current is not None else [])

    def _export_takes(self, takes: list[Take]) -> None:
        if self.document.score is None or not takes:
            self.say(self.tr("There is nothing to export yet: open a piece first."))
            return
        self.export_dialog = ExportDialog(self.document, self.client, takes, self, self.timeline.selection)
        self.export_dialog.open()

    # -- what happens -----------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show a message for some seconds."""
        bar = self.statusBar()
        assert bar is not None
        bar.showMessage(text, _MESSAGE_MS)

    def show_failure(self, error: PkError) -> None:
        """Show an error: devices in the banner, anything else in a dialog."""
        if isinstance(error, DeviceError):
            self.banner.show_error(
                error, [(self.tr("Choose an output..."), lambda: self.preferences("audio"))]
            )
        else:
            message.show_error(self, error)

    def show_panel(self, number: int) -> None:
        """Show a panel: 0 takes, 1 shape, 2 live."""
        self.dock.show()
        self.tabs.setCurrentIndex(number)
        widget = self.tabs.currentWidget()
        if widget is not None:
            widget.setFocus()

    def show_welcome(self) -> None:
        """Show the welcome page; the piece stays open."""
        self.welcome.set_recent(files.recent(self._settings))
        self.pages.setCurrentWidget(self.welcome)

    def preferences(self, page: str = "audio") -> None:
        """Open the preferences at a page."""
        self.preferences_dialog = PreferencesDialog(self.client, self.store, self)
        self.preferences_dialog.show_page(page)
        self.preferences_dialog.open()

    def shortcuts(self) -> None:
        """List all shortcuts."""
        self.shortcuts_dialog = ShortcutsDialog([*self.menus.rows, *mouse_rows(self)], self)
        self.shortcuts_dialog.open()

    def about(self) -> None:
        """Version, model and licences."""
        self.about_dialog = AboutDialog(self.client.bundle, self)
        self.about_dialog.open()

    def _score_changed(self) -> None:
        score = self.document.score
        if score is not None:
            self.timeline.set_duration(score.duration_sec)
            self.timeline.fit()
            self.timeline.zoom(max(1.0, 45.0 / self.timeline.scale), 0.0)
        if score is not None:
            self.pages.setCurrentWidget(self.view)
            self.dock.setVisible(self._panels_wanted)
        self._show_title()

    def _show_status(self, status: PlayerStatus) -> None:
        playing = status.deck.state == "playing"
        self.timeline.set_playhead(status.heard_score_sec, playing)
        if status.device:
            text = self.tr("{0}, {1} Hz, {2:.0f} ms").format(
                status.device, status.sample_rate, status.latency_sec * 1e3
            )
        else:
            text = self.tr("no output open")
        if text != self._device.text():
            self._device.setText(text)
        if self.banner.isVisible() and playing:
            self.banner.hide()

    def _show_title(self) -> None:
        title = self.document.title if self.document.score is not None else ""
        self.setWindowTitle(f"{title}[*] - PianoKontext" if title else "PianoKontext[*]")
        self.setWindowModified(self.document.score is not None and self.document.dirty)

    def _apply_preferences(self, _name: str = "") -> None:
        theme.use(self.store.theme)

    def _loop_range(self, span: tuple[float, float] | None) -> None:
        """Repeat a range that was dragged in the ruler."""
        self.timeline.select(span)
        self.transport.loop_button.setChecked(span is not None)

    def _step_bar(self, count: int) -> None:
        score = self.document.score
        if score is None:
            return
        here = self.timeline.playhead
        bar = bar_at(score, here)
        if count < 0 and here - bar_start_sec(score, bar) > 0.6:
            count = 0
        self.client.seek(bar_start_sec(score, max(bar + count, 1)))

    def toggle_follow(self) -> None:
        """Let the page follow the playhead while playing, or not."""
        self.timeline.follow = not self.timeline.follow

    def select_all(self) -> None:
        """Select the whole piece."""
        self.timeline.select((0.0, self.timeline.duration))

    def select_nothing(self) -> None:
        """Select nothing."""
        self.timeline.select(None)

    def to_beginning(self) -> None:
        """Go to the beginning."""
        self.client.seek(0.0)

    def bar_back(self) -> None:
        """Go to the beginning of this bar, or of the one before."""
        self._step_bar(-1)

    def bar_forward(self) -> None:
        """Go to the next bar."""
        self._step_bar(1)

    def neural_voice(self) -> None:
        """Hear the network's sound."""
        self.document.set_voice("neural")

    def sampler_voice(self) -> None:
        """Hear the performance on a sampled piano."""
        self.document.set_voice("sampler")

    def _go_record(self) -> None:
        self.pages.setCurrentWidget(self.view)
        self.show_panel(2)

    def record(self) -> None:
        """Begin or end a recording."""
        self.show_panel(2)
        self.live.toggle_record()

    def keep(self) -> None:
        """Keep what was just played."""
        self.show_panel(2)
        self.live.keep()

    def _folder(self) -> str:
        return str(self._settings.value("folder", str(Path.home())))

    def _fill_recent(self) -> None:
        self.menus.recent.clear()
        found = files.recent(self._settings)
        for path in found:
            action = self.menus.recent.addAction(path.name)
            assert action is not None
            action.setStatusTip(str(path))
            action.triggered.connect(lambda _=False, path=path: self.open_path(path))
        self.menus.recent.setEnabled(bool(found))
        self.welcome.set_recent(found)

    def _offer_recovery(self) -> None:
        self._fill_recent()
        files.offer_recovery(self, self.document)
        if self.store.problem is not None:
            self.show_failure(self.store.problem)

    def _may_discard(self) -> bool:
        """Whether unsaved work is saved, or may go."""
        if self.document.score is None or not self.document.dirty or len(self.document.takes) < 2:
            return True
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(self.tr("{0} has changes that are not saved.").format(self.document.title))
        box.setInformativeText(self.tr("Save them before going on?"))
        buttons = QMessageBox.StandardButton
        box.setStandardButtons(buttons.Save | buttons.Discard | buttons.Cancel)
        box.setDefaultButton(buttons.Save)
        answer = box.exec()
        if answer == buttons.Save:
            return self.save()
        return answer == buttons.Discard

    # -- Qt's events ------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files that can be opened."""
        assert event is not None
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open the first file that was dropped."""
        assert event is not None
        found = _dropped(event)
        if found:
            event.acceptProposedAction()
            self.open_path(found[0])

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Save or discard, remember the layout, stop everything."""
        assert event is not None
        if not self._may_discard():
            event.ignore()
            return
        self._save_layout()
        self.autosave.close()
        self.live.close_session()
        self.client.close()
        stop_all()
        event.accept()

    def _save_layout(self) -> None:
        if self.document.score is None:
            self.dock.setVisible(self._panels_wanted)
        self._settings.setValue("geometry", self.saveGeometry())
        self._settings.setValue("windowState", self.saveState(1))
        self._settings.setValue("views", QByteArray(self.view.save_layout()))
        self._settings.sync()

    def _restore_layout(self) -> None:
        geometry, state, views = (self._settings.value(key) for key in ("geometry", "windowState", "views"))
        if isinstance(geometry, QByteArray):
            self.restoreGeometry(geometry)
        if isinstance(state, QByteArray):
            self.restoreState(state, 1)
        if isinstance(views, QByteArray):
            self.view.restore_layout(bytes(views))
        screen = QApplication.primaryScreen()
        if screen is not None:
            room = screen.availableGeometry()
            self.resize(min(self.width(), room.width()), min(self.height(), room.height()))


def _dropped(event: QDragEnterEvent | QDropEvent) -> list[Path]:
    """Files of a drag that can be opened."""
    data = event.mimeData()
    paths = [Path(url.toLocalFile()) for url in data.urls()] if data is not None else []
    return [path for path in paths if path.suffix.lower() in MUSIC_FILES]

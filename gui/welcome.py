"""The first page: what can be done, what was done last, and whether this computer is ready for it."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QElapsedTimer, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import (
    QDragEnterEvent,
    QDropEvent,
    QFontMetrics,
    QGuiApplication,
    QPainter,
    QPaintEvent,
    QPen,
    QShowEvent,
)
from PyQt6.QtWidgets import (
    QAbstractButton,
    QBoxLayout,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from gui.client import PlayerClient
from gui.icons import icon
from gui.parts import GRID, Card, StateIcon, enlarged, heading, note, run
from gui.preferences_store import Preferences
from gui.start_checks import Finding, StartCheck, start_checks
from gui.theme import mix, theme

MUSIC_ENDINGS = (".mid", ".midi", ".rmi", ".pkproj")
_WIDEST = 960
_MOST_RECENT = 6
_CHECK_AGAIN_MS = 60_000


class WelcomePage(QScrollArea):
    """Shown while nothing is open.

    Parameters
    ----------
    store : Preferences, optional
        Which device and model to check.
    client : PlayerClient, optional
        Whose thread looks at audio devices, once it is there.
    """

    demo_requested = pyqtSignal()
    #: A `pathlib.Path`, or None to ask for one.
    open_requested = pyqtSignal(object)
    record_requested = pyqtSignal()
    #: Name of a page of the preferences.
    preferences_requested = pyqtSignal(str)
    #: All checks are done: whether everything that a performance needs is in order.
    checked = pyqtSignal(bool)

    def __init__(
        self,
        parent: QWidget | None = None,
        store: Preferences | None = None,
        client: PlayerClient | None = None,
    ) -> None:
        super().__init__(parent)
        self._store, self._client = store, client
        self._checking = False
        self._since_check = QElapsedTimer()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setAccessibleName(self.tr("Welcome"))
        self.setAcceptDrops(True)
        inner = QWidget()
        inner.setMaximumWidth(_WIDEST)
        column = QVBoxLayout(inner)
        column.setContentsMargins(3 * GRID, 4 * GRID, 3 * GRID, 3 * GRID)
        column.setSpacing(2 * GRID)
        column.addWidget(heading("PianoKontext", 2.0))
        column.addWidget(note(self.tr("Your notes, performed like a pianist plays them.")))
        column.addSpacing(GRID)
        self._actions = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._actions.setSpacing(2 * GRID)
        self._make_actions()
        column.addLayout(self._actions)
        self._lower = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._lower.setSpacing(2 * GRID)
        self._lower.addWidget(self._make_recent(), 1)
        self._lower.addWidget(self._make_checks(), 1)
        column.addLayout(self._lower)
        column.addWidget(note(self.tr("You can also drop a MIDI file or a project anywhere in this window.")))
        column.addStretch(1)
        outer = QWidget()
        sides = QHBoxLayout(outer)
        sides.setContentsMargins(0, 0, 0, 0)
        sides.addStretch(1)
        sides.addWidget(inner, 1000)
        sides.addStretch(1)
        self.setWidget(outer)
        self.set_recent([])

    # -- what others tell it --------------------------------------------------------------------------------

    def set_recent(self, paths: list[Path]) -> None:
        """Show these files, the newest first."""
        self.recent.clear()
        for path in paths[:_MOST_RECENT]:
            item = QListWidgetItem(icon("open"), f"{path.name}\n{_short_folder(path.parent)}")
            item.setData(Qt.ItemDataRole.UserRole, path)
            item.setToolTip(str(path))
            item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{path.name}, {path.parent}")
            self.recent.addItem(item)
        self.recent.setVisible(bool(paths))
        self._no_recent.setVisible(not paths)
        line = self.recent.fontMetrics().height()
        self.recent.setFixedHeight(max(min(len(paths), _MOST_RECENT), 1) * (2 * line + 2 * GRID) + GRID // 2)

    def check(self) -> None:
        """Try everything again, in the background."""
        if self._checking:
            return
        self._checking = True
        self._since_check.start()
        self._again.setEnabled(False)
        checks = start_checks(self._store, self._client)
        for row in self._rows.values():
            row.show_finding(Finding("busy", self.tr("checking…")))
        remaining = {check.name for check in checks}
        states: list[tuple[str, str]] = []

        def found(check: StartCheck, finding: Finding) -> None:
            self._rows[check.name].show_finding(finding)
            states.append((check.name, finding.state))
            remaining.discard(check.name)
            if not remaining:
                self._checking = False
                self._again.setEnabled(True)
                self.checked.emit(all(state != "wrong" for _, state in states))

        for check in checks:
            run(
                self,
                f"check-{check.name}",
                lambda _, check=check: check.find(),
                lambda finding, check=check: found(check, finding),
            )

    # -- parts ------------------------------------------------------------------------------------------

    def _make_actions(self) -> None:
        for name, title, text, signal in (
            (
                "play",
                self.tr("Play the demo"),
                self.tr("Hear a prelude by Bach performed, and look around"),
                self.demo_requested.emit,
            ),
            (
                "open",
                self.tr("Open a MIDI file…"),
                self.tr("Have your own notes performed; projects open here, too"),
                lambda: self.open_requested.emit(None),
            ),
            (
                "record",
                self.tr("Record from a keyboard"),
                self.tr("Play a phrase, and hear it performed"),
                self.record_requested.emit,
            ),
        ):
            card = ActionCard(name, title, text)
            card.clicked.connect(lambda _=False, signal=signal: signal())
            self._actions.addWidget(card, 1)

    def _make_recent(self) -> QWidget:
        card = Card(self.tr("Recent"))
        self.recent = QListWidget()
        self.recent.setAccessibleName(self.tr("Recent files"))
        self.recent.setFrameShape(QFrame.Shape.NoFrame)
        self.recent.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.recent.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.recent.setUniformItemSizes(True)
        self.recent.setSpacing(1)
        self.recent.itemActivated.connect(self._open_item)
        self.recent.itemClicked.connect(self._open_item)
        self._no_recent = note(self.tr("What you open and save will be listed here."))
        card.column.addWidget(self.recent)
        card.column.addWidget(self._no_recent)
        card.column.addStretch(1)
        return card

    def _make_checks(self) -> QWidget:
        card = Card(self.tr("This computer"))
        names = {
            "audio": self.tr("Sound"),
            "midi": self.tr("MIDI keyboard"),
            "piano": self.tr("Piano sound"),
            "model": self.tr("Model"),
        }
        pages = {"audio": "audio", "midi": "midi", "model": "model"}
        self._rows: dict[str, CheckRow] = {}
        for name, title in names.items():
            row = CheckRow(title, pages.get(name, ""))
            row.preferences_requested.connect(self.preferences_requested)
            self._rows[name] = row
            card.column.addWidget(row)
        self._again = QPushButton(self.tr("Check &again"))
        self._again.setToolTip(self.tr("Try sound, keyboard, piano and model once more"))
        self._again.clicked.connect(self.check)
        card.column.addWidget(self._again, 0, Qt.AlignmentFlag.AlignLeft)
        card.column.addStretch(1)
        return card

    def _open_item(self, item: QListWidgetItem) -> None:
        self.open_requested.emit(item.data(Qt.ItemDataRole.UserRole))

    # -- Qt's events ------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Check when it is shown first, or again after a while."""
        super().showEvent(event)
        if not self._since_check.isValid() or self._since_check.elapsed() > _CHECK_AGAIN_MS:
            self.check()

    def resizeEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """One column where it is narrow."""
        super().resizeEvent(event)
        view = self.viewport()
        width = 0 if view is None else view.width()
        for row, least in ((self._actions, 140), (self._lower, 95)):
            narrow = width < self.fontMetrics().averageCharWidth() * least
            row.setDirection(QBoxLayout.Direction.TopToBottom if narrow else QBoxLayout.Direction.LeftToRight)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take music."""
        if event is not None and _dropped(event):
            event.acceptProposedAction()

    def dragMoveEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Take music, anywhere."""
        if event is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open what was dropped."""
        if event is not None and (found := _dropped(event)):
            event.acceptProposedAction()
            self.open_requested.emit(found[0])


class ActionCard(QAbstractButton):
    """A large button with an icon, a title and a line of explanation."""

    def __init__(self, name: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setText(title)
        self.setIcon(icon(name))
        self._explanation = text
        self.setAccessibleName(title)
        self.setAccessibleDescription(text)
        self.setToolTip(text)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        """Room for a title and two lines."""
        line = self.fontMetrics().height()
        return QSize(self.fontMetrics().averageCharWidth() * 30, round(line * 3.6) + 4 * GRID)

    def minimumSizeHint(self) -> QSize:
        """It may be narrower."""
        return QSize(self.fontMetrics().averageCharWidth() * 22, self.sizeHint().height())

    def keyPressEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Return presses it, as the space bar does."""
        if event is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the card; a frame shows focus, a tint the mouse."""
        c = theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tint = 0.2 if self.isDown() else 0.08 if self.underMouse() else 0.0
        painter.setBrush(mix(c.panel, c.accent, tint))
        focused = self.hasFocus()
        painter.setPen(QPen(c.accent if focused or self.underMouse() else c.bar_line, 2 if focused else 1))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), GRID, GRID)
        side = round(self.fontMetrics().height() * 1.7)
        left, top = 2 * GRID, 2 * GRID
        self.icon().paint(painter, left, top, side, side)
        x = left + side + 3 * GRID // 2 if not self.icon().isNull() else left
        bold = enlarged(self.font(), 1.15, bold=True)
        painter.setFont(bold)
        painter.setPen(c.text)
        height = QFontMetrics(bold).height()
        width = self.width() - x - 2 * GRID
        title = QFontMetrics(bold).elidedText(self.text(), Qt.TextElideMode.ElideRight, width)
        painter.drawText(x, top, width, height, int(Qt.AlignmentFlag.AlignVCenter), title)
        painter.setFont(self.font())
        painter.setPen(c.faint_text)
        below = top + height + GRID // 2
        flags = int(Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignTop)
        painter.drawText(x, below, width, self.height() - below - GRID, flags, self._explanation)


class CheckRow(QWidget):
    """One check: state, what was found, and a button that helps."""

    preferences_requested = pyqtSignal(str)

    def __init__(self, title: str, page: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title, self.finding = title, Finding("info", "")
        self._page = page
        self._icon = StateIcon("info")
        self._title = QLabel(title)
        bold = self._title.font()
        bold.setBold(True)
        self._title.setFont(bold)
        self._text = note(selectable=True)
        self._fix = QPushButton()
        self._fix.clicked.connect(self._help)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(GRID)
        grid.setVerticalSpacing(2)
        grid.addWidget(self._icon, 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self._title, 0, 1)
        grid.addWidget(self._text, 1, 1)
        grid.addWidget(self._fix, 0, 2, 2, 1, Qt.AlignmentFlag.AlignTop)
        grid.setColumnStretch(1, 1)
        self._fix.hide()

    @property
    def fix(self) -> QPushButton:
        """The button that helps; hidden while all is well."""
        return self._fix

    def show_finding(self, finding: Finding) -> None:
        """Show how it went."""
        self.finding = finding
        self._icon.set_kind(finding.state)
        text = f"{finding.text} {finding.hint}".strip()
        self._text.setText(text)
        self.setAccessibleName(f"{self.title}: {self._icon.accessibleName()}. {text}")
        if finding.command:
            self._fix.setText(self.tr("Copy command"))
            self._fix.setToolTip(finding.command)
        else:
            self._fix.setText(self.tr("Choose…"))
            self._fix.setToolTip(self.tr("Open the preferences"))
        fixable = finding.state in ("wrong", "warning", "info") and bool(finding.command or self._page)
        self._fix.setVisible(fixable)

    def _help(self) -> None:
        if not self.finding.command:
            self.preferences_requested.emit(self._page)
            return
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.finding.command)
            self._fix.setText(self.tr("Copied"))


def _short_folder(folder: Path) -> str:
    """A folder as people write it."""
    home = Path.home()
    return str(Path("~") / folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)


def _dropped(event: QDropEvent) -> list[Path]:
    data = event.mimeData()
    paths = [Path(url.toLocalFile()) for url in data.urls()] if data is not None else []
    return [path for path in paths if path.suffix.lower() in MUSIC_ENDINGS]

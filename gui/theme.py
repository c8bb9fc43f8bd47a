"""Colours by their role, light and dark; views ask for roles and never name a colour."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt6.QtCore import QObject, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QGuiApplication, QPalette
from PyQt6.QtWidgets import QApplication

THEMES = ("system", "light", "dark")


@dataclass(frozen=True)
class Colours:
    """What each thing is drawn in."""

    window: QColor
    panel: QColor
    view: QColor
    line: QColor
    bar_line: QColor
    text: QColor
    faint_text: QColor
    accent: QColor
    accent_text: QColor
    score_note: QColor
    soft_note: QColor
    loud_note: QColor
    playhead: QColor
    selection: QColor
    loop: QColor
    tempo: QColor
    loudness: QColor
    pedal: QColor
    wave: QColor
    drawn: QColor
    wrong: QColor
    good: QColor
    warning: QColor
    white_key: QColor
    black_key: QColor


def _colours(**names: str) -> Colours:
    return Colours(**{name: QColor(value) for name, value in names.items()})


LIGHT = _colours(
    window="#f3f4f6",
    panel="#ffffff",
    view="#ffffff",
    line="#e5e7eb",
    bar_line="#b6bcc6",
    text="#1f2937",
    faint_text="#5b6472",
    accent="#1d5fbf",
    accent_text="#ffffff",
    score_note="#c3c9d4",
    soft_note="#7fb2e5",
    loud_note="#0b2f6b",
    playhead="#c2410c",
    selection="#331d5fbf",
    loop="#2215803d",
    tempo="#1d5fbf",
    loudness="#a3470e",
    pedal="#15803d",
    wave="#6b86ad",
    drawn="#9d174d",
    wrong="#b91c1c",
    good="#15803d",
    warning="#a16207",
    white_key="#ffffff",
    black_key="#2b2f36",
)
DARK = _colours(
    window="#1b1d22",
    panel="#23262d",
    view="#17191d",
    line="#2b2f37",
    bar_line="#4c535f",
    text="#e6e8ec",
    faint_text="#9aa3b2",
    accent="#6ea8fe",
    accent_text="#0b1220",
    score_note="#3d4451",
    soft_note="#2f5f93",
    loud_note="#bfe0ff",
    playhead="#fb923c",
    selection="#406ea8fe",
    loop="#304ade80",
    tempo="#6ea8fe",
    loudness="#f2a25c",
    pedal="#4ade80",
    wave="#5f7fa8",
    drawn="#f472b6",
    wrong="#f87171",
    good="#4ade80",
    warning="#facc15",
    white_key="#d7dae0",
    black_key="#101216",
)


class Theme(QObject):
    """The colours in use; views repaint when they change."""

    changed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.name = "system"
        self.colours = LIGHT

    def use(self, name: str) -> None:
        """Take a theme of `THEMES`."""
        self.name = name if name in THEMES else "system"
        dark = self.name == "dark" or (self.name == "system" and _system_is_dark())
        self.colours = DARK if dark else LIGHT
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.setStyle("Fusion")
            application.setPalette(palette(self.colours))
        self.changed.emit()


#: The one theme of the program.
theme = Theme()


def palette(c: Colours) -> QPalette:
    """Qt's palette of these colours."""
    made = QPalette()
    role = QPalette.ColorRole
    for name, colour in (
        (role.Window, c.window),
        (role.WindowText, c.text),
        (role.Base, c.panel),
        (role.AlternateBase, c.window),
        (role.Text, c.text),
        (role.PlaceholderText, c.faint_text),
        (role.Button, c.panel),
        (role.ButtonText, c.text),
        (role.BrightText, c.wrong),
        (role.Highlight, c.accent),
        (role.HighlightedText, c.accent_text),
        (role.Link, c.accent),
        (role.ToolTipBase, c.panel),
        (role.ToolTipText, c.text),
        (role.Mid, c.bar_line),
    ):
        made.setColor(name, colour)
    for name in (role.Text, role.WindowText, role.ButtonText):
        faint = QColor(c.faint_text)
        faint.setAlpha(140)
        made.setColor(QPalette.ColorGroup.Disabled, name, faint)
    return made


def mix(first: QColor, second: QColor, share: float) -> QColor:
    """The colour that lies ``share`` of the way from one to the other."""
    share = min(max(share, 0.0), 1.0)
    parts = zip(first.getRgb(), second.getRgb(), strict=True)
    return QColor(*(round(a + (b - a) * share) for a, b in parts))


def _system_is_dark() -> bool:
    hints = QGuiApplication.styleHints()
    return hints is not None and hints.colorScheme() == Qt.ColorScheme.Dark

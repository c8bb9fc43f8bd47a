"""A file's name in one line, shortened in its middle where there is no room; the tooltip has the path."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QSize, Qt
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QLabel, QSizePolicy, QWidget


class PathLabel(QLabel):
    """Shows a path.

    Parameters
    ----------
    nothing : str
        Shown where there is none.
    """

    def __init__(self, nothing: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._nothing, self._full = nothing, nothing
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._fit()

    def show_path(self, path: Path | None) -> None:
        """Show another one."""
        self._full = self._nothing if path is None else path.name
        self.setToolTip("" if path is None else str(path))
        self.setAccessibleDescription(self._full)
        self._fit()

    def minimumSizeHint(self) -> QSize:
        """A few letters."""
        return QSize(6 * self.fontMetrics().averageCharWidth(), super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the name to the room there is."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        text = self.fontMetrics().elidedText(self._full, Qt.TextElideMode.ElideMiddle, self.width())
        if text != self.text():
            self.setText(text)

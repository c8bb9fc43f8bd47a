"""The panel of takes: list, what to do with them, and how the marked one was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QScrollArea,
    QSplitter,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from gui import take_check
from gui.client import PlayerClient
from gui.document import Document, Take
from gui.icons import IconButton
from gui.take_details import details_html
from gui.take_list import TakeList
from gui.theme import theme
from gui.work_row import WorkRow
from pkontext.errors import PkError
from pkontext.selfcheck import CheckReport

MOST_TAKES = 20


class TakesPanel(QWidget):
    """Takes of the document.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    """

    #: Takes to export.
    export_requested = pyqtSignal(list)
    #: For people.
    message = pyqtSignal(str)
    #: A `PkError`.
    failed = pyqtSignal(object)

    def __init__(self, document: Document, client: PlayerClient, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document, self._client = document, client
        self._listener = take_check.listen
        self._heard_before: Take | None = None
        self._heard_now: Take | None = document.current
        self.work = WorkRow()
        self.work.message.connect(self.message)
        self.work.failed.connect(self.failed)
        self.work.busy_changed.connect(self._show)
        self.setAccessibleName(self.tr("Takes"))
        self.list = TakeList(document, client)
        self._make_buttons()
        self._make_details()
        self._lay_out()
        self.list.hear_requested.connect(document.choose)
        self.list.delete_requested.connect(self.delete)
        self.list.itemSelectionChanged.connect(self._show)
        self.list.currentItemChanged.connect(self._show)
        document.takes_changed.connect(self._show)
        document.take_grown.connect(self._show_details)
        document.score_changed.connect(self._score_changed)
        document.current_changed.connect(self._current_changed)
        client.ready.connect(self._show)
        theme.changed.connect(self._show)
        self._show()

    # -- commands ---------------------------------------------------------------------------------------

    def generate(self) -> None:
        """Another take with the settings as they are."""
        self._guarded(self._document.generate)

    def rename(self) -> None:
        """Edit the name of the marked take in place."""
        item = self.list.currentItem()
        if item is not None:
            self.list.setFocus()
            self.list.editItem(item)

    def star(self) -> None:
        """Star the selected takes, or take their stars away."""
        takes = self.list.takes
        wanted = not all(take.starred for take in takes)
        for take in takes:
            if take.starred != wanted:
                self._document.star(take, wanted)

    def delete(self) -> None:
        """Remove the selected takes; undo brings them back."""
        if len(self._document.takes) < 2:
            self.message.emit(self.tr("The only take cannot be removed. Make another one first."))
            return
        removed = 0
        for take in self.list.takes:
            if len(self._document.takes) > 1:
                self._document.delete(take)
                removed += 1
        if removed:
            self.message.emit(self.tr("Removed {0}. Undo brings it back.").format(self._count(removed)))

    def compare(self) -> None:
        """Hear the marked take at the same place; if it is heard already, the one heard before it."""
        take = self.list.take
        if take is self._document.current:
            take = self._heard_before if self._heard_before in self._document.takes else None
        if take is None:
            self.message.emit(
                self.tr("There is nothing to compare with. Mark another take, or make one first.")
            )
            return
        self._document.choose(take)

    def export(self) -> None:
        """Ask for the export of the selected takes."""
        if self.list.takes:
            self.export_requested.emit(self.list.takes)

    def check(self) -> None:
        """Listen to the marked take in the background."""
        document, take, bundle = self._document, self.list.take, self._client.bundle
        score = document.score
        if take is None or score is None or bundle is None:
            return
        live = document.live(take) if take.number > 0 else None

        def done(report: CheckReport) -> None:
            if any(other is take for other in document.takes):
                document.set_findings(take, report.findings)
            self.message.emit(
                self.tr("{0}: {1} of {2} notes are heard in time.").format(
                    take.name, report.matched, report.expected
                )
            )

        self.work.run(
            self.tr("Checking {0}").format(take.name),
            lambda operation: take_check.check_take(
                operation, score, bundle, take.settings, live, self._listener
            ),
            done,
        )

    def ask_best_of(self) -> None:
        """Ask for a number, and look for the best of so many takes."""
        count, ok = QInputDialog.getInt(
            self,
            self.tr("Best of several takes"),
            self.tr("Takes to make and to listen to (each takes about as long as the piece):"),
            4,
            2,
            MOST_TAKES,
        )
        if ok:
            self.best_of(count)

    def best_of(self, count: int) -> None:
        """Make takes with other seeds in the background, listen to each, and star the best."""
        document, bundle, score = self._document, self._client.bundle, self._document.score
        if score is None or bundle is None:
            return
        settings = replace(document.settings, drawn=document.drawn)
        plain = replace(settings, seed=0, voice="neural")
        used = [
            take.settings.seed
            for take in document.takes
            if replace(take.settings, seed=0, voice="neural") == plain
        ]
        if used:
            settings = replace(settings, seed=(max(used) + 1) % 1_000_000_000)

        def done(found: list[take_check.Heard]) -> None:
            if document.score is score:
                self._add_candidates(found)

        self.work.run(
            self.tr("Best of {0} takes").format(count),
            lambda operation: take_check.check_seeds(
                operation, score, bundle, settings, count, self._listener
            ),
            done,
        )

    # -- parts ------------------------------------------------------------------------------------------

    def _make_buttons(self) -> None:
        def made(name: str, what: str, tip: str, run: Callable[[], Any], text: str = "") -> IconButton:
            button = IconButton(name, what, tip, text)
            button.clicked.connect(run)
            return button

        tr = self.tr
        self.new_button = made(
            "add",
            tr("New take"),
            tr("Another take with the settings as they are (N)"),
            self.generate,
            tr("New take"),
        )
        self.best_button = made(
            "best",
            tr("Best of several takes"),
            tr("Make several takes, listen to each, and star the one that sounds its notes best"),
            self.ask_best_of,
            tr("Best of..."),
        )
        self.star_button = made("star", tr("Star"), tr("Star the selected takes"), self.star)
        self.rename_button = made("rename", tr("Rename"), tr("Rename in place (F2)"), self.rename)
        self.compare_button = made(
            "compare",
            tr("Compare"),
            tr("Hear the marked take, or the one before, at the same place (Return in the list)"),
            self.compare,
        )
        self.check_button = made(
            "check", tr("Check"), tr("Listen to the take and look for missing and extra notes"), self.check
        )
        self.export_button = made(
            "export", tr("Export"), tr("Export the selected takes (Ctrl+E)"), self.export
        )
        self.delete_button = made(
            "trash", tr("Delete"), tr("Remove the selected takes (Delete); can be undone"), self.delete
        )

    def _make_details(self) -> None:
        self.details = QLabel()
        self.details.setAccessibleName(self.tr("How the take was made"))
        self.details.setTextFormat(Qt.TextFormat.RichText)
        self.details.setWordWrap(True)
        self.details.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.details.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.details.setContentsMargins(8, 8, 8, 8)
        self.empty = QLabel(
            self.tr(
                "<b>No takes yet</b><br>Open a piece, and a first take is made of it. "
                "Every other seed is another performance."
            )
        )
        self.empty.setWordWrap(True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setMargin(24)

    def _lay_out(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        first.setSpacing(8)
        first.addWidget(self.new_button)
        first.addWidget(self.best_button)
        first.addStretch(1)
        second.setSpacing(0)
        for button in (self.star_button, self.rename_button, self.compare_button, self.check_button):
            second.addWidget(button)
        second.addStretch(1)
        second.addWidget(self.export_button)
        second.addWidget(self.delete_button)
        listed = QWidget()
        self._pages = QStackedLayout(listed)
        self._pages.addWidget(self.empty)
        self._pages.addWidget(self.list)
        scroll = QScrollArea()
        scroll.setWidget(self.details)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(listed)
        split.addWidget(scroll)
        split.setSizes([600, 400])
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(4)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.work)
        column.addWidget(split, 1)

    def _add_candidates(self, found: list[take_check.Heard]) -> None:
        """Takes of a search, rendered when they are heard; the best gets a star."""
        document = self._document
        best = max(found, key=lambda heard: heard.report.f1)
        for heard in found:
            take = Take(self.tr("Seed {0}").format(heard.settings.seed), heard.settings)
            take.bundle = self._client.bundle.sha256
            document.add_unrendered(take)
            document.set_findings(take, heard.report.findings)
            if heard is best:
                document.star(take, True)
                chosen = take
        document.choose(chosen)
        self.message.emit(
            self.tr("The best of {0} is {1}: {2} of {3} notes are heard in time.").format(
                self._count(len(found)), chosen.name, best.report.matched, best.report.expected
            )
        )

    # -- what is shown ----------------------------------------------------------------------------------

    def _score_changed(self) -> None:
        self.work.cancel()
        self._heard_before = self._heard_now = None
        self._show()

    def _current_changed(self) -> None:
        current = self._document.current
        if current is not self._heard_now:
            self._heard_before, self._heard_now = self._heard_now, current
        self._show()

    def _show(self, *_: object) -> None:
        document, selected = self._document, self.list.takes
        there = document.score is not None
        self._pages.setCurrentWidget(self.list if document.takes else self.empty)
        for button in (self.new_button, self.best_button):
            button.setEnabled(there)
        for button in (self.star_button, self.rename_button, self.compare_button, self.export_button):
            button.setEnabled(bool(selected))
        idle = not self.work.busy and self._client.bundle is not None
        self.check_button.setEnabled(idle and self.list.take is not None)
        self.best_button.setEnabled(idle and there)
        self.delete_button.setEnabled(bool(selected) and len(document.takes) > 1)
        starred = bool(selected) and all(take.starred for take in selected)
        what = self.tr("Remove the star") if starred else self.tr("Star")
        self.star_button.set_icon("star_filled" if starred else "star", what)
        self._show_details()

    def _show_details(self) -> None:
        text = details_html(self.list.take)
        if text != self.details.text():
            self.details.setText(text)

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except PkError as error:
            self.failed.emit(error)

    def _count(self, number: int) -> str:
        return self.tr("1 take") if number == 1 else self.tr("{0} takes").format(number)

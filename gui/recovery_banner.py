"""Recordings that a crash left behind: offered to be opened, saved or discarded, one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from PyQt6.QtWidgets import QFileDialog, QWidget

from gui.live_link import LiveLink
from gui.message import Banner
from pkontext.journal import Recovered


class RecoveryBanner(Banner):
    """Shows what `LiveLink.look_for_journals` finds; hidden while there is nothing."""

    def __init__(self, link: LiveLink, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._link = link
        self.journals: list[Recovered] = []
        link.found_journals.connect(self.offer)

    def offer(self, found: Sequence[Recovered]) -> None:
        """Offer the first of these."""
        self.journals = list(found)
        if not self.journals:
            self.hide()
            return
        journal = self.journals[0]
        text = self.tr("A recording of {0} from {1} was not saved.").format(
            duration_text(journal.events[-1][0] - journal.events[0][0]),
            time.strftime("%d %B %Y, %H:%M", time.localtime(journal.started)),
        )
        if len(self.journals) > 1:
            text += " " + self.tr("There are {0} more.").format(len(self.journals) - 1)
        if not journal.complete:
            text += " " + self.tr("A part of it is damaged.")
        self.show_text(
            text,
            "warning",
            [
                (self.tr("Open"), lambda: self._open(journal)),
                (self.tr("Save…"), lambda: self._save(journal)),
                (self.tr("Discard…"), lambda: self._ask(journal)),
            ],
        )

    def _open(self, journal: Recovered) -> None:
        self._link.open_journal(journal)
        self.offer(self.journals[1:])

    def _save(self, journal: Recovered) -> None:
        stamp = time.strftime("%Y-%m-%d %H-%M", time.localtime(journal.started))
        path = ask_midi_path(self, f"Recording {stamp}")
        if path is not None:
            self._link.save_journal(journal, path)

    def _ask(self, journal: Recovered) -> None:
        self.show_text(
            self.tr("Discard this recording for good? It cannot be brought back."),
            "warning",
            [
                (self.tr("Discard"), lambda: self._link.discard_journal(journal)),
                (self.tr("Keep"), lambda: self.offer(self.journals)),
            ],
        )


def ask_midi_path(parent: QWidget, name: str) -> Path | None:
    """Ask where to save a recording; None when the user thinks better of it."""
    name = "".join("-" if letter in '/\\:*?"<>|' else letter for letter in name) or "Recording"
    chosen, _ = QFileDialog.getSaveFileName(
        parent, parent.tr("Save recording"), str(Path.home() / f"{name}.mid"), "MIDI (*.mid *.midi)"
    )
    if not chosen:
        return None
    path = Path(chosen)
    return path if path.suffix.lower() in (".mid", ".midi") else path.with_name(path.name + ".mid")


def duration_text(seconds: float) -> str:
    """Time as people say it, such as 3 min 12 s."""
    whole = max(round(seconds), 1)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"

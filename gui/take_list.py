"""The list of takes: two lines each, the one that is heard marked by a bar, a dot and a word."""

from __future__ import annotations

from collections import Counter
from typing import Any

from PyQt6.QtCore import QItemSelectionModel, QModelIndex, QRect, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QFont, QKeyEvent, QPainter
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from gui.client import PlayerClient
from gui.document import Document, Take
from gui.icons import paint_icon
from gui.parameter_controls import quietly
from gui.theme import theme
from pkontext.parameters import BY_ID

_TAKE = Qt.ItemDataRole.UserRole


class TakeList(QListWidget):
    """Takes of the document; F2 renames in place, Return and double click hear one.

    Parameters
    ----------
    document : Document
    client : PlayerClient
    """

    #: Return or double click on a take.
    hear_requested = pyqtSignal(object)
    delete_requested = pyqtSignal()

    def __init__(self, document: Document, client: PlayerClient, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document, self._client = document, client
        self._texts: list[Any] = []
        self.setAccessibleName(self.tr("Takes"))
        self.setToolTip(
            self.tr("Return or double click: hear it at the same place. F2: rename. Delete: remove.")
        )
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setItemDelegate(_Rows(self))
        self.itemChanged.connect(self._renamed)
        self.itemDoubleClicked.connect(lambda item: self.hear_requested.emit(item.data(_TAKE)))
        document.takes_changed.connect(self.refresh)
        document.score_changed.connect(self.refresh)
        document.current_changed.connect(self._follow_current)
        client.status_changed.connect(self.show_progress)
        theme.changed.connect(self.update)
        self.refresh()

    @property
    def takes(self) -> list[Take]:
        """The selected takes, in the order of the list."""
        rows = sorted(self.row(item) for item in self.selectedItems())
        return [take for row in rows if (item := self.item(row)) and (take := item.data(_TAKE))]

    @property
    def take(self) -> Take | None:
        """The take with the cursor."""
        item = self.currentItem()
        return None if item is None else item.data(_TAKE)

    def select_take(self, take: Take) -> None:
        """Select one take."""
        for row in range(self.count()):
            item = self.item(row)
            if item is not None and item.data(_TAKE) is take:
                self.setCurrentItem(item, QItemSelectionModel.SelectionFlag.ClearAndSelect)

    def refresh(self) -> None:
        """Show the document's takes."""
        takes = self._document.takes
        shown = [self.item(row).data(_TAKE) for row in range(self.count())]  # type: ignore[union-attr]
        if len(shown) != len(takes) or any(a is not b for a, b in zip(shown, takes, strict=True)):
            self._rebuild(takes)
        for row, take in enumerate(takes):
            item = self.item(row)
            if item is not None and item.text() != take.name:
                quietly(self, lambda item=item, take=take: item.setText(take.name))
        self._texts = []
        self.show_progress()

    def show_progress(self, _status: object = None) -> None:
        """Look at what is rendered, and paint what differs."""
        texts = [(self.marks(take), self.details(take), take.starred) for take in self._document.takes]
        if texts != self._texts:
            self._texts = texts
            for row, take in enumerate(self._document.takes):
                item = self.item(row)
                if item is not None:
                    said = self.accessible_text(take)
                    quietly(
                        self,
                        lambda item=item, said=said: item.setData(Qt.ItemDataRole.AccessibleTextRole, said),
                    )
            view = self.viewport()
            if view is not None:
                view.update()

    # -- texts ------------------------------------------------------------------------------------------

    def marks(self, take: Take) -> str:
        """Whether it is heard, or comes next."""
        status = self._client.status
        if status is None or take.number < 1:
            return self.tr("next") if take is self._document.current else ""
        if take.number == status.deck.take:
            return self.tr("heard")
        return self.tr("next") if take.number == status.deck.next_take else ""

    def details(self, take: Take) -> str:
        """Settings that tell takes apart, how much is rendered, what was found."""
        settings = take.settings
        parts = [self.tr("seed {0}").format(settings.seed)]
        if settings.tempo != 1:
            parts.append(self.tr("tempo {0}").format(BY_ID["tempo"].to_text(settings.tempo)))
        if settings.expressiveness != 1:
            shown = BY_ID["expressiveness"].to_text(settings.expressiveness)
            parts.append(self.tr("expr. {0}").format(shown))
        found, share = findings_text(take), self.share(take)
        if found:
            parts.append(found)
        if share is None:
            parts.append(self.tr("not rendered"))
        elif share < 1:
            parts.append(self.tr("{0:.0f} % rendered").format(100 * share))
        return "  ·  ".join(parts)

    def share(self, take: Take) -> float | None:
        """How much of the voice in use, or the neural one, is rendered; None before the take is begun."""
        live = self._document.live(take) if take.number > 0 else None
        if live is None:
            return None
        voice = self._document.voice if self._document.voice in live.audio else "neural"
        audio = live.audio[voice]
        if audio.done:
            return 1.0
        return min(audio.frames / audio.total, 0.99) if audio.total else 0.0

    def accessible_text(self, take: Take) -> str:
        """Everything in one sentence."""
        starred = self.tr("starred") if take.starred else ""
        return ", ".join(part for part in (take.name, self.marks(take), starred, self.details(take)) if part)

    # -- inside -----------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Return hears, Delete removes."""
        assert event is not None
        editing = self.state() == QAbstractItemView.State.EditingState
        if not editing and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.take is not None:
            self.hear_requested.emit(self.take)
        elif not editing and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.delete_requested.emit()
        else:
            super().keyPressEvent(event)

    def _rebuild(self, takes: list[Take]) -> None:
        selected, cursor = self.takes, self.take
        before = self.blockSignals(True)
        self.clear()
        for take in takes:
            item = QListWidgetItem(take.name)
            item.setData(_TAKE, take)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self.addItem(item)
            if take is cursor or (cursor not in takes and take is self._document.current):
                self.setCurrentItem(item)
        for row, take in enumerate(takes):
            item = self.item(row)
            if item is not None and any(take is other for other in selected):
                item.setSelected(True)
        self.blockSignals(before)
        self.itemSelectionChanged.emit()

    def _follow_current(self) -> None:
        if self._document.current is not None:
            self.select_take(self._document.current)
        self.show_progress()

    def _renamed(self, item: QListWidgetItem) -> None:
        take = item.data(_TAKE)
        if take is None or item.text() == take.name:
            return
        if item.text().strip():
            self._document.rename(take, item.text())
        else:
            quietly(self, lambda: item.setText(take.name))


class _Rows(QStyledItemDelegate):
    """Paints a take; edits its name."""

    def __init__(self, takes: TakeList) -> None:
        super().__init__(takes)
        self._list = takes

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Two lines and some air."""
        return QSize(12 * option.fontMetrics.height(), round(2.9 * option.fontMetrics.height()))

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        assert painter is not None
        take: Take | None = index.data(_TAKE)
        if take is None:
            return
        colours, line, rect = theme.colours, option.fontMetrics.height(), option.rect
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        text = colours.accent_text if chosen else colours.text
        faint = colours.accent_text if chosen else colours.faint_text
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if chosen:
            painter.fillRect(rect, colours.accent)
        painter.setPen(colours.line)
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        marks = self._list.marks(take)
        x, top = rect.left() + line // 2, rect.top() + round(0.3 * line)
        dot = QRectF(x + 0.1 * line, top + 0.3 * line, 0.5 * line, 0.5 * line)
        if marks:
            painter.setPen(text if chosen else colours.accent)
            painter.setBrush(
                (text if chosen else colours.accent)
                if marks == self._list.tr("heard")
                else Qt.BrushStyle.NoBrush
            )
            painter.drawEllipse(dot)
        star = QRect(rect.right() - round(1.5 * line), top, line, line)
        if take.starred:
            paint_icon(painter, "star_filled", QRectF(star), text if chosen else colours.warning)
        left = x + line
        font = QFont(option.font)
        font.setBold(True)
        painter.setFont(font)
        wide = star.left() - left - line // 2
        mark_wide = painter.fontMetrics().horizontalAdvance(marks) + line if marks else 0
        name = painter.fontMetrics().elidedText(take.name, Qt.TextElideMode.ElideMiddle, wide - mark_wide)
        painter.setPen(text)
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRect(left, top, wide, line), flags, name)
        name_wide = painter.fontMetrics().horizontalAdvance(name)
        font.setBold(False)
        painter.setFont(font)
        if marks:
            painter.setPen(text if chosen else colours.accent)
            where = QRect(left + name_wide + line // 2, top, mark_wide, line)
            painter.drawText(where, flags, marks)
        small = QFont(option.font)
        small.setPointSizeF(0.86 * small.pointSizeF())
        painter.setFont(small)
        painter.setPen(faint)
        wide = rect.right() - left - line // 2
        details = painter.fontMetrics().elidedText(
            self._list.details(take), Qt.TextElideMode.ElideRight, wide
        )
        painter.drawText(QRect(left, top + round(1.2 * line), wide, line), flags, details)
        self._paint_share(painter, take, QRect(left, rect.bottom() - 3, wide, 2), chosen)
        painter.restore()

    def _paint_share(self, painter: QPainter, take: Take, bar: QRect, chosen: bool) -> None:
        """A thin bar while the take is rendered."""
        share = self._list.share(take)
        if share is not None and 0 < share < 1:
            colours = theme.colours
            painter.fillRect(bar, colours.line)
            done = QRect(bar.left(), bar.top(), round(share * bar.width()), bar.height())
            painter.fillRect(done, colours.accent_text if chosen else colours.accent)

    def createEditor(
        self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        editor = QLineEdit(parent)
        editor.setAccessibleName(self._list.tr("Name of the take"))
        editor.setMaxLength(200)
        return editor

    def updateEditorGeometry(
        self, editor: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        assert editor is not None
        line = option.fontMetrics.height()
        rect = option.rect.adjusted(line, 1, -line // 2, 0)
        rect.setHeight(max(round(1.6 * line), editor.minimumSizeHint().height()))
        editor.setGeometry(rect)


def findings_text(take: Take) -> str:
    """What the self-check found, such as ``"2 missing, 1 extra"``; empty before it."""
    if take.findings is None:
        return ""
    if not take.findings:
        return "every note heard"
    counts = Counter(finding.kind for finding in take.findings)
    names = {"order": "out of order"}
    return ", ".join(f"{count} {names.get(kind, kind)}" for kind, count in counts.items())

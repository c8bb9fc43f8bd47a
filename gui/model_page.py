"""The page of the preferences about the model: what it is, whether it is intact, and another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QProgressBar, QPushButton

from gui.client import PlayerClient
from gui.operations import Operation
from gui.parts import GRID, StateIcon, note, run
from gui.preferences_pages import Page, fill
from gui.preferences_store import Preferences
from pkontext.bundle import Bundle, listed_files, open_bundle, verify_file
from pkontext.errors import Cancelled, PkError


class ModelPage(Page):
    """Choose, inspect and verify a bundle."""

    def __init__(self, client: PlayerClient, store: Preferences) -> None:
        super().__init__(self.tr("Model"), client, store)
        self._folders: list[Path] = list(store.get("bundles"))
        self.bundle = QComboBox()
        self.bundle.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.bundle.setMinimumContentsLength(20)
        self.bundle.activated.connect(lambda _: self._choose())
        self._fill(store.bundle)
        self.field(
            self.tr("Use"), self.bundle, "bundle", self.tr("Another model is used from the next start.")
        )
        self.add = QPushButton(self.tr("&Add a folder…"))
        self.add.setToolTip(self.tr("A folder with a manifest.json, as an export or a download makes it"))
        self.add.clicked.connect(self._ask_folder)
        self.add.setEnabled(not store.fixed("bundle"))
        self.verify = QPushButton(self.tr("&Verify"))
        self.verify.setToolTip(self.tr("Compare every file with its checksum, and run every network"))
        self.verify.clicked.connect(self._toggle_verify)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.add)
        row.addWidget(self.verify)
        row.addStretch(1)
        self.form.add("", row)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setAccessibleName(self.tr("Progress of verifying"))
        self.progress.hide()
        self.form.add("", self.progress)
        self._icon, self.result = StateIcon("info"), note(selectable=True)
        told = QHBoxLayout()
        told.setSpacing(GRID)
        told.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        told.addWidget(self.result, 1)
        self.form.add("", told)
        self.info = note(selectable=True)
        self.form.add(self.tr("In use"), self.info)
        self.column.addStretch(1)
        self._operation: Operation | None = None
        self._say("info", "")
        client.ready.connect(self._show_info)
        self._show_info(client.bundle)

    def add_folder(self, folder: Path) -> None:
        """Open a bundle, and offer it if it is one."""
        self._say("busy", self.tr("Opening {0}…").format(folder.name))

        def added(bundle: Bundle) -> None:
            if folder not in self._folders:
                self._folders.append(folder)
                self.edited.emit("bundles", tuple(self._folders))
            self._fill(folder)
            self.edited.emit("bundle", folder)
            manifest = bundle.manifest
            self._say("good", self.tr("{0} {1} is intact.").format(manifest.id, manifest.version))

        run(self, "open-bundle", lambda _: open_bundle(folder), added, self._show_error)

    def _fill(self, chosen: Path | None) -> None:
        rows: list[tuple[str, Any]] = [(self.tr("The built-in model"), None)]
        rows += [(f"{folder.name} ({folder.parent})", folder) for folder in self._folders]
        fill(self.bundle, rows, chosen)

    def _choose(self) -> None:
        self.edited.emit("bundle", self.bundle.currentData())

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, self.tr("Folder of a model"))
        if name:
            self.add_folder(Path(name))

    def _toggle_verify(self) -> None:
        if self._operation is not None:
            self._operation.cancel()
            return
        chosen = self.bundle.currentData()
        threads = self.store.threads
        self.verify.setText(self.tr("&Cancel"))
        self.progress.setValue(0)
        self.progress.show()
        self._operation = run(
            self,
            "verify",
            lambda operation: verify(chosen, operation, threads),
            lambda text: self._say("good", text),
            self._show_error,
            self._show_progress,
            lambda: self._say("info", self.tr("Stopped; nothing was changed.")),
            self._verify_over,
        )

    def _verify_over(self) -> None:
        self._operation = None
        self.verify.setText(self.tr("&Verify"))
        self.progress.hide()

    def _show_progress(self, share: float, text: str) -> None:
        self.progress.setValue(round(1000 * share))
        self._say("busy", text)

    def _show_error(self, error: PkError) -> None:
        self._say("wrong", f"{error.message} {error.hint}")

    def _say(self, kind: str, text: str) -> None:
        self._icon.set_kind(kind)
        self._icon.setVisible(bool(text))
        self.result.setText(text)

    def _show_info(self, bundle: Bundle | None) -> None:
        self.info.setText(self.tr("No model is open yet.") if bundle is None else describe(bundle))


def describe(bundle: Bundle) -> str:
    """A bundle for people: what it is, and how it was trained."""
    manifest = bundle.manifest
    lines = [
        f"{manifest.id}, version {manifest.version}, made {manifest.created[:10]}",
        f"sha256 {bundle.sha256[:16]}…",
        str(bundle.path),
    ]
    training = manifest.training
    for part in ("codec", "curves", "latents"):
        record = training.get(part)
        if isinstance(record, dict):
            lines.append(f"{part}: {_record_text(record)}")
    return "\n".join(lines)


def verify(folder: Path | None, operation: Operation, threads: int = 0) -> str:
    """Compare all files with their checksums, then all networks with what they computed in training.

    Raises
    ------
    BundleError
    Cancelled
    """
    from pkontext.bundle import bundle_folder, read_manifest
    from pkontext.parity import check_parity

    folder = bundle_folder(folder)
    manifest, _ = read_manifest(folder)
    entries = listed_files(manifest)
    total, done = sum(entry.bytes for entry in entries) or 1, 0
    for entry in entries:
        if operation.cancelled():
            raise Cancelled
        operation.report(0.5 * done / total, entry.file)
        verify_file(folder, entry)
        done += entry.bytes
    text = f"All {len(entries)} files are intact."
    if manifest.parity is None:
        return text
    if operation.cancelled():
        raise Cancelled
    operation.report(0.5, "running the networks")
    differences = check_parity(open_bundle(folder), threads)
    return f"{text} {len(differences)} networks compute what they did in training."


def _record_text(record: dict[str, Any]) -> str:
    """Numbers of a training record in the order in which they are there, rounded."""
    parts = []
    for key, value in record.items():
        if isinstance(value, bool) or key == "revision":
            continue
        if isinstance(value, int | float):
            parts.append(
                f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            )
        elif isinstance(value, dict) and all(isinstance(inner, int | float) for inner in value.values()):
            parts += [f"{inner.replace('_', ' ')} {number:.4g}" for inner, number in value.items()]
    return ", ".join(parts)

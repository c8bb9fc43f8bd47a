"""The document as a project file has it, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gui.document import Document, Take
from pkontext.project import Project, SavedTake


def project_of(document: Document, view: dict[str, Any] | None = None) -> Project | None:
    """The document as it is now, to be saved; None without a score."""
    if document.score is None:
        return None
    return Project(
        title=document.title,
        score=document.score,
        settings=replace(document.settings, drawn=document.drawn, voice=document.voice),
        takes=tuple(
            SavedTake(
                take.id, take.name, take.settings, take.bundle, take.created, take.starred, take.findings
            )
            for take in document.takes
        ),
        current=document.current.id if document.current is not None else "",
        view=view or {},
    )


def restore(document: Document, project: Project, path: Path | None) -> None:
    """Open a project in the document."""
    takes = [
        Take(
            name=saved.name,
            settings=saved.settings,
            bundle=saved.bundle,
            id=saved.id,
            created=saved.created,
            starred=saved.starred,
            findings=saved.findings,
        )
        for saved in project.takes
    ]
    document.voice = project.settings.voice
    document.restore(project.score, project.title, project.settings, takes, project.current, path)

"""Project files: what is saved comes back, damage is refused, an older version is read, nothing is lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkontext import project as module
from pkontext.drawn import Drawn
from pkontext.errors import InputError, PkError, RenderError
from pkontext.project import (
    Project,
    SavedTake,
    load_project,
    project_from_bytes,
    project_to_bytes,
    save_project,
)
from pkontext.score import score_from_notes
from pkontext.selfcheck import Finding
from pkontext.take import RenderSettings, Reroll
from pkontext.types import NOTE


def make_project(title: str = "Étude in “A”") -> Project:
    """A project with everything in it."""
    notes = np.array([(0.5 * i, 0.4, 60 + i, 70) for i in range(6)], NOTE)
    drawn = (Drawn("tempo", ((0.0, 1.0), (1.5, 0.8))),)
    shaped = RenderSettings(
        seed=7, tempo=0.9, rerolls=(Reroll(0.5, 2.0, 3),), drawn=drawn, like=Path("/tmp/a b.mid"), steps=4
    )
    finding = Finding("missing", 3, 63, 63, 1.5, 1, 4.0)
    takes = (
        SavedTake("one", "Take 1", shaped, "abc", 1_700_000_000.25, True, (finding,)),
        SavedTake("two", "слово", RenderSettings(voice="sampler"), findings=()),
    )
    score = score_from_notes(notes, title, 96, (3, 4))
    return Project(title, score, shaped, takes, "two", {"scale": 80.5, "loop": [1, 2]})


@pytest.fixture(scope="module")
def saved() -> bytes:
    """A project's file."""
    return project_to_bytes(make_project())


def test_everything_comes_back(tmp_path: Path) -> None:
    project = make_project()
    save_project(tmp_path / "piece.pkproj", project)
    read = load_project(tmp_path / "piece.pkproj")
    assert read == project
    assert read.takes == project.takes
    assert read.settings == project.settings
    for name in ("notes", "tempi", "meters"):
        assert np.array_equal(getattr(read.score, name), getattr(project.score, name))
    assert (read.current, read.view, read.score.title) == (
        "two",
        {"scale": 80.5, "loop": [1, 2]},
        project.title,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["piece.pkproj"]


def test_projects_that_differ_are_not_equal() -> None:
    project = make_project()
    assert replace(project, title="other") != project
    assert replace(project, takes=project.takes[:1]) != project


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_file_is_refused(saved: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(saved) - 1))
    with pytest.raises(InputError) as caught:
        project_from_bytes(saved[:length])
    assert caught.value.code == "project.damaged"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), head=st.booleans())
def test_a_flipped_byte_is_refused_or_changes_nothing(
    saved: bytes, place: float, flip: int, head: bool
) -> None:
    at = int(place * (200 if head else len(saved)))
    damaged = bytearray(saved)
    damaged[at] ^= flip
    try:
        read = project_from_bytes(bytes(damaged))
    except InputError as error:
        assert error.code in ("project.damaged", "project.version")
    else:
        assert read == make_project()


@settings(max_examples=100, deadline=None)
@given(rubbish=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_other_files_are_refused(rubbish: bytes) -> None:
    with pytest.raises(InputError):
        project_from_bytes(rubbish)


@pytest.mark.parametrize(
    "change",
    [
        {"takes": None},
        {"title": 3},
        {"score": {}},
        {"settings": {"seed": "x"}},
        {"settings": {"tempo": 99}},
        {"settings": {"voice": "trumpet"}},
        {"view": []},
    ],
)
def test_a_consistent_file_with_values_that_do_not_fit_is_refused(saved: bytes, change: dict) -> None:
    with pytest.raises(InputError, match="cannot be read as a project"):
        project_from_bytes(resealed(saved, change))


def test_a_later_version_is_refused_and_says_so(saved: bytes) -> None:
    document = json.loads(saved) | {"version": 2}
    with pytest.raises(InputError) as caught:
        project_from_bytes(json.dumps(document).encode(), "piece.pkproj")
    assert caught.value.code == "project.version"
    assert "piece.pkproj" in caught.value.message and "Update" in caught.value.hint


def test_an_older_version_is_read(saved: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def rename(body: dict) -> dict:
        steps.append(body["title"])
        return body | {"title": body["title"] + " (from version 1)"}

    monkeypatch.setattr(module, "VERSION", 3)
    monkeypatch.setattr(module, "MIGRATIONS", {1: rename, 2: lambda body: body | {"current": "one"}})
    read = project_from_bytes(saved)
    assert read.title.endswith("(from version 1)") and read.current == "one" and len(steps) == 1


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_project(tmp_path / "none.pkproj")
    assert caught.value.code == "project.missing"
    with pytest.raises(InputError):
        load_project(tmp_path)


def test_a_failed_save_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "piece.pkproj"
    save_project(path, make_project("before"))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RenderError, match="No space left") as caught:
        save_project(path, make_project("after"))
    assert isinstance(caught.value, PkError) and caught.value.code == "project.write"
    assert load_project(path).title == "before"
    assert [found.name for found in tmp_path.iterdir()] == ["piece.pkproj"]


def test_a_save_into_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RenderError):
        save_project(tmp_path / "none" / "piece.pkproj", make_project())


def resealed(saved: bytes, change: dict) -> bytes:
    """The file with other values and the checksum of these."""
    document = json.loads(saved)
    document["project"] |= change
    body = module._canonical(document["project"])
    document["sha256"] = module.hashlib.sha256(body).hexdigest()
    return json.dumps(document).encode()

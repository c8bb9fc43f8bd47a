"""The README tells the truth: its commands parse, those marked run, its Python works.

A ``bash`` block after the comment ``<!-- run -->`` is run with the toy bundle; in every other one
each command line is checked without running it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pkontext import errors, settings
from pkontext.cli import app
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(<!-- run -->\n)?```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [
    line.strip() for _, kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.strip()
]
TO_RUN = [text for marked, kind, text in BLOCKS if kind == "bash" and marked]
PYTHON = [text for _, kind, text in BLOCKS if kind == "python"]
BUILTIN = {"git", "cd", ".", "python3", "pip"}


def words(line: str) -> list[str]:
    """Words of the first command of a line, without comments, pipes and redirections."""
    found = shlex.split(line, comments=True)
    for index, word in enumerate(found):
        if word in ("|", ">", "&&", ";"):
            return found[:index]
    return found


def test_there_is_something_to_test() -> None:
    assert {kind for _, kind, _ in BLOCKS} <= {"bash", "python", "toml"}
    assert len(SHELL) > 10 and TO_RUN and PYTHON
    assert {"demo", "test"} <= {words(line)[1] for line in SHELL if line.startswith("make")}


@pytest.mark.parametrize("line", SHELL)
def test_command_lines_parse(line: str) -> None:
    command, *arguments = words(line)
    if command == "pkontext":
        parse(arguments)
    elif command == "make":
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif command == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), line
    else:
        assert command in BUILTIN, line


def parse(arguments: list[str]) -> None:
    """Parse a command line of ours as far as to the point where it would run."""
    command = typer.main.get_command(app)
    context = command.make_context("pkontext", list(arguments))
    rest = [*context._protected_args, *context.args]
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]


def test_wrong_command_lines_do_not_parse() -> None:
    for wrong in (["render", "a.mid", "-o", "a.wav", "--loud"], ["bundle", "sing"]):
        with pytest.raises(Exception, match=r"No such (option|command)"):
            parse(wrong)


@pytest.fixture
def workplace(toy_bundle: Path, midi_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``piece.mid``, where the command ``pkontext`` uses the toy bundle."""
    folder = midi_file.parent
    (folder / "bin").mkdir()
    script = folder / "bin" / "pkontext"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pkontext "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(toy_bundle))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("text", TO_RUN)
def test_marked_blocks_run(text: str, workplace: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", PYTHON)
def test_python_runs(text: str, workplace: Path) -> None:
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
    for name in re.findall(r'open_sink\("([^"]+)"', text):
        assert (workplace / name).stat().st_size > 1000


def test_tables_match_the_code() -> None:
    options = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| ([^|]*) \|", README, re.MULTILINE))
    assert set(options) == set(settings.OPTIONS)
    for name, default in options.items():
        expected = settings.OPTIONS[name].default
        assert default == (
            "built in"
            if name in ("soundfont", "bundle")
            else "the default output"
            if name == "device"
            else "the model's"
            if expected is None
            else str(expected)
        )
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    classes = [errors.PkError, *errors.PkError.__subclasses__(), errors.Cancelled]
    assert codes == {0, 2} | {kind.exit_code for kind in classes}


def test_files_it_names_exist() -> None:
    for name in re.findall(r"`([\w./]+/|[\w/]+\.(?:txt|md|mid)|LICENSE)`", README):
        assert (REPOSITORY / name).exists(), name

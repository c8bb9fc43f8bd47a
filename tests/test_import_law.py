"""Who may import whom, and that importing does nothing.

``errors <- types <- stages <- engine <- cli, gui``: a module imports only from its own layer or
the ones before it. ``pkontext`` imports neither torch nor Qt nor the other packages of the project.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

LAYERS = {
    "errors": 0,
    "types": 1,
    "engine": 3,
    "take_audio": 3,
    "readiness": 3,
    "heads": 3,
    "worker": 3,
    "deck": 3,
    "processor": 3,
    "player": 3,
    "midi_play": 3,
    "follow": 3,
    "best_of": 4,
    "render_job": 4,
    "render_report": 4,
    "doctor": 4,
    "cli": 4,
    "cli_common": 4,
    "cli_play": 4,
    "cli_live": 4,
    "cli_devices": 4,
    "cli_notate": 4,
    "cli_ports": 4,
    "perform_captured": 4,
    "play_keys": 4,
    "play_line": 4,
    "__main__": 5,
}
STAGE = 2
FORBIDDEN = {
    "pkontext": {"torch", "PyQt6", "scipy", "gui", "train", "export", "tests", "onnx", "music2latent"},
    "gui": {"torch", "onnxruntime", "onnx", "scipy", "train", "export", "tests"},
    "train": {"gui", "tests", "PyQt6"},
    "export": {"gui", "tests", "PyQt6"},
}


def modules(package: str) -> list[Path]:
    """Python files of a package."""
    return sorted((REPOSITORY / package).rglob("*.py"))


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports, also inside functions unless told otherwise."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = list(tree.body) if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own_modules(file: Path, top_level_only: bool = False) -> set[str]:
    """Names of the modules of ``pkontext`` that one of them imports."""
    names = {path.stem for path in modules("pkontext")}
    parts = [name.split(".") for name in imports(file, top_level_only)]
    return {part[1] for part in parts if part[0] == "pkontext" and len(part) > 1 and part[1] in names}


@pytest.mark.parametrize("file", modules("pkontext"), ids=lambda path: path.stem)
def test_layers(file: Path) -> None:
    if file.stem == "__init__":
        assert not own_modules(file)
        return
    layer = LAYERS.get(file.stem, STAGE)
    for name in own_modules(file):
        assert LAYERS.get(name, STAGE) <= layer, f"{file.name} imports {name}"


def test_no_circles() -> None:
    graph = {file.stem: own_modules(file, top_level_only=True) for file in modules("pkontext")}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_keep_apart(package: str) -> None:
    for file in modules(package):
        roots = {name.split(".")[0] for name in imports(file)}
        assert not roots & FORBIDDEN[package], (
            f"{file.relative_to(REPOSITORY)} imports {roots & FORBIDDEN[package]}"
        )


def test_importing_does_nothing(tmp_path: Path) -> None:
    """Import every module of the runtime in a fresh home: no file, no thread, no device, no torch."""
    names = [f"pkontext.{file.stem}" for file in modules("pkontext")]
    code = (
        "import importlib, sys, threading, numba\n"  # numba itself loads the top of scipy, if it is there
        "before = set(sys.modules)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "roots = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "unwanted = {'torch', 'scipy', 'PyQt6', 'sounddevice', 'rtmidi', 'fluidsynth'} & roots\n"
        "print(sorted(unwanted), threading.active_count())\n"
    )
    for name in ("home", "work", "tmp"):
        (tmp_path / name).mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PKONTEXT_"))
    }
    environment |= {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = {path for path in (REPOSITORY / "pkontext").rglob("*") if "__pycache__" not in path.parts}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "1"]
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert {
        path for path in (REPOSITORY / "pkontext").rglob("*") if "__pycache__" not in path.parts
    } == before

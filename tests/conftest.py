"""Fixtures shared by all tests: a toy bundle without trained weights, and small MIDI files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mido
import pytest

if TYPE_CHECKING:
    from pkontext.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what plays through a sound server in real time: `make test` runs that in a process of its own."""
    for item in items:
        module = getattr(item, "module", None)
        names = {getattr(value, "__module__", "") for value in vars(module).values()} if module else set()
        if names & {"tests.jack_server", "tests.live_midi"}:
            item.add_marker(pytest.mark.realtime)


@pytest.fixture(scope="session", autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Fail the session when a test leaves one of our threads running."""
    yield
    ours = ("render", "player", "listener", "journal", "ports", "midi-out", "metronome", "open")
    end = time.monotonic() + 10
    while left := [
        thread.name
        for thread in threading.enumerate()
        if thread.name.removeprefix("pkontext-") in ours and thread.name.startswith("pkontext-")
    ]:
        assert time.monotonic() < end, f"threads left running: {left}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle with tiny untrained graphs: real in every joint, meaningless to hear."""
    from export.toy import build_toy_bundle

    return build_toy_bundle(tmp_path_factory.mktemp("toy-bundle"))


@pytest.fixture(scope="session")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, open."""
    from pkontext.bundle import open_bundle

    return open_bundle(toy_bundle)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the user's settings, logs and environment out of the tests, and the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("PKONTEXT_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    yield


@pytest.fixture
def midi_file(tmp_path: Path) -> Path:
    """A MIDI file of 3 seconds: five notes and a chord at 120 beats a minute."""
    return write_midi(tmp_path / "piece.mid", [(60 + step, 480) for step in (0, 2, 4, 5, 7)], chord=True)


@pytest.fixture
def long_midi_file(tmp_path: Path) -> Path:
    """A MIDI file of two minutes, long enough to be interrupted."""
    return write_midi(tmp_path / "long.mid", [(48 + 7 * step % 37, 240) for step in range(480)])


def write_midi(path: Path, notes: list[tuple[int, int]], chord: bool = False) -> Path:
    """Write notes (pitch, ticks) one after another, 480 ticks a quarter, at 120 beats a minute."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    for pitch, ticks in notes:
        track.append(mido.Message("note_on", note=pitch, velocity=64))
        track.append(mido.Message("note_off", note=pitch, time=ticks))
    if chord:
        for pitch in (48, 60, 64, 67):
            track.append(mido.Message("note_on", note=pitch, velocity=64))
        for index, pitch in enumerate((48, 60, 64, 67)):
            track.append(mido.Message("note_off", note=pitch, time=0 if index else 480))
    file.tracks.append(track)
    file.save(path)
    return path


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run ``pkontext`` in a process of its own, in ``tmp_path``, and return what it printed."""

    def run(
        *arguments: str | Path, timeout: float = 120, **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "pkontext", *map(str, arguments)],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            **more,  # type: ignore[call-overload]
        )

    return run

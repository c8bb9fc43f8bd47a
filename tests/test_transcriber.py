"""Listening in a process of its own: real audio, real notes, and nobody is left behind.

Needs Transkun and what it imports; these tests fail where it is missing.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pkontext import synth, transcriber
from pkontext.errors import Cancelled, DeviceError, InputError, RenderError
from pkontext.expressive_midi import TakeNotes
from pkontext.score import score_from_notes
from pkontext.selfcheck import check_notes
from pkontext.types import NOTE, PEDAL, Pcm
from tests.conftest import REPOSITORY

SOUNDFONT = REPOSITORY / "pkontext/data/FluidR3_piano.sf2"
RATE = 44100
#: Seconds between the take and the take with mistakes in one piece of audio.
LATER = 5


@pytest.fixture(scope="module")
def take() -> TakeNotes:
    """Fourteen notes of 4 s: a melody over two chords."""
    rows = [
        (0.3 + 0.3 * n, 0.28, pitch, 70) for n, pitch in enumerate((72, 74, 76, 77, 79, 77, 76, 74, 72, 79))
    ]
    rows += [(0.3, 1.1, 48, 60), (0.3, 1.1, 55, 60), (1.5, 1.1, 53, 60), (1.5, 1.1, 57, 60)]
    notes = np.array(sorted(rows, key=lambda row: (round(row[0], 3), row[2])), NOTE)
    score = score_from_notes(notes)
    assert (score.notes["pitch"] == notes["pitch"]).all()
    return TakeNotes(score, np.arange(len(notes)), notes, np.zeros(0, PEDAL))


@pytest.fixture(scope="module")
def heard(take: TakeNotes) -> np.ndarray:
    """What is heard of the take, and from `LATER` on, of the take with three mistakes."""
    spoiled = take.notes.copy()
    wrong, missing = rows_of(take, 53, 79)
    spoiled["pitch"][wrong] = 52
    spoiled = np.append(np.delete(spoiled, missing), np.array([(2.55, 0.3, 88, 70)], NOTE))
    spoiled["onset_sec"] += LATER
    notes = np.sort(np.append(take.notes, spoiled), order="onset_sec")
    events = synth.events_from_notes(notes, None, RATE)
    audio = np.concatenate(list(synth.render(events, synth.SynthSpec(SOUNDFONT), 2 * LATER * RATE)))
    return transcriber.transcribe(Pcm(audio, RATE))


def rows_of(take: TakeNotes, *pitches: int) -> list[int]:
    """The first note of each pitch."""
    return [int(np.flatnonzero(take.notes["pitch"] == pitch)[0]) for pitch in pitches]


def test_a_sampled_piano_is_heard_as_it_is_played(take: TakeNotes, heard: np.ndarray) -> None:
    report = check_notes(take, heard[heard["onset_sec"] < LATER])
    assert heard.dtype == NOTE and not report.findings and not report.displaced
    assert report.matched == len(take.notes) == 14


def test_a_left_out_a_wrong_and_an_added_note_are_found_and_nothing_else(
    take: TakeNotes, heard: np.ndarray
) -> None:
    wrong, missing = rows_of(take, 53, 79)
    second = heard[heard["onset_sec"] >= LATER]
    second["onset_sec"] -= LATER
    report = check_notes(take, second)
    found = {(f.kind, f.row, f.pitch, f.wanted): f.time_sec for f in report.findings}
    wanted = {("wrong", wrong, 52, 53): 1.5, ("missing", missing, 79, 79): 1.5, ("extra", -1, 88, -1): 2.55}
    assert found == pytest.approx(wanted, abs=0.02)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that the transcriber starts."""
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(transcriber.subprocess, "Popen", Recorded)
    return processes


def test_cancelling_kills_the_process(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, 0.1 * np.random.default_rng(1).standard_normal(60 * RATE), RATE)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        transcriber.transcribe_file(audio, cancelled)
    assert time.monotonic() - begun < 10  # an uncancelled minute takes half a minute or more
    (process,) = started
    assert process.returncode == -signal.SIGKILL and not Path(f"/proc/{process.pid}").exists()


def test_nothing_is_started_when_it_is_cancelled_before(started: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(Cancelled):
        transcriber.transcribe(Pcm(np.zeros((RATE, 1), np.float32), RATE), lambda: True)
    assert not started


def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, 0.1 * np.random.default_rng(1).standard_normal(60 * RATE), RATE)
    code = f"import pathlib, pkontext.transcriber as t; t.transcribe_file(pathlib.Path({str(audio)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as parent:
        child = wait_for_child(parent.pid)
        parent.kill()
    wait_until_gone(child)


def wait_for_child(pid: int) -> int:
    """The first process that another one starts."""
    for _ in range(400):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("no process was started")


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended, whoever collects it."""
    for _ in range(400):
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if status == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the process outlived its parent")


def test_what_is_not_installed_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transkun" else real(name))
    with pytest.raises(DeviceError) as caught:
        transcriber.transcribe(Pcm(np.zeros((RATE, 1), np.float32), RATE))
    assert caught.value.code == "check.library" and "transkun" in caught.value.message
    assert "pip install" in caught.value.hint and "transkun==2.0.1" in caught.value.hint


def test_what_is_installed_but_broken_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "transkun").mkdir()
    (tmp_path / "transkun/__init__.py").write_text("raise ImportError('libc10.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"libc10\.so is missing") as caught:
        transcriber.transcribe(Pcm(np.zeros((RATE, 1), np.float32), RATE))
    assert caught.value.code == "check.library" and "pip install" in caught.value.hint


def test_audio_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF but no more")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), RATE)
    for name in ("bad.wav", "empty.wav", "none.wav"):
        with pytest.raises(InputError, match=name) as caught:
            transcriber.transcribe_file(tmp_path / name)
        assert caught.value.code == "check.audio"


def test_a_process_that_the_system_stops_says_so() -> None:
    error = transcriber._failure(-9, "")
    assert isinstance(error, RenderError) and "signal 9" in error.message and "memory" in error.hint
    assert "boom" in str(transcriber._failure(1, "Traceback\nValueError: boom\n\n"))


def test_other_sample_rates_keep_time_and_pitch(tmp_path: Path) -> None:
    from train.transcribe import _read

    seconds = np.arange(22050) / 22050
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * seconds), 22050)
    samples = _read(tmp_path / "a.wav")
    assert samples.shape == (RATE, 1) and samples.dtype == np.float32
    assert np.abs(np.fft.rfft(samples[:, 0])).argmax() == 440

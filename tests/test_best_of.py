"""``--check`` and ``--best-of``: what they say, what they keep, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pkontext import transcriber
from pkontext.best_of import Candidate, best_of
from pkontext.bundle import Bundle, open_bundle
from pkontext.cli import app
from pkontext.engine import Rendering, RenderSettings, open_rendering
from pkontext.errors import Cancelled
from pkontext.score import load_score
from pkontext.take import ProgressFn
from tests.conftest import REPOSITORY
from tests.test_transcriber import wait_for_child, wait_until_gone

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def bundle(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The toy bundle, also for the command line."""
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(toy_bundle))
    monkeypatch.setenv("PKONTEXT_THREADS", "1")
    return open_bundle(toy_bundle)


@pytest.fixture
def take_of(bundle: Bundle, midi_file: Path) -> Callable[[int], Rendering]:
    score = load_score(midi_file)
    return lambda seed: open_rendering(score, bundle, RenderSettings(seed=seed), 1)


def hearing(takes: list[np.ndarray]) -> Callable[..., np.ndarray]:
    """A transcriber that hears these notes, one take after another."""
    left = iter(takes)
    return lambda audio, cancelled=None, threads=0: next(left)


@contextlib.contextmanager
def unseen(number: int) -> Iterator[ProgressFn]:
    yield lambda state: None


def search(
    take_of: Callable[[int], Rendering], missing: list[int], folder: Path
) -> tuple[Candidate, list[Candidate]]:
    """Best of seeds 5, 6, …, of which so many notes each are not heard."""
    heard = [take_of(5 + n).notes()[0][count:] for n, count in enumerate(missing)]
    told: list[Candidate] = []
    seeds = range(5, 5 + len(missing))
    return best_of(take_of, seeds, folder, hearing(heard), unseen, told.append), told


def test_the_highest_f1_wins_and_of_equal_ones_the_lower_seed(
    take_of: Callable[[int], Rendering], tmp_path: Path
) -> None:
    best, told = search(take_of, [3, 1, 2, 1], tmp_path)
    assert (best.seed, best.number) == (6, 2) and [c.seed for c in told] == [5, 6, 7, 8]
    assert [c.report.count("missing") for c in told] == [3, 1, 2, 1]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".wav"] == ["candidate-2.wav"]
    audio = soundfile.read(best.audio, dtype="float32", always_2d=True)[0]
    assert np.array_equal(audio, np.concatenate(list(take_of(6).chunks())))
    assert np.array_equal(best.take.notes, take_of(6).notes()[0])


def test_a_candidate_without_a_mistake_ends_the_search(
    take_of: Callable[[int], Rendering], tmp_path: Path
) -> None:
    best, told = search(take_of, [1, 0, 0], tmp_path)
    assert best.seed == 6 and len(told) == 2


def test_a_failure_while_listening_ends_the_search(
    take_of: Callable[[int], Rendering], tmp_path: Path
) -> None:
    def stop(audio: Path, cancelled: object) -> np.ndarray:
        raise Cancelled

    with pytest.raises(Cancelled):
        best_of(take_of, range(2), tmp_path, stop, unseen, lambda candidate: None)


# ---- the command line -----------------------------------------------------------------------------


def invoke(*arguments: str | Path) -> tuple[int, list[dict[str, object]]]:
    """Exit code and JSON lines of ``pkontext render --json``."""
    result = CliRunner().invoke(app, ["render", *map(str, arguments), "--json"])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def test_best_of_writes_what_its_seed_alone_would(
    take_of: Callable[[int], Rendering], midi_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    heard = [take_of(seed).notes()[0][count:] for seed, count in ((3, 2), (4, 1), (5, 4))]
    monkeypatch.setattr(transcriber, "transcribe_file", hearing(heard))
    best, midi = tmp_path / "best.flac", tmp_path / "best.mid"
    code, events = invoke(
        midi_file, "-o", best, "--seed", "3", "--best-of", "3", "--bits", "16", "--midi", midi, "--check"
    )
    assert code == 0
    candidates = [event for event in events if event["event"] == "candidate"]
    assert [event["seed"] for event in candidates] == [3, 4, 5]
    assert [event["missing"] for event in candidates] == [2, 1, 4] and all(c["f1"] < 1 for c in candidates)  # type: ignore[operator]
    progress = [event for event in events if event["event"] == "progress"]
    assert {(e["candidate"], e["candidates"]) for e in progress} == {(1, 3), (2, 3), (3, 3)}
    assert {"perform", "listen"} == {e["stage"] for e in progress}
    done, check = events[-2:]
    assert (done["event"], done["seed"], check["event"]) == ("done", 4, "check")
    assert check["audio"]["missing"] == 1 and check["notes"]["f1"] == 1  # type: ignore[index]
    code, _ = invoke(
        midi_file, "-o", tmp_path / "one.flac", "--seed", "4", "--bits", "16", "--midi", tmp_path / "one.mid"
    )
    assert code == 0
    assert best.read_bytes() == (tmp_path / "one.flac").read_bytes()
    assert midi.read_bytes() == (tmp_path / "one.mid").read_bytes()
    assert not list((tmp_path / "temporary").glob("pkontext-*"))


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("output", "more", "said"),
    [
        ("a.mid", [], "a.mid holds notes alone"),
        ("a.wav", ["--voice", "sampler"], "the sampler voice sounds every note"),
        ("a.wav", ["--seed", "999999998"], "goes beyond the last seed"),
    ],
)
def test_best_of_where_it_makes_no_sense(
    midi_file: Path, tmp_path: Path, output: str, more: list[str], said: str
) -> None:
    code, (error,) = invoke(midi_file, "-o", tmp_path / output, "--best-of", "3", *more)
    assert code == 3 and error["code"] == "render.best_of" and said in str(error["message"])
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("count", ["1", "33", "many"])
def test_best_of_takes_two_to_thirty_two(count: str) -> None:
    result = CliRunner().invoke(app, ["render", "a.mid", "-o", "a.wav", "--best-of", count])
    assert result.exit_code == 2


@pytest.mark.usefixtures("bundle")
def test_what_is_missing_is_said_before_anything_is_rendered(
    midi_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(transcriber.PACKAGES, "no_such_package", "no-such-package")
    for option in (["--check"], ["--best-of", "2"]):
        code, (error,) = invoke(midi_file, "-o", tmp_path / "a.wav", *option)
        assert code == 5 and error["code"] == "check.library" and "no-such-package" in str(error["message"])
    assert invoke(midi_file, "-o", tmp_path / "a.wav", "--check", "--voice", "sampler")[0] == 0


def test_check_lists_findings_for_people(
    take_of: Callable[[int], Rendering],
    long_midi_file: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score = load_score(long_midi_file)
    heard = open_rendering(score, bundle, RenderSettings(end_sec=12), 1).notes()[0]
    command = ["render", str(long_midi_file), "-o", "a.wav", "--force", "--end", "12", "--check"]
    monkeypatch.chdir(tmp_path)
    for left_out, lines in ((1, 3), (20, 22), (30, 23)):
        monkeypatch.setattr(transcriber, "transcribe_file", hearing([heard[left_out:]]))
        shown = CliRunner().invoke(app, command).stderr.splitlines()
        assert len(shown) == lines + 1 and f"{left_out} missing, 0 extra, 0 wrong" in shown[2]
        assert shown[3].startswith("  bar 1, beat 1 (0:00.") and shown[3].endswith(": missing C3")
    assert shown[-1].strip() == "and 10 more (--json lists all)"


def test_check_tells_scripts_all_findings(
    take_of: Callable[[int], Rendering], midi_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcriber, "transcribe_file", hearing([take_of(0).notes()[0][:0]]))
    code, events = invoke(midi_file, "-o", tmp_path / "a.wav", "--check")
    report = events[-1]["audio"]
    assert code == 0 and [e["event"] for e in events if e["event"] != "progress"] == ["done", "check"]
    assert report["missing"] == len(report["findings"]) == 9 and report["f1"] == 0  # type: ignore[index]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("arguments", [["-o", "a.wav", "--voice", "sampler"], ["-o", "a.mid"]])
def test_notes_that_sound_as_they_are_need_no_listening(
    run_cli: Run, midi_file: Path, tmp_path: Path, arguments: list[str]
) -> None:
    done = run_cli("render", midi_file, *arguments, "--check")
    assert done.returncode == 0
    assert b"9 of the score's 9 are played once" in done.stderr and b"no need to listen" in done.stderr
    assert (tmp_path / arguments[1]).exists()


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(("option", "kept"), [(["--best-of", "2"], []), (["--check"], ["a.wav"])])
def test_interrupted_while_listening(
    midi_file: Path, tmp_path: Path, option: list[str], kept: list[str]
) -> None:
    """Ctrl-C ends the process that listens; what was complete before stays, nothing else does."""
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "pkontext", "render", str(midi_file), "-o", "a.wav", "--json", *option]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path / "work", env=environment) as process:
        assert process.stdout is not None
        while json.loads(process.stdout.readline()).get("stage") != "listen":
            pass
        child = wait_for_child(process.pid)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    last = json.loads(rest.splitlines()[-1])
    assert last["event"] == "cancelled" and last.get("output", "").endswith("".join(kept))
    wait_until_gone(child)
    assert os.listdir(tmp_path / "work") == kept
    assert not list((tmp_path / "temporary").glob("pkontext-*"))
    if kept:
        assert soundfile.info(tmp_path / "work/a.wav").duration > 1

"""The command line as a user meets it: output, exit codes, speed of help, nothing left behind."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pkontext import cli, settings
from pkontext.cli import app
from tests.conftest import REPOSITORY

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def lines(output: bytes) -> list[dict[str, object]]:
    """JSON objects, one on each line."""
    return [json.loads(line) for line in output.splitlines()]


def only_error(done: subprocess.CompletedProcess[bytes]) -> str:
    """Code of the one JSON error."""
    (error,) = lines(done.stdout)
    assert error["event"] == "error" and error["message"] and error["hint"]
    assert error["exit_code"] == done.returncode
    return str(error["code"])


# ---- without a model ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["render", "--help"]])
def test_help_appears_at_once(arguments: list[str]) -> None:
    code = (
        "import sys, resource\n"
        f"sys.argv = ['pkontext', *{arguments!r}]\n"
        "from pkontext.cli import app\n"
        "try: app()\n"
        "except SystemExit as e: assert not e.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'numpy', 'numba', 'onnxruntime', 'mido', 'soundfile', 'fluidsynth'} & set(sys.modules)\n"
        "print(used.ru_utime + used.ru_stime, sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    seconds, heavy = done.stderr.split(maxsplit=1)
    assert "Usage: pkontext" in done.stdout
    assert heavy.strip() == "[]"
    assert float(seconds) < 0.5  # of processor time, which other programs do not stretch


def test_help_shows_every_setting_with_its_range() -> None:
    text = " ".join(CliRunner().invoke(app, ["render", "--help"]).output.split())
    for option in settings.OPTIONS.values():
        if option.name != "device":
            assert f"--{option.name}" in text and option.help[:20] in text
    playing = " ".join(CliRunner().invoke(app, ["play", "--help"]).output.split())
    for option in settings.OPTIONS.values():
        if option.name not in ("format", "bits"):
            assert f"--{option.name}" in playing and option.help[:20] in playing
    assert "0.25<=x<=4" in text and "16|24|32f" in text and "[default: neural]" in text


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output.startswith("pkontext 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["render"],
        ["render", "a.mid"],
        ["render", "a.mid", "-o", "a.wav", "--tempo", "9"],
        ["render", "a.mid", "-o", "a.wav", "--voice", "organ"],
        ["render", "a.mid", "-o", "a.wav", "--start", "1:2:3:4"],
        ["render", "a.mid", "-o", "a.wav", "--start", "0:30", "--end", "20"],
        ["render", "a.mid", "-o", "a.wav", "--loud"],
        ["sing"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("83.5", 83.5), ("1:23.5", 83.5), ("0:05", 5), ("1:02:03", 3723), ("7", 7)]
)
def test_times(text: str, seconds: float) -> None:
    assert cli.parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:", ":30", "1e3", "nan", "1:2:3:4", "9" * 50])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        cli.parse_time(text)


def test_bad_environment_names_the_variable(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKONTEXT_TEMPO", "fast")
    done = run_cli("render", "a.mid", "-o", "a.wav")
    assert done.returncode == 3 and b"PKONTEXT_TEMPO" in done.stderr and done.stdout == b""


def test_output_is_checked_before_any_work(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "old.wav").write_bytes(b"precious")
    assert only_error(run_cli("render", "a.mid", "-o", "old.wav", "--json")) == "output.exists"
    assert only_error(run_cli("render", "a.mid", "-o", "none/a.wav", "--json")) == "output.folder"
    assert only_error(run_cli("render", "a.mid", "-o", "a.mp3", "--json")) == "output.format"
    assert only_error(run_cli("render", "a.mid", "-o", "a.flac", "--bits", "32f", "--json")) == "output.bits"
    assert os.listdir(tmp_path) == ["old.wav"]


def test_bugs_are_short_and_leave_a_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("one bug")

    monkeypatch.setattr(settings, "resolve", broken)
    monkeypatch.setattr(settings, "log_folder", lambda: tmp_path / "log")
    result = CliRunner().invoke(app, ["render", "a.mid", "-o", str(tmp_path / "a.wav"), "--json"])
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    (log,) = (tmp_path / "log").iterdir()
    assert error["code"] == "internal" and str(log) in error["hint"]
    assert "Traceback" not in result.output and "one bug" in log.read_text()


def test_damaged_bundle_is_refused(run_cli: Run, tmp_path: Path, midi_file: Path) -> None:
    from tests.test_bundle import make_bundle

    folder = tmp_path / "bundle"
    folder.mkdir()
    make_bundle(folder)
    good = run_cli("bundle", "verify", folder)
    assert good.returncode == 0 and good.stdout.count(b" ok") == 4
    (folder / "encoder.onnx").write_bytes(b"x" * 36)
    bad = run_cli("bundle", "verify", folder, "--json")
    report, error = lines(bad.stdout)
    assert bad.returncode == 4 and report["ok"] is False and error["code"] == "bundle.sha256"
    done = run_cli("render", midi_file, "-o", "a.wav", "--bundle", folder, "--json")
    assert done.returncode == 4 and only_error(done) == "bundle.sha256"
    assert run_cli("bundle", "info", folder).returncode == 0
    assert not (tmp_path / "a.wav").exists()


def test_doctor_finds_a_missing_bundle(run_cli: Run, tmp_path: Path) -> None:
    done = run_cli("doctor", "--bundle", tmp_path / "none", "--json")
    (report,) = lines(done.stdout)
    checks = {check["name"]: check for check in report["checks"]}  # type: ignore[attr-defined]
    assert done.returncode == 1 and report["ok"] is False
    assert not checks["model bundle"]["ok"] and checks["model bundle"]["hint"]
    for name in ("Python", "NumPy and Numba", "audio files", "FluidSynth and soundfont", "ONNX Runtime"):
        assert checks[name]["ok"], checks[name]
    assert not any(
        check["required"] for name, check in checks.items() if name in ("MIDI input", "window system")
    )


# ---- with the toy bundle ------------------------------------------------------------------------


@pytest.fixture
def with_toy(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the toy bundle the one that the command line finds."""
    monkeypatch.setenv("PKONTEXT_BUNDLE", str(toy_bundle))
    return toy_bundle


@pytest.mark.usefixtures("with_toy")
def test_render_writes_audio_and_says_so(run_cli: Run, midi_file: Path, tmp_path: Path) -> None:
    done = run_cli("render", midi_file, "-o", "a.wav")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"" and b"a.wav" in done.stderr and b"real-time factor" in done.stderr
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 44100 and soundfile.info(tmp_path / "a.wav").subtype == "PCM_24"
    assert 1.0 < len(samples) / rate < 10.0 and np.abs(samples).max() > 0
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "piece.mid"]


@pytest.mark.usefixtures("with_toy")
def test_same_seed_same_bytes_other_seed_other_audio(run_cli: Run, midi_file: Path, tmp_path: Path) -> None:
    for name, seed in (("a.wav", "3"), ("b.wav", "3"), ("c.wav", "4")):
        assert run_cli("render", midi_file, "-o", name, "--seed", seed, "--quiet").returncode == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.wav", "b.wav", "c.wav"))
    assert a == b and a != c


@pytest.mark.usefixtures("with_toy")
def test_json_lines(run_cli: Run, midi_file: Path) -> None:
    done = run_cli("render", midi_file, "-o", "a.flac", "--bits", "16", "--seed", "5", "--json")
    events = lines(done.stdout)
    assert done.returncode == 0 and done.stderr == b""
    steps = [event for event in events if event["event"] == "progress"]
    assert steps and {"stage", "window", "windows", "rendered_sec", "total_sec", "elapsed_sec"} <= set(
        steps[0]
    )
    assert all(0 <= step["window"] <= step["windows"] for step in steps)  # type: ignore[operator]
    final = events[-1]
    assert final["event"] == "done" and final["seed"] == 5 and final["clipped"] == 0
    assert soundfile.info(str(final["output"])).frames == final["frames"]


@pytest.mark.usefixtures("with_toy")
def test_standard_output_is_the_same_audio(run_cli: Run, midi_file: Path, tmp_path: Path) -> None:
    run_cli("render", midi_file, "-o", "a.wav", "--quiet")
    done = run_cli("render", midi_file, "-o", "-", "--json")
    assert done.returncode == 0 and done.stdout == (tmp_path / "a.wav").read_bytes()
    assert lines(done.stderr)[-1]["event"] == "done"
    assert soundfile.info(io.BytesIO(done.stdout)).samplerate == 44100


@pytest.mark.usefixtures("with_toy")
def test_sampler_voice_and_part_of_the_piece(run_cli: Run, long_midi_file: Path, tmp_path: Path) -> None:
    done = run_cli(
        "render", long_midi_file, "-o", "a.wav", "--voice", "sampler", "--start", "0:10", "--end", "14"
    )
    assert done.returncode == 0, done.stderr.decode()
    assert soundfile.info(tmp_path / "a.wav").duration < 30
    done = run_cli("render", long_midi_file, "-o", "b.wav", "--start", "10:00", "--json")
    assert done.returncode == 3 and only_error(done) == "render.range"


@pytest.mark.usefixtures("with_toy")
@pytest.mark.parametrize(("content", "name"), [(b"RIFF not midi", "a.mid"), (b"", "b.mid"), (None, "c.mid")])
def test_bad_midi_is_one_error(run_cli: Run, tmp_path: Path, content: bytes | None, name: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run_cli("render", name, "-o", "a.wav")
    assert done.returncode == 3 and done.stderr.startswith(b"Error: ") and b"Traceback" not in done.stderr
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.usefixtures("with_toy")
def test_full_disk(run_cli: Run, midi_file: Path, tmp_path: Path) -> None:
    done = run_cli(
        "render",
        midi_file,
        "-o",
        "a.wav",
        "--json",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 7 and lines(done.stdout)[-1]["code"] == "output.disk_full"
    assert os.listdir(tmp_path) == ["piece.mid"]
    assert run_cli("render", midi_file, "-o", "/dev/full").returncode == 7


@pytest.mark.usefixtures("with_toy")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(long_midi_file: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "pkontext", "render", str(long_midi_file), "-o", "a.wav", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        restore_signals=True,
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["event"] == "progress"
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors.decode()
    assert lines(rest)[-1]["event"] == "cancelled"
    assert os.listdir(tmp_path) == ["long.mid"]


@pytest.mark.usefixtures("with_toy")
def test_doctor_is_content(run_cli: Run) -> None:
    done = run_cli("doctor", "--json")
    (report,) = lines(done.stdout)
    assert done.returncode == 0 and report["ok"] is True, report


def test_without_a_command_there_is_help_or_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app where there is a desktop, help where there is none."""
    started: list[list[str]] = []
    monkeypatch.setattr(cli, "start_app", lambda arguments: started.append(arguments) or 0)
    monkeypatch.setattr(cli, "has_desktop", lambda: False)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0 and "Usage: pkontext" in result.output and "render" in result.output
    monkeypatch.setattr(cli, "has_desktop", lambda: True)
    assert CliRunner().invoke(app, []).exit_code == 0 and started == [[]]
    CliRunner().invoke(app, ["gui", "a.mid", "--silent"])
    assert started[-1] == ["a.mid", "--silent"]


def test_a_desktop_is_a_screen_and_qt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not cli.has_desktop()
    monkeypatch.setenv("DISPLAY", ":0")
    assert cli.has_desktop() == (importlib.util.find_spec("PyQt6") is not None)

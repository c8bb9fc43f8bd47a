"""Audio files: exact samples, one clear error each, and nothing left behind."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pkontext import sinks
from pkontext.errors import PkError
from pkontext.sinks import SinkReport, SinkSpec
from tests.conftest import REPOSITORY

RATE = 44100
KINDS = [("wav", "16"), ("wav", "24"), ("wav", "32f"), ("flac", "16"), ("flac", "24")]


def sine(frames: int = RATE, channels: int = 1, level: float = 0.5) -> np.ndarray:
    """A tone, float32 ``[frames, channels]``, another one in each channel."""
    time = np.arange(frames)[:, None] / RATE
    return (level * np.sin(2 * np.pi * 440 * time * (1 + np.arange(channels)))).astype(np.float32)


def save(
    path: Path,
    samples: np.ndarray,
    chunk: int = 10_000,
    *,
    force: bool = False,
    format: str = "wav",
    bits: str = "24",
) -> SinkReport:
    """Write samples in chunks and return the report."""
    with sinks.open_sink(path, SinkSpec(RATE, samples.shape[1], format, bits), force) as sink:
        for start in range(0, len(samples), chunk):
            sink.write(samples[start : start + chunk])
        return sink.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the operating system refuse to write files beyond this size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("format", "bits"), KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_come_back(tmp_path: Path, format: str, bits: str, channels: int) -> None:
    samples = sine(channels=channels)
    report = save(tmp_path / "a", samples, format=format, bits=bits)
    back, rate = soundfile.read(tmp_path / "a", dtype="float64", always_2d=True)
    subtype = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[bits]
    assert soundfile.info(tmp_path / "a").subtype == subtype
    assert rate == RATE and back.shape == samples.shape
    assert report.frames == RATE and report.clipped == 0 and report.peak == pytest.approx(0.5, abs=1e-4)
    tolerance = 0.0 if bits == "32f" else 1.5 / 2 ** (int(bits) - 1)  # rounding 1/2, dither at most 1
    assert np.abs(back - samples).max() <= tolerance


@pytest.mark.parametrize(("format", "bits"), KINDS)
def test_bytes_do_not_depend_on_chunks_or_on_the_clock(tmp_path: Path, format: str, bits: str) -> None:
    samples = sine(20_001, 2)
    save(tmp_path / "a", samples, 20_001, format=format, bits=bits)
    save(tmp_path / "b", samples, 777, format=format, bits=bits)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"PEAK" not in (tmp_path / "a").read_bytes()[:200]  # holds the time of writing


def test_dither_keeps_what_is_below_one_step(tmp_path: Path) -> None:
    step = 2.0**-15
    save(tmp_path / "a.wav", np.full((RATE, 1), 0.3 * step, np.float32), bits="16")
    back, _ = soundfile.read(tmp_path / "a.wav")
    assert back.mean() == pytest.approx(0.3 * step, abs=0.02 * step)


def test_clipping_is_counted_and_never_wraps(tmp_path: Path) -> None:
    samples = np.array([[1.5], [-2.0], [1.0], [-1.0], [0.5]], np.float32)
    report = save(tmp_path / "a.wav", samples, bits="16")
    back, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert report.clipped == 2 and report.peak == 2.0
    assert back[0] == 32767 and back[1] == -32768 and back[2] >= 32766 and back[3] <= -32767
    assert save(tmp_path / "b.wav", samples, bits="32f").clipped == 0


def test_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    target.write_bytes(b"precious")
    with pytest.raises(PkError) as caught:
        save(target, sine(100))
    assert caught.value.code == "output.exists" and target.read_bytes() == b"precious"
    save(target, sine(100), force=True)
    assert soundfile.info(target).frames == 100
    assert os.listdir(tmp_path) == ["a.wav"]


def test_file_made_by_others_meanwhile_is_kept(tmp_path: Path) -> None:
    with sinks.open_sink(tmp_path / "a.wav", SinkSpec(RATE, 1)) as sink:
        sink.write(sine(100))
        (tmp_path / "a.wav").write_bytes(b"precious")
        report = sink.close()
    assert (tmp_path / "a.wav").read_bytes() == b"precious"
    assert report.name.endswith("a-1.wav") and soundfile.info(report.name).frames == 100


def test_failed_force_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"precious")
    with (
        pytest.raises(KeyboardInterrupt),
        sinks.open_sink(tmp_path / "a.wav", SinkSpec(RATE, 1), True) as sink,
    ):
        sink.write(sine())
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == b"precious"


@pytest.mark.parametrize(("format", "bits"), KINDS)
def test_full_disk_leaves_nothing(tmp_path: Path, format: str, bits: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, (4 * RATE, 1)).astype(np.float32)
    with file_size_limit(100_000), pytest.raises(PkError) as caught:
        save(tmp_path / "a", noise, format=format, bits=bits)
    assert caught.value.code == "output.disk_full" and caught.value.exit_code == 7
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_full_device() -> None:
    with pytest.raises(PkError) as caught:
        save(Path("/dev/full"), sine())
    assert caught.value.code == "output.disk_full"
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_device_file_is_written_to_and_not_replaced() -> None:
    assert save(Path(os.devnull), sine(), force=True).frames == RATE
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_link_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.wav").symlink_to(tmp_path / "real" / "b.wav")
    save(tmp_path / "a.wav", sine(100))
    assert (tmp_path / "a.wav").is_symlink() and soundfile.info(tmp_path / "real" / "b.wav").frames == 100


def test_folders_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code(path: Path) -> str:
        with pytest.raises(PkError) as caught:
            sinks.open_sink(path, SinkSpec(RATE, 1))
        assert caught.value.exit_code == 3
        return caught.value.code

    assert code(tmp_path / "none" / "a.wav") == "output.folder"
    assert code(tmp_path) == "output.is_folder"
    (tmp_path / "file").touch()
    assert code(tmp_path / "file" / "a.wav") == "output.folder"
    (tmp_path / "locked").mkdir(mode=0o555)
    if os.geteuid() == 0:  # nothing is read-only for root, except what the kernel guards
        assert code(Path("/sys/kernel/a.wav")) == "output.readonly"
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert code(tmp_path / "locked" / "a.wav") == "output.readonly"


def test_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save(tmp_path / "a.wav", sine(10))
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(PkError) as caught:
        save(tmp_path / "a.wav", np.full((10, 1), np.nan, np.float32))
    assert caught.value.code == "render.not_finite" and os.listdir(tmp_path) == []


def test_wav_that_would_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "MAX_WAV_BYTES", 1000)
    with pytest.raises(PkError) as caught:
        save(tmp_path / "a.wav", sine(1000))
    assert caught.value.code == "output.too_long" and os.listdir(tmp_path) == []
    save(tmp_path / "a.flac", sine(1000), format="flac")


_WRITE_TO_STDOUT = """
import numpy as np
from pkontext.sinks import SinkSpec, open_sink
with open_sink("-", SinkSpec(44100, 1, "{format}", "16")) as sink:
    for _ in range(10):
        sink.write(np.full((44100, 1), 0.25, np.float32))
"""


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_standard_output_has_an_exact_header(format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TO_STDOUT.format(format=format)],
        stdout=subprocess.PIPE,
        check=True,
        cwd=REPOSITORY,
    )
    back, rate = soundfile.read(io.BytesIO(done.stdout))
    assert rate == RATE and len(back) == 10 * RATE and np.abs(back - 0.25).max() < 1e-4
    if format == "wav":
        assert int.from_bytes(done.stdout[4:8], "little") == len(done.stdout) - 8


def test_closed_pipe_is_an_error_of_ours() -> None:
    script = _WRITE_TO_STDOUT.format(format="wav")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{script}' | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 1 and b"RenderError" in done.stderr


@pytest.mark.parametrize(
    ("name", "wanted", "explicit", "expected"),
    [
        ("a.wav", "auto", False, "wav"),
        ("a.FLAC", "auto", False, "flac"),
        ("a.flac", "wav", False, "flac"),  # a default from the settings file gives way to the name
        ("a.wave", "wav", True, "wav"),
        ("-", "auto", False, "wav"),
        ("-", "flac", True, "flac"),
        ("a", "flac", False, "flac"),
        ("a.flac", "wav", True, None),
        ("a.mp3", "auto", False, None),
    ],
)
def test_format_by_name_and_option(name: str, wanted: str, explicit: bool, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(PkError) as caught:
            sinks.choose_format(name, wanted, explicit)
        assert caught.value.code == "output.format"
    else:
        assert sinks.choose_format(name, wanted, explicit) == expected


def test_flac_has_no_floats(tmp_path: Path) -> None:
    with pytest.raises(PkError) as caught:
        save(tmp_path / "a.flac", sine(10), format="flac", bits="32f")
    assert caught.value.code == "output.bits" and os.listdir(tmp_path) == []


def test_null_sink_counts() -> None:
    sink = sinks.NullSink()
    sink.write(sine(10))
    assert sink.close().frames == 10

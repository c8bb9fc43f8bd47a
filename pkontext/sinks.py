"""Where rendered audio goes: a WAV or FLAC file, standard output, a device file, or nowhere.

A file appears under its name only when it is complete: audio is written to a hidden file in the
same folder, which is renamed on `AudioSink.close` and removed on `AudioSink.abort`. The samples
are those of the engine, without any hidden gain: 16 and 24 bits are dithered (TPDF, seeded, the
same however the audio is cut into chunks), and samples beyond full scale are clipped and counted.

Threading: one thread owns a sink.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np

from pkontext.errors import DeviceError, InputError, PkError, RenderError

FORMATS = ("wav", "flac")
BITS = ("16", "24", "32f")
STDOUT = "-"
#: Audio bytes that fit a WAV file, whose size fields have 32 bits.
MAX_WAV_BYTES = 2**32 - 2**16
#: libsndfile's ``SFC_SET_ADD_PEAK_CHUNK``: that chunk of a float WAV holds the time of writing.
_SET_ADD_PEAK_CHUNK = 0x1050
_SPOOL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SinkSpec:
    """What a sink writes: sample rate in hertz, channels, format, bits, and the dither's seed."""

    sample_rate: int
    channels: int
    format: str = "wav"
    bits: str = "24"
    dither_seed: int = 0


@dataclass(frozen=True)
class SinkReport:
    """What a closed sink wrote: name, frames, largest absolute sample, and samples clipped."""

    name: str
    frames: int
    peak: float
    clipped: int


class Sink(Protocol):
    """Takes audio chunk by chunk; a context manager that closes on success and aborts on error."""

    def write(self, samples: np.ndarray) -> None:
        """Take float32 ``[n, channels]``."""
        ...

    def close(self) -> SinkReport:
        """Finish and report."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; harmless after `close`."""
        ...


class NullSink:
    """Counts audio and drops it: for benchmarks and checks."""

    def __init__(self) -> None:
        self._frames = 0
        self._peak = 0.0

    def write(self, samples: np.ndarray) -> None:
        """Count float32 ``[n, channels]``."""
        self._frames += len(samples)
        self._peak = max(self._peak, _finite_peak(samples))

    def close(self) -> SinkReport:
        """Report what was counted."""
        return SinkReport("", self._frames, self._peak, 0)

    def abort(self) -> None:
        """Do nothing."""


def open_sink(output: str | Path, spec: SinkSpec, force: bool = False) -> AudioSink:
    """Open a sink, and find out now whether it can be written.

    Parameters
    ----------
    output : str or Path
        A file, ``-`` for standard output, or a device file such as ``/dev/null``.
    spec : SinkSpec
    force : bool
        Replace an existing file.

    Returns
    -------
    AudioSink

    Raises
    ------
    InputError
        ``output.exists``, ``output.folder``, ``output.is_folder``, ``output.readonly``,
        ``output.terminal``, ``output.format`` or ``output.bits``.
    RenderError
        ``output.disk_full`` or ``output.write``.
    """
    check_spec(spec.format, spec.bits)
    target: _Target
    if str(output) == STDOUT:
        if sys.stdout.isatty():
            raise InputError(
                "output.terminal",
                "Audio would be written to the terminal.",
                "Send it to a file or a program, such as `-o - | aplay`, or name a file after -o.",
            )
        target = _StreamTarget("standard output", None)
    else:
        path = check_output(output, force)
        target = _StreamTarget(str(path), path) if _is_special(path) else _FileTarget(path, force)
    try:
        return AudioSink(target, spec)
    except BaseException:
        target.discard()
        raise


def check_output(output: str | Path, force: bool = False) -> Path:
    """Return the output's path if a file may be made there; cheap, so call it before any work.

    Raises
    ------
    InputError
        ``output.exists``, ``output.folder``, ``output.is_folder`` or ``output.readonly``.
    """
    path = Path(output).expanduser()
    if _is_special(path):
        return path
    path = Path(os.path.realpath(path))  # through a link, not in its place
    if path.is_dir():
        raise InputError(
            "output.is_folder", f"{path} is a folder.", "Name a file in it, such as piece.wav, after -o."
        )
    if not path.parent.is_dir():
        raise InputError(
            "output.folder", f"There is no folder {path.parent}.", "Create it first, or choose another one."
        )
    if path.is_file() and not force:
        raise InputError(
            "output.exists", f"{path} exists already.", "Choose another name, or replace it with --force."
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _readonly(path.parent)
    return path


def choose_format(output: str, wanted: str = "auto", explicit: bool = False) -> str:
    """Return ``"wav"`` or ``"flac"`` for an output's name and the option ``--format``.

    Parameters
    ----------
    output : str
        File name or ``-``.
    wanted : str
        ``"auto"``, ``"wav"`` or ``"flac"``.
    explicit : bool
        Whether the user asked for ``wanted`` on this command line; else the name's ending wins.

    Raises
    ------
    InputError
        ``output.format`` when the ending is none of ours or contradicts the option.
    """
    suffix = Path(output).suffix.lower().removeprefix(".") if output != STDOUT else ""
    suffix = {"wave": "wav"}.get(suffix, suffix)
    if _is_special(Path(output)):
        suffix = ""  # a device file has no format
    if suffix and suffix not in FORMATS:
        raise InputError(
            "output.format",
            f"The name {output} ends in .{suffix}, which is neither WAV nor FLAC.",
            "End it in .wav or .flac.",
        )
    if explicit and wanted != "auto" and suffix not in ("", wanted):
        raise InputError(
            "output.format",
            f"The name {output} ends in .{suffix}, and the format asked for is {wanted}.",
            f"End the name in .{wanted}, or leave --format out.",
        )
    if explicit and wanted != "auto":
        return wanted
    return suffix or ("wav" if wanted == "auto" else wanted)


def check_spec(audio_format: str, bits: str) -> None:
    """Raise `InputError` (``output.format``, ``output.bits``) for a pair that no file can have."""
    if audio_format not in FORMATS:
        raise InputError("output.format", f"There is no format '{audio_format}'.", "Choose wav or flac.")
    if bits not in BITS:
        raise InputError("output.bits", f"There is no sample of {bits} bits.", "Choose 16, 24 or 32f.")
    if audio_format == "flac" and bits == "32f":
        raise InputError(
            "output.bits",
            "FLAC holds whole numbers, not 32-bit floats.",
            "Choose --bits 24, or --format wav.",
        )


def load_soundfile() -> Any:
    """Return the ``soundfile`` module.

    Raises
    ------
    DeviceError
        ``output.library`` when libsndfile cannot be loaded.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise DeviceError(
            "output.library",
            f"The library for audio files could not be loaded ({error}).",
            "Install it with `sudo apt-get install libsndfile1`, or reinstall the Python package soundfile.",
        ) from error
    return soundfile


class AudioSink:
    """Encodes float32 audio to WAV or FLAC; made by `open_sink`."""

    def __init__(self, target: _Target, spec: SinkSpec) -> None:
        soundfile = load_soundfile()
        self._target, self._spec = target, spec
        self._random = np.random.default_rng(spec.dither_seed)
        self._frames, self._clipped, self._peak = 0, 0, 0.0
        self._file: Any = None
        self._report: SinkReport | None = None
        with self._errors():
            self._guard = _Guard(target.open())
            self._file = soundfile.SoundFile(
                self._guard,
                "w",
                spec.sample_rate,
                spec.channels,
                {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[spec.bits],
                format=spec.format.upper(),
            )
            if spec.bits == "32f":
                soundfile._snd.sf_command(self._file._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, samples: np.ndarray) -> None:
        """Encode float32 ``[n, channels]``.

        Raises
        ------
        RenderError
            ``output.disk_full``, ``output.write``, ``output.too_long`` or
            ``render.not_finite``; the sink is then already aborted.
        """
        if len(samples) == 0:
            return
        with self._errors():
            self._peak = max(self._peak, _finite_peak(samples))
            self._frames += len(samples)
            self._check_length()
            self._file.write(samples if self._spec.bits == "32f" else self._quantise(samples))
            self._guard.check()

    def close(self) -> SinkReport:
        """Finish the file and give it its name; a second call only reports again.

        Returns
        -------
        SinkReport
            With the name of the file as it came to be: if another program has made a file of
            the wanted name meanwhile and we may not replace it, a number is added.

        Raises
        ------
        RenderError
            ``output.disk_full`` or ``output.write``; nothing is left behind.
        """
        if self._report is None:
            with self._errors():
                self._file.close()
                self._guard.check()
                name = self._target.finish()
            self._report = SinkReport(name, self._frames, self._peak, self._clipped)
        return self._report

    def abort(self) -> None:
        """Remove what was written; harmless after `close`."""
        if self._file is not None and not self._file.closed:
            self._guard.mute()
            with contextlib.suppress(Exception):
                self._file.close()
        self._target.discard()

    def _quantise(self, samples: np.ndarray) -> np.ndarray:
        """Return int32 with the sample in the upper 16 or 24 bits, dithered and clipped."""
        bits = int(self._spec.bits)
        scale = 2 ** (bits - 1)
        noise = self._random.random((*samples.shape, 2))
        steps = np.rint(samples * np.float64(scale) + (noise[..., 0] - noise[..., 1]))
        self._clipped += int(np.count_nonzero(np.abs(samples) > 1.0))
        return (np.clip(steps, -scale, scale - 1).astype(np.int64) << (32 - bits)).astype(np.int32)

    def _check_length(self) -> None:
        width = {"16": 2, "24": 3, "32f": 4}[self._spec.bits]
        if self._spec.format == "wav" and self._frames * self._spec.channels * width > MAX_WAV_BYTES:
            raise RenderError(
                "output.too_long",
                "The audio is longer than a WAV file can hold (4 GB).",
                "Choose --format flac, or render it in parts with --start and --end.",
            )

    @contextlib.contextmanager
    def _errors(self) -> Any:
        """Abort on any error; show one of the operating system as ours."""
        try:
            try:
                yield
            except Exception:
                if getattr(self, "_guard", None) is not None:
                    self._guard.check()  # the cause, where libsndfile only saw a short write
                raise
        except OSError as error:
            self.abort()
            raise _os_error(error, self._target.name) from error
        except BaseException:
            self.abort()
            raise


class _Guard:
    """A file object for libsndfile, whose callbacks cannot raise: keeps the first error for later."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._error: BaseException | None = None
        self._muted = False

    def check(self) -> None:
        """Raise the first error that happened inside a callback."""
        if self._error is not None and not self._muted:
            raise self._error

    def mute(self) -> None:
        """Do nothing from now on: the file is to be removed."""
        self._muted = True

    def write(self, data: bytes) -> int:
        return self._call(lambda: self._stream.write(data), 0)

    def read(self, size: int = -1) -> bytes:
        return self._call(lambda: self._stream.read(size), b"")

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._call(lambda: self._stream.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._call(self._stream.tell, 0)

    def flush(self) -> None:
        self._call(self._stream.flush, None)

    def _call(self, operation: Any, otherwise: Any) -> Any:
        if self._muted or self._error is not None:
            return otherwise
        try:
            return operation()
        except BaseException as error:  # also KeyboardInterrupt: it would vanish in the C callback
            self._error = error
            return otherwise


class _Target(Protocol):
    """Where encoded bytes go: opened, then finished or discarded."""

    name: str

    def open(self) -> IO[bytes]: ...
    def finish(self) -> str: ...
    def discard(self) -> None: ...


class _FileTarget:
    """A hidden file beside the wanted one, renamed when complete."""

    def __init__(self, path: Path, force: bool) -> None:
        self.name = str(path)
        self._path, self._force = path, force
        self._part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")
        self._stream: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        """Create the hidden file, with the permissions that the user's umask gives."""
        self._stream = self._part.open("x+b")
        return self._stream

    def finish(self) -> str:
        """Write everything to the disk and rename."""
        assert self._stream is not None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        if self._force:
            os.replace(self._part, self._path)
            return str(self._path)
        for number in range(1000):
            name = f"{self._path.stem}-{number}{self._path.suffix}" if number else self._path.name
            free = self._path.with_name(name)
            if _rename_without_replacing(self._part, free):
                return str(free)
        raise FileExistsError(errno.EEXIST, "File exists", str(self._path))

    def discard(self) -> None:
        """Remove the hidden file, if it is still there."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)


class _StreamTarget:
    """Standard output or a device file: sent when complete, so that the header is exact."""

    def __init__(self, name: str, path: Path | None) -> None:
        self.name = name
        self._path = path
        self._spool: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        """Open a buffer in memory, which moves to a temporary file when it is large."""
        spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._spool = spool  # pyright: ignore[reportAttributeAccessIssue]
        return spool  # pyright: ignore[reportReturnType]

    def finish(self) -> str:
        """Send the buffer."""
        assert self._spool is not None
        self._spool.seek(0)
        with contextlib.ExitStack() as stack:
            if self._path is None:
                out: IO[bytes] = sys.stdout.buffer
            else:
                out = stack.enter_context(self._path.open("wb", buffering=0))
            while block := self._spool.read(2**18):
                view = memoryview(block)
                while view:
                    view = view[out.write(view) :]
            out.flush()
        self.discard()
        return self.name

    def discard(self) -> None:
        """Drop the buffer."""
        if self._spool is not None:
            self._spool.close()


def _is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket rather than a file or folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _rename_without_replacing(source: Path, target: Path) -> bool:
    """Rename unless the target exists; in one step where the file system has hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        if target.exists():
            return False
        os.rename(source, target)
        return True
    source.unlink()
    return True


def _finite_peak(samples: np.ndarray) -> float:
    """Largest absolute sample; `RenderError` if one is not a number."""
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise RenderError(
            "render.not_finite",
            "The model produced samples that are not numbers.",
            "Check the bundle with `pkontext bundle verify`, or render with another --seed.",
        )
    return peak


def _readonly(folder: Path) -> InputError:
    return InputError(
        "output.readonly",
        f"The folder {folder} cannot be written to.",
        "Choose another folder after -o, or change its permissions.",
    )


def _os_error(error: OSError, name: str) -> PkError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RenderError(
            "output.disk_full",
            f"There is no space left to write {name}.",
            "Free some space or choose another disk, then render again; nothing incomplete was kept.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _readonly(Path(name).parent)
    reason = error.strerror or str(error)
    return RenderError(
        "output.write",
        f"{name} could not be written ({reason}).",
        "Choose another place after -o, and render again.",
    )

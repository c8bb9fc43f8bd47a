"""Audio to notes, by the transcriber Transkun in a process of its own.

Transkun runs on PyTorch, which the runtime does without, so ``python -m train.transcribe`` runs it at low
priority. The process ends with this one, however that ends, and a cancelled one is killed at once.

Threading: any thread may call `transcribe` and `transcribe_file`; they block it until the notes are there.
Call them from a job, not from the engine's thread. One transcription takes about as long as its audio on
one processor core, and up to 2 GB of memory.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.errors import Cancelled, DeviceError, InputError, RenderError
from pkontext.sinks import SinkSpec, open_sink
from pkontext.take import CancelFn, check_cancelled
from pkontext.types import NOTE, Pcm

#: What `train.transcribe` imports, by the names that pip knows them by.
PACKAGES = {
    "torch": "torch",
    "scipy": "scipy",
    "mir_eval": "mir_eval",
    "moduleconf": "moduleconf",
    "pretty_midi": "pretty_midi",
    "transkun": "transkun",
}
INSTALL_HINT = (
    "Install them with `pip install 'pkontext[check]'` and `pip install --no-deps transkun==2.0.1`."
)
#: Exit codes of `train.transcribe`.
BAD_AUDIO, NOT_INSTALLED = 3, 5
_POLL_SEC = 0.05


def check_available() -> None:
    """Find out at no cost whether audio can be transcribed here.

    Raises
    ------
    DeviceError
        ``check.library``, with the way to install what is missing.
    """
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise _not_installed(
            f"Listening to a take needs packages that are not installed: {', '.join(missing)}."
        )


def transcribe(pcm: Pcm, cancelled: CancelFn | None = None, threads: int = 0) -> np.ndarray:
    """Return the notes that are heard in audio; see `transcribe_file`."""
    check_available()
    with tempfile.TemporaryDirectory(prefix="pkontext-") as folder:
        path = Path(folder) / "audio.wav"
        with open_sink(path, SinkSpec(pcm.sample_rate, pcm.samples.shape[1], "wav", "32f")) as sink:
            sink.write(pcm.samples)
        return transcribe_file(path, cancelled, threads)


def transcribe_file(audio: Path, cancelled: CancelFn | None = None, threads: int = 0) -> np.ndarray:
    """Return the notes that are heard in an audio file.

    Parameters
    ----------
    audio : Path
        Any format that libsndfile reads, at any sample rate.
    cancelled : callable, optional
        Asked twenty times a second; when it returns True, the process is killed.
    threads : int
        Processor threads, 0 for all cores.

    Returns
    -------
    ndarray of NOTE
        Sorted by onset, in seconds of the audio.

    Raises
    ------
    DeviceError
        ``check.library`` when Transkun or what it needs is not installed.
    InputError
        ``check.audio`` when the file cannot be read.
    RenderError
        ``check.failed`` when the transcription stops for another reason.
    Cancelled
    """
    check_available()
    check_cancelled(cancelled)
    with tempfile.TemporaryDirectory(prefix="pkontext-") as folder:
        notes, said = Path(folder) / "notes.npy", Path(folder) / "said.txt"
        with said.open("wb") as messages:
            code = _run(_command(audio.absolute(), notes, threads), messages, cancelled)
        if code != 0:
            raise _failure(code, said.read_text(encoding="utf-8", errors="replace"))
        heard = np.load(notes, allow_pickle=False)
    if heard.dtype != NOTE:
        raise RenderError("check.failed", "The transcription is not a list of notes.", "Reinstall pkontext.")
    return heard


def _command(audio: Path, notes: Path, threads: int) -> list[str]:
    """The command line; the working folder is kept off the import path, where a ``train.py`` may lie."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "train.transcribe", str(audio), str(notes)]
    return [*command, "--with-parent", "--threads", str(threads)]


def _run(command: list[str], messages: Any, cancelled: CancelFn | None) -> int:
    """Run a process to its end and return its exit code; kill it when this is interrupted in any way.

    Its standard input is a pipe that nobody writes to: when this process dies, the pipe closes.
    """
    home = str(Path(__file__).resolve().parent.parent)
    paths = [path for path in (os.environ.get("PYTHONPATH"), home) if path]
    options: dict[str, Any] = {"start_new_session": True}  # Ctrl-C reaches us alone
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        options = {"creationflags": flags}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=messages,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        **options,
    )
    try:
        while True:
            try:
                return process.wait(_POLL_SEC)
            except subprocess.TimeoutExpired:
                if cancelled is not None and cancelled():
                    raise Cancelled from None
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _failure(code: int, said: str) -> Exception:
    """The error that an exit code and the process's last words stand for."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "").strip()
    if code == NOT_INSTALLED:
        return _not_installed(last)
    if code == BAD_AUDIO:
        return InputError("check.audio", last, "Choose another audio file.")
    if code < 0:
        return RenderError(
            "check.failed",
            f"The transcription was stopped by the system (signal {-code}).",
            "It needs up to 2 GB of memory: close other programs, then try again.",
        )
    return RenderError(
        "check.failed",
        f"The transcription failed ({last or f'exit code {code}'}).",
        f"Reinstall what it needs. {INSTALL_HINT}",
    )


def _not_installed(message: str) -> DeviceError:
    return DeviceError("check.library", message, INSTALL_HINT)

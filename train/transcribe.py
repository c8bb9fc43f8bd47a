"""Audio to notes by Transkun (its wheel ships its weights), and note scores by mir_eval.

``python -m train.transcribe IN.wav OUT.npy``

writes the notes as a structured array. `pkontext.transcriber` runs it, so that the runtime needs no PyTorch.
Needs the ``check`` extra and Transkun, for scores the ``evaluate`` extra.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from pkontext.errors import DeviceError
from pkontext.sinks import load_soundfile
from pkontext.transcriber import BAD_AUDIO, NOT_INSTALLED
from pkontext.types import NOTE

#: Length of the windows that Transkun was trained on. It hears every second note in shorter or longer ones.
WINDOW_SEC = 16.0
_RATE = 44100
_NICE = 10


@lru_cache(maxsize=1)
def _model() -> Any:
    import moduleconf
    import torch

    _provide_torchaudio()
    import transkun

    folder = Path(transkun.__file__).parent / "pretrained"
    manager = moduleconf.parseFromFile(str(folder / "2.0.conf"))
    model = manager["Model"].module.TransKun(conf=manager["Model"].config)
    checkpoint = torch.load(folder / "2.0.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint.get("best_state_dict", checkpoint.get("state_dict")), strict=False)
    return model.eval()


def _provide_torchaudio() -> None:
    """Stand in for torchaudio where it is missing or has no build for this torch.

    Transkun uses it for one function, the mel filter bank, whose values its checkpoint holds too.
    """
    import types

    import torch

    try:
        import torchaudio.functional  # type: ignore[import-not-found]  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pass
    else:
        return

    def melscale_fbanks(
        n_freqs: int, f_min: float, f_max: float, n_mels: int, sample_rate: int
    ) -> torch.Tensor:
        mel = torch.linspace(*(2595 * np.log10(1 + f / 700) for f in (f_min, f_max)), n_mels + 2)
        edges = 700 * (10 ** (mel / 2595) - 1)
        slopes = edges[None] - torch.linspace(0, sample_rate // 2, n_freqs)[:, None]
        down, up = -slopes[:, :-2] / edges.diff()[:-1], slopes[:, 2:] / edges.diff()[1:]
        return torch.minimum(down, up).clamp(min=0)

    package, functional = types.ModuleType("torchaudio"), types.ModuleType("torchaudio.functional")
    functional.melscale_fbanks = melscale_fbanks  # type: ignore[attr-defined]
    package.functional = functional  # type: ignore[attr-defined]
    sys.modules |= {"torchaudio": package, "torchaudio.functional": functional}


def transcribe(samples: np.ndarray, sample_rate: int, one_window: bool = False) -> np.ndarray:
    """Transcribe piano audio.

    Parameters
    ----------
    samples : ndarray
        ``[frames]`` or ``[frames, channels]``.
    sample_rate : int
        Must be Transkun's own, 44100.
    one_window : bool
        Transcribe audio of `WINDOW_SEC` or less at once, not in three or four windows that overlap by half:
        a third of the time, and as good.

    Returns
    -------
    ndarray of NOTE
        Sorted by onset; pedals are left out.
    """
    import torch

    model = _model()
    if sample_rate != model.fs:
        raise ValueError(f"transkun works at {model.fs} Hz, not {sample_rate}")
    audio = np.asarray(samples, np.float32).reshape(len(samples), -1)
    windows: dict[str, float] = {}
    if one_window and len(audio) <= WINDOW_SEC * sample_rate:
        windows = {"stepInSecond": WINDOW_SEC, "segmentSizeInSecond": WINDOW_SEC}
    with torch.no_grad():
        events = model.transcribe(torch.from_numpy(audio), discardSecondHalf=False, **windows)
    rows = [(e.start, e.end - e.start, e.pitch, e.velocity) for e in events if e.pitch > 0]
    return np.sort(np.array(rows, NOTE), order="onset_sec")


def note_scores(reference: np.ndarray, estimate: np.ndarray, tolerance_sec: float = 0.05) -> dict[str, float]:
    """Precision, recall, F1 of onsets with equal pitch, and the jitter of the matched ones.

    Parameters
    ----------
    reference, estimate : ndarray of NOTE
    tolerance_sec : float

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f1``; ``jitter_ms``, median absolute onset difference.
    """
    from mir_eval.transcription import match_notes

    if not len(reference) or not len(estimate):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "jitter_ms": float("nan")}

    def arrays(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        onset, length = notes["onset_sec"], np.maximum(notes["duration_sec"], 0.01)
        hertz = 440.0 * 2 ** ((notes["pitch"].astype(float) - 69) / 12)
        return np.stack([onset, onset + length], 1), hertz

    matched = match_notes(
        *arrays(reference), *arrays(estimate), onset_tolerance=tolerance_sec, offset_ratio=None
    )
    precision, recall = len(matched) / len(estimate), len(matched) / len(reference)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    pairs = np.array(matched, int).reshape(-1, 2)
    jitter = np.abs(reference["onset_sec"][pairs[:, 0]] - estimate["onset_sec"][pairs[:, 1]])
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "jitter_ms": float(np.median(jitter) * 1e3) if len(jitter) else float("nan"),
    }


def main(
    audio: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording of a piano.")],
    notes: Annotated[Path, typer.Argument(metavar="OUT.npy", help="Where the notes go.")],
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when standard input is closed.")
    ] = False,
) -> None:
    """Transcribe a recording, at low priority, and write its notes to a NumPy file."""
    if with_parent:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    samples = _read(audio)
    try:
        import torch

        if threads:
            torch.set_num_threads(threads)
        heard = transcribe(samples, _RATE, one_window=True)
    except ImportError as error:
        _fail(f"Listening to a take needs a package that cannot be imported ({error}).", NOT_INSTALLED)
    part = notes.with_name(f".{notes.name}.part")
    try:
        with part.open("wb") as file:
            np.save(file, heard, allow_pickle=False)
        part.replace(notes)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> np.ndarray:
    """Samples ``[frames, channels]`` at Transkun's rate."""
    try:
        soundfile = load_soundfile()
    except DeviceError as error:
        _fail(error.message, NOT_INSTALLED)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        _fail(f"The audio {path} cannot be read ({error}).", BAD_AUDIO)
    if not len(samples) or not np.isfinite(samples).all():
        _fail(f"The audio {path} is empty, or not all of it are numbers.", BAD_AUDIO)
    if rate == _RATE:
        return samples
    from scipy.signal import resample_poly

    common = gcd(rate, _RATE)
    return resample_poly(samples, _RATE // common, rate // common).astype(np.float32)


def _stop_with_parent() -> None:
    """End this process, in whatever it does, when its standard input closes."""
    while os.read(0, 1024):  # unbuffered: a lock of sys.stdin would be in the way of a regular end
        pass
    os._exit(1)


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    typer.run(main)

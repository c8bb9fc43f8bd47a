"""Audio to notes by Transkun (its wheel ships its weights), and note scores by mir_eval.

Needs the ``evaluate`` extra. Used only to measure.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.types import NOTE


@lru_cache(maxsize=1)
def _model() -> Any:
    import moduleconf
    import torch

    _provide_torchaudio()
    import transkun

    folder = Path(transkun.__file__).parent / "pretrained"
    manager = moduleconf.parseFromFile(str(folder / "2.0.conf"))
    model = manager["Model"].module.TransKun(conf=manager["Model"].config)
    checkpoint = torch.load(folder / "2.0.pt", map_location="cpu", weights_only=False)
    model.load_state_dict(checkpoint.get("best_state_dict", checkpoint.get("state_dict")), strict=False)
    return model.eval()


def _provide_torchaudio() -> None:
    """Stand in for torchaudio where it has no build for this torch.

    Transkun uses it for one function, the mel filter bank, whose values its checkpoint holds too.
    """
    import importlib.util
    import sys
    import types

    import torch

    if importlib.util.find_spec("torchaudio") is not None:
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


def transcribe(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Transcribe piano audio.

    Parameters
    ----------
    samples : ndarray
        ``[frames]`` or ``[frames, channels]``.
    sample_rate : int
        Must be Transkun's own, 44100.

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
    with torch.no_grad():
        events = model.transcribe(torch.from_numpy(audio), discardSecondHalf=False)
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

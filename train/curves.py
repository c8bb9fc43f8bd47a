"""The curve network's task: performance curves from the score, on the deadpan axis.

``python -m train curves --cache CACHE --out RUN``
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pkontext.curves import ARTICULATION, ASYNCHRONY, CHANNELS, LOUDNESS, PEDAL_CHANNEL, TEMPO
from pkontext.deadpan import DeadpanScore
from pkontext.features import CURVE_LOCAL, curve_local
from train.dit_model import DiT, DiTConfig, flow_loss
from train.loop import LoopConfig, LossFn, fit

GROUPS = [np.arange(len(CHANNELS))[g] for g in (slice(TEMPO, 1), LOUDNESS, ASYNCHRONY, ARTICULATION)] + [
    np.array([PEDAL_CHANNEL])
]


@dataclass(frozen=True)
class CurveStats:
    """What normalises the curves, ``[12]`` each."""

    mean: np.ndarray
    std: np.ndarray


class CurveData:
    """All curve files of a folder in memory, and random windows of them."""

    def __init__(self, folder: Path, frame_sec: float) -> None:
        self.scores: list[DeadpanScore] = []
        self.curves: list[np.ndarray] = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as archive:
                notes, metre, curves = archive["deadpan"], archive["metre"], archive["curves"]
            self.scores.append(DeadpanScore(notes, 0.0, 1.0, frame_sec, len(curves), metre))
            self.curves.append(curves)
        if not self.curves:
            raise FileNotFoundError(f"No prepared curves in {folder}; run `python -m train prepare` first.")
        length = np.array([len(c) for c in self.curves], float)
        self.share = length / length.sum()

    def stats(self) -> CurveStats:
        """Mean and standard deviation of each channel over all frames."""
        rows = np.concatenate(self.curves)
        return CurveStats(rows.mean(0), rows.std(0) + 1e-6)

    def window(self, index: int, start: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features ``[frames, 269]``, curves ``[frames, 12]``, and ``[frames]`` 1 where they exist."""
        features = self.scores[index].score_features(start, frames)
        curves, inside = np.zeros((frames, len(CHANNELS)), np.float32), np.zeros(frames, np.float32)
        low, high = max(start, 0), min(start + frames, len(self.curves[index]))
        curves[low - start : high - start] = self.curves[index][low:high]
        inside[low - start : high - start] = 1
        return features, curves, inside


def random_known(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Draw what is given: nothing, a prefix, prefix and suffix, or some curves all along."""
    known = np.zeros((frames, len(CHANNELS)), np.float32)
    kind = rng.random()
    if kind < 0.75:
        known[: rng.integers(0, 97) if kind > 0.2 else 0] = 1
    elif kind < 0.87:
        known[: rng.integers(8, 65)] = 1
        known[frames - rng.integers(8, 97) :] = 1
    else:
        known[: rng.integers(0, 65)] = 1
        for group in GROUPS:
            if rng.random() < 0.4:
                known[:, group] = 1
    return known


class CurveBatches(Iterator[dict[str, Tensor]]):
    """Endless random windows as inputs of `train.dit_model.flow_loss`."""

    def __init__(
        self, data: CurveData, stats: CurveStats, batch: int, frames: int, seed: int, drop: float = 0.07
    ) -> None:
        self.data, self.stats, self.batch, self.frames, self.drop = data, stats, batch, frames, drop
        self.seed, self.step = seed, 0

    def __next__(self) -> dict[str, Tensor]:
        rng, frames = np.random.default_rng((self.seed, self.step)), self.frames
        self.step += 1
        clean = np.empty((self.batch, frames, len(CHANNELS)), np.float32)
        local = np.empty((self.batch, frames, CURVE_LOCAL), np.float32)
        known, weight = np.empty_like(clean), np.empty_like(clean)
        for row in range(self.batch):
            index = rng.choice(len(self.data.share), p=self.data.share)
            last = max(len(self.data.curves[index]) - frames // 2, 1)
            start = 0 if rng.random() < 0.06 else int(rng.integers(0, last))
            features, curves, inside = self.data.window(index, start, frames)
            clean[row] = (curves - self.stats.mean) / self.stats.std * inside[:, None]
            known[row] = 0 if start == 0 else random_known(rng, frames)
            weight[row] = inside[:, None]
            local[row] = curve_local(features if rng.random() >= self.drop else None, frames)
        position = np.tile(np.arange(frames, dtype=np.float32), (self.batch, 1))
        arrays = {"clean": clean, "known": known, "weight": weight, "local": local, "position": position}
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


def task_loss(
    model: nn.Module, batch: dict[str, Tensor], power: float = 0.0, shift: float = -1.0
) -> dict[str, Tensor]:
    """Flow loss of a batch on the model's device; the defaults are the curve network's."""
    device = next(model.parameters()).device
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    return flow_loss(model, **moved, power=power, shift=shift)


def train_curves(
    cache: Path,
    loop: LoopConfig,
    frame_sec: float,
    width: int = 192,
    depth: int = 6,
    heads: int = 6,
    batch: int = 16,
    frames: int = 256,
    resume: bool = False,
) -> DiT:
    """Train the curve network from prepared data; the run folder holds the result."""
    data = CurveData(cache / "curves" / "train", frame_sec)
    stats = data.stats()
    config = DiTConfig(state=len(CHANNELS), local=CURVE_LOCAL, width=width, depth=depth, heads=heads)
    torch.manual_seed(loop.seed)
    model = DiT(config)
    held_out = CurveBatches(CurveData(cache / "curves" / "val", frame_sec), stats, 16, frames, 1, drop=0.0)
    validation = [next(held_out) for _ in range(4)]
    meta = {
        "dit": config.to_dict(),
        "task": "curves",
        "frames": frames,
        "batch": batch,
        "data": {"performances": len(data.curves), "hours": sum(map(len, data.curves)) * frame_sec / 3600},
        "stats": {"mean": stats.mean.tolist(), "std": stats.std.tolist()},
    }
    source = CurveBatches(data, stats, batch, frames, loop.seed)
    return fit(model, task_loss, source, loop, meta, seeded_validation(validation), resume)  # type: ignore[return-value]


def seeded_validation(batches: list[dict[str, Tensor]], loss: LossFn = task_loss):
    """Validation on fixed windows with fixed noise and times, so that numbers compare."""

    def validate(model: nn.Module) -> dict[str, float]:
        state = torch.get_rng_state()
        torch.manual_seed(1234)
        losses = [loss(model, batch) for batch in batches]
        torch.set_rng_state(state)
        return {k: float(np.mean([float(x[k]) for x in losses])) for k in losses[0]}

    return validate

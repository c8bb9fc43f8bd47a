"""The curve network's task: performance curves from the score, on the deadpan axis.

There are many performances but few scores (131 in training), so what has to be fought is learning the
scores by heart: pieces are transposed and played at other paces, and validation asks what the network
makes of new scores.

``python -m train curves --cache CACHE --out RUN``
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pkontext.cues import PITCH_CUES, PITCH_UNIT, WRITTEN, score_cues
from pkontext.curves import ARTICULATION, ASYNCHRONY, BANDS, CHANNELS, LOUDNESS, PEDAL_CHANNEL, TEMPO
from pkontext.deadpan import DeadpanScore
from pkontext.features import CURVE_LOCAL, METRE, ROLL, curve_local
from train.dit_model import DiT, DiTConfig, flow_loss
from train.loop import LoopConfig, LossFn, fit

GROUPS = [np.arange(len(CHANNELS))[g] for g in (slice(TEMPO, 1), LOUDNESS, ASYNCHRONY, ARTICULATION)] + [
    np.array([PEDAL_CHANNEL])
]


#: What an error in each channel counts: asynchrony is mostly chance, tempo and loudness are heard first.
WEIGHTS = np.array([3.0, *[1.5] * 4, *[0.4] * 4, *[0.8] * 2, 1.2], np.float32)
#: Largest transposition in training, semitones.
TRANSPOSE = 5


@dataclass(frozen=True)
class CurveStats:
    """What normalises the curves, ``[12]`` each."""

    mean: np.ndarray
    std: np.ndarray


def read_curves(path: Path, frame_sec: float) -> tuple[DeadpanScore, np.ndarray]:
    """Deadpan score and curves ``[frames, 12]`` of a prepared file."""
    with np.load(path) as archive:
        notes, metre, written = archive["deadpan"], archive["metre"], archive["written"]
        curves = archive["curves"].astype(np.float32)
    cues = score_cues(notes, written, len(curves), frame_sec)
    return DeadpanScore(notes, 0.0, 1.0, frame_sec, len(curves), metre, written, cues), curves


class CurveData:
    """All curve files of a folder in memory, and random windows of them."""

    def __init__(self, folder: Path, frame_sec: float) -> None:
        self.scores: list[DeadpanScore] = []
        self.curves: list[np.ndarray] = []
        self.performances, self.hours = 0, 0.0
        for path in sorted(folder.glob("*.npz")):
            score, curves = read_curves(path, frame_sec)
            self.scores.append(score)
            self.curves.append(curves)
            if " " not in path.name:  # variations have a number after a space
                self.performances += 1
                self.hours += len(curves) * frame_sec / 3600
        if not self.curves:
            raise FileNotFoundError(f"No prepared curves in {folder}; run `python -m train prepare` first.")
        length = np.array([len(c) for c in self.curves], float)
        self.share = length / length.sum()

    def stats(self) -> CurveStats:
        """Mean and standard deviation of each channel over all frames."""
        rows = np.concatenate(self.curves)
        return CurveStats(rows.mean(0), rows.std(0) + 1e-6)

    def window(
        self, index: int, start: int, frames: int, transpose: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features ``[frames, 291]``, curves ``[frames, 12]``, and ``[frames]`` 1 where they exist."""
        features = self.scores[index].score_features(start, frames)
        curves, inside = np.zeros((frames, len(CHANNELS)), np.float32), np.zeros(frames, np.float32)
        low, high = max(start, 0), min(start + frames, len(self.curves[index]))
        curves[low - start : high - start] = self.curves[index][low:high]
        inside[low - start : high - start] = 1
        if transpose:
            transposed(features, curves, transpose)
        return features, curves, inside


def transposed(features: np.ndarray, curves: np.ndarray, semitones: int) -> None:
    """Move a window up or down in place: keys, pitch cues, and what is given for register bands."""
    planes = features[:, :ROLL].reshape(len(features), 3, -1)
    moved = np.zeros_like(planes)
    if semitones > 0:
        moved[..., semitones:] = planes[..., :-semitones]
    else:
        moved[..., :semitones] = planes[..., -semitones:]
    planes[:] = moved
    cues = features[:, ROLL + METRE :]
    there = features[:, :ROLL].any(1) | cues[:, PITCH_CUES].any(1)
    cues[:, PITCH_CUES] += there[:, None] * (semitones / PITCH_UNIT)
    weights = np.stack([np.interp(BANDS - semitones, BANDS, row) for row in np.eye(len(BANDS))], 0)
    weights = weights.astype(np.float32)
    for bands in (cues[:, WRITTEN][:, :4], curves[:, LOUDNESS], curves[:, ASYNCHRONY]):
        bands[:] = bands @ weights


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
        self,
        data: CurveData,
        stats: CurveStats,
        batch: int,
        frames: int,
        seed: int,
        drop: float = 0.07,
        vary: bool = True,
    ) -> None:
        self.data, self.stats, self.batch, self.frames, self.drop = data, stats, batch, frames, drop
        self.vary = vary
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
            semitones = int(rng.integers(-TRANSPOSE, TRANSPOSE + 1)) if self.vary else 0
            features, curves, inside = self.data.window(index, start, frames, semitones)
            if self.vary and rng.random() < 0.15:
                features[:, ROLL + METRE :][:, WRITTEN] = 0
            clean[row] = (curves - self.stats.mean) / self.stats.std * inside[:, None]
            known[row] = 0 if start == 0 else random_known(rng, frames)
            weight[row] = inside[:, None] * WEIGHTS
            local[row] = curve_local(features if rng.random() >= self.drop else None, frames)
        position = np.tile(np.arange(frames, dtype=np.float32), (self.batch, 1))
        arrays = {"clean": clean, "known": known, "weight": weight, "local": local, "position": position}
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


def task_loss(
    model: nn.Module, batch: dict[str, Tensor], power: float = 0.0, shift: float = -1.0, pure: float = 0.25
) -> dict[str, Tensor]:
    """Flow loss of a batch on the model's device; the defaults are the curve network's."""
    device = next(model.parameters()).device
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    return flow_loss(model, **moved, power=power, shift=shift, pure=pure)


def expected_curves(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """What the network expects of the curves by the score alone: its answer to pure noise, nothing given."""
    known = torch.zeros_like(batch["known"])
    noise = torch.randn(batch["clean"].shape, generator=torch.Generator().manual_seed(0))
    time = torch.zeros(len(known))
    device = next(model.parameters()).device
    inputs = {"known": known, "local": batch["local"], "position": batch["position"], "time": time}
    moved = {name: value.to(device) for name, value in inputs.items()}
    return model(noise.to(device), **moved).float().cpu()


def agreement(model: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """Correlation of expected and performed curves over the frames of a window, mean over windows."""
    rows: dict[str, list[float]] = {"tempo_r": [], "loudness_r": [], "articulation_r": [], "pedal_r": []}
    groups = dict(
        zip(rows, (slice(TEMPO, 1), LOUDNESS, ARTICULATION, slice(PEDAL_CHANNEL, None)), strict=True)
    )
    for batch in batches:
        expected = expected_curves(model, batch)
        for want, got, weight in zip(batch["clean"], expected, batch["weight"], strict=True):
            inside = weight[:, 0] > 0
            for name, group in groups.items():
                pair = torch.stack([want[inside][:, group].flatten(), got[inside][:, group].flatten()])
                if bool((pair.std(1) > 1e-6).all()):
                    rows[name].append(float(torch.corrcoef(pair)[0, 1]))
    return {name: float(np.mean(values)) for name, values in rows.items() if values}


def train_curves(
    cache: Path,
    loop: LoopConfig,
    frame_sec: float,
    width: int = 192,
    depth: int = 6,
    heads: int = 6,
    batch: int = 16,
    frames: int = 384,
    stride: int = 2,
    dropout: float = 0.1,
    resume: bool = False,
) -> DiT:
    """Train the curve network from prepared data; the run folder holds the result."""
    data = CurveData(cache / "curves" / "train", frame_sec)
    stats = data.stats()
    config = DiTConfig(
        state=len(CHANNELS),
        local=CURVE_LOCAL,
        width=width,
        depth=depth,
        heads=heads,
        stride=stride,
        dropout=dropout,
    )
    torch.manual_seed(loop.seed)
    model = DiT(config)
    held_out = CurveBatches(
        CurveData(cache / "curves" / "val", frame_sec), stats, 16, frames, 1, drop=0.0, vary=False
    )
    validation = [next(held_out) for _ in range(4)]
    plain = seeded_validation(validation)

    def validate(model: nn.Module) -> dict[str, float]:
        return plain(model) | agreement(model, validation)

    meta = {
        "dit": config.to_dict(),
        "task": "curves",
        "frames": frames,
        "batch": batch,
        "data": {
            "performances": data.performances,
            "hours": data.hours,
            "variations": len(data.curves) // max(data.performances, 1),
        },
        "stats": {"mean": stats.mean.tolist(), "std": stats.std.tolist()},
    }
    source = CurveBatches(data, stats, batch, frames, loop.seed)
    return fit(model, task_loss, source, loop, meta, validate, resume)  # type: ignore[return-value]


def seeded_validation(batches: list[dict[str, Tensor]], loss: LossFn = task_loss):
    """Validation on fixed windows with fixed noise and times, so that numbers compare."""

    def validate(model: nn.Module) -> dict[str, float]:
        state = torch.get_rng_state()
        torch.manual_seed(1234)
        losses = [loss(model, batch) for batch in batches]
        torch.set_rng_state(state)
        return {k: float(np.mean([float(x[k]) for x in losses])) for k in losses[0]}

    return validate

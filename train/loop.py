"""The one training loop: AdamW, EMA, time budget, CSV log, checkpoints that resume to the step.

A run folder holds ``config.json`` (settings and git revision), ``log.csv``, ``state.safetensors``
(everything needed to go on) and ``model.safetensors`` (EMA weights). A model gives the loss; the
loop knows nothing else about it.
"""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

LossFn = Callable[[nn.Module, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop.

    The learning rate warms up over ``warmup`` steps and decays to zero by cosine over the budget:
    whichever of ``max_steps`` and ``max_minutes`` is used up faster.
    """

    out: str
    max_steps: int = 100_000
    max_minutes: float = 60.0
    lr: float = 4e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 100
    ema: float = 0.998
    clip: float = 1.0
    seed: int = 0
    log_every: int = 20
    save_minutes: float = 3.0
    device: str = "cpu"


def fit(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterator[Any],
    config: LoopConfig,
    meta: dict | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
) -> nn.Module:
    """Train until a budget is used up and return the model with its EMA weights.

    Parameters
    ----------
    model : nn.Module
    loss_fn : callable
        ``(model, batch) → {"loss": scalar, other scalars to log}``.
    batches : iterator
        Endless. One with an attribute ``step`` draws batch ``step`` next, which makes a resumed run
        see the batches that it would have seen; another starts from its own beginning.
    config : LoopConfig
    meta : dict, optional
        Stored in ``config.json`` beside the loop's settings.
    validate : callable, optional
        Called on the EMA weights at every save; its numbers are logged as ``val_*``.
    resume : bool
        Continue from ``state.safetensors`` in the run folder; loading is strict.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    model.to(config.device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
    step, minutes_before = 0, 0.0
    if resume:
        step, minutes_before = _load_state(out / "state.safetensors", model, ema, optimizer)
    if hasattr(batches, "step"):
        batches.step = step  # type: ignore[attr-defined]
    (out / "config.json").write_text(
        json.dumps({"loop": asdict(config), "revision": git_revision(), **(meta or {})}, indent=1)
    )
    log = _CsvLog(out / "log.csv", append=resume)
    start = last_save = time.monotonic()
    progress = tqdm(total=config.max_steps, initial=step, dynamic_ncols=True, mininterval=5)
    averages: dict[str, float] = {}

    while True:
        minutes = minutes_before + (time.monotonic() - start) / 60
        used = max(step / config.max_steps, minutes / config.max_minutes)
        if used >= 1:
            break
        rate = config.lr * min(1.0, (step + 1) / config.warmup) * 0.5 * (1 + math.cos(math.pi * used))
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(config.seed * 1_000_003 + step)
        with torch.autocast("cuda", torch.bfloat16, enabled=config.device.startswith("cuda")):
            losses = loss_fn(model, next(batches))
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        step += 1
        _update_ema(ema, model, min(config.ema, step / (step + 9)))
        progress.update()
        if step % config.log_every == 0:
            values = {k: float(v.detach()) for k, v in losses.items()}
            averages = {k: 0.8 * averages.get(k, v) + 0.2 * v for k, v in values.items()}
            log.write({"step": step, "minutes": minutes, "lr": rate, "grad_norm": float(norm), **values})
            progress.set_postfix({k: f"{v:.4f}" for k, v in averages.items()})
        if time.monotonic() - last_save > 60 * config.save_minutes:
            last_save = time.monotonic()
            _save(out, model, ema, optimizer, step, minutes)
            if validate is not None:
                log.write({"step": step, "minutes": minutes, **_validated(model, ema, validate)})
    progress.close()
    _save(out, model, ema, optimizer, step, minutes)
    if validate is not None:
        log.write({"step": step, "minutes": minutes, **_validated(model, ema, validate)})
    model.load_state_dict(ema)
    return model.eval()


def git_revision() -> str:
    """Current git commit, or ``unknown`` outside a checkout."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else "unknown"


@torch.no_grad()
def _update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, 1 - decay)
        else:
            ema[name].copy_(value)


def _validated(model: nn.Module, ema: dict[str, Tensor], validate: Callable) -> dict[str, float]:
    """Numbers of ``validate`` on the EMA weights, with the model put back afterwards."""
    current = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(ema)
    model.eval()
    with torch.no_grad():
        values = {f"val_{k}": float(v) for k, v in validate(model).items()}
    model.load_state_dict(current)
    model.train()
    return values


def _save(
    out: Path, model: nn.Module, ema: dict, optimizer: torch.optim.Optimizer, step: int, minutes: float
) -> None:
    tensors = {f"model.{k}": v.detach().contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v.contiguous() for k, v in ema.items()}
    for index, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"opt.{index}.{k}": torch.as_tensor(v).clone() for k, v in slot.items()}
    clock = {"step": torch.tensor(step), "minutes": torch.tensor(minutes, dtype=torch.float64)}
    _replace(out / "state.safetensors", tensors | clock)
    _replace(out / "model.safetensors", {k: v.contiguous() for k, v in ema.items()})


def _replace(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".part")
    save_file({k: v.cpu().clone() for k, v in tensors.items()}, temporary)
    os.replace(temporary, path)


def _load_state(
    path: Path, model: nn.Module, ema: dict, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    tensors = load_file(path)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name, value in ema.items():
        value.copy_(tensors[f"ema.{name}"])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("opt."):
            _, index, name = key.split(".", 2)
            slots.setdefault(int(index), {})[name] = value
    state = optimizer.state_dict()
    optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
    return int(tensors["step"]), float(tensors["minutes"])


class _CsvLog:
    """Rows of numbers, appended and flushed; columns may differ from row to row."""

    columns = ("step", "minutes", "name", "value")

    def __init__(self, path: Path, append: bool) -> None:
        new = not (append and path.exists())
        self._file = path.open("w" if new else "a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        if new:
            self._writer.writerow(self.columns)

    def write(self, values: dict[str, float]) -> None:
        step, minutes = values.pop("step"), values.pop("minutes")
        for name, value in values.items():
            self._writer.writerow([step, f"{minutes:.3f}", name, f"{value:.6g}"])
        self._file.flush()

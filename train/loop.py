"""The one training loop: AdamW, EMA, time budget, CSV log, checkpoints that resume to the step.

A run folder holds ``config.json`` (settings and git revision), ``log.csv``, ``state.safetensors``
(everything needed to go on; see `train.state` for the other form) and ``model.safetensors`` (EMA
weights). A model gives the loss; the loop knows nothing else about it.

Processes: one, or several that a launcher such as ``torchrun`` started. Each then draws batches of
its own, gradients are averaged, every decision is the first process's, and only that one writes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn
from tqdm import tqdm

from train.state import broken, load_state, replace_file, save_state

LossFn = Callable[[nn.Module, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop.

    The learning rate warms up over ``warmup`` steps and decays to zero by cosine over the budget:
    whichever of ``max_steps`` and ``max_minutes`` is used up faster. On CUDA the model runs in bf16,
    the loss in float32. With ``parts`` the state is kept in files of at most 15 MB.
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
    parts: bool = False


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
        see the batches that it would have seen; another starts from its own beginning. Of several
        processes the one of rank ``r`` draws batch ``step * processes + r`` and needs the attribute.
    config : LoopConfig
    meta : dict, optional
        Stored in ``config.json`` beside the loop's settings.
    validate : callable, optional
        Called on the EMA weights at every save, in the first process; its numbers are logged as
        ``val_*``.
    resume : bool
        Continue from the state in the run folder; loading is strict.

    Raises
    ------
    StateError
        When there is no state to continue from, or it does not fit the model.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM, when the step is finished and the state is saved.
    """
    run = _Run(model, config, resume)
    if run.ranks > 1 and not hasattr(batches, "step"):
        raise TypeError(f"{run.ranks} processes need batches with a step, so that each draws its own")
    run.describe(meta or {}, resume)
    last_save = time.monotonic()
    progress = tqdm(
        total=config.max_steps, initial=run.step, dynamic_ncols=True, mininterval=5, disable=not run.first
    )
    averages: dict[str, float] = {}

    with _Interrupt() as interrupt:
        while True:
            used, stopped = run.budget(bool(interrupt.caught))
            if used >= 1 or stopped:
                break
            number = run.step * run.ranks + run.rank
            torch.manual_seed(config.seed * 1_000_003 + number)
            if hasattr(batches, "step"):
                batches.step = number  # type: ignore[attr-defined]
            losses = loss_fn(run.parallel, send_to_device(next(batches), run.device))
            row = run.advance(losses["loss"], used)
            progress.update()
            if run.step % config.log_every == 0:
                values = run.mean(losses)
                averages = {k: 0.8 * averages.get(k, v) + 0.2 * v for k, v in values.items()}
                progress.set_postfix({k: f"{v:.4f}" for k, v in averages.items()})
                run.log({**row, **values})
            if time.monotonic() - last_save > 60 * config.save_minutes:
                last_save = time.monotonic()
                run.save(validate)
        progress.close()
        run.ema = broadcast(run.ema)  # statistics of a batch may differ from process to process
        run.save(None if stopped else validate)
    if stopped:
        if run.first:
            tqdm.write(f"Stopped after step {run.step}; --resume goes on from the state in {run.out}.")
        interrupt.leave()
    return run.finish()


def is_first_process() -> bool:
    """Whether this process is the one that writes; true without a launcher."""
    return PartialState().is_main_process


def git_revision() -> str:
    """Current git commit, or ``unknown`` outside a checkout."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def run_record(run: Path) -> dict[str, Any]:
    """Data, steps, minutes and last validation loss of a run; of one from a bundle, the bundle's words.

    A run that nothing was trained in has data alone.
    """
    meta = json.loads((run / "config.json").read_text())
    if "record" in meta:
        return meta["record"]
    started = {"started_from": meta["init"]} if meta.get("init") else {}
    record = {**meta["data"], **started, "revision": meta["revision"]}
    if not (run / "log.csv").exists():
        return record
    with (run / "log.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    losses = [float(row["value"]) for row in rows if row["name"] == "val_loss"]
    agreement = {
        row["name"].removeprefix("val_"): round(float(row["value"]), 3)
        for row in rows
        if row["name"].startswith("val_") and row["name"].endswith("_r")
    }
    return record | {
        "steps": int(rows[-1]["step"]),
        "minutes": round(float(rows[-1]["minutes"]), 1),
        "val_loss": losses[-1],
        **({"agreement": agreement} if agreement else {}),
    }


class _Run:
    """What one process holds of a run: the model as it is and as it runs in parallel, and the rest."""

    def __init__(self, model: nn.Module, config: LoopConfig, resume: bool) -> None:
        self.out, self.config = Path(config.out), config
        self.out.mkdir(parents=True, exist_ok=True)
        on_cuda = config.device.startswith("cuda")
        self.accelerator = Accelerator(cpu=not on_cuda, mixed_precision="bf16" if on_cuda else "no")
        self.ranks, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.first = self.accelerator.is_main_process
        self.device = self.accelerator.device if self.ranks > 1 else torch.device(config.device)
        self.model = model.to(self.device).train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
        )
        self.ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.step, self.minutes, self._minutes_before = 0, 0.0, 0.0
        if resume:
            self._restore()
        self.parallel = self.accelerator.prepare_model(model, device_placement=False)
        self._start = time.monotonic()
        self._log: _CsvLog | None = None

    def describe(self, meta: dict, resume: bool) -> None:
        """Write ``config.json`` and begin the log or go on with it."""
        if self.first:
            about = {"loop": asdict(self.config), "processes": self.ranks, "revision": git_revision(), **meta}
            (self.out / "config.json").write_text(json.dumps(about, indent=1))
            self._log = _CsvLog(self.out / "log.csv", self.step if resume else None)

    def budget(self, stop: bool) -> tuple[float, bool]:
        """The first process's share of the budget used, and whether any process is told to stop."""
        self.minutes = self._minutes_before + (time.monotonic() - self._start) / 60
        used = max(self.step / self.config.max_steps, self.minutes / self.config.max_minutes)
        if self.ranks == 1:
            return used, stop
        mine = torch.tensor([used if self.first else 0, stop], dtype=torch.float64, device=self.device)
        both = self.accelerator.reduce(mine, "sum")
        return float(both[0]), bool(both[1] > 0)

    def advance(self, loss: Tensor, used: float) -> dict[str, float]:
        """One step of the optimizer and the mean; returns what there is to log about it."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup)
        rate = config.lr * warm * 0.5 * (1 + math.cos(math.pi * used))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.optimizer.step()
        self.step += 1
        self._update_ema(min(config.ema, self.step / (self.step + 9)))
        return {"lr": rate, "grad_norm": norm}

    def mean(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Losses averaged over the processes."""
        shared = self.accelerator.reduce({k: v.detach() for k, v in losses.items()}, "mean")
        return {k: float(v) for k, v in shared.items()}

    def log(self, values: dict[str, float]) -> None:
        """Append values to the log of the first process."""
        if self._log is not None:
            self._log.write(self.step, self.minutes, values)

    def save(self, validate: Callable | None) -> None:
        """Write state and weights, and log what ``validate`` finds; the first process only."""
        if not self.first:
            return
        save_state(self.out, self._tensors(), self.config.parts)
        replace_file(self.out / "model.safetensors", {k: v.contiguous() for k, v in self.ema.items()})
        if validate is not None:
            self.log(self._validated(validate))

    def finish(self) -> nn.Module:
        """The plain model with the mean as its weights."""
        model = self.accelerator.unwrap_model(self.parallel, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        model.load_state_dict(self.ema)
        return model.eval()

    @torch.no_grad()
    def _update_ema(self, decay: float) -> None:
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    def _validated(self, validate: Callable) -> dict[str, float]:
        """Numbers of ``validate`` on the EMA weights, with the model put back afterwards."""
        model = self.model
        current = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.ema)
        model.eval()
        with torch.no_grad():
            values = {f"val_{k}": float(v) for k, v in validate(model).items()}
        model.load_state_dict(current)
        model.train()
        return values

    def _tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""
        tensors = {f"model.{k}": v.detach().contiguous() for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v.contiguous() for k, v in self.ema.items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{index}.{k}": torch.as_tensor(v).clone() for k, v in slot.items()}
        clock = {"step": torch.tensor(self.step), "minutes": torch.tensor(self.minutes, dtype=torch.float64)}
        return tensors | clock

    def _restore(self) -> None:
        """Put the run folder's state into the model, the mean, the optimizer and the clock; strict."""
        tensors = load_state(self.out)
        try:
            self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
            for name, value in self.ema.items():
                value.copy_(tensors[f"ema.{name}"])
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith("opt."):
                    _, index, name = key.split(".", 2)
                    slots.setdefault(int(index), {})[name] = value
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
            self.step, self._minutes_before = int(tensors["step"]), float(tensors["minutes"])
        except KeyError as error:
            raise broken(self.out, f"it has no {error.args[0]}") from error
        except (RuntimeError, ValueError) as error:  # names or sizes of another model
            raise broken(self.out, " ".join(str(error).split())) from error


class _Interrupt:
    """Remembers the first SIGINT or SIGTERM, so that a run can save; the second acts as usual."""

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: object) -> None:
        self.caught = number
        self.__exit__()

    def leave(self) -> NoReturn:
        """Leave the program, as the signal asked."""
        if self.caught == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


class _CsvLog:
    """Rows of numbers, appended and flushed; columns may differ from row to row."""

    columns = ("step", "minutes", "name", "value")

    def __init__(self, path: Path, after: int | None) -> None:
        """Begin a log, or go on with one ``after`` a step: what a lost end of the run wrote is dropped."""
        rows: list[list[str]] = []
        if after is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as old:
                rows = [row for row in list(csv.reader(old))[1:] if len(row) == 4 and int(row[0]) <= after]
        temporary = path.with_suffix(".part")
        with temporary.open("w", newline="", encoding="utf-8") as new:
            csv.writer(new).writerows([self.columns, *rows])
        os.replace(temporary, path)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

    def write(self, step: int, minutes: float, values: dict[str, float]) -> None:
        """Append one row a value."""
        for name, value in values.items():
            self._writer.writerow([step, f"{minutes:.3f}", name, f"{float(value):.6g}"])
        self._file.flush()

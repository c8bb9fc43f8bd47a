"""Small ablations under one budget of steps, for docs/decisions.md: what each choice of training brings.

``python scripts/ablate.py curves --cache cache`` trains the curve network as it is and without one thing at a
time; ``latents`` compares the latent network's conditionings. Validation numbers are printed.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import torch
import typer

import train.curves as curves_task
from pkontext.codec import read_codec_folder
from pkontext.features import METRE, ROLL
from train.latents import train_latents
from train.loop import LoopConfig

app = typer.Typer(add_completion=False, no_args_is_help=True)
Cache = Annotated[Path, typer.Option(help="Folder of prepared data.")]
Codec = Annotated[Path, typer.Option(help="Run folder of an exported codec.")]
Out = Annotated[Path, typer.Option(help="Folder of the runs.")]
Steps = Annotated[int, typer.Option(help="Steps of each run.")]
Only = Annotated[list[str] | None, typer.Option(help="Names of the runs; all if left out.")]
CURVES = ("full", "no cues", "no written dynamics", "no variations", "no pure noise")


@app.command()
def curves(
    cache: Cache = Path("cache"),
    codec: Codec = Path("runs/codec"),
    out: Out = Path("runs/ablation"),
    steps: Steps = 400,
    only: Only = None,
) -> None:
    """Train the curve network without one thing at a time."""
    torch.set_num_threads(1)
    plain = curves_task.CurveData.window
    task = curves_task.task_loss

    def blind(self: curves_task.CurveData, *args: int, hidden: slice) -> tuple[np.ndarray, ...]:
        features, performed, inside = plain(self, *args)
        features[:, ROLL + METRE :][:, hidden] = 0
        return features, performed, inside

    def one_pace(self: curves_task.CurveData, index: int, start: int, frames: int, _: int = 0):
        return plain(self, index, start, frames, 0)

    windows = {
        "no cues": partial_method(blind, hidden=slice(None)),
        "no written dynamics": partial_method(blind, hidden=curves_task.WRITTEN),
        "no variations": one_pace,
    }
    losses = {"no pure noise": partial(task, pure=0.0)}
    for name in only or CURVES:
        loop = LoopConfig(str(out / name), max_steps=steps, max_minutes=1e6, lr=1e-3, save_minutes=1e6)
        folder = plain_files(cache, out / "plain") if name == "no variations" else cache
        with (
            mock.patch.object(curves_task, "task_loss", losses.get(name, task)),
            mock.patch.object(curves_task.CurveData, "window", windows.get(name, plain)),
        ):
            curves_task.train_curves(folder, loop, frame_sec(codec))
        report(out / name)


@app.command()
def latents(
    cache: Cache = Path("cache"),
    codec: Codec = Path("runs/codec"),
    out: Out = Path("runs/ablation"),
    steps: Steps = 300,
) -> None:
    """Compare what the latent network goes by: notes and deadpan, or deadpan latents alone."""
    torch.set_num_threads(1)
    for name in ("notes", "latents"):
        loop = LoopConfig(str(out / name), max_steps=steps, max_minutes=1e6, lr=1e-3, save_minutes=1e6)
        train_latents(cache, loop, frame_sec(codec), codec, conditioning=name)
        report(out / name)


def frame_sec(codec: Path) -> float:
    """Seconds of a latent frame."""
    entry = read_codec_folder(codec)[0]
    return entry.hop / entry.sample_rate


def partial_method(function, **fixed):
    """A method with some keywords fixed."""

    def method(self, *args):
        return function(self, *args, **fixed)

    return method


def plain_files(cache: Path, folder: Path) -> Path:
    """The prepared data without variations, whose names have a number after a space, as links."""
    for split in ("train", "val"):
        target = folder / "curves" / split
        target.mkdir(parents=True, exist_ok=True)
        for file in (cache / "curves" / split).glob("*.npz"):
            if " " not in file.name and not (target / file.name).exists():
                (target / file.name).symlink_to(file.resolve())
    return folder


def report(run: Path) -> None:
    """Print the last validation numbers of a run."""
    with (run / "log.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["name"].startswith("val_")]
    last = {row["name"]: float(row["value"]) for row in rows}
    typer.echo(f"{run.name}: " + ", ".join(f"{name} {value:.4f}" for name, value in last.items()))


if __name__ == "__main__":
    app()

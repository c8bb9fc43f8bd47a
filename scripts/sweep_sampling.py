"""Choose how the curves are sampled: guidance, temperature, spreads against humans, on validation works.

``python scripts/sweep_sampling.py --data PACK --setting guidance=2,temperature=0.7``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pkontext.bundle import open_bundle
from train import asap
from train import expression_metrics as em
from train.evaluate import sampler_changes
from train.evaluate_expression import measure_expression, measure_humans, with_sampler
from train.evaluate_report import Expression

COLUMNS = ("tempo r", "tempo consensus r", "velocity r", "velocity consensus r", "tempo std", "velocity std")


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True)],
    setting: Annotated[list[str], typer.Option(help="Comma-separated name=value; may be repeated.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    pieces: Annotated[int, typer.Option(help="Pieces, at most.")] = 15,
    seed: Annotated[int, typer.Option(help="Seed of the takes.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of results, to go on after an interruption.")] = Path(
        "runs/sweep"
    ),
) -> None:
    """Measure every setting on whole takes and print one line each."""
    opened = open_bundle(bundle)
    chosen = asap.pick(asap.read_index(data, split), per_piece=1)
    chosen = chosen[:: max(len(chosen) // pieces, 1)][:pieces]
    humans = [measure_humans(p) for p in chosen]
    typer.echo("| setting | " + " | ".join(COLUMNS) + " | JS inter-onset | JS velocity | length |")
    typer.echo("|---" * (len(COLUMNS) + 4) + "|")
    own = {name: np.mean([h[name] for h in humans if np.isfinite(h[name])]) for name in COLUMNS}
    typer.echo("| humans | " + " | ".join(f"{own[name]:.2f}" for name in COLUMNS) + " | | | 1 |")
    for text in setting:
        changed = with_sampler(opened, **sampler_changes(text.split(",")))
        takes = []
        for performance, human in zip(chosen, humans, strict=True):
            file = out / f"{opened.sha256[:12]} {text} {seed}" / f"{performance.name}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(measure_expression(performance, changed, seed, human, threads=1)))
            takes.append([json.loads(file.read_text())])
        found = Expression(humans, takes)
        cells = []
        for name in COLUMNS:
            mean, error, _ = em.mean_and_error(found.take_values(name))
            cells.append(f"{mean:.2f} ± {error:.2f}" if name.endswith(" r") else f"{mean:.2f}")
        divergence = []
        for feature in ("inter-onset", "velocity"):
            js = found.js(feature)
            divergence.append(f"{js['take'][0]:.3f} ({js['deadpan'][0] / js['take'][0]:.1f} ×)")
        length = np.mean(found.take_values("duration ratio"))
        typer.echo("| " + " | ".join([text, *cells, *divergence, f"{length:.3f}"]) + " |")


if __name__ == "__main__":
    typer.run(main)

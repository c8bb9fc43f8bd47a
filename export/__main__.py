"""``python -m export``: trained run folders to a bundle."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option(exists=True, file_okay=False)]


@app.callback()
def main() -> None:
    """Trained networks to ONNX bundles."""


@app.command()
def bundle(
    codec: Folder = Path("runs/codec"),
    curves: Folder = Path("runs/curves"),
    latents: Folder = Path("runs/latents"),
    out: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("pkontext/data/bundle"),
    identity: Annotated[str, typer.Option(help="Name of the bundle.")] = "piano-small",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    curve_steps: Annotated[int, typer.Option(help="Default network calls for a window of curves.")] = 8,
    latent_steps: Annotated[int, typer.Option(help="Default network calls for a window of latents.")] = 8,
    guidance: Annotated[float, typer.Option(help="Strength of guidance of the curves; 1 is none.")] = 2.0,
    temperature: Annotated[float, typer.Option(help="Scale of the noise of the curves.")] = 0.7,
    seconds: Annotated[
        float, typer.Option(help="Longest rendered part of a performance, for the card.")
    ] = 150.0,
) -> None:
    """Export the three trained parts as one verified bundle."""
    from export.bundle import ATTRIBUTION, write_bundle
    from export.card import WEIGHTS_LICENCE, model_card
    from export.dit import load_dit
    from pkontext.bundle import LicenceEntry, SamplerEntry

    curve_model, curve_meta = load_dit(curves)
    latent_model, latent_meta = load_dit(latents)
    training = {
        "hardware": "CPU, two cores",
        "seed": curve_meta["loop"]["seed"],
        "codec": _record(codec) | {"parameters": _codec_size(codec)},
        "curves": _record(curves) | {"parameters": sum(p.numel() for p in curve_model.parameters())},
        "latents": _record(latents)
        | {"parameters": sum(p.numel() for p in latent_model.parameters()), "seconds": seconds},
    }
    sampler = SamplerEntry(
        solver="dpmpp",
        curve_steps=curve_steps,
        latent_steps=latent_steps,
        curve_window=curve_meta["frames"],
        curve_overlap=64,
        latent_window=latent_meta["frames"],
        latent_overlap=24,
        context_frames=latent_meta["frames"] + 24,
        guidance=guidance,
        temperature=temperature,
    )
    path = write_bundle(
        out, codec, curve_model, latent_model, curve_meta["stats"], sampler, identity, version, training,
        documents={"LICENSE.weights.txt": WEIGHTS_LICENCE, "MODEL_CARD.md": model_card(training)},
        licences=(LicenceEntry("LICENSE.weights.txt", "CC-BY-NC-SA-4.0", ATTRIBUTION),),
    )  # fmt: skip
    typer.echo(f"{path}: {sum(f.stat().st_size for f in path.iterdir()) / 1e6:.1f} MB")


def _codec_size(run: Path) -> int:
    from train.codec import load_codec

    return sum(p.numel() for p in load_codec(run).parameters())


def _record(run: Path) -> dict:
    """Data, steps, minutes and last validation loss of a run folder."""
    meta = json.loads((run / "config.json").read_text())
    with (run / "log.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    losses = [float(row["value"]) for row in rows if row["name"] == "val_loss"]
    return {
        **meta["data"],
        "steps": int(rows[-1]["step"]),
        "minutes": round(float(rows[-1]["minutes"]), 1),
        "val_loss": losses[-1],
        "revision": meta["revision"],
    }


if __name__ == "__main__":
    app()

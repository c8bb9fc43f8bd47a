"""``python -m export``: trained run folders to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from train.dit_model import DiT

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
    refine: Annotated[
        Path | None, typer.Option(help="Run folder of the decoder's refinement, if there was one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("pkontext/data/bundle"),
    identity: Annotated[str, typer.Option(help="Name of the bundle.")] = "piano-small",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    curve_steps: Annotated[int, typer.Option(help="Default network calls for a window of curves.")] = 8,
    latent_steps: Annotated[
        int, typer.Option(help="Default network calls for a window of latents; guidance doubles them.")
    ] = 4,
    guidance: Annotated[float, typer.Option(help="Strength of guidance of the curves; 1 is none.")] = 2.5,
    temperature: Annotated[float, typer.Option(help="Scale of the noise of the curves.")] = 0.9,
    tempo_spread: Annotated[float, typer.Option(help="Factor on deviations of tempo.")] = 1.0,
    loudness_spread: Annotated[float, typer.Option(help="Factor on deviations of loudness.")] = 1.0,
    latent_guidance: Annotated[
        float, typer.Option(help="Strength of guidance of the latents by notes; 1 is none.")
    ] = 1.25,
    latent_temperature: Annotated[float, typer.Option(help="Scale of the noise of the latents.")] = 0.3,
    velocity_contrast: Annotated[
        float, typer.Option(help="Factor on differences of velocity that the latents are shown.")
    ] = 2.0,
    seconds: Annotated[
        float, typer.Option(help="Longest rendered part of a performance, for the card.")
    ] = 150.0,
) -> None:
    """Export the three trained parts as one verified bundle."""
    from export.bundle import ATTRIBUTION, write_bundle
    from export.card import WEIGHTS_LICENCE, model_card
    from export.dit import load_dit
    from pkontext.bundle import LicenceEntry, SamplerEntry
    from train.loop import run_record

    curve_model, curve_meta = load_dit(curves)
    latent_model, latent_meta = load_dit(latents)
    training = {
        "hardware": "CPU, two cores",
        "seed": curve_meta["loop"]["seed"],
        "codec": _codec_record(codec, refine),
        "curves": run_record(curves) | _network(curve_model),
        "latents": {"seconds": seconds} | run_record(latents) | _network(latent_model),
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
        tempo_spread=tempo_spread,
        loudness_spread=loudness_spread,
        conditioning=latent_meta.get("conditioning", "notes"),
        latent_guidance=latent_guidance,
        latent_temperature=latent_temperature,
        velocity_contrast=velocity_contrast,
    )
    path = write_bundle(
        out, codec, curve_model, latent_model, curve_meta["stats"], sampler, identity, version, training,
        documents={"LICENSE.weights.txt": WEIGHTS_LICENCE, "MODEL_CARD.md": model_card(training)},
        licences=(LicenceEntry("LICENSE.weights.txt", "CC-BY-NC-SA-4.0", ATTRIBUTION),),
    )  # fmt: skip
    typer.echo(f"{path}: {sum(f.stat().st_size for f in path.iterdir()) / 1e6:.1f} MB")


@app.command()
def music2latent(
    weights: Annotated[
        Path | None, typer.Option(help="music2latent.pt; without it, the package's own.", dir_okay=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder of the codec.")] = Path("runs/music2latent"),
    block: Annotated[int, typer.Option(help="Latent frames that a call keeps.", min=1)] = 32,
    encode_context: Annotated[int, typer.Option(help="Latent frames of context to encode.", min=0)] = 13,
    decode_context: Annotated[int, typer.Option(help="Latent frames of context to decode.", min=0)] = 31,
    data: Annotated[
        Path | None, typer.Option(help="The (n)ASAP pack, to measure statistics.", exists=True)
    ] = None,
    soundfont: Annotated[
        Path | None, typer.Option(help="Piano to render it with; without it, the package's.", exists=True)
    ] = None,
    excerpts: Annotated[int, typer.Option(help="Excerpts to measure on.", min=1)] = 40,
    seconds: Annotated[float, typer.Option(help="Seconds of each.", min=1)] = 10.0,
    workers: Annotated[int, typer.Option(help="Processes that render.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the choice of excerpts.")] = 0,
) -> None:
    """Turn the weights of Sony's Music2Latent (CC BY-NC 4.0) into a codec for training and bundles."""
    import numpy as np

    from export import music2latent as source
    from pkontext.bundle import PACKAGE_DATA
    from pkontext.errors import PkError

    try:
        unet = source.load_unet(weights or source.default_weights())
    except PkError as error:
        typer.echo(f"{error.message} {error.hint}", err=True)
        raise typer.Exit(error.exit_code) from error
    audio = None
    if data is not None:
        from train.codec import render_excerpts

        font = soundfont or PACKAGE_DATA / "FluidR3_piano.sf2"
        audio = render_excerpts(data, "train", [font], seconds, excerpts, seed, workers) / np.float32(32767)
    else:
        typer.echo(
            "Latents will not be normalised: there is no data to measure them on. "
            "Name the (n)ASAP pack with --data before training on them.",
            err=True,
        )
    errors = source.export_music2latent(unet, out, block, encode_context, decode_context, audio)
    for name, error in errors.items():
        typer.echo(f"{name}: largest difference {error:.2g}")
    for name in ("encoder", "decoder"):
        typer.echo(f"{out / name}.onnx: {(out / f'{name}.onnx').stat().st_size / 1e6:.1f} MB")
    typer.echo(f"The weights are licensed under {source.TERMS}.")


def _codec_record(run: Path, refined: Path | None = None) -> dict:
    """What a bundle says of its codec's training; ``refined`` is the run that went on with its decoder."""
    from pkontext.codec import read_codec_folder

    entry, _ = read_codec_folder(run)
    if entry.kind == "music2latent":
        from export.graphs import parameters

        count = sum(parameters(run / f"{name}.onnx") for name in ("encoder", "decoder"))
        return {"weights": "Music2Latent of Sony CSL Paris, CC BY-NC 4.0", "parameters": count}
    from train.codec import load_codec
    from train.loop import run_record

    model = load_codec(run)
    record = run_record(run) | {"parameters": sum(p.numel() for p in model.parameters())}
    record["sizes"] = model.encoder.config.to_dict()
    if refined is not None and (refined / "log.csv").exists():
        record["refined"] = run_record(refined)
    return record


def _network(model: DiT) -> dict:
    """Parameters and sizes of a network."""
    return {"parameters": sum(p.numel() for p in model.parameters()), "sizes": model.config.to_dict()}


if __name__ == "__main__":
    app()

"""``python -m train``: prepare data and train the codec and the two networks, step by step or all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pkontext.errors import PkError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True, file_okay=False)]
Out = Annotated[Path, typer.Option(help="Run folder.")]
Cache = Annotated[Path, typer.Option(help="Folder of prepared data.")]
CodecFolder = Annotated[Path, typer.Option(help="Run folder of an exported codec.")]
Soundfonts = Annotated[list[Path], typer.Option(help="Soundfont; may be given more than once.")]
Minutes = Annotated[float, typer.Option(help="Time budget.")]
Steps = Annotated[int, typer.Option(help="Step budget.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Resume = Annotated[bool, typer.Option(help="Go on from the run folder's last state.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 takes torch's default.")]
Parts = Annotated[bool, typer.Option("--parts", help="Keep the state in files of at most 15 MB.")]


@app.command()
def codec(
    data: Data,
    soundfont: Soundfonts,
    out: Out = Path("runs/coarse"),
    max_minutes: Minutes = 55,
    max_steps: Steps = 100_000,
    seed: Seed = 0,
    resume: Resume = False,
    parts: Parts = False,
    device: Device = "cpu",
    threads: Threads = 0,
) -> None:
    """Train the coarse codec on rendered performances and export its graphs into the run folder."""
    from export.codec import export_codec
    from train.codec import train_codec
    from train.loop import LoopConfig, is_first_process

    _set_threads(threads)
    loop = LoopConfig(
        str(out), max_steps, max_minutes, lr=5e-4, ema=0.995, seed=seed, device=device, parts=parts
    )
    model = train_codec(data, soundfont, loop, resume=resume)
    if is_first_process():
        typer.echo(f"largest difference from torch: {export_codec(model.cpu(), out)}")


@app.command()
def fine(
    data: Data,
    soundfont: Soundfonts,
    coarse: Annotated[Path, typer.Option(help="Run folder of the coarse codec.")] = Path("runs/coarse"),
    out: Out = Path("runs/codec"),
    seed: Seed = 0,
) -> None:
    """Add fine channels to a coarse codec, and export the graphs of both together into the run folder."""
    from export.codec import export_codec
    from train.codec import fit_fine

    model = fit_fine(coarse, data, soundfont, out, seed=seed)
    typer.echo(f"largest difference from torch: {export_codec(model, out)}")


@app.command()
def restore(
    bundle: Annotated[Path, typer.Option(help="A bundle's folder.", exists=True, file_okay=False)] = Path(
        "pkontext/data/bundle"
    ),
    runs: Annotated[Path, typer.Option(help="Folder for the run folders.")] = Path("runs/restored"),
) -> None:
    """Make run folders of a bundle's networks, to train them on or to start others from."""
    from train.restore import restore_bundle

    for folder in restore_bundle(bundle, runs):
        typer.echo(folder)


@app.command()
def refine(
    codec: CodecFolder = Path("runs/codec"),
    out: Out = Path("runs/refine"),
    max_minutes: Minutes = 30,
    max_steps: Steps = 100_000,
    seed: Seed = 0,
    resume: Resume = False,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-4,
    parts: Parts = False,
    device: Device = "cpu",
    threads: Threads = 0,
) -> None:
    """Train the codec's decoder on, with its encoder and latents as they are, and export it again."""
    from export.codec import export_codec
    from train.codec import refine_decoder
    from train.loop import LoopConfig, is_first_process

    _set_threads(threads)
    loop = LoopConfig(
        str(out), max_steps, max_minutes, lr=lr, ema=0.998, seed=seed, device=device, parts=parts
    )
    model = refine_decoder(codec, loop, resume=resume)
    if is_first_process():
        typer.echo(f"largest difference from torch: {export_codec(model.cpu(), codec)}")


@app.command()
def prepare(
    data: Data,
    soundfont: Annotated[
        list[Path], typer.Option(help="Soundfont of deadpan and performance; further ones play variations.")
    ],
    codec: CodecFolder = Path("runs/codec"),
    out: Cache = Path("cache"),
    latents_per_piece: Annotated[int, typer.Option(help="Performances of a piece to render and encode.")] = 1,
    skip: Annotated[int, typer.Option(help="Performances of a piece to pass over first.")] = 0,
    seconds: Annotated[float, typer.Option(help="Render at most this much of each.")] = 150.0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    curves: Annotated[bool, typer.Option(help="Also prepare the curves of every performance.")] = True,
    variations: Annotated[int, typer.Option(help="Further files of each performance's curves.")] = 2,
    latent_variations: Annotated[
        int,
        typer.Option(help="Further files of each performance's latents: transposed, other pace and piano."),
    ] = 0,
) -> None:
    """Prepare curves of every performance, and latents of some, in a cache that can be resumed."""
    from train.prepare import prepare as run

    counts = run(
        data, out, codec, soundfont, latents_per_piece=latents_per_piece, seconds=seconds,
        workers=workers, skip=skip, curves=curves, variations=variations,
        latent_variations=latent_variations,
    )  # fmt: skip
    typer.echo(", ".join(f"{value} {name}" for name, value in counts.items()))


@app.command()
def curves(
    cache: Cache = Path("cache"),
    codec: CodecFolder = Path("runs/codec"),
    out: Out = Path("runs/curves"),
    max_minutes: Minutes = 40,
    max_steps: Steps = 100_000,
    seed: Seed = 0,
    resume: Resume = False,
    parts: Parts = False,
    device: Device = "cpu",
    threads: Threads = 0,
) -> None:
    """Train the curve network."""
    from train.curves import train_curves
    from train.loop import LoopConfig

    _set_threads(threads)
    loop = LoopConfig(str(out), max_steps, max_minutes, lr=1e-3, seed=seed, device=device, parts=parts)
    train_curves(cache, loop, _frame_sec(codec), resume=resume)


@app.command()
def latents(
    cache: Cache = Path("cache"),
    codec: CodecFolder = Path("runs/codec"),
    out: Out = Path("runs/latents"),
    max_minutes: Minutes = 70,
    max_steps: Steps = 100_000,
    seed: Seed = 0,
    resume: Resume = False,
    init: Annotated[Path | None, typer.Option(help="Run folder of a latent network to start from.")] = None,
    conditioning: Annotated[
        str, typer.Option(help="notes: performed notes and deadpan; latents: deadpan latents alone.")
    ] = "notes",
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    parts: Parts = False,
    device: Device = "cpu",
    threads: Threads = 0,
) -> None:
    """Train the latent network."""
    from train.latents import train_latents
    from train.loop import LoopConfig

    _set_threads(threads)
    loop = LoopConfig(str(out), max_steps, max_minutes, lr=lr, seed=seed, device=device, parts=parts)
    train_latents(cache, loop, _frame_sec(codec), codec, resume=resume, init=init, conditioning=conditioning)


@app.command(name="all")
def everything(
    data: Data,
    soundfont: Annotated[Path, typer.Option(help="Soundfont of the piano to learn.")],
    runs: Annotated[Path, typer.Option(help="Folder for the run folders.")] = Path("runs"),
    cache: Cache = Path("cache"),
    out: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("pkontext/data/bundle"),
    codec_soundfont: Annotated[
        list[Path] | None, typer.Option(help="Further piano for the codec to hear; may be repeated.")
    ] = None,
    codec_minutes: Minutes = 55,
    refine_minutes: Minutes = 60,
    curve_minutes: Minutes = 75,
    latent_minutes: Minutes = 72,
    max_steps: Steps = 100_000,
    seed: Seed = 0,
    parts: Parts = False,
    device: Device = "cpu",
) -> None:
    """Train the codec, prepare the data, train both networks, and export the bundle."""
    from export.__main__ import bundle

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise typer.BadParameter("`all` prepares data too: run it in one process, or launch its steps apart.")
    shared = {"max_steps": max_steps, "seed": seed, "parts": parts, "device": device}
    pianos = [soundfont, *(codec_soundfont or [])]
    codec(data, pianos, runs / "coarse", codec_minutes, **shared)
    fine(data, pianos, runs / "coarse", runs / "codec", seed)
    refine(runs / "codec", runs / "refine", refine_minutes, **shared)
    prepare(data, [soundfont], runs / "codec", cache, latents_per_piece=2)
    curves(cache, runs / "codec", runs / "curves", curve_minutes, **shared)
    latents(cache, runs / "codec", runs / "latents", latent_minutes, **shared)
    bundle(runs / "codec", runs / "curves", runs / "latents", runs / "refine", out)


def _set_threads(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _frame_sec(codec_folder: Path) -> float:
    import json

    entry = json.loads((codec_folder / "codec.json").read_text())
    return entry["hop"] / entry["sample_rate"]


def main() -> None:
    """Run the program; an expected failure ends in two sentences instead of a traceback."""
    try:
        app()
    except PkError as error:
        print(f"error: {error.message}\n{error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

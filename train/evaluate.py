"""Measure a bundle on held-out works, beside deadpan and the humans who play them.

``python -m train.evaluate --data PACK --markdown docs/evaluation.md --figures docs/images``

Two parts: expression of whole takes on their notes (`train.evaluate_expression`), and excerpts as audio, by
transcription and distances (`train.evaluate_audio`). Every piece, excerpt and row is kept as soon as it is
found, under ``--out`` in a folder named by bundle and settings, so that a run that was stopped goes on where
it was. That name knows nothing of the code: after a change of it, take another ``--out``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from pkontext.bundle import Bundle, SamplerEntry, open_bundle
from train import asap
from train.evaluate_audio import choose_excerpt, measure_row, row_names
from train.evaluate_expression import measure_expression, measure_humans, with_sampler
from train.evaluate_report import (
    Expression,
    by_row,
    expression_table,
    note_table,
    sound_table,
    target_table,
)

__all__ = ["measure_expression", "measure_humans", "with_sampler"]

MARK = ("<!-- table -->", "<!-- /table -->")
#: Raise it when a measure changes its meaning, so that older results are not taken for new ones.
MEASURES = 1
AUDIO_PACKAGES = ("transkun", "moduleconf", "mir_eval", "parangonar", "partitura")
Result = dict[str, Any]


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True, file_okay=False)],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results; found ones are kept.")] = Path(
        "runs/evaluate"
    ),
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "test",
    pieces: Annotated[int, typer.Option(help="Pieces for expression, at most.", min=1)] = 1000,
    excerpts: Annotated[int, typer.Option(help="Excerpts to transcribe, each of another piece.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt.")] = 12.0,
    seeds: Annotated[str, typer.Option(help="Seeds of the takes, with commas between.")] = "1,2",
    audio_seeds: Annotated[int, typer.Option(help="How many of the seeds are transcribed.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Network calls for a window of latents.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another sampler setting, NAME=VALUE; may be given more than once."),
    ] = None,
    expression: Annotated[bool, typer.Option(help="Measure expression.")] = True,
    audio: Annotated[bool, typer.Option(help="Measure audio (a minute or two of CPU time a row).")] = True,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Put the tables between this file's marks.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for plots of best and worst cases.")] = None,
) -> None:
    """Measure a bundle on held-out works."""
    require((*(AUDIO_PACKAGES if audio else ()), *(("matplotlib",) if figures is not None else ())))
    changes = sampler_changes(change or [])
    opened = with_sampler(open_bundle(bundle), **changes)
    chosen = asap.pick(asap.read_index(data, split), per_piece=1)[:pieces]
    if not chosen:
        raise typer.BadParameter(f"The pack has no pieces in its split '{split}'. Choose train, val or test.")
    numbers = [int(seed) for seed in seeds.split(",")]
    folder = out / digest(opened, changes)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = opened.manifest
    (folder / "settings.json").write_text(
        json.dumps({"bundle": manifest.id, "version": manifest.version, "sha256": opened.sha256, **changes})
    )
    tables = []
    found, rows, measured = None, None, []
    if expression:
        found = run_expression(chosen, opened, numbers, out / f"humans-{MEASURES}", folder, threads)
        tables += [*expression_table(found), ""]
    if audio:
        _limit_torch(threads)
        every = max(len(chosen) // max(excerpts, 1), 1)
        measured = run_audio(
            chosen[::every][:excerpts], opened, seconds, steps, numbers[:audio_seeds], folder, threads
        )
        rows = by_row([results for _, results in measured])
        tables += [*note_table(rows, seconds), "", *sound_table(rows, read_vectors(measured)), ""]
    tables += target_table(found, rows)
    if figures is not None:
        from train.evaluate_figures import draw_spectrograms, draw_tempo_curves

        files = draw_tempo_curves(found, figures) if found is not None else {}
        files |= draw_spectrograms(measured, figures) if rows is not None else {}
        tables += ["", *image_lines(files, markdown)]
    text = "\n".join(tables)
    typer.echo(text)
    if markdown is not None:
        write_between_marks(markdown, text)


def run_expression(
    chosen: list[asap.Performance],
    bundle: Bundle,
    seeds: list[int],
    humans_folder: Path,
    folder: Path,
    threads: int,
) -> Expression:
    """Expression of every piece and seed; what is in the folders is read instead."""
    humans, takes = [], []
    for performance in tqdm(chosen, desc="expression"):
        file = humans_folder / f"{performance.split}-{performance.name}.json"
        human = kept(file, lambda p=performance: measure_humans(p))  # type: ignore[misc]
        humans.append(human)
        takes.append(
            [
                kept(
                    folder / "expression" / f"{performance.name}.seed{seed}.json",
                    lambda p=performance, s=seed, h=human: measure_expression(p, bundle, s, h, threads),  # type: ignore[misc]
                )
                for seed in seeds
            ]
        )
    return Expression(humans, takes)


def run_audio(
    chosen: list[asap.Performance],
    bundle: Bundle,
    seconds: float,
    steps: int | None,
    seeds: list[int],
    folder: Path,
    threads: int,
) -> list[tuple[Path, list[Result]]]:
    """Every row of every excerpt, and the folder that it is kept in."""
    measured = []
    rows = row_names(seeds)
    with tqdm(total=len(chosen) * len(rows), desc="audio") as bar:
        for performance in chosen:
            excerpt = choose_excerpt(performance, seconds)
            where = folder / "audio" / f"{performance.name}.{seconds:g}s.{steps or 'default'}"
            results = []
            for row in rows:
                results.append(measure_row(excerpt, bundle, row, where, steps, threads))
                bar.update()
            measured.append((where, results))
    return measured


def read_vectors(measured: list[tuple[Path, list[Result]]]) -> dict[str, list[np.ndarray]]:
    """Embeddings by row, in the order of `train.evaluate_report.by_row`."""
    vectors: dict[str, list[np.ndarray]] = {}
    for where, results in measured:
        for result in results:
            array = np.load(where / f"{result['row']}.npy").astype(np.float32)
            vectors.setdefault(result["row"].split("-seed")[0], []).append(array)
    return vectors


def kept(file: Path, make: Any) -> Result:
    """What is in the file, or what ``make`` returns, written there whole or not at all."""
    if not file.exists():
        found = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.replace(file)
    return json.loads(file.read_text())


def digest(bundle: Bundle, changes: dict[str, float]) -> str:
    """What names the results of a bundle with its settings."""
    named = f"{MEASURES} {bundle.sha256} {sorted(changes.items())}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def sampler_changes(given: list[str]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` by the types of `SamplerEntry`."""
    types = {
        field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(SamplerEntry)
    }
    changes = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in types:
            raise typer.BadParameter(f"'{name}' is no sampler setting. Choose one of {', '.join(types)}.")
        try:
            changes[name] = types[name](value)
        except ValueError as error:
            raise typer.BadParameter(
                f"'{value}' is no value for {name}. Write it as {name}=NUMBER."
            ) from error
    return changes


def require(packages: tuple[str, ...]) -> None:
    """Stop with the next step when a package of the ``evaluate`` extra is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise typer.BadParameter(
            f"Not installed: {', '.join(missing)}. Run `pip install 'pkontext[evaluate]'`,"
            " or leave that part out with --no-audio and without --figures."
        )


def image_lines(files: dict[Path, str], markdown: Path | None) -> list[str]:
    """Markdown that shows the images, with paths as seen from the Markdown file."""
    base = Path.cwd() if markdown is None else markdown.resolve().parent
    return [f"![{title}]({os.path.relpath(file.resolve(), base)})" for file, title in files.items()]


def write_between_marks(file: Path, text: str) -> None:
    """Replace what is between the file's two marks."""
    before, rest = file.read_text(encoding="utf-8").split(MARK[0])
    file.write_text(f"{before}{MARK[0]}\n{text}\n{MARK[1]}{rest.split(MARK[1])[1]}", encoding="utf-8")


def _limit_torch(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    typer.run(main)

"""Choose how latents are sampled: does the neural voice play as loud as it is asked to? On validation works.

``PYTHONPATH=. python scripts/sweep_latents.py --data PACK --setting latent_guidance=1.5,latent_steps=4``

The takes are those of `train.evaluate_voices`, with the same notes in every setting. Loudness is that
module's; notes are compared with those asked for, sound with the sampler voice of the take and with that
through the codec. The first row is the bundle as it is; rows after it show what changed, with the standard
error of the paired difference. Of an excerpt, the transcriber hears the first 16 s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pkontext.bundle import Bundle, open_bundle
from pkontext.engine import RenderSettings, open_rendering
from train import asap
from train.codec_metrics import flux_correlation, level_error, mel_distance, spectral_distance
from train.evaluate import sampler_changes
from train.evaluate_audio import Excerpt, choose_excerpt
from train.evaluate_expression import with_sampler
from train.evaluate_voices import Voices, measure_voice, onset_levels, rank_correlation, render_voices
from train.transcribe import WINDOW_SEC, note_scores, transcribe

Row = dict[str, float]
COLUMNS = {
    "loudness, rank r": 3,
    "dB a step": 3,
    "scatter, dB": 2,
    "level, dB": 2,
    "LSD to the sampler, dB": 2,
    "mel to the codec, dB": 2,
    "flux r": 3,
    "s per s": 3,
    "heard velocity, rank r": 3,
    "F1": 3,
}
BY_TRANSCRIPTION = ("heard velocity, rank r", "F1")


@dataclass(frozen=True)
class Piece:
    """An excerpt and its take, which has the same notes in every setting."""

    excerpt: Excerpt
    voices: Voices


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True)],
    setting: Annotated[
        list[str] | None, typer.Option(help="Comma-separated name=value of the sampler; may be repeated.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    pieces: Annotated[int, typer.Option(help="Excerpts, each of another piece.", min=2)] = 15,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt.", min=2)] = 12.0,
    seed: Annotated[int, typer.Option(help="Seed of the takes.", min=0)] = 1,
    notes: Annotated[bool, typer.Option(help="Transcribe, too: some 8 s an excerpt and setting.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 1,
) -> None:
    """Measure every setting on the same takes and print one line each."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    opened = open_bundle(bundle)
    chosen = asap.pick(asap.read_index(data, split), per_piece=1)
    chosen = chosen[:: max(len(chosen) // pieces, 1)][:pieces]
    takes = []
    for performance in chosen:
        excerpt = choose_excerpt(performance, seconds)
        takes.append(Piece(excerpt, render_voices(excerpt, opened, seed, threads)))
    columns = {name: digits for name, digits in COLUMNS.items() if notes or name not in BY_TRANSCRIPTION}
    typer.echo("| setting | " + " | ".join(columns) + " |")
    typer.echo("|---" * (len(columns) + 1) + "|")
    coded = [measure(take.voices, take.voices.audio["sampler-codec"], False) for take in takes]
    typer.echo(line("sampler voice through the codec", coded, None, columns))
    base: list[Row] | None = None
    for text in ["", *(setting or [])]:
        changed = with_sampler(opened, **sampler_changes(text.split(","))) if text else opened
        rows = [perform(take, changed, seed, threads, notes) for take in takes]
        typer.echo(line(text or "as it is", rows, base, columns))
        base = base or rows


def perform(take: Piece, bundle: Bundle, seed: int, threads: int, notes: bool) -> Row:
    """Render the neural voice of a take by a bundle and measure it."""
    excerpt = take.excerpt
    settings = RenderSettings(seed, excerpt.tempo, start_sec=excerpt.start_sec, end_sec=excerpt.end_sec)
    rendering = open_rendering(excerpt.score, bundle, settings, threads)
    rendering.notes()
    begun = time.perf_counter()
    audio = np.concatenate(list(rendering.chunks(voice="neural")))[:, 0]
    spent = time.perf_counter() - begun
    if not np.array_equal(rendering.notes()[0], take.voices.take.notes):
        raise typer.BadParameter("A setting changed the notes. Leave the settings of curves alone.")
    return {**measure(take.voices, audio, notes), "s per s": spent / (len(audio) / take.voices.rate)}


def measure(voices: Voices, audio: np.ndarray, transcribed: bool) -> Row:
    """Numbers of audio ``[samples]`` that plays the notes of a take."""
    asked, rate = voices.take.notes, voices.rate
    sampler, coded = voices.audio["sampler"], voices.audio["sampler-codec"]
    length = min(map(len, (audio, sampler, coded)))
    velocity = asked["velocity"].astype(float)
    louder = onset_levels(audio, asked, rate) - onset_levels(voices.flat["sampler-codec"], asked, rate)
    step, zero = np.polyfit(velocity, louder, 1)
    row = {
        "loudness, rank r": rank_correlation(velocity, louder),
        "dB a step": float(step),
        "scatter, dB": float(np.std(louder - step * velocity - zero)),
        "level, dB": level_error(sampler[:length], audio[:length]),
        "LSD to the sampler, dB": spectral_distance(sampler[:length], audio[:length]),
        "mel to the codec, dB": mel_distance(coded[:length], audio[:length]),
        "flux r": flux_correlation(coded[:length], audio[:length]),
    }
    if not transcribed:
        return row
    heard = transcribe(audio[: round(WINDOW_SEC * rate)], rate, one_window=True)
    found = measure_voice(
        Voices(voices.take, rate, {"neural": audio}, {"neural": voices.flat["neural"]}),
        "neural",
        lambda *_: heard,
    )
    return {**row, "heard velocity, rank r": found["velocity rank"], "F1": note_scores(asked, heard)["f1"]}


def line(name: str, rows: list[Row], base: list[Row] | None, columns: dict[str, int]) -> str:
    """A row of the table: means over excerpts, and the paired change from the base."""
    cells = []
    for column, digits in columns.items():
        values = np.array([row.get(column, np.nan) for row in rows])
        if np.isnan(values).all():
            cells.append("")
            continue
        cell = f"{np.nanmean(values):.{digits}f}"
        if base is not None:
            change = values - np.array([row[column] for row in base])
            change = change[np.isfinite(change)]
            error = change.std(ddof=1) / np.sqrt(len(change))
            cell += f" ({change.mean():+.{digits}f} ± {error:.{digits}f})"
        cells.append(cell)
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    typer.run(main)

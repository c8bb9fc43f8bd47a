"""Measure a bundle on held-out works: expression against the human, and notes by transcription.

``python -m train.evaluate --data PACK --markdown docs/evaluation.md``

Expression is measured on the take's notes, without transcription, over whole pieces: tempo as the
log2 ratio of performed to deadpan beat periods, velocity note by note, both against the human who
is paired with the score; beside it the mean correlation of two humans who play the same piece.
Notes are measured by transcribing excerpts: every voice against the notes that it was asked to
play, and the codec's ceiling, which is the sampler's audio passed through the codec.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pkontext.bundle import Bundle, open_bundle
from pkontext.curves import notes_from_curves
from pkontext.engine import RenderSettings, open_rendering
from pkontext.score import load_score
from train import asap
from train.pairs import load_pair

MARK = ("<!-- table -->", "<!-- /table -->")
Row = dict[str, float]


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True)],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "test",
    pieces: Annotated[int, typer.Option(help="Pieces for expression, at most.")] = 24,
    excerpts: Annotated[int, typer.Option(help="Excerpts to transcribe.")] = 4,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt.")] = 15.0,
    steps: Annotated[int | None, typer.Option(help="Network calls for a window of latents.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the takes.")] = 1,
    markdown: Annotated[Path | None, typer.Option(help="Rewrite the table in this file.")] = None,
) -> None:
    """Measure a bundle on held-out works."""
    opened = open_bundle(bundle)
    chosen = asap.pick(asap.read_index(data, split), per_piece=1)[:pieces]
    expression = [measure_expression(p, opened, seed) for p in chosen]
    humans = [row for p in chosen for row in human_agreement(data, split, p.piece)]
    every = max(len(chosen) // max(excerpts, 1), 1)
    notes = [measure_notes(p, opened, seconds, steps, seed) for p in chosen[::every][:excerpts]]
    table = "\n".join([*_expression_table(expression, humans), "", *_note_table(notes, seconds)])
    typer.echo(table)
    if markdown is not None:
        before, rest = markdown.read_text(encoding="utf-8").split(MARK[0])
        after = rest.split(MARK[1])[1]
        markdown.write_text(f"{before}{MARK[0]}\n{table}\n{MARK[1]}{after}", encoding="utf-8")


def measure_expression(performance: asap.Performance, bundle: Bundle, seed: int) -> Row:
    """Correlations and spreads of a whole take against the human performance of the same score."""
    codec = bundle.manifest.codec
    frame_sec = codec.hop / codec.sample_rate
    pair = load_pair(performance, frame_sec, jitter=False)
    settings = RenderSettings(seed=seed, tempo=pair.deadpan.tempo, voice="sampler")
    rendering = open_rendering(load_score(performance.score), bundle, settings)
    source = rendering.curve_source
    source.extend(pair.deadpan.frames)
    time_map = source.time_map()
    beats = deadpan_beats(performance, pair.deadpan.score_sec, pair.deadpan.tempo, frame_sec)
    human, ours = tempo_curve(beats[0], beats[1]), tempo_curve(beats[0], time_map.to_performed(beats[0]))
    played = notes_from_curves(pair.aligned_deadpan, source.curves(), frame_sec, time_map)
    velocity = played["velocity"].astype(float)
    truth = pair.aligned_performed["velocity"].astype(float)
    return {
        "tempo r": correlation(human, ours),
        "velocity r": correlation(velocity, truth),
        "tempo std": float(ours.std()),
        "human tempo std": float(human.std()),
        "velocity std": float(velocity.std()),
        "human velocity std": float(truth.std()),
        "duration ratio": float(np.ptp(time_map.to_performed(beats[0])) / np.ptp(beats[0])),
    }


def human_agreement(data: Path, split: str, piece: str, most: int = 4) -> list[Row]:
    """Tempo and velocity correlation of pairs of humans who play the same piece."""
    players = [p for p in asap.read_index(data, split) if p.piece == piece][:most]
    curves, velocities = [], []
    for player in players:
        arrays = asap.read_pairs(player.alignment)
        beats = dict(
            zip(np.round(arrays["beat_score"], 3).tolist(), arrays["beat_perf"].tolist(), strict=True)
        )
        curves.append(beats)
        keys = zip(np.round(arrays["score_onset"], 3).tolist(), arrays["pitch"].tolist(), strict=True)
        velocities.append(dict(zip(keys, arrays["perf_vel"].tolist(), strict=True)))
    rows = []
    for a, b in itertools.combinations(range(len(players)), 2):
        beats = np.array(sorted(set(curves[a]) & set(curves[b])))
        notes = sorted(set(velocities[a]) & set(velocities[b]))
        if len(beats) < 8 or len(notes) < 20:
            continue
        tempi = [tempo_curve(beats, np.array([curves[i][k] for k in beats])) for i in (a, b)]
        levels = [np.array([velocities[i][k] for k in notes], float) for i in (a, b)]
        rows.append({"tempo r": correlation(*tempi), "velocity r": correlation(*levels)})
    return rows


def measure_notes(
    performance: asap.Performance, bundle: Bundle, seconds: float, steps: int | None, seed: int
) -> dict[str, Row]:
    """Transcription scores of the first ``seconds`` (performed) of each voice."""
    from train.transcribe import note_scores, transcribe

    codec = bundle.manifest.codec
    pair = load_pair(performance, codec.hop / codec.sample_rate, jitter=False)
    score = load_score(performance.score)
    tempo = pair.deadpan.tempo
    end = float(score.notes["onset_sec"][0]) + seconds * tempo
    rows: dict[str, Row] = {}
    for voice in ("sampler", "neural"):
        settings = RenderSettings(seed=seed, tempo=tempo, voice=voice, steps=steps, end_sec=end)
        rendering = open_rendering(score, bundle, settings)
        audio = np.concatenate(list(rendering.chunks()))
        notes = rendering.notes()[0]
        rows[voice] = note_scores(notes, transcribe(audio, codec.sample_rate))
        if voice == "sampler":
            coded = rendering.codec.decode(rendering.codec.encode(audio))[: len(audio)]
            rows["sampler through the codec"] = note_scores(notes, transcribe(coded, codec.sample_rate))
    return rows


def deadpan_beats(
    performance: asap.Performance, score_sec: float, tempo: float, frame_sec: float
) -> tuple[np.ndarray, np.ndarray]:
    """Annotated beats on the deadpan axis and as performed, both ``[beats]`` and increasing."""
    from pkontext.deadpan import LEAD_FRAMES

    arrays = asap.read_pairs(performance.alignment)
    deadpan = (arrays["beat_score"].astype(np.float64) - score_sec) / tempo + LEAD_FRAMES * frame_sec
    performed = arrays["beat_perf"].astype(np.float64)
    keep = np.concatenate([[True], (np.diff(deadpan) > 0.02) & (np.diff(performed) > 0.02)])
    return deadpan[keep], performed[keep]


def tempo_curve(beats: np.ndarray, performed: np.ndarray) -> np.ndarray:
    """Log2 ratio of performed to deadpan beat period for every beat, ``[beats - 1]``."""
    return np.log2(np.maximum(np.diff(performed), 0.02) / np.maximum(np.diff(beats), 0.02))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; zero where one side does not vary."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _expression_table(rows: list[Row], humans: list[Row]) -> list[str]:
    def cell(values: list[float]) -> str:
        return f"{np.mean(values):.2f} ± {np.std(values) / np.sqrt(max(len(values), 1)):.2f}"

    def column(name: str, source: list[Row]) -> str:
        return cell([row[name] for row in source])

    return [
        f"Expression on {len(rows)} pieces (mean ± standard error over pieces):",
        "",
        "| | ours against a human | two humans | deadpan |",
        "|---|---|---|---|",
        f"| beat tempo r | {column('tempo r', rows)} | {column('tempo r', humans)} | 0 |",
        f"| velocity r | {column('velocity r', rows)} | {column('velocity r', humans)} | 0 |",
        f"| beat tempo std, log2 | {column('tempo std', rows)} | {column('human tempo std', rows)} | 0 |",
        f"| velocity std | {column('velocity std', rows)} | {column('human velocity std', rows)} | 0 |",
        f"| length over the deadpan's | {column('duration ratio', rows)} | 1 by definition | 1 |",
    ]


def _note_table(rows: list[dict[str, Row]], seconds: float) -> list[str]:
    gathered: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for voice, scores in row.items():
            gathered[voice].append(scores)
    lines = [
        f"Notes by transcription of {len(rows)} excerpts of {seconds:g} s, against the notes of the take"
        " (50 ms, mean; F1 with its standard error):",
        "",
        "| voice | precision | recall | F1 | onset jitter, ms |",
        "|---|---|---|---|---|",
    ]
    for voice, scores in gathered.items():
        mean = {k: float(np.mean([s[k] for s in scores])) for k in scores[0]}
        error = np.std([s["f1"] for s in scores]) / np.sqrt(len(scores))
        lines.append(
            f"| {voice} | {mean['precision']:.3f} | {mean['recall']:.3f} |"
            f" {mean['f1']:.3f} ± {error:.3f} | {mean['jitter_ms']:.1f} |"
        )
    return lines


if __name__ == "__main__":
    typer.run(main)

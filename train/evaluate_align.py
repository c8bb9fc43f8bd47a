"""Measure how well deadpan and performance are paired, against the note alignment of the data set.

``python -m train.evaluate_align --data PACK --soundfont SF2 --codec RUN --markdown docs/alignment.md``

Both sides of a piece are rendered and encoded as for training. Every method maps performed time to
deadpan time; the error is taken at every aligned note. What was measured of a piece is kept in
``runs/evaluate_align``, so an interrupted run goes on where it stopped. librosa and dtaidistance
are of the `evaluate` extra.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pkontext import synth
from pkontext.codec import Codec, open_codec_folder
from pkontext.deadpan import TAIL_FRAMES
from train import align
from train.asap import Performance
from train.pairs import index, load_pair

MARK = ("<!-- table -->", "<!-- /table -->")
#: Errors in ms of every note, and seconds that the method took.
Measured = dict[str, Any]
HEAD = "| method | frame, ms | median, ms | 95 %, ms | within 50 ms | within 100 ms | seconds |"
COARSE, FINE, SAMPLED = "latent DTW", "latent DTW, then the fine pass", "the same, at latent frames"
CHROMA, CHROMA_FINE = "chroma and onsets, librosa", "chroma and onsets, librosa, short frames"
PAPER, PAPER_C = "dtaidistance, the paper's settings", "dtaidistance, compiled, the same settings"
FLOOR = "floor: through the mean of every chord"
#: The paper's band in frames (arXiv 2606.12282, code of the authors).
PAPER_WINDOW = 768
#: Seconds of music that are cut out of one side of a damaged pair.
CUT_SEC = 10.0


@dataclass(frozen=True)
class Sides:
    """A rendered and encoded pair; note times in ms of the aligned notes on both sides."""

    audio: tuple[np.ndarray, np.ndarray]
    latents: tuple[np.ndarray, np.ndarray]
    deadpan_ms: np.ndarray
    performed_ms: np.ndarray


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True)],
    soundfont: Annotated[Path, typer.Option(help="Soundfont for both sides.", exists=True)],
    codec: Annotated[Path, typer.Option(help="Run folder of an exported codec.", exists=True)],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    pieces: Annotated[
        int, typer.Option(help="Pieces, at most, from all over the split; one performance each.")
    ] = 24,
    seconds: Annotated[float, typer.Option(help="Render this much of a performance, at most.")] = 150.0,
    slow_pieces: Annotated[int, typer.Option(help="Pieces for dtaidistance.")] = 4,
    baselines: Annotated[bool, typer.Option(help="Also measure librosa and dtaidistance.")] = True,
    out: Annotated[Path, typer.Option(help="What was measured is kept here.")] = Path("runs/evaluate_align"),
    markdown: Annotated[Path | None, typer.Option(help="Rewrite the table in this file.")] = None,
) -> None:
    """Measure the alignment on held-out works."""
    if baselines:
        for name in ("librosa", "dtaidistance"):
            _needed(name)
    opened = open_codec_folder(codec, 1, "cpu")
    listed = index(data, split, per_piece=1)
    chosen = listed[:: max(len(listed) // pieces, 1)][:pieces]
    every = max(len(chosen) // max(slow_pieces, 1), 1)
    slow = {p.name for p in chosen[::every][:slow_pieces]}
    key = f"{seconds} {_hash(codec / 'encoder.onnx')} {_hash(soundfont)}"
    ours_key = f"{key} {_hash(Path(align.__file__))}"
    rows: dict[str, list[Measured]] = {}
    quality: dict[str, list[list[float]]] = {}
    other: np.ndarray | None = None
    for performance in chosen:
        sides = _sides(performance, opened, soundfont, seconds, out, key)
        if sides is None:
            typer.echo(f"{performance.name}: fewer than 20 aligned notes, left out")
            continue
        frame_sec = opened.frame_sec
        spec = align.FineSpec(opened.entry.sample_rate, opened.entry.hop)
        groups: list[tuple[str, str, Callable[[], dict[str, Measured]]]] = [
            ("ours", ours_key, lambda s=sides, p=spec: measure_ours(s, p))
        ]
        if baselines and performance.name in slow:
            groups.append(("dtaidistance", key, lambda s=sides, f=frame_sec: measure_paper(s, f, False)))
        if baselines:
            groups.append(("librosa", key, lambda s=sides, p=spec: measure_chroma(s, p)))
            groups.append(("compiled", key, lambda s=sides, f=frame_sec: measure_paper(s, f, True)))
        found: dict[str, Measured] = {}
        for group, group_key, measure in groups:
            found |= _cached(out / f"{performance.name}.{group}.json", group_key, measure)
        for name, measured in found.items():
            rows.setdefault(name, []).append({**measured, "piece": performance.name})
        for kind, values in judge(sides, other, frame_sec).items():
            quality.setdefault(kind, []).append([values.cost, values.strain, values.good])
        other = sides.latents[1]
        typer.echo(f"{performance.name}: median {np.median(np.abs(found[FINE]['error_ms'])):.1f} ms")
    table = "\n".join([*_error_table(rows, slow), "", *_quality_table(quality)])
    typer.echo(table)
    if markdown is not None:
        before, rest = markdown.read_text(encoding="utf-8").split(MARK[0])
        after = rest.split(MARK[1])[1]
        markdown.write_text(f"{before}{MARK[0]}\n{table}\n{MARK[1]}{after}", encoding="utf-8")


def measure_ours(sides: Sides, spec: align.FineSpec) -> dict[str, Measured]:
    """Coarse pass, fine pass, and the floor that chords played unevenly leave to any monotone map."""
    _align(*(part[:64] for part in sides.latents))  # compile, or load from the cache
    latent_sec = spec.latent_hop / spec.sample_rate
    started = time.process_time()
    whites, path = _align(*sides.latents)
    position = align.position_from_path(path, len(whites[1]))
    coarse_sec = time.process_time() - started
    started = time.process_time()
    pairs = list(zip(sides.audio, whites, strict=True))
    fine = align.refine_position(position, pairs[0], pairs[1], spec)
    fine_sec = time.process_time() - started + coarse_sec
    sampled = align.at_latent_frames(fine, spec)
    return {
        COARSE: _measured(sides, position, latent_sec, coarse_sec),
        FINE: _measured(sides, fine, spec.frame_sec, fine_sec),
        SAMPLED: _measured(sides, sampled, latent_sec, fine_sec),
        FLOOR: {"error_ms": _floor(sides).round(1).tolist(), "sec": 0.0, "frame_ms": 0.0},
    }


def measure_chroma(sides: Sides, spec: align.FineSpec) -> dict[str, Measured]:
    """`librosa.sequence.dtw` on chroma and its rises, at latent frames and at a quarter of them."""
    librosa = _needed("librosa")
    result = {}
    for name, hop in ((CHROMA, spec.latent_hop), (CHROMA_FINE, spec.latent_hop // 4)):
        noise = np.random.default_rng(0).standard_normal(16 * hop).astype(np.float32)
        small = _chroma(librosa, noise, hop, spec.sample_rate)
        librosa.sequence.dtw(small, small, metric="euclidean")  # compiled on the first call
        started = time.process_time()
        a, b = (_chroma(librosa, audio, hop, spec.sample_rate) for audio in sides.audio)
        _, path = librosa.sequence.dtw(a, b, metric="euclidean")
        position = align.position_from_path(path[::-1], b.shape[1])
        seconds = time.process_time() - started
        result[name] = _measured(sides, position, hop / spec.sample_rate, seconds)
    return result


def measure_paper(sides: Sides, frame_sec: float, compiled: bool) -> dict[str, Measured]:
    """dtaidistance on the latents as they are: band of 768 frames, pruned at the Euclidean distance."""
    ndim, ed = _needed("dtaidistance.dtw_ndim"), _needed("dtaidistance.ed")
    a, b = (part.astype(np.double) for part in sides.latents)
    started = time.process_time()
    most = ed.distance(a, b, use_ndim=True)
    path = np.array(ndim.warping_path(a, b, window=PAPER_WINDOW, max_dist=most, use_c=compiled))
    position = align.position_from_path(path, len(b))
    seconds = time.process_time() - started
    return {PAPER_C if compiled else PAPER: _measured(sides, position, frame_sec, seconds)}


def judge(sides: Sides, other: np.ndarray | None, frame_sec: float) -> dict[str, align.Quality]:
    """Quality of the right pair, of pairs with music cut out of a side, and of a wrong pair."""
    deadpan, performed = sides.latents
    kinds = {
        "right": (deadpan, performed),
        f"{CUT_SEC:g} s cut from the performance": (deadpan, _cut(performed, CUT_SEC / frame_sec)),
        f"{CUT_SEC:g} s cut from the deadpan": (_cut(deadpan, CUT_SEC / frame_sec), performed),
        f"{CUT_SEC / 2:g} s cut from the performance": (deadpan, _cut(performed, CUT_SEC / 2 / frame_sec)),
    }
    if other is not None:
        frames = min(len(deadpan), len(other))
        kinds["another piece"] = (deadpan[:frames], other[:frames])
    result = {}
    for kind, pair in kinds.items():
        whites, path = _align(*pair)
        result[kind] = align.alignment_quality(*whites, path)
    return result


def _align(deadpan: np.ndarray, performed: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    mean, transform = align.whitening(np.concatenate([deadpan, performed]))
    whites = align.whiten(deadpan, mean, transform), align.whiten(performed, mean, transform)
    return whites, align.dtw_path(*whites)[0]


def _cut(latents: np.ndarray, frames: float) -> np.ndarray:
    at = round(0.4 * len(latents))
    return np.delete(latents, np.s_[at : at + round(frames)], axis=0)


def _measured(sides: Sides, position: np.ndarray, frame_sec: float, seconds: float) -> Measured:
    """Error of a position curve at every aligned note; frame ``m`` is centred on ``m + 1/2``."""
    frame_ms = 1000 * frame_sec
    place = np.interp(sides.performed_ms / frame_ms - 0.5, np.arange(len(position)), position)
    error = (place + 0.5) * frame_ms - sides.deadpan_ms
    return {"error_ms": error.round(1).tolist(), "sec": seconds, "frame_ms": frame_ms}


def _floor(sides: Sides) -> np.ndarray:
    chords, member = np.unique(sides.deadpan_ms.round(), return_inverse=True)
    played = np.bincount(member, sides.performed_ms) / np.bincount(member)
    rising = np.maximum.accumulate(played) + 1e-6 * np.arange(len(played))
    return np.interp(sides.performed_ms, rising, chords) - sides.deadpan_ms


def _chroma(librosa: Any, audio: np.ndarray, hop: int, rate: int) -> np.ndarray:
    """Unit chroma above its rises, ``[24, frames]``; frames are centred as latent frames are."""
    frames = len(audio) // hop
    shifted = np.append(audio[hop // 2 :], np.zeros(hop, np.float32))
    size = max(4096, 2 * hop)
    power = librosa.feature.chroma_stft(y=shifted, sr=rate, n_fft=size, hop_length=hop, norm=None)[:, :frames]
    unit = librosa.util.normalize(power, norm=2, axis=0)
    level = np.log1p(100 * power / power.max())
    rise = np.maximum(np.diff(level, axis=1, prepend=level[:, :1]), 0)
    return np.concatenate([unit, rise / max(np.percentile(np.linalg.norm(rise, axis=0), 95), 1e-9)])


def _sides(
    performance: Performance, codec: Codec, soundfont: Path, seconds: float, out: Path, key: str
) -> Sides | None:
    """Render both sides, and encode them unless their latents are in ``out``."""
    frame_sec = codec.frame_sec
    pair = load_pair(performance, frame_sec)
    inside = pair.aligned_performed["onset_sec"] < seconds
    if inside.sum() < 20:
        return None
    spec = synth.SynthSpec(soundfont, sample_rate=codec.entry.sample_rate)
    ends = [notes["onset_sec"][inside].max() for notes in (pair.aligned_deadpan, pair.aligned_performed)]
    audio = []
    for notes, pedals, end in zip((pair.deadpan.notes, pair.notes), (None, pair.pedals), ends, strict=True):
        frames = int(end / frame_sec) + TAIL_FRAMES
        played = notes[notes["onset_sec"] < frames * frame_sec]
        events = synth.events_from_notes(played, pedals, spec.sample_rate)
        audio.append(np.concatenate(list(synth.render(events, spec, frames * codec.entry.hop)))[:, 0])
    kept = out / f"{performance.name}.{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if kept.exists():
        with np.load(kept) as archive:
            latents = [archive[name].astype(np.float32) for name in ("deadpan", "performed")]
    else:
        latents = [np.concatenate(list(codec.encode_stream(iter([part[:, None]])))) for part in audio]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, deadpan=latents[0].astype(np.float16), performed=latents[1].astype(np.float16))
    times = [1000.0 * notes["onset_sec"][inside] for notes in (pair.aligned_deadpan, pair.aligned_performed)]
    return Sides((audio[0], audio[1]), (latents[0], latents[1]), times[0], times[1])


def _cached(path: Path, key: str, measure: Callable[[], dict[str, Measured]]) -> dict[str, Measured]:
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return kept["methods"]
    methods = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": key, "methods": methods}), encoding="utf-8")
    part.replace(path)
    return methods


def _needed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise SystemExit(
            f"The package for {name} could not be imported ({error}). Install the evaluate extra:"
            " pip install 'pkontext[evaluate]', or leave the baselines out with --no-baselines."
        ) from error


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _error_table(rows: dict[str, list[Measured]], slow: set[str]) -> list[str]:
    notes = sum(len(row["error_ms"]) for row in rows[COARSE])
    lines = [
        f"{len(rows[COARSE])} pieces, {notes} notes pooled; ± is the standard deviation of the pieces'"
        " medians. Seconds are of processor time for one piece, without rendering and encoding:",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        _line(name, rows[name])
        for name in (COARSE, FINE, SAMPLED, PAPER_C, CHROMA, CHROMA_FINE, FLOOR)
        if name in rows
    ]
    if PAPER not in rows:
        return lines
    same = [row for row in rows[COARSE] if row["piece"] in slow]
    ours = np.mean([row["sec"] for row in same])
    lines += [
        "",
        f"dtaidistance against ours on {len(same)} of the pieces, the same latents; the ratio is of the mean"
        " times:",
        "",
        HEAD + " times ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (COARSE, PAPER, PAPER_C):
        some = [row for row in rows[name] if row["piece"] in slow]
        lines.append(f"{_line(name, some)} {np.mean([row['sec'] for row in some]) / ours:.0f} |")
    return lines


def _line(name: str, rows: list[Measured]) -> str:
    errors = np.abs(np.concatenate([row["error_ms"] for row in rows]))
    spread = np.std([np.median(np.abs(row["error_ms"])) for row in rows])
    frame, seconds = rows[0]["frame_ms"], np.mean([row["sec"] for row in rows])
    return (
        f"| {name} | {f'{frame:.1f}' if frame else '–'} | {np.median(errors):.1f} ± {spread:.1f} |"
        f" {np.percentile(errors, 95):.0f} | {100 * np.mean(errors < 50):.1f} % |"
        f" {100 * np.mean(errors < 100):.1f} % | {f'{seconds:.2f}' if seconds else '–'} |"
    )


def _quality_table(quality: dict[str, list[list[float]]]) -> list[str]:
    lines = [
        f"Pairs that the rule leaves out (cost above {align.MAX_COST:g} or strain above"
        f" {align.MAX_STRAIN:g}):",
        "",
        "| pair | left out | cost, smallest to largest | strain, smallest to largest |",
        "|---|---|---|---|",
    ]
    for kind, rows in quality.items():
        cost, strain, good = np.array(rows, float).T
        lines.append(
            f"| {kind} | {int((good == 0).sum())} of {len(good)} | {cost.min():.2f} to {cost.max():.2f} |"
            f" {strain.min():.2f} to {strain.max():.2f} |"
        )
    return lines


if __name__ == "__main__":
    typer.run(main)

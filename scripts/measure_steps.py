"""Few steps: what the networks' output loses with fewer network calls, by solver.

``PYTHONPATH=. python scripts/measure_steps.py --cache CACHE``

The latent network performs excerpts of human performances: notes, deadpan and the position of every
frame are the prepared ones, windows and noise are those of `pkontext.engine`. Its decoded latents
are compared with the decoded true ones (what the codec can do) and with the sampler that was
encoded. The curve network performs the beginnings of the same pieces; its curves are compared with
the human's. Every result is kept in a file of lines, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pkontext import synth
from pkontext.bundle import Bundle, open_bundle
from pkontext.codec import Codec, open_codec
from pkontext.curves import LOUDNESS, TEMPO
from pkontext.features import latent_local, roll
from pkontext.perform import CurveSource
from pkontext.runtime import Graph
from pkontext.sampler import LATENT_STAGE, sample, window_noise
from pkontext.take import RenderSettings
from pkontext.windows import LATENT_LOOKAHEAD, Window, context_window, window_grid
from train.codec_metrics import flux_correlation, mel_distance, spectral_distance
from train.curves import read_curves

#: Where in a piece an excerpt starts, as a share of what is prepared of it.
START = 0.2


@dataclass(frozen=True)
class Excerpt:
    """Part of a prepared performance, with its audio by the sampler and by the codec, ``[samples]``."""

    name: str
    arrays: dict[str, np.ndarray]
    first: int
    frames: int
    sampler: np.ndarray
    coded: np.ndarray


@dataclass(frozen=True)
class Setting:
    """How the flow is integrated."""

    calls: int
    solver: str


def main(
    cache: Annotated[Path, typer.Option(help="Folder of prepared data.")] = Path("cache"),
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Results, one a line.")] = Path("out/measure_steps.jsonl"),
    excerpts: Annotated[int, typer.Option(help="Excerpts.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt of latents.")] = 12.0,
    curve_seconds: Annotated[float, typer.Option(help="Length of an excerpt of curves.")] = 60.0,
    calls: Annotated[
        list[int] | None, typer.Option(help="Network calls of a window; may be repeated.")
    ] = None,
    solver: Annotated[list[str] | None, typer.Option(help="Solver; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the takes.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the networks.")] = 1,
) -> None:
    """Measure quality and time against the number of network calls."""
    opened = open_bundle(bundle)
    settings = [
        Setting(n, s) for s in solver or ("euler", "dpmpp", "heun") for n in calls or (4, 8, 16, 32, 128)
    ]
    kept = Results(out)
    about = {"bundle": f"{opened.manifest.id} {opened.manifest.version}", "seed": seed}
    codec = open_codec(opened, threads, "cpu")
    latents = Graph(opened.graph_path("dit_latents"), threads, "cpu")
    curves = Graph(opened.graph_path("dit_curves"), threads, "cpu")
    names: dict[str, list[dict]] = {"latents": [], "curves": []}
    for path in spaced(sorted((cache / "latents" / "val").glob("*.npz")), excerpts):
        key = {**about, "network": "latents", "excerpt": path.name, "seconds": seconds}
        asked = [{**key, "calls": s.calls, "solver": s.solver} for s in settings]
        ceiling = {**key, "calls": 0, "solver": "the codec"}
        if not all(kept.has(k) for k in [ceiling, *asked]):
            excerpt = read_excerpt(path, opened, codec, seconds)
            kept.get(ceiling, lambda e=excerpt: against(e, e.coded))
            for k, s in zip(asked, settings, strict=True):
                kept.get(k, lambda e=excerpt, s=s: measure_latents(e, opened, codec, latents, s, seed))
        names["latents"] += [ceiling, *asked]
    for path in spaced(sorted((cache / "curves" / "val").glob("*.npz")), excerpts):
        key = {**about, "network": "curves", "excerpt": path.name, "seconds": curve_seconds}
        for s in settings:
            k = {**key, "calls": s.calls, "solver": s.solver}
            kept.get(k, lambda p=path, s=s: measure_curves(p, opened, curves, s, curve_seconds, seed))
            names["curves"].append(k)
    typer.echo(f"{about['bundle']}, seed {seed}, {excerpts} excerpts (mean ± standard error over them)")
    for network, keys in names.items():
        length = seconds if network == "latents" else curve_seconds
        typer.echo(f"\n{network}, {length:g} s each:\n")
        typer.echo(table([(k, kept.get(k)) for k in keys]))


def measure_latents(
    excerpt: Excerpt, bundle: Bundle, codec: Codec, graph: Graph, setting: Setting, seed: int
) -> dict[str, float]:
    """Distances of an excerpt that the latent network performed, and seconds a second of audio takes."""
    begun = time.perf_counter()
    latents = perform(excerpt, bundle, graph, setting, seed)
    took = time.perf_counter() - begun
    true = excerpt.arrays["latents"][excerpt.first : excerpt.first + excerpt.frames].astype(np.float32)
    audio = codec.decode(latents).mean(1)
    return {
        **against(excerpt, audio),
        "LSD to the codec, dB": spectral_distance(excerpt.coded, audio),
        "mel, dB": mel_distance(excerpt.coded, audio),
        "flux r": flux_correlation(excerpt.coded, audio),
        "latent MSE": float(np.mean((latents - true) ** 2)),
        "s per s": took / (excerpt.frames * codec.frame_sec),
    }


def against(excerpt: Excerpt, audio: np.ndarray) -> dict[str, float]:
    """Log-spectral distance to the audio that was encoded."""
    return {"LSD to the sampler, dB": spectral_distance(excerpt.sampler, audio)}


def perform(excerpt: Excerpt, bundle: Bundle, graph: Graph, setting: Setting, seed: int) -> np.ndarray:
    """Latents of an excerpt, float32 ``[frames, dim]``, by the bare network: the engine's windows and inputs,
    without its guidance, contrast and temperature.
    """
    sampler, codec = bundle.manifest.sampler, bundle.manifest.codec
    frame_sec, size, dim = codec.hop / codec.sample_rate, sampler.latent_window, codec.dim
    notes, position = excerpt.arrays["notes"], excerpt.arrays["position"]
    end, deadpan = excerpt.arrays["end_sec"], excerpt.arrays["deadpan_latents"].astype(np.float32)

    def window_latents(window: Window, tail: np.ndarray) -> np.ndarray:
        given = np.zeros((1, size, dim), np.float32)
        known = np.zeros_like(given)
        given[0, : window.given], known[0, : window.given] = tail, 1
        columns = (notes["onset_sec"], end, end, notes["pitch"], notes["velocity"])
        painted = roll(*columns, window.start, size, frame_sec)
        shown = context_window(deadpan, position, window.start, size)
        inputs = {
            "known": known,
            "local": latent_local(painted, shown["same"], size, dim)[None],
            "position": np.arange(size, dtype=np.float32)[None],
            "context": shown["context"][None],
            "context_position": shown["context_position"][None],
        }

        def predict(x: np.ndarray, when: float) -> np.ndarray:
            return graph(x=x, time=np.array([when], np.float32), **inputs)

        noise = window_noise(seed, LATENT_STAGE, window.number, given.shape)
        return sample(predict, noise, given, known, setting.calls, setting.solver)[0]

    kept: list[np.ndarray] = []
    tail, last = np.zeros((0, dim), np.float32), excerpt.first + excerpt.frames
    for window in window_grid(size, sampler.latent_overlap, LATENT_LOOKAHEAD, excerpt.first):
        state = window_latents(window, tail)
        stop = min(window.stop, last)
        kept.append(state[window.given : stop - window.start])
        tail = state[: stop - window.start][-sampler.latent_overlap :]
        if window.stop >= last:
            return np.concatenate(kept)
    raise AssertionError("the grid of windows is endless")


def measure_curves(
    path: Path, bundle: Bundle, graph: Graph, setting: Setting, seconds: float, seed: int
) -> dict[str, float]:
    """Spread of the curves of a take over the human's, correlation with them, and time."""
    codec = bundle.manifest.codec
    frame_sec = codec.hop / codec.sample_rate
    deadpan, human = read_curves(path, frame_sec)
    frames = min(round(seconds / frame_sec), len(human))
    sampler = replace(bundle.manifest.sampler, curve_steps=setting.calls, solver=setting.solver)
    source = CurveSource(graph, replace(bundle.manifest, sampler=sampler), deadpan, RenderSettings(seed=seed))
    begun = time.perf_counter()
    source.extend(frames)
    took, made = time.perf_counter() - begun, source.committed * frame_sec
    ours, human = source.curves()[:frames], human[:frames]

    def both(channel: int | slice) -> tuple[np.ndarray, np.ndarray]:
        return tuple(x[:, channel].reshape(frames, -1).mean(1) for x in (ours, human))

    row: dict[str, float] = {}
    for name, channel in (("tempo", TEMPO), ("loudness", LOUDNESS)):
        a, b = both(channel)
        row[f"{name} spread over human's"] = float(a.std() / b.std())
        row[f"{name} r"] = float(np.corrcoef(a, b)[0, 1])
    return {
        **row,
        "calls with guidance": setting.calls * (1 + (sampler.guidance != 1)),
        "s per s": took / made,
    }


def read_excerpt(path: Path, bundle: Bundle, codec: Codec, seconds: float) -> Excerpt:
    """Read a prepared performance and make the audio of an excerpt that has a window's room after it."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    manifest, hop = bundle.manifest, bundle.manifest.codec.hop
    room = len(arrays["latents"]) - manifest.sampler.latent_window
    frames = min(round(seconds / codec.frame_sec), room)
    first = min(int(START * len(arrays["latents"])), room - frames)
    spec = synth.SynthSpec(bundle.soundfont, manifest.synth.gain, manifest.codec.sample_rate)
    events = synth.events_from_notes(arrays["notes"], arrays["pedals"], spec.sample_rate)
    audio = np.concatenate(list(synth.render(events, spec, (first + frames) * hop))).mean(1)
    coded = codec.decode(arrays["latents"][first : first + frames].astype(np.float32)).mean(1)
    return Excerpt(path.name, arrays, first, frames, audio[first * hop :], coded)


def spaced(paths: list[Path], count: int) -> list[Path]:
    """``count`` of the paths, as far apart as they go."""
    if not paths:
        raise typer.BadParameter("There is no prepared validation data; run `python -m train prepare` first.")
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)]


class Results:
    """Measured rows in a file, by what they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows = {json.dumps(key): row for key, row in map(json.loads, lines)}

    def has(self, key: dict) -> bool:
        """Whether a row was measured before."""
        return json.dumps(key) in self._rows

    def get(self, key: dict, measure: Callable[[], dict[str, float]] | None = None) -> dict[str, float]:
        """The row of a key; measured and written now if it is new."""
        if not self.has(key):
            assert measure is not None
            self._rows[json.dumps(key)] = row = measure()
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([key, row]) + "\n")
            typer.echo(f"{key['network']} {key['solver']} {key['calls']} {key['excerpt'][:40]}", err=True)
        return self._rows[json.dumps(key)]


def table(rows: list[tuple[dict, dict[str, float]]]) -> str:
    """Markdown: a line for each solver and number of calls, mean and standard error over excerpts."""
    columns = list(max((row for _, row in rows), key=len))
    groups: dict[tuple[str, int], list[dict[str, float]]] = {}
    for key, row in rows:
        groups.setdefault((key["solver"], key["calls"]), []).append(row)

    def cell(values: list[float]) -> str:
        if not values:
            return ""
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return f"{np.mean(values):.3g}" + ("" if np.isnan(error) else f" ± {error:.2g}")

    lines = ["| solver | calls | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for (solver, calls), found in groups.items():
        cells = [cell([row[c] for row in found if c in row]) for c in columns]
        lines.append(f"| {solver} | {calls or ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)

"""How fast the chain is on this machine, stage by stage: ``make bench``.

Every piece is rendered in a process of its own, so that start-up and peak memory are those of a real
run. Real-time factor (RTF) is render time over audio time: below 1 is faster than it plays. The
baseline is measured in the same process: the sampling that the paper publishes, 64 Heun steps or 128
network calls for each window, with our latent network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pkontext.errors import PkError

DEMO = Path(__file__).resolve().parent.parent / "pkontext" / "data" / "demo.mid"
PAPER_CALLS = 128
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
SYNTH, ENCODE, CURVES, LATENTS, DECODE, PHASE, REST = STAGES = (
    "deadpan synth",
    "STFT and encode",
    "curve windows",
    "latent windows",
    "decode graph",
    "phase and inverse STFT",
    "opening and the rest",
)


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="length of the long piece (default 3)")
    parser.add_argument("--bundle", type=Path, help="folder of the model (default: the built-in one)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the networks (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also rewrite the table in this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(render(**json.loads(options.worker))))
        return 0
    try:
        return bench(options)
    except PkError as error:
        print(f"Error: {error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code


def bench(options: argparse.Namespace) -> int:
    """Render the pieces, each in a fresh process, and report."""
    from pkontext.bundle import open_bundle

    bundle = open_bundle(options.bundle)
    if options.markdown and not has_markers(options.markdown):
        print(f"Error: {options.markdown} has no lines {START} and {END}.", file=sys.stderr)
        return 2
    job = {"bundle": str(bundle.path.resolve()), "threads": options.threads}
    note("filling the compiler's cache")
    in_fresh_process({**job, "minutes": None, "first_audio_only": True})
    pieces = {}
    for name, minutes in (("demo", None), (f"{options.minutes:g} minutes", options.minutes)):
        note(f"rendering: {name}")
        pieces[name] = in_fresh_process({**job, "minutes": minutes})
    manifest = bundle.manifest
    report = {
        "machine": machine(),
        "bundle": {"id": manifest.id, "version": manifest.version, "sha256": bundle.sha256},
        "calls": {
            "curves": manifest.sampler.curve_steps * (1 + (manifest.sampler.guidance != 1)),
            "latents": manifest.sampler.latent_steps * (1 + (manifest.sampler.latent_guidance != 1)),
        },
        "threads": options.threads or os.cpu_count(),
        "pieces": pieces,
    }
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    if options.markdown:
        rewrite(options.markdown, report)
    return 0


def note(text: str) -> None:
    """Say on standard error what is going on."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    import onnxruntime

    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": usable,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def in_fresh_process(job: dict[str, Any]) -> dict[str, Any]:
    """Render in a new process, which is told when it was started."""
    job = {**job, "spawned": time.time()}
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: the render failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


# ---- in the fresh process -----------------------------------------------------------------------


class Stages:
    """Seconds by stage; a stage inside another one counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner: list[float] = []

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what runs inside for a stage."""
        self._inner.append(0.0)
        begun = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - begun
            self.seconds[stage] += elapsed - self._inner.pop()
            self.calls[stage] += 1
            if self._inner:
                self._inner[-1] += elapsed

    def function(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Wrap a function or method."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            with self.timed(stage):
                return function(*arguments, **options)

        return wrapped

    def generator(self, function: Callable[..., Iterator[Any]], stage: str) -> Callable[..., Iterator[Any]]:
        """Wrap a generator function."""

        def wrapped(*arguments: Any, **options: Any) -> Iterator[Any]:
            iterator = function(*arguments, **options)
            while True:
                with self.timed(stage):
                    item = next(iterator, None)
                if item is None:
                    return
                yield item

        return wrapped


def instrument(stages: Stages) -> dict[str, Any]:
    """Put clocks into the stages of this process; returns what the latent network did."""
    from pkontext import codec, engine, networks, perform, runtime, synth

    roles = {"encoder": ENCODE, "decoder": DECODE}
    last: dict[str, Any] = {"seconds": 0.0}

    class TimedGraph(runtime.Graph):
        """A graph that knows its role."""

        def __init__(self, path: Path, *arguments: Any) -> None:
            super().__init__(path, *arguments)
            self.role = path.stem

        def __call__(self, **inputs: Any) -> Any:
            begun = time.perf_counter()
            with stages.timed(roles[self.role]) if self.role in roles else contextlib.nullcontext():
                result = super().__call__(**inputs)
            if self.role == "dit_latents":
                last.update(graph=self, inputs=inputs)
                last["seconds"] += time.perf_counter() - begun
            return result

    for module in (codec, networks):
        module.Graph = TimedGraph  # type: ignore[attr-defined]
    codec.log_magnitude = stages.function(codec.log_magnitude, ENCODE)
    for name in ("push", "flush"):
        setattr(codec.PhaseStream, name, stages.function(getattr(codec.PhaseStream, name), PHASE))
    synth.render = stages.generator(synth.render, SYNTH)
    perform.CurveSource.extend = stages.function(perform.CurveSource.extend, CURVES)
    engine.Rendering._latent_window = stages.function(engine.Rendering._latent_window, LATENTS)
    return last


def render(
    bundle: str, threads: int, minutes: float | None, spawned: float, first_audio_only: bool = False
) -> dict[str, Any]:
    """Render one piece and measure it.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    threads : int
        Threads of the networks, 0 for all cores.
    minutes : float or None
        Length of the piece made from the demo; None takes the demo itself.
    spawned : float
        `time.time` when this process was started.
    first_audio_only : bool
        Stop after the first audio.
    """
    from pkontext.bundle import open_bundle
    from pkontext.engine import RenderSettings, open_rendering

    stages = Stages()
    last = instrument(stages)
    begun = time.perf_counter()
    score = piece(minutes)
    opened = open_bundle(Path(bundle))
    rendering = open_rendering(score, opened, RenderSettings(), threads)
    frames, first_audio = 0, None
    for chunk in rendering.chunks():
        frames += len(chunk)
        if first_audio is None and frames:
            first_audio = time.time() - spawned
            if first_audio_only:
                return {"first_audio_cold_sec": first_audio}
    total = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    audio = frames / rendering.sample_rate
    seconds = dict(stages.seconds)
    windows, sampling = stages.calls[LATENTS], last["seconds"]

    warm = time.perf_counter()
    next(chunk for chunk in open_rendering(score, opened, RenderSettings(), threads).chunks() if len(chunk))
    warm = time.perf_counter() - warm

    begun = time.perf_counter()
    for _ in range(PAPER_CALLS):
        last["graph"](**last["inputs"])
    paper = time.perf_counter() - begun
    return {
        "audio_sec": audio,
        "render_sec": total,
        "rtf": total / audio,
        "stages_sec_per_sec": {
            **{stage: seconds.get(stage, 0.0) / audio for stage in STAGES[:-1]},
            REST: (total - sum(seconds.values())) / audio,
        },
        "first_audio_cold_sec": first_audio,
        "first_audio_warm_sec": warm,
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
        "windows": windows,
        "baseline": {
            "calls": PAPER_CALLS,
            "sec_per_window": paper,
            "ours_sec_per_window": sampling / windows,
            "rtf": (total - sampling + windows * paper) / audio,
        },
    }


def piece(minutes: float | None) -> Any:
    """Return the demo, or a score of so many minutes made of transposed repeats of it."""
    import numpy as np

    from pkontext.score import load_score, score_from_notes
    from pkontext.types import NOTE

    demo = load_score(DEMO)
    if minutes is None:
        return demo
    parts, begins = [], 0.0
    while begins < minutes * 60:
        part = np.zeros(len(demo.notes), NOTE)
        for name in NOTE.names or ():
            part[name] = demo.notes[name]
        part["onset_sec"] += begins
        part["pitch"] += np.uint8((0, 2, 5, 1)[len(parts) % 4])
        parts.append(part)
        begins += demo.duration_sec
    notes = np.concatenate(parts)
    return score_from_notes(notes[notes["onset_sec"] < minutes * 60], f"{minutes:g} minutes")


# ---- the report ---------------------------------------------------------------------------------


def tables(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: a column for each piece."""
    pieces = list(report["pieces"].values())

    def row(name: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
        return [name, *(cell(piece) for piece in pieces)]

    rows = [
        row(f"{stage} (s per s of audio)", lambda p, stage=stage: f"{p['stages_sec_per_sec'][stage]:.4f}")
        for stage in STAGES
    ]
    rows += [
        row("**whole chain, real-time factor**", lambda p: f"**{p['rtf']:.3f}**"),
        row("audio (s)", lambda p: f"{p['audio_sec']:.1f}"),
        row("time to first audio, new process (s)", lambda p: f"{p['first_audio_cold_sec']:.2f}"),
        row("time to first audio, program running (s)", lambda p: f"{p['first_audio_warm_sec']:.2f}"),
        row("peak memory (MB)", lambda p: f"{p['peak_mb']:.0f}"),
        row(f"baseline: real-time factor, {PAPER_CALLS} calls", lambda p: f"{p['baseline']['rtf']:.2f}"),
        row(
            "baseline: sampling time over ours",
            lambda p: f"{p['baseline']['sec_per_window'] / p['baseline']['ours_sec_per_window']:.1f} times",
        ),
    ]
    return ["", *report["pieces"]], rows


def caption(report: dict[str, Any]) -> str:
    """The machine and the model in one sentence."""
    m, b, calls = report["machine"], report["bundle"], report["calls"]
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}, "
        f"ONNX Runtime {m['onnxruntime']} with {report['threads']} threads; "
        f"bundle {b['id']} {b['version']} ({b['sha256'][:12]}), "
        f"{calls['curves']} calls a window of curves, {calls['latents']} of latents."
    )


def show(report: dict[str, Any]) -> None:
    """Print the table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    header, rows = tables(report)
    table = Table(caption=caption(report), caption_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        bold = row[0].startswith("**")
        table.add_row(*(cell.strip("*") for cell in row), style="bold" if bold else "")
    Console().print(table)


def has_markers(file: Path) -> bool:
    """Whether a file has a place for the table."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return 0 <= text.find(START) < text.find(END)


def rewrite(file: Path, report: dict[str, Any]) -> None:
    """Put the table between the markers of a Markdown file."""
    header, rows = tables(report)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = file.read_text(encoding="utf-8")
    before, after = text[: text.index(START) + len(START)], text[text.index(END) :]
    file.write_text(f"{before}\n{table}\n\n{caption(report)}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""How soon and how steadily the player plays on this machine: part of ``make bench``.

Measured through the default audio output at 256 frames a callback, or to nowhere where there is none: time to
the first sound in a new process and in a running one, real-time factor and processor share while playing and
while paused, and callbacks that were late. Beside it, in the same run, what a window costs by the paper's own
sampling: 64 Heun steps (128 calls, one of them saved) of a network with 26 million parameters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent.parent / "pkontext" / "data" / "demo.mid"
START, END = "<!-- bench-player:start -->", "<!-- bench-player:end -->"
BLOCK = 256
AUDIBLE = 1e-3
PAPER_STEPS, PAPER_MILLIONS = 64, 26


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundle", type=Path, help="folder of the model (default: the built-in one)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to play (default 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also rewrite the table in this file")
    options = parser.parse_args()
    report = measure(options.bundle, options.seconds)
    rows = table(report)
    print(json.dumps(report, indent=1) if options.json else "\n".join(f"{a:<58} {b}" for a, b in rows))
    if options.markdown:
        text = options.markdown.read_text(encoding="utf-8")
        lines = ["| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
        before, after = text[: text.index(START) + len(START)], text[text.index(END) :]
        options.markdown.write_text(f"{before}\n" + "\n".join(lines) + f"\n{after}", encoding="utf-8")
    return 0


def measure(bundle_folder: Path | None, seconds: float) -> dict[str, Any]:
    """All measurements, each in its own conditions."""
    from pkontext.bundle import open_bundle
    from pkontext.errors import DeviceError
    from pkontext.output import NullOutput, Output, SpeakerOutput
    from pkontext.player import Player
    from pkontext.ring import Ring
    from pkontext.score import load_score
    from pkontext.take import RenderSettings

    opened: list[Output] = []

    def output(ring: Ring, rate: int) -> Output:
        try:
            opened.append(SpeakerOutput(ring, rate, None, BLOCK))
        except DeviceError:
            opened.append(NullOutput(ring, rate))
        return opened[-1]

    note("a new process")
    cold = [first_sound_cold(bundle_folder) for _ in range(3)]
    note("a running program")
    bundle, score = open_bundle(bundle_folder), load_score(DEMO)
    player = Player(bundle, output)
    warm = []
    for seed in range(4):
        player.load(score, RenderSettings(seed=seed))
        begun = time.perf_counter()
        player.play()
        until(lambda: player.status.level > AUDIBLE)
        warm.append(time.perf_counter() - begun)
        if seed < 3:
            player.stop()
            until(lambda: player.status.deck.state == "stopped" and player.status.level == 0)
    note("playing")
    wall, cpu = time.perf_counter(), time.process_time()
    busy = busy_rendering(player, seconds)
    playing = (time.process_time() - cpu) / (time.perf_counter() - wall)
    until(lambda: player.status.deck.rendered_sec == player.status.deck.duration_sec, 120)
    time.sleep(2)
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(3)
    rendered = (time.process_time() - cpu) / (time.perf_counter() - wall)
    player.pause()
    until(lambda: player.status.level == 0)
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(3)
    paused = (time.process_time() - cpu) / (time.perf_counter() - wall)
    status, counts = player.status, opened[0].status()
    player.close()
    note("the paper's sampling")
    return {
        "output": counts.name,
        "block_frames": BLOCK,
        "first_sound_cold_sec": cold,
        "first_sound_warm_sec": warm[1:],
        "rtf": busy,
        "cpu_playing": playing,
        "cpu_playing_rendered": rendered,
        "cpu_paused": paused,
        "latency_sec": status.latency_sec,
        "underruns": counts.underruns,
        "xruns": counts.xruns,
        "late": counts.late,
        "longest_callback_ms": counts.longest_sec * 1e3,
        **sampling_costs(bundle),
    }


def first_sound_cold(bundle: Path | None) -> float:
    """Seconds from starting a process that plays to its first sound."""
    command = [sys.executable, "-m", "pkontext", "play", str(DEMO), "-o", "null", "--json"]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = 0.0
    for line in process.stdout:
        if json.loads(line)["event"] == "sound":
            found = time.perf_counter() - begun
            break
    process.terminate()
    process.communicate()
    return found


def busy_rendering(player: Any, seconds: float) -> float:
    """Render time over audio time while it plays, by the player's own clock."""
    values = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        deck = player.status.deck
        if 0 < deck.rendered_sec < deck.duration_sec:
            values.append(deck.rtf)
        time.sleep(0.1)
    return sum(values) / len(values) if values else player.status.deck.rtf


def sampling_costs(bundle: Any) -> dict[str, float]:
    """Seconds to sample one window: ours, and the paper's with a network of its size."""
    import numpy as np
    import torch

    from export.dit import example_inputs, export_dit
    from pkontext.runtime import Graph
    from train.dit_model import DiT, DiTConfig

    sampler = bundle.manifest.sampler
    frames = sampler.latent_window
    ours = Graph(bundle.graph_path("dit_latents"))
    inputs = {
        entry.name: np.zeros([size if isinstance(size, int) else 1 for size in entry.shape], np.float32)
        for entry in bundle.manifest.graphs["dit_latents"].inputs
    }
    config = DiTConfig(state=64, local=1, context=64, patch=1, width=496, depth=8, heads=8, mlp=4)
    model = DiT(config)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paper.onnx"
        with torch.no_grad():
            export_dit(model, frames, path)
        paper = Graph(path)
        shown = {name: value.numpy() for name, value in example_inputs(config, frames).items()}
        ours_sec, paper_sec = timed(lambda: ours(**inputs)), timed(lambda: paper(**shown))
    calls = sampler.latent_steps * (1 + (sampler.latent_guidance != 1))
    paper_calls = 2 * PAPER_STEPS
    return {
        "ours_calls": calls,
        "ours_call_ms": ours_sec * 1e3,
        "paper_calls": paper_calls,
        "paper_call_ms": paper_sec * 1e3,
        "paper_millions": millions,
        "sampling_ratio": paper_calls * paper_sec / (calls * ours_sec),
    }


def timed(action: Callable[[], object], repeats: int = 12) -> float:
    """Median seconds of an action, after one to warm up."""
    action()
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        spent.append(time.perf_counter() - begun)
    return sorted(spent)[len(spent) // 2]


def until(condition: Callable[[], bool], limit_sec: float = 60.0) -> None:
    """Wait for something that must happen."""
    end = time.perf_counter() + limit_sec
    while not condition():
        if time.perf_counter() > end:
            raise SystemExit("bench: nothing happened for a minute")
        time.sleep(0.002)


def note(text: str) -> None:
    """Say on standard error what is going on."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def table(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows for people."""

    def spread(values: list[float]) -> str:
        return f"{min(values):.2f}-{max(values):.2f}"

    return [
        ("output", f"{report['output']}, {report['block_frames']} frames a callback"),
        ("first sound, new process (s, aim 3)", spread(report["first_sound_cold_sec"])),
        ("first sound, program running (s, aim 1.5)", spread(report["first_sound_warm_sec"])),
        ("real-time factor of rendering while it plays (aim 0.5)", f"{report['rtf']:.3f}"),
        ("processor while it plays and renders (cores)", f"{report['cpu_playing']:.2f}"),
        ("processor while it plays what is rendered (cores)", f"{report['cpu_playing_rendered']:.3f}"),
        ("processor while paused (cores)", f"{report['cpu_paused']:.3f}"),
        ("from a command to the ear (ms)", f"{1e3 * report['latency_sec']:.0f}"),
        ("underruns, xruns, late callbacks", f"{report['underruns']}, {report['xruns']}, {report['late']}"),
        ("longest callback (ms)", f"{report['longest_callback_ms']:.3f}"),
        (
            "sampling a window of latents (ms)",
            f"{report['ours_calls'] * report['ours_call_ms']:.0f} ({report['ours_calls']} calls)",
        ),
        (
            f"the paper's, {PAPER_STEPS} Heun steps, {report['paper_millions']:.0f} M parameters (ms)",
            f"{report['paper_calls'] * report['paper_call_ms']:.0f} ({report['paper_calls']} calls)",
        ),
        ("the paper's over ours", f"{report['sampling_ratio']:.0f} times"),
    ]


if __name__ == "__main__":
    sys.exit(main())

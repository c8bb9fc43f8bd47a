"""Stream a long time of audio through the bundle's codec and watch memory and exactness.

Usage: ``python scripts/soak_codec.py [--minutes 60]``. Latents of a two-minute excerpt go through the
decoder again and again as one stream, and its audio through the encoder as another; memory is printed
every ten minutes of audio. Fails when the resident memory grows after the first ten minutes by more than
16 MB, or when the frame count is off by one.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from pkontext.bundle import open_bundle
from pkontext.codec import open_codec
from pkontext.deadpan import deadpan_from_score
from pkontext.score import load_score
from pkontext.synth import SynthSpec, events_from_notes, render

DEMO = Path(__file__).resolve().parent.parent / "pkontext" / "data" / "demo.mid"
ALLOWED_MB = 16.0


def main() -> int:
    """Run the soak; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="audio to stream each way (default 60)")
    minutes = parser.parse_args().minutes
    bundle = open_bundle()
    codec = open_codec(bundle, 0, "cpu")
    rate, hop = codec.entry.sample_rate, codec.entry.hop
    deadpan = deadpan_from_score(load_score(DEMO), 1.0, codec.frame_sec)
    events = events_from_notes(deadpan.notes, None, rate)
    audio = np.concatenate(list(render(events, SynthSpec(bundle.soundfont), deadpan.frames * hop)))
    latents = codec.encode(audio)
    rounds = max(round(minutes * 60 * rate / len(audio)), 1)
    growth = 0.0
    for name, chunks in (
        ("decode", codec.decode_stream(repeat(latents, rounds))),
        ("encode", codec.encode_stream(repeat(audio, rounds))),
    ):
        per_item = hop if name == "encode" else 1
        grown, items = watch(name, chunks, rate, per_item)
        growth, wanted = max(growth, grown), rounds * len(audio) // per_item
        print(f"{name}: {items} of {wanted} {'frames' if name == 'encode' else 'samples'}")
        if items != wanted:
            return 1
    print(f"largest growth after the first ten minutes: {growth:.1f} MB (allowed {ALLOWED_MB:g})")
    return int(growth > ALLOWED_MB)


def watch(name: str, chunks: Iterator[np.ndarray], rate: int, per_item: int) -> tuple[float, int]:
    """Consume a stream; returns megabytes of growth after its first ten minutes of audio, and its items."""
    begun, items, mark, first = time.monotonic(), 0, 0, None
    memory = resident_mb()
    while piece := list(islice(chunks, 1)):
        items += len(piece[0])
        minutes = items * per_item / rate / 60
        if minutes >= mark + 10:
            mark = int(minutes) // 10 * 10
            gc.collect()
            memory = resident_mb()
            first = memory if first is None else first
            speed = minutes * 60 / (time.monotonic() - begun)
            print(f"{name}: {mark} min, {memory:.1f} MB resident, {speed:.0f} × real time", flush=True)
    return (0.0 if first is None else memory - first), items


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    sys.exit(main())

"""Do the two voices of a take agree? Onsets and loudness of its audio against its own notes.

``python -m train.evaluate_voices --data PACK --markdown docs/evaluation.md``

Takes of held-out works in the neural and the sampler voice, and the sampler voice through the codec, which
is what the neural voice could reach at best. The audio is transcribed, and what is heard is paired with what
the voice was asked to play as `pkontext.selfcheck` does it. Loudness is also measured without a transcriber:
the level of a note's partials at its onset over that of the same notes played by the sampler with one
velocity, which takes out what pitch, register and chords do to a level. Every excerpt is kept as soon as it
is found, under ``--out``; after a change of the code take another folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from pkontext import synth
from pkontext.bundle import Bundle, open_bundle
from pkontext.codec import Codec, open_codec
from pkontext.engine import RenderSettings, open_rendering
from pkontext.expressive_midi import TakeNotes
from pkontext.pairing import pair_by_key
from pkontext.selfcheck import DISPLACED_SEC, TOLERANCE_SEC, check_notes
from train import asap
from train.evaluate import digest, kept, require
from train.evaluate_audio import Excerpt, choose_excerpt
from train.expression_metrics import mean_and_error
from train.transcribe import WINDOW_SEC, transcribe

MARK = ("<!-- voices:start -->", "<!-- voices:end -->")
PACKAGES = ("transkun", "moduleconf", "mir_eval", "pretty_midi", "scipy")
LABELS = {
    "sampler": "sampler voice",
    "sampler-codec": "sampler voice through the codec",
    "neural": "**neural voice**",
}
#: What the neural voice should reach: median onset difference in milliseconds, rank correlations.
MOST_OFF_MS, LEAST_RANK = 40.0, 0.7
_ONE_VELOCITY = 64
#: Samples from a note's onset on whose spectrum says how loud it is, its partials, and half a semitone.
_SPAN, _PARTIALS, _NEAR = 4096, 6, 2 ** (1 / 24)
_HIGHEST_HZ = 10_000.0
_FLOOR = 1e-12
_RING_SEC = 1.0

Result = dict[str, Any]
Listen = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Voices:
    """A take's notes and its audio ``[samples]`` in every voice; flat ones hold one velocity."""

    take: TakeNotes
    rate: int
    audio: dict[str, np.ndarray]
    flat: dict[str, np.ndarray]


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True, file_okay=False)],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results; found ones are kept.")] = Path(
        "runs/evaluate_voices"
    ),
    split: Annotated[str, typer.Option(help="Split to measure on: train, val or test.")] = "test",
    pieces: Annotated[int, typer.Option(help="Excerpts, each of another piece.", min=1)] = 6,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt.", min=2)] = 12.0,
    seed: Annotated[int, typer.Option(help="Seed of the takes.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Put the table between this file's marks.")] = None,
) -> None:
    """Compare the voices of takes of held-out works with the takes' notes."""
    require(PACKAGES)
    opened = open_bundle(bundle)
    chosen = asap.pick(asap.read_index(data, {"validation": "val"}.get(split, split)), per_piece=1)
    if not chosen:
        raise typer.BadParameter(f"The pack has no pieces in its split '{split}'. Choose train, val or test.")
    chosen = chosen[:: max(len(chosen) // pieces, 1)][:pieces]
    if threads:
        import torch

        torch.set_num_threads(threads)
    folder = out / digest(opened, {"seconds": seconds, "seed": seed})
    results = []
    for performance in tqdm(chosen, desc="voices"):
        file = folder / f"{performance.split}-{performance.name}.json"
        results.append(
            kept(file, lambda p=performance: measure(choose_excerpt(p, seconds), opened, seed, threads))  # type: ignore[misc]
        )
    text = "\n".join(report(results, seconds))
    typer.echo(text)
    if markdown is not None:
        write_between(markdown, text)


def measure(excerpt: Excerpt, bundle: Bundle, seed: int, threads: int) -> Result:
    """Numbers of every voice of one take."""
    voices = render_voices(excerpt, bundle, seed, threads)
    listen: Listen = lambda audio, rate: transcribe(audio, rate, one_window=True)  # noqa: E731
    rows = {name: measure_voice(voices, name, listen) for name in LABELS}
    return {"piece": excerpt.performance.piece, "notes": len(voices.take.notes), "rows": rows}


def render_voices(excerpt: Excerpt, bundle: Bundle, seed: int, threads: int) -> Voices:
    """One take in every voice, and its notes at one velocity."""
    manifest, audio = bundle.manifest, {}
    for voice in ("neural", "sampler"):
        settings = RenderSettings(
            seed, excerpt.tempo, voice=voice, start_sec=excerpt.start_sec, end_sec=excerpt.end_sec
        )
        rendering = open_rendering(excerpt.score, bundle, settings, threads)
        audio[voice] = np.concatenate(list(rendering.chunks()))[:, 0]
    take = rendering.take_notes()
    rate = manifest.codec.sample_rate
    flat = take.notes.copy()
    flat["velocity"] = _ONE_VELOCITY
    events = synth.events_from_notes(flat, take.pedals, rate)
    spec = synth.SynthSpec(bundle.soundfont, manifest.synth.gain, rate)
    even = np.concatenate(list(synth.render(events, spec, len(audio["sampler"]))))[:, 0]
    codec = open_codec(bundle, threads, "auto")
    audio["sampler-codec"] = through_codec(audio["sampler"], codec)
    coded = through_codec(even, codec)
    return Voices(take, rate, audio, {"sampler": even, "sampler-codec": coded, "neural": coded})


def through_codec(audio: np.ndarray, codec: Codec) -> np.ndarray:
    """Audio ``[samples]`` encoded and decoded."""
    return codec.decode(codec.encode(audio))[: len(audio), 0]


def measure_voice(voices: Voices, name: str, listen: Listen) -> Result:
    """Onsets, heard velocities and levels of one voice, note by note and in sum."""
    notes, audio = voices.take.notes, voices.audio[name]
    needed = max(round(WINDOW_SEC * voices.rate), round((notes["onset_sec"].max() + _RING_SEC) * voices.rate))
    heard = listen(audio[:needed], voices.rate)
    wanted, found = ((n["onset_sec"], n["pitch"].astype(int)) for n in (notes, heard))
    pairs = pair_by_key(wanted, found, TOLERANCE_SEC)
    left = set(range(len(notes))) - set(pairs), set(range(len(heard))) - set(pairs.values())
    pairs |= pair_by_key(wanted, found, DISPLACED_SEC, *left)
    asked, got = (np.array(list(each), np.int64) for each in (pairs, pairs.values()))
    off_ms = 1e3 * (heard["onset_sec"][got] - notes["onset_sec"][asked])
    louder = onset_levels(audio, notes, voices.rate) - onset_levels(voices.flat[name], notes, voices.rate)
    checked = check_notes(voices.take, heard)
    return {
        "off ms": float(np.median(np.abs(off_ms))) if len(off_ms) else float("nan"),
        "off 90 ms": float(np.percentile(np.abs(off_ms), 90)) if len(off_ms) else float("nan"),
        "bias ms": float(np.median(off_ms)) if len(off_ms) else float("nan"),
        "within": float(checked.recall),
        "f1": checked.f1,
        "velocity rank": rank_correlation(notes["velocity"][asked], heard["velocity"][got]),
        "level rank": rank_correlation(notes["velocity"], louder),
        "scatter": {
            "velocity": notes["velocity"][asked].tolist(),
            "heard velocity": heard["velocity"][got].tolist(),
            "off ms": np.round(off_ms, 1).tolist(),
            "all velocities": notes["velocity"].tolist(),
            "pitch": notes["pitch"].tolist(),
            "louder dB": np.round(louder, 2).tolist(),
        },
    }


def onset_levels(audio: np.ndarray, notes: np.ndarray, rate: int) -> np.ndarray:
    """Level of every note's partials in the 93 ms from its onset on, in dB.

    Parameters
    ----------
    audio : ndarray
        ``[samples]``.
    notes : ndarray of NOTE
    rate : int

    Returns
    -------
    ndarray
        ``[notes]``; partials are the largest bins within half a semitone of multiples of the pitch.
    """
    padded = np.append(audio, np.zeros(_SPAN, audio.dtype))
    hann, bin_hz = np.hanning(_SPAN), rate / _SPAN
    levels = []
    for onset, pitch in zip(notes["onset_sec"], notes["pitch"].astype(float), strict=True):
        start = min(max(round(float(onset) * rate), 0), len(audio))
        power = np.abs(np.fft.rfft(padded[start : start + _SPAN] * hann)) ** 2
        partials = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, _PARTIALS + 1)
        partials = partials[: max(int((partials < _HIGHEST_HZ).sum()), 1)]
        edges = ((int(f / _NEAR / bin_hz), int(np.ceil(f * _NEAR / bin_hz)) + 1) for f in partials)
        levels.append(10 * np.log10(sum(power[low:high].max() for low, high in edges) + _FLOOR))
    return np.array(levels)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation; not a number for fewer than three pairs or where one side is constant."""
    from scipy.stats import rankdata

    if len(first) < 3:
        return float("nan")
    ranks = [rankdata(values) for values in (first, second)]
    if min(np.ptp(values) for values in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def report(results: list[Result], seconds: float) -> list[str]:
    """Markdown: a row for each voice, then the aims."""

    def values(voice: str, name: str) -> list[float]:
        return [result["rows"][voice][name] for result in results]

    def cell(voice: str, name: str, digits: int) -> str:
        mean, error, _ = mean_and_error(values(voice, name))
        spread = [value for value in values(voice, name) if np.isfinite(value)] or [float("nan")]
        shown = f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if np.isfinite(error) else "")
        return f"{shown} ({min(spread):.{digits}f} to {max(spread):.{digits}f})"

    notes = sum(result["notes"] for result in results)
    lines = [
        f"Voices against the notes of their takes, {len(results)} excerpts of {seconds:g} s, {notes} notes"
        " (mean ± standard error over excerpts, and the least to the largest):",
        "",
        "| | onset off, median, ms | 90 %, ms | within 50 ms | heard velocity, rank r | loudness, rank r |",
        "|---|---|---|---|---|---|",
    ]
    columns = (("off ms", 1), ("off 90 ms", 1), ("within", 3), ("velocity rank", 2), ("level rank", 2))
    for voice, label in LABELS.items():
        lines.append(
            f"| {label} | " + " | ".join(cell(voice, name, digits) for name, digits in columns) + " |"
        )
    lines += ["", "| aim of the neural voice | measured | |", "|---|---|---|"]
    off = float(np.nanmean(values("neural", "off ms")))
    lines.append(f"| onsets within {MOST_OFF_MS:g} ms (median) | {off:.1f} ms | {_met(off <= MOST_OFF_MS)} |")
    for name, label in (("velocity rank", "heard velocity"), ("level rank", "loudness")):
        rank = float(np.nanmean(values("neural", name)))
        met = _met(rank >= LEAST_RANK)
        lines.append(f"| {label} follows velocity: rank r at least {LEAST_RANK:g} | {rank:.2f} | {met} |")
    return lines


def write_between(file: Path, text: str) -> None:
    """Replace what is between this module's marks in a Markdown file."""
    content = file.read_text(encoding="utf-8")
    if content.count(MARK[0]) != 1 or content.count(MARK[1]) != 1:
        raise typer.BadParameter(
            f"{file} does not hold the lines {MARK[0]} and {MARK[1]} once each. Add them."
        )
    before, rest = content.split(MARK[0])
    after = rest.split(MARK[1])[1]
    part = file.with_name(f".{file.name}.part")
    part.write_text(f"{before}{MARK[0]}\n{text}\n{MARK[1]}{after}", encoding="utf-8")
    part.replace(file)


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


if __name__ == "__main__":
    typer.run(main)

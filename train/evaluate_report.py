"""The results of an evaluation as Markdown: expression, notes, sound, and targets met or missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from train import expression_metrics as em
from train.distances import EMBEDDING, frechet_distance, kernel_distance

Result = dict[str, Any]
#: Rows of the audio tables, in order; the last two get one for all seeds.
LABELS = {
    "deadpan": "deadpan",
    "human": "human",
    "human-codec": "human through the codec",
    "sampler": "take, sampler voice",
    "neural": "**take, neural voice**",
}
#: Largest p that counts as significant.
ALPHA = 0.05


@dataclass(frozen=True)
class Expression:
    """Results of `train.evaluate_expression`: one of the humans and several takes for each piece."""

    humans: list[Result]
    takes: list[list[Result]]

    def take_values(self, name: str) -> list[float]:
        """A number of every piece, mean over its takes."""
        return [float(np.mean([t[name] for t in takes])) for takes in self.takes]

    def js(self, feature: str) -> dict[str, tuple[float, float]]:
        """Divergence and its error of deadpan, takes and humans from pooled humans; pieces weigh the same."""
        pools = [np.mean([h[feature] for h in human["histograms"]], axis=0) for human in self.humans]
        flat = [np.array(human["deadpan histograms"][feature]) for human in self.humans]
        ours = [np.mean([t["histograms"][feature] for t in takes], axis=0) for takes in self.takes]
        several = [h["histograms"] for h in self.humans if len(h["histograms"]) > 1]
        first = [np.array(h[0][feature]) for h in several]
        others = [np.mean([x[feature] for x in h[1:]], axis=0) for h in several]
        return {
            "deadpan": _pooled_js(flat, pools),
            "take": _pooled_js(ours, pools),
            "human": _pooled_js(first, others),
        }

    def shift_test(self) -> tuple[float, float]:
        """Mean tempo correlation and the p of the permutation test."""
        return em.shift_test(
            [
                np.mean(
                    [em.shifted_correlations(np.array(t["curve"]), np.array(human["curves"])) for t in takes],
                    axis=0,
                )
                for human, takes in zip(self.humans, self.takes, strict=True)
            ]
        )


def expression_table(found: Expression) -> list[str]:
    """Deadpan, takes and humans, one measure a line; what is worse than deadpan says so."""
    several = sum(len(h["performers"]) > 1 for h in found.humans)
    three = sum(np.isfinite(h["tempo consensus r"]) for h in found.humans)
    _, p = found.shift_test()
    lines = [
        f"Expression on {len(found.humans)} pieces, {_count(found.takes)} (mean ± standard error over pieces;"
        f" two humans: {several} pieces, a consensus: {three}):",
        "",
        "| | deadpan | take | human | |",
        "|---|---|---|---|---|",
    ]
    for name, label in (
        ("tempo r", "beat tempo r with a human"),
        ("tempo consensus r", "beat tempo r with the consensus"),
        ("velocity r", "velocity r with a human"),
        ("velocity consensus r", "velocity r with the consensus"),
    ):
        ours = em.mean_and_error(found.take_values(name))
        remark = f"p = {p:.2g}" if name == "tempo r" else ""
        remark += " worse than deadpan" if ours[0] < 0 else ""
        lines.append(f"| {label} | 0 | {_cell(ours)} | {_cell(_of_humans(found, name))} | {remark.strip()} |")
    for name, label, digits in (
        ("tempo std", "beat tempo std, log2", 2),
        ("tempo range", "beat tempo 5–95 %, log2", 2),
        ("velocity std", "velocity std", 1),
        ("velocity range", "velocity 5–95 %", 1),
        ("asynchrony median", "chord asynchrony, median, ms", 1),
        ("asynchrony 90", "chord asynchrony, 90 %, ms", 1),
        ("pedal share", "pedal down, share of the time", 2),
    ):
        ours, human = em.mean_and_error(found.take_values(name)), _of_humans(found, name)
        flat = em.mean_and_error([h["deadpan"][name] for h in found.humans])
        remark = "worse than deadpan" if abs(ours[0] - human[0]) > abs(flat[0] - human[0]) else ""
        lines.append(
            f"| {label} | {flat[0]:.{digits}f} | {_cell(ours, digits)} | {_cell(human, digits)} | {remark} |"
        )
    length = em.mean_and_error(found.take_values("duration ratio"))
    lines.append(f"| length over the human's | 1 | {_cell(length)} | 1 | |")
    for name, feature in em.FEATURES.items():
        js = found.js(name)
        ratio = js["deadpan"][0] / js["take"][0] if js["take"][0] else float("inf")
        remark = f"{ratio:.1f} × closer" if ratio >= 1 else f"worse than deadpan ({ratio:.2f} ×)"
        cells = " | ".join(_cell((*js[who], 2), 3) for who in ("deadpan", "take", "human"))
        lines.append(f"| JS divergence, {feature.label}, bits | {cells} | {remark} |")
    return lines


def note_table(rows: dict[str, list[Result]], seconds: float) -> list[str]:
    """Transcription scores of every row, means over excerpts."""
    count = len(rows["human"])
    lines = [
        f"Notes by transcription of {count} excerpts of {seconds:g} s (mean; ± standard error over takes):",
        "",
        "| | precision, score | recall, score | F1, score | F1, notes asked for | jitter, ms | |",
        "|---|---|---|---|---|---|---|",
    ]
    flat = np.mean([r["score"]["f1"] for r in rows["deadpan"]])
    for name, label in LABELS.items():
        if not rows.get(name):
            continue
        score = {k: em.mean_and_error([r["score"][k] for r in rows[name]]) for k in rows[name][0]["score"]}
        asked = em.mean_and_error([r["asked"]["f1"] for r in rows[name]])
        jitter = em.mean_and_error([r["asked"]["jitter_ms"] for r in rows[name]])
        remark = "worse than deadpan" if score["f1"][0] < flat - 1e-9 else ""
        lines.append(
            f"| {label} | {score['precision'][0]:.3f} | {score['recall'][0]:.3f} | {_cell(score['f1'], 3)} |"
            f" {_cell(asked, 3)} | {jitter[0]:.1f} | {remark} |"
        )
    return lines


def sound_table(rows: dict[str, list[Result]], vectors: dict[str, list[np.ndarray]]) -> list[str]:
    """Distances from the human's audio, real-time factor and network calls of every row."""
    lines = [
        f"Sound against the human's through the same soundfont (embedding: {EMBEDDING};"
        f" {sum(map(len, vectors['human']))} vectors):",
        "",
        "| | log-mel, dB | Fréchet distance | kernel distance | RTF | calls a window, curves / latents | |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {}
    for name in LABELS:
        if rows.get(name) and name != "human":
            seeds = max(len(vectors[name]) // len(vectors["human"]), 1)
            apart = [
                (
                    frechet_distance(
                        np.concatenate(vectors["human"]), np.concatenate(vectors[name][i::seeds])
                    ),
                    *kernel_distance(vectors["human"], vectors[name][i::seeds]),
                )
                for i in range(seeds)
            ]
            mel = em.mean_and_error([r["log mel"] for r in rows[name]])
            found[name] = (mel, *np.mean(apart, axis=0))
    for name, (mel, frechet, kernel, error) in found.items():
        flat = found["deadpan"]
        worse = [
            what
            for what, ours, theirs in (
                ("log-mel", mel[0], flat[0][0]),
                ("Fréchet", frechet, flat[1]),
                ("kernel", kernel, flat[2]),
            )
            if ours > theirs + 1e-9
        ]
        remark = f"{', '.join(worse)} worse than deadpan" if worse else ""
        speed = [r["speed"] for r in rows[name]]
        rtf = em.mean_and_error([s.get("rtf", np.nan) for s in speed])[0]
        calls = f"{speed[0]['curve calls']:g} / {speed[0]['latent calls']:g}" if speed[0] else "–"
        lines.append(
            f"| {LABELS[name]} | {_cell(mel)} | {frechet:.2f} | {_cell((kernel, error, 2))} |"
            f" {'–' if np.isnan(rtf) else f'{rtf:.2g}'} | {calls} | {remark} |"
        )
    own = [r["log mel own"] for r in rows.get("neural", []) if "log mel own" in r]
    if own:
        lines += [
            "",
            f"Neural against sampler voice of one take: log-mel {_cell(em.mean_and_error(own))} dB.",
        ]
    return lines


def target_table(found: Expression | None, rows: dict[str, list[Result]] | None) -> list[str]:
    """What was aimed at, what was measured, and whether it is met."""
    lines = ["| target | measured | |", "|---|---|---|"]

    def add(target: str, measured: str, met: Callable[[], bool]) -> None:
        lines.append(f"| {target} | {measured} | {'met' if met() else '**missed**'} |")

    if rows and rows.get("neural"):
        f1 = {n: float(np.mean([r["score"]["f1"] for r in rows[n]])) for n in ("neural", "human-codec")}
        share = f1["neural"] / max(f1["human-codec"], 1e-9)
        add("neural F1 at least 0.90 of the codec's on human audio", f"{share:.3f}", lambda: share >= 0.9)
        add("neural F1 against the score at least 0.80", f"{f1['neural']:.3f}", lambda: f1["neural"] >= 0.8)
        most = max(max(r["speed"]["curve calls"], r["speed"]["latent calls"]) for r in rows["neural"])
        add("at most 16 network calls for a window", f"{most:g}", lambda: most <= 16)
    if found is not None:
        for name in ("inter-onset", "velocity"):
            js = found.js(name)
            ratio = js["deadpan"][0] / max(js["take"][0], 1e-9)
            label = em.FEATURES[name].label
            add(f"{label}: at least 2 × closer than deadpan", f"{ratio:.2f} ×", lambda r=ratio: r >= 2)  # type: ignore[misc]
        r, p = found.shift_test()
        add(
            "tempo curve correlates with humans (permutation test)",
            f"r = {r:.3f}, p = {p:.2g}",
            lambda: r > 0 and p < ALPHA,
        )
    return lines


def by_row(excerpts: list[list[Result]]) -> dict[str, list[Result]]:
    """Results of all excerpts by row; the seeds of a voice are one row, excerpt by excerpt."""
    rows: dict[str, list[Result]] = defaultdict(list)
    for excerpt in excerpts:
        for result in excerpt:
            rows[result["row"].split("-seed")[0]].append(result)
    return dict(rows)


def _of_humans(found: Expression, name: str) -> tuple[float, float, int]:
    return em.mean_and_error([h[name] for h in found.humans])


def _pooled_js(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    if not ours:
        return float("nan"), float("nan")
    first, second = np.array(ours), np.array(theirs)
    return em.jackknife(lambda i: em.js_divergence(first[i].mean(0), second[i].mean(0)), len(first))


def _count(takes: list[list[Result]]) -> str:
    seeds = sorted({t["seed"] for row in takes for t in row})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _cell(value: tuple[float, float, int], digits: int = 2) -> str:
    mean, error, _ = value
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if np.isnan(error) else f" ± {error:.{digits}f}")

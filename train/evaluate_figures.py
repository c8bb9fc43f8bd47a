"""Figures of an evaluation: tempo curves beside the humans', and spectrograms (``evaluate`` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from train.evaluate_report import Expression
from train.figures import spectrogram_pair

Result = dict[str, Any]
_MOST_BEATS = 160


def draw_tempo_curves(found: Expression, folder: Path) -> dict[Path, str]:
    """Tempo curves of the pieces whose takes correlate best and worst with their humans: files, titles."""
    order = np.argsort(found.take_values("tempo r"))
    files = {}
    for case, index in (("best", order[-1]), ("worst", order[0])):
        path = folder / f"evaluation-tempo-{case}.png"
        title = f"{found.humans[index]['piece'].replace('__', ', ').replace('_', ' ')} ({case}"
        title += f" of {len(order)} pieces, r = {found.take_values('tempo r')[index]:.2f})"
        tempo_figure(found.humans[index], found.takes[index], path, title)
        files[path] = f"Tempo curves of {title}"
    return files


def tempo_figure(human: Result, takes: list[Result], path: Path, title: str) -> None:
    """Beat tempo of humans and of up to two takes over the score's beats, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image  # matplotlib needs it itself

    figure, axes = pyplot.subplots(2, 1, figsize=(10, 5.5), sharex=True, sharey=True, layout="constrained")
    beats = np.arange(min(len(human["beats"]) - 1, _MOST_BEATS))

    def curve(values: list[float]) -> np.ndarray:
        return -(np.array(values) - np.mean(values))[: len(beats)]

    for number, values in enumerate(human["curves"]):
        shade = {"color": "black", "lw": 1.2} if number == 0 else {"color": "0.65", "lw": 0.8}
        label = ("the paired human", "other humans")[number] if number < 2 else None
        axes[0].plot(beats, curve(values), label=label, zorder=2 - min(number, 1), **shade)
    for take, colour in zip(takes[:2], ("tab:red", "tab:blue"), strict=False):
        axes[1].plot(beats, curve(take["curve"]), color=colour, lw=1.2, label=f"take, seed {take['seed']}")
    mean = np.mean([curve(values) for values in human["curves"]], axis=0)
    axes[1].plot(beats, mean, color="0.65", lw=0.8, label="mean of the humans", zorder=1)
    for axis in axes:
        axis.axhline(0, color="0.85", lw=0.8, zorder=0)
        axis.set_ylabel("log2 tempo\n(up is faster)")
        axis.legend(loc="upper right", ncols=3, fontsize=8)
    axes[0].set_title(title)
    axes[1].set_xlabel("score beat")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def draw_spectrograms(excerpts: list[tuple[Path, list[Result]]], folder: Path) -> dict[Path, str]:
    """Sampler against neural voice of one take, for the excerpts of best and worst note F1.

    Parameters
    ----------
    excerpts : list
        Folder of the results of an excerpt, and its results.
    folder : Path
    """
    cases = [(r["score"]["f1"], where, r) for where, rows in excerpts for r in rows if "neural" in r["row"]]
    cases.sort(key=lambda case: case[0])
    files = {}
    for name, (f1, where, result) in (("best", cases[-1]), ("worst", cases[0])):
        sounds = [
            soundfile.read(where / f"{row}.flac", dtype="float32")[0]
            for row in (result["row"].replace("neural", "sampler"), result["row"])
        ]
        length = min(*map(len, sounds), 8 * 44100)
        path = folder / f"evaluation-spectrogram-{name}.png"
        title = (
            f"{result['piece'].replace('__', ', ').replace('_', ' ')}: {name} of {len(cases)} (F1 {f1:.2f});"
        )
        title += " 'original' is the sampler voice, 'decoded' the neural one"
        spectrogram_pair(sounds[0][:length], sounds[1][:length], path, title)
        files[path] = f"Spectrograms of {title}"
    return files

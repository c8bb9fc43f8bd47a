"""Seams: is anything to hear or to see where one window of a take ends and the next begins?

``python -m train.seams --data PACK --pieces N``

Two ratios, both 1 when the joins are like any other place. *Flux*: the spectral flux around the
joins of latent windows over that around other latent frames' borders where as much is struck, that
is, where the sampler voice, which plays the same notes and has no windows, has as much flux. *Tempo
jump*: the change of the tempo curve across the joins of curve windows over that elsewhere, each
relative to the changes nearby. The interval is a bootstrap over the places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pkontext.bundle import Bundle, open_bundle
from pkontext.curves import TEMPO
from pkontext.engine import RenderSettings, open_rendering
from pkontext.score import load_score
from pkontext.windows import CURVE_LOOKAHEAD, LATENT_LOOKAHEAD, window_grid
from train import asap
from train.codec_metrics import SAMPLE_RATE, flux

#: What a ratio may be at most for the joins to count as unheard.
LIMIT = 1.1
_N_FFT, _HOP, _SPAN = 1024, 128, 4
#: Frames around a join that count neither as the join nor as elsewhere.
_APART = 3
#: Borders with a like flux of the sampler voice that say how much flux is usual at one.
_ALIKE = 30
#: Frames on each side whose tempo changes say how much a change is at this place.
_NEARBY = 16


@dataclass(frozen=True)
class Places:
    """A measure at the joins and elsewhere, ``[places, 2]``: the value, and what is usual there."""

    joins: np.ndarray
    elsewhere: np.ndarray


@dataclass(frozen=True)
class Ratio:
    """Joins over elsewhere, with the bounds of its 95 % interval and the number of joins."""

    value: float
    low: float
    high: float
    joins: int


def join_frames(size: int, overlap: int, lookahead: int, frames: int) -> np.ndarray:
    """First frame that each window but the first adds, before frame ``frames``; the first starts at 0.

    The parameters are those of `pkontext.windows.window_grid`.
    """
    stops = (window.stop for window in window_grid(size, overlap, lookahead))
    return np.array(list(takewhile(lambda stop: stop < frames, stops)), int)


def flux_places(
    audio: np.ndarray, reference: np.ndarray, joins: np.ndarray, hop: int, reach_sec: float = 0.03
) -> Places:
    """Flux of a take around the borders of its latent frames, and what it is where as much is struck.

    What is usual at a border is the take's mean flux at the `_ALIKE` borders elsewhere at which the
    reference's flux is nearest to that at this one.

    Parameters
    ----------
    audio, reference : ndarray
        ``[samples]``: the take, and the same notes without windows, at 44.1 kHz.
    joins : ndarray
        Sample positions of the joins, multiples of ``hop``.
    hop : int
        Samples of a latent frame.
    reach_sec : float
        Seconds to each side whose loudest flux counts.
    """
    samples = min(len(audio), len(reference))
    curves = [flux(x[:samples], _N_FFT, _HOP, _SPAN) for x in (audio, reference)]
    reach = round(reach_sec * SAMPLE_RATE / _HOP)
    # A value of the flux compares two windows; its time is halfway between their centres.
    border = np.arange(1, samples // hop) * hop
    at = np.rint((border - _N_FFT / 2) / _HOP - _SPAN / 2).astype(int)
    inside = (at >= reach) & (at < len(curves[0]) - reach)
    border, at = border[inside], at[inside]
    around = at[:, None] + np.arange(-reach, reach + 1)
    values, struck = (curve[around].max(1) for curve in curves)
    distance = np.abs(border[:, None] - joins[None]).min(1, initial=samples) / hop
    elsewhere = distance > _APART
    usual = _usual(values, struck, elsewhere)
    places = np.stack([values, usual], axis=1)
    return Places(places[distance == 0], places[elsewhere])


def _usual(values: np.ndarray, struck: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    """Mean of ``values`` at the places elsewhere, but the own, whose ``struck`` is nearest; ``[places]``."""
    order = np.flatnonzero(elsewhere)[np.argsort(struck[elsewhere], kind="stable")]
    usual = np.zeros(len(values))
    for place in range(len(values)):
        rank = int(np.searchsorted(struck[order], struck[place]))
        near = order[max(rank - _ALIKE, 0) : rank + _ALIKE]
        near = near[near != place]
        nearest = near[np.argsort(np.abs(struck[near] - struck[place]), kind="stable")[:_ALIKE]]
        usual[place] = values[nearest].mean() if len(nearest) else 0.0
    return usual


def tempo_places(tempo: np.ndarray, joins: np.ndarray) -> Places:
    """Absolute change of a tempo curve into each frame, and the mean of the changes nearby.

    Parameters
    ----------
    tempo : ndarray
        ``[frames]``, log2.
    joins : ndarray
        Frames that begin a window.
    """
    change = np.abs(np.diff(tempo.astype(np.float64)))  # change[k] is from frame k into frame k + 1
    frames = np.arange(_NEARBY, len(change) - _NEARBY)
    aside = np.delete(np.arange(-_NEARBY, _NEARBY + 1), [_NEARBY - 1, _NEARBY, _NEARBY + 1])
    values = np.stack([change[frames], change[frames[:, None] + aside].mean(1)], axis=1)
    distance = np.abs(frames[:, None] + 1 - joins[None]).min(1, initial=len(tempo))
    return Places(values[distance == 0], values[distance > _APART])


def pooled(places: list[Places]) -> Places:
    """The places of several takes together."""
    return Places(np.concatenate([p.joins for p in places]), np.concatenate([p.elsewhere for p in places]))


def seam_ratio(places: Places, draws: int = 1000, seed: int = 0) -> Ratio:
    """Joins over elsewhere, each as the sum of values over the sum of what is usual there.

    Raises
    ------
    ValueError
        When there are no joins, or nothing else.
    """
    if not len(places.joins) or not len(places.elsewhere):
        raise ValueError("no seams to measure; take a longer excerpt, of two windows or more")
    rng = np.random.default_rng(seed)

    def share(rows: np.ndarray) -> np.ndarray:
        drawn = np.array([rows[rng.integers(0, len(rows), len(rows))].sum(0) for _ in range(draws)])
        return drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12)

    low, high = np.quantile(share(places.joins) / share(places.elsewhere), [0.025, 0.975])
    sums = [rows.sum(0) for rows in (places.joins, places.elsewhere)]
    at, usual = (value / max(norm, 1e-12) for value, norm in sums)
    return Ratio(float(at / usual), float(low), float(high), len(places.joins))


def measure_take(
    performance: asap.Performance, bundle: Bundle, seconds: float, settings: RenderSettings, threads: int = 1
) -> tuple[Places, Places]:
    """Flux and tempo places of the first ``seconds`` (of the score) of a take."""
    codec, sampler = bundle.manifest.codec, bundle.manifest.sampler
    score = load_score(performance.score)
    end = float(score.notes["onset_sec"][0]) + seconds * settings.tempo
    voices = {}
    for voice in ("neural", "sampler"):
        rendering = open_rendering(score, bundle, replace(settings, voice=voice, end_sec=end), threads, "cpu")
        voices[voice] = np.concatenate(list(rendering.chunks())).mean(1)
    rendering.notes()  # by now the curves of the whole piece are there
    hop = codec.hop
    latent = join_frames(
        sampler.latent_window, sampler.latent_overlap, LATENT_LOOKAHEAD, len(voices["neural"]) // hop
    )
    tempo = rendering.curve_source.curves()[:, TEMPO]
    curve = join_frames(sampler.curve_window, sampler.curve_overlap, CURVE_LOOKAHEAD, len(tempo))
    return (
        flux_places(voices["neural"], voices["sampler"], latent * hop, hop),
        tempo_places(tempo, curve),
    )


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True)],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to measure; the built-in one if left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    pieces: Annotated[int, typer.Option(help="Pieces, one take of each.")] = 6,
    seconds: Annotated[float, typer.Option(help="Length of a take, score seconds.")] = 60.0,
    steps: Annotated[int | None, typer.Option(help="Network calls for a window of latents.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the takes.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the networks.")] = 1,
) -> None:
    """Measure the seams of takes of held-out works."""
    opened = open_bundle(bundle)
    chosen = asap.pick(asap.read_index(data, split), per_piece=1)
    chosen = chosen[:: max(len(chosen) // pieces, 1)][:pieces]
    settings = RenderSettings(seed=seed, steps=steps)
    measured = []
    for performance in chosen:
        measured.append(measure_take(performance, opened, seconds, settings, threads))
        typer.echo(f"{performance.piece}: {len(measured[-1][0].joins)} latent joins", err=True)
    typer.echo(f"{len(chosen)} takes of up to {seconds:g} s ({split}), seed {seed}:\n")
    typer.echo("| joins | ratio | 95 % interval | joins measured | at most |")
    typer.echo("|---|---|---|---|---|")
    flux_, tempo = zip(*measured, strict=True)
    for name, places in (("flux, latent windows", flux_), ("tempo jump, curve windows", tempo)):
        if not any(len(p.joins) for p in places):
            typer.echo(f"| {name} | none | | 0 | {LIMIT} |")
            continue
        r = seam_ratio(pooled(list(places)))
        typer.echo(f"| {name} | {r.value:.2f} | {r.low:.2f} to {r.high:.2f} | {r.joins} | {LIMIT} |")


if __name__ == "__main__":
    typer.run(main)

"""Fit the network and the table behind `pkontext.rhythm` to the beats of the (n)ASAP pack.

``python -m train.rhythm --data DIR`` takes some minutes on one CPU core and writes
``pkontext/data/rhythm.npz``. Few pieces carry the data (131 of the training split), so the network is small
and much is varied: tempo and its drift, register, loudness, pedal or none, and sometimes the score's own
rhythm played like a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pkontext.rhythm import FEATURES, PERIODS, SLOTS, UNITS, find_events, log_time
from train import asap

CHANNELS, DILATIONS = 32, (1, 2, 4, 8, 16, 32)
BATCH, LENGTH = 24, 320
OUT = Path("pkontext/data/rhythm.npz")
_FAR_BEATS = 6
_SLOT_OF_UNIT = np.full(UNITS, -1)
_SLOT_OF_UNIT[SLOTS] = np.arange(len(SLOTS))
_SINCE, _UNTIL, _LOWEST, _HIGHEST, _LOUD, _LONGEST, _ACCENT, _PEDAL, _PEDAL_KNOWN = (
    FEATURES.index(name)
    for name in (
        "since", "until", "lowest", "highest", "loudest", "longest", "accent", "pedal", "pedal_known",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """Events of one performance with what is true of them.

    ``unit`` is the place in the score in units of a beat or -1, ``slot`` that place in its beat or -1,
    ``period`` the log of the beat's length in seconds around.
    """

    piece: str
    features: np.ndarray
    unit: np.ndarray
    slot: np.ndarray
    downbeat: np.ndarray
    period: np.ndarray


class RhythmNet(nn.Module):
    """Dilated convolutions over events; `pkontext.rhythm.listen` is the same in NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(len(FEATURES), CHANNELS, 3, padding=1)
        self.conv = nn.ModuleList(
            [nn.Conv1d(CHANNELS, CHANNELS, 3, padding=d, dilation=d) for d in DILATIONS]
        )
        self.mix = nn.ModuleList([nn.Conv1d(CHANNELS, CHANNELS, 1) for _ in DILATIONS])
        self.leave = nn.Conv1d(CHANNELS, len(SLOTS) + 1 + len(PERIODS), 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, features, events]`` to ``[batch, slots + 1 + periods, events]``."""
        if self.training:
            x = x + 0.25 * torch.randn_like(x)
        hidden = F.dropout1d(F.relu(self.enter(x)), 0.15, self.training)
        for conv, mix in zip(self.conv, self.mix, strict=True):
            hidden = hidden + mix(F.dropout1d(F.relu(conv(hidden)), 0.25, self.training))
        return self.leave(F.relu(hidden))

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights by the names and axes that `pkontext.rhythm` uses, float16."""
        named = {"in": self.enter, "out": self.leave}
        named |= {f"conv{n}": layer for n, layer in enumerate(self.conv)}
        named |= {f"mix{n}": layer for n, layer in enumerate(self.mix)}
        found: dict[str, np.ndarray] = {}
        for name, layer in named.items():
            weight = layer.weight.detach().numpy().transpose(2, 1, 0)  # type: ignore[union-attr]
            found[f"{name}_w"] = (weight if len(weight) == 3 else weight[0]).astype(np.float16)
            found[f"{name}_b"] = layer.bias.detach().numpy().astype(np.float16)  # type: ignore[union-attr]
        return found


def label(performance: asap.Performance) -> Labelled | None:
    """Events of a performance with their true places; None where its beats cannot be used."""
    notes, pedals = asap.read_midi_notes(performance.midi)
    pairs = asap.read_pairs(performance.alignment)
    score_beat, played_beat = pairs["beat_score"].astype(np.float64), pairs["beat_perf"].astype(np.float64)
    if len(score_beat) < 8 or (np.diff(score_beat) <= 0).any():
        return None
    events = find_events(notes, pedals)
    time = events.time_sec
    unit = _units(pairs, time, score_beat)
    known = unit >= 0
    beat = np.minimum(unit // UNITS, len(score_beat) - 1)
    rubato = known & (pairs["beat_type"][beat] == 2)
    unit[rubato | (time < played_beat[0] - 0.05) | (time > played_beat[-1] + 0.05)] = -1
    slot = np.where(unit >= 0, _SLOT_OF_UNIT[unit % UNITS], -1)
    period = np.diff(played_beat)
    period = np.convolve(np.pad(period, 1, mode="edge"), np.ones(3) / 3, "valid")
    middle = (played_beat[1:] + played_beat[:-1]) / 2
    return Labelled(
        performance.piece,
        events.features,
        unit,
        slot,
        (slot == 0) & (pairs["beat_type"][beat] == 1),
        np.log(np.clip(np.interp(time, middle, period), 0.1, 5.0)),
    )


def _units(pairs: dict[str, np.ndarray], time: np.ndarray, score_beat: np.ndarray) -> np.ndarray:
    """Place of each event in units of a beat, by the vote of its notes, or -1."""
    onset = pairs["score_onset"].astype(np.float64)
    inside = (pairs["grace"] == 0) & (onset >= score_beat[0] - 1e-3) & (onset <= score_beat[-1])
    exact = np.interp(onset, score_beat, np.arange(len(score_beat))) * UNITS
    played = pairs["perf_onset"].astype(np.float64)
    after = np.clip(np.searchsorted(time, played), 1, max(len(time) - 1, 1))
    event = np.where(played - time[after - 1] < time[after] - played, after - 1, after)
    sure = inside & (np.abs(time[event] - played) < 0.036) & (np.abs(exact - np.rint(exact)) < 0.3)
    votes: dict[int, list[int]] = {}
    for at, place in zip(event[sure].tolist(), np.rint(exact[sure]).astype(int).tolist(), strict=True):
        votes.setdefault(at, []).append(place)
    unit = np.full(len(time), -1)
    for at, places in votes.items():
        unit[at] = max(sorted(set(places)), key=places.count)
    return unit


def count_steps(performances: list[Labelled]) -> np.ndarray:
    """Cost of each step from slot to slot, see `pkontext.rhythm.weights`; every piece counts the same."""
    slots = len(SLOTS)
    counts = np.zeros((slots, slots, 4))
    weight = _piece_weights(performances)
    for one, share in zip(performances, weight, strict=True):
        unit = np.unique(one.unit[one.slot >= 0])
        for here, there in pairwise(unit):
            if there - here < _FAR_BEATS * UNITS:
                beats = min(int(there // UNITS - here // UNITS), 3)
                at = _SLOT_OF_UNIT[here % UNITS], _SLOT_OF_UNIT[there % UNITS], beats
                counts[at] += share * 30_000 / max(len(unit), 1)
    counts += 0.5 * np.where(np.arange(4) == 0, 1.0, 0.25)
    return -np.log(counts / counts.sum((1, 2), keepdims=True))


def _piece_weights(performances: list[Labelled]) -> np.ndarray:
    pieces = [one.piece for one in performances]
    weight = np.array([1.0 / pieces.count(piece) for piece in pieces])
    return weight / weight.sum()


def draw(
    performances: list[Labelled], weight: np.ndarray, rng: np.random.Generator, vary: bool
) -> list[Tensor]:
    """Draw a batch of excerpts: features, slot, downbeat, period, and where these are known."""
    x = np.zeros((BATCH, len(FEATURES), LENGTH), np.float32)
    slot, downbeat = np.full((BATCH, LENGTH), -1), np.zeros((BATCH, LENGTH), np.float32)
    period, known = np.zeros((BATCH, LENGTH), np.float32), np.zeros((BATCH, LENGTH), bool)
    for row in range(BATCH):
        one = performances[rng.choice(len(performances), p=weight)]
        start = int(rng.integers(0, max(1, len(one.slot) - LENGTH)))
        part = slice(start, start + LENGTH)
        features, beat = one.features[part].copy(), one.period[part].copy()
        if vary:
            if rng.random() < 0.15:
                _play_exactly(features, beat, one.unit[part], rng)
            _vary(features, beat, rng)
        n = len(features)
        x[row, :, :n], slot[row, :n], downbeat[row, :n] = features.T, one.slot[part], one.downbeat[part]
        period[row, :n], known[row, :n] = beat, one.slot[part] >= 0
    return [torch.from_numpy(array) for array in (x, slot, downbeat, period, known)]


def _play_exactly(x: np.ndarray, beat: np.ndarray, unit: np.ndarray, rng: np.random.Generator) -> None:
    """Replace the timing by the score's at a steady tempo with some noise; drop accents and pedal."""
    sure = np.flatnonzero(unit >= 0)
    if len(sure) < 0.8 * len(unit):
        return
    length = np.exp(np.clip(rng.normal(-0.45, 0.4), -1.4, 0.8))
    time = np.interp(np.arange(len(unit)), sure, unit[sure]) / UNITS * length
    gap = np.maximum(np.diff(time + rng.normal(0, rng.uniform(0, 0.02), len(unit))), 1e-3)
    before = x[:, _UNTIL].copy()
    x[:, _SINCE], x[:, _UNTIL] = log_time(np.append(gap[:1], gap)), log_time(np.append(gap, gap[-1:]))
    x[:, _LONGEST] = np.clip(x[:, _LONGEST] + x[:, _UNTIL] - before, -2, 2)
    x[:, [_ACCENT, _PEDAL, _PEDAL_KNOWN]] = 0
    beat[:] = np.log(length)


def _vary(x: np.ndarray, beat: np.ndarray, rng: np.random.Generator) -> None:
    """Another tempo with another drift, register, loudness, maybe no pedal."""
    knots = rng.normal(0, 0.08, len(x) // 40 + 2)
    shift = rng.normal(0, 0.15) + np.interp(np.arange(len(x)) / 40, np.arange(len(knots)), knots)
    for column in (_SINCE, _UNTIL, _LONGEST):
        x[:, column] += shift / np.log(2) / 2
    beat += shift
    x[:, _LOWEST] += rng.integers(-5, 6) / 20
    x[:, _HIGHEST] += rng.integers(-5, 6) / 20
    x[:, _LOUD] = x[:, _LOUD] * rng.uniform(0.5, 1.2) + rng.normal(0, 0.4)
    x[:, _ACCENT] *= rng.uniform(0.3, 1.2)
    if rng.random() < 0.35:
        x[:, [_PEDAL, _PEDAL_KNOWN]] = 0


def losses(out: Tensor, slot: Tensor, downbeat: Tensor, period: Tensor, known: Tensor) -> Tensor:
    """Cross entropy of slot, downbeat and period, ``[3]``."""
    slots = len(SLOTS)
    level = torch.tensor(np.log(PERIODS), dtype=torch.float32)
    target = torch.softmax(-0.5 * ((level[None, :, None] - period[:, None]) / 0.06) ** 2, 1)
    of_period = -(target * F.log_softmax(out[:, slots + 1 :], 1)).sum(1)[known].mean()
    of_bar = F.binary_cross_entropy_with_logits(out[:, slots], downbeat, reduction="none")[known].mean()
    return torch.stack([F.cross_entropy(out[:, :slots], slot, ignore_index=-1), of_bar, of_period])


def fit(performances: list[Labelled], steps: int, seed: int = 0) -> RhythmNet:
    """Train the network on one thread's random numbers; the same seed gives the same weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    weight, net = _piece_weights(performances), RhythmNet()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, n / 200) * (0.5 + 0.5 * np.cos(np.pi * min(1.0, n / steps))) + 0.003
    )
    for step in range(steps):
        x, *truth = draw(performances, weight, rng, vary=True)
        each = losses(net(x), *truth)
        loss = each @ torch.tensor([1.0, 1.0, 0.5])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        ramp.step()
        if step % 500 == 499:
            print(f"step {step + 1}: slot, downbeat, period {each.detach().numpy().round(3)}", flush=True)
    return net.eval()


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP training pack.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="File to write.")] = OUT,
    per_piece: Annotated[int, typer.Option(help="Performances of a piece at most.")] = 8,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 4000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Fit and write the file."""
    torch.set_num_threads(1)
    chosen = asap.pick(asap.read_index(data, "train"), per_piece)
    performances = [one for one in map(label, chosen) if one is not None]
    arrays = fit(performances, steps, seed).arrays()
    arrays["steps"] = count_steps(performances).astype(np.float16)
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    typer.echo(f"{len(performances)} performances, {out} of {out.stat().st_size} bytes")


if __name__ == "__main__":
    typer.run(main)

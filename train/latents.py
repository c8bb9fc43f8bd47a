"""The latent network's task: performed latents from the performed notes and the deadpan latents.

``python -m train latents --cache CACHE --out RUN``
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pkontext.codec import read_codec_folder
from pkontext.features import latent_local, local_channels
from pkontext.features import roll as note_roll
from pkontext.manifest import CONDITIONINGS
from pkontext.runtime import Graph
from pkontext.windows import context_window
from train.adopt import adopt
from train.curves import seeded_validation, task_loss
from train.dit_model import DiT, DiTConfig
from train.loop import LoopConfig, fit, run_record


class LatentData:
    """All latent files of a folder in memory, and windows of them."""

    def __init__(self, folder: Path, frame_sec: float) -> None:
        self.frame_sec = frame_sec
        self.items: list[dict[str, np.ndarray]] = []
        names = ("notes", "end_sec", "deadpan_latents", "latents", "position")
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as archive:
                self.items.append({name: archive[name] for name in names})
        if not self.items:
            raise FileNotFoundError(f"No prepared latents in {folder}; run `python -m train prepare` first.")
        length = np.array([len(item["latents"]) for item in self.items], float)
        self.hours = float(length.sum() * frame_sec / 3600)
        self.share = length / length.sum()
        self.dim = self.items[0]["latents"].shape[1]

    def window(self, index: int, start: int, frames: int) -> dict[str, np.ndarray]:
        """One window: latents, local features, context and positions in performed frames."""
        item = self.items[index]
        notes = item["notes"]
        painted = note_roll(
            notes["onset_sec"], item["end_sec"], item["end_sec"], notes["pitch"], notes["velocity"],
            start, frames, self.frame_sec,
        )  # fmt: skip
        position = item["position"]
        deadpan = item["deadpan_latents"].astype(np.float32)
        return {
            "clean": item["latents"][start : start + frames].astype(np.float32),
            "roll": painted,
            **context_window(deadpan, position, start, frames),
        }


def channel_weights(
    decoder: Graph, data: LatentData, context: int, floor: float = 0.1, probes: int = 4
) -> np.ndarray:
    """How much an error in each latent channel matters in the decoded log magnitudes.

    Parameters
    ----------
    decoder : Graph
        The codec's decoder.
    data : LatentData
    context : int
        Latent frames on each side that can change what a frame is decoded to.
    floor : float
        Share of the weight that is the same for all channels.
    probes : int
        Places to measure at.

    Returns
    -------
    ndarray
        float32 ``[dim]``, mean one: squared change of log magnitudes for a step in a channel of one frame.
    """
    step = np.float32(0.3)
    change = np.zeros(data.dim)
    for index in np.linspace(0, len(data.items) - 1, probes).astype(int):
        latents = data.items[index]["latents"]
        middle = len(latents) // 2
        window = latents[middle - context : middle + context + 1].astype(np.float32)[None]
        base = decoder(latents=window)
        for channel in range(data.dim):
            moved = window.copy()
            moved[:, context, channel] += step
            change[channel] += np.mean((decoder(latents=moved) - base) ** 2)
    return (floor + (1 - floor) * change / change.mean()).astype(np.float32)


def loss_weights(codec: Path, data: LatentData) -> np.ndarray:
    """Weights of the channels in the loss, float32 ``[dim]``, for the codec of a run folder.

    They are measured in log magnitudes, so codecs that decode to anything else have ones.
    """
    entry, _ = read_codec_folder(codec)
    if entry.kind != "log-magnitude":
        return np.ones(data.dim, np.float32)
    return channel_weights(Graph(codec / "decoder.onnx", 1, "cpu"), data, entry.decode_context)


class LatentBatches(Iterator[dict[str, Tensor]]):
    """Endless random windows as inputs of `train.dit_model.flow_loss`."""

    def __init__(
        self,
        data: LatentData,
        batch: int,
        frames: int,
        seed: int,
        drop: float = 0.1,
        weights: np.ndarray | None = None,
        conditioning: str = "notes",
    ) -> None:
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning {conditioning!r} is not one of {', '.join(CONDITIONINGS)}")
        self.data, self.batch, self.frames, self.drop = data, batch, frames, drop
        self.by_notes = conditioning == "notes"
        self.weights = np.ones(data.dim, np.float32) if weights is None else weights
        self.seed, self.step = seed, 0

    def __next__(self) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, self.step))
        self.step += 1
        rows = [self._row(rng) for _ in range(self.batch)]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _row(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        frames, data = self.frames, self.data
        index = rng.choice(len(data.share), p=data.share)
        last = len(data.items[index]["latents"]) - frames
        start = 0 if last < 1 or rng.random() < 0.05 else int(rng.integers(0, last))
        window = data.window(index, start, frames)
        short = frames - len(window["clean"])
        clean = np.pad(window["clean"], ((0, short), (0, 0)))
        weight = np.tile(self.weights, (frames, 1))
        weight[frames - short :] = 0
        known = np.zeros_like(clean)
        kind = rng.random()
        if start > 0 and kind > 0.2:
            known[: rng.integers(1, 33)] = 1
        if kind > 0.9:
            known[frames - rng.integers(4, 33) :] = 1
        roll_there, context_there = rng.random(2) >= self.drop
        same = np.pad(window["same"], ((0, short), (0, 0)))
        painted = window["roll"] if roll_there and self.by_notes else None
        placed = same if context_there and self.by_notes else None
        local = latent_local(painted, placed, frames, data.dim)
        return {
            "clean": clean,
            "known": known,
            "weight": weight,
            "local": local,
            "position": np.arange(frames, dtype=np.float32),
            "context": window["context"] * np.float32(context_there),
            "context_position": window["context_position"],
        }


def latent_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Flow loss of the latent network."""
    return task_loss(model, batch, power=1.0, shift=-0.2, pure=0.0)


def _shared_channels(codec: Path | None, init: Path) -> int:
    """Channels of the other network's latents, if the codec keeps their meaning; else 0."""
    if codec is None or not (codec / "config.json").exists():
        return 0
    sizes = json.loads((codec / "config.json").read_text()).get("codec", {})
    dim = json.loads((init / "config.json").read_text())["dit"]["state"]
    return dim if dim == sizes.get("coarse", {}).get("dim") else 0


def train_latents(
    cache: Path,
    loop: LoopConfig,
    frame_sec: float,
    codec: Path | None = None,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    patch: int = 4,
    batch: int = 12,
    frames: int = 96,
    resume: bool = False,
    init: Path | None = None,
    conditioning: str = "notes",
) -> DiT:
    """Train the latent network from prepared data; the run folder holds the result.

    With the ``codec``'s run folder the loss weights each channel by what it does to the sound, if
    the codec decodes to log magnitudes; other codecs' channels weigh the same. ``init`` is a run
    folder to start from, see `train.adopt`; when it was trained on the coarse channels of this codec, it
    keeps what it can do. With ``conditioning`` "latents" the network sees deadpan
    latents as context and nothing else, which is PianoKontext's conditioning.
    """
    data = LatentData(cache / "latents" / "train", frame_sec)
    config = DiTConfig(
        state=data.dim,
        local=local_channels(data.dim),
        context=data.dim,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
    )
    torch.manual_seed(loop.seed)
    model = DiT(config)
    started = None if init is None else run_record(init).get("bundle", init.name)
    if resume and (Path(loop.out) / "config.json").exists():
        started = json.loads((Path(loop.out) / "config.json").read_text()).get("init")
    if init is not None and not resume:
        adopt(model, init, _shared_channels(codec, init))
    held_out = LatentBatches(
        LatentData(cache / "latents" / "val", frame_sec), 12, frames, 1, drop=0.0, conditioning=conditioning
    )
    validation = [next(held_out) for _ in range(4)]
    meta = {
        "dit": config.to_dict(),
        "task": "latents",
        "frames": frames,
        "batch": batch,
        "data": {"performances": len(data.items), "hours": data.hours},
        "conditioning": conditioning,
        "init": started,
    }
    weights = None if codec is None else loss_weights(codec, data)
    source = LatentBatches(data, batch, frames, loop.seed, weights=weights, conditioning=conditioning)
    validate = seeded_validation(validation, latent_loss)
    return fit(model, latent_loss, source, loop, meta, validate, resume)  # type: ignore[return-value]

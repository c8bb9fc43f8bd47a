"""Export trained DiTs: the curve network and the latent network."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from export.graphs import Store, export_graph
from pkontext.windows import CONTEXT_MARGIN
from train.dit_model import DiT, DiTConfig


def load_dit(run: Path) -> tuple[DiT, dict]:
    """Load the EMA weights and the configuration of a run folder; strict."""
    meta = json.loads((run / "config.json").read_text())
    model = DiT(DiTConfig(**meta["dit"]))
    model.load_state_dict(load_file(run / "model.safetensors"))
    return model.eval(), meta


def example_inputs(config: DiTConfig, frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs of the right shapes, with a given prefix."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    known = torch.zeros(1, frames, config.state)
    known[:, : frames // 4] = 1
    inputs = {
        "x": normal(1, frames, config.state),
        "known": known,
        "local": normal(1, frames, config.local).abs() * 0.2,
        "position": torch.arange(frames, dtype=torch.float32)[None],
        "time": torch.tensor([0.4]),
    }
    if config.context:
        count = frames + CONTEXT_MARGIN
        inputs["context"] = normal(1, count, config.context)
        inputs["context_position"] = torch.arange(count, dtype=torch.float32)[None] - CONTEXT_MARGIN / 2
    return inputs


def export_dit(model: DiT, frames: int, path: Path, store: Store = "half") -> float:
    """Write a DiT for windows of ``frames`` frames; returns the largest difference from torch."""
    return export_graph(model.cpu(), path, example_inputs(model.config, frames), "clean", store=store)

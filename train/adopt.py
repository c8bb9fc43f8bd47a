"""Start a latent network from one that was trained on another codec."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from pkontext.features import ROLL
from train.dit_model import DiT


@torch.no_grad()
def adopt(model: DiT, run: Path) -> list[str]:
    """Copy what another run's network knows and this one can use.

    That is every tensor of equal shape except those that read or write latents, whose channels mean
    something else in another codec; of the local features, the note roll and the flags.

    Parameters
    ----------
    model : DiT
        A latent network; changed in place.
    run : Path
        Run folder with ``model.safetensors`` of a latent network of the same width.

    Returns
    -------
    list of str
        Names of the tensors that were taken, in whole or in part.

    Raises
    ------
    ValueError
        When nothing fits.
    """
    other = load_file(run / "model.safetensors")
    taken = []
    for name, value in model.state_dict().items():
        source = other.get(name)
        if source is None:
            continue
        if name == "local_in.weight" and source.shape[::2] == value.shape[::2]:
            value[:, :ROLL] = source[:, :ROLL]
            value[:, -2:] = source[:, -2:]
        elif source.shape == value.shape and not name.startswith(("state_in", "context_in", "out.")):
            value.copy_(source)
        else:
            continue
        taken.append(name)
    if not any(name.startswith("blocks") for name in taken):
        raise ValueError(f"The network in {run} has other sizes. Choose a run with the same width and depth.")
    return taken

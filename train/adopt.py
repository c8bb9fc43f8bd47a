"""Start a latent network from one that was trained on another codec."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from pkontext.features import ROLL
from train.dit_model import DiT


@torch.no_grad()
def adopt(model: DiT, run: Path, shared: int = 0) -> list[str]:
    """Copy what another run's network knows and this one can use.

    That is every tensor of equal shape except those that read or write latents, whose channels mean
    something else in another codec; of the local features, the note roll and the flags. Where the first
    ``shared`` channels of both codecs mean the same, what reads and writes these is copied too, and the rest
    of it begins at zero, so that the network begins with what the other could do.

    Parameters
    ----------
    model : DiT
        A latent network; changed in place.
    run : Path
        Run folder with ``model.safetensors`` of a latent network of the same width.
    shared : int
        All channels of the other's latents, or 0.

    Returns
    -------
    list of str
        Names of the tensors that were taken, in whole or in part.

    Raises
    ------
    ValueError
        When nothing fits, or the other network has another number of channels than ``shared``.
    """
    other = load_file(run / "model.safetensors")
    if shared and shared != len(other["out.bias"]):
        raise ValueError(f"The network in {run} has {len(other['out.bias'])} channels, not {shared}.")
    taken = []
    for name, value in model.state_dict().items():
        source = other.get(name)
        if source is None:
            continue
        reads_latents = name.startswith(("state_in", "context_in", "out."))
        if shared and name.endswith("_in.weight") and name != "local_in.weight":
            value.zero_()
            groups = source.shape[1] // shared  # state and mask, or the frames of a context token
            value.unflatten(1, (groups, -1))[:, :, :shared] = source.unflatten(1, (groups, -1))
        elif shared and name.startswith("out."):
            value.zero_()
            value[:shared] = source
        elif name == "local_in.weight" and source.shape[::2] == value.shape[::2]:
            if shared:
                value.zero_()
            value[:, : ROLL + shared] = source[:, : ROLL + shared]
            value[:, -2:] = source[:, -2:]
        elif source.shape == value.shape and (shared or not reads_latents):
            value.copy_(source)
        else:
            continue
        taken.append(name)
    if not any(name.startswith("blocks") for name in taken):
        raise ValueError(f"The network in {run} has other sizes. Choose a run with the same width and depth.")
    return taken

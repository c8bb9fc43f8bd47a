"""The flow-matching diffusion transformer (DiT), used for curves and for latents.

Tokens are frames of the state; context tokens (deadpan latents) stand beside them in every
block's self-attention, as in PianoKontext (arXiv 2606.12282) and FLUX Kontext. Rotary positions
are real numbers on one time axis, so a context token sits where its music is played. The network
predicts the clean state; the velocity of the rectified flow follows as
``(predicted - x) / (1 - t)``. A frame that is given clean is marked by ``known``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a DiT.

    ``state`` is channels of the flow, ``local`` channels of features known for each frame,
    ``context`` channels of context frames (0: none), ``patch`` context frames a token, ``stride``
    frames of the state a token, ``dropout`` in training.
    """

    state: int
    local: int
    context: int = 0
    patch: int = 2
    width: int = 256
    depth: int = 8
    heads: int = 4
    mlp: int = 3
    kernel: int = 3
    stride: int = 1
    dropout: float = 0.0

    def to_dict(self) -> dict:
        """Plain values for a run's ``config.json``."""
        return asdict(self)


class DiT(nn.Module):
    """State, features and context to the predicted clean state."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.state_in = nn.Linear(2 * c.state * c.stride, c.width)
        self.local_in = nn.Conv1d(
            c.local, c.width, c.kernel + c.stride - 1, stride=c.stride, padding=c.kernel // 2
        )
        self.local_mix = nn.Sequential(nn.GELU(), nn.Linear(c.width, c.width))
        self.context_in = nn.Linear(c.context * c.patch, c.width) if c.context else None
        self.time = nn.Sequential(nn.Linear(128, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.width, 6 * c.width))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, elementwise_affine=False)
        self.out_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c.width, 2 * c.width))
        self.out = nn.Linear(c.width, c.state * c.stride)
        for layer in (self.modulation[1], self.out_modulation[1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(
        self,
        x: Tensor,
        known: Tensor,
        local: Tensor,
        position: Tensor,
        time: Tensor,
        context: Tensor | None = None,
        context_position: Tensor | None = None,
    ) -> Tensor:
        """Predict the clean state. Frames are a multiple of ``stride``.

        Parameters
        ----------
        x : Tensor
            ``[batch, frames, state]``: noisy where not known, clean where known.
        known : Tensor
            ``[batch, frames, state]``, 1 where ``x`` is given.
        local : Tensor
            ``[batch, frames, local]``.
        position : Tensor
            ``[batch, frames]``, in frames.
        time : Tensor
            ``[batch]``, 0 noise .. 1 clean.
        context : Tensor, optional
            ``[batch, context_frames, context]``; a multiple of ``patch`` frames.
        context_position : Tensor, optional
            ``[batch, context_frames]``, on the axis of ``position``.
        """
        stride = self.config.stride
        state = torch.cat([x, known], 2)
        if stride > 1:
            state = state.unflatten(1, (-1, stride)).flatten(2)
            position = position.unflatten(1, (-1, stride)).mean(2)
        tokens = self.state_in(state)
        count = tokens.shape[1]
        tokens = tokens + self.local_mix(self.local_in(local.transpose(1, 2)).transpose(1, 2))
        if self.context_in is not None and context is not None and context_position is not None:
            patch = self.config.patch
            extra = self.context_in(context.unflatten(1, (-1, patch)).flatten(2))
            tokens = torch.cat([tokens, extra], 1)
            position = torch.cat([position, context_position.unflatten(1, (-1, patch)).mean(2)], 1)
        condition = self.time(_time_embedding(time))
        modulation = self.modulation(condition)
        cos, sin = _rotary(position, self.config.width // self.config.heads)
        for block in self.blocks:
            tokens = block(tokens, modulation, cos, sin)
        shift, scale = self.out_modulation(condition)[:, None].chunk(2, 2)
        out = self.out(self.norm(tokens[:, :count]) * (1 + scale) + shift)
        return out.unflatten(2, (stride, -1)).flatten(1, 2) if stride > 1 else out


class Block(nn.Module):
    """Self-attention and MLP, modulated by time (adaLN with shared projection, own offsets)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.drop = nn.Dropout(config.dropout)
        self.offset = nn.Parameter(torch.zeros(6 * width))
        with torch.no_grad():
            self.offset[2 * width : 3 * width] = 0.2
            self.offset[5 * width :] = 0.2
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, config.mlp * width)
        self.down = nn.Linear(config.mlp * width, width)

    def forward(self, x: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset)[:, None].chunk(6, 2)
        x = x + gate1 * self.drop(self.attend(self.norm1(x) * (1 + scale1) + shift1, cos, sin))
        hidden = functional.gelu(self.up(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.drop(self.down(hidden))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Self-attention over all tokens with rotary positions."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = _rotate(_unit(q), cos, sin), _rotate(_unit(k), cos, sin)
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=_ATTENTION_SCALE)
        return self.proj(mixed.transpose(1, 2).flatten(2))


_ATTENTION_SCALE = 8.0


def _unit(x: Tensor) -> Tensor:
    """Query-key normalisation, which keeps attention stable at high learning rates."""
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6)


def _rotary(position: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[batch, 1, tokens, head_dim / 2]``; wavelengths of 4 to 2000 frames."""
    count = head_dim // 2
    steps = torch.arange(count, dtype=torch.float32, device=position.device) / (count - 1)
    frequency = 2 * math.pi / (4.0 * 500.0**steps)
    angle = (position[:, :, None] * frequency)[:, None]
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def _time_embedding(time: Tensor) -> Tensor:
    frequency = torch.exp(
        torch.arange(64, dtype=torch.float32, device=time.device) * (-math.log(1000.0) / 63)
    )
    angle = 1000.0 * time[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


def flow_loss(
    model: nn.Module,
    clean: Tensor,
    known: Tensor,
    weight: Tensor,
    power: float = 1.0,
    shift: float = -0.2,
    pure: float = 0.0,
    generator: torch.Generator | None = None,
    **inputs: Tensor,
) -> dict[str, Tensor]:
    """Rectified-flow loss on what is not given.

    ``x_t = t * clean + (1 - t) * noise`` (Liu et al. 2023), times drawn logit-normal (Esser et
    al. 2024). The velocity error equals the error of the predicted clean state over ``1 - t``; its
    square (``power`` 2) makes the last, nearly clean steps count most. With fewer powers the early
    steps, which decide what is played, are learned sooner.

    Parameters
    ----------
    clean, known : Tensor
        ``[batch, frames, state]``.
    weight : Tensor
        ``[batch, frames, state]``, 0 where the loss must not look (padding, missing truth).
    power : float
        Exponent of ``1 / max(1 - t, 0.2)`` in the loss.
    shift : float
        Mean of the logit of the time; lower is noisier.
    pure : float
        Share of the batch at time 0, from pure noise, where the network can go by its inputs alone.
    inputs : Tensor
        ``local``, ``position``, ``context``, ``context_position`` of `DiT.forward`.
    """
    batch = len(clean)
    time = torch.sigmoid(torch.randn(batch, device=clean.device, generator=generator) + shift)
    if pure:
        time = time * (torch.rand(batch, device=clean.device, generator=generator) >= pure)
    noise = torch.randn(clean.shape, device=clean.device, generator=generator)
    mixed = time[:, None, None] * clean + (1 - time[:, None, None]) * noise
    given = clean + 0.1 * torch.randn(clean.shape, device=clean.device, generator=generator)
    predicted = model(torch.where(known > 0, given, mixed), known, time=time, **inputs).float()
    error = (predicted - clean).pow(2) * weight * (1 - known)
    mass = (weight * (1 - known)).sum().clamp(min=1)
    scale = (1 - time).clamp(min=0.2)[:, None, None] ** -power
    return {"loss": (error * scale).sum() / mass, "clean_mse": error.sum() / mass}

"""The scalable piano codec: a coarse codec, and fine channels for what it leaves out.

The coarse codec (`train.codec_model`) gives the first channels of a latent frame and never changes. Fine
channels are a two-level PCA of the difference between the log magnitudes and what the coarse decoder makes of
them, at twice the rate of STFT frames. One decoder reads both; it starts as the coarse one with that PCA's
reconstruction added and is trained on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from pkontext.stft import StftSpec
from train.codec_model import LATENT_HOP, CodecConfig, Encoder, Trunk, principal


@dataclass(frozen=True)
class FineConfig:
    """Sizes of the fine part; ``step`` is STFT frames a frame of the coarse codec's."""

    coarse: CodecConfig = field(default_factory=CodecConfig)
    fine: int = 768
    fine_width: int = 512
    step: int = 2

    def to_dict(self) -> dict:
        """Plain values for a run's ``config.json``."""
        return asdict(self)

    @property
    def dim(self) -> int:
        """Channels of a latent frame: coarse ones, then fine ones."""
        return self.coarse.dim + self.fine

    @property
    def stacked(self) -> int:
        """STFT frames of a middle frame."""
        return self.step * self.coarse.stack[0]

    @property
    def frames_per_latent(self) -> int:
        """STFT frames that make one latent frame."""
        return self.step * self.coarse.frames_per_latent

    @property
    def stft(self) -> StftSpec:
        """The spectra that it sees."""
        return StftSpec(self.coarse.stft.n_fft, LATENT_HOP // self.frames_per_latent)

    @property
    def encode_context(self) -> int:
        """Latent frames of audio needed on each side for an exact encoding."""
        return self.coarse.encode_context + self.coarse.decode_context

    @property
    def decode_context(self) -> int:
        """Latent frames needed on each side for an exact decoding."""
        return self.coarse.decode_context


class FineEncoder(nn.Module):
    """Log magnitudes ``[batch, 16 * frames, bins]`` to latents ``[batch, frames, dim]``.

    ``expected`` and ``repeat`` are the coarse decoder at the finer rate; what they say is taken away.
    """

    def __init__(self, config: FineConfig) -> None:
        super().__init__()
        self.config = config
        c = config.coarse
        self.coarse = Encoder(c)
        self.expected = Trunk(c, c.dim)
        self.repeat = nn.Linear(c.width, config.stacked * c.bins)
        self.register_buffer("bin_mean", torch.zeros(c.bins))
        self.inp = nn.Linear(config.stacked * c.bins, config.fine_width, bias=False)
        self.out = nn.Linear(c.stack[1] * config.fine_width, config.fine)

    def left(self, log_mag: Tensor, coarse: Tensor) -> Tensor:
        """What the coarse latents leave out, ``[batch, 4 * frames, stacked * bins]``."""
        stacked = (log_mag - self.bin_mean).unflatten(1, (-1, self.config.stacked)).flatten(2)
        return stacked - self.repeat(self.expected(coarse))

    def folded(self, left: Tensor) -> Tensor:
        """Its leading components, those of one latent frame side by side."""
        return self.inp(left).unflatten(1, (-1, self.config.coarse.stack[1])).flatten(2)

    def forward(self, log_mag: Tensor) -> Tensor:
        coarse = self.coarse(log_mag[:, :: self.config.step])
        return torch.cat([coarse, self.out(self.folded(self.left(log_mag, coarse)))], 2)


class FineDecoder(Trunk):
    """Latents ``[batch, frames, dim]`` to log magnitudes ``[batch, 16 * frames, bins]``."""

    def __init__(self, config: FineConfig) -> None:
        super().__init__(config.coarse, config.dim)
        self.config = config
        c = config.coarse
        self.register_buffer("bin_mean", torch.zeros(c.bins))
        self.direct = nn.Linear(config.dim, c.stack[1] * config.fine_width)
        self.out = nn.Linear(c.width + config.fine_width, config.stacked * c.bins)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.out(torch.cat([self.hidden(latents), self.unstacked(self.direct(latents))], 2))
        return x.unflatten(2, (self.config.stacked, -1)).flatten(1, 2) + self.bin_mean


class FineCodec(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: FineConfig) -> None:
        super().__init__()
        self.encoder = FineEncoder(config)
        self.decoder = FineDecoder(config)

    @torch.no_grad()
    def fit(self, coarse: Encoder, trunk: Trunk, batches: list[Tensor]) -> None:
        """Set all weights: the coarse codec's, least squares and a PCA, without training.

        Parameters
        ----------
        coarse, trunk
            Encoder of the coarse codec, and its decoder up to the last layer.
        batches : list of Tensor
            Log magnitudes ``[batch, 16 * frames, bins]``.
        """
        enc, dec, config = self.encoder, self.decoder, self.encoder.config
        c = config.coarse
        enc.coarse.load_state_dict(coarse.state_dict())
        for name in ("inp", "deep", "unfold", "middle"):
            getattr(enc.expected, name).load_state_dict(getattr(trunk, name).state_dict())
        bin_mean = torch.stack([batch.mean((0, 1)) for batch in batches]).mean(0)
        enc.bin_mean.copy_(bin_mean)
        dec.bin_mean.copy_(bin_mean)
        latents = [enc.coarse(batch[:, :: config.step]) for batch in batches]
        nn.init.zeros_(enc.repeat.weight)
        nn.init.zeros_(enc.repeat.bias)
        wanted = [enc.left(batch, z) for batch, z in zip(batches, latents, strict=True)]
        _least_squares(enc.repeat, [enc.expected(z) for z in latents], wanted)
        left = [enc.left(batch, z) for batch, z in zip(batches, latents, strict=True)]
        first = principal(torch.cat(left).flatten(0, 1), config.fine_width)
        enc.inp.weight.copy_(first.T)
        rows = torch.cat([enc.folded(x).flatten(0, 1) for x in left])
        basis = principal(rows, config.fine)
        fine = rows @ basis
        mean, std = fine.mean(0), fine.std(0) + 1e-5
        enc.out.weight.copy_(basis.T / std[:, None])
        enc.out.bias.copy_(-mean / std)
        for name in ("deep", "unfold", "middle"):
            getattr(dec, name).load_state_dict(getattr(trunk, name).state_dict())
        nn.init.zeros_(dec.inp.weight)
        nn.init.zeros_(dec.direct.weight)
        dec.inp.weight[:, : c.dim] = trunk.inp.weight
        dec.inp.bias.copy_(trunk.inp.bias)
        dec.direct.weight[:, c.dim :] = basis * std
        dec.direct.bias.copy_(basis @ mean)
        dec.out.weight.copy_(torch.cat([enc.repeat.weight, first], 1))
        dec.out.bias.copy_(enc.repeat.bias)


def _least_squares(layer: nn.Linear, inputs: list[Tensor], targets: list[Tensor]) -> None:
    """Least squares with a bias."""
    square, product = 0.0, 0.0
    for rows, wanted in zip(inputs, targets, strict=True):
        x, y = rows.flatten(0, 1), wanted.flatten(0, 1)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        square, product = square + (x.T @ x).double(), product + (x.T @ y).double()
    ridge = 1e-6 * square.diagonal().mean() * torch.eye(len(square), dtype=torch.double)
    solution = torch.linalg.solve(square + ridge, product).float()
    layer.weight.copy_(solution[:-1].T)
    layer.bias.copy_(solution[-1])

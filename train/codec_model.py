"""The piano codec: an autoencoder of log-magnitude spectrograms whose linear path starts as a PCA.

Two STFT frames are stacked and projected to a narrow width at 43 Hz, four of those are stacked
and projected to the latent rate of 10.77 Hz; the decoder mirrors it. Residual ConvNeXt blocks
(Liu et al. 2022, "A ConvNet for the 2020s") start at zero, so training begins at the PCA.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from pkontext.stft import StftSpec

#: Samples of a latent frame.
LATENT_HOP = 4096


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the codec; ``stack`` is STFT frames a middle frame and middle frames a latent."""

    bins: int = 1025
    stack: tuple[int, int] = (2, 4)
    width: int = 384
    latent_width: int = 512
    dim: int = 256
    kernel: int = 5
    latent_kernel: int = 3
    encoder_blocks: tuple[int, int] = (2, 2)
    decoder_blocks: tuple[int, int] = (2, 5)
    expansion: int = 3

    def to_dict(self) -> dict:
        """Plain values for a run's ``config.json``."""
        return asdict(self)

    @property
    def frames_per_latent(self) -> int:
        """STFT frames that make one latent frame."""
        return self.stack[0] * self.stack[1]

    @property
    def stft(self) -> StftSpec:
        """The spectra that it sees."""
        return StftSpec(2 * (self.bins - 1), LATENT_HOP // self.frames_per_latent)

    @property
    def encode_context(self) -> int:
        """Latent frames of audio needed on each side for an exact encoding."""
        return self._context(self.encoder_blocks[0], self.encoder_blocks[1])

    @property
    def decode_context(self) -> int:
        """Latent frames needed on each side for an exact decoding."""
        return self._context(self.decoder_blocks[1], self.decoder_blocks[0])

    def _context(self, middle: int, latent: int) -> int:
        middle_reach = middle * (self.kernel // 2)
        return -(-middle_reach // self.stack[1]) + latent * (self.latent_kernel // 2)


class Block(nn.Module):
    """A ConvNeXt block over time, ``[batch, time, width]`` to the same; starts as identity."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return x + self.down(nn.functional.gelu(self.up(y)))


class Encoder(nn.Module):
    """Log magnitudes ``[batch, 8 * frames, bins]`` to latents ``[batch, frames, dim]``."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("bin_mean", torch.zeros(config.bins))
        self.register_buffer("latent_mean", torch.zeros(config.dim))
        self.register_buffer("latent_std", torch.ones(config.dim))
        c = config
        self.inp = nn.Linear(c.stack[0] * c.bins, c.width)
        self.middle = nn.Sequential(
            *(Block(c.width, c.kernel, c.expansion) for _ in range(c.encoder_blocks[0]))
        )
        self.fold = nn.Linear(c.stack[1] * c.width, c.latent_width)
        self.deep = nn.Sequential(
            *(Block(c.latent_width, c.latent_kernel, c.expansion) for _ in range(c.encoder_blocks[1]))
        )
        self.out = nn.Linear(c.latent_width, c.dim)

    def raw(self, log_mag: Tensor) -> Tensor:
        """Latents before normalisation."""
        c = self.config
        x = (log_mag - self.bin_mean).unflatten(1, (-1, c.stack[0])).flatten(2)
        x = self.middle(self.inp(x)).unflatten(1, (-1, c.stack[1])).flatten(2)
        return self.out(self.deep(self.fold(x)))

    def forward(self, log_mag: Tensor) -> Tensor:
        return (self.raw(log_mag) - self.latent_mean) / self.latent_std


class Trunk(nn.Module):
    """A decoder up to its last layer: latents ``[batch, frames, dim]`` to ``[batch, 4 * frames, width]``."""

    def __init__(self, config: CodecConfig, dim: int) -> None:
        super().__init__()
        c, self._stack = config, config.stack[1]
        self.inp = nn.Linear(dim, c.latent_width)
        self.deep = nn.Sequential(
            *(Block(c.latent_width, c.latent_kernel, c.expansion) for _ in range(c.decoder_blocks[0]))
        )
        self.unfold = nn.Linear(c.latent_width, c.stack[1] * c.width)
        self.middle = nn.Sequential(
            *(Block(c.width, c.kernel, c.expansion) for _ in range(c.decoder_blocks[1]))
        )

    def hidden(self, latents: Tensor) -> Tensor:
        """What the last layer reads."""
        return self.middle(self.unstacked(self.unfold(self.deep(self.inp(latents)))))

    def unstacked(self, x: Tensor) -> Tensor:
        """Latent frames ``[batch, frames, 4 * width]`` as middle frames ``[batch, 4 * frames, width]``."""
        return x.unflatten(2, (self._stack, -1)).flatten(1, 2)

    def forward(self, latents: Tensor) -> Tensor:
        return self.hidden(latents)


class Decoder(Trunk):
    """Latents ``[batch, frames, dim]`` to log magnitudes ``[batch, 8 * frames, bins]``."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config, config.dim)
        self.config = config
        self.register_buffer("bin_mean", torch.zeros(config.bins))
        self.out = nn.Linear(config.width, config.stack[0] * config.bins)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.out(self.hidden(latents))
        return x.unflatten(2, (self.config.stack[0], -1)).flatten(1, 2) + self.bin_mean


class Codec(nn.Module):
    """Encoder and decoder, trained together."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, log_mag: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct ``log_mag`` from latents with noise of std ``noise`` ``[batch, 1, 1]`` added.

        Latents are normalised by running statistics, so noise has the same meaning all through
        training. Those of the batch would take its average level and timbre away from the decoder.

        Returns
        -------
        log_mag : Tensor
            Reconstruction, the shape of the input.
        latents : Tensor
            ``[batch, frames, dim]``, without the noise.
        """
        encoder = self.encoder
        raw = encoder.raw(log_mag)
        if self.training:
            with torch.no_grad():
                encoder.latent_mean.lerp_(raw.mean((0, 1)), 0.01)
                encoder.latent_std.lerp_(raw.std((0, 1)) + 1e-5, 0.01)
        latents = (raw - encoder.latent_mean.clone()) / encoder.latent_std.clone()
        return self.decoder(latents + noise * torch.randn_like(latents)), latents

    @torch.no_grad()
    def calibrate(self, batches: list[Tensor]) -> None:
        """Fix the latent statistics from fresh batches of log magnitudes.

        The decoder's first layer takes the change up, so what is decoded stays the same.
        """
        raw = torch.cat([self.encoder.raw(batch).flatten(0, 1) for batch in batches])
        mean, std = raw.mean(0), raw.std(0) + 1e-5
        encoder, inp = self.encoder, self.decoder.inp
        inp.bias += inp.weight @ ((mean - encoder.latent_mean) / encoder.latent_std)
        inp.weight *= std / encoder.latent_std
        encoder.latent_mean.copy_(mean)
        encoder.latent_std.copy_(std)

    @torch.no_grad()
    def init_pca(self, log_mag: Tensor) -> None:
        """Set the linear path to a two-level PCA of log magnitudes ``[batch, time, bins]``."""
        enc, dec, c = self.encoder, self.decoder, self.encoder.config
        mean = log_mag.mean((0, 1))
        enc.bin_mean.copy_(mean)
        dec.bin_mean.copy_(mean)
        x = (log_mag - mean).unflatten(1, (-1, c.stack[0])).flatten(2)
        first = principal(x.flatten(0, 1), c.width)
        y = (x @ first).unflatten(1, (-1, c.stack[1])).flatten(2)
        second = principal(y.flatten(0, 1), c.latent_width)
        std = (y.flatten(0, 1) @ second[:, : c.dim]).std(0)
        enc.latent_mean.zero_()
        enc.latent_std.fill_(1)
        for layer in (enc.inp, enc.fold, enc.out, dec.inp, dec.unfold, dec.out):
            nn.init.zeros_(layer.bias)
        enc.inp.weight.copy_(first.T)
        enc.fold.weight.copy_(second.T)
        enc.out.weight.copy_(torch.eye(c.dim, c.latent_width) / std[:, None])
        dec.inp.weight.copy_(torch.eye(c.latent_width, c.dim) * std)
        dec.unfold.weight.copy_(second)
        dec.out.weight.copy_(first)


def principal(rows: Tensor, count: int) -> Tensor:
    """Leading eigenvectors of the second moments of ``rows`` ``[n, d]`` as columns ``[d, count]``."""
    few = count <= len(rows) < rows.shape[1]
    square = torch.zeros(1, dtype=torch.double)
    for part in [rows.T] if few else rows.split(8192):
        square = square + (part.T @ part).double()
    if len(square) > 2048:  # where double precision would take minutes
        square = square.float() / len(rows)
    vectors = torch.linalg.eigh(square)[1].flip(1)[:, :count].float()
    return torch.linalg.qr(rows.T @ vectors)[0] if few else vectors

"""The scalable codec: fine channels beside coarse ones that stay what they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train import codec as task
from train.codec_model import Block, Codec, CodecConfig
from train.fine_model import FineCodec, FineConfig
from train.loop import LoopConfig

COARSE = CodecConfig(
    bins=9, width=12, latent_width=24, dim=6, encoder_blocks=(1, 1), decoder_blocks=(1, 1), expansion=1
)
CONFIG = FineConfig(COARSE, fine=30, fine_width=20)


def spectrograms(batch: int = 16, frames: int = 12) -> Tensor:
    """Log magnitudes of correlated bins with a mean, ``[batch, 16 * frames, 9]``."""
    generator = torch.Generator().manual_seed(2)
    slow = torch.randn(batch, 16 * frames + 7, 9, generator=generator).unfold(1, 8, 1).mean(3)
    return slow @ torch.randn(9, 9, generator=generator) + torch.linspace(-4, 0, 9)


@pytest.fixture
def coarse() -> Codec:
    """A coarse codec whose blocks have an effect."""
    torch.manual_seed(0)
    codec = Codec(COARSE)
    codec.init_pca(spectrograms()[:, ::2])
    codec.calibrate([spectrograms()[:, ::2]])
    for module in codec.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.down.weight, std=0.02)
    return codec.eval()


def built(coarse: Codec) -> FineCodec:
    codec = FineCodec(CONFIG)
    codec.fit(coarse.encoder, coarse.decoder, [spectrograms()])
    return codec.eval()


@torch.no_grad()
def test_the_first_channels_are_the_coarse_latents(coarse: Codec) -> None:
    codec, log_mag = built(coarse), spectrograms()
    latents = codec.encoder(log_mag)
    assert latents.shape == (16, 12, 36)
    torch.testing.assert_close(latents[..., :6], coarse.encoder(log_mag[:, ::2]))


@torch.no_grad()
def test_fine_channels_lower_the_error_and_without_them_the_coarse_codec_is_left(coarse: Codec) -> None:
    codec, log_mag = built(coarse), spectrograms()
    latents = codec.encoder(log_mag)
    without = latents.clone()
    without[..., 6:] = 0

    def error(z: Tensor) -> float:
        return float((codec.decoder(z) - log_mag).pow(2).mean())

    assert error(latents) < 0.5 * error(without)  # 0.22 measured
    at_half_rate = codec.decoder(without)[:, ::2] - log_mag[:, ::2]
    alone = coarse.decoder(latents[..., :6]) - log_mag[:, ::2]
    assert float(at_half_rate.pow(2).mean()) < 1.1 * float(alone.pow(2).mean())


@torch.no_grad()
def test_fine_channels_are_normalised_and_uncorrelated(coarse: Codec) -> None:
    fine = built(coarse).encoder(spectrograms()).flatten(0, 1)[:, 6:]
    torch.testing.assert_close(fine.mean(0), torch.zeros(30), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.corrcoef(fine.T), torch.eye(30), atol=0.05, rtol=0)  # 0.04 measured
    torch.testing.assert_close(fine.std(0), torch.ones(30), atol=1e-2, rtol=0)


@torch.no_grad()
def test_contexts_are_exact() -> None:
    """One frame more of context changes nothing, one less would."""
    codec, frames, at = FineCodec(CONFIG).double().eval(), 41, 20
    for module in codec.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.down.weight, std=0.5)
    log_mag = torch.randn(1, 16 * frames, COARSE.bins).double()
    other = log_mag.clone()
    other[:, 16 * at : 16 * at + 16] += 1
    changed = (codec.encoder(other) - codec.encoder(log_mag)).abs().amax((0, 2)) > 1e-12
    reach = CONFIG.encode_context
    assert changed.nonzero().flatten().tolist() == list(range(at - reach, at + reach + 1))
    latents = torch.randn(1, frames, CONFIG.dim).double()
    other = latents.clone()
    other[:, at] += 1
    difference = (codec.decoder(other) - codec.decoder(latents)).abs().amax((0, 2))
    changed = difference.unflatten(0, (-1, 16)).amax(1) > 1e-12
    reach = CONFIG.decode_context
    assert changed.nonzero().flatten().tolist() == list(range(at - reach, at + reach + 1))


def test_the_fine_part_is_fitted_to_a_run_and_its_decoder_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a coarse run, and again from the scalable codec that came of it."""
    torch.manual_seed(0)
    config = CodecConfig(width=8, latent_width=8, dim=4, encoder_blocks=(0, 0), decoder_blocks=(0, 1))
    coarse = Codec(config)
    rng = np.random.default_rng(0)
    audio = (rng.standard_normal((2, 300_000)) * 2000).astype(np.int16)
    source = task.CropBatches(audio, 2, 4, config.stft, 0)
    coarse.init_pca(next(source))
    coarse.calibrate([next(source)])
    (tmp_path / "coarse").mkdir()
    task.save_calibrated(coarse, tmp_path / "coarse")
    about = {"codec": config.to_dict(), "data": {"excerpts": 1}, "revision": "r"}
    (tmp_path / "coarse" / "config.json").write_text(json.dumps(about))
    monkeypatch.setattr(task, "render_excerpts", lambda *_, **__: audio)
    for start, out in (("coarse", "fine"), ("fine", "again")):
        fitted = task.fit_fine(
            tmp_path / start, tmp_path, [Path("a.sf2")], tmp_path / out, fine=5, batches=1, width=16
        )
        loaded = task.load_codec(tmp_path / out)
        assert isinstance(loaded, FineCodec) and loaded.encoder.config.dim == 9
        assert all(torch.equal(v, fitted.state_dict()[k]) for k, v in loaded.state_dict().items())
        for name, value in coarse.encoder.state_dict().items():
            assert torch.equal(loaded.encoder.coarse.state_dict()[name], value), name
    record = json.loads((tmp_path / "again" / "config.json").read_text())
    assert record["codec"]["fine"] == 5 and record["data"]["coarse"]["coarse"]["excerpts"] == 1
    loop = LoopConfig(str(tmp_path / "refine"), max_steps=2, lr=1e-3, warmup=1, ema=0.0)
    task.refine_decoder(tmp_path / "again", loop, batch=2, frames=4)
    after = task.load_codec(tmp_path / "again").state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, after[name]) or name.startswith("decoder"), name
    assert not torch.equal(loaded.decoder.direct.weight, after["decoder.direct.weight"])


@torch.no_grad()
def test_fine_channels_fade_in_a_fifth_of_the_crops_while_training(coarse: Codec) -> None:
    refiner, log_mag = task.Refiner(built(coarse)), spectrograms(batch=400, frames=4)
    seen: list[Tensor] = []
    refiner.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    for mode in (False, True):
        _, latents = refiner.train(mode)(log_mag, torch.zeros(1, 1, 1))
        ratio = (seen[-1][..., 6:] / latents[..., 6:]).median(2).values.median(1).values
        share = float((ratio < 0.999).float().mean())
        assert torch.equal(seen[-1][..., :6], latents[..., :6])
        assert share == 0 if not mode else 0.14 < share < 0.26

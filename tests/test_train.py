"""Training: what the networks see and learn from, and that a run is what its folder says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from export.dit import load_dit
from pkontext.cues import WRITTEN, score_cues
from pkontext.curves import BANDS, CHANNELS, LOUDNESS, TEMPO, band_weights
from pkontext.features import CURVE_LOCAL, METRE, ROLL
from pkontext.stft import StftSpec
from pkontext.types import NOTE
from tests.test_loop import logged
from train import codec as codec_task
from train.codec_model import Block, Codec, CodecConfig
from train.curves import GROUPS, CurveBatches, CurveData, agreement, random_known, train_curves
from train.dit_model import DiT, DiTConfig, flow_loss
from train.latents import LatentBatches, LatentData, channel_weights, train_latents
from train.loop import LoopConfig, fit

FRAME_SEC = 4096 / 44100
SMALL = DiTConfig(state=3, local=5, context=4, patch=2, width=16, depth=2, heads=2)


def dit_inputs(config: DiTConfig, batch: int = 2, frames: int = 12, extra: int = 8) -> dict[str, Tensor]:
    """Random inputs of a DiT; the first quarter of the frames is given."""
    generator = torch.Generator().manual_seed(5)
    known = torch.zeros(batch, frames, config.state)
    known[:, : frames // 4] = 1
    inputs = {
        "x": torch.randn(batch, frames, config.state, generator=generator),
        "known": known,
        "local": torch.randn(batch, frames, config.local, generator=generator),
        "position": torch.arange(frames).float().repeat(batch, 1),
        "time": torch.tensor([0.3, 0.8][:batch]),
    }
    if config.context:
        inputs["context"] = torch.randn(batch, frames + extra, config.context, generator=generator)
        inputs["context_position"] = torch.arange(frames + extra).float().repeat(batch, 1) - extra / 2
    return inputs


@pytest.fixture
def dit() -> DiT:
    """A random network whose modulation by time, which starts at zero, has an effect."""
    torch.manual_seed(0)
    model = DiT(SMALL).eval()
    for layer in (model.modulation[1], model.out_modulation[1]):
        nn.init.normal_(layer.weight, std=0.1)
    return model


# ---- the network --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, context=0)])
def test_dit_keeps_the_shape_of_its_state(config: DiTConfig) -> None:
    inputs = dit_inputs(config)
    predicted = DiT(config)(**inputs)
    assert predicted.shape == inputs["x"].shape and predicted.isfinite().all()


@torch.no_grad()
def test_only_distances_between_positions_count(dit: DiT) -> None:
    inputs = dit_inputs(SMALL)
    before = dit(**inputs)
    moved = {k: v + 100 if "position" in k else v for k, v in inputs.items()}
    torch.testing.assert_close(dit(**moved), before, atol=2e-6, rtol=0)  # 3e-7 measured
    apart = {**inputs, "context_position": inputs["context_position"] + 100}
    assert (dit(**apart) - before).abs().max() > 1e-2


@torch.no_grad()
def test_context_counts_and_may_be_left_out(dit: DiT) -> None:
    inputs = dit_inputs(SMALL)
    before = dit(**inputs)
    other = dit(**{**inputs, "context": inputs["context"].flip(1)})
    assert (other - before).abs().max() > 1e-2
    without = dit(**{k: v for k, v in inputs.items() if not k.startswith("context")})
    assert without.shape == before.shape and (without - before).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("name", ["x", "known", "local", "position", "time"])
def test_every_input_counts(dit: DiT, name: str) -> None:
    inputs = dit_inputs(SMALL)
    changed = inputs[name] * 0.5
    assert (dit(**{**inputs, name: changed}) - dit(**inputs)).abs().max() > 1e-4


@torch.no_grad()
def test_rows_of_a_batch_do_not_mix(dit: DiT) -> None:
    inputs = dit_inputs(SMALL)
    alone = dit(**{k: v[:1] for k, v in inputs.items()})
    torch.testing.assert_close(dit(**inputs)[:1], alone, atol=1e-5, rtol=0)


# ---- the loss -----------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A network that predicts the same whatever it sees, and remembers what it saw."""

    def __init__(self, predicted: Tensor) -> None:
        super().__init__()
        self.predicted = nn.Parameter(predicted)
        self.seen = torch.zeros(0)

    def forward(self, x: Tensor, known: Tensor, time: Tensor) -> Tensor:
        self.seen = x.detach()
        return self.predicted


def masks() -> tuple[Tensor, Tensor, Tensor]:
    """Clean state, known and weight ``[2, 10, 3]``: a prefix is known, padding has no weight."""
    clean = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(1))
    known, weight = torch.zeros_like(clean), torch.ones_like(clean)
    known[:, :3] = 1
    known[0, :, 1] = 1
    weight[1, 8:] = 0
    return clean, known, weight


def test_perfect_prediction_costs_nothing() -> None:
    clean, known, weight = masks()
    losses = flow_loss(Fixed(clean.clone()), clean, known, weight)
    assert losses["loss"] == 0 and losses["clean_mse"] == 0


def test_nothing_is_learned_from_what_is_given_or_missing() -> None:
    clean, known, weight = masks()
    model = Fixed(torch.zeros_like(clean))
    flow_loss(model, clean, known, weight)["loss"].backward()
    assert model.predicted.grad is not None
    ignored = (known > 0) | (weight == 0)
    assert (model.predicted.grad[ignored] == 0).all()
    assert (model.predicted.grad[~ignored] != 0).all()


def test_what_lies_where_nothing_counts_cannot_change_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the flow's noise under given frames nor, for a blind network, the truth of ignored ones."""
    clean, known, weight = masks()
    draws = [torch.randn(2), torch.randn(2, 10, 3), torch.randn(2, 10, 3)]  # time, noise, error of the given

    def loss(noise: Tensor, truth: Tensor, network: nn.Module) -> float:
        drawn = iter([draws[0], noise, draws[2]])
        monkeypatch.setattr(torch, "randn", lambda *_, **__: next(drawn))
        return float(flow_loss(network, truth, known, weight)["loss"].detach())

    seeing = Seeing()
    expected = loss(draws[1], clean, seeing)
    assert loss(torch.where(known > 0, draws[1] + 9, draws[1]), clean, seeing) == expected
    assert loss(torch.where(known > 0, draws[1], draws[1] + 9), clean, seeing) != expected
    blind = Fixed(torch.zeros_like(clean))
    ignored = (known > 0) | (weight == 0)
    assert loss(draws[1], torch.where(ignored, clean + 9, clean), blind) == loss(draws[1], clean, blind)


class Seeing(nn.Module):
    """A network whose every output depends on everything that it sees."""

    def forward(self, x: Tensor, known: Tensor, time: Tensor) -> Tensor:
        return x.mean((1, 2), keepdim=True) + 0.1 * x


def test_given_frames_are_seen_almost_clean_and_the_others_noisy() -> None:
    clean, known, weight = (t.repeat(500, 1, 1) for t in masks())
    model = Fixed(torch.zeros_like(clean))
    flow_loss(model, clean, known, weight)
    off = (model.seen - clean).abs()
    assert off[known > 0].pow(2).mean().sqrt() == pytest.approx(0.1, rel=0.05)
    assert off[known == 0].mean() > 0.5


def test_batch_with_everything_given_is_harmless() -> None:
    clean, known, weight = masks()
    losses = flow_loss(Fixed(clean + 1), clean, torch.ones_like(known), weight)
    assert losses["loss"] == 0


# ---- what is given in training ------------------------------------------------------------------


def test_masks_have_the_promised_kinds() -> None:
    rng, frames, draws = np.random.default_rng(0), 256, 4000
    kinds = dict.fromkeys(("nothing", "prefix", "both ends", "curves"), 0)
    for _ in range(draws):
        known = random_known(rng, frames)
        assert known.shape == (frames, len(CHANNELS)) and set(np.unique(known)) <= {0.0, 1.0}
        rows = known.all(1)
        prefix = frames if rows.all() else int(np.argmin(rows))
        suffix = 0 if rows.all() else int(np.argmin(rows[::-1]))
        middle = known[prefix : frames - suffix]
        assert (middle == middle[:1]).all(), "a curve is given all along or not"
        for group in GROUPS:
            assert len(np.unique(middle[:, group])) <= 1, "a group of curves is given as a whole"
        if middle.any() or rows.all():
            kinds["curves"] += 1
            assert prefix <= 64 or rows.all()
        elif suffix:
            kinds["both ends"] += 1
            assert 8 <= prefix <= 64 and 8 <= suffix <= 96
        elif prefix:
            kinds["prefix"] += 1
            assert prefix <= 96
        else:
            kinds["nothing"] += 1
    share = {name: count / draws for name, count in kinds.items()}
    # In 8 % of the draws of curves none is drawn, which makes a prefix or nothing of them.
    expected = {"nothing": 0.206, "prefix": 0.554, "both ends": 0.12, "curves": 0.12}
    assert share == pytest.approx(expected, abs=0.03)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Prepared data of two short pieces, the same ones for training and validation."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, frames in enumerate((70, 150)):
            notes = np.zeros(60, NOTE)
            notes["onset_sec"] = np.linspace(0.3, (frames - 8) * FRAME_SEC, 60)
            notes["duration_sec"], notes["velocity"] = 0.3, 64
            notes["pitch"] = 40 + np.arange(60) * 7 % 45
            phase = np.arange(frames)[:, None] / 9 + np.arange(len(CHANNELS))
            arrays = {"deadpan": notes, "metre": np.zeros((frames, METRE), np.float32)}
            arrays["written"] = 40 + np.arange(60) % 50
            for folder in ("curves", "latents"):
                (tmp_path / "cache" / folder / split).mkdir(parents=True, exist_ok=True)
            curves = (50 + 20 * np.sin(phase)).astype(np.float32)
            np.savez(tmp_path / "cache" / "curves" / split / f"{number}.npz", **arrays, curves=curves)
            latents = np.sin(phase[:, :8]) + 0.1 * rng.standard_normal((frames, 8))
            np.savez(
                tmp_path / "cache" / "latents" / split / f"{number}.npz",
                **arrays,
                notes=notes,
                end_sec=notes["onset_sec"] + 0.3,
                deadpan_latents=latents[: frames - 10].astype(np.float16),
                latents=latents.astype(np.float16),
                position=np.linspace(0, frames - 11, frames, dtype=np.float32),
            )
    return tmp_path / "cache"


def test_curve_windows_say_where_there_is_music(cache: Path) -> None:
    data = CurveData(cache / "curves" / "train", FRAME_SEC)
    features, curves, inside = data.window(0, 40, 64)
    assert features.shape == (64, CURVE_LOCAL - 1) and curves.shape == (64, len(CHANNELS))
    assert inside.tolist() == [1] * 30 + [0] * 34
    np.testing.assert_array_equal(curves[:30], data.curves[0][40:])
    assert not curves[30:].any() and features[:25].any()
    batch = next(CurveBatches(data, data.stats(), 64, 96, seed=0, drop=0.5, vary=False))
    dropped = (batch["local"] == 0).all(2).all(1)
    assert 16 < int(dropped.sum()) < 48
    assert (batch["clean"][batch["weight"] == 0] == 0).all() and batch["clean"].abs().max() < 3


@pytest.mark.parametrize("semitones", [-5, 3])
def test_transposed_windows_are_those_of_a_transposed_piece(cache: Path, semitones: int) -> None:
    data = CurveData(cache / "curves" / "train", FRAME_SEC)
    score = data.scores[1]
    features, curves, _ = data.window(1, 20, 64, semitones)
    notes = score.notes.copy()
    notes["pitch"] = notes["pitch"].astype(int) + semitones
    moved = replace(score, notes=notes, cues=score_cues(notes, score.written, score.frames, FRAME_SEC))
    want = moved.score_features(20, 64)
    keys = np.arange(ROLL) % 88
    inner = np.concatenate([(keys > 10) & (keys < 77), np.ones(features.shape[1] - ROLL, bool)])
    inner[ROLL + METRE :][WRITTEN] = False  # bands are moved, not fitted anew
    # Decay depends on the key, so the levels of a moved roll differ a little.
    np.testing.assert_allclose(features[:, inner], want[:, inner], atol=0.08)
    np.testing.assert_array_equal(
        features[:, : 2 * 88][:, inner[: 2 * 88]], want[:, : 2 * 88][:, inner[: 2 * 88]]
    )
    plain = data.window(1, 20, 64)[1]
    level = lambda bands, pitch: float(band_weights(np.array([pitch]), BANDS)[0] @ bands)  # noqa: E731
    for pitch in (52.0, 60.0, 68.0):  # where a note was, its loudness is what it was
        was = [level(row, pitch - semitones) for row in plain[:, LOUDNESS]]
        np.testing.assert_allclose([level(row, pitch) for row in curves[:, LOUDNESS]], was, atol=6)
    np.testing.assert_array_equal(curves[:, TEMPO], plain[:, TEMPO])


def test_agreement_is_one_with_the_truth_and_nothing_with_chance(cache: Path) -> None:
    data = CurveData(cache / "curves" / "train", FRAME_SEC)
    batch = next(CurveBatches(data, data.stats(), 16, 64, seed=0, drop=0.0, vary=False))

    class Oracle(nn.Module):
        def __init__(self, answer: Tensor) -> None:
            super().__init__()
            self.device = nn.Parameter(torch.zeros(()))
            self.answer = answer

        def forward(self, x: Tensor, known: Tensor, **inputs: Tensor) -> Tensor:
            assert not known.any() and not inputs["time"].any(), "asked with something given"
            return self.answer

    right = agreement(Oracle(3 * batch["clean"] - 1), [batch])
    assert set(right) == {"tempo_r", "loudness_r", "articulation_r", "pedal_r"}
    assert all(value == pytest.approx(1, abs=1e-3) for value in right.values())
    chance = agreement(
        Oracle(torch.randn(batch["clean"].shape, generator=torch.Generator().manual_seed(1))), [batch]
    )
    assert all(abs(value) < 0.15 for value in chance.values())


def test_latent_windows_are_padded_dropped_and_masked(cache: Path) -> None:
    data = LatentData(cache / "latents" / "train", FRAME_SEC)
    assert data.dim == 8
    window = data.window(1, 20, 48)
    assert window["context"].shape == (72, 8) and window["clean"].shape == (48, 8)
    inside = window["context"].any(1)
    shown = window["context_position"][inside]
    assert (np.diff(shown) > 0).all() and shown.min() < 0 and shown.max() > 47
    full = next(LatentBatches(data, 64, 96, seed=0, drop=0.0))
    short = full["weight"][:, -1, 0] == 0  # the piece of 70 frames
    assert short.any() and not short.all()
    assert (full["weight"][short].sum((1, 2)) == 70 * 8).all()
    assert (full["known"] > 0).any() and (full["local"][..., -2:] == 1).all()
    none = next(LatentBatches(data, 8, 96, seed=0, drop=1.0))
    assert not none["local"].any() and not none["context"].any()


def test_the_papers_conditioning_is_deadpan_latents_alone(cache: Path) -> None:
    data = LatentData(cache / "latents" / "train", FRAME_SEC)
    batch = next(LatentBatches(data, 8, 48, seed=0, drop=0.0, conditioning="latents"))
    assert not batch["local"].any() and batch["context"].any((1, 2)).all()
    with pytest.raises(ValueError, match="notes, latents"):
        LatentBatches(data, 8, 48, seed=0, conditioning="audio")


def test_missing_data_says_what_to_run(tmp_path: Path) -> None:
    for data in (CurveData, LatentData):
        with pytest.raises(FileNotFoundError, match="train prepare"):
            data(tmp_path, FRAME_SEC)


@pytest.mark.parametrize("task", ["curves", "latents"])
def test_five_steps_on_two_pieces_lower_the_loss(cache: Path, tmp_path: Path, task: str) -> None:
    loop = LoopConfig(str(tmp_path / task), max_steps=5, lr=5e-3, warmup=1, ema=0.0, save_minutes=0.0)
    train: Callable[..., DiT] = {"curves": train_curves, "latents": train_latents}[task]
    model = train(cache, loop, FRAME_SEC, width=32, depth=2, heads=2, batch=4, frames=64)
    losses = logged(Path(loop.out), "val_clean_mse")  # the same windows, noise and times at every step
    assert losses[-1] < 0.95 * losses[0]
    loaded, meta = load_dit(Path(loop.out))
    assert meta["task"] == task and meta["data"]["performances"] == 2
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())
    weights = Path(loop.out) / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if k != "out.bias"}, weights)
    with pytest.raises(RuntimeError, match=r"out\.bias"):
        load_dit(Path(loop.out))


def test_channels_weigh_what_they_do_to_the_sound(cache: Path) -> None:
    """A decoder that triples one channel makes its errors count nine times as much, above the floor."""
    data = LatentData(cache / "latents" / "train", FRAME_SEC)
    gain = np.ones(data.dim, np.float32)
    gain[1] = 3.0
    weights = channel_weights(lambda latents: latents * gain, data, 3, floor=0.0, probes=2)  # type: ignore[arg-type]
    assert weights.mean() == pytest.approx(1.0, rel=1e-4)
    assert weights[1] / weights[0] == pytest.approx(9.0, rel=1e-3)


# ---- the codec ----------------------------------------------------------------------------------

TINY = CodecConfig(
    bins=9, width=18, latent_width=72, dim=20, encoder_blocks=(1, 1), decoder_blocks=(1, 1), expansion=1
)


def spectrograms(batch: int = 16, frames: int = 24) -> Tensor:
    """Log magnitudes of correlated bins with a mean, ``[batch, 8 * frames, 9]``."""
    generator = torch.Generator().manual_seed(2)
    slow = torch.randn(batch, 8 * frames + 15, 9, generator=generator).unfold(1, 16, 1).mean(3)
    return slow @ torch.randn(9, 9, generator=generator) + torch.linspace(-4, 0, 9)


def awake(codec: Codec) -> Codec:
    """Give every block, which starts as the identity, an effect."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in codec.modules():
            if isinstance(module, Block):
                module.down.weight.normal_(0, 0.5, generator=generator)
    return codec.double().eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, encoder_blocks=(2, 2), decoder_blocks=(2, 5)),  # the default's blocks
        replace(TINY, encoder_blocks=(3, 0), decoder_blocks=(0, 1)),
        replace(TINY, encoder_blocks=(0, 0), decoder_blocks=(0, 0)),
        replace(TINY, encoder_blocks=(1, 2), decoder_blocks=(1, 2), kernel=9, latent_kernel=5),
    ],
)
def test_contexts_are_exact(config: CodecConfig) -> None:
    """One frame more of context changes nothing, one less would."""
    codec, frames, at = awake(Codec(config)), 41, 20
    log_mag = torch.randn(1, 8 * frames, config.bins).double()
    other = log_mag.clone()
    other[:, 8 * at : 8 * at + 8] += 1
    changed = (codec.encoder.raw(other) - codec.encoder.raw(log_mag)).abs().amax((0, 2)) > 1e-12
    reach = config.encode_context
    assert changed.nonzero().flatten().tolist() == list(range(at - reach, at + reach + 1))

    latents = torch.randn(1, frames, config.dim).double()
    other = latents.clone()
    other[:, at] += 1
    difference = (codec.decoder(other) - codec.decoder(latents)).abs().amax((0, 2))
    changed = difference.unflatten(0, (-1, 8)).amax(1) > 1e-12
    reach = config.decode_context
    assert changed.nonzero().flatten().tolist() == list(range(at - reach, at + reach + 1))


@torch.no_grad()
def test_blocks_start_as_the_identity() -> None:
    x = torch.randn(2, 11, 18)
    assert torch.equal(Block(18, 5, 3)(x), x)


@torch.no_grad()
def test_codec_starts_as_a_pca() -> None:
    """The error is what the leading components leave, by the eigenvalues; no width is narrower here."""
    codec, log_mag = Codec(TINY), spectrograms()
    codec.init_pca(log_mag)
    rows = (log_mag - log_mag.mean((0, 1))).unflatten(1, (-1, 8)).flatten(2).flatten(0, 1).double()
    left = torch.linalg.eigvalsh(rows.T @ rows / len(rows))[: -TINY.dim].sum() / 72
    error = (codec.decoder(codec.encoder.raw(log_mag)) - log_mag).pow(2).mean()
    assert float(error) == pytest.approx(float(left), rel=1e-3)
    assert float(left) < 0.5 * float(log_mag.var())


@torch.no_grad()
def test_narrow_first_level_costs_what_it_cuts() -> None:
    config, log_mag = replace(TINY, width=6, latent_width=24, dim=24), spectrograms()
    codec = Codec(config)
    codec.init_pca(log_mag)
    rows = (log_mag - log_mag.mean((0, 1))).unflatten(1, (-1, 2)).flatten(2).flatten(0, 1).double()
    left = torch.linalg.eigvalsh(rows.T @ rows / len(rows))[:-6].sum() / 18
    error = (codec.decoder(codec.encoder.raw(log_mag)) - log_mag).pow(2).mean()
    assert float(error) == pytest.approx(float(left), rel=1e-3)


@torch.no_grad()
def test_calibrated_latents_are_normalised() -> None:
    codec, log_mag = Codec(TINY), spectrograms()
    codec.init_pca(log_mag)
    codec.encoder.latent_mean += 0.3  # as if training's running statistics lagged behind
    codec.encoder.latent_std *= 1.2
    before = codec.decoder(codec.encoder(log_mag))
    codec.calibrate([log_mag[:8], log_mag[8:]])
    torch.testing.assert_close(codec.decoder(codec.encoder(log_mag)), before, atol=1e-4, rtol=0)
    latents = codec.encoder(log_mag).flatten(0, 1)
    torch.testing.assert_close(latents.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(20), atol=1e-3, rtol=0)


def tiny_loss(noise_max: float) -> codec_task.CodecLoss:
    loss = codec_task.CodecLoss(StftSpec(), noise_max)
    loss.bank = torch.from_numpy(codec_task.mel_bank(TINY.bins, 44100, 4))
    return loss


def test_running_statistics_keep_the_level_of_a_batch() -> None:
    """A batch that is louder than the rest decodes louder: its own mean is not taken away."""
    torch.manual_seed(0)
    codec, log_mag = Codec(TINY), spectrograms()
    codec.init_pca(log_mag)
    codec.eval()
    with torch.no_grad():
        plain, _ = codec(log_mag, torch.zeros(1, 1, 1))
        louder, latents = codec(log_mag + 1, torch.zeros(1, 1, 1))
    assert float((louder - plain).mean()) > 0.5
    assert float(latents.mean(0).abs().max()) > 0.3
    before = codec.encoder.latent_mean.clone()
    codec.train()
    codec(log_mag + 1, torch.zeros(1, 1, 1))
    assert not torch.equal(codec.encoder.latent_mean, before), "training follows the statistics"


def test_codec_loss_terms_say_what_they_measure() -> None:
    torch.manual_seed(0)
    loss, log_mag = tiny_loss(noise_max=0.0), spectrograms()
    latents = torch.randn(8, 40, 6)
    exact = loss.terms(log_mag, latents, log_mag)
    assert all(float(exact[name]) == 0 for name in ("level", "flux", "bands", "energy"))
    assert float(loss.terms(log_mag + 0.1, latents, log_mag)["flux"]) == pytest.approx(0, abs=1e-6)
    assert float(loss.terms(log_mag + 0.1, latents, log_mag)["level"]) >= 0.1
    copied = torch.cat([latents, latents], 2)
    assert float(loss.terms(log_mag, copied, log_mag)["correlation"]) > 0.05
    assert float(exact["correlation"]) < 0.01
    assert float(loss.terms(log_mag, 3 * latents, log_mag)["scale"]) > 1 > float(exact["scale"])


def test_an_attack_weighs_more_than_the_same_error_elsewhere() -> None:
    loss = tiny_loss(noise_max=0.0)
    log_mag = torch.full((1, 16, TINY.bins), -4.0)
    log_mag[:, 8:] = 1.0
    latents = torch.randn(1, 40, 4)

    def level(frame: int) -> float:
        wrong = log_mag.clone()
        wrong[:, frame] -= 0.5
        return float(loss.terms(wrong, latents, log_mag)["level"])

    assert level(8) == pytest.approx(5 * level(12), rel=1e-3)
    assert level(5) == pytest.approx(level(8), rel=1e-3), "what sounds just ahead counts as much"
    assert level(4) == pytest.approx(level(12), rel=1e-3)


def test_five_steps_lower_the_codec_loss_and_the_run_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec, log_mag = Codec(TINY), spectrograms()
    codec.init_pca(log_mag)
    loss = tiny_loss(noise_max=0.0)
    before = float(loss(codec.eval(), log_mag)["loss"].detach())
    loop = LoopConfig(str(tmp_path), max_steps=5, lr=5e-4, warmup=1, ema=0.0)
    meta = {"codec": TINY.to_dict()}
    trained = fit(codec, loss, iter([log_mag] * 5), loop, meta)
    assert isinstance(trained, Codec)
    after = float(loss(trained, log_mag)["loss"].detach())
    assert after < 0.995 * before  # 0.987 measured
    codec_task.save_calibrated(trained, tmp_path)
    loaded = codec_task.load_codec(tmp_path)
    assert loaded.encoder.config == TINY
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["max_steps"] == 5


def test_crops_are_what_the_runtime_sees() -> None:
    """The training's spectrograms equal the runtime's, at the gain that was drawn."""
    from pkontext.stft import StftSpec, log_magnitude

    stft = StftSpec()
    pool = (np.random.default_rng(0).uniform(-9000, 9000, (2, 40_000))).astype(np.int16)
    batches = codec_task.CropBatches(pool, 3, 4, stft, seed=0)
    assert next(batches).shape == (3, 32, stft.bins)
    plain = codec_task.CropBatches(pool, 3, 4, stft, seed=0, vary=False)
    assert not torch.equal(next(plain), next(codec_task.CropBatches(pool, 3, 4, stft, seed=0)))
    samples = (pool[:1, : batches.samples] / 32767).astype(np.float32)
    ours = batches.log_magnitude(torch.from_numpy(samples))[0].numpy()
    np.testing.assert_allclose(ours, log_magnitude(samples[0], stft), atol=2e-3)


def test_a_network_for_another_codec_starts_from_what_it_can_use(tmp_path: Path) -> None:
    from pkontext.features import ROLL, local_channels
    from train.adopt import adopt

    def make(dim: int, width: int = 16) -> DiT:
        return DiT(replace(SMALL, state=dim, local=local_channels(dim), context=dim, width=width))

    torch.manual_seed(1)
    old, new = make(5), make(7)
    save_file(old.state_dict(), tmp_path / "model.safetensors")
    fresh = {k: v.clone() for k, v in new.state_dict().items()}
    taken = adopt(new, tmp_path)
    assert torch.equal(new.blocks[0].qkv.weight, old.blocks[0].qkv.weight)
    assert torch.equal(new.local_in.weight[:, :ROLL], old.local_in.weight[:, :ROLL])
    assert torch.equal(new.local_in.weight[:, -2:], old.local_in.weight[:, -2:])
    for name in ("state_in.weight", "context_in.weight", "out.weight"):
        assert name not in taken
        assert torch.equal(new.state_dict()[name], fresh[name])
    with pytest.raises(ValueError, match="other sizes"):
        adopt(make(7, width=32), tmp_path)


@torch.no_grad()
def test_a_network_for_the_coarse_channels_can_do_the_same_with_fine_ones_beside_them(tmp_path: Path) -> None:
    """Fine channels at zero change nothing, whatever their noise; they are expected to be zero."""
    from pkontext.features import ROLL, local_channels
    from train.adopt import adopt

    def make(dim: int) -> DiT:
        return DiT(replace(SMALL, state=dim, local=local_channels(dim), context=dim, patch=2, width=16))

    torch.manual_seed(1)
    old, new = make(5), make(8)
    nn.init.normal_(old.out_modulation[1].weight, std=0.2)
    save_file(old.state_dict(), tmp_path / "model.safetensors")
    assert set(adopt(new, tmp_path, shared=5)) == set(new.state_dict())

    def widened(x: Tensor) -> Tensor:
        return torch.cat([x, torch.randn(*x.shape[:2], 3)], 2)

    state, known, context = torch.randn(2, 8, 5), torch.rand(2, 8, 5).round(), torch.randn(2, 12, 5)
    local = torch.randn(2, 8, local_channels(5))
    both = [local[..., : ROLL + 5], torch.randn(2, 8, 3), local[..., -2:]]
    position = {"position": torch.arange(8.0).expand(2, 8), "time": torch.tensor([0.2, 0.7])}
    position["context_position"] = torch.arange(12.0).expand(2, 12)
    want = old(x=state, known=known, local=local, context=context, **position)
    got = new(
        x=widened(state), known=widened(known), local=torch.cat(both, 2), context=widened(context), **position
    )
    torch.testing.assert_close(got[..., :5], want)
    assert float(got[..., 5:].abs().max()) == 0
    with pytest.raises(ValueError, match="5 channels, not 4"):
        adopt(make(8), tmp_path, shared=4)


def test_refining_moves_the_decoder_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CodecConfig(
        width=16, latent_width=16, dim=8, encoder_blocks=(0, 0), decoder_blocks=(0, 1), expansion=1
    )
    codec = Codec(config)
    rng = np.random.default_rng(0)
    audio = (rng.standard_normal((2, 260_000)) * 2000).astype(np.int16)
    stft = StftSpec()
    source = codec_task.CropBatches(audio, 2, 4, stft, 0)
    codec.init_pca(next(source))
    codec.calibrate([next(source)])
    codec_task.save_calibrated(codec, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"codec": config.to_dict()}))
    np.save(tmp_path / "pool.npy", audio)
    np.save(tmp_path / "held_out.npy", audio)
    loop = LoopConfig(str(tmp_path / "refine"), max_steps=3, lr=1e-3, warmup=1, ema=0.0)
    refined = codec_task.refine_decoder(tmp_path, loop, batch=2, frames=4)
    before, after = codec.state_dict(), codec_task.load_codec(tmp_path).state_dict()
    for name, value in after.items():
        assert torch.equal(value, refined.state_dict()[name])
        assert torch.equal(value, before[name]) or name.startswith("decoder")
    assert not torch.equal(after["decoder.out.weight"], before["decoder.out.weight"])
    logged = (tmp_path / "refine" / "log.csv").read_text()
    assert "val_lsd_db" in logged and "val_distance" in logged

"""Train the piano codec from performances rendered through soundfonts.

``python -m train codec --data PACK --out RUN``
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pkontext import synth
from pkontext.stft import StftSpec
from train import asap
from train.codec_model import Codec, CodecConfig
from train.loop import LoopConfig, fit
from train.workers import spread


def render_excerpts(
    data: Path, split: str, soundfonts: list[Path], seconds: float, count: int, seed: int, workers: int
) -> np.ndarray:
    """Render excerpts of performances of a split, one soundfont each in turn.

    Returns
    -------
    ndarray
        int16 ``[count, samples]`` at 44.1 kHz, full scale 32767.
    """
    performances = asap.pick(asap.read_index(data, split), per_piece=4)
    rng = np.random.default_rng(seed)
    chosen = [performances[i] for i in rng.permutation(len(performances))[:count]]
    jobs = [
        (p, soundfonts[i % len(soundfonts)], float(rng.uniform(0, max(p.duration_sec - seconds, 0))), seconds)
        for i, p in enumerate(chosen)
    ]
    return np.stack(list(spread(_excerpt, jobs, workers, chunk=4)))


def _excerpt(job: tuple[asap.Performance, Path, float, float]) -> np.ndarray:
    performance, soundfont, start, seconds = job
    spec = synth.SynthSpec(soundfont)
    notes, pedals = asap.read_midi_notes(performance.midi)
    notes = notes[(notes["onset_sec"] >= start) & (notes["onset_sec"] < start + seconds)]
    notes["onset_sec"] -= start
    pedals["time_sec"] = np.maximum(pedals["time_sec"] - start, 0)  # the pedal's state carries in
    events = synth.events_from_notes(notes, pedals, spec.sample_rate)
    total = int(seconds * spec.sample_rate)
    audio = np.concatenate(list(synth.render(events, spec, total)))[:, 0]
    return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)


class CropBatches(Iterator[Tensor]):
    """Endless batches of log magnitudes of random crops, level jittered.

    Yields float32 ``[batch, 8 * frames, bins]``.
    """

    def __init__(self, pool: np.ndarray, batch: int, frames: int, stft: StftSpec, seed: int) -> None:
        self.pool, self.batch, self.stft = pool, batch, stft
        self.samples = frames * 8 * stft.hop + 2 * stft.lead
        self.seed, self.step = seed, 0
        self.window = torch.hann_window(stft.n_fft)

    def __next__(self) -> Tensor:
        rng = np.random.default_rng((self.seed, self.step))
        self.step += 1
        rows = rng.integers(0, len(self.pool), self.batch)
        starts = rng.integers(0, self.pool.shape[1] - self.samples, self.batch)
        audio = np.stack([self.pool[r, s : s + self.samples] for r, s in zip(rows, starts, strict=True)])
        gain = 10 ** (rng.uniform(-8, 3, (self.batch, 1)) / 20)
        return self.log_magnitude(torch.from_numpy((audio * (gain / 32767)).astype(np.float32)))

    def log_magnitude(self, audio: Tensor) -> Tensor:
        """Log magnitudes of audio ``[batch, samples]`` that includes the lead on both sides."""
        spectrum = torch.stft(
            audio, self.stft.n_fft, self.stft.hop, window=self.window, center=False, return_complex=True
        )
        return torch.log(spectrum.abs() + self.stft.floor).transpose(1, 2)


def codec_loss(model: nn.Module, log_mag: Tensor, noise_max: float = 0.25) -> dict[str, Tensor]:
    """L1 of log magnitudes, plus L1 of their change over time, which keeps attacks sharp."""
    noise = noise_max * torch.rand(len(log_mag), 1, 1, device=log_mag.device)
    error = model(log_mag, noise) - log_mag
    level = error.abs().mean()
    flux = error.diff(dim=1).abs().mean()
    return {"loss": level + 0.5 * flux, "level": level, "flux": flux}


def train_codec(
    data: Path,
    soundfonts: list[Path],
    loop: LoopConfig,
    config: CodecConfig | None = None,
    seconds: float = 60.0,
    count: int = 160,
    batch: int = 12,
    frames: int = 24,
    workers: int = 2,
    resume: bool = False,
) -> Codec:
    """Render, initialise by PCA, train, calibrate; the run folder holds the result.

    Parameters
    ----------
    data : Path
        The (n)ASAP pack.
    soundfonts : list of Path
    loop : LoopConfig
    config : CodecConfig, optional
    seconds, count : float, int
        Excerpts of the training split to render.
    batch, frames : int
        Crops a step and latent frames a crop.
    """
    config = config or CodecConfig()
    stft = StftSpec()
    pool = render_excerpts(data, "train", soundfonts, seconds, count, loop.seed, workers)
    held_out = render_excerpts(data, "val", soundfonts, 20.0, 12, loop.seed, workers)
    torch.manual_seed(loop.seed)
    model = Codec(config)
    source = CropBatches(pool, batch, frames, stft, loop.seed)
    if not resume:
        model.init_pca(torch.cat([next(source) for _ in range(30)]))
    validation = [next(CropBatches(held_out, 12, 48, stft, 1)) for _ in range(1)]

    def validate(m: nn.Module) -> dict[str, float]:
        quiet = [codec_loss(m, x, noise_max=0.0) for x in validation]
        return {k: float(np.mean([q[k] for q in quiet])) for k in quiet[0]}

    meta = {
        "codec": config.to_dict(),
        "data": {"excerpts": count, "seconds": seconds, "soundfonts": [s.name for s in soundfonts]},
    }
    trained = fit(model, codec_loss, source, loop, meta, validate, resume)
    assert isinstance(trained, Codec)
    trained.calibrate([next(source) for _ in range(40)])
    save_calibrated(trained, Path(loop.out))
    return trained


def save_calibrated(model: Codec, out: Path) -> None:
    """Write the weights with their fixed latent statistics."""
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "codec.safetensors")


def load_codec(run: Path) -> Codec:
    """Load a trained codec from its run folder; strict."""
    import json

    from safetensors.torch import load_file

    stored = json.loads((run / "config.json").read_text())["codec"]
    config = replace(CodecConfig(), **{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})
    model = Codec(config)
    model.load_state_dict(load_file(run / "codec.safetensors"))
    return model.eval()

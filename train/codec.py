"""Train the piano codec from performances rendered through soundfonts.

``python -m train codec --data PACK --out RUN``
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pkontext import synth
from pkontext.stft import StftSpec
from train import asap
from train.codec_model import LATENT_HOP, Codec, CodecConfig
from train.fine_model import FineCodec, FineConfig
from train.loop import LoopConfig, fit, git_revision, is_first_process, run_record
from train.workers import spread


@dataclass(frozen=True)
class Excerpt:
    """A part of a performance and the instrument it is rendered on.

    ``detune_cents`` transposes by playing the synth's output at another rate, which moves partials
    and formants as another instrument would; ``reverb`` is the level of FluidSynth's room.
    """

    performance: asap.Performance
    soundfont: Path
    start_sec: float
    seconds: float
    detune_cents: float = 0.0
    reverb: float = 0.0


def render_excerpts(
    data: Path,
    split: str,
    soundfonts: list[Path],
    seconds: float,
    count: int,
    seed: int,
    workers: int,
    vary: bool = False,
) -> np.ndarray:
    """Render excerpts of performances of a split, one soundfont each in turn.

    With ``vary`` half of them are detuned (up to 40 cents) and a third stand in a room.

    Returns
    -------
    ndarray
        int16 ``[count, samples]`` at 44.1 kHz, full scale 32767.
    """
    performances = asap.pick(asap.read_index(data, split), per_piece=4)
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(len(performances)) for _ in range(-(-count // len(performances)))]
    )
    jobs = []
    for i, p in enumerate(performances[k] for k in order[:count]):
        start = float(rng.uniform(0, max(p.duration_sec - seconds, 0)))
        detune = float(rng.uniform(-40, 40) * (vary and rng.random() < 0.5))
        reverb = float(rng.uniform(0.1, 0.9) * (vary and rng.random() < 0.33))
        jobs.append(Excerpt(p, soundfonts[i % len(soundfonts)], start, seconds, detune, reverb))
    return np.stack(list(spread(render_excerpt, jobs, workers, chunk=4)))


def render_excerpt(job: Excerpt) -> np.ndarray:
    """Render one excerpt to int16 ``[seconds * 44100]``."""
    rate = round(44100 * 2 ** (-job.detune_cents / 1200))
    spec = synth.SynthSpec(job.soundfont, sample_rate=rate, reverb=job.reverb)
    notes, pedals = asap.read_midi_notes(job.performance.midi)
    end = job.start_sec + job.seconds
    notes = notes[(notes["onset_sec"] >= job.start_sec) & (notes["onset_sec"] < end)]
    notes["onset_sec"] -= job.start_sec
    pedals["time_sec"] = np.maximum(pedals["time_sec"] - job.start_sec, 0)  # the pedal's state carries in
    events = synth.events_from_notes(notes, pedals, rate)
    audio = np.concatenate(list(synth.render(events, spec, int(job.seconds * 44100))))[:, 0]
    return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)


class CropBatches(Iterator[Tensor]):
    """Endless batches of log magnitudes of random crops.

    With ``vary``, the level moves by -14 to +6 dB, half of the crops pass a smooth random equaliser
    and some begin in silence, so that the codec meets other pianos, rooms and isolated attacks.

    Yields float32 ``[batch, frames * LATENT_HOP / hop, bins]``.
    """

    def __init__(
        self, pool: np.ndarray, batch: int, frames: int, stft: StftSpec, seed: int, vary: bool = True
    ) -> None:
        self.pool, self.batch, self.stft, self.vary = pool, batch, stft, vary
        self.samples = frames * LATENT_HOP + 2 * stft.lead
        self.seed, self.step = seed, 0
        self.window = torch.hann_window(stft.n_fft)
        octave = np.log2(np.maximum(np.arange(stft.bins), 1)) / np.log2(stft.bins)  # 0 … 1 up the spectrum
        self._shapes = np.stack([octave - 0.5, *(np.cos(np.pi * k * octave) for k in (2, 3, 4))])

    def __next__(self) -> Tensor:
        rng = np.random.default_rng((self.seed, self.step))
        self.step += 1
        rows = rng.integers(0, len(self.pool), self.batch)
        starts = rng.integers(0, self.pool.shape[1] - self.samples, self.batch)
        audio = np.stack([self.pool[r, s : s + self.samples] for r, s in zip(rows, starts, strict=True)])
        audio = audio.astype(np.float32) / 32767
        if not self.vary:
            return self.log_magnitude(torch.from_numpy(audio))
        for row in np.flatnonzero(rng.random(self.batch) < 0.15):
            audio[row, : rng.integers(self.samples // 8, self.samples)] = 0
        size = np.array([[12.0], [4.0], [3.0], [2.0]]) * (rng.random(self.batch) < 0.5)
        equaliser_db = (rng.uniform(-1, 1, (4, self.batch)) * size).T @ self._shapes
        gain_db = rng.uniform(-14, 6, (self.batch, 1)) + equaliser_db
        gain = torch.from_numpy((10 ** (gain_db / 20)).astype(np.float32))
        return self.log_magnitude(torch.from_numpy(audio), gain)

    def log_magnitude(self, audio: Tensor, gain: Tensor | None = None) -> Tensor:
        """Log magnitudes of audio ``[batch, samples]`` that includes the lead on both sides.

        ``gain`` ``[batch, bins]`` multiplies the magnitudes.
        """
        spectrum = torch.stft(
            audio, self.stft.n_fft, self.stft.hop, window=self.window, center=False, return_complex=True
        )
        magnitude = spectrum.abs()
        if gain is not None:
            magnitude = magnitude * gain[:, :, None]
        return torch.log(magnitude + self.stft.floor).transpose(1, 2)


class CodecLoss:
    """What the reconstruction of log magnitudes is judged by.

    * ``level``: mean absolute error of log magnitudes, with up to five times the weight where energy
      rises within a quarter of a window and three quarters before, because softened attacks and echoes
      ahead of them are what is heard.
    * ``flux``: the same of their change within a quarter of a window.
    * ``bands``: error of the log energy in 96 mel bands, which the median that an absolute error
      seeks would bias downwards; ``energy``: the same of whole frames.
    * ``distance``: root mean square over the bins, mean over frames (a log-spectral distance); counts only
      in `refine_decoder`.
    * ``correlation``: mean squared correlation between different latent channels.
    * ``scale``: departure of the channels from zero mean and unit variance.
    """

    def __init__(self, stft: StftSpec, noise_max: float = 0.25, refine: bool = False) -> None:
        self.floor, self.noise_max, self.refine = stft.floor, noise_max, refine
        self.span = max(stft.n_fft // (4 * stft.hop), 1)  # frames in which sound may rise or change
        self.bank = torch.from_numpy(mel_bank(stft.bins, 44100, 96))

    def __call__(self, model: nn.Module, log_mag: Tensor) -> dict[str, Tensor]:
        noise = self.noise_max * torch.rand(len(log_mag), 1, 1, device=log_mag.device)
        return self.terms(*model(log_mag, noise), log_mag)

    def terms(self, decoded: Tensor, latents: Tensor, log_mag: Tensor) -> dict[str, Tensor]:
        """All terms and their weighted sum ``loss``."""
        span = self.span
        rise = (log_mag[:, span:] - log_mag[:, :-span]).clamp(min=0).mean(2)
        ahead = nn.functional.pad(rise.clamp(max=2), (span, 3 * span))
        rise = nn.functional.max_pool1d(ahead[:, None], 3 * span + 1, stride=1)[:, 0, :, None]
        error = decoded - log_mag
        level = (error.abs() * (1 + 2 * rise)).mean()
        flux = ((error[:, span:] - error[:, :-span]).abs() * (1 + 2 * rise[:, span:])).mean()
        (our_bands, our_energy), (bands, energy) = self._bands(decoded), self._bands(log_mag)
        bands, energy = (our_bands - bands).abs().mean(), (our_energy - energy).abs().mean()
        z = latents.flatten(0, 1)
        mean, std = z.mean(0), z.std(0) + 1e-5
        scale = (mean**2).mean() + (std.log() ** 2).mean()
        z = (z - mean) / std
        square = (z.T @ z / len(z)) ** 2
        dim = z.shape[1]
        correlation = (square.sum() - square.diagonal().sum()) / (dim * (dim - 1))
        distance = ((error.pow(2).mean(2) + 1e-6).sqrt() * (1 + rise[..., 0])).mean()
        first = distance if self.refine else level
        loss = first + 0.5 * flux + 0.2 * bands + 0.1 * energy + correlation + 0.01 * scale
        values = {"level": level, "distance": distance, "flux": flux, "bands": bands, "energy": energy}
        return {"loss": loss, **values, "correlation": correlation, "scale": scale}

    def _bands(self, log_mag: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = (log_mag.clamp(max=8).exp() - self.floor).clamp(min=0)
        self.bank = self.bank.to(log_mag.device)
        power = magnitude**2
        silent = 10 * self.floor**2
        return torch.log(power @ self.bank + silent), torch.log(power.sum(2) + 10 * silent)


def mel_bank(bins: int, sample_rate: int, bands: int) -> np.ndarray:
    """Triangular bands of equal width on the mel scale, float32 ``[bins, bands]``."""
    hertz = np.linspace(0, sample_rate / 2, bins)
    mel = 2595 * np.log10(1 + hertz / 700)
    edges = np.linspace(mel[1], mel[-1], bands + 2)
    up = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    bank = np.maximum(np.minimum(up, down), 0)
    nearest = np.abs(mel[:, None] - edges[1:-1]).argmin(0)
    bank[nearest, np.arange(bands)] = np.maximum(bank[nearest, np.arange(bands)], 0.5)
    return bank.astype(np.float32)


def train_codec(
    data: Path,
    soundfonts: list[Path],
    loop: LoopConfig,
    config: CodecConfig | None = None,
    seconds: float = 60.0,
    count: int = 200,
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
    pool, held_out = _audio(Path(loop.out), data, soundfonts, seconds, count, loop.seed, workers, resume)
    torch.manual_seed(loop.seed)
    model = Codec(config)
    source = CropBatches(pool, batch, frames, config.stft, loop.seed)
    if not resume:
        model.init_pca(torch.cat([next(source) for _ in range(60)]))
    validation = next(CropBatches(held_out, 16, 48, config.stft, 1, vary=False))
    loss, meta = CodecLoss(config.stft), _meta(config, soundfonts, seconds, count)
    trained = fit(model, loss, source, loop, meta, _validation(validation, loss), resume)
    assert isinstance(trained, Codec)
    trained.cpu().calibrate([next(source) for _ in range(40)])
    save_calibrated(trained, Path(loop.out))
    return trained


def fit_fine(
    coarse: Path,
    data: Path,
    soundfonts: list[Path],
    out: Path,
    fine: int = FineConfig.fine,
    width: int = FineConfig.fine_width,
    seed: int = 0,
    seconds: float = 60.0,
    count: int = 160,
    batches: int = 80,
    workers: int = 2,
) -> FineCodec:
    """Add fine channels to a trained coarse codec, whose latents stay the first channels of the result's.

    Nothing is trained here; the encoder is complete, and `refine_decoder` trains the decoder on.

    Parameters
    ----------
    coarse : Path
        Run folder of `train_codec`, or of a scalable codec, whose coarse part is used.
    data, soundfonts, seconds, count
        As for `train_codec`.
    out : Path
        Run folder of the result.
    fine, width : int
        Fine channels, and what the difference is narrowed to at 43 Hz first.
    batches : int
        Batches of 12 crops of 24 latent frames to fit on.
    """
    base = load_codec(coarse)
    if isinstance(base, FineCodec):
        encoder, trunk = base.encoder.coarse, base.encoder.expected
    else:
        encoder, trunk = base.encoder, base.decoder
    config = FineConfig(encoder.config, fine, width)
    pool, _ = _audio(out, data, soundfonts, seconds, count, seed, workers, found=True)
    source = CropBatches(pool, 12, 24, config.stft, seed)
    model = FineCodec(config)
    model.fit(encoder, trunk, [next(source) for _ in range(batches)])
    meta = _meta(config, soundfonts, seconds, count)
    meta["data"]["coarse"] = run_record(coarse)
    about = {"loop": {"seed": seed}, "revision": git_revision(), **meta}
    (out / "config.json").write_text(json.dumps(about, indent=1))
    save_calibrated(model, out)
    return model.eval()


def _audio(
    out: Path,
    data: Path,
    soundfonts: list[Path],
    seconds: float,
    count: int,
    seed: int,
    workers: int,
    found: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Audio to train and to validate on, kept in the run folder; ``found`` uses what is there."""
    rendered = out / "pool.npy"
    held = out / "held_out.npy"
    if found and rendered.exists() and held.exists():
        return np.load(rendered, mmap_mode="r"), np.load(held)
    pool = render_excerpts(data, "train", soundfonts, seconds, count, seed, workers, vary=True)
    _save_array(rendered, pool)
    held_out = render_excerpts(data, "val", soundfonts, 20.0, 12, seed, workers)
    _save_array(held, held_out)
    return pool, held_out


def _meta(config: CodecConfig | FineConfig, soundfonts: list[Path], seconds: float, count: int) -> dict:
    """What ``config.json`` says of a codec's sizes and data."""
    return {
        "codec": config.to_dict(),
        "data": {
            "excerpts": count,
            "seconds": seconds,
            "soundfonts": [s.name for s in soundfonts],
            "varied": "level, equaliser, detuning, reverb",
        },
    }


class Refiner(nn.Module):
    """The decoder of a codec, trained on beside its frozen encoder; called as `Codec` is.

    In training, the fine channels of a fifth of the crops fade by a random factor, as a latent network's
    cautious guesses of them do, so that the decoder falls back on the coarse ones.
    """

    def __init__(self, codec: Codec | FineCodec) -> None:
        super().__init__()
        self.decoder = codec.decoder
        self._encoder = [codec.encoder.eval()]  # in a list, so that it is no part of this module
        self._coarse = codec.encoder.config.coarse.dim if isinstance(codec, FineCodec) else None

    def forward(self, log_mag: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            latents = self._encoder[0].to(log_mag.device)(log_mag)
        seen = latents + noise * torch.randn_like(latents)
        if self.training and self._coarse is not None:
            factor = torch.rand(len(seen), 1, 1, device=seen.device)
            factor = torch.where(torch.rand_like(factor) < 0.2, factor, 1.0)
            seen = torch.cat([seen[..., : self._coarse], factor * seen[..., self._coarse :]], 2)
        return self.decoder(seen), latents


def refine_decoder(
    codec: Path, loop: LoopConfig, batch: int = 8, frames: int = 24, resume: bool = False
) -> Codec | FineCodec:
    """Train only the decoder on, for a smaller log-spectral distance; latents keep their meaning.

    Parameters
    ----------
    codec : Path
        Run folder of `train_codec`, with the audio that it rendered; the result replaces its weights.
    loop : LoopConfig
        ``out`` is the refinement's own run folder.
    """
    model = load_codec(codec)
    stft = model.encoder.config.stft
    loss = CodecLoss(stft, refine=True)
    pool = np.load(codec / "pool.npy", mmap_mode="r")
    source = CropBatches(pool, batch, frames, stft, loop.seed + 1)
    validation = next(CropBatches(np.load(codec / "held_out.npy"), 16, 48, stft, 1, vary=False))
    meta = {"refines": codec.name, "data": {}}
    fit(Refiner(model), loss, source, loop, meta, _validation(validation, loss), resume)
    save_calibrated(model, codec)
    return model.eval()


def _validation(batch: Tensor, loss: CodecLoss) -> Callable[[nn.Module], dict[str, float]]:
    """Terms of the loss on fixed audio, without noise, and the log-spectral distance in dB."""

    def validate(model: nn.Module) -> dict[str, float]:
        here = batch.to(next(model.parameters()).device)
        decoded, latents = model(here, torch.zeros(1, 1, 1, device=here.device))
        values = {k: float(v) for k, v in loss.terms(decoded, latents, here).items()}
        return values | {"lsd_db": float(((decoded - here) * 8.686).pow(2).mean(2).sqrt().mean())}

    return validate


def _save_array(path: Path, array: np.ndarray) -> None:
    """Keep audio for later; of several processes, which all have the same, the first one writes."""
    if is_first_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)


def save_calibrated(model: Codec | FineCodec, out: Path) -> None:
    """Write the weights with their fixed latent statistics; of several processes, the first one."""
    from safetensors.torch import save_file

    if not is_first_process():
        return
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "codec.safetensors")


def load_codec(run: Path) -> Codec | FineCodec:
    """Load a trained codec from its run folder; strict."""
    from safetensors.torch import load_file

    model = make_codec(json.loads((run / "config.json").read_text())["codec"])
    model.load_state_dict(load_file(run / "codec.safetensors"))
    return model.eval()


def make_codec(sizes: dict) -> Codec | FineCodec:
    """An untrained codec of the sizes in a run's ``config.json``."""
    if "coarse" not in sizes:
        return Codec(_config(sizes))
    return FineCodec(replace(FineConfig(), **(sizes | {"coarse": _config(sizes["coarse"])})))


def _config(sizes: dict) -> CodecConfig:
    return replace(CodecConfig(), **{k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})

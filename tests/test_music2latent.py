"""Music2Latent as a codec: the real architecture with random weights, since the real ones are not ours.

Every parameter is random, also those that the package starts at zero, so contexts, noise and
attention all matter. `thin` is the same architecture with fewer channels, for what needs many frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from export import music2latent as source
from export.__main__ import _codec_record, app
from export.bundle import write_bundle
from export.card import model_card
from export.graphs import graph_signature, parameters
from export.toy import SAMPLER
from pkontext import synth
from pkontext.bundle import PACKAGE_DATA, Bundle, CodecEntry, LatentStats, open_bundle
from pkontext.codec import Codec, PianoCodec, open_codec, open_codec_folder
from pkontext.curves import CHANNELS
from pkontext.engine import RenderSettings, open_rendering
from pkontext.errors import BundleError, InputError
from pkontext.features import CURVE_LOCAL, local_channels
from pkontext.music2latent import Music2LatentCodec, compressed_spectrum, samples_from_spectrum
from pkontext.parity import check_parity
from pkontext.score import score_from_notes
from pkontext.stft import StftSpec
from pkontext.types import NOTE
from train import latents as latent_task
from train import prepare
from train.asap import Performance
from train.dit_model import DiT, DiTConfig

pytest.importorskip("music2latent", reason="needs the extra music2latent")
pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:.*treespec.*:FutureWarning")

HOP = 4096
BLOCK, CONTEXT = 4, 1
PLAIN = LatentStats((0.0,) * 64, (1.0,) * 64)
#: Of channels that the package multiplies by 1 / 0.06.
LATENT_AGREE = 1e-3
AUDIO_AGREE = 1e-5


def randomised(unet: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter so that signals neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in unet.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1 and not name.endswith("gain.scale"):
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.1 * noise + (0 if "bias" in name else 1))
    return unet.eval()


def thin_unet(monkeypatch: pytest.MonkeyPatch, bins: int, norms: bool = True) -> nn.Module:
    """The package's network with fewer channels and ``bins`` bins; without norms where asked."""
    models = pytest.importorskip("music2latent.models")
    with monkeypatch.context() as patch:
        patch.setattr(models, "base_channels", 4)
        patch.setattr(models, "bottleneck_base_channels", 16)
        patch.setattr(models, "hop", bins // 2)
        unet = randomised(models.UNet())
    if not norms:
        for module in list(unet.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, nn.Identity())
    return unet


def piano(frames: int, seed: int = 0) -> np.ndarray:
    """Chords through the bundled soundfont, ``[frames * hop]``."""
    notes = np.zeros(3 * frames, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(len(notes)) * 0.03, 0.3
    notes["pitch"] = 30 + (np.arange(len(notes)) * 7 + 11 * seed) % 60
    notes["velocity"] = 40 + (np.arange(len(notes)) * 13) % 70
    spec = synth.SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
    events = synth.events_from_notes(notes, None, spec.sample_rate)
    return np.concatenate(list(synth.render(events, spec, frames * HOP)))[:, 0]


def cut(array: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Pieces of these sizes in turn."""
    start = 0
    while start < len(array):
        for size in sizes:
            yield array[start : start + size]
            start += size


@dataclass(frozen=True)
class Exported:
    """What the export command's function made, from what."""

    folder: Path
    unet: nn.Module
    errors: dict[str, float]
    excerpts: np.ndarray


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    models = pytest.importorskip("music2latent.models")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("music2latent")
    unet = randomised(models.UNet())
    excerpts = np.stack([piano(5, seed) for seed in range(2)])
    errors = source.export_music2latent(unet, folder, BLOCK, CONTEXT, CONTEXT, excerpts, threads=1)
    torch.set_num_threads(threads)
    return Exported(folder, unet, errors, excerpts)


@pytest.fixture(scope="module")
def codec(exported: Exported) -> Music2LatentCodec:
    opened = open_codec_folder(exported.folder, 1, "cpu")
    assert isinstance(opened, Music2LatentCodec)
    return opened


@pytest.fixture(scope="module")
def latents(codec: Music2LatentCodec) -> np.ndarray:
    return codec.encode(piano(7)[: 6 * HOP + 100])


# ---- the export -----------------------------------------------------------------------------------------


def test_graphs_and_chains_agree_with_the_package(exported: Exported) -> None:
    assert set(exported.errors) == {"encoder", "decoder", "encode chain", "decode chain"}
    assert exported.errors["encoder"] < LATENT_AGREE and exported.errors["encode chain"] < LATENT_AGREE
    assert exported.errors["decoder"] < 1e-4 and exported.errors["decode chain"] < AUDIO_AGREE


def test_the_comparison_with_the_package_notices_a_difference(
    exported: Exported, codec: Music2LatentCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the STFT's power, of the latents' scale, and of the noise."""
    plain = Music2LatentCodec(codec.entry, codec._encoder, codec._decoder, PLAIN)
    noise = plain._noise
    monkeypatch.setattr("pkontext.music2latent.POWER", 0.66)
    monkeypatch.setattr(plain, "_noise", lambda first, frames: noise(first + 1, frames))
    reference = noise(-CONTEXT, BLOCK + 2 * CONTEXT)
    original = source.package_decode
    monkeypatch.setattr(source, "package_decode", lambda unet, rows, _: original(unet, rows, reference))
    errors = source.chain_errors(plain, exported.unet)
    assert errors["encode chain"] > 30 * LATENT_AGREE and errors["decode chain"] > 30 * AUDIO_AGREE


def test_signatures_sizes_and_entry(exported: Exported) -> None:
    inputs, outputs, _ = graph_signature(exported.folder / "encoder.onnx")
    frames = BLOCK + 2 * CONTEXT
    assert [(t["name"], t["shape"]) for t in inputs] == [("spectrum", [1, 2, 1024, 8 * frames])]
    assert [(t["name"], t["shape"]) for t in outputs] == [("latents", [1, frames, 64])]
    inputs, outputs, _ = graph_signature(exported.folder / "decoder.onnx")
    assert [t["shape"] for t in inputs] == [[1, frames, 64], [1, 2, 1024, 8 * frames]]
    assert [t["name"] for t in [*inputs, *outputs]] == ["latents", "noise", "spectrum"]
    sizes = {name: (exported.folder / f"{name}.onnx").stat().st_size for name in ("encoder", "decoder")}
    assert sizes["encoder"] < 34e6 and sizes["decoder"] < 86e6  # 32.6 and 83.1 MB as float16
    assert parameters(exported.folder / "encoder.onnx") == pytest.approx(16.26e6, rel=0.01)
    entry = CodecEntry(**json.loads((exported.folder / "codec.json").read_text()))
    assert entry == source.codec_entry(BLOCK, CONTEXT, CONTEXT)
    assert (entry.sample_rate, entry.hop, entry.dim, entry.kind) == (44100, HOP, 64, "music2latent")
    default = source.codec_entry()
    assert (default.block, default.encode_context, default.decode_context) == (32, 13, 31)


# ---- receptive field --------------------------------------------------------------------------------------


def reach(gradient: torch.Tensor, frame: int, rate: int) -> int:
    """Latent frames on the farther side of ``frame`` that anything came from."""
    seen = torch.nonzero(gradient.abs().amax(tuple(range(gradient.ndim - 1))))[:, 0]
    assert seen.min() > 0 and seen.max() < gradient.shape[-1] - 1, "the input is too short to tell"
    left, right = frame * rate - int(seen.min()), int(seen.max()) - (frame * rate + rate - 1)
    return -(-max(left, right) // rate)


def test_default_contexts_are_what_the_convolutions_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of one frame without norms, in float64, where nothing rounds to a neighbour."""
    unet = thin_unet(monkeypatch, bins=64, norms=False).double()
    frames, middle = 2 * source.DECODE_CONTEXT + 7, source.DECODE_CONTEXT + 3
    spectrum = torch.randn(1, 2, 64, 8 * frames, dtype=torch.double, requires_grad=True)
    source.EncoderGraph(unet)(spectrum)[:, middle].sum().backward()
    assert spectrum.grad is not None
    assert reach(spectrum.grad, middle, 8) == source.ENCODE_CONTEXT
    # With sigma as a double, since the package makes it one of the default type.
    monkeypatch.setattr(torch, "float32", torch.double)
    latents = torch.randn(1, frames, 64, dtype=torch.double, requires_grad=True)
    noise = torch.randn(1, 2, 64, 8 * frames, dtype=torch.double, requires_grad=True)
    decoded = source.DecoderGraph(unet)(latents, noise)
    decoded[..., 8 * middle : 8 * middle + 8].sum().backward()
    assert latents.grad is not None and noise.grad is not None
    assert reach(latents.grad.transpose(1, 2), middle, 1) == source.DECODE_CONTEXT
    assert 0 < reach(noise.grad, middle, 8) <= source.DECODE_CONTEXT


def blocked(unet: nn.Module, entry: CodecEntry) -> Music2LatentCodec:
    """A codec with torch modules for graphs, so that blocks can have any size."""

    def graph(module: nn.Module) -> Callable[..., np.ndarray]:
        def run(**inputs: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return module(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()

        return run

    encoder: Any = graph(source.EncoderGraph(unet))
    decoder: Any = graph(source.DecoderGraph(unet))
    return Music2LatentCodec(entry, encoder, decoder, PLAIN)


def block_difference(unet: nn.Module, contexts: tuple[int, int]) -> tuple[float, float]:
    """How far blocks of 5 are from one block of all 13 frames, over their deviation: latents, samples.

    Frames are an eighth as long, with an eighth of the bins, to be faster.
    """
    audio = piano(4)[: 13 * HOP // 8]
    entry = source.codec_entry(13, source.ENCODE_CONTEXT, source.DECODE_CONTEXT)
    entry = replace(entry, n_fft=entry.n_fft // 8, stft_hop=entry.stft_hop // 8, hop=HOP // 8)
    whole = blocked(unet, entry)
    small = blocked(unet, replace(entry, block=5, encode_context=contexts[0], decode_context=contexts[1]))
    latents = whole.encode(audio)
    small.silence = whole.silence
    decoded = whole.decode(latents)
    assert latents.std() > 1 and decoded.std() > 1e-3
    difference = np.abs(small.decode(latents) - decoded).max() / decoded.std()
    return float(np.abs(small.encode(audio) - latents).max() / latents.std()), float(difference)


def test_blocks_equal_the_whole_but_for_the_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = thin_unet(monkeypatch, bins=128, norms=False)
    full = (source.ENCODE_CONTEXT, source.DECODE_CONTEXT)
    with_context, without = block_difference(plain, full), block_difference(plain, (0, 0))
    assert max(with_context) < 1e-3
    assert min(without) > 20 * max(with_context)
    normed = block_difference(thin_unet(monkeypatch, bins=128), full)
    assert min(normed) > 20 * max(with_context)  # the statistics of a block are its own


# ---- the codec --------------------------------------------------------------------------------------------


def test_spectrum_and_its_inverse_are_the_packages() -> None:
    package = pytest.importorskip("music2latent.audio")
    spec, samples = StftSpec(), np.pad(piano(3), StftSpec().lead)
    samples[5000:9000] = 0  # frames of silence, where a power of zero might be a trap
    expected = package.to_representation(torch.from_numpy(samples)[None])[0].numpy()
    found = compressed_spectrum(samples, spec)
    assert found.shape == expected.shape == (2, 1024, 24) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4 and np.abs(expected).max() > 1
    back = samples_from_spectrum(expected, spec)
    assert np.abs(back - package.to_waveform(torch.from_numpy(expected)[None])[0].numpy()).max() < 1e-6
    inside = slice(3 * spec.hop, -3 * spec.hop)  # without the highest bin, which piano hardly has
    assert np.abs(back[inside] - samples[inside]).max() < 1e-3


@pytest.mark.parametrize("sizes", [[1, 4095, 777], [HOP * 5 + 3], [10**6]])
def test_encoding_gives_the_same_bits_for_any_chunking(
    codec: Music2LatentCodec, latents: np.ndarray, sizes: list[int]
) -> None:
    audio = piano(7)[: 6 * HOP + 100]
    pieces = list(codec.encode_stream(cut(audio[:, None], sizes)))
    assert [len(piece) for piece in pieces] == [BLOCK, 3]
    assert np.array_equal(np.concatenate(pieces), latents) and latents.dtype == np.float32


def test_decoding_gives_the_same_bits_for_any_chunking(codec: Music2LatentCodec, latents: np.ndarray) -> None:
    whole = codec.decode(latents)
    assert whole.shape == (7 * HOP, 1) and whole.dtype == np.float32
    assert whole.std() > 1e-3 and np.abs(whole).max() <= 1
    assert np.array_equal(np.concatenate(list(codec.decode_stream(cut(latents, [1, 0, 3])))), whole)


def test_ends(codec: Music2LatentCodec) -> None:
    assert codec.encode(np.zeros(0, np.float32)).shape == (0, 64)
    assert codec.decode(np.zeros((0, 64), np.float32)).shape == (0, 1)
    assert codec.encode(np.zeros(1, np.float32)).shape == (1, 64)
    assert codec.decode(codec.silence[None]).shape == (HOP, 1)
    assert codec.frame_sec == HOP / 44100


def test_noise_belongs_to_the_frame(codec: Music2LatentCodec) -> None:
    many = codec._noise(-2, 6)
    assert many.shape == (2, 1024, 48) and many.dtype == np.float32
    assert np.array_equal(codec._noise(1, 2), many[..., 24:40])
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02
    assert (
        np.abs(
            np.corrcoef(many.reshape(2, 1024, 6, 8).transpose(2, 0, 1, 3).reshape(6, -1)) - np.eye(6)
        ).max()
        < 0.05
    )


def test_statistics_normalise_what_they_were_measured_on(
    exported: Exported, codec: Music2LatentCodec
) -> None:
    rows = np.concatenate([codec.encode(samples) for samples in exported.excerpts])
    assert np.abs(rows.mean(0)).max() < 1e-3 and np.abs(rows.std(0) - 1).max() < 1e-3
    raw = Music2LatentCodec(codec.entry, codec._encoder, codec._decoder, PLAIN)
    there = raw.encode(exported.excerpts[0])
    assert np.abs(there.mean(0)).max() > 0.1 and np.abs(there.std(0) - 1).max() > 0.1
    decoded = codec.decode(rows[:BLOCK])
    raw.silence = codec.silence * codec._std + codec._mean
    assert np.abs(raw.decode(there[:BLOCK]) - decoded).max() < AUDIO_AGREE


# ---- bundles and training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    curves = DiT(DiTConfig(len(CHANNELS), CURVE_LOCAL, width=32, depth=1, heads=2)).eval()
    performed = DiT(DiTConfig(64, local_channels(64), context=64, width=32, depth=1, heads=2)).eval()
    stats = {"mean": [0.0] + [64.0] * 4 + [0.0] * 7, "std": [0.2] + [12.0] * 4 + [0.01] * 4 + [0.3] * 3}
    folder = tmp_path_factory.mktemp("bundle") / "music2latent"
    path = write_bundle(
        folder, exported.folder, curves, performed, stats, SAMPLER,
        identity="toy-music2latent", version="0", training={"data": "none"},
    )  # fmt: skip
    return open_bundle(path)


def test_a_bundle_names_the_licence_and_carries_the_statistics(bundle: Bundle, exported: Exported) -> None:
    (licence,) = bundle.manifest.licences
    assert licence.spdx == "CC-BY-NC-4.0" and "Music2Latent" in licence.attribution
    assert "CC BY-NC 4.0" in bundle.file(licence.file).read_text(encoding="utf-8")
    stored = json.loads((exported.folder / "latent_stats.json").read_text())
    assert list(bundle.manifest.latent_stats.mean) == stored["mean"]
    assert list(bundle.manifest.latent_stats.std) == stored["std"]
    assert set(check_parity(bundle, 1)) == {"encoder", "decoder", "dit_curves", "dit_latents"}


def test_a_bundle_with_it_renders(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its first blocks, for time: they are what the codec makes of the latents that it was given."""
    notes = np.zeros(4, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(4) * 0.2, 0.2
    notes["pitch"], notes["velocity"] = [60, 64, 67, 72], 64
    rendering = open_rendering(score_from_notes(notes), bundle, RenderSettings(seed=1), 1, "cpu")
    assert isinstance(rendering.codec, Music2LatentCodec)
    given: list[np.ndarray] = []
    decode = rendering.codec.decode_stream

    def watched(chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        return decode(given.append(chunk) or chunk for chunk in chunks)

    monkeypatch.setattr(rendering.codec, "decode_stream", watched)
    chunks = rendering.chunks()
    first = next(chunks)
    assert first.shape[1] == 1 and first.std() > 1e-3
    again = decode(iter(given))
    direct = np.concatenate([next(again), next(again)])
    assert np.array_equal(first, direct[: len(first)])


def test_an_unknown_kind_is_refused(exported: Exported, tmp_path: Path) -> None:
    described = json.loads((exported.folder / "codec.json").read_text())
    (tmp_path / "codec.json").write_text(json.dumps(described | {"kind": "mp3"}))
    with pytest.raises(BundleError, match="kind is 'mp3'") as caught:
        open_codec_folder(tmp_path)
    assert caught.value.code == "bundle.value"


def test_training_opens_either_codec(exported: Exported, toy_bundle: Path) -> None:
    assert isinstance(prepare._load_codec(exported.folder), Music2LatentCodec)
    other: Codec = prepare._load_codec(toy_bundle.with_name(toy_bundle.name + "-codec"))
    assert isinstance(other, PianoCodec)
    assert isinstance(open_codec(open_bundle(toy_bundle), 1, "cpu"), PianoCodec)


def test_loss_weights_are_measured_for_log_magnitudes_alone(
    exported: Exported, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Data:
        dim = 64

    measured = np.arange(64, dtype=np.float32)
    monkeypatch.setattr(latent_task, "channel_weights", lambda graph, data, context: measured)
    data: Any = Data()
    assert np.array_equal(latent_task.loss_weights(exported.folder, data), np.ones(64))
    piano_folder = toy_bundle.with_name(toy_bundle.name + "-codec")
    assert latent_task.loss_weights(piano_folder, data) is measured


def test_prepared_files_are_outdated_by_other_statistics(tmp_path: Path) -> None:
    digests = set()
    for number, text in enumerate((None, "a", "b", "a")):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("x.mid", "encoder.onnx"):
            (folder / name).write_bytes(b"same")
        if text:
            (folder / "latent_stats.json").write_text(text)
        file = folder / "x.mid"
        fields = dict.fromkeys(Performance.__dataclass_fields__, "") | dict.fromkeys(
            ("score", "midi", "alignment"), file
        )
        performance: Any = Performance(**fields)  # type: ignore[arg-type]
        digests.add(prepare._digest(prepare.Job(performance, tmp_path, folder, file, 1.0, 0.1)))
    assert len(digests) == 3


def test_model_card_names_the_codec(exported: Exported) -> None:
    codec = _codec_record(exported.folder)
    assert codec["parameters"] == pytest.approx(57.7e6, rel=0.001)  # what depends on sigma alone is folded
    part = {"performances": 2, "hours": 1.0, "steps": 3, "minutes": 4, "parameters": 5, "val_loss": 6}
    card = model_card(
        {"codec": codec, "curves": part, "latents": part | {"seconds": 7}, "hardware": "", "seed": 0}
    )
    row = next(line for line in card.splitlines() if line.startswith("| codec"))
    assert "Music2Latent" in row and "CC BY-NC 4.0" in row and "57.7 M" in row


@pytest.mark.parametrize("with_data", [False, True])
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_data: bool) -> None:
    """What it hands on, and that it warns of latents that are not normalised."""
    seen: dict[str, Any] = {}

    def export(unet: object, out: Path, *more: Any) -> dict[str, float]:
        seen.update(unet=unet, sizes=more[:3], excerpts=more[3])
        out.mkdir()
        for name in ("encoder", "decoder"):
            (out / f"{name}.onnx").write_bytes(b"x" * 1_500_000)
        return {"encoder": 1.5e-5}

    def render(*arguments: Any) -> np.ndarray:
        seen["render"] = arguments
        return np.array([[-32767, 0, 16384]], np.int16)

    monkeypatch.setattr(source, "load_unet", lambda weights: weights)
    monkeypatch.setattr(source, "export_music2latent", export)
    monkeypatch.setattr("train.codec.render_excerpts", render)
    command = ["music2latent", "--weights", "w.pt", "--out", str(tmp_path / "run"), "--block", "7"]
    command += ["--data", str(tmp_path), "--excerpts", "3"] if with_data else []
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert seen["unet"] == Path("w.pt") and seen["sizes"] == (7, 13, 31)
    assert "1.5e-05" in done.stdout and "1.5 MB" in done.stdout and "CC BY-NC 4.0" in done.stdout
    assert ("not be normalised" in done.stderr) is not with_data
    if with_data:
        assert seen["render"][:2] == (tmp_path, "train") and seen["render"][4] == 3
        assert seen["excerpts"].dtype == np.float32
        assert np.allclose(seen["excerpts"], [[-1, 0, 0.5]], atol=1e-4)
    else:
        assert seen["excerpts"] is None


# ---- what can be missing ----------------------------------------------------------------------------------


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["music2latent", "--weights", str(tmp_path / "none.pt")])
    assert done.exit_code == InputError.exit_code
    assert "none.pt" in done.stderr and "CC BY-NC 4.0" in done.stderr and "non-commercial" in done.stderr
    assert "hf_hub_download" in done.stderr and "SonyCSLParis/music2latent" in done.stderr


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".models", ".hparams_inference"):
        monkeypatch.setitem(__import__("sys").modules, f"music2latent{name}", None)
    done = CliRunner().invoke(app, ["music2latent"])
    assert done.exit_code == InputError.exit_code
    assert "pip install music2latent==0.1.8" in done.stderr and "CC BY-NC 4.0" in done.stderr


class Evil:
    """Would make a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_weights_are_loaded_completely_and_safely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("music2latent.models.UNet", lambda: nn.Linear(2, 3))
    state = {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
    file, evil = tmp_path / "music2latent.pt", tmp_path / "evil"

    def code(content: object) -> str:
        torch.save(content, file)
        with pytest.raises(InputError) as caught:
            source.load_unet(file)
        assert str(file) in caught.value.message and "CC BY-NC 4.0" in caught.value.hint
        return caught.value.code

    torch.save({"gen_state_dict": state | {"more": torch.zeros(1)}, "it": 3, "loss": np.float64(0.5)}, file)
    loaded = source.load_unet(file)
    assert torch.equal(loaded.weight, state["weight"]) and not loaded.training  # type: ignore[arg-type]
    assert code({"gen_state_dict": {"weight": state["weight"]}}) == "music2latent.checkpoint"
    assert code({"gen_state_dict": state | {"bias": torch.zeros(4)}}) == "music2latent.checkpoint"
    assert code({"other": state}) == "music2latent.checkpoint"
    assert code([1]) == "music2latent.checkpoint"
    assert code({"gen_state_dict": state, "loss": Evil(evil)}) == "music2latent.checkpoint"
    assert not evil.exists()
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError):
        source.load_unet(file)

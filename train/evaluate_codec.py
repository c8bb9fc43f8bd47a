"""How good a codec is: ``python -m train.evaluate_codec --data PACK --soundfont FONT --unseen FONT``.

Excerpts of performances of the test split are rendered, coded and decoded by several systems in one run and
compared with the rendered audio: by transcription (needs the ``evaluate`` extra), by the measures of
`train.codec_metrics`, on isolated notes, and on silence.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from pkontext import synth
from pkontext.bundle import CodecEntry
from pkontext.codec import open_codec_folder
from pkontext.phase import PhaseStream
from pkontext.stft import StftSpec, log_magnitude
from pkontext.types import NOTE
from train import codec_metrics
from train.codec import render_excerpts
from train.workers import spread

RATE = codec_metrics.SAMPLE_RATE
MARK = ("<!-- table -->", "<!-- /table -->")
#: Rows of the table, in order.
SYSTEMS = {
    "phase": "exact magnitudes, phase reconstructed (the ceiling)",
    "pca": "as many channels by PCA alone, untrained",
    "ours": "**this codec**",
    "noise10": "this codec, latents with 10 % noise",
    "noise20": "this codec, latents with 20 % noise",
    "beside": "the codec beside it",
    "music2latent": "Music2Latent",
}
Row = dict[str, float]


@dataclass(frozen=True)
class Job:
    """One excerpt through all systems; folders hold exported codecs, ``pca`` a torch one's weights."""

    audio: np.ndarray
    codec: Path
    pca: Path
    music2latent: Path | None
    notes: bool
    seed: int
    beside: Path | None = None


def main(
    data: Annotated[Path, typer.Option(help="The (n)ASAP pack.", exists=True, file_okay=False)],
    soundfont: Annotated[Path, typer.Option(help="A piano that the codec was trained on.", exists=True)],
    unseen: Annotated[Path, typer.Option(help="A piano that it never heard.", exists=True)],
    codec: Annotated[Path, typer.Option(help="Run folder of the exported codec.")] = Path("runs/codec"),
    music2latent: Annotated[Path | None, typer.Option(help="Folder of an exported Music2Latent.")] = None,
    beside: Annotated[Path | None, typer.Option(help="Folder of another exported piano codec.")] = None,
    beside_name: Annotated[str, typer.Option(help="What its row is called.")] = SYSTEMS["beside"],
    out: Annotated[Path, typer.Option(help="Folder for results; found ones are kept.")] = Path(
        "runs/evaluate_codec"
    ),
    split: Annotated[str, typer.Option(help="Split of the data to measure on.")] = "test",
    excerpts: Annotated[int, typer.Option(help="Excerpts of each piano.")] = 6,
    seconds: Annotated[float, typer.Option(help="Length of an excerpt.")] = 15.0,
    notes: Annotated[bool, typer.Option(help="Transcribe (ten seconds of CPU time a row).")] = True,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    markdown: Annotated[Path | None, typer.Option(help="Put the table between this file's marks.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for spectrograms of best and worst.")] = None,
) -> None:
    """Measure a codec and print its table."""
    out.mkdir(parents=True, exist_ok=True)
    pca = out / "pca"
    if not (pca / "codec.safetensors").exists():
        make_pca(data, [soundfont], codec, pca, seed)
    tables = []
    for name, font in (("a piano of the training", soundfont), ("a piano it never heard", unseen)):
        rendered = render_excerpts(data, split, [font], seconds, excerpts, seed, workers)
        jobs = [
            Job(audio, codec, pca, music2latent, notes, seed + i, beside) for i, audio in enumerate(rendered)
        ]
        files = [out / f"{font.stem}.{digest(job)}.json" for job in jobs]
        left = [i for i, file in enumerate(files) if not file.exists()]
        for i, row in zip(
            left,
            tqdm(spread(measure_excerpt, [jobs[i] for i in left], workers), total=len(left), desc=font.stem),
            strict=True,
        ):
            files[i].write_text(json.dumps(row, indent=1))
        rows = [json.loads(file.read_text()) for file in files]
        title = f"{name}: {font.stem}, {excerpts} excerpts of {seconds:g} s of the {split} split"
        tables += [*table(title, rows, SYSTEMS | {"beside": beside_name}), ""]
        tables += [attacks_line(codec, font), ""]
        if figures is not None:
            draw(rendered, rows, codec, figures, font.stem)
    tables += [silence_line(codec), "", speed_line(codec, rendered[0])]
    text = "\n".join(tables)
    typer.echo(text)
    if markdown is not None:
        before, rest = markdown.read_text(encoding="utf-8").split(MARK[0])
        markdown.write_text(f"{before}{MARK[0]}\n{text}\n{MARK[1]}{rest.split(MARK[1])[1]}", encoding="utf-8")


def draw(rendered: np.ndarray, rows: list[dict[str, Row]], codec: Path, folder: Path, name: str) -> None:
    """Spectrograms of the excerpts with the smallest and the largest log-spectral distance."""
    from train.figures import spectrogram_pair

    order = np.argsort([row["ours"]["lsd_db"] for row in rows])
    opened = open_codec_folder(codec, 0, "cpu")
    for case, index in (("best", order[0]), ("worst", order[-1])):
        original = rendered[index].astype(np.float32) / 32767
        decoded = opened.decode(opened.encode(original))[: len(original), 0]
        part = slice(RATE, 6 * RATE)
        title = f"{name}, {case} of {len(rows)} excerpts: {rows[index]['ours']['lsd_db']:.2f} dB"
        spectrogram_pair(original[part], decoded[part], folder / f"codec-{name}-{case}.png", title)


def make_pca(data: Path, soundfonts: list[Path], codec: Path, out: Path, seed: int) -> None:
    """The codec's linear path as it is before training: a PCA of rendered training performances."""
    import torch

    from train.codec import CropBatches, load_codec, save_calibrated
    from train.codec_model import Codec as TorchCodec
    from train.codec_model import CodecConfig

    ours = load_codec(codec).encoder.config
    config = CodecConfig(
        bins=ours.stft.n_fft // 2 + 1,
        stack=(ours.frames_per_latent // 4, 4),
        latent_width=ours.dim,
        dim=ours.dim,
        encoder_blocks=(0, 0),
        decoder_blocks=(0, 0),
    )
    torch.manual_seed(seed)
    model = TorchCodec(config)
    pool = render_excerpts(data, "train", soundfonts, 30.0, 40, seed, 1)
    source = CropBatches(pool, 12, 24, config.stft, seed)
    batches = [next(source) for _ in range(60)]
    model.init_pca(torch.cat(batches))
    model.calibrate(batches)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps({"codec": config.to_dict()}))
    save_calibrated(model, out)


def digest(job: Job) -> str:
    """What names the result of a job: hash of its audio, systems and settings."""
    found = hashlib.sha256(job.audio.tobytes())
    for folder in (job.codec, job.music2latent, job.beside):
        for name in ("encoder.onnx", "decoder.onnx"):
            found.update(b"" if folder is None else (folder / name).read_bytes())
    found.update(f"{job.notes} {job.seed}".encode())
    return found.hexdigest()[:12]


def measure_excerpt(job: Job) -> dict[str, Row]:
    """All measures of all systems on one excerpt."""
    import torch

    torch.set_num_threads(1)
    original = job.audio.astype(np.float32) / 32767
    rows: dict[str, Row] = {}
    reference = _notes(original) if job.notes else None
    for name, decoded in decoded_by_all(original, job):
        rows[name] = codec_metrics.measure(original, decoded)
        if reference is not None:
            from train.transcribe import note_scores

            rows[name] |= note_scores(reference, _notes(decoded))
    return rows


def decoded_by_all(original: np.ndarray, job: Job) -> Iterator[tuple[str, np.ndarray]]:
    """Name of each system and what it makes of the audio, ``[n]``."""
    n = len(original)
    codec = open_codec_folder(job.codec, 1, "cpu")
    spec = _stft(codec.entry)
    padded = np.pad(original, (spec.lead, spec.lead + -n % codec.entry.hop))
    log_mag = log_magnitude(padded, spec)
    yield "phase", _with_phase(log_mag, spec)[:n]
    yield "pca", _with_phase(_through_pca(job.pca, log_mag), spec)[:n]
    latents = codec.encode(original)
    rng = np.random.default_rng(job.seed)
    yield "ours", codec.decode(latents)[:n, 0]
    for percent in (10, 20):
        noise = rng.standard_normal(latents.shape).astype(np.float32)
        yield f"noise{percent}", codec.decode(latents + np.float32(percent / 100) * noise)[:n, 0]
    for name, folder in (("beside", job.beside), ("music2latent", job.music2latent)):
        if folder is not None:
            other = open_codec_folder(folder, 1, "cpu")
            yield name, other.decode(other.encode(original))[:n, 0]


def isolated_notes(soundfont: Path) -> tuple[np.ndarray, np.ndarray]:
    """Short notes a second apart, from low to high and soft to loud, and the sample each begins at."""
    notes = np.zeros(24, NOTE)
    notes["onset_sec"], notes["duration_sec"] = 0.5 + np.arange(24) * 1.013, 0.25
    notes["pitch"] = np.resize([36, 48, 55, 60, 67, 72, 84, 96], 24)
    notes["velocity"] = np.repeat([40, 70, 105], 8)
    events = synth.events_from_notes(notes, None, RATE)
    audio = np.concatenate(list(synth.render(events, synth.SynthSpec(soundfont), 26 * RATE)))[:, 0]
    onsets = []
    for second in notes["onset_sec"]:
        start = round(second * RATE) - 400
        sound = np.abs(audio[start : start + 8000])
        onsets.append(start + int(np.argmax(sound > 1e-3 * sound.max())))
    return audio, np.array(onsets)


def attacks_line(codec: Path, soundfont: Path) -> str:
    """Pre-echo and sharpness of isolated notes through the codec, as a sentence."""
    audio, onsets = isolated_notes(soundfont)
    opened = open_codec_folder(codec, 0, "cpu")
    decoded = opened.decode(opened.encode(audio))[: len(audio), 0]
    spec = _stft(opened.entry)
    whole = log_magnitude(np.pad(audio, (spec.lead, spec.lead + -len(audio) % spec.hop)), spec)
    exact = _with_phase(whole, spec)[: len(audio)]
    parts = []
    for name, sound in (("through the codec", decoded), ("exact magnitudes", exact)):
        echo = codec_metrics.pre_echo(sound, onsets)
        sharp = codec_metrics.onset_sharpness(audio, sound)
        parts.append(
            f"{name} {echo.mean():.0f} dB (mean), {echo.max():.0f} dB (worst), onset sharpness {sharp:.2f}"
        )
    return (
        f"{len(onsets)} isolated notes of {soundfont.stem}, loudest 3 ms between 80 and 5 ms ahead of the"
        f" attack against its peak: {'; '.join(parts)}."
    )


def silence_line(codec: Path) -> str:
    """Level of decoded silence, as a sentence."""
    opened = open_codec_folder(codec, 0, "cpu")
    decoded = opened.decode(opened.encode(np.zeros(10 * RATE, np.float32)))
    level = 20 * np.log10(np.sqrt(np.mean(np.square(decoded, dtype=np.float64))) + 1e-12)
    return f"Ten seconds of silence decode to {max(level, -240):.0f} dBFS (rms)."


def speed_line(codec: Path, audio: np.ndarray) -> str:
    """Real-time factors of encoder and decoder on all cores, as a sentence."""
    opened = open_codec_folder(codec, 0, "cpu")
    sound = np.tile(audio.astype(np.float32) / 32767, 4)
    latents = opened.encode(sound)
    opened.decode(latents[:48])
    times = {}
    for name, call in (
        ("encodes", lambda: opened.encode(sound)),
        ("decodes", lambda: opened.decode(latents)),
    ):
        times[name] = min(_seconds(call) for _ in range(2))
    speeds = " and ".join(f"{name} {len(sound) / RATE / t:.0f} ×" for name, t in times.items())
    return f"It {speeds} real time on this machine's cores ({len(sound) / RATE:.0f} s of audio)."


def table(title: str, rows: list[dict[str, Row]], labels: dict[str, str] = SYSTEMS) -> list[str]:
    """Markdown lines: one row a system, means over excerpts, F1 with its standard error."""
    gathered: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for name, values in row.items():
            gathered[name].append(values)
    lines = [
        f"On {title} (mean; F1 ± standard error):",
        "",
        "| | note F1 | precision / recall | jitter, ms | LSD, dB | LSD of 4 windows | mel, dB"
        " | flux r | sharpness, 23 / 46 ms | level, dB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, label in labels.items():
        if name not in gathered:
            if name == "music2latent":
                lines.append(f"| {label} | weights not at hand |  |  |  |  |  |  |  |  |")
            continue
        values = gathered[name]
        mean = {key: float(np.nanmean([v[key] for v in values])) for key in values[0]}
        f1, accuracy, jitter = "–", "–", "–"
        if "f1" in mean:
            error = np.std([v["f1"] for v in values]) / np.sqrt(len(values))
            f1 = f"{mean['f1']:.3f} ± {error:.3f}"
            accuracy, jitter = f"{mean['precision']:.3f} / {mean['recall']:.3f}", f"{mean['jitter_ms']:.1f}"
        lines.append(
            f"| {label} | {f1} | {accuracy} | {jitter} | {mean['lsd_db']:.2f} | {mean['multi_lsd_db']:.2f} |"
            f" {mean['mel_db']:.2f} | {mean['flux_r']:.3f} | {mean['sharpness']:.2f} /"
            f" {mean['sharpness_46ms']:.2f} |"
            f" {mean['level_db']:+.2f} |"
        )
    return lines


def _notes(samples: np.ndarray) -> np.ndarray:
    from train.transcribe import transcribe

    return transcribe(samples, RATE, one_window=True)


def _stft(entry: CodecEntry) -> StftSpec:
    return StftSpec(entry.n_fft, entry.stft_hop, entry.floor)


def _with_phase(log_mag: np.ndarray, spec: StftSpec) -> np.ndarray:
    stream = PhaseStream(spec)
    return np.concatenate([stream.push(log_mag), stream.flush()])


def _through_pca(folder: Path, log_mag: np.ndarray) -> np.ndarray:
    import torch

    from train.codec import load_codec

    model = load_codec(folder)
    with torch.no_grad():
        return model.decoder(model.encoder(torch.from_numpy(log_mag)[None]))[0].numpy()


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    typer.run(main)

"""Prepare training data: curves of every performance, latents of a part of them. Cached, parallel.

``python -m train prepare --data PACK --codec RUN --out CACHE``

Each performance becomes one ``.npz`` whose name holds a hash of its inputs (both MIDI files, the
alignment, the codec's weights and statistics, the version of this recipe), so an interrupted run
goes on where it stopped and nothing stale is used.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pkontext import synth
from pkontext.codec import Codec, PianoCodec, open_codec_folder
from pkontext.curves import sounding_end
from pkontext.deadpan import TAIL_FRAMES
from pkontext.features import KEYS, LOWEST_KEY
from pkontext.types import NOTE
from train.align import (
    FineSpec,
    alignment_quality,
    at_latent_frames,
    dtw_path,
    position_from_path,
    refine_position,
    whiten,
    whitening,
)
from train.asap import Performance
from train.pairs import Pair, index, load_pair, random_of
from train.workers import spread

VERSION = 2
#: A pair is left out when half of its notes disagree with the alignment by more than this.
MAX_MEDIAN_ERROR_SEC = 0.12
#: Latent frames that a call of the codec encodes.
BLOCK = 128
#: Largest transposition of a variation, semitones.
TRANSPOSE = 4


@dataclass(frozen=True)
class Job:
    """One performance to prepare in one ``variation``; ``codec`` None means curves only."""

    performance: Performance
    out: Path
    codec: Path | None
    soundfont: Path
    seconds: float
    frame_sec: float
    variation: int = 0

    @property
    def name(self) -> str:
        """File name without hash; performances have names without spaces."""
        return self.performance.name + (f" {self.variation}" if self.variation else "")


def prepare(
    data: Path,
    out: Path,
    codec: Path,
    soundfonts: Sequence[Path],
    splits: tuple[str, ...] = ("train", "val"),
    latents_per_piece: int = 1,
    seconds: float = 150.0,
    workers: int = 2,
    skip: int = 0,
    curves: bool = True,
    variations: int = 2,
    latent_variations: int = 0,
) -> dict[str, int]:
    """Prepare all performances of the splits.

    Parameters
    ----------
    data : Path
        The (n)ASAP pack.
    out : Path
        Cache folder; ``curves/SPLIT`` and ``latents/SPLIT`` hold the results.
    codec : Path
        Run folder of an exported codec, see `pkontext.codec.open_codec_folder`.
    soundfonts : sequence of Path
        Plain performances are played by the first; variations take turns.
    latents_per_piece : int
        Performances of each piece whose audio is rendered and encoded.
    seconds : float
        At most this much of a performance is rendered.
    variations : int
        Further curve files of each training performance, see `train.pairs.load_pair`. (Their
        transposition is a matter of the batch.)
    latent_variations : int
        Further latent files of each training performance: another pace, transposed by up to
        `TRANSPOSE` semitones, by the next soundfont.

    Returns
    -------
    dict
        How many files were written, found and left out.
    """
    frame_sec = _load_codec(codec).frame_sec
    jobs: list[Job] = []
    for split in splits:
        if curves:
            count = variations if split == "train" else 0
            for performance in index(data, split, per_piece=1000):
                for variation in range(count + 1):
                    folder = out / "curves" / split
                    jobs.append(Job(performance, folder, None, soundfonts[0], 1e9, frame_sec, variation))
        count = latent_variations if split == "train" else 0
        for variation in range(count + 1):
            played_by = soundfonts[variation % len(soundfonts)]
            for performance in index(data, split, latents_per_piece, skip):
                folder = out / "latents" / split
                jobs.append(Job(performance, folder, codec, played_by, seconds, frame_sec, variation))
    counts = {"written": 0, "found": 0, "left out": 0}
    for result in tqdm(spread(_run, jobs, workers), total=len(jobs), mininterval=5, desc="prepare"):
        counts[result] += 1
    return counts


def _run(job: Job) -> str:
    path = job.out / f"{job.name}.{_digest(job)}.npz"
    if path.exists():
        return "found"
    pair = load_pair(job.performance, job.frame_sec, variation=job.variation)
    arrays = _curve_arrays(pair)
    if job.codec is not None:
        if job.variation:
            pair = transposed(pair, _semitones(pair, job.name))
        latents = _latent_arrays(pair, job)
        if latents is None:
            return "left out"
        arrays |= latents
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    with temporary.open("wb") as handle:
        np.savez(handle, **arrays)
    os.replace(temporary, path)
    for outdated in job.out.glob(f"{glob.escape(job.name)}.*.npz"):
        if outdated != path:
            outdated.unlink()
    return "written"


def transposed(pair: Pair, semitones: int) -> Pair:
    """The pair in another key; its curves stay as they are, which latents do not ask for."""

    def moved(notes: np.ndarray) -> np.ndarray:
        notes = notes.copy()
        notes["pitch"] = notes["pitch"].astype(np.int64) + semitones
        return notes

    deadpan = replace(pair.deadpan, notes=moved(pair.deadpan.notes))
    return replace(pair, deadpan=deadpan, notes=moved(pair.notes))


def _semitones(pair: Pair, name: str) -> int:
    """Transposition by name, as far as the keyboard allows."""
    pitch = np.concatenate([pair.deadpan.notes["pitch"], pair.notes["pitch"]]).astype(int)
    rng = random_of(name)
    drawn = int(rng.choice([-1, 1]) * rng.integers(1, TRANSPOSE + 1))
    return int(np.clip(drawn, min(LOWEST_KEY - pitch.min(), 0), max(LOWEST_KEY + KEYS - 1 - pitch.max(), 0)))


def _curve_arrays(pair: Pair) -> dict[str, np.ndarray]:
    deadpan = pair.deadpan
    return {
        "deadpan": deadpan.notes,
        "written": deadpan.written.astype(np.uint8),
        "metre": deadpan.metre,
        "curves": pair.curves.astype(np.float16),
    }


def _latent_arrays(pair: Pair, job: Job) -> dict[str, np.ndarray] | None:
    """Encode both sides, align them by DTW, and check the alignment against the notes."""
    assert job.codec is not None
    codec = _load_codec(job.codec)
    frame_sec = job.frame_sec
    spec = synth.SynthSpec(job.soundfont, sample_rate=codec.entry.sample_rate)
    inside = pair.aligned_performed["onset_sec"] < job.seconds
    if inside.sum() < 20:
        return None
    deadpan_frames = int(pair.aligned_deadpan["onset_sec"][inside].max() / frame_sec) + TAIL_FRAMES
    frames = int(pair.aligned_performed["onset_sec"][inside].max() / frame_sec) + TAIL_FRAMES
    deadpan_notes = pair.deadpan.notes[pair.deadpan.notes["onset_sec"] < deadpan_frames * frame_sec]
    sides, sounds = [], []
    for notes, pedals, count in (
        (deadpan_notes, None, deadpan_frames),
        (pair.notes, pair.pedals, frames),
    ):
        events = synth.events_from_notes(notes, pedals, spec.sample_rate)
        audio = np.concatenate(list(synth.render(events, spec, count * codec.entry.hop)))
        sides.append(np.concatenate(list(codec.encode_stream(iter([audio])))))
        sounds.append(audio[:, 0])
    deadpan, performed = sides
    mean, transform = whitening(np.concatenate([deadpan, performed]))
    white = [whiten(side, mean, transform) for side in sides]
    path, cost = dtw_path(white[0], white[1])
    if not alignment_quality(white[0], white[1], path).good:
        return None
    fine = FineSpec(codec.entry.sample_rate, codec.entry.hop)
    coarse = position_from_path(path, frames)
    refined = refine_position(coarse, (sounds[0], white[0]), (sounds[1], white[1]), fine)
    position = at_latent_frames(refined, fine)
    place = np.interp(
        pair.aligned_performed["onset_sec"][inside] / frame_sec - 0.5, np.arange(frames), position
    )
    error = (place + 0.5) * frame_sec - pair.aligned_deadpan["onset_sec"][inside]
    if np.median(np.abs(error)) > MAX_MEDIAN_ERROR_SEC:
        return None
    notes = pair.notes[pair.notes["onset_sec"] < frames * frame_sec]
    return {
        "notes": notes.astype(NOTE),
        "pedals": pair.pedals,
        "end_sec": sounding_end(notes, pair.pedals),
        "deadpan_latents": deadpan.astype(np.float16),
        "latents": performed.astype(np.float16),
        "position": position,
        "dtw_cost": np.float32(cost),
        "dtw_error_sec": np.abs(error).astype(np.float32),
    }


def _digest(job: Job) -> str:
    digest = hashlib.sha256(f"{VERSION} {job.seconds} {job.frame_sec} {job.variation}".encode())
    files = [job.performance.score, job.performance.midi, job.performance.alignment]
    if job.codec is not None:
        files += [job.codec / "encoder.onnx", job.soundfont]
        stats = job.codec / "latent_stats.json"  # only codecs that are normalised outside their graph
        files += [stats] if stats.exists() else []
    for file in files:
        digest.update(_file_hash(file))
    return digest.hexdigest()[:16]


_hashes: dict[Path, bytes] = {}
_codecs: dict[Path, Codec] = {}


def _file_hash(path: Path) -> bytes:
    if path not in _hashes:
        _hashes[path] = hashlib.sha256(path.read_bytes()).digest()
    return _hashes[path]


def _load_codec(folder: Path) -> Codec:
    """Open the exported codec of a run folder, once a process, on one thread.

    Our own works in longer blocks than for playing: less of what it computes is context.
    """
    if folder not in _codecs:
        codec = open_codec_folder(folder, 1, "cpu")
        if isinstance(codec, PianoCodec):
            codec.entry = replace(codec.entry, block=BLOCK)
        _codecs[folder] = codec
    return _codecs[folder]

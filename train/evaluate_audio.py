"""Excerpts as audio: deadpan, a human, the human through the codec, and a take in both voices.

All but the neural voice sound through the bundle's own soundfont, so that rows differ in nothing but what
they are about. Every row is transcribed; its notes are matched with the score, and with the notes it was
asked to play. A row is kept as three files (``.json`` numbers, ``.npy`` embedding, ``.flac`` audio) and not
made again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pkontext import synth
from pkontext.bundle import Bundle
from pkontext.codec import open_codec
from pkontext.curves import time_map_from_onsets
from pkontext.deadpan import TAIL_FRAMES
from pkontext.engine import RenderSettings, open_rendering
from pkontext.runtime import Graph
from pkontext.score import load_score
from pkontext.types import NOTE, PEDAL, Score
from train import asap
from train.distances import log_mel_distance, recorded_frames
from train.evaluate_expression import average_tempo, human_played, keys
from train.score_match import score_match_scores

#: Rows that do not depend on a seed, then those that do.
FIXED, SEEDED = ("deadpan", "human", "human-codec"), ("sampler", "neural")
#: Excerpts begin within this much performed time from the first note.
_LATEST_START_SEC = 60.0
#: Log-mel frames are compared until this long after the last onset; later ones are silence in all rows.
_RING_SEC = 1.0


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a score that a human played: notes that start in ``start_sec .. end_sec`` of the score."""

    performance: asap.Performance
    score: Score
    tempo: float
    start_sec: float
    end_sec: float

    @property
    def score_rows(self) -> np.ndarray:
        """Rows of the score's notes that are played."""
        onset = self.score.notes["onset_sec"]
        return np.flatnonzero((onset >= self.start_sec - 1e-9) & (onset < self.end_sec))


@dataclass(frozen=True)
class Sound:
    """A row's audio ``[n]``, the notes it was asked to play, and moments of the score in it.

    ``score_moments`` and ``audio_moments`` are the same moments in seconds of the score at the human's
    average tempo (from any zero that all rows of an excerpt share) and of the audio.
    """

    audio: np.ndarray
    notes: np.ndarray
    score_moments: np.ndarray
    audio_moments: np.ndarray
    speed: dict[str, float]


def choose_excerpt(performance: asap.Performance, seconds: float) -> Excerpt:
    """An excerpt of about this many performed seconds, at a place that depends on the name alone."""
    score = load_score(performance.score)
    tempo = float(np.clip(average_tempo(human_played(performance)), 0.25, 4))
    onsets = np.unique(score.notes["onset_sec"])
    room = min(onsets[-1] - onsets[0] - seconds * tempo, _LATEST_START_SEC * tempo)
    digest = hashlib.sha256(performance.name.encode()).digest()
    start = onsets[0] + max(room, 0.0) * int.from_bytes(digest[:4], "little") / 2**32
    start = float(onsets[np.searchsorted(onsets, start - 1e-9)])
    return Excerpt(performance, score, tempo, start, start + seconds * tempo)


def row_names(seeds: list[int]) -> list[str]:
    """Rows of an excerpt, in the order in which they must be made."""
    return [*FIXED, *(f"{voice}-seed{seed}" for seed in seeds for voice in SEEDED)]


def measure_row(
    excerpt: Excerpt, bundle: Bundle, row: str, folder: Path, steps: int | None, threads: int
) -> dict[str, Any]:
    """Render, transcribe and score one row, or read what was found before."""
    file = folder / f"{row}.json"
    if file.exists():
        return json.loads(file.read_text())
    from train.transcribe import note_scores, transcribe

    rate = bundle.manifest.codec.sample_rate
    sound = render_row(excerpt, bundle, row, steps, threads)
    human = human_sound(excerpt, bundle)
    music = human.audio[: round((human.audio_moments.max() + _RING_SEC) * rate)]
    begun = time.perf_counter()
    with recorded_frames() as frames:
        heard = transcribe(sound.audio, rate)
    spent = time.perf_counter() - begun
    notes = excerpt.score.notes[excerpt.score_rows]
    asked = note_scores(sound.notes, heard)
    found = {
        "row": row,
        "piece": excerpt.performance.piece,
        "seconds": len(sound.audio) / rate,
        "score": score_match_scores(notes, excerpt.score.ticks_per_quarter, heard),
        "asked": asked,
        "log mel": log_mel_distance(music, sound.audio, rate, moments(human, sound)),
        "speed": sound.speed,
        "transcription sec": spent,
    }
    if row.startswith("neural"):
        own = soundfile.read(folder / f"{row.replace('neural', 'sampler')}.flac", dtype="float32")[0]
        found["log mel own"] = log_mel_distance(own, sound.audio, rate)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{row}.npy", frames.vectors(len(sound.audio)).astype(np.float16))
    soundfile.write(folder / f"{row}.flac", np.clip(sound.audio, -1, 1), rate)
    file.write_text(json.dumps(found, indent=1))
    return found


def render_row(excerpt: Excerpt, bundle: Bundle, row: str, steps: int | None, threads: int) -> Sound:
    """Make the audio of one row."""
    if row == "deadpan":
        return deadpan_sound(excerpt, bundle)
    if row == "human":
        return human_sound(excerpt, bundle)
    if row == "human-codec":
        human = human_sound(excerpt, bundle)
        codec = open_codec(bundle, threads, "auto")
        coded = codec.decode(codec.encode(human.audio))[: len(human.audio), 0]
        return Sound(coded, human.notes, human.score_moments, human.audio_moments, {})
    voice, seed = row.split("-seed")
    return take_sound(excerpt, bundle, voice, int(seed), steps, threads)


def deadpan_sound(excerpt: Excerpt, bundle: Bundle) -> Sound:
    """The score at the human's average tempo, one velocity, no pedal."""
    rows = excerpt.score.notes[excerpt.score_rows]
    notes = np.zeros(len(rows), NOTE)
    notes["onset_sec"] = (rows["onset_sec"] - rows["onset_sec"][0]) / excerpt.tempo + 0.3
    notes["duration_sec"] = rows["duration_sec"] / excerpt.tempo
    notes["pitch"], notes["velocity"] = rows["pitch"], synth.DEADPAN_VELOCITY
    moments_of_notes = rows["onset_sec"] / excerpt.tempo
    return _played(notes, np.zeros(0, PEDAL), moments_of_notes, notes["onset_sec"], bundle)


def human_sound(excerpt: Excerpt, bundle: Bundle) -> Sound:
    """What the human played from the excerpt's first paired note to its last, wrong notes and all."""
    human = human_played(excerpt.performance)
    notes, pedals = asap.read_midi_notes(excerpt.performance.midi)
    inside = (human.score_onset >= excerpt.start_sec - 1e-3) & (human.score_onset < excerpt.end_sec)
    onset = human.notes["onset_sec"][inside]
    outside = set(keys(human.notes["onset_sec"][~inside], human.notes["pitch"][~inside]))
    span = (notes["onset_sec"] >= onset.min() - 1e-3) & (notes["onset_sec"] <= onset.max() + 1e-3)
    stray = np.array([key in outside for key in keys(notes["onset_sec"], notes["pitch"])])
    notes = notes[span & ~stray]
    shift = notes["onset_sec"][0] - 0.3
    notes["onset_sec"] -= shift
    pedals["time_sec"] -= shift
    before = max(int(np.searchsorted(pedals["time_sec"], 0, side="right")) - 1, 0)
    last = (notes["onset_sec"] + notes["duration_sec"]).max()
    pedals = pedals[before : np.searchsorted(pedals["time_sec"], last)]
    pedals["time_sec"] = np.maximum(pedals["time_sec"], 0)
    return _played(notes, pedals, human.score_onset[inside] / excerpt.tempo, onset - shift, bundle)


def take_sound(
    excerpt: Excerpt, bundle: Bundle, voice: str, seed: int, steps: int | None, threads: int
) -> Sound:
    """A take of the excerpt, with calls of the networks for a window and the voice's real-time factor.

    The factor is compute time over audio time from the first chunk on: opening, the curves and the score
    before the excerpt come ahead of it.
    """
    settings = RenderSettings(
        seed, excerpt.tempo, steps, voice=voice, start_sec=excerpt.start_sec, end_sec=excerpt.end_sec
    )
    with counted_calls() as calls:
        rendering = open_rendering(excerpt.score, bundle, settings, threads)
        notes = rendering.notes()[0]
        begun, chunks, times = time.perf_counter(), [], []
        for chunk in rendering.chunks():
            chunks.append(chunk[:, 0])
            times.append(time.perf_counter() - begun)
    audio = np.concatenate(chunks)
    later = len(audio) - len(chunks[0])
    speed = {"curve calls": calls.per_window("curves"), "latent calls": calls.per_window("latents")}
    if later:
        speed["rtf"] = (times[-1] - times[0]) / (later / rendering.sample_rate)
    moments_of_notes = excerpt.score.notes["onset_sec"][excerpt.score_rows] / excerpt.tempo
    return Sound(audio, notes, moments_of_notes, notes["onset_sec"], speed)


def moments(reference: Sound, other: Sound) -> tuple[np.ndarray, np.ndarray]:
    """Seconds in the reference and in the other at which both are at the same place of the score."""
    first = time_map_from_onsets(reference.score_moments, reference.audio_moments)
    second = time_map_from_onsets(other.score_moments, other.audio_moments)
    return first.performed, second.to_performed(first.deadpan)


class CallCount:
    """Calls of the networks that generate, and the windows they were for."""

    def __init__(self) -> None:
        self.calls = {"curves": 0, "latents": 0}
        self.windows = {"curves": 0, "latents": 0}
        self._start: dict[str, tuple[float, np.ndarray]] = {}

    def note(self, inputs: dict[str, np.ndarray]) -> None:
        """Count one call; a window begins with new noise at the time at which sampling starts."""
        if "time" not in inputs or "x" not in inputs:
            return
        stage = "latents" if "context" in inputs else "curves"
        self.calls[stage] += 1
        when, noise = float(inputs["time"].flat[0]), inputs["x"]
        start, before = self._start.get(stage, (when, np.zeros(0)))
        if when == start and not np.array_equal(before, noise):
            self.windows[stage] += 1
            self._start[stage] = (when, noise.copy())

    def per_window(self, stage: str) -> float:
        """Mean calls for one window; 0 when there were none."""
        return self.calls[stage] / max(self.windows[stage], 1)


@contextmanager
def counted_calls() -> Iterator[CallCount]:
    """Count every network call inside the block, whoever makes it."""
    count, original = CallCount(), Graph.__call__

    def call(self: Graph, **inputs: np.ndarray) -> np.ndarray:
        count.note(inputs)
        return original(self, **inputs)

    Graph.__call__ = call  # type: ignore[method-assign]
    try:
        yield count
    finally:
        Graph.__call__ = original  # type: ignore[method-assign]


def _played(
    notes: np.ndarray,
    pedals: np.ndarray,
    score_moments: np.ndarray,
    audio_moments: np.ndarray,
    bundle: Bundle,
) -> Sound:
    manifest = bundle.manifest
    rate = manifest.codec.sample_rate
    spec = synth.SynthSpec(bundle.soundfont, manifest.synth.gain, rate)
    end = float((notes["onset_sec"] + notes["duration_sec"]).max())
    total = (int(np.ceil(end * rate / manifest.codec.hop)) + TAIL_FRAMES) * manifest.codec.hop
    audio = np.concatenate(list(synth.render(synth.events_from_notes(notes, pedals, rate), spec, total)))
    return Sound(audio[:, 0], notes, score_moments, audio_moments, {})

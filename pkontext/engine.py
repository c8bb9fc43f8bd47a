"""From a score to performed audio: the stages, pulled one from the other.

``Score → deadpan → curves (windows) → performed notes → latents (windows) → audio``. Every stage
works on a fixed grid and draws noise from (seed, stage, window), so a take depends on score,
settings and bundle alone, not on how it is chunked, paused or exported.

Threading: a `Rendering` and everything it opens belong to the thread that iterates it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from pkontext import curves as pc
from pkontext import synth
from pkontext.bundle import Bundle
from pkontext.deadpan import LEAD_FRAMES, TAIL_FRAMES, deadpan_from_score
from pkontext.expressive_midi import TakeNotes
from pkontext.features import contrasted, latent_local, roll
from pkontext.imitate import imitated_curves, read_performance
from pkontext.networks import Networks, open_networks
from pkontext.perform import CurveSource
from pkontext.places import Places, performed_points
from pkontext.reroll import Base, Played, Rerolls, check_inside
from pkontext.sampler import LATENT_STAGE, sample, window_noise
from pkontext.sketch import Sketch, make_sketch
from pkontext.splice import fade_end, neural_take, sampler_take
from pkontext.take import (
    CancelFn,
    Progress,
    ProgressFn,
    RenderSettings,
    Reroll,
    check_cancelled,
    check_settings,
    notes_in_span,
    settings_texts,
)
from pkontext.types import PEDAL, Score
from pkontext.voices import Ready, play_notes
from pkontext.windows import LATENT_LOOKAHEAD, Window, context_reach, context_window, window_grid

__all__ = [
    "Networks",
    "Progress",
    "RenderSettings",
    "Rendering",
    "Reroll",
    "open_networks",
    "open_rendering",
]

_FADE_SEC = 0.4
#: How far a note may be before its place in the time map, and some more.
_MOST_ASYNCHRONY_SEC = 0.15


class Rendering:
    """One take being rendered. Iterate `chunks` for its audio.

    Raises
    ------
    InputError
        For settings out of range or a span without notes.
    """

    def __init__(self, score: Score, bundle: Bundle, settings: RenderSettings, networks: Networks) -> None:
        check_settings(settings)
        check_inside(score, settings.rerolls)
        self.score, self.bundle, self.settings = score, bundle, settings
        manifest = bundle.manifest
        self.codec = networks.codec
        self.frame_sec = self.codec.frame_sec
        self.deadpan = deadpan_from_score(score, settings.tempo, self.frame_sec)
        self._playing = notes_in_span(score, settings)
        self._latent_graph = networks.latents
        played = None
        if settings.like is not None:
            played = imitated_curves(self.deadpan, *read_performance(settings.like))
        self.curve_source = CurveSource(networks.curves, manifest, self.deadpan, settings, played)
        self._deadpan_stream = self.codec.encode_stream(self._deadpan_audio())
        self._deadpan_latents: list[np.ndarray] = []
        self._deadpan_count = 0
        self._first_frame: int | None = None
        self._cancelled: CancelFn | None = None
        self._rerolls = Rerolls(self._base(), settings.rerolls)

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return self.bundle.manifest.codec.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        return 1

    def chunks(
        self,
        progress: ProgressFn | None = None,
        cancelled: CancelFn | None = None,
        voice: str | None = None,
    ) -> Iterator[np.ndarray]:
        """Render the take in one voice, in order, once.

        Several voices of one rendering may be rendered by turns; they share the curves.

        Parameters
        ----------
        progress : callable, optional
            Called after each window, on the calling thread.
        cancelled : callable, optional
            Asked between network calls; when it returns True, `Cancelled` is raised.
        voice : str, optional
            One of `pkontext.take.VOICES`; by default the settings'.

        Yields
        ------
        ndarray
            float32 ``[n, 1]``.
        """
        self._cancelled = cancelled
        voices = {"neural": self._neural, "sampler": self._sampler_voice, "deadpan": self._deadpan_voice}
        audio = voices[voice or self.settings.voice](progress)
        for chunk in fade_end(audio, round(_FADE_SEC * self.sample_rate)):
            check_cancelled(cancelled)
            yield chunk

    def notes(self) -> tuple[np.ndarray, np.ndarray]:
        """Every note of the span and the pedal while it plays, in performed seconds of the audio.

        Returns
        -------
        notes : ndarray of NOTE
        pedals : ndarray of PEDAL
        """
        if self.settings.voice == "deadpan":
            return self._deadpan_notes(), np.zeros(0, PEDAL)
        return self._audible(*self._rerolls.apply(*self._base_notes()))

    def take_notes(self, cancelled: CancelFn | None = None) -> TakeNotes:
        """Notes and pedal with their places in the score, as `pkontext.expressive_midi` writes them."""
        self._cancelled = cancelled
        notes, pedals = self.notes()
        manifest = self.bundle.manifest
        origin = f"bundle={manifest.id} {manifest.version} {self.bundle.sha256}"
        return TakeNotes(self.score, self._playing, notes, pedals, (*settings_texts(self.settings), origin))

    def places(self, voice: str | None = None) -> Places:
        """Where places of the score are in the audio of a voice, as far as it is decided."""
        deadpan = self.deadpan
        if (voice or self.settings.voice) == "deadpan":
            place = np.array([0.0, deadpan.frames * self.frame_sec])
            times, shift = place, self._deadpan_shift()
        else:
            shift, base = self._first_performed_frame(), self.curve_source.time_map()
            place, times = performed_points(base.deadpan, base.performed, self._rerolls.made())
        first = float(deadpan.notes["onset_sec"][0])
        score = deadpan.score_sec + (place - first) * deadpan.tempo
        return Places(score, times - shift * self.frame_sec, deadpan.tempo)

    @property
    def playing(self) -> np.ndarray:
        """Rows of the score's notes that are played."""
        return self._playing

    @property
    def rerolls_made(self) -> int:
        """How many re-rolled ranges are decided."""
        return len(self._rerolls.made())

    def sketch(self) -> Sketch:
        """The take so far, for drawing; renders nothing further."""
        committed, plans = self.curve_source.committed, self._rerolls.made()
        if not committed:
            nothing = self.deadpan.notes[self._playing], np.zeros(0, PEDAL)
            return make_sketch(self.curve_source, self._playing, nothing, [], 0.0)
        notes, pedals, _ = self._performed(committed)
        shift = self._first_performed_frame() * self.frame_sec
        return make_sketch(self.curve_source, self._playing, (notes, pedals), plans, shift)

    # -- stages ---------------------------------------------------------------------------------

    def _base(self) -> Base:
        """What re-rolls need."""
        return Base(
            self.bundle.manifest.sampler,
            self.codec,
            self.curve_source,
            self._playing,
            self._first_performed_frame,
            self._last_performed_frame,
            self._sample_latents,
            lambda: self._cancelled is not None and self._cancelled(),
        )

    def _base_notes(self) -> tuple[np.ndarray, np.ndarray]:
        """Notes of the span and pedal of the take without re-rolls, in performed seconds."""
        self.curve_source.extend(self.deadpan.frames, self._cancelled)
        return self._performed(self.deadpan.frames)[:2]

    def _audible(self, notes: np.ndarray, pedals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Notes and pedal in seconds of the audio."""
        shift = self._first_performed_frame() * self.frame_sec
        notes["onset_sec"] -= shift
        pedals["time_sec"] -= shift
        end = self._last_performed_frame(notes) * self.frame_sec
        at_start = max(int(np.searchsorted(pedals["time_sec"], 0, side="right")) - 1, 0)
        pedals = pedals[at_start : np.searchsorted(pedals["time_sec"], end)]
        pedals["time_sec"] = np.maximum(pedals["time_sec"], 0)
        return notes, pedals

    def _deadpan_audio(self) -> Iterator[np.ndarray]:
        deadpan, manifest = self.deadpan, self.bundle.manifest
        spec = synth.SynthSpec(self.bundle.soundfont, manifest.synth.gain, manifest.codec.sample_rate)
        events = synth.events_from_notes(deadpan.notes, None, spec.sample_rate)
        return synth.render(events, spec, deadpan.frames * manifest.codec.hop)

    def _deadpan_until(self, frame: int) -> np.ndarray:
        """Deadpan latents of the piece, at least up to ``frame`` or the end."""
        while self._deadpan_count < min(frame, self.deadpan.frames):
            check_cancelled(self._cancelled)
            latents = next(self._deadpan_stream)
            self._deadpan_latents.append(latents)
            self._deadpan_count += len(latents)
        self._deadpan_latents = [np.concatenate(self._deadpan_latents)]
        return self._deadpan_latents[0]

    def _performed(self, frames: int) -> tuple[np.ndarray, np.ndarray, pc.TimeMap]:
        """Notes of the span, pedal and time map on the performed axis, by the first ``frames`` curves."""
        curves, time_map = self.curve_source.curves(frames), self.curve_source.time_map(frames)
        notes = pc.notes_from_curves(self.deadpan.notes, curves, self.frame_sec, time_map)
        return notes[self._playing], pc.pedals_from_curves(curves, time_map, self.frame_sec), time_map

    def _first_performed_frame(self) -> int:
        """Performed frame at which the audio starts: the lead before the first note of the span."""
        if self._first_frame is None:
            onset = float(self.deadpan.notes["onset_sec"][self._playing].min())
            self.curve_source.extend(int(onset / self.frame_sec) + 2, self._cancelled)
            performed = float(self.curve_source.time_map().to_performed(np.array([onset]))[0])
            self._first_frame = max(int(performed / self.frame_sec) - LEAD_FRAMES, 0)
        return self._first_frame

    def _last_performed_frame(self, notes: np.ndarray) -> int:
        """Frame after the decay of the last note; an estimate until curves reach its end."""
        end = float((notes["onset_sec"] + notes["duration_sec"]).max())
        return int(np.ceil(end / self.frame_sec)) + TAIL_FRAMES

    def _latent_windows(self, progress: ProgressFn | None) -> Iterator[np.ndarray]:
        """Performed latents, the kept frames of one window at a time."""
        sampler = self.bundle.manifest.sampler
        size = sampler.latent_window
        first = self._first_performed_frame()
        tail = np.zeros((0, self.codec.entry.dim), np.float32)
        begun = time.monotonic()
        for window in window_grid(size, sampler.latent_overlap, LATENT_LOOKAHEAD, first):
            state, last = self._latent_window(window, tail)
            stop = min(window.stop, last)
            kept = state[window.given : stop - window.start]
            tail = state[: stop - window.start][-sampler.latent_overlap :]
            if progress is not None:
                advance = size - sampler.latent_overlap - LATENT_LOOKAHEAD
                windows = max(-(-(last - first - sampler.latent_overlap) // advance), window.number + 1)
                done, total = (stop - first) * self.frame_sec, (last - first) * self.frame_sec
                elapsed = time.monotonic() - begun
                progress(Progress("perform", window.number + 1, windows, done, total, elapsed))
            yield kept
            if window.stop >= last:
                return

    def _latent_window(self, window: Window, given_tail: np.ndarray) -> tuple[np.ndarray, int]:
        """Sample one window; returns its latents and the last performed frame as known so far."""
        size = self.bundle.manifest.sampler.latent_window
        played = self._performed_for(window, size)
        given = np.zeros((1, size, self.codec.entry.dim), np.float32)
        known = np.zeros_like(given)
        given[0, : window.given] = given_tail
        known[0, : window.given] = 1
        state = self._sample_latents(window.start, given, known, played, self.settings.seed, window.number)
        return state, self._last_performed_frame(played[0])

    def _sample_latents(
        self, start: int, given: np.ndarray, known: np.ndarray, played: Played, seed: int, number: int
    ) -> np.ndarray:
        """Sample the window at a performed frame; what is given and known are ``[1, frames, dim]``."""
        size, dim, frame_sec = given.shape[1], given.shape[2], self.frame_sec
        notes, pedals, time_map = played
        end = pc.sounding_end(notes, pedals)
        sampler = self.bundle.manifest.sampler
        onset, pitch, stop_sec = notes["onset_sec"], notes["pitch"], (start + size) * frame_sec
        velocity = contrasted(onset, pitch, notes["velocity"], sampler.velocity_contrast, stop_sec)
        painted = roll(onset, end, end, pitch, velocity, start, size, frame_sec)
        span = np.arange(start - size, start + 2 * size) + 0.5
        position = time_map.to_deadpan(span * frame_sec) / frame_sec - 0.5
        deadpan = self._deadpan_until(context_reach(position, size, size))
        shown = context_window(deadpan, position, size, size)
        by_notes = sampler.conditioning == "notes"
        same = shown["same"] if by_notes else None
        hearing = latent_local(painted if by_notes else None, same, size, dim)[None]
        blind = latent_local(None, same, size, dim)[None]
        guidance = np.float32(sampler.latent_guidance if by_notes else 1)
        inputs = {
            "known": known,
            "position": np.arange(size, dtype=np.float32)[None],
            "context": shown["context"][None],
            "context_position": shown["context_position"][None],
        }

        def call(x: np.ndarray, when: float, local: np.ndarray) -> np.ndarray:
            check_cancelled(self._cancelled)
            return self._latent_graph(x=x, time=np.array([when], np.float32), local=local, **inputs)

        def predict(x: np.ndarray, when: float) -> np.ndarray:
            clean = call(x, when, hearing)
            if guidance == 1:
                return clean
            without = call(x, when, blind)
            return without + guidance * (clean - without)

        noise = window_noise(seed, LATENT_STAGE, number, given.shape)
        noise *= np.float32(sampler.latent_temperature)
        steps = self.settings.steps or sampler.latent_steps
        return sample(predict, noise, given, known, steps, sampler.solver)[0]

    def _performed_for(self, window: Window, size: int) -> tuple[np.ndarray, np.ndarray, pc.TimeMap]:
        """Notes, pedal and time map by the curves that a window needs, and no others.

        More may be committed, when someone asked for the notes; the window must not depend on that.
        Curves that reach the last onset are extended to its end, which says where the audio ends.
        """
        source = self.curve_source
        until = (window.start + size + LATENT_LOOKAHEAD) * self.frame_sec
        frames = source.frames_until(until, 0, self._cancelled)
        playing = self.deadpan.notes[self._playing]
        if frames > playing["onset_sec"].max() / self.frame_sec + 1:
            end = (playing["onset_sec"] + playing["duration_sec"]).max()
            frames = source.frames_until(until, int(end / self.frame_sec) + 2, self._cancelled)
        return self._performed(frames)

    # -- voices ---------------------------------------------------------------------------------

    def _neural(self, progress: ProgressFn | None) -> Iterator[np.ndarray]:
        if self.settings.rerolls:
            return neural_take(self._rerolls, self._latent_windows, progress)
        return self.codec.decode_stream(self._latent_windows(progress))

    def _sampler_voice(self, progress: ProgressFn | None) -> Iterator[np.ndarray]:
        spec = self._spec()
        audio = self._play(spec, self._ready_notes, progress)
        return sampler_take(self._rerolls, spec, audio) if self.settings.rerolls else audio

    def _deadpan_voice(self, progress: ProgressFn | None) -> Iterator[np.ndarray]:
        notes = self._deadpan_notes()
        last = self._last_performed_frame(notes)
        return self._play(self._spec(), lambda _: (notes, np.zeros(0, PEDAL), last), progress)

    def _play(self, spec: synth.SynthSpec, ready: Ready, progress: ProgressFn | None) -> Iterator[np.ndarray]:
        manifest = self.bundle.manifest
        return play_notes(spec, ready, manifest.codec.hop, manifest.sampler.latent_window, progress)

    def _spec(self) -> synth.SynthSpec:
        soundfont = self.settings.soundfont or self.bundle.soundfont
        return synth.SynthSpec(
            soundfont, self.bundle.manifest.synth.gain, self.sample_rate, self.settings.reverb
        )

    def _deadpan_notes(self) -> np.ndarray:
        """Notes of the span without a performance, in seconds of the deadpan voice's audio."""
        notes = self.deadpan.notes[self._playing]
        notes["onset_sec"] -= self._deadpan_shift() * self.frame_sec
        return notes

    def _deadpan_shift(self) -> int:
        """Deadpan frame at which the audio of the deadpan voice starts."""
        onset = float(self.deadpan.notes["onset_sec"][self._playing].min())
        return int(onset / self.frame_sec) - LEAD_FRAMES

    def _ready_notes(self, stop: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Notes, pedal and last frame of the base's audio, final up to frame ``stop`` of it.

        A note is final when curves are committed to its end.
        """
        first = self._first_performed_frame()
        until = (first + stop) * self.frame_sec + _MOST_ASYNCHRONY_SEC
        frames = self.curve_source.frames_until(until, 0, self._cancelled)
        playing = self.deadpan.notes[self._playing]
        onset, end = playing["onset_sec"], playing["onset_sec"] + playing["duration_sec"]
        struck = onset < self.curve_source.time_map(frames).to_deadpan(np.array([until]))[0]
        if struck.any():
            reach = end.max() if struck.all() else end[struck].max()
            frames = self.curve_source.frames_until(until, int(reach / self.frame_sec) + 2, self._cancelled)
        notes, pedals = self._audible(*self._performed(frames)[:2])
        return notes, pedals, self._last_performed_frame(notes)


def open_rendering(
    score: Score, bundle: Bundle, settings: RenderSettings, threads: int = 0, provider: str = "auto"
) -> Rendering:
    """Prepare one take of a score, with networks of its own; nothing is rendered until it is asked for.

    Errors as of `Rendering` and `open_networks`, which explains the parameters.
    """
    return Rendering(score, bundle, settings, open_networks(bundle, threads, provider))

"""Notes to audio through FluidSynth, offline, in chunks, deterministic.

FluidSynth applies events at the start of its internal block of 64 samples, so every event is
placed on the nearest block boundary (at most 0.73 ms away at 44.1 kHz) and the output does not
depend on how it is cut into chunks. Each render uses a fresh synth: `system_reset` is not
bit-exact, a fresh object is.

Threading: one thread owns a synth. The library is imported on first use, because the Python
wheel needs the system library ``libfluidsynth3``.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.errors import DeviceError, InputError
from pkontext.types import NOTE, PEDAL

#: Samples in FluidSynth's internal block (``FLUID_BUFSIZE``).
BLOCK = 64
NOTE_OFF, NOTE_ON, CONTROL = 0, 1, 2
SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67
DEADPAN_VELOCITY = 64

#: One synth event; ``frame`` is a multiple of `BLOCK`.
EVENT = np.dtype([("frame", "i8"), ("kind", "u1"), ("key", "u1"), ("value", "u1")])

INSTALL_HINT = (
    "Install it with `sudo apt-get install libfluidsynth3` (Debian, Ubuntu), "
    "`brew install fluid-synth` (macOS) or from fluidsynth.org (Windows)."
)


@dataclass(frozen=True)
class SynthSpec:
    """How notes become audio: soundfont, gain, sample rate (hertz) and level of the room (0 is dry)."""

    soundfont: Path
    gain: float = 1.2
    sample_rate: int = 44100
    reverb: float = 0.0


def load_fluidsynth() -> Any:
    """Return the ``fluidsynth`` module.

    Raises
    ------
    DeviceError
        ``synth.library`` when the system library is missing.
    """
    try:
        # With CI in the environment the wheel prints where it found the library, and standard output
        # may be carrying audio or JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            import fluidsynth
    except (ImportError, OSError) as error:
        raise DeviceError(
            "synth.library", f"The FluidSynth library could not be loaded ({error}).", INSTALL_HINT
        ) from error
    return fluidsynth


def events_from_notes(
    notes: np.ndarray, pedals: np.ndarray | None = None, sample_rate: int = 44100
) -> np.ndarray:
    """Turn notes and pedal into sorted synth events.

    A note that is struck again while its key is down is released first, so no note-off can end
    the later note.

    Parameters
    ----------
    notes : ndarray of NOTE
    pedals : ndarray of PEDAL, optional
    sample_rate : int

    Returns
    -------
    ndarray of EVENT
        Sorted by frame; at one frame: controllers, note-offs, note-ons.
    """
    notes = np.sort(np.asarray(notes, NOTE), order=["onset_sec", "pitch"])
    on = _to_block(notes["onset_sec"], sample_rate)
    off = np.maximum(_to_block(notes["onset_sec"] + notes["duration_sec"], sample_rate), on + BLOCK)
    order = np.lexsort((on, notes["pitch"]))
    same = notes["pitch"][order][1:] == notes["pitch"][order][:-1]
    off_by_pitch, on_by_pitch = off[order], on[order]
    off_by_pitch[:-1][same] = np.minimum(off_by_pitch[:-1][same], on_by_pitch[1:][same])
    off = np.empty_like(off_by_pitch)
    off[order] = off_by_pitch
    sounding = off > on  # of two strikes of a key in one block only the last one sounds
    n, on, off = notes[sounding], on[sounding], off[sounding]

    pedals = np.empty(0, PEDAL) if pedals is None else np.asarray(pedals, PEDAL)
    events = np.zeros(2 * len(n) + len(pedals), EVENT)
    ons, offs, controls = np.split(events, [len(n), 2 * len(n)])
    ons["frame"], ons["kind"], ons["key"], ons["value"] = on, NOTE_ON, n["pitch"], n["velocity"]
    offs["frame"], offs["kind"], offs["key"] = off, NOTE_OFF, n["pitch"]
    controls["frame"] = _to_block(pedals["time_sec"], sample_rate)
    controls["kind"], controls["key"], controls["value"] = CONTROL, SUSTAIN, pedals["value"]
    rank = np.array([1, 2, 0], np.uint8)[events["kind"]]
    return events[np.lexsort((events["key"], rank, events["frame"]))]


def deadpan_events(
    onset_sec: np.ndarray, duration_sec: np.ndarray, pitch: np.ndarray, rate: int
) -> np.ndarray:
    """Events of a score without expression: one velocity, notated durations, no pedal."""
    notes = np.zeros(len(pitch), NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"] = onset_sec, duration_sec, pitch
    notes["velocity"] = DEADPAN_VELOCITY
    return events_from_notes(notes, None, rate)


def render(
    events: np.ndarray,
    spec: SynthSpec,
    total_frames: int,
    chunk_frames: int = 65536,
    channels: int = 1,
) -> Iterator[np.ndarray]:
    """Render events to float32 audio, chunk by chunk.

    Parameters
    ----------
    events : ndarray of EVENT
        Sorted by frame; those at or after ``total_frames`` are not played.
    spec : SynthSpec
    total_frames : int
        Frames to produce in all.
    chunk_frames : int
        Frames a chunk; the audio is the same whatever the value.
    channels : int
        1 (mean of left and right) or 2.

    Yields
    ------
    ndarray
        float32 ``[n, channels]``, ``n <= chunk_frames``.

    Raises
    ------
    DeviceError
        ``synth.library`` without the system library.
    InputError
        ``synth.soundfont`` when the soundfont cannot be loaded.
    """
    with contextlib.closing(Voice(spec, channels)) as voice:
        while voice.position < total_frames:
            yield voice.play(events, min(chunk_frames, total_frames - voice.position))


class Voice:
    """A synth that plays on and on, for events that become known bit by bit.

    One thread owns it; `close` frees it. Errors as in `render`.

    Parameters
    ----------
    spec : SynthSpec
    channels : int
        1 (mean of left and right) or 2.
    """

    def __init__(self, spec: SynthSpec, channels: int = 1) -> None:
        self.position = 0
        self._channels = channels
        self._synth: Any = _open(spec)
        self._write = _write_float()
        self._stereo = np.zeros((2, 0), np.float32)

    def play(self, events: np.ndarray, count: int) -> np.ndarray:
        """The next audio.

        Parameters
        ----------
        events : ndarray of EVENT
            Sorted; those of the next ``count`` frames are played, all others are left alone. Frames count
            from the first one of this voice.
        count : int

        Returns
        -------
        ndarray
            float32 ``[count, channels]``.
        """
        if self._stereo.shape[1] < count:
            self._stereo = np.zeros((2, count), np.float32)
        left, right = (self._stereo[c].ctypes.data_as(ctypes.c_void_p) for c in (0, 1))
        low, high = np.searchsorted(events["frame"], [self.position, self.position + count])
        coming = events[low:high]
        done = 0
        for frame, kind, key, value in coming.tolist():
            if frame > self.position + done:
                step = frame - self.position - done
                self._write(self._synth.synth, step, left, done, 1, right, done, 1)
                done += step
            self.send(kind, key, value)
        if done < count:
            self._write(self._synth.synth, count - done, left, done, 1, right, done, 1)
        self.position += count
        if self._channels == 1:
            return ((self._stereo[0, :count] + self._stereo[1, :count]) * np.float32(0.5))[:, None]
        return self._stereo[:, :count].T.copy()

    def send(self, kind: int, key: int, value: int) -> None:
        """Play one event at once, at the next block of FluidSynth."""
        if kind == NOTE_ON:
            self._synth.noteon(0, key, value)
        elif kind == NOTE_OFF:
            self._synth.noteoff(0, key)
        else:
            self._synth.cc(0, key, value)

    def quiet(self) -> None:
        """Release every key and the pedals."""
        for control in (SUSTAIN, SOSTENUTO, SOFT):
            self._synth.cc(0, control, 0)
        for key in range(128):
            self._synth.noteoff(0, key)

    def close(self) -> None:
        """Free the synth; harmless when repeated."""
        if self._synth is not None:
            self._synth.delete()
            self._synth = None


def _to_block(seconds: np.ndarray, sample_rate: int) -> np.ndarray:
    return np.rint(np.asarray(seconds) * (sample_rate / BLOCK)).astype(np.int64) * BLOCK


def _write_float() -> Any:
    """Return FluidSynth's undithered float output, which the Python wheel does not wrap."""
    function = load_fluidsynth()._fl.fluid_synth_write_float
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    function.argtypes = [pointer, integer, pointer, integer, integer, pointer, integer, integer]
    return function


def _open(spec: SynthSpec) -> Any:
    if not Path(spec.soundfont).is_file():
        raise InputError(
            "synth.soundfont",
            f"The soundfont {spec.soundfont} does not exist.",
            "Choose an .sf2 or .sf3 file, or leave the option out to use the bundled piano.",
        )
    synth = load_fluidsynth().Synth(
        gain=spec.gain,
        samplerate=spec.sample_rate,
        **{
            "synth.reverb.active": int(spec.reverb > 0),
            "synth.reverb.level": float(spec.reverb),
            "synth.chorus.active": 0,
            "synth.cpu-cores": 1,
            "synth.midi-channels": 16,
            "synth.polyphony": 256,
        },
    )
    font = synth.sfload(str(spec.soundfont))
    if font == -1:
        synth.delete()
        raise InputError(
            "synth.soundfont",
            f"The soundfont {spec.soundfont} could not be loaded.",
            "Choose a SoundFont 2 or 3 file that FluidSynth can read.",
        )
    synth.program_select(0, font, 0, 0)
    return synth

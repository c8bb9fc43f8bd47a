"""What is played sounds at once, through a FluidSynth that feeds the sound card by itself.

FluidSynth's own audio driver asks its synth for samples, so no Python is in the way of the sound; all
that happens here is to hand over each event. A take may be recorded without any of this.

Threading: `Monitor.feed` is for the thread that listens, `Monitor.click` for the metronome's; the
others may be called from any thread. FluidSynth locks its synth by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.errors import DeviceError, InputError
from pkontext.midi_bytes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    BEND,
    CHANNELS,
    CONTROL,
    EXPRESSION,
    KEYS,
    NOTE_OFF,
    NOTE_ON,
    RESET_CONTROLLERS,
    SOFT,
    SOSTENUTO,
    SUSTAIN,
    VOLUME,
    parse_voice,
)
from pkontext.midi_systems import answers
from pkontext.synth import load_fluidsynth

CLIENT = "PianoKontext-monitor"
_PEDALS = (SUSTAIN, SOSTENUTO, SOFT)
_PASSED = {*_PEDALS, VOLUME, EXPRESSION, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF}
#: A piano soundfont has no clicks, so the metronome strikes its highest keys, which are short by nature.
_CLICK_KEY, _ACCENT_KEY = 103, 108
_CLICK_CHANNEL = 15
_MEASURED = 4096
#: Panic, error, warning and information.
_LOG_LEVELS = 4


@dataclass(frozen=True)
class MonitorStatus:
    """How the monitor does.

    Attributes
    ----------
    driver : str
        FluidSynth's audio driver.
    buffer_sec : float or None
        Length of the driver's buffers; None where the sound server decides.
    added_ms : tuple of float
        From the MIDI callback to the synth: median, 95 % and largest of the last events, milliseconds.
    voices : int
        Sounding voices.
    volume : float
    muted : bool
    """

    driver: str
    buffer_sec: float | None
    added_ms: tuple[float, float, float]
    voices: int
    volume: float
    muted: bool


class Monitor:
    """Sounds MIDI events at once. Close it: an open one keeps the sound device.

    Velocity, sustain, sostenuto, soft pedal, pitch bend, volume and expression are passed on. Program
    changes are not, as every channel plays the piano. FluidSynth's sustain is a switch at 64, so a half
    pedal is heard as down or up, though it is captured as played.

    Parameters
    ----------
    soundfont : Path
    gain : float
        FluidSynth's gain at volume 1.
    reverb : float
        Level of the room, 0 is dry.
    driver : str, optional
        One of FluidSynth's audio drivers; by default the first that works.
    device : str, optional
        The driver's name of a device.
    period_frames, periods : int
        Size and number of the driver's buffers, where the sound server does not decide.

    Raises
    ------
    DeviceError
        ``synth.library``, or ``monitor.device`` when no driver works.
    InputError
        ``synth.soundfont`` when the soundfont cannot be loaded.
    """

    def __init__(
        self,
        soundfont: Path,
        gain: float = 1.2,
        reverb: float = 0.0,
        driver: str | None = None,
        device: str | None = None,
        period_frames: int = 64,
        periods: int = 3,
        sample_rate: int = 48000,
    ) -> None:
        self._library = load_fluidsynth()
        self._gain, self._volume, self._muted = gain, 1.0, False
        self._lock = threading.Lock()
        self._added: deque[float] = deque(maxlen=_MEASURED)
        self._buffer = period_frames * periods / sample_rate
        settings = {
            "synth.reverb.active": int(reverb > 0),
            "synth.reverb.level": float(reverb),
            "synth.chorus.active": 0,
            "synth.cpu-cores": 1,
            "synth.polyphony": 256,
            "synth.dynamic-sample-loading": 1,
            "audio.period-size": period_frames,
            "audio.periods": periods,
            "audio.jack.id": CLIENT,
            "audio.jack.autoconnect": 1,
        }
        with _quiet(self._library):
            self._synth: Any = self._library.Synth(
                gain=gain, samplerate=sample_rate, channels=CHANNELS, **settings
            )
            try:
                self._load(soundfont)
                self.driver = self._start(driver, device)
            except BaseException:
                self._delete()
                raise

    def feed(self, time_sec: float, data: bytes) -> None:
        """Sound a message; anything that is no complete channel message is ignored.

        ``time_sec`` is the message's ``time.monotonic()``, for the measurement in `status`.
        """
        voice = parse_voice(data)
        if voice is None:
            return
        kind, channel, first, second = voice
        with self._lock:
            if self._synth is None:
                return
            if kind == NOTE_ON:
                self._strike(channel, first, second)
                self._added.append(time.monotonic() - time_sec)
            elif kind == NOTE_OFF:
                self._synth.noteoff(channel, first)
            elif kind == CONTROL and first in _PASSED:
                self._synth.cc(channel, first, second)
            elif kind == BEND:
                self._synth.pitch_bend(channel, (second << 7 | first) - 8192)

    def click(self, accent: bool) -> None:
        """Sound one beat of a metronome."""
        key = _ACCENT_KEY if accent else _CLICK_KEY
        with self._lock:
            if self._synth is not None:
                self._strike(_CLICK_CHANNEL, key, 120 if accent else 90)
                self._synth.noteoff(_CLICK_CHANNEL, key)

    def set_volume(self, volume: float) -> None:
        """Set the loudness; 0 is silent, 1 is the soundfont's usual level, 2 the most."""
        self._volume = min(max(volume, 0.0), 2.0)
        self._apply_gain()

    def set_muted(self, muted: bool) -> None:
        """Be silent, or sound again; what is struck meanwhile stays silent."""
        self._muted = muted
        self._apply_gain()

    def panic(self) -> None:
        """Release all pedals and end all sound."""
        with self._lock:
            if self._synth is None:
                return
            for channel in range(CHANNELS):
                for control in _PEDALS:
                    self._synth.cc(channel, control, 0)
                for key in range(KEYS):
                    self._synth.noteoff(channel, key)
                self._synth.all_sounds_off(channel)

    def status(self) -> MonitorStatus:
        """Driver, latency and loudness as they are now."""
        added = np.array(list(self._added) or [0.0]) * 1e3
        median, most, largest = (round(float(p), 3) for p in np.percentile(added, [50, 95, 100]))
        with self._lock:
            voices = 0 if self._synth is None else int(self._synth.get_active_voice_count())
        buffer_sec = None if self.driver == "jack" else self._buffer
        return MonitorStatus(
            self.driver, buffer_sec, (median, most, largest), voices, self._volume, self._muted
        )

    def close(self) -> None:
        """End all sound and give the device back; harmless when repeated."""
        with self._lock:
            if self._synth is not None:
                self._delete()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _apply_gain(self) -> None:
        with self._lock:
            if self._synth is not None:
                self._synth.setting("synth.gain", float(self._level))

    @property
    def _level(self) -> float:
        return 0.0 if self._muted else self._gain * self._volume

    def _strike(self, channel: int, key: int, velocity: int) -> None:
        if self._level > 0:  # at gain 0 FluidSynth still lets the first samples of a note through
            self._synth.noteon(channel, key, velocity)

    def _delete(self) -> None:
        synth, self._synth = self._synth, None
        synth.delete()

    def _load(self, soundfont: Path) -> None:
        font = self._synth.sfload(str(soundfont)) if soundfont.is_file() else -1
        if font == -1:
            raise InputError(
                "synth.soundfont",
                f"The soundfont {soundfont} could not be loaded.",
                "Choose a SoundFont 2 or 3 file that FluidSynth can read.",
            )
        for channel in range(CHANNELS):
            self._synth.program_select(channel, font, 0, 0)

    def _start(self, driver: str | None, device: str | None) -> str:
        for name in [driver] if driver else likely_drivers():
            self._synth.setting("audio.driver", name)
            if device:
                self._synth.setting(f"audio.{name}.device", device)
            # `Synth.start` would open a MIDI driver of FluidSynth's own, too.
            self._synth.audio_driver = self._library.new_fluid_audio_driver(
                self._synth.settings, self._synth.synth
            )
            if self._synth.audio_driver:
                return name
        raise DeviceError(
            "monitor.device",
            f"No sound device could be opened ({driver or 'all of FluidSynth’s drivers were tried'}).",
            "Connect headphones or loudspeakers, or record without sound: --no-monitor.",
        )


def likely_drivers() -> list[str]:
    """FluidSynth's audio drivers that are worth trying here, best first.

    JACK is asked only when a server runs, because asking is noisy.
    """
    if sys.platform == "win32":
        return ["wasapi", "dsound"]
    if sys.platform == "darwin":
        return ["coreaudio"]
    return [*(["jack"] if answers("jack") else []), "pipewire", "pulseaudio", "alsa"]


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep FluidSynth from printing what it tries in vain; what matters is raised."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    prototype = ctypes.CFUNCTYPE(pointer, integer, pointer, pointer)
    set_handler = prototype(("fluid_set_log_function", library._fl))
    before = [set_handler(level, None, None) for level in range(_LOG_LEVELS)]
    try:
        yield
    finally:
        for level, handler in enumerate(before):
            set_handler(level, handler, None)

"""The sound card as an output of the ring.

Threading: one thread opens, starts, stops and closes a `SpeakerOutput`; ``status`` and ``expecting``
belong to any. PortAudio calls back on a thread of its own, see `pkontext.callback`.
"""

from __future__ import annotations

import time
from typing import Any

from pkontext import devices, portaudio
from pkontext.callback import CallbackState, native_callback, python_callback
from pkontext.devices import AudioDevice, DeviceName
from pkontext.errors import DeviceError, PkError
from pkontext.output_status import OutputStatus
from pkontext.ring import Ring

#: Without a callback for so long a running stream is lost.
LOST_AFTER_SEC = 1.0
#: A pause between two looks counts no more than this: the machine may have been asleep.
_LONGEST_LOOK_SEC = 0.3
#: With more channels than this a device is taken for a mixing server, which offers any number.
_MOST_CHANNELS = 8


class SpeakerOutput:
    """An output of the sound card.

    Parameters
    ----------
    ring : Ring
        With one channel, which goes to all of the device's, or two, which go to its first two (to
        their mean on a device with one).
    sample_rate : int
        The rate that is wanted; where the device refuses it, its own is taken, ``sample_rate`` says
        which, and the producer resamples.
    device : DeviceName, str or None
        See `pkontext.devices.find_output`.
    block_frames : int
        Frames a callback, 0 for what suits the device.
    latency : str or float
        ``"low"``, ``"high"`` or seconds.
    prefer_c : bool
        Use the compiled callback, which does not wait for Python.

    Raises
    ------
    DeviceError
        ``device.open`` and the errors of `find_output`.
    """

    def __init__(
        self,
        ring: Ring,
        sample_rate: int,
        device: DeviceName | str | None = None,
        block_frames: int = 0,
        latency: str | float = "low",
        prefer_c: bool = True,
    ) -> None:
        self._device = devices.find_output(device)
        self.channels = ring.channels
        self._state = CallbackState(ring, _device_channels(self._device, ring.channels))
        self._error: PkError | None = None
        self._running = self._closed = False
        self._stopped = True
        self._watch = _Watch()
        self.sample_rate = self._usable_rate(sample_rate)
        options = {
            "samplerate": self.sample_rate,
            "blocksize": block_frames,
            "device": self._device.index,
            "channels": self._state.device_channels,
            "dtype": "float32",
            "latency": latency,
        }
        sounddevice = portaudio.load()
        try:
            self._stream = self._open(sounddevice, options, prefer_c)
        except sounddevice.PortAudioError as error:
            raise self._cannot(error) from error
        portaudio.hold(self)

    @property
    def device(self) -> AudioDevice:
        """The device that was opened."""
        return self._device

    @property
    def expecting(self) -> bool:
        """Whether an empty ring is an underrun; set by the producer."""
        return self._state.expecting

    @expecting.setter
    def expecting(self, value: bool) -> None:
        self._state.expecting = value

    def start(self) -> None:
        """Take frames from now on; again after `stop`.

        Raises
        ------
        DeviceError
            ``device.open``, or ``device.lost`` once it is lost.
        """
        if self._closed:
            raise ValueError("A closed output cannot be started; make another one on the same ring.")
        if self._error is not None:
            raise self._error
        try:
            self._watch.restart(self._state.calls)
            self._stream.start()
        except portaudio.load().PortAudioError as error:
            raise self._cannot(error) from error
        self._running = True

    def stop(self) -> None:
        """Take no more frames; what is in the ring stays there, what the device has taken is heard."""
        if self._running:
            self._note_loss()
            self._running = False
            self._stopped = self._is_active() and portaudio.attempt(self._stream.stop)

    def close(self) -> None:
        """Let go of the device; harmless when repeated or when the device is lost."""
        if self._closed:
            return
        self.stop()
        self._closed = True
        self._state.detach()
        if self._device.host != portaudio.JACK:
            portaudio.attempt(self._stream.close)
        elif self._stopped and portaudio.jack_is_sound():
            self._stream.close()
        else:
            portaudio.give_up_jack()
        portaudio.release(self)

    def status(self) -> OutputStatus:
        """Return the counts and, once it is noticed, the loss of the device; call it regularly."""
        self._note_loss()
        state = self._state
        return OutputStatus(
            name=str(self._device.device_name),
            sample_rate=self.sample_rate,
            latency_sec=self._latency,
            consumed=state.ring.consumed,
            underruns=state.underruns,
            missing_frames=state.missing_frames,
            xruns=state.xruns,
            late=state.late,
            longest_sec=state.longest_ns / 1e9,
            error=self._error,
        )

    def _open(self, sounddevice: Any, options: dict[str, Any], prefer_c: bool) -> Any:
        """Open the stream, stopped."""
        if not prefer_c:
            play = python_callback(self._state, lambda: stream.time, self.sample_rate)
            stream = sounddevice.OutputStream(callback=play, **options)
        else:
            # The class that sounddevice itself offers for callbacks in C.
            self._native = native_callback()
            ffi, library = sounddevice._ffi, sounddevice._lib
            user = ffi.cast("void *", self._state.cells.ctypes.data)
            stream = sounddevice._StreamBase(
                "output", callback=ffi.cast("void *", self._native.address), userdata=user, **options
            )
            clock, pointer = library.Pa_GetStreamTime, stream._ptr
            self._state.set_clock(
                int(ffi.cast("intptr_t", clock)), int(ffi.cast("intptr_t", pointer)), self.sample_rate
            )
        self._latency = float(stream.latency) or self._device.latency_low_ms / 1000
        return stream

    def _usable_rate(self, wanted: int) -> int:
        """The wanted rate, or the device's own where it is refused."""
        sounddevice = portaudio.load()
        try:
            sounddevice.check_output_settings(
                self._device.index, self._state.device_channels, "float32", None, wanted
            )
        except sounddevice.PortAudioError:
            return self._device.default_rate
        return wanted

    def _note_loss(self) -> None:
        """See whether the stream has ended by itself or its callbacks no longer come."""
        if not self._running or self._error is not None:
            return
        if not self._is_active() or self._watch.silent_sec(self._state.calls) > LOST_AFTER_SEC:
            self._error = DeviceError(
                "device.lost",
                f"The audio output {self._device.device_name} is gone; playback has paused.",
                "Connect it again or choose another output, then press play: it continues where it was.",
            )

    def _is_active(self) -> bool:
        try:
            return self._stream.active
        except portaudio.load().PortAudioError:
            return False

    def _cannot(self, error: Exception) -> DeviceError:
        return DeviceError(
            "device.open",
            f"The audio output {self._device.device_name} cannot be opened ({error}).",
            "Close other programs that use it, or choose another output; `pkontext devices` lists them.",
        )


class _Watch:
    """Measures for how long a count has stood still, by looking at it now and then."""

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, count: int) -> None:
        self._count, self._silent, self._looked = count, 0.0, time.monotonic()

    def silent_sec(self, count: int) -> float:
        """Return the seconds for which ``count`` has been the same."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_LOOK_SEC), now
        self._silent = self._silent + passed if count == self._count else 0.0
        self._count = count
        return self._silent


def _device_channels(device: AudioDevice, channels: int) -> int:
    """Channels to open: two for stereo; for mono all that there are, as a speaker sits on each."""
    if channels > 2:
        raise ValueError(f"A speaker plays one or two channels, not {channels}.")
    if channels == 2 or device.channels > _MOST_CHANNELS:
        return min(2, device.channels)
    return device.channels

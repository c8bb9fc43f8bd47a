"""The audio outputs of this machine, found by host API and name.

PortAudio lists devices once, when it is initialised: what is plugged in later, or a sound server that
starts later, is not seen before `pkontext.portaudio.refresh`, which refuses while an output is open.
The number of a device is valid until then and is never stored: what is remembered is a `DeviceName`.

Threading: one thread at a time; a refresh must not run while another thread opens a stream.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pkontext import portaudio
from pkontext.errors import DeviceError
from pkontext.portaudio import refresh

__all__ = ["AudioDevice", "DeviceName", "find_output", "list_outputs", "refresh"]

#: What ALSA appends to a name, and what changes with the order in which cards were found.
_CARD_NUMBER = re.compile(r" \(hw:\d+,\d+\)$")


class DeviceName(NamedTuple):
    """What is remembered of a device: host API, such as ALSA or Core Audio, and name."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}: {self.name}"


@dataclass(frozen=True)
class AudioDevice:
    """An output: name, channels, its own sample rate (hertz), latencies it offers (milliseconds)."""

    host: str
    name: str
    channels: int
    default_rate: int
    latency_low_ms: float
    latency_high_ms: float
    is_default: bool
    index: int

    @property
    def device_name(self) -> DeviceName:
        """What to remember."""
        return DeviceName(self.host, self.name)


def list_outputs() -> list[AudioDevice]:
    """Return all outputs that PortAudio knows, the default first; empty where there is none.

    Raises
    ------
    DeviceError
        ``device.library``.
    """
    sounddevice = portaudio.load()
    hosts = [host["name"] for host in sounddevice.query_hostapis()]
    default = _default_index(sounddevice)
    found = [
        AudioDevice(
            host=hosts[device["hostapi"]],
            name=device["name"],
            channels=device["max_output_channels"],
            default_rate=round(device["default_samplerate"]),
            latency_low_ms=round(1000 * device["default_low_output_latency"], 1),
            latency_high_ms=round(1000 * device["default_high_output_latency"], 1),
            is_default=device["index"] == default,
            index=device["index"],
        )
        for device in sounddevice.query_devices()
        if device["max_output_channels"] > 0
    ]
    if portaudio.jack_died():
        found = [device for device in found if device.host != portaudio.JACK]
    return sorted(found, key=lambda device: not device.is_default)


def find_output(wanted: DeviceName | str | None = None) -> AudioDevice:
    """Find an output among those that there are now.

    A device that is not found is looked for once more after a `refresh`, if no output is open.

    Parameters
    ----------
    wanted : DeviceName, str or None
        None for the default. Text is ``HOST: NAME`` or ``NAME``, in any case; a part of a name will
        do when it fits one device only. Of several devices with one name the first is meant.

    Raises
    ------
    DeviceError
        ``device.library``; ``device.none`` without any output; ``device.unknown`` with a list of
        those that exist, the most similar first; ``device.ambiguous``.
    """
    found = _match(wanted, list_outputs())
    if found is None and not portaudio.is_busy() and portaudio.jack_is_sound():
        refresh()
        found = _match(wanted, list_outputs())
    if found is not None:
        return found
    outputs = list_outputs()
    jack = " To use JACK again, start this program again." if portaudio.jack_died() else ""
    if not outputs:
        raise DeviceError(
            "device.none",
            "There is no audio output on this machine.",
            "Connect one, or start the sound server (PipeWire, PulseAudio or JACK), and try again; takes "
            f"can be rendered and exported without it.{jack}",
        )
    names = [str(device.device_name) for device in outputs]
    similar = difflib.get_close_matches(str(wanted), names, n=len(names), cutoff=0.0)
    raise DeviceError(
        "device.unknown",
        f"There is no audio output '{wanted}'.",
        f"Choose one of: {'; '.join(similar)}.{jack}",
    )


def _default_index(sounddevice: Any) -> int:
    try:
        return sounddevice.query_devices(kind="output")["index"]
    except (sounddevice.PortAudioError, ValueError):
        return -1


def _match(wanted: DeviceName | str | None, outputs: list[AudioDevice]) -> AudioDevice | None:
    """Find the device that is meant; None if there is none."""
    if wanted is None:
        return next((device for device in outputs if device.is_default), outputs[0] if outputs else None)
    text = str(wanted).strip().casefold()
    names = [(str(device.device_name).casefold(), device.name.casefold()) for device in outputs]
    for device, (full, name) in zip(outputs, names, strict=True):
        if text == full or (text == name and not isinstance(wanted, DeviceName)):
            return device
    bare = _CARD_NUMBER.sub("", text)
    for device, (full, _) in zip(outputs, names, strict=True):
        if bare == _CARD_NUMBER.sub("", full):
            return device
    if isinstance(wanted, DeviceName) or not text:
        return None
    parts = [device for device, (full, _) in zip(outputs, names, strict=True) if text in full]
    if len(parts) > 1:
        raise DeviceError(
            "device.ambiguous",
            f"The name '{wanted}' fits {len(parts)} audio outputs.",
            f"Choose one of: {'; '.join(str(device.device_name) for device in parts)}.",
        )
    return parts[0] if parts else None

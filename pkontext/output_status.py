"""What all outputs have in common: the protocol and the counts they report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pkontext.errors import PkError


@dataclass(frozen=True)
class OutputStatus:
    """What an output has done so far.

    Parameters
    ----------
    name : str
        Host and name of the device, the file, or "null".
    sample_rate : int
    latency_sec : float
        From the ring to the ear, as the device says.
    consumed : int
        Frames of the ring that were played, by this output and those before it.
    underruns, missing_frames : int
        Blocks that found too few frames while ``expecting``, and the silence that filled them.
    xruns : int
        Times that the sound system said it had to play without us.
    late : int
        Callbacks that took longer than the block they filled.
    longest_sec : float
        The longest callback.
    error : PkError or None
        Why it plays no more: ``device.lost``, or a file that cannot be written.
    """

    name: str
    sample_rate: int
    latency_sec: float
    consumed: int
    underruns: int
    missing_frames: int
    xruns: int
    late: int
    longest_sec: float
    error: PkError | None


class Output(Protocol):
    """Plays a ring. ``sample_rate`` is what the ring's audio must have; ``channels`` the ring's."""

    sample_rate: int
    channels: int

    @property
    def expecting(self) -> bool:
        """Whether an empty ring is an underrun; set by the producer."""
        ...

    @expecting.setter
    def expecting(self, value: bool) -> None: ...

    def start(self) -> None:
        """Take frames from now on; again after `stop`."""
        ...

    def stop(self) -> None:
        """Take no more frames; what is in the ring stays there."""
        ...

    def close(self) -> None:
        """Stop and let go of the device or finish the file; harmless when repeated."""
        ...

    def status(self) -> OutputStatus:
        """Return the counts and what is wrong."""
        ...

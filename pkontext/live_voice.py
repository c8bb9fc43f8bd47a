"""Notes played live, heard at once: a synth inside the processor's blocks."""

from __future__ import annotations

import numpy as np

from pkontext import synth

#: Seconds that a released sound may go on before the synth rests.
_RING_SEC = 12.0


class LiveVoice:
    """Plays MIDI messages as they come, in the block in which they come. One thread.

    Parameters
    ----------
    spec : SynthSpec
    """

    def __init__(self, spec: synth.SynthSpec) -> None:
        self.gain = 1.0
        self._voice = synth.Voice(spec)
        self._rate = spec.sample_rate
        self._waiting: list[tuple[int, int, int, int]] = []
        self._rest = 0  # frames until the synth may rest

    @property
    def sounding(self) -> bool:
        """Whether something may still sound."""
        return bool(self._waiting) or self._rest > 0

    def take(self, offset: int, message: bytes) -> None:
        """Play a message at a frame of the next block; anything but notes and controllers is ignored."""
        if len(message) < 3 or message[1] > 127 or message[2] > 127:
            return
        kind = message[0] & 0xF0
        if kind == 0x90 and message[2]:
            event = synth.NOTE_ON
        elif kind in (0x80, 0x90):
            event = synth.NOTE_OFF
        elif kind == 0xB0 and message[1] in (synth.SUSTAIN, synth.SOSTENUTO, synth.SOFT):
            event = synth.CONTROL
        elif kind == 0xB0 and message[1] in (120, 123):
            self._waiting.clear()
            self._voice.quiet()
            return
        else:
            return
        self._waiting.append((max(offset, 0), event, message[1], message[2]))
        self._rest = round(_RING_SEC * self._rate)

    def add_to(self, out: np.ndarray) -> None:
        """Add the next frames to float32 ``[n]``."""
        if not self.sounding:
            return
        done = 0
        for offset, kind, key, value in sorted(self._waiting, key=lambda event: event[0]):
            self._add(out, done, min(offset, len(out)))
            done = max(min(offset, len(out)), done)
            self._voice.send(kind, key, value)
        self._waiting.clear()
        self._add(out, done, len(out))
        self._rest = max(self._rest - len(out), 0)

    def close(self) -> None:
        """Free the synth."""
        self._voice.close()

    def _add(self, out: np.ndarray, start: int, stop: int) -> None:
        if stop > start:
            made = self._voice.play(_NOTHING, stop - start)[:, 0]
            out[start:stop] += made if self.gain == 1.0 else made * np.float32(self.gain)


_NOTHING = np.zeros(0, synth.EVENT)

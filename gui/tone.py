"""A quiet tone of a second and a half on an audio output, to hear whether it works and count gaps.

Threading: `play_tone` waits; call it from an operation. The output is opened and closed on the player's
thread, because PortAudio wants one thread for that.
"""

from __future__ import annotations

import time

import numpy as np

from gui.client import PlayerClient
from gui.operations import Operation
from gui.start_checks import on_player
from pkontext.errors import Cancelled
from pkontext.output_status import OutputStatus
from pkontext.player import OutputFactory
from pkontext.ring import Ring

_RATE = 44100
_TONE_SEC, _FADE_SEC, _AHEAD_SEC = 1.5, 0.05, 0.15
_TONE_HERTZ, _TONE_LEVEL = 440.0, 10 ** (-24 / 20)


def play_tone(client: PlayerClient | None, open_output: OutputFactory, operation: Operation) -> OutputStatus:
    """Play the tone; returns what the output counted.

    Raises
    ------
    DeviceError
        When the output cannot be opened or is lost.
    Cancelled
    """
    ring = Ring(_RATE, 1)
    output = on_player(client, lambda: open_output(ring, _RATE))
    try:
        tone = _tone(output.sample_rate)
        ahead = int(_AHEAD_SEC * output.sample_rate)
        ring.write(tone[:ahead])
        output.expecting = True
        on_player(client, output.start)
        status = output.status()
        while status.consumed < len(tone):
            if operation.cancelled():
                raise Cancelled
            written = ring.written
            ring.write(tone[written : written + max(0, ahead - ring.readable)])
            output.expecting = ring.written < len(tone)
            operation.report(status.consumed / len(tone))
            time.sleep(0.005)
            status = output.status()
            if status.error is not None:
                raise status.error
        return status
    finally:
        on_player(client, output.close)


def _tone(rate: int) -> np.ndarray:
    """A quiet sine that fades in and out: float32 ``[frames, 1]``."""
    time_sec = np.arange(int(_TONE_SEC * rate)) / rate
    fade = np.minimum(1.0, np.minimum(time_sec, time_sec[::-1]) / _FADE_SEC)
    return (_TONE_LEVEL * fade * np.sin(2 * np.pi * _TONE_HERTZ * time_sec)).astype(np.float32)[:, None]

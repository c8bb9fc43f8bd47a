"""Whether playing can start without running dry, and how long it takes until it can."""

from __future__ import annotations

from pkontext.take_audio import LiveTake

#: With less than this speed, rendering is too near the pace of playing to trust that it keeps ahead.
SAFE_SPEED = 1.2
#: Seconds that must be there at the start beyond what the next chunk may take to render.
RESERVE_SEC = 0.1


def enough(take: LiveTake, voice: str, start_sec: float) -> bool:
    """Whether a voice can be played from a second on: what is there lasts until what follows is there.

    The speed is that of the last chunks; a chunk may take half as long again as the slowest of them.
    """
    audio, rate = take.audio[voice], take.rendering.sample_rate
    if audio.done:
        return True
    ahead, speed = audio.frames / rate - start_sec, take.speed(voice)
    if ahead <= 0 or speed <= 0:
        return False
    reserve = 1.5 * take.longest_wait(voice) + RESERVE_SEC
    if speed < SAFE_SPEED:
        reserve += max(audio.total - audio.frames, 0) / rate * (SAFE_SPEED / speed - 1)
    return ahead >= reserve


def wait_sec(take: LiveTake, voice: str, start_sec: float) -> float:
    """Seconds until `enough`, by the speed of the last chunks; 0 before there are any.

    While one waits, rendering goes on. Where it is slower than playing, it needs a head start for the rest:
    with ``p`` for ``speed / SAFE_SPEED``, what is ahead must be ``left * (1 / p - 1)``. A second of waiting
    brings the two `SAFE_SPEED` seconds nearer to each other.
    """
    audio, rate, speed = take.audio[voice], take.rendering.sample_rate, take.speed(voice)
    if speed <= 0 or audio.done:
        return 0.0
    made, total, pace = audio.frames / rate, audio.total / rate, speed / SAFE_SPEED
    missing, ahead = max(start_sec - made, 0.0), max(made - start_sec, 0.0)
    left = max(total - max(made, start_sec), 0.0)
    head_start = max(left * (1 / pace - 1) - ahead, 0.0) / SAFE_SPEED if pace < 1 else 0.0
    return missing / speed + head_start

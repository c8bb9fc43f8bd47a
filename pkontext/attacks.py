"""Silence before isolated attacks: what phase reconstruction smears ahead of them is taken away.

A spectrogram says how much of a window's energy lies after an attack, but audio made from it has traces of
the attack everywhere in the window. Where sound starts out of near silence these traces are heard. The
place of such an attack follows from the energies of the frames that it cuts: with a power that steps
from ``before`` to ``after``, a frame's energy says which share of its squared window lies behind the step.
Samples ahead of the step are then limited to what sounded before. Where the sound before is louder than
the traces nothing changes, so this acts after rests and not within a texture.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pkontext.stft import StftSpec, hann

#: Only rises of this many decibels are attacks out of near silence.
MIN_RISE_DB = 20.0
#: Rising power below this share of what follows within a window is a trace of it, not sound of its own.
TRACE_SHARE = 0.001
#: Shares of a frame's window that say where in it the attack is.
USABLE_SHARES = (0.02, 0.9)
#: Between the estimated step and the end of the limiting, and of its release; in windows.
GUARD, RELEASE = 0.07, 0.025
#: Traces relative to the attack's power: decibels at the attack, and per window ahead of it.
TRACE_DB, TRACE_DB_PER_WINDOW = -20.0, -36.0
#: What remains may exceed the sound before by this factor in power.
MARGIN = 1.5


def frame_power(magnitude: np.ndarray) -> np.ndarray:
    """Mean power of the signal under each frame's window, float64 ``[frames]``, any constant scale."""
    return np.square(magnitude, dtype=np.float64).sum(1)


def limit_before_attacks(
    samples: np.ndarray, first_sample: int, power: np.ndarray, first_frame: int, spec: StftSpec
) -> None:
    """Limit, in place, what lies ahead of attacks out of near silence.

    Parameters
    ----------
    samples : ndarray
        float32 ``[n]``.
    first_sample : int
        Place of ``samples[0]``, counted from the start of frame 0.
    power : ndarray
        `frame_power` of consecutive frames around these samples.
    first_frame : int
        Index of the frame of ``power[0]``; frame ``i`` starts at ``i * hop``.
    spec : StftSpec
    """
    for place, before, after in find_attacks(power, spec):
        attack = first_frame * spec.hop + place
        stop, start = attack - round(GUARD * spec.n_fft), attack - spec.n_fft
        a, b = max(start, first_sample), min(stop, first_sample + len(samples))
        if a >= b:
            continue
        index = np.arange(a, b)
        trace_db = TRACE_DB + TRACE_DB_PER_WINDOW * (attack - index) / spec.n_fft
        gain = np.sqrt(np.minimum(1, MARGIN * before / (after * 10 ** (trace_db / 10))))
        release = np.clip((stop - index) / (RELEASE * spec.n_fft), 0, 1)
        entry = np.clip((index - start) / spec.hop, 0, 1)
        gain = 1 - (1 - gain) * np.minimum(release, entry)
        samples[a - first_sample : b - first_sample] *= gain.astype(np.float32)


def find_attacks(power: np.ndarray, spec: StftSpec) -> list[tuple[int, float, float]]:
    """Steps of power by at least `MIN_RISE_DB`.

    Parameters
    ----------
    power : ndarray
        `frame_power` of consecutive frames.

    Returns
    -------
    list of (int, float, float)
        Sample after the start of frame 0, power before and after.
    """
    share = _share_behind(spec.n_fft)
    ratio, factor = spec.n_fft // spec.hop, 10 ** (MIN_RISE_DB / 10)
    power = _without_traces(power, ratio)
    found = []
    frame = 1
    while frame < len(power):
        before = power[frame - 1]
        after = power[frame : frame + ratio + 1].max()
        if power[frame] <= 2 * before or after < factor * before:
            frame += 1
            continue
        # Sound that rises slowly is placed later by later frames: an early place spares its beginning. With
        # many frames a window, the earliest of all is too early where the sound decays within the window.
        shares = (power[frame : frame + ratio] - before) / (after - before)
        places = np.searchsorted(-share, -shares) + spec.hop * np.arange(frame, frame + len(shares))
        rising = np.cumsum(shares >= USABLE_SHARES[1]) == 0
        usable = (shares > USABLE_SHARES[0]) & rising
        if usable.any():
            early = np.sort(places[usable])[: max(ratio // 4, 1)]
            found.append((int(early[-1]), float(before), float(after)))
        frame += ratio + 1
    return found


def _without_traces(power: np.ndarray, ratio: int) -> np.ndarray:
    """Power without what a decoder's magnitudes have of an attack in the frames before it."""
    power = power.copy()
    for frame in range(1, len(power) - 1):
        ahead = power[frame + 1 : frame + 1 + ratio].max()
        if power[frame] < TRACE_SHARE * ahead:
            power[frame] = min(power[frame], power[frame - 1])
    return power


@lru_cache(maxsize=4)
def _share_behind(n_fft: int) -> np.ndarray:
    """Share of the squared window at and behind each of its samples, falling from 1, ``[n_fft]``."""
    weight = hann(n_fft).astype(np.float64) ** 2
    return weight[::-1].cumsum()[::-1] / weight.sum()

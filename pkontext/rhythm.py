"""What a small network hears in played notes: where in the beat each chord falls, and how long a beat is.

The network looks at chords, not at frames: times between them, size, pitches, velocities, pedal. It was
fitted to performances with known beats (`train.rhythm`) and runs in NumPy; `pkontext.beats` makes beats of
what it says.

Threading: functions of their arguments and of a file that is read once; any thread may call them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

#: Notes that start within this time of a chord's first note belong to it.
CHORD_SEC = 0.035
#: A beat has this many units: it divides by 2, 3, 4, 6, 8 and 12.
UNITS = 24
#: Places inside a beat, in units, at which notes are looked for: 8 or 12 to a beat.
SLOTS = np.array([0, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 22])
#: Lengths of a beat that are told apart, in seconds, and their step as a logarithm.
PERIOD_STEP = 0.045
PERIODS = np.exp(np.arange(np.log(0.22), np.log(2.4), PERIOD_STEP))
#: What is known of each chord: rows of `Events.features`.
FEATURES = (
    "since", "until", "size", "lowest", "highest", "loudest", "longest", "legato", "new",
    "above_bass", "below_top", "accent", "pedal", "same_lowest", "same_highest", "pedal_known",
)  # fmt: skip
_DILATIONS = (1, 2, 4, 8, 16, 32)
_NEAR_SEC = 1.0
_PEDAL_LATE_SEC = 0.4
_PEDAL_DOWN = 64


@dataclass(frozen=True)
class Events:
    """Notes grouped to chords.

    Attributes
    ----------
    chord : ndarray of int
        ``[notes]``, to which event each note belongs, rising.
    time_sec : ndarray
        ``[events]``, mean onset.
    features : ndarray
        float32 ``[events, len(FEATURES)]``.
    """

    chord: np.ndarray
    time_sec: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Heard:
    """What the network says of each event.

    Attributes
    ----------
    slot : ndarray
        ``[events, len(SLOTS)]``, log probability of each place in the beat.
    downbeat : ndarray
        ``[events]``, log odds that a bar starts here.
    period : ndarray
        ``[events, len(PERIODS)]``, log probability of each length of the beat.
    """

    slot: np.ndarray
    downbeat: np.ndarray
    period: np.ndarray


@lru_cache(maxsize=1)
def weights() -> dict[str, np.ndarray]:
    """Read the fitted arrays that come with the package, once: the network's, and ``steps``.

    ``steps`` is ``[slots, slots, 4]``, the cost (negative log probability) of going from one slot to another
    0, 1, 2 or at least 3 beats on.
    """
    path = resources.files("pkontext") / "data" / "rhythm.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}


def group(onset: np.ndarray, chord_sec: float = CHORD_SEC) -> np.ndarray:
    """Return for each note the chord it belongs to; ``onset`` is sorted, in seconds."""
    chord = np.zeros(len(onset), np.int64)
    start, count = onset[0], 0
    for n, second in enumerate(onset):
        if second - start > chord_sec:
            start, count = second, count + 1
        chord[n] = count
    return chord


def find_events(notes: np.ndarray, pedals: np.ndarray, chord_sec: float = CHORD_SEC) -> Events:
    """Group notes to chords and describe each.

    Parameters
    ----------
    notes : ndarray of NOTE
        Sorted by onset, at least one.
    pedals : ndarray of PEDAL
        Sorted; may be empty.
    chord_sec : float
        Notes that start within this time of a chord's first note belong to it.
    """
    chord = group(notes["onset_sec"], chord_sec)
    first = np.flatnonzero(np.diff(chord, prepend=-1))
    size = np.bincount(chord)
    time = np.bincount(chord, notes["onset_sec"]) / size
    pitch, velocity = notes["pitch"].astype(np.float64), notes["velocity"].astype(np.float64)
    low, high = np.minimum.reduceat(pitch, first), np.maximum.reduceat(pitch, first)
    loud = np.maximum.reduceat(velocity, first)
    longest = np.maximum.reduceat(notes["duration_sec"], first)
    until = np.append(np.diff(time), 1.0)
    since = np.append(1.0, np.diff(time))
    new, above, below, accent = _context(time, low, high, loud, _classes(notes["pitch"], chord, len(time)))
    columns = [
        log_time(since),
        log_time(until),
        np.minimum(size, 6) / 3 - 0.5,
        (low - 55) / 20,
        (high - 70) / 20,
        (loud - 64) / 24,
        log_time(longest),
        log_time(longest / np.maximum(until, 0.02) * 0.25),
        new,
        np.minimum(above, 24) / 12,
        np.minimum(below, 24) / 12,
        accent / 16,
        _pedalled(time, pedals),
        np.append(False, low[1:] == low[:-1]),
        np.append(False, high[1:] == high[:-1]),
        np.full(len(time), len(pedals) > 0),
    ]
    return Events(chord, time, np.stack(columns, 1).astype(np.float32))


def log_time(seconds: np.ndarray) -> np.ndarray:
    """Return seconds as a feature: octaves over a quarter second, halved, between 20 ms and 4 s."""
    return np.log2(np.clip(seconds, 0.02, 4.0) / 0.25) / 2


def listen(events: Events) -> Heard:
    """Run the network over events; any number of them."""
    w = weights()
    hidden = np.maximum(_convolve(events.features, w["in_w"], w["in_b"], 1), 0)
    for n, dilation in enumerate(_DILATIONS):
        inner = np.maximum(_convolve(hidden, w[f"conv{n}_w"], w[f"conv{n}_b"], dilation), 0)
        hidden = hidden + inner @ w[f"mix{n}_w"] + w[f"mix{n}_b"]
    out = (np.maximum(hidden, 0) @ w["out_w"] + w["out_b"]).astype(np.float64)
    slots = len(SLOTS)
    return Heard(_log_softmax(out[:, :slots]), out[:, slots], _log_softmax(out[:, slots + 1 :]))


def _convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Convolve ``[events, in]`` with ``[3, in, out]``, zeros beyond both ends."""
    out = x @ weight[1] + bias
    if dilation < len(x):
        out[dilation:] += x[:-dilation] @ weight[0]
        out[:-dilation] += x[dilation:] @ weight[2]
    return out


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


def _classes(pitch: np.ndarray, chord: np.ndarray, events: int) -> np.ndarray:
    """Pitch classes of each event, ``[events, 12]``."""
    classes = np.zeros((events, 12), np.int64)
    classes[chord, pitch % 12] = 1
    return classes


def _context(
    time: np.ndarray, low: np.ndarray, high: np.ndarray, loud: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare each event with those of a second around it.

    Returns the share of its pitch classes that did not sound in the second before, its distance from the
    lowest and highest pitch around, and how much louder it is than the mean.
    """
    start = np.searchsorted(time, time - _NEAR_SEC)
    stop = np.searchsorted(time, time + _NEAR_SEC)
    known = np.concatenate([np.zeros((1, 12), np.int64), np.cumsum(classes, axis=0)])
    events = np.arange(len(time))
    unheard = (classes > 0) & (known[events] == known[start])
    total = np.concatenate([[0.0], np.cumsum(loud)])
    lowest = np.array([low[a:b].min() for a, b in zip(start, stop, strict=True)])
    highest = np.array([high[a:b].max() for a, b in zip(start, stop, strict=True)])
    accent = loud - (total[stop] - total[start]) / (stop - start)
    return unheard.sum(1) / classes.sum(1), low - lowest, highest - high, accent


def _pedalled(time: np.ndarray, pedals: np.ndarray) -> np.ndarray:
    """Return 1 for each event that a press of the pedal follows at once."""
    out = np.zeros(len(time))
    down = pedals["value"] >= _PEDAL_DOWN
    pressed = pedals["time_sec"][down & ~np.append(False, down[:-1])[: len(down)]]
    event = np.searchsorted(time, pressed + 0.03) - 1
    late = pressed - time[np.maximum(event, 0)]
    out[event[(event >= 0) & (late < _PEDAL_LATE_SEC)]] = 1
    return out

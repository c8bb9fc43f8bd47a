"""Measures of expression on notes that are known note by note: pure functions of arrays.

Every measure compares a performance with its score, whose seconds follow the notated tempo map, so that
deadpan is a straight line whatever tempo marks the score holds. Spread and correlation are of log2 tempo and
of MIDI velocity; distributions are histograms over the bins of `FEATURES`, compared by the Jensen-Shannon
divergence in bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pkontext.curves import PEDAL_DOWN, time_map_from_onsets

#: Score onsets closer than this are one chord.
CHORD_SEC = 0.005
#: Score intervals shorter than this are ornaments, whose place in the score is only conventional.
MIN_INTERVAL_SEC = 0.03


@dataclass(frozen=True)
class Played:
    """A performance of a score, note by note.

    Attributes
    ----------
    score_onset, score_duration : ndarray
        ``[notes]``, seconds by the notated tempo map, sorted by onset.
    notes : ndarray of NOTE
        The same notes as played, row by row.
    pedals : ndarray of PEDAL
        On the time axis of ``notes``.
    """

    score_onset: np.ndarray
    score_duration: np.ndarray
    notes: np.ndarray
    pedals: np.ndarray


@dataclass(frozen=True)
class Feature:
    """A distribution: what it says in a table, its bins, and how it is read off a performance.

    Values beyond the outer edges count in the outer bins.
    """

    label: str
    edges: np.ndarray
    read: Callable[[Played], np.ndarray]


def chords(score_onset: np.ndarray) -> np.ndarray:
    """Number of the chord of every note, ``[notes]``; onsets must be sorted."""
    return np.cumsum(np.diff(score_onset, prepend=score_onset[:1]) > CHORD_SEC)


def chord_times(played: Played) -> tuple[np.ndarray, np.ndarray]:
    """Score onset and mean performed onset of every chord, both ``[chords]``."""
    group = chords(played.score_onset)
    count = np.bincount(group)
    return (
        np.bincount(group, played.score_onset) / count,
        np.bincount(group, played.notes["onset_sec"]) / count,
    )


def inter_onset_ratios(played: Played) -> np.ndarray:
    """Log2 of performed over score interval from chord to chord, relative to the piece's average.

    Chords that swap their order count as `MIN_INTERVAL_SEC` / 4 apart; ornaments are left out.
    """
    score, performed = chord_times(played)
    interval = np.diff(score)
    keep = interval >= MIN_INTERVAL_SEC
    average = np.log2(np.ptp(performed) / np.ptp(score))
    return np.log2(np.maximum(np.diff(performed), MIN_INTERVAL_SEC / 4)[keep] / interval[keep]) - average


def velocities(played: Played) -> np.ndarray:
    """MIDI velocity of every note."""
    return played.notes["velocity"].astype(np.float64)


def articulations(played: Played) -> np.ndarray:
    """Log2 of performed over notated duration, the latter in the performance's local tempo."""
    score, performed = chord_times(played)
    average = np.ptp(performed) / np.ptp(score)  # the map runs at rate one beyond its ends
    onset, release = average * played.score_onset, average * (played.score_onset + played.score_duration)
    time_map = time_map_from_onsets(onset, played.notes["onset_sec"])
    notated = time_map.to_performed(release) - time_map.to_performed(onset)
    return np.log2(np.maximum(played.notes["duration_sec"], 0.01) / np.maximum(notated, 0.01))


def asynchronies(played: Played) -> np.ndarray:
    """Last minus first onset of every chord of two notes or more, milliseconds."""
    group = chords(played.score_onset)
    onset = played.notes["onset_sec"]
    first, last = np.full(group[-1] + 1, np.inf), np.full(group[-1] + 1, -np.inf)
    np.minimum.at(first, group, onset)
    np.maximum.at(last, group, onset)
    return 1e3 * (last - first)[np.bincount(group) > 1]


def pedal_shares(played: Played) -> np.ndarray:
    """Share of the time from chord to chord during which the sustain pedal is down."""
    edges = np.maximum.accumulate(chord_times(played)[1])
    if not len(played.pedals):
        return np.zeros(len(edges) - 1)
    time = np.concatenate([[-1e9], played.pedals["time_sec"], [1e9]])
    down = np.concatenate([[0.0], played.pedals["value"] >= PEDAL_DOWN])
    area = np.concatenate([[0.0], np.cumsum(down * np.diff(time))])
    length = np.diff(edges)
    return np.diff(np.interp(edges, time, area))[length > 1e-3] / length[length > 1e-3]


#: Name to distribution. The bins are part of the measure: another width gives other numbers.
FEATURES: dict[str, Feature] = {
    "inter-onset": Feature("inter-onset ratio", np.linspace(-2, 2, 41), inter_onset_ratios),
    "velocity": Feature("velocity", np.arange(0, 129, 4.0), velocities),
    "articulation": Feature("articulation", np.linspace(-4, 2, 31), articulations),
    "asynchrony": Feature("chord asynchrony", np.arange(0, 161, 5.0), asynchronies),
    "pedal": Feature("pedal", np.linspace(0, 1, 11), pedal_shares),
}


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the values in every bin, ``[len(edges) - 1]``; zeros when there are no values."""
    clipped = np.clip(values, edges[0], edges[-1])
    counts = np.histogram(clipped, edges)[0].astype(np.float64)
    return counts / max(counts.sum(), 1.0)


def histograms(played: Played) -> dict[str, np.ndarray]:
    """Histogram of every feature of `FEATURES`."""
    return {name: histogram(feature.read(played), feature.edges) for name, feature in FEATURES.items()}


def js_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms over the same bins, bits: 0 equal, 1 disjoint.

    Lin, Divergence measures based on the Shannon entropy (1991). NaN when either is empty.
    """
    if p.sum() <= 0 or q.sum() <= 0:
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(a: np.ndarray) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / middle[some])).sum())

    return max((divergence(p) + divergence(q)) / 2, 0.0)


def tempo_curve(beats: np.ndarray, performed: np.ndarray) -> np.ndarray:
    """Log2 ratio of performed to score beat period for every beat, ``[beats - 1]``; up is slower."""
    return np.log2(np.maximum(np.diff(performed), 0.02) / np.maximum(np.diff(beats), 0.02))


def spread(values: np.ndarray) -> tuple[float, float]:
    """Standard deviation and 5-95 % range."""
    low, high = np.percentile(values, [5, 95])
    return float(np.std(values)), float(high - low)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; zero where one side does not vary, as deadpan does not."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def agreement(curve: np.ndarray, humans: np.ndarray) -> float:
    """Mean correlation of a curve ``[n]`` with each of several humans' ``[humans, n]``."""
    return float(np.mean([correlation(curve, human) for human in humans]))


def human_agreement(humans: np.ndarray) -> float:
    """Mean correlation of two humans, over all pairs of them; NaN for fewer than two."""
    n = len(humans)
    pairs = [correlation(humans[i], humans[j]) for i in range(n) for j in range(i + 1, n)]
    return float(np.mean(pairs)) if pairs else float("nan")


def consensus_agreement(curve: np.ndarray, humans: np.ndarray) -> float:
    """Correlation with the mean of all humans but one, mean over who is left out; NaN below three.

    One is left out so that the mean is over as many humans as in `human_consensus_agreement`.
    """
    if len(humans) < 3:
        return float("nan")
    return float(np.mean([correlation(curve, others) for others in _means_of_others(humans)]))


def human_consensus_agreement(humans: np.ndarray) -> float:
    """Correlation of each human with the mean of the others, mean over humans; NaN below three."""
    if len(humans) < 3:
        return float("nan")
    others = _means_of_others(humans)
    return float(np.mean([correlation(a, b) for a, b in zip(humans, others, strict=True)]))


def shifted_correlations(curve: np.ndarray, humans: np.ndarray) -> np.ndarray:
    """Mean correlation with the humans for every circular shift of the curve, ``[n]``; 0 is unshifted."""

    def spectrum(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean()
        norm = np.sqrt((centred**2).sum())
        return np.fft.rfft(centred / norm if norm > 1e-9 else 0 * centred)

    human = np.mean([spectrum(row) for row in humans], axis=0)
    return np.fft.irfft(human * np.conj(spectrum(curve)), len(curve))


def shift_test(pieces: list[np.ndarray], rounds: int = 20_000, seed: int = 0) -> tuple[float, float]:
    """Is the mean correlation over pieces larger than chance? A permutation test by circular shifts.

    Under the null hypothesis our curve has the human's autocorrelation but no place in the piece, so every
    circular shift of it, in each piece by itself, is as likely as the one that was played.

    Parameters
    ----------
    pieces : list of ndarray
        For each piece the correlation at every shift, see `shifted_correlations`.
    rounds : int
        Random shifts of all pieces.
    seed : int

    Returns
    -------
    observed : float
        Mean over pieces of the unshifted correlation.
    p : float
        One-sided, at least 1 / (rounds + 1).
    """
    rng = np.random.default_rng(seed)
    observed = float(np.mean([r[0] for r in pieces]))
    null = np.mean([r[rng.integers(len(r), size=rounds)] for r in pieces], axis=0)
    return observed, float((1 + np.count_nonzero(null >= observed - 1e-12)) / (rounds + 1))


def mean_and_error(values: list[float]) -> tuple[float, float, int]:
    """Mean, its standard error and the count of the values that are not NaN."""
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return float("nan"), float("nan"), 0
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else float("nan")
    return float(known.mean()), float(error), len(known)


def jackknife(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """Value of a statistic of ``n`` pieces (given as row numbers) and its jackknife standard error."""
    everything = np.arange(n)
    value = statistic(everything)
    if n < 2:
        return value, float("nan")
    without = np.array([statistic(np.delete(everything, i)) for i in range(n)])
    return value, float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def _means_of_others(humans: np.ndarray) -> np.ndarray:
    """For each human the mean of the other humans' curves, each centred, ``[humans, n]``."""
    centred = humans - humans.mean(1, keepdims=True)
    return (centred.sum(0) - centred) / (len(humans) - 1)

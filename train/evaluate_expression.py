"""The expression of whole takes beside the humans who play the same piece, on notes that are known.

No transcription takes part: a take's notes and pedal are what it hands to its voice, a human's are those of
the pack that are paired with the score. Results are plain numbers and lists, to be kept as JSON.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from pkontext.bundle import Bundle
from pkontext.engine import RenderSettings, open_rendering
from pkontext.score import load_score
from pkontext.types import NOTE, PEDAL, Score
from train import asap
from train import expression_metrics as em
from train.expression_metrics import Played

#: At most this many performers of a piece.
MOST_HUMANS = 6
Result = dict[str, Any]


def with_sampler(bundle: Bundle, **changes: Any) -> Bundle:
    """The same bundle with other sampler settings (``guidance``, ``temperature``, ``curve_steps`` ...).

    Its ``sha256`` stays that of the manifest on disk: name results by the changes too.
    """
    manifest = bundle.manifest
    return replace(bundle, manifest=replace(manifest, sampler=replace(manifest.sampler, **changes)))


def performers(performance: asap.Performance) -> list[asap.Performance]:
    """This performance, then others of the same piece, best note match first."""
    same = [
        p
        for p in asap.read_index(performance.score.parent.parent, performance.split)
        if p.piece == performance.piece and p.performer != performance.performer
    ]
    return [performance, *sorted(same, key=lambda p: (-p.match_rate, p.performer))][:MOST_HUMANS]


def human_played(performance: asap.Performance) -> Played:
    """What a human made of the score's notes, without grace notes."""
    pairs = asap.read_pairs(performance.alignment)
    plain = np.flatnonzero(pairs["grace"] == 0)
    plain = plain[np.lexsort((pairs["pitch"][plain], pairs["score_onset"][plain]))]
    notes = np.zeros(len(plain), NOTE)
    for name, source in (
        ("onset_sec", "perf_onset"),
        ("duration_sec", "perf_dur"),
        ("pitch", "pitch"),
        ("velocity", "perf_vel"),
    ):
        notes[name] = pairs[source][plain]
    onset, duration = (pairs[name][plain].astype(np.float64) for name in ("score_onset", "score_dur"))
    return Played(onset, duration, notes, asap.read_midi_notes(performance.midi)[1])


def average_tempo(human: Played) -> float:
    """Factor on the notated tempo at which the score lasts as long as the human took."""
    return float(
        (human.score_onset[-1] - human.score_onset[0])
        / (human.notes["onset_sec"][-1] - human.notes["onset_sec"][0])
    )


def keys(onset: np.ndarray, pitch: np.ndarray) -> list[tuple[float, int]]:
    """What names a note of the score: its onset to a millisecond, and its pitch."""
    return list(zip(np.round(onset.astype(np.float64), 3).tolist(), pitch.tolist(), strict=True))


def take_played(score: Score, notes: np.ndarray, pedals: np.ndarray, human: Played) -> Played:
    """The notes of a take (row by row the score's) that the human played too, in the human's order."""
    row = {key: i for i, key in enumerate(keys(score.notes["onset_sec"], score.notes["pitch"]))}
    wanted = keys(human.score_onset, human.notes["pitch"])
    both = [(row[key], i) for i, key in enumerate(wanted) if key in row]
    ours, theirs = np.array(both, int).T
    return Played(human.score_onset[theirs], human.score_duration[theirs], notes[ours], pedals)


def deadpan_played(human: Played, tempo: float, velocity: int = 64) -> Played:
    """The human's notes as the score has them: one tempo, one velocity, notated lengths, no pedal."""
    notes = human.notes.copy()
    notes["onset_sec"], notes["duration_sec"] = human.score_onset / tempo, human.score_duration / tempo
    notes["velocity"] = velocity
    return Played(human.score_onset, human.score_duration, notes, np.zeros(0, PEDAL))


def human_beats(players: list[asap.Performance]) -> tuple[np.ndarray, np.ndarray]:
    """Score seconds of the beats that the humans share, and when each played them, ``[humans, beats]``.

    Humans who share fewer than nine tenths of the first one's beats are left out.
    """
    found = []
    for player in players:
        arrays = asap.read_pairs(player.alignment)
        score = np.round(arrays["beat_score"].astype(np.float64), 3)
        found.append(dict(zip(score.tolist(), arrays["beat_perf"].tolist(), strict=True)))
    alike = [f for f in found if len(set(f) & set(found[0])) >= 0.9 * len(found[0])]
    beats = np.array(sorted(set.intersection(*map(set, alike))))
    played = np.array([[f[b] for b in beats.tolist()] for f in alike])
    keep = np.concatenate([[True], (np.diff(beats) > 0.02) & (np.diff(played) > 0.02).all(0)])
    return beats[keep], played[:, keep]


def measure_humans(performance: asap.Performance) -> Result:
    """Everything about the humans of a piece, and deadpan beside them; the bundle has no part in it."""
    players = performers(performance)
    played = [human_played(p) for p in players]
    beats, performed = human_beats(players)
    curves = np.array([em.tempo_curve(beats, row) for row in performed])
    names = [dict(zip(keys(p.score_onset, p.notes["pitch"]), em.velocities(p), strict=True)) for p in played]
    names = [n for n in names if len(set(n) & set(names[0])) >= 0.8 * len(names[0])]
    shared = sorted(set.intersection(*map(set, names)))
    levels = np.array([[n[key] for key in shared] for n in names])
    tempo = average_tempo(played[0])
    deadpan = deadpan_played(played[0], tempo)
    return {
        "piece": performance.piece,
        "performers": [p.performer for p in players],
        "tempo": tempo,
        "tempo r": em.human_agreement(curves),
        "tempo consensus r": em.human_consensus_agreement(curves),
        "velocity r": em.human_agreement(levels),
        "velocity consensus r": em.human_consensus_agreement(levels),
        **_means([_spreads(curve, p) for curve, p in zip(curves, played, strict=False)]),
        "deadpan": _spreads(0 * curves[0], deadpan),
        "beats": _rounded(beats),
        "curves": [_rounded(c) for c in curves],
        "velocity keys": shared,
        "velocities": levels.astype(int).tolist(),
        "histograms": [_listed(em.histograms(p)) for p in played],
        "deadpan histograms": _listed(em.histograms(deadpan)),
    }


def measure_expression(
    performance: asap.Performance,
    bundle: Bundle,
    seed: int,
    humans: Result | None = None,
    threads: int = 0,
) -> Result:
    """One take of a whole piece, at the paired human's average tempo, against the humans who play it.

    Parameters
    ----------
    performance : Performance
        The paired human.
    bundle : Bundle
        See `with_sampler` for other sampler settings.
    seed : int
    humans : dict, optional
        From `measure_humans`, when the caller has it already.
    threads : int
        Of the networks, 0 for all cores.

    Returns
    -------
    dict
        Numbers by name (``tempo r`` is the mean over humans, ``paired tempo r`` that with the paired one),
        ``js`` with the divergence of each feature from this piece's humans, and lists for plots and pools.
    """
    humans = humans or measure_humans(performance)
    human = human_played(performance)
    score = load_score(performance.score)
    settings = RenderSettings(seed=seed, tempo=float(np.clip(humans["tempo"], 0.25, 4)), voice="sampler")
    rendering = open_rendering(score, bundle, settings, threads)
    begun = time.perf_counter()
    notes, pedals = rendering.notes()
    spent = time.perf_counter() - begun
    played = take_played(score, notes, pedals, human)
    beats = np.array(humans["beats"])
    first = float(rendering.deadpan.notes["onset_sec"][0])
    place = (beats - score.notes["onset_sec"][0]) / settings.tempo + first
    performed = rendering.curve_source.time_map().to_performed(place)
    curve, curves = em.tempo_curve(beats, performed), np.array(humans["curves"])
    ours = dict(zip(keys(played.score_onset, played.notes["pitch"]), em.velocities(played), strict=True))
    both = [i for i, key in enumerate(humans["velocity keys"]) if tuple(key) in ours]
    level = np.array([ours[tuple(humans["velocity keys"][i])] for i in both])
    levels = np.array(humans["velocities"], float)[:, both]
    hist = em.histograms(played)
    length = float(np.ptp(played.notes["onset_sec"]))
    return {
        "piece": performance.piece,
        "seed": seed,
        "tempo r": em.agreement(curve, curves),
        "paired tempo r": em.correlation(curve, curves[0]),
        "tempo consensus r": em.consensus_agreement(curve, curves),
        "velocity r": em.agreement(level, levels),
        "paired velocity r": em.correlation(level, levels[0]),
        "velocity consensus r": em.consensus_agreement(level, levels),
        **_spreads(curve, played),
        "duration ratio": length / float(np.ptp(human.notes["onset_sec"])),
        "js": {
            name: em.js_divergence(values, np.mean([h[name] for h in humans["histograms"]], axis=0))
            for name, values in hist.items()
        },
        "curve rtf": spent / length,
        "curve": _rounded(curve),
        "histograms": _listed(hist),
    }


def _spreads(curve: np.ndarray, played: Played) -> dict[str, float]:
    tempo_std, tempo_range = em.spread(curve)
    velocity_std, velocity_range = em.spread(em.velocities(played))
    apart = em.asynchronies(played)
    middle, high = np.percentile(apart, [50, 90]) if len(apart) else (np.nan, np.nan)
    return {
        "tempo std": tempo_std,
        "tempo range": tempo_range,
        "velocity std": velocity_std,
        "velocity range": velocity_range,
        "velocity mean": float(em.velocities(played).mean()),
        "asynchrony median": float(middle),
        "asynchrony 90": float(high),
        "pedal share": float(em.pedal_shares(played).mean()),
    }


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(values, 5).tolist()


def _listed(found: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: np.round(values, 6).tolist() for name, values in found.items()}

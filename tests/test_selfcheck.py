"""The self-check finds every wrong, missing and extra note, and nothing where nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkontext.bundle import open_bundle
from pkontext.engine import RenderSettings, open_rendering
from pkontext.expressive_midi import TakeNotes
from pkontext.pairing import pair_by_key
from pkontext.score import load_score, score_from_notes
from pkontext.selfcheck import CheckReport, bar_and_beat, check_notes, check_plan, note_name
from pkontext.types import METER, NOTE, PEDAL

QUARTER = 0.5
LEAD = 0.37


def make_take(
    pitches: list[int], step: float = QUARTER, slower: float = 1.2, rows: np.ndarray | None = None
) -> TakeNotes:
    """A take of quarters at 120 bpm in 4/4 that lasts 1.2 times as long, after a lead."""
    notes = np.zeros(len(pitches), NOTE)
    notes["onset_sec"] = step * np.arange(len(pitches))
    notes["duration_sec"], notes["velocity"], notes["pitch"] = 0.9 * step, 64, pitches
    score = score_from_notes(notes)
    rows = np.arange(len(pitches)) if rows is None else rows
    played = np.zeros(len(rows), NOTE)
    played["onset_sec"] = LEAD + slower * (score.notes["onset_sec"][rows] - score.notes["onset_sec"][rows[0]])
    played["duration_sec"], played["velocity"] = 0.4, 70
    played["pitch"] = score.notes["pitch"][rows]
    return TakeNotes(score, rows, played, np.zeros(0, PEDAL))


def heard_as(take: TakeNotes, jitter: float = 0.01) -> np.ndarray:
    """What a good transcriber hears: the take's notes with onsets that are a little off, in any order."""
    heard = take.notes.copy()
    heard["onset_sec"] += jitter * np.sin(np.arange(len(heard)) * 2.5)
    return heard[np.random.default_rng(1).permutation(len(heard))]


def with_note(heard: np.ndarray, onset: float, pitch: int) -> np.ndarray:
    return np.append(heard, np.array([(onset, 0.2, pitch, 50)], NOTE))


def kinds(report: CheckReport) -> list[tuple[str, int, int, int]]:
    return [(f.kind, f.row, f.pitch, f.wanted) for f in report.findings]


SCALE = [60, 62, 64, 65, 67, 69, 71, 72, 60, 62, 64, 65]


def test_nothing_is_found_where_all_is_right() -> None:
    take = make_take(SCALE)
    report = check_notes(take, heard_as(take))
    assert report.findings == report.displaced == ()
    assert (report.expected, report.heard, report.matched) == (12, 12, 12)
    assert report.precision == report.recall == report.f1 == 1


def test_every_kind_is_found_once_at_its_bar_and_time() -> None:
    take = make_take(SCALE)
    heard = np.sort(heard_as(take, 0), order="onset_sec")
    heard["pitch"][2] = 63  # a semitone off
    heard["pitch"][5] += 12  # an octave off
    heard["onset_sec"][7] += 0.09
    heard["onset_sec"][8] -= 0.12
    heard = with_note(np.delete(heard, 10), LEAD + 1.2 * 2.25, 80)
    report = check_notes(take, heard)
    assert kinds(report) == [
        ("wrong", 2, 63, 64),
        ("extra", -1, 80, -1),
        ("wrong", 5, 81, 69),
        ("missing", 10, 64, 64),
    ]
    places = [(f.bar, f.beat, round(f.time_sec, 3)) for f in report.findings]
    assert places == [(1, 3, 1.57), (2, 1.5, 3.07), (2, 2, 3.37), (3, 3, 6.37)]
    assert [(f.kind, f.row, round(f.offset_sec, 3)) for f in report.displaced] == [
        ("late", 7, 0.09),
        ("early", 8, -0.12),
    ]
    assert (report.expected, report.heard, report.matched) == (12, 12, 7)
    assert report.f1 == pytest.approx(7 / 12)
    texts = [f.text() for f in (*report.findings, *report.displaced)]
    assert texts[0] == "bar 1, beat 3 (0:01.6): E♭4 instead of E4"
    assert texts[1] == "bar 2, beat 1.5 (0:03.1): extra A♭5"
    assert texts[3:5] == ["bar 3, beat 3 (0:06.4): missing E4", "bar 2, beat 4 (0:04.7): C5 90 ms late"]


def test_a_stray_note_far_in_pitch_or_time_is_missing_and_extra() -> None:
    take = make_take(SCALE)
    heard = np.sort(heard_as(take, 0), order="onset_sec")
    heard["pitch"][4] += 6
    heard["onset_sec"][6] += 0.2
    found = kinds(check_notes(take, heard))
    assert sorted(found) == [
        ("extra", -1, 71, -1),
        ("extra", -1, 73, -1),
        ("missing", 4, 67, 67),
        ("missing", 6, 71, 71),
    ]


def test_wrong_notes_of_a_chord_pair_with_their_neighbours() -> None:
    take = make_take([60, 64, 67], step=0)
    heard = take.notes.copy()
    heard["pitch"] = (61, 65, 67)
    heard["onset_sec"] += (0.02, -0.02, 0)
    assert sorted(kinds(check_notes(take, heard))) == [("wrong", 0, 61, 60), ("wrong", 1, 65, 64)]


def test_of_two_stray_notes_the_nearer_in_pitch_is_the_wrong_one() -> None:
    take = make_take([60])
    heard = np.repeat(take.notes, 2)
    heard["pitch"], heard["onset_sec"] = (62, 61), heard["onset_sec"] + (0, 0.03)
    assert sorted(kinds(check_notes(take, heard))) == [("extra", -1, 62, -1), ("wrong", 0, 61, 60)]


def test_unisons_and_repeated_notes_give_no_false_findings() -> None:
    take = make_take([60] * 40, step=0.1, slower=1)
    assert not check_notes(take, heard_as(take, 0.02)).findings
    twice = replace(take, rows=np.repeat(take.rows, 2), notes=np.repeat(take.notes, 2))
    twice.notes["onset_sec"][1::2] += 0.03  # two voices share a key and come a little apart
    report = check_notes(twice, heard_as(take, 0.005))
    assert not report.findings and report.expected == report.matched == 40
    fewer = np.delete(np.sort(heard_as(take, 0), order="onset_sec"), 17)
    assert kinds(check_notes(twice, fewer)) == [("missing", 17, 60, 60)]


def test_a_cut_span_expects_its_own_notes_alone() -> None:
    take = make_take(SCALE, rows=np.arange(4, 9))
    report = check_notes(take, heard_as(take))
    assert not report.findings and report.expected == 5
    missing = check_notes(take, np.sort(heard_as(take, 0), order="onset_sec")[1:])
    (finding,) = missing.findings
    assert (finding.row, finding.bar, finding.beat, finding.time_sec) == (4, 2, 1, LEAD)


def test_a_part_of_the_audio_can_be_reported_alone() -> None:
    take = make_take(SCALE)
    heard = with_note(np.sort(heard_as(take, 0), order="onset_sec")[1:], 6.5, 90)
    part = check_notes(take, heard, (0.9, 4.0))
    assert not part.findings and part.matched == part.expected == part.heard == 6
    assert kinds(check_notes(take, heard, (6.0, 9.0))) == [("extra", -1, 90, -1)]


def test_silence_and_noise() -> None:
    take = make_take(SCALE)
    silent = check_notes(take, np.zeros(0, NOTE))
    assert silent.count("missing") == 12 and silent.precision == silent.recall == silent.f1 == 0
    before = check_notes(take, with_note(heard_as(take), 0.01, 30))
    after = check_notes(take, with_note(heard_as(take), 20.0, 30))
    assert [(f.bar, f.beat) for f in (*before.findings, *after.findings)] == [(1, 1), (3, 4)]


def test_bars_follow_the_metre() -> None:
    score = make_take([60] * 30).score
    tpq = score.ticks_per_quarter
    meters = np.array([(0, 4, 4), (6 * tpq, 3, 4), (12 * tpq, 6, 8)], METER)  # the second bar has two beats
    changed = replace(score, meters=meters)
    places = [
        bar_and_beat(changed, QUARTER * quarter) for quarter in (0, 3.5, 4, 5, 6, 8, 9, 12, 12.5, 14.5, 15)
    ]
    assert places == [
        (1, 1),
        (1, 4.5),
        (2, 1),
        (2, 2),
        (3, 1),
        (3, 3),
        (4, 1),
        (5, 1),
        (5, 2),
        (5, 6),
        (6, 1),
    ]
    assert bar_and_beat(changed, 1.9999)[0] == 1 and bar_and_beat(changed, 1.9999)[1] < 5


def test_note_names() -> None:
    assert [note_name(pitch) for pitch in (21, 60, 61, 70, 108)] == ["A0", "C4", "C♯4", "B♭4", "C8"]


def test_reports_are_plain_values() -> None:
    take = make_take(SCALE)
    report = json.loads(json.dumps(check_notes(take, heard_as(take)[1:]).to_dict()))
    assert report["missing"] == len(report["findings"]) == 1 and report["source"] == "audio"
    assert set(report["findings"][0]) == {
        "kind",
        "row",
        "pitch",
        "wanted",
        "time_sec",
        "bar",
        "beat",
        "offset_sec",
    }


# ---- the notes of a take against its score --------------------------------------------------------


def test_a_plan_that_follows_the_score_is_clean() -> None:
    for rows in (np.arange(12), np.arange(3, 8)):
        report = check_plan(make_take(SCALE, rows=rows))
        assert not report.findings and report.expected == report.matched == len(rows) and report.f1 == 1


def drop(take: TakeNotes) -> TakeNotes:
    return replace(take, rows=np.delete(take.rows, 5), notes=np.delete(take.notes, 5))


def double(take: TakeNotes) -> TakeNotes:
    return replace(take, rows=np.insert(take.rows, 5, 5), notes=np.insert(take.notes, 5, take.notes[5]))


def mistune(take: TakeNotes) -> TakeNotes:
    take.notes["pitch"][5] = 70
    return take


def swap(take: TakeNotes) -> TakeNotes:
    take.notes["onset_sec"][[5, 6]] = take.notes["onset_sec"][[6, 5]]
    return take


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (drop, ("missing", 5, 69, 69)),
        (double, ("extra", -1, 69, -1)),
        (mistune, ("wrong", 5, 70, 69)),
        (swap, ("order", 6, 71, 71)),
    ],
)
def test_a_plan_that_does_not_is_found_out(
    spoil: Callable[[TakeNotes], TakeNotes], found: tuple[str, int, int, int]
) -> None:
    report = check_plan(spoil(make_take(SCALE)))
    assert kinds(report) == [found] and report.f1 < 1
    assert (report.findings[0].bar, report.findings[0].text().count("beat")) == (2, 1)


def test_a_key_cannot_be_struck_twice_at_once_or_backwards() -> None:
    take = make_take([60] * 6, step=0.04, slower=1)
    for onset in (take.notes["onset_sec"][2], take.notes["onset_sec"][2] - 0.01):
        spoiled = replace(take, notes=take.notes.copy())
        spoiled.notes["onset_sec"][3] = onset
        assert kinds(check_plan(spoiled)) == [("order", 3, 60, 60)]
    assert not check_plan(take).findings


def test_a_real_take_plays_its_score(toy_bundle: Path, midi_file: Path) -> None:
    score = load_score(midi_file)
    settings = RenderSettings(seed=3, start_sec=0.6, end_sec=2.4, voice="sampler")
    take = open_rendering(score, open_bundle(toy_bundle), settings, 1).take_notes()
    report = check_plan(take)
    assert not report.findings and report.expected == len(take.notes) > 0


# ---- pairing --------------------------------------------------------------------------------------

ONSETS = st.lists(st.integers(0, 40).map(lambda n: n / 100), max_size=7, unique=True).map(sorted)


@given(ONSETS, ONSETS)
def test_pairs_are_as_many_and_then_as_close_as_can_be(first: list[float], second: list[float]) -> None:
    wanted, heard = ((np.array(onsets), np.full(len(onsets), 60, np.int64)) for onsets in (first, second))
    pairs = pair_by_key(wanted, heard, 0.05)
    assert len(set(pairs.values())) == len(pairs)
    apart = [abs(first[i] - second[j]) for i, j in pairs.items()]
    assert all(value <= 0.05 + 1e-6 for value in apart)
    assert (len(pairs), -sum(apart)) == pytest.approx(best_by_trying(first, second))


def best_by_trying(first: list[float], second: list[float]) -> tuple[int, float]:
    """Pairs and their summed distance of the best pairing, by trying every one."""
    if not first:
        return 0, 0.0
    best = best_by_trying(first[1:], second)
    for j, onset in enumerate(second):
        if abs(first[0] - onset) <= 0.05 + 1e-6:
            pairs, closeness = best_by_trying(first[1:], second[:j] + second[j + 1 :])
            best = max(best, (pairs + 1, closeness - abs(first[0] - onset)))
    return best

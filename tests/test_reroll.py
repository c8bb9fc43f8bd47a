"""Re-rolled ranges on a toy bundle: new inside, and sample for sample as it was outside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pkontext import curves as pc
from pkontext.bundle import Bundle, open_bundle
from pkontext.cli import app, parse_bars
from pkontext.engine import Progress, Rendering, RenderSettings, Reroll, open_rendering
from pkontext.errors import Cancelled, InputError
from pkontext.perform import bend
from pkontext.reroll import FADE_SEC, REROLL_WINDOWS, Plan, cut_pedals, keep_order
from pkontext.sampler import CURVE_STAGE, window_noise
from pkontext.score import bar_span_sec, load_score, score_from_notes
from pkontext.splice import Stream, crossfade
from pkontext.types import METER, NOTE, PEDAL, TEMPO, Score
from pkontext.windows import range_windows
from tests.conftest import write_midi

HOP = 4096
FRAME = HOP / 44100
FADE = round(FADE_SEC * 44100)
MIDDLE = Reroll(5.0, 7.0, 1)
#: Ranges at the start, in the middle, at the end; in two places; over several windows of both networks.
CASES = {
    "start": (Reroll(0.0, 2.0, 1),),
    "middle": (MIDDLE,),
    "end": (Reroll(10.0, 11.95, 1),),
    "two": (Reroll(8.0, 9.5, 2), Reroll(2.0, 4.0, 1)),
    "long": (Reroll(1.5, 10.5, 1),),
}


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle with livelier curves, so that ranges differ and change their length."""
    found = open_bundle(toy_bundle)
    entries = (replace(entry, std=3 * entry.std) for entry in found.manifest.curves)
    return replace(found, manifest=replace(found.manifest, curves=tuple(entries)))


@pytest.fixture(scope="module")
def score() -> Score:
    """A line of 40 notes in 12 s, with a bass note to every fourth and keys struck again."""
    notes = np.zeros(50, NOTE)
    notes["onset_sec"] = np.concatenate([np.arange(40), np.arange(0, 40, 4)]) * 0.3
    notes["duration_sec"], notes["velocity"] = 0.25, 64
    notes["pitch"] = np.concatenate([60 + (np.arange(40) // 2 * 7) % 29, 36 + (np.arange(10) * 5) % 17])
    return score_from_notes(notes)


def rendering(score: Score, bundle: Bundle, *rerolls: Reroll, **options: object) -> Rendering:
    settings = RenderSettings(rerolls=rerolls, **options)  # type: ignore[arg-type]
    return open_rendering(score, bundle, settings, threads=1, provider="cpu")


def audio(take: Rendering) -> np.ndarray:
    return np.concatenate(list(take.chunks()))[:, 0]


def plans(take: Rendering) -> list[Plan]:
    return take._rerolls.made()


@pytest.fixture(scope="module")
def bases(score: Score, bundle: Bundle) -> dict[str, np.ndarray]:
    """Audio without re-rolls by voice."""
    return {voice: audio(rendering(score, bundle, voice=voice)) for voice in ("neural", "sampler")}


@pytest.fixture(scope="module")
def takes(score: Score, bundle: Bundle) -> Callable[[str, str], tuple[Rendering, np.ndarray]]:
    """Take and audio of a voice and a case, rendered once."""
    made: dict[tuple[str, str], tuple[Rendering, np.ndarray]] = {}

    def get(voice: str, case: str) -> tuple[Rendering, np.ndarray]:
        if (voice, case) not in made:
            take = rendering(score, bundle, *CASES[case], voice=voice)
            made[voice, case] = take, audio(take)
        return made[voice, case]

    return get


def kept_spans(take: Rendering) -> list[tuple[int, int | None, int]]:
    """Samples ``[begin, end)`` of the base that must be in the take, and by how many they moved."""
    first, moved, begin = take._first_performed_frame(), 0, 0
    spans: list[tuple[int, int | None, int]] = []
    for plan in plans(take):
        if not plan.from_start:
            spans.append((begin, (plan.first - first) * HOP - FADE, moved * HOP))
        if plan.last is None:
            return spans
        begin, moved = (plan.last - first) * HOP, moved + plan.shift
    return [*spans, (begin, None, moved * HOP)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_outside_the_fades_every_sample_is_the_base_s(takes, bases, voice: str, case: str) -> None:  # type: ignore[no-untyped-def]
    take, found = takes(voice, case)
    base, spans = bases[voice], kept_spans(take)
    assert len(plans(take)) == len(CASES[case])
    assert sum((len(base) if end is None else end) - begin for begin, end, _ in spans) > (
        0.1 if case == "long" else 0.5
    ) * len(base)
    for begin, end, moved in spans:
        stop = len(base) if end is None else end
        assert np.array_equal(found[begin + moved : stop + moved], base[begin:stop])
    assert len(found) % HOP == 0 and np.isfinite(found).all()
    if plans(take)[-1].last is not None:
        assert len(found) == len(base) + sum(plan.shift for plan in plans(take)) * HOP
    plan, first = plans(take)[0], take._first_performed_frame()
    inside = slice((plan.first - first) * HOP, (plan.first - first + 8) * HOP)
    assert np.abs(found[inside] - base[inside]).max() > 1e-3


def test_some_range_changes_its_length(takes) -> None:  # type: ignore[no-untyped-def]
    """Else the tests here would not notice what moves by a wrong amount."""
    assert any(plan.shift for case in CASES for plan in plans(takes("neural", case)[0]) if plan.last)


@pytest.mark.parametrize("case", CASES)
def test_notes_outside_are_the_base_s_and_every_note_is_there_in_order(  # type: ignore[no-untyped-def]
    score: Score, bundle: Bundle, takes, case: str
) -> None:
    take = rendering(score, bundle, *CASES[case])
    (notes, pedals), (base, base_pedals) = take.notes(), rendering(score, bundle).notes()
    assert np.array_equal(notes["pitch"], score.notes["pitch"])
    again = takes("neural", case)[0].notes()
    assert np.array_equal(notes, again[0]) and np.array_equal(pedals, again[1])
    inside = np.zeros(len(notes), bool)
    for range_ in CASES[case]:
        onset = score.notes["onset_sec"]
        inside |= (onset >= range_.start_sec - 1e-6) & (onset < range_.end_sec - 1e-6)
    performed = np.any([plan.inside for plan in plans(take)], axis=0)
    assert np.all(inside | ~performed) and performed.sum() >= inside.sum() - 2
    assert np.array_equal(
        notes[~performed][["duration_sec", "velocity"]], base[~performed][["duration_sec", "velocity"]]
    )
    frames = (notes["onset_sec"] - base["onset_sec"])[~performed] / FRAME
    assert np.abs(frames - np.rint(frames)).max() < 1e-6
    assert set(np.rint(frames)) <= {0, *itertools.accumulate(plan.shift for plan in plans(take))}
    assert np.mean(notes["velocity"][performed] != base["velocity"][performed]) > 0.4
    assert np.abs(notes["onset_sec"] - base["onset_sec"])[performed].max() > 0.005
    for key in np.unique(notes["pitch"]):
        assert np.all(np.diff(notes["onset_sec"][notes["pitch"] == key]) > 1e-3)
    assert notes["onset_sec"].min() >= 0 and notes["duration_sec"].min() > 0
    assert np.all(np.diff(pedals["time_sec"]) >= 0) and np.all(np.diff(pedals["value"].astype(int)) != 0)
    plan, shift = plans(take)[0], take._first_performed_frame() * FRAME
    if not plan.from_start:
        early, base_early = (p[p["time_sec"] < plan.first * FRAME - shift] for p in (pedals, base_pedals))
        assert np.array_equal(early, base_early)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_borders_do_not_click(takes, voice: str, case: str) -> None:  # type: ignore[no-untyped-def]
    """The largest second difference near a border is not larger than elsewhere in the take."""
    take, found = takes(voice, case)
    bend_ = np.abs(np.diff(found, 2))
    first, moved = take._first_performed_frame(), 0
    near = np.zeros(len(bend_), bool)
    for plan in plans(take):
        for frame in (plan.first, None if plan.last is None else plan.last + plan.shift):
            if frame is not None and frame > first:
                place = (frame + moved - first) * HOP
                near[place - FADE - 64 : place + 64] = True
        moved += plan.shift
    if near.any():
        assert bend_[near].max() <= bend_[~near].max()


@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_settings_determine_the_take(score: Score, bundle: Bundle, takes, voice: str) -> None:  # type: ignore[no-untyped-def]
    """Looking at the notes before or between, or the order of the ranges, changes nothing."""
    _, found = takes(voice, "two")
    take = rendering(score, bundle, *reversed(CASES["two"]), voice=voice)
    stream = take.chunks()
    parts = [next(stream)]
    take.notes()
    assert np.array_equal(np.concatenate([*parts, *stream])[:, 0], found)
    early = rendering(score, bundle, *CASES["two"], voice=voice)
    early.notes()
    assert np.array_equal(audio(early), found)


def test_another_seed_is_another_range_and_one_range_does_not_change_another(
    score: Score, bundle: Bundle
) -> None:
    one, other = Reroll(2.0, 4.0, 1), Reroll(8.0, 9.5, 2)
    notes = {
        name: rendering(score, bundle, *rerolls).notes()[0]
        for name, rerolls in {
            "one": (one,),
            "again": (replace(one, seed=3),),
            "both": (one, other),
            "other": (other,),
        }.items()
    }
    first = (score.notes["onset_sec"] >= 2.0) & (score.notes["onset_sec"] < 4.0 - 1e-6)
    last = score.notes["onset_sec"] >= 8.0 - 1e-6
    assert np.mean(notes["one"]["velocity"][first] != notes["again"]["velocity"][first]) > 0.4
    assert np.array_equal(notes["one"]["velocity"][~first], notes["again"]["velocity"][~first])
    assert np.array_equal(notes["both"][first], notes["one"][first])
    moved = (notes["both"]["onset_sec"] - notes["other"]["onset_sec"])[last] / FRAME
    assert np.abs(moved - round(moved[0])).max() < 1e-6
    assert np.array_equal(notes["both"]["velocity"][last], notes["other"]["velocity"][last])


def test_a_range_has_its_own_noise() -> None:
    shape = (1, 4, 12)
    base = [window_noise(1, CURVE_STAGE, number, shape) for number in range(3)]
    for number in (REROLL_WINDOWS, REROLL_WINDOWS | 1 << 16):
        mine = window_noise(1, CURVE_STAGE, number, shape)
        assert all(np.abs(mine - other).min() > 0 for other in base)


def test_no_rerolls_and_rerolls_out_of_the_span_change_nothing(score: Score, bundle: Bundle) -> None:
    plain = audio(rendering(score, bundle, start_sec=8.0, end_sec=10.0))
    assert np.array_equal(audio(rendering(score, bundle, MIDDLE, start_sec=8.0, end_sec=10.0)), plain)
    cut = rendering(score, bundle, MIDDLE, start_sec=6.0, end_sec=10.0)
    found, (notes, _) = audio(cut), cut.notes()
    assert (
        len(found)
        and plans(cut)[0].from_start
        and len(notes) == (score.notes["onset_sec"] >= 6.0)[score.notes["onset_sec"] < 10.0].sum()
    )


def test_progress_and_cancel(score: Score, bundle: Bundle, takes) -> None:  # type: ignore[no-untyped-def]
    seen: list[Progress] = []
    total = sum(len(chunk) for chunk in rendering(score, bundle, MIDDLE).chunks(seen.append))
    rerolled = [state for state in seen if state.stage == "reroll"]
    assert [state.window for state in rerolled] == list(range(1, rerolled[0].windows + 1))
    assert all(state.rendered_sec <= state.total_sec + 1e-9 for state in seen)
    assert max(state.rendered_sec for state in seen) == pytest.approx(total / 44100)
    with pytest.raises(Cancelled):
        for _ in rendering(score, bundle, MIDDLE).chunks(None, lambda: len(seen) > 0):
            pass
    stop: list[Progress] = []
    with pytest.raises(Cancelled):
        stream = rendering(score, bundle, MIDDLE).chunks(
            stop.append, lambda: any(s.stage == "reroll" for s in stop)
        )
        for _ in stream:
            pass


def test_a_late_range_does_not_wait_for_the_whole_piece(bundle: Bundle) -> None:
    notes = np.zeros(240, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(240) * 0.3, 0.25
    notes["pitch"], notes["velocity"] = 60 + (np.arange(240) * 7) % 29, 64
    take = rendering(score_from_notes(notes), bundle, Reroll(60.0, 62.0, 1))
    next(take.chunks())
    assert take.curve_source.committed < 0.4 * take.deadpan.frames and not plans(take)


@pytest.mark.parametrize(
    ("rerolls", "part"),
    [
        ((Reroll(5.0, 4.0, 0),), "is none"),
        ((Reroll(-1.0, 4.0, 0),), "is none"),
        ((Reroll(1.0, float("nan"), 0),), "is none"),
        ((Reroll(1.0, float("inf"), 0),), "is none"),
        ((Reroll(3.0, 3.9, 0),), "lasts 0.90 s"),
        ((Reroll(3.0, 5.0, 0), Reroll(4.0, 7.0, 0)), "after the end of another"),
        ((Reroll(6.0, 8.0, 0), Reroll(3.0, 5.5, 0)), "after the end of another"),
        ((Reroll(10.0, 13.0, 0),), "not inside the piece"),
    ],
)
def test_impossible_ranges_are_one_clear_error(
    score: Score, bundle: Bundle, rerolls: tuple[Reroll, ...], part: str
) -> None:
    with pytest.raises(InputError) as caught:
        rendering(score, bundle, *rerolls)
    assert caught.value.code == "settings.reroll" and part in caught.value.message
    assert caught.value.message.endswith(".") and caught.value.hint.endswith(".")


def test_ranges_are_measured_at_the_tempo_of_the_take(score: Score, bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.50 s at this tempo"):
        rendering(score, bundle, MIDDLE, tempo=4.0)


def test_a_range_in_a_long_rest_has_no_note(bundle: Bundle) -> None:
    notes = np.zeros(2, NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"], notes["velocity"] = [0, 9], 1, 60, 64
    with pytest.raises(InputError, match="has no note"):
        rendering(score_from_notes(notes), bundle, Reroll(3.0, 6.0, 0))


# -- the parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last", "lowest"), [(40, 51, 0), (3, 60, 0), (100, 700, 90), (0, 20, 0)])
def test_windows_of_a_range_make_every_frame_once(first: int, last: int, lowest: int) -> None:
    windows = list(range_windows(first, last, 96, 24, 16, lowest))
    assert windows[0][1] == first and windows[-1][2] == last
    for (_, _, end), (_, begin, _) in itertools.pairwise(windows):
        assert end == begin
    for start, begin, end in windows:
        assert lowest <= start <= begin < end <= start + 96 - 16
        assert begin - start >= min(24, begin - lowest)


@pytest.mark.parametrize("change", [-0.046, 0.0, 0.03])
def test_bending_keeps_the_ends(change: float) -> None:
    tempo = np.random.default_rng(0).normal(0, 0.2, 12).astype(np.float32)
    wanted = float(pc.time_map_from_tempo(tempo, FRAME).performed[-1]) + change
    bent = bend(tempo, wanted, FRAME)
    assert pc.time_map_from_tempo(bent, FRAME).performed[-1] == pytest.approx(wanted, abs=1e-9)
    assert np.abs(bent - tempo)[[0, -1]].max() < 0.1 * max(np.abs(bent - tempo).max(), 1e-9)


def test_notes_keep_between_their_neighbours() -> None:
    base, new = np.zeros(6, NOTE), np.zeros(6, NOTE)
    base["onset_sec"], base["pitch"] = [1.0, 2.0, 2.1, 2.2, 3.0, 2.5], [60, 60, 60, 60, 60, 61]
    new["onset_sec"], new["pitch"] = [0.0, 0.9, 0.95, 3.4, 0.0, 9.0], base["pitch"]
    keep_order(new, base, np.array([0, 1, 1, 1, 0, 1], bool), 0.5, 2.9, 0.2)
    expected = [0.0, 1.005, 1.01, 3.095, 0.0, 3.095]
    assert new["onset_sec"] == pytest.approx(expected)


def test_a_cut_of_the_pedal_starts_as_it_was() -> None:
    pedals = np.array([(1.0, 127), (2.0, 0), (3.0, 64)], PEDAL)
    assert cut_pedals(pedals, 1.5, 3.0, 1.0).tolist() == [(2.5, 127), (3.0, 0)]
    assert cut_pedals(pedals, -np.inf, 1.5).tolist() == [(1.0, 127)]
    assert cut_pedals(pedals, 0.5, 0.8).tolist() == [(0.5, 0)]


@pytest.mark.parametrize("same", [0.0, 0.5, 1.0])
def test_crossfades_keep_the_power(same: float) -> None:
    rng = np.random.default_rng(1)
    old, other = rng.standard_normal((2, 20000, 1)).astype(np.float32)
    new = np.float32(same) * old + np.float32(np.sqrt(1 - same**2)) * other
    faded = crossfade(old, new)
    assert faded.dtype == np.float32 and faded.shape == old.shape
    power = np.mean(faded.reshape(20, -1) ** 2, axis=1)
    assert np.abs(power - 1).max() < 0.15
    assert faded[0] == pytest.approx(old[0]) and faded[-1] == pytest.approx(new[-1], abs=1e-5)


def test_a_stream_is_read_by_position() -> None:
    whole = np.arange(100, dtype=np.float32)[:, None]

    def stream() -> Stream:
        return Stream(iter(np.split(whole, [3, 40, 41, 90])))

    read = stream()
    assert np.array_equal(np.concatenate(list(read.until(30))), whole[:30])
    read.skip_to(70)
    assert np.array_equal(read.take(25), whole[70:95]) and read.position == 95
    assert np.array_equal(read.take(25), whole[95:]) and not read.fill() and read.end == 100
    ahead = stream()
    ahead.skip_to(50)
    while ahead.fill():
        pass
    assert np.array_equal(np.concatenate(list(ahead.until())), whole[50:])


# -- bars --------------------------------------------------------------------------------------------------


def test_bars_follow_meter_and_tempo(score: Score) -> None:
    bent = replace(
        score,
        ticks_per_quarter=960,
        tempi=np.array([(0, 5e5), (3840, 1e6)], TEMPO),
        meters=np.array([(0, 4, 4), (3840, 3, 4)], METER),
    )
    assert bar_span_sec(bent, 1, 1) == (0.0, 2.0)
    assert bar_span_sec(bent, 2, 3) == pytest.approx((2.0, 8.0))
    assert bar_span_sec(bent, 4, 5) == pytest.approx((8.0, bent.duration_sec))


@pytest.mark.parametrize("bars", [(0, 1), (3, 2), (6, 7), (7, 7)])
def test_bars_outside_the_piece(score: Score, bars: tuple[int, int]) -> None:
    with pytest.raises(InputError) as caught:
        bar_span_sec(score, *bars)  # 12 s at 120 to the minute: six bars
    assert caught.value.code == "score.bars" and caught.value.hint.endswith(".")


def test_bars_as_text() -> None:
    assert parse_bars("12-16:7") == (12, 16, 7) and parse_bars(" 3:0") == (3, 3, 0)
    for text in ("", "12-16", "12:", "a-b:1", "1-2-3:4", "-1:2", "1-2:-3", "9999999:1"):
        with pytest.raises(ValueError, match="not bars"):
            parse_bars(text)


def test_command_line(toy_bundle: Path, tmp_path: Path) -> None:
    source = write_midi(tmp_path / "piece.mid", [(60 + step % 12, 480) for step in range(24)])
    assert bar_span_sec(load_score(source), 2, 3) == (2.0, 6.0)

    def render(name: str, *options: str) -> tuple[int, np.ndarray]:
        out = tmp_path / name
        arguments = [
            "render",
            str(source),
            "-o",
            str(out),
            "--bundle",
            str(toy_bundle),
            "--bits",
            "32f",
            "-q",
        ]
        result = CliRunner().invoke(app, [*arguments, "--threads", "1", *options])
        return result.exit_code, soundfile.read(out)[0] if out.exists() else np.zeros(0)

    (code, base), (other_code, other) = (
        render("a.wav"),
        render("b.wav", "--reroll", "2:7", "--reroll", "5-6:8"),
    )
    assert code == other_code == 0
    assert np.array_equal(base[:40000], other[:40000])
    assert not np.array_equal(base[90000:170000], other[90000:170000])
    assert render("c.wav", "--reroll", "6-7:1")[0] == 3  # outside the piece
    assert render("c.wav", "--reroll", "2-3")[0] == 2
    assert mido.MidiFile(source).length == pytest.approx(12.0)

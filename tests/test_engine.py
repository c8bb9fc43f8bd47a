"""The whole chain on a toy bundle: a take is a function of score, settings and bundle alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkontext import curves as pc
from pkontext import synth
from pkontext.bundle import Bundle
from pkontext.deadpan import LEAD_FRAMES, TAIL_FRAMES
from pkontext.engine import Progress, Rendering, RenderSettings, open_rendering
from pkontext.errors import Cancelled, InputError
from pkontext.perform import _within_reach
from pkontext.runtime import Graph
from pkontext.score import score_from_notes
from pkontext.types import NOTE, Score

HOP = 4096
FRAME = HOP / 44100


def make_score(count: int, step: float = 0.3, duration: float = 0.25) -> Score:
    """A line of notes with a bass note to every fourth."""
    notes = np.zeros(count + count // 4, NOTE)
    notes["onset_sec"] = np.concatenate([np.arange(count), np.arange(0, count - 3, 4)]) * step
    notes["duration_sec"], notes["velocity"] = duration, 64
    high, low = 60 + (np.arange(count) * 7) % 29, 36 + (np.arange(count // 4) * 5) % 17
    notes["pitch"] = np.concatenate([high, low])
    return score_from_notes(notes)


@pytest.fixture(scope="module")
def score() -> Score:
    """12 s, several windows of both networks."""
    return make_score(40)


def rendering(score: Score, bundle: Bundle, **options: object) -> Rendering:
    return open_rendering(score, bundle, RenderSettings(**options), threads=1, provider="cpu")  # type: ignore[arg-type]


def audio(score: Score, bundle: Bundle, **options: object) -> np.ndarray:
    return np.concatenate(list(rendering(score, bundle, **options).chunks()))


@pytest.fixture(scope="module")
def take(score: Score, bundle: Bundle) -> np.ndarray:
    return audio(score, bundle)


def with_curves(bundle: Bundle, **means: float) -> Bundle:
    """The bundle with other mean values of some curves (and no deviation from them)."""
    entries = tuple(
        replace(entry, mean=means[entry.name], std=1e-6) if entry.name in means else entry
        for entry in bundle.manifest.curves
    )
    return replace(bundle, manifest=replace(bundle.manifest, curves=entries))


def level(samples: np.ndarray) -> float:
    """Level in dBFS."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) + 1e-12))


# -- the same take every time ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(score: Score, bundle: Bundle, take: np.ndarray) -> None:
    assert take.shape[1] == 1 and take.dtype == np.float32 and len(take) % HOP == 0
    assert np.isfinite(take).all() and level(take) > -60
    assert np.array_equal(audio(score, bundle), take)


def test_pauses_and_looking_at_the_notes_change_nothing(
    score: Score, bundle: Bundle, take: np.ndarray
) -> None:
    """Asking for the notes before or while the audio is rendered commits curves early."""
    before = rendering(score, bundle)
    before.notes()
    assert np.array_equal(np.concatenate(list(before.chunks())), take)
    between = rendering(score, bundle)
    stream = between.chunks()
    parts = [next(stream)]
    between.notes()
    assert np.array_equal(np.concatenate([*parts, *stream]), take)


def test_the_audio_has_what_the_notes_say_wherever_they_are_asked_for(score: Score, bundle: Bundle) -> None:
    early, late = rendering(score, bundle), rendering(score, bundle)
    for _ in late.chunks():
        pass
    for first, second in zip(early.notes(), late.notes(), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("tempo", [-1.5, 1.5])
def test_slow_and_fast_playing_see_the_same_whatever_is_ready(
    bundle: Bundle, tempo: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows see all the deadpan around them, and curves no further than they need, at any pace."""
    bent = with_curves(bundle, tempo=tempo)
    score = make_score(30 if tempo < 0 else 90)
    lazy = audio(score, bent)
    original = Rendering._deadpan_until
    monkeypatch.setattr(Rendering, "_deadpan_until", lambda self, _: original(self, self.deadpan.frames))
    eager = rendering(score, bent)
    eager.notes()
    assert np.array_equal(np.concatenate(list(eager.chunks())), lazy)


def test_a_long_last_note_played_short_ends_the_same_whatever_is_ready(bundle: Bundle) -> None:
    """How long a piece is follows from curves that may not be there yet when its end comes near."""
    short = with_curves(bundle, articulation_48=-3.0, articulation_72=-3.0, pedal=0.0)
    notes = np.zeros(4, NOTE)
    notes["onset_sec"], notes["duration_sec"] = [0, 0.5, 1, 2], [0.5, 0.5, 1, 40]
    notes["pitch"], notes["velocity"] = [60, 62, 64, 65], 64
    score = score_from_notes(notes)
    for tempo in (-1.0, 0.0, 1.0):
        bent = with_curves(short, tempo=tempo)
        ready = rendering(score, bent)
        played, _ = ready.notes()
        whole = np.concatenate(list(ready.chunks()))
        assert np.array_equal(audio(score, bent), whole)
        end = (played["onset_sec"] + played["duration_sec"]).max()
        assert len(whole) == (int(np.ceil(end / FRAME)) + TAIL_FRAMES) * HOP


def test_another_seed_is_another_performance(score: Score, bundle: Bundle) -> None:
    first, second = (rendering(score, bundle, seed=seed).notes()[0] for seed in (0, 1))
    assert len(first) == len(second) and np.array_equal(first["pitch"], second["pitch"])
    assert np.abs(first["onset_sec"] - second["onset_sec"]).max() > 0.005
    assert (first["velocity"] != second["velocity"]).mean() > 0.3


def test_another_seed_sounds_different_even_without_expression(score: Score, bundle: Bundle) -> None:
    first, second = (audio(score, bundle, seed=seed, expressiveness=0.0) for seed in (0, 1))
    assert first.shape == second.shape and not np.allclose(first, second, atol=1e-3)


def test_the_number_of_steps_matters(score: Score, bundle: Bundle, take: np.ndarray) -> None:
    default = bundle.manifest.sampler.latent_steps
    assert np.array_equal(audio(score, bundle, steps=default), take)
    assert not np.array_equal(audio(score, bundle, steps=default + 1), take)


def test_without_temperature_every_seed_reads_alike(score: Score, bundle: Bundle) -> None:
    def notes(**changes: object) -> np.ndarray:
        return rendering(score, bundle, **changes).notes()[0]

    plain = [notes(seed=seed, temperature=0.0) for seed in (0, 1)]
    assert np.array_equal(plain[0], plain[1])
    assert not np.array_equal(notes(seed=1), plain[0])
    own = bundle.manifest.sampler
    assert np.array_equal(notes(guidance=own.guidance, temperature=own.temperature), notes())
    assert not np.array_equal(notes(guidance=own.guidance + 1), notes())


def test_written_dynamics_reach_the_performance(score: Score, bundle: Bundle) -> None:
    louder = score.notes.copy()
    louder["velocity"][len(louder) // 2 :] += 30
    plain, marked = (
        rendering(replace(score, notes=notes), bundle).notes()[0]["velocity"].astype(int)
        for notes in (score.notes, louder)
    )
    assert np.abs(plain - marked).max() > 0


def test_making_up_for_drift_begins_and_ends_at_nothing(score: Score, bundle: Bundle) -> None:
    source = rendering(score, bundle).curve_source
    slow = np.zeros((96, 12), np.float32)
    slow[:, pc.TEMPO] = -2.0
    source._keep_average(slow)
    change = slow[:, pc.TEMPO] + 2.0
    moved = change[np.flatnonzero(change)[0] :]
    assert moved.max() > 0.05 and (change >= 0).all() and not change[:LEAD_FRAMES].any()
    assert max(moved[0], moved[-1]) < 0.02 * moved.max()
    assert np.abs(np.diff(change)).max() < 0.15 * moved.max()


def test_extreme_tempi_are_pressed_together_in_order() -> None:
    tempo = np.linspace(-4, 4, 801)
    pressed = _within_reach(tempo)
    inner = np.abs(tempo) <= 1
    assert np.array_equal(pressed[inner], tempo[inner])
    assert (np.diff(pressed) > 0).all() and np.abs(pressed).max() < 1.81
    np.testing.assert_allclose(pressed, -pressed[::-1], atol=1e-12)


def test_any_tempo_and_expressiveness_last_as_long_as_asked(bundle: Bundle) -> None:
    for count, tempo, amount in ((60, 1.0, 1.5), (400, 0.6, 1.0), (700, 2.0, 1.5)):
        score = make_score(count)
        notes, _ = rendering(score, bundle, tempo=tempo, expressiveness=amount, voice="sampler").notes()
        asked = np.ptp(score.notes["onset_sec"]) / tempo
        assert np.ptp(notes["onset_sec"]) == pytest.approx(asked, rel=0.02, abs=0.15)


def test_the_papers_conditioning_looks_at_no_notes(
    score: Score, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = replace(bundle.manifest.sampler, conditioning="latents")
    papers = replace(bundle, manifest=replace(bundle.manifest, sampler=sampler))
    seen: list[np.ndarray] = []
    call = Graph.__call__

    def spy(self: Graph, **inputs: np.ndarray) -> np.ndarray:
        if "context" in inputs:
            seen.append(inputs["local"])
        return call(self, **inputs)

    monkeypatch.setattr(Graph, "__call__", spy)
    assert len(audio(score, papers)) > 0
    assert seen and not any(local.any() for local in seen)


def test_rendering_writes_nothing_into_the_score(score: Score, bundle: Bundle) -> None:
    arrays = {name: getattr(score, name).copy() for name in ("notes", "tempi", "meters")}
    for array in arrays.values():
        array.flags.writeable = False
    frozen = replace(score, **arrays)
    for voice in ("neural", "sampler"):
        take = rendering(frozen, bundle, voice=voice)
        for _ in take.chunks():
            pass
        take.notes()[0]["onset_sec"] += 1  # what a caller does to the notes is the caller's business
        assert take.notes()[0]["onset_sec"].min() < 1
    for name, array in arrays.items():
        assert np.array_equal(array, getattr(score, name))


# -- what is played ----------------------------------------------------------------------------------------


def test_every_note_is_played_once_in_time(score: Score, bundle: Bundle, take: np.ndarray) -> None:
    notes, pedals = rendering(score, bundle).notes()
    assert np.array_equal(notes["pitch"], score.notes["pitch"])
    assert notes["onset_sec"].min() >= 0 and notes["duration_sec"].min() > 0
    assert (notes["onset_sec"] + notes["duration_sec"]).max() < len(take) / 44100
    assert np.all(pedals["time_sec"] >= 0)
    assert np.all(np.diff(pedals["time_sec"]) >= 0)


def test_windows_continue_each_other(score: Score, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a window is given is what the one before committed; its new frames start as noise."""
    take = rendering(score, bundle)
    given: list[np.ndarray] = []
    committed: list[np.ndarray] = []
    graph, decode = take._latent_graph, take.codec.decode_stream

    def spy(**inputs: np.ndarray) -> np.ndarray:
        if inputs["time"][0] == 0:
            known = inputs["known"][0, :, 0] > 0
            assert np.all(inputs["known"] == known[None, :, None])
            given.append(inputs["x"][0, known])
        return graph(**inputs)

    def tee(chunks: object) -> object:
        for chunk in chunks:  # type: ignore[attr-defined]
            committed.append(chunk)
            yield chunk

    monkeypatch.setattr(take, "_latent_graph", spy)
    monkeypatch.setattr(take.codec, "decode_stream", lambda chunks: decode(tee(chunks)))
    samples = sum(len(chunk) for chunk in take.chunks())
    latents = np.concatenate(committed)
    assert samples == len(latents) * HOP
    assert len(given) == len(committed) >= 4 and len(given[0]) == 0
    position = 0
    for before, kept in zip(given, committed, strict=True):
        assert np.array_equal(before, latents[max(position - 12, 0) : position])
        position += len(kept)


@pytest.mark.parametrize(("start", "end"), [(3.0, 6.0), (0.0, 2.0), (9.0, None), (5.9, 6.05)])
def test_a_span_is_played_as_in_the_whole_piece(
    score: Score, bundle: Bundle, start: float, end: float | None
) -> None:
    """Same timing, dynamics and articulation; only where the audio begins differs."""
    whole, _ = rendering(score, bundle).notes()
    part, pedals = rendering(score, bundle, start_sec=start, end_sec=end).notes()
    onset = score.notes["onset_sec"]
    rows = (onset >= start - 1e-9) & (onset < (np.inf if end is None else end))
    assert 0 < rows.sum() < len(onset) and len(part) == rows.sum()
    for name in ("pitch", "velocity", "duration_sec"):
        assert np.array_equal(part[name], whole[rows][name])
    shift = whole[rows]["onset_sec"] - part["onset_sec"]
    assert np.ptp(shift) < 1e-9
    assert shift[0] == pytest.approx(round(shift[0] / FRAME) * FRAME, abs=1e-9)

    found = audio(score, bundle, start_sec=start, end_sec=end)
    assert len(pedals) and pedals["time_sec"][0] >= 0 and np.all(np.diff(pedals["time_sec"]) > 0)
    assert pedals["time_sec"][-1] < len(found) / 44100
    last = (part["onset_sec"] + part["duration_sec"]).max()
    assert len(found) == (int(np.ceil(last / FRAME)) + TAIL_FRAMES) * HOP
    assert LEAD_FRAMES - 2 <= part["onset_sec"].min() / FRAME <= LEAD_FRAMES + 2


def test_a_span_plays_no_other_notes(bundle: Bundle) -> None:
    """Sampler voice, so that notes can be told from the audio: silence before, and the span's level."""
    score = make_score(24)
    found = audio(score, bundle, voice="sampler", start_sec=3.0, end_sec=3.1)
    notes, _ = rendering(score, bundle, voice="sampler", start_sec=3.0, end_sec=3.1).notes()
    first = round(notes["onset_sec"].min() * 44100) - synth.BLOCK
    assert not found[:first].any() and level(found[first : first + 8820]) > -50


def test_without_expression_the_notes_are_deadpan(score: Score, bundle: Bundle) -> None:
    notes, _ = rendering(score, bundle, expressiveness=0.0).notes()
    late = notes["onset_sec"] - score.notes["onset_sec"]
    assert np.ptp(late) < 1e-6
    assert len(set(notes["velocity"].tolist())) == 1
    assert notes["duration_sec"] == pytest.approx(score.notes["duration_sec"], abs=1e-6)


def test_more_expression_goes_further_from_the_deadpan(score: Score, bundle: Bundle) -> None:
    def distance(amount: float) -> tuple[float, float]:
        notes, _ = rendering(score, bundle, expressiveness=amount).notes()
        late = notes["onset_sec"] - score.notes["onset_sec"]
        return float(np.ptp(late)), float(notes["velocity"].std())

    found = np.array([distance(amount) for amount in (0.0, 0.5, 1.0, 1.5)])
    assert np.all(np.diff(found, axis=0) > 0)


def test_tempo_two_halves_the_duration(score: Score, bundle: Bundle) -> None:
    for amount, tolerance in ((0.0, 1e-6), (1.0, 0.05)):
        spans = [
            np.ptp(rendering(score, bundle, tempo=tempo, expressiveness=amount).notes()[0]["onset_sec"])
            for tempo in (1.0, 2.0, 0.5)
        ]
        assert spans[0] / spans[1] == pytest.approx(2, rel=tolerance)
        assert spans[0] / spans[2] == pytest.approx(0.5, rel=tolerance)
    slow, fast = (len(audio(score, bundle, tempo=tempo, expressiveness=0.0)) for tempo in (1.0, 2.0))
    silence = (LEAD_FRAMES + TAIL_FRAMES) * HOP
    assert (slow - silence) / (fast - silence) == pytest.approx(2, rel=0.02)


def test_the_sampler_voice_plays_the_notes_it_reports(score: Score, bundle: Bundle) -> None:
    take = rendering(score, bundle, voice="sampler")
    found = np.concatenate(list(take.chunks()))
    events = synth.events_from_notes(*take.notes())
    spec = synth.SynthSpec(bundle.soundfont, bundle.manifest.synth.gain)
    expected = np.concatenate(list(synth.render(events, spec, len(found))))
    before_fade = len(found) - round(0.4 * 44100)
    assert np.array_equal(found[:before_fade], expected[:before_fade])
    assert level(found) > -40


@pytest.mark.parametrize("tempo", [-0.8, 0.8])
def test_notes_played_as_they_become_known_are_those_of_the_whole_take(bundle: Bundle, tempo: float) -> None:
    """Over many windows, with notes that last longer than a window, and asynchrony."""
    bent = with_curves(bundle, tempo=tempo, pedal=0.5)
    score = make_score(170)
    long = score.notes.copy()
    long["duration_sec"][::37], long["duration_tick"][::37] = 12.0, 12 * 1920
    take = rendering(replace(score, notes=long), bent, voice="sampler", reverb=0.4)
    parts = list(take.chunks())
    found = np.concatenate(parts)
    notes, pedals = take.notes()
    spec = synth.SynthSpec(bundle.soundfont, bundle.manifest.synth.gain, reverb=0.4)
    events = synth.events_from_notes(notes, pedals)
    expected = np.concatenate(list(synth.render(events, spec, len(found))))
    before_fade = len(found) - round(0.4 * 44100)
    assert len(parts) > 3 and np.array_equal(found[:before_fade], expected[:before_fade])


def test_voices_by_turns_are_the_voices_alone(score: Score, bundle: Bundle, take: np.ndarray) -> None:
    shared = rendering(score, bundle)
    streams = {voice: shared.chunks(None, None, voice) for voice in ("sampler", "neural", "deadpan")}
    made: dict[str, list[np.ndarray]] = {voice: [] for voice in streams}
    while streams:
        for voice, stream in list(streams.items()):
            chunk = next(stream, None)
            if chunk is None:
                del streams[voice]
            else:
                made[voice].append(chunk)
    assert np.array_equal(np.concatenate(made["neural"]), take)
    for voice in ("sampler", "deadpan"):
        assert np.array_equal(np.concatenate(made[voice]), audio(score, bundle, voice=voice))


def test_the_deadpan_voice_is_the_score(score: Score, bundle: Bundle) -> None:
    plain = rendering(score, bundle, voice="deadpan", tempo=1.25)
    notes, pedals = plain.notes()
    assert not len(pedals) and set(notes["velocity"].tolist()) == {64}
    assert np.allclose(np.diff(notes["onset_sec"]), np.diff(score.notes["onset_sec"]) / 1.25)
    assert np.allclose(notes["duration_sec"], score.notes["duration_sec"] / 1.25)
    found = np.concatenate(list(plain.chunks()))
    assert not plain.curve_source.committed  # no network is asked
    first = np.flatnonzero(np.abs(found[:, 0]) > 1e-3)[0] / 44100
    assert first == pytest.approx(notes["onset_sec"][0], abs=0.03)


def test_reverb_rings_on_and_stays_within_level(score: Score, bundle: Bundle) -> None:
    dry, wet = (audio(score, bundle, voice="sampler", reverb=amount) for amount in (0.0, 0.8))
    assert len(dry) == len(wet) and not np.array_equal(dry, wet)
    end = slice(len(dry) - 44100, len(dry) - 22050)
    assert level(wet[end]) > level(dry[end]) + 3
    assert abs(level(wet) - level(dry)) < 6
    assert np.array_equal(wet, audio(score, bundle, voice="sampler", reverb=0.8))
    with pytest.raises(InputError, match="reverb"):
        rendering(score, bundle, reverb=1.5)


def test_the_sampler_voice_plays_another_soundfont(score: Score, bundle: Bundle, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(b"nothing")
    with pytest.raises(InputError) as caught:
        audio(score, bundle, voice="sampler", soundfont=broken)
    assert caught.value.code == "synth.soundfont"


def test_a_span_starts_with_the_pedal_as_it_was(score: Score, bundle: Bundle) -> None:
    """The pedal goes down once, at the start of the piece; a span from the middle has it down too."""
    down = with_curves(bundle, pedal=1.0)
    _, pedals = rendering(score, down, start_sec=6.0).notes()
    assert pedals.tolist() == [(0.0, 127)]


@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_the_end_fades_to_silence(bundle: Bundle, voice: str) -> None:
    """A held, pedalled chord still rings at the end of the audio; it must not end in a click."""
    ringing = with_curves(bundle, pedal=1.0)
    found = audio(make_score(8, duration=2.0), ringing, voice=voice)[:, 0]
    assert abs(found[-1]) < 1e-5
    assert np.abs(found[-45:]).max() < 1e-4  # the last millisecond
    assert np.abs(found[-2 * 44100 :]).max() > 1e-4


# -- short, long and impossible ------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["neural", "sampler"])
def test_a_piece_of_one_note(bundle: Bundle, voice: str) -> None:
    notes = np.zeros(1, NOTE)
    notes["duration_sec"], notes["pitch"], notes["velocity"] = 0.02, 60, 64
    score = score_from_notes(notes)
    take = rendering(score, bundle, voice=voice)
    found = np.concatenate(list(take.chunks()))
    played, _ = take.notes()
    assert len(played) == 1 and played["pitch"][0] == 60
    assert len(found) == (int(np.ceil((played["onset_sec"] + played["duration_sec"])[0] / FRAME)) + 32) * HOP


def test_a_piece_that_starts_late_starts_at_its_first_note(bundle: Bundle) -> None:
    notes = np.zeros(2, NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"], notes["velocity"] = [60, 61], 0.5, [60, 64], 64
    found, _ = rendering(score_from_notes(notes), bundle).notes()
    assert found["onset_sec"].min() < 2 * LEAD_FRAMES * FRAME


def test_a_long_piece_takes_many_windows(bundle: Bundle) -> None:
    seen: list[Progress] = []
    take = rendering(make_score(220), bundle, steps=1)
    total = sum(len(chunk) for chunk in take.chunks(seen.append))
    notes, _ = take.notes()
    assert len(seen) > 20
    end = (notes["onset_sec"] + notes["duration_sec"]).max()
    assert total == (int(np.ceil(end / FRAME)) + TAIL_FRAMES) * HOP
    assert total / 44100 > 60


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"tempo": 0.2}, "settings.tempo"),
        ({"tempo": 4.01}, "settings.tempo"),
        ({"tempo": float("nan")}, "settings.tempo"),
        ({"expressiveness": -0.1}, "settings.expressiveness"),
        ({"expressiveness": 1.6}, "settings.expressiveness"),
        ({"guidance": 0.9}, "settings.guidance"),
        ({"temperature": -0.1}, "settings.temperature"),
        ({"steps": 0}, "settings.steps"),
        ({"steps": 129}, "settings.steps"),
        ({"voice": "choir"}, "settings.voice"),
        ({"start_sec": 100.0}, "settings.span"),
        ({"start_sec": 5.0, "end_sec": 5.0}, "settings.span"),
        ({"start_sec": 6.0, "end_sec": 3.0}, "settings.span"),
    ],
)
def test_impossible_settings_are_one_clear_error(
    score: Score, bundle: Bundle, options: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        rendering(score, bundle, **options)
    assert caught.value.code == code
    assert caught.value.message.endswith(".") and caught.value.hint.endswith(".")


# -- progress and cancel -----------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", ["neural", "sampler"])
@pytest.mark.parametrize("span", [{}, {"start_sec": 5.9, "end_sec": 6.05}])
def test_progress_rises_to_the_end(score: Score, bundle: Bundle, voice: str, span: dict[str, float]) -> None:
    seen: list[Progress] = []
    take = rendering(score, bundle, voice=voice, **span)
    total = sum(len(chunk) for chunk in take.chunks(seen.append))
    assert [p.window for p in seen] == list(range(1, len(seen) + 1))
    assert all(p.window <= p.windows and p.rendered_sec <= p.total_sec + 1e-9 for p in seen)
    for before, after in itertools.pairwise(seen):
        assert after.rendered_sec > before.rendered_sec and after.elapsed_sec >= before.elapsed_sec
    assert seen[-1].window == seen[-1].windows
    assert seen[-1].rendered_sec == pytest.approx(total / 44100)
    assert seen[-1].total_sec == pytest.approx(total / 44100)


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list of one number: network calls made so far."""
    calls = [0]
    original = Graph.__call__

    def counted(self: Graph, **inputs: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return original(self, **inputs)

    monkeypatch.setattr(Graph, "__call__", counted)
    return calls


@pytest.mark.parametrize("options", [{}, {"steps": 40}, {"start_sec": 60.0}, {"voice": "sampler"}], ids=str)
def test_cancel_is_honoured_between_network_calls(
    bundle: Bundle, count_calls: list[int], options: dict[str, object]
) -> None:
    """From whichever call on it is asked for: at most one more call begins (the one in between)."""
    score = make_score(240, step=0.27)

    def run(cancelled: Callable[[], bool] | None) -> None:
        take = rendering(score, bundle, **options)
        count_calls[0] = 0
        for _ in take.chunks(None, cancelled):
            pass

    for after in (0, 1, 2, 5, 12, 30):
        if after >= 12 and options.get("voice") == "sampler":
            continue  # all its network calls are made by then
        with pytest.raises(Cancelled):
            run(lambda limit=after: count_calls[0] >= limit)
        assert after <= count_calls[0] <= after + 1


def test_cancel_is_honoured_while_the_sampler_voice_plays(score: Score, bundle: Bundle) -> None:
    stop = [False]
    stream = rendering(score, bundle, voice="sampler").chunks(None, lambda: stop[0])
    next(stream)
    stop[0] = True
    with pytest.raises(Cancelled):
        next(stream)


def test_a_take_can_be_left_in_the_middle(score: Score, bundle: Bundle, take: np.ndarray) -> None:
    """Closing one rendering early leaves nothing behind that another would notice."""
    stream = rendering(score, bundle).chunks()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert np.array_equal(audio(score, bundle), take)


def test_curves_are_committed_only_as_far_as_needed(score: Score, bundle: Bundle) -> None:
    """Else the first sound of a long piece would wait for all of its curves."""
    take = rendering(make_score(240), bundle)
    next(take.chunks())
    assert take.curve_source.committed < 0.4 * take.deadpan.frames
    assert pc.TEMPO == 0 and take.curve_source.curves().shape == (take.curve_source.committed, 12)

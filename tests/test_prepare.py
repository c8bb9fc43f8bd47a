"""Preparing training data: a small pack in the format of the (n)ASAP pack becomes a cache."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import pytest

from pkontext.bundle import PACKAGE_DATA
from pkontext.curves import CHANNELS, TEMPO
from pkontext.deadpan import LEAD_FRAMES
from pkontext.features import METRE
from pkontext.synth import DEADPAN_VELOCITY
from pkontext.types import NOTE
from train import asap, pairs
from train.curves import CurveData
from train.latents import LatentData
from train.prepare import MAX_MEDIAN_ERROR_SEC, prepare

FRAME_SEC = 4096 / 44100
SOUNDFONT = PACKAGE_DATA / "FluidR3_piano.sf2"
Counts = dict[str, int]


@dataclass(frozen=True)
class Take:
    """One performance to invent: its match rate, and by how much its alignment file is wrong."""

    piece: str
    performer: str
    split: str = "train"
    match: float = 0.97
    notes: int = 48
    off_sec: float = 0.0


TAKES = (
    Take("Bach__One", "Ann01", match=0.95),
    Take("Bach__One", "Bob02", match=0.99),
    Take("Bach__One", "Cas03", match=0.70),  # too little of it is aligned
    Take("Bach__Two", "Ann01", off_sec=0.5),  # its alignment contradicts its audio
    Take("Bach__Short", "Ann01", notes=12),  # too short to judge
    Take("Bach__Held", "Ann01", split="val"),
)


def performed_sec(score_sec: np.ndarray) -> np.ndarray:
    """The invented performer starts at 0.7 s, is 15 % slower than the score, and sways."""
    return 0.7 + 1.15 * score_sec + 0.12 * np.sin(score_sec)


def write_midi(path: Path, notes: np.ndarray, pedals: list[tuple[float, int]]) -> None:
    """Write NOTE and pedal at 120 beats a minute, 960 ticks a second."""
    events = [(sec, 1, mido.Message("control_change", control=64, value=value)) for sec, value in pedals]
    for note in notes:
        key, end = int(note["pitch"]), float(note["onset_sec"] + note["duration_sec"])
        on = mido.Message("note_on", note=key, velocity=int(note["velocity"]))
        events += [(float(note["onset_sec"]), 2, on), (end, 0, mido.Message("note_on", note=key, velocity=0))]
    track, tick = mido.MidiTrack(), 0
    for sec, _, message in sorted(events, key=lambda event: event[:2]):
        at = round(sec * 960)
        track.append(message.copy(time=at - tick))
        tick = at
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """The takes as files: ``index.csv``, scores, performances, alignments."""
    root = tmp_path / "pack"
    rows = []
    for number, take in enumerate(TAKES):
        score = np.zeros(take.notes, NOTE)
        score["onset_sec"] = 0.5 + 0.25 * np.arange(take.notes)
        score["duration_sec"], score["velocity"] = 0.24, 80
        score["pitch"] = 40 + (np.arange(take.notes) * 17 + 5 * len(take.piece)) % 45
        played = score.copy()
        played["onset_sec"] = performed_sec(score["onset_sec"])
        played["duration_sec"] = 0.2
        played["velocity"] = 50 + 30 * np.sin(np.arange(take.notes) / 5 + number)
        wrong = np.array([(0.1, 0.1, 33, 40)], NOTE)  # a note that is in no score
        folder = root / take.piece
        write_midi(folder / "midi_score.mid", score, [])
        performance = np.concatenate([wrong, played])
        write_midi(folder / f"{take.performer}.mid", performance, [(0.0, 0), (2.0, 127), (3.0, 0)])
        flags = {name: np.zeros(take.notes, np.uint8) for name in ("grace", "voice", "staff")}
        flags["grace"][5] = 1
        np.savez(
            folder / f"{take.performer}.npz",
            score_onset=score["onset_sec"].astype("f4"),
            score_dur=score["duration_sec"].astype("f4"),
            perf_onset=(played["onset_sec"] + take.off_sec).astype("f4"),
            perf_dur=played["duration_sec"].astype("f4"),
            pitch=score["pitch"],
            score_vel=score["velocity"],
            perf_vel=played["velocity"],
            **flags,
        )
        end = float((played["onset_sec"] + played["duration_sec"]).max())
        rows.append(
            {
                "piece_id": take.piece,
                "composer": "Bach",
                "performer": take.performer,
                "split": take.split,
                "score": f"{take.piece}/midi_score.mid",
                "performance": f"{take.piece}/{take.performer}.mid",
                "alignment": f"{take.piece}/{take.performer}.npz",
                "perf_dur_s": f"{end:.3f}",
                "match_rate_perf": f"{take.match:.4f}",
            }
        )
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture
def run(pack: Path, toy_bundle: Path, tmp_path: Path) -> Callable[..., Counts]:
    """Prepare the pack into ``tmp_path / "cache"`` with the toy codec."""
    codec = toy_bundle.with_name(toy_bundle.name + "-codec")

    def call(**changes: object) -> Counts:
        return prepare(
            pack,
            tmp_path / "cache",
            **{"codec": codec, "soundfonts": [SOUNDFONT], "variations": 0, **changes},
        )  # type: ignore[arg-type]

    return call


def files(cache: Path) -> dict[str, int]:
    """Every file below a folder, with the time it was written."""
    return {str(path.relative_to(cache)): path.stat().st_mtime_ns for path in cache.rglob("*.*")}


# ---- reading the pack ---------------------------------------------------------------------------


def test_index_names_every_file(pack: Path) -> None:
    everything = asap.read_index(pack)
    assert [p.name for p in everything] == [f"{t.piece}--{t.performer}" for t in TAKES]
    assert all(file.is_file() for p in everything for file in (p.score, p.midi, p.alignment))
    (held,) = asap.read_index(pack, "val")
    assert (held.piece, held.split, held.composer, held.match_rate) == ("Bach__Held", "val", "Bach", 0.97)
    assert held.duration_sec == pytest.approx(performed_sec(np.array(0.5 + 0.25 * 47)) + 0.2, abs=1e-3)
    assert asap.read_index(pack, "test") == []


def test_best_matches_are_picked_first(pack: Path) -> None:
    train = asap.read_index(pack, "train")

    def names(per_piece: int, skip: int = 0) -> list[str]:
        return [p.performer for p in asap.pick(train, per_piece, skip) if p.piece == "Bach__One"]

    assert names(1) == ["Bob02"] and names(2) == ["Bob02", "Ann01"] and names(9, skip=1) == ["Ann01", "Cas03"]
    assert [p.performer for p in pairs.index(pack, "train", 9) if p.piece == "Bach__One"] == [
        "Bob02",
        "Ann01",
    ]


def test_notes_and_pedal_of_a_performance(pack: Path) -> None:
    (held,) = asap.read_index(pack, "val")
    notes, pedals = asap.read_midi_notes(held.midi)
    assert len(notes) == 49 and notes["pitch"][0] == 33
    np.testing.assert_allclose(notes["onset_sec"][1:], performed_sec(0.5 + 0.25 * np.arange(48)), atol=1e-3)
    np.testing.assert_allclose(notes["duration_sec"][1:], 0.2, atol=2e-3)
    assert pedals["value"].tolist() == [0, 127, 0]
    np.testing.assert_allclose(pedals["time_sec"], [0, 2, 3], atol=1e-3)
    aligned = asap.read_pairs(held.alignment)
    assert aligned["score_onset"].dtype == np.float32 and aligned["grace"].sum() == 1


def test_pair_starts_together_and_lasts_equally_long(pack: Path) -> None:
    (held,) = asap.read_index(pack, "val")
    pair = pairs.load_pair(held, FRAME_SEC, jitter=False)
    deadpan, performed = pair.aligned_deadpan["onset_sec"], pair.aligned_performed["onset_sec"]
    assert deadpan[0] == pytest.approx(LEAD_FRAMES * FRAME_SEC) == performed[0]
    assert deadpan[-1] == pytest.approx(performed[-1], abs=1e-4)
    assert len(deadpan) == 47, "grace notes have no place of their own"
    assert set(pair.deadpan.notes["velocity"]) == {DEADPAN_VELOCITY}
    np.testing.assert_allclose(np.delete(pair.deadpan.notes["onset_sec"], 5), deadpan, atol=1e-4)
    np.testing.assert_allclose(np.delete(pair.notes["onset_sec"], 5)[-40:], performed[-40:], atol=2e-3)
    assert 33 not in pair.notes["pitch"], "what was played before the lead is cut"
    assert pair.curves.shape == (pair.deadpan.frames, len(CHANNELS))
    assert abs(pair.curves[:100, TEMPO].mean()) < 0.05 and np.ptp(pair.curves[:, TEMPO]) > 0.1


def test_tempo_jitter_depends_on_the_name_alone(pack: Path) -> None:
    two = [p for p in asap.read_index(pack, "train") if p.piece == "Bach__One"][:2]
    tempi = [[pairs.load_pair(p, FRAME_SEC).deadpan.tempo for p in two] for _ in range(2)]
    plain = pairs.load_pair(two[0], FRAME_SEC, jitter=False).deadpan.tempo
    assert tempi[0] == tempi[1] and tempi[0][0] != tempi[0][1]
    assert all(0.75 < tempo / plain < 1.3 for tempo in tempi[0])


def test_a_variation_is_the_same_performance_at_another_pace(pack: Path) -> None:
    (held,) = asap.read_index(pack, "val")
    plain = pairs.load_pair(held, FRAME_SEC, jitter=False)
    varied = [pairs.load_pair(held, FRAME_SEC, jitter=False, variation=v) for v in (1, 2, 1)]
    pace = [np.ptp(v.notes["onset_sec"]) / np.ptp(plain.notes["onset_sec"]) for v in varied]
    assert pace[0] == pace[2] and len({1.0, *np.round(pace, 4)}) == 3
    assert np.ptp(varied[0].aligned_deadpan["onset_sec"]) == pytest.approx(
        pace[0] * np.ptp(plain.aligned_deadpan["onset_sec"])
    )
    np.testing.assert_allclose(
        varied[0].notes["duration_sec"], pace[0] * plain.notes["duration_sec"], rtol=0.01
    )
    assert varied[0].curves[:, TEMPO].std() == pytest.approx(plain.curves[:, TEMPO].std(), rel=0.15)
    np.testing.assert_array_equal(varied[0].deadpan.written, plain.deadpan.written)


# ---- the cache ----------------------------------------------------------------------------------


def test_prepared_files_hold_what_training_reads(run: Callable[..., Counts], tmp_path: Path) -> None:
    counts = run()
    # Curves of 5 performances; latents of the best of each piece, 2 of which cannot be aligned.
    assert counts == {"written": 5 + 2, "found": 0, "left out": 2}
    cache = tmp_path / "cache"
    assert {name.rsplit(".", 2)[0] for name in files(cache)} == {
        "curves/train/Bach__One--Ann01",
        "curves/train/Bach__One--Bob02",
        "curves/train/Bach__Two--Ann01",
        "curves/train/Bach__Short--Ann01",
        "curves/val/Bach__Held--Ann01",
        "latents/train/Bach__One--Bob02",
        "latents/val/Bach__Held--Ann01",
    }
    (file,) = (cache / "latents" / "val").iterdir()
    with np.load(file, allow_pickle=False) as archive:
        item = dict(archive)
    frames = len(item["latents"])
    assert frames == pytest.approx(performed_sec(np.array(12.0)) / FRAME_SEC + 32, abs=20)
    assert item["latents"].dtype == item["deadpan_latents"].dtype == np.float16
    assert item["latents"].shape[1] == item["deadpan_latents"].shape[1] == 32
    assert item["position"].shape == (frames,) and (np.diff(item["position"]) >= 0).all()
    assert np.median(item["dtw_error_sec"]) < 0.03  # 0.018 measured
    assert len(item["notes"]) == len(item["end_sec"]) and (item["notes"]["onset_sec"] >= 0).all()
    assert item["metre"].shape == (len(item["curves"]), METRE)

    data = LatentData(cache / "latents" / "train", FRAME_SEC)
    assert data.window(0, 10, 48)["context"].any()
    assert len(CurveData(cache / "curves" / "train", FRAME_SEC).curves) == 4


def test_variations_are_of_training_performances_alone(run: Callable[..., Counts], tmp_path: Path) -> None:
    counts = run(latents_per_piece=0, variations=2)
    assert counts == {"written": 4 * 3 + 1, "found": 0, "left out": 0}
    names = {name.rsplit(".", 2)[0] for name in files(tmp_path / "cache")}
    assert {"curves/train/Bach__One--Ann01", "curves/train/Bach__One--Ann01 2"} < names
    assert run(latents_per_piece=0, variations=2)["found"] == 13
    lengths = [len(curves) for curves in CurveData(tmp_path / "cache" / "curves" / "train", FRAME_SEC).curves]
    assert len(lengths) == 12 and len(set(lengths)) > 8


def test_latent_variations_are_transposed_and_slower_or_faster(
    run: Callable[..., Counts], tmp_path: Path
) -> None:
    assert run(curves=False, latent_variations=1) == {"written": 3, "found": 0, "left out": 4}
    folder = tmp_path / "cache" / "latents" / "train"
    with (
        np.load(next(folder.glob("Bach__One--Bob02.*"))) as plain,
        np.load(next(folder.glob("* 1.*"))) as varied,
    ):
        steps = varied["notes"]["pitch"].astype(int) - plain["notes"]["pitch"]
        assert len(set(steps.tolist())) == 1 and 0 < abs(steps[0]) <= 4
        assert np.ptp(varied["notes"]["onset_sec"]) != pytest.approx(
            np.ptp(plain["notes"]["onset_sec"]), rel=0.01
        )
        assert np.median(varied["dtw_error_sec"]) < 0.03
        assert not np.allclose(varied["latents"][20:40], plain["latents"][20:40], atol=0.5)


def test_second_run_writes_nothing_and_an_interrupted_one_goes_on(
    run: Callable[..., Counts], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    run()
    before = files(cache)
    assert run() == {"written": 0, "found": 7, "left out": 2} and files(cache) == before
    lost = [name for name in before if "Bach__Held" in name]
    for name in lost:
        (cache / name).unlink()
    (cache / "curves" / "val").mkdir(exist_ok=True)
    part = cache / "curves" / "val" / "Bach__Held--Ann01.0000.99.part"
    part.write_bytes(b"half a file")  # what a killed run leaves
    assert run() == {"written": 2, "found": 5, "left out": 2}
    after = files(cache)
    assert {k: v for k, v in after.items() if k not in lost and "part" not in k} == {
        k: v for k, v in before.items() if k not in lost
    }
    assert len(CurveData(cache / "curves" / "val", FRAME_SEC).curves) == 1


def test_changed_inputs_are_prepared_again(run: Callable[..., Counts], pack: Path, tmp_path: Path) -> None:
    run(splits=("val",))
    midi = pack / "Bach__Held" / "Ann01.mid"
    midi.write_bytes(midi.read_bytes() + b"junk\0\0\0\0")
    assert run(splits=("val",)) == {"written": 2, "found": 0, "left out": 0}
    # Seconds to render belong to the latents' recipe and not to the curves'.
    assert run(splits=("val",), seconds=8.0) == {"written": 1, "found": 1, "left out": 0}
    newest = max((tmp_path / "cache" / "latents" / "val").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    with np.load(newest) as archive:
        assert len(archive["latents"]) < (8.0 / FRAME_SEC) + 33


def test_outdated_files_are_not_read(run: Callable[..., Counts], pack: Path, tmp_path: Path) -> None:
    run(splits=("val",))
    midi = pack / "Bach__Held" / "Ann01.mid"
    midi.write_bytes(midi.read_bytes() + b"junk\0\0\0\0")
    run(splits=("val",))
    assert len(LatentData(tmp_path / "cache" / "latents" / "val", FRAME_SEC).items) == 1


def test_what_to_prepare_can_be_chosen(run: Callable[..., Counts], tmp_path: Path) -> None:
    assert run(splits=("train",), curves=False, skip=1)["written"] == 1
    (only,) = files(tmp_path / "cache")
    assert only.startswith(os.path.join("latents", "train", "Bach__One--Ann01"))


def test_rule_for_leaving_out(run: Callable[..., Counts], pack: Path, tmp_path: Path) -> None:
    """An alignment that is a little off is kept, one beyond the limit is not."""
    file = pack / "Bach__Held" / "Ann01.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    for off, written in ((0.4 * MAX_MEDIAN_ERROR_SEC, 1), (2 * MAX_MEDIAN_ERROR_SEC, 0)):
        np.savez(file, **{**arrays, "perf_onset": arrays["perf_onset"] + np.float32(off)})
        counts = run(splits=("val",), curves=False)
        assert (counts["written"], counts["left out"]) == (written, 1 - written)

"""The codec's evaluation runs every system on the same audio; exported graphs, no trained weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.codec import export_codec
from pkontext.bundle import PACKAGE_DATA
from pkontext.stft import StftSpec
from train import evaluate_codec as task
from train.codec import CropBatches, save_calibrated
from train.codec_metrics import spectral_distance
from train.codec_model import Codec, CodecConfig

TINY = CodecConfig(
    width=48, latent_width=64, dim=32, encoder_blocks=(0, 0), decoder_blocks=(0, 1), expansion=1
)


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """Four seconds of isolated notes, int16."""
    return (task.isolated_notes(PACKAGE_DATA / "FluidR3_piano.sf2")[0][: 4 * 44100] * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory, audio: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("codec")
    torch.manual_seed(0)
    model = Codec(TINY)
    batches = [next(CropBatches(audio[None], 4, 8, StftSpec(), 0)) for _ in range(2)]
    model.init_pca(torch.cat(batches))
    model.calibrate(batches)
    save_calibrated(model, folder)
    (folder / "config.json").write_text(json.dumps({"codec": TINY.to_dict()}))
    export_codec(model.eval(), folder)
    return folder


def test_every_system_returns_the_length_it_was_given(codec: Path, audio: np.ndarray) -> None:
    job = task.Job(audio, codec, codec, None, notes=False, seed=1)
    original = audio.astype(np.float32) / 32767
    decoded = dict(task.decoded_by_all(original, job))
    assert list(decoded) == ["phase", "pca", "ours", "noise10", "noise20"]
    assert all(sound.shape == original.shape and np.isfinite(sound).all() for sound in decoded.values())
    assert not np.array_equal(decoded["noise10"], decoded["ours"])
    # The block beside the linear path starts as identity, so PCA and codec agree, up to phase and rounding.
    apart = spectral_distance(decoded["pca"], decoded["ours"])
    assert apart < 0.22 * spectral_distance(original, decoded["ours"]), apart  # 0.203 measured, with int8


def test_rows_rank_the_systems_as_they_should(codec: Path, audio: np.ndarray) -> None:
    rows = task.measure_excerpt(task.Job(audio, codec, codec, None, notes=False, seed=1))
    assert rows["phase"]["lsd_db"] < rows["ours"]["lsd_db"] < rows["noise20"]["lsd_db"]
    assert "f1" not in rows["ours"]


def test_sentences_hold_what_was_measured(codec: Path) -> None:
    assert "decode to -" in task.silence_line(codec)
    line = task.attacks_line(codec, PACKAGE_DATA / "FluidR3_piano.sf2")
    assert "24 isolated notes of FluidR3_piano" in line and "exact magnitudes -9" in line
    speed = task.speed_line(codec, np.zeros(44100, np.int16))
    assert "encodes" in speed and "decodes" in speed and "4 s of audio" in speed

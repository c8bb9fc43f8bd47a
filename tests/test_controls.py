"""The measures of the controls, on a toy bundle: what they report is what the takes do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pkontext.bundle import open_bundle
from pkontext.score import score_from_notes
from pkontext.types import NOTE
from train import controls


@pytest.fixture(scope="module")
def row(toy_bundle: Path) -> dict[str, list[float]]:
    notes = np.zeros(60, NOTE)
    notes["onset_sec"], notes["duration_sec"], notes["velocity"] = np.arange(60) * 0.4, 0.35, 64
    notes["pitch"] = 40 + np.arange(60) * 7 % 40
    return controls.measure(score_from_notes(notes), open_bundle(toy_bundle), 1.0)


def test_takes_keep_the_tempo_they_are_asked_for(row: dict[str, list[float]]) -> None:
    assert len(row["length"]) == len(controls.TEMPI)
    assert max(abs(length - 1) for length in row["length"]) < 0.02


def test_nothing_moves_without_expression_and_more_moves_with_more(row: dict[str, list[float]]) -> None:
    assert row["timing"][0] < 1e-6 and row["tempo_std"][0] == row["velocity_std"][0] == 0
    assert (np.diff(row["tempo_std"]) > 0).all()
    assert row["tempo_std"][-1] == pytest.approx(1.5 * row["tempo_std"][4], rel=0.1)
    assert max(map(abs, row["seeds"])) < 0.999


def test_the_report_counts_what_rises(row: dict[str, list[float]]) -> None:
    falling = {**row, "velocity_std": row["velocity_std"][::-1], "length": [1.1] * len(controls.TEMPI)}
    lines = "\n".join(controls.report([row, falling]))
    assert "Strictly rising in 2 (tempo)" in lines and " of 2 pieces" in lines
    assert "| 1.100 |" in lines.replace("1.10 |", "1.100 |") and "| 150 % |" in lines

"""The transport bar: what it commands, what it shows, and the take that a changed setting makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtCore import Qt
from pytestqt.qtbot import QtBot

from gui.client import PlayerClient
from gui.document import Document
from gui.level_meter import HOLD_SEC, LOWEST_DB, LevelMeter
from gui.theme import theme
from gui.timeline import Timeline
from gui.transport_bar import TransportBar
from pkontext.output import NullOutput
from pkontext.score import load_score
from tests.conftest import write_midi

WAIT = 20_000


@pytest.fixture
def bar(qtbot: QtBot, toy_bundle: Path, tmp_path: Path) -> Iterator[TransportBar]:
    """A bar with a piece of twelve seconds and its first take rendered."""
    before = set(threading.enumerate())
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    document, timeline = Document(client), Timeline()
    made = TransportBar(document, client, timeline)
    made.client, made.document, made.timeline = client, document, timeline  # type: ignore[attr-defined]
    qtbot.addWidget(made)
    made.show()
    score = load_score(write_midi(tmp_path / "piece.mid", [(60 + step % 12, 480) for step in range(24)]))
    document.set_score(score)
    timeline.set_duration(score.duration_sec)
    qtbot.waitUntil(lambda: rendered(document), timeout=WAIT)
    yield made
    client.close()
    qtbot.waitUntil(lambda: not set(threading.enumerate()) - before, timeout=WAIT)


def rendered(document: Document) -> bool:
    """Whether the current take is rendered in the voice in use."""
    live = document.live()
    return live is not None and live.audio[document.voice].done


def test_playing_shows_place_level_and_a_pause_button(qtbot: QtBot, bar: TransportBar) -> None:
    assert bar.play_button.accessibleName() == "Play"
    qtbot.mouseClick(bar.play_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bar.play_button.accessibleName() == "Pause", timeout=WAIT)
    assert bar.play_button.icon_name == "pause"
    qtbot.waitUntil(lambda: bar.place.text() == "bar 1 · beat 3", timeout=WAIT)
    assert bar.clock.text().startswith("0:0") and "/ 0:1" in bar.clock.text()
    assert bar.meter.held_db > LOWEST_DB
    assert bar.state.text() == "Rendered" and bar.progress.value() == 1000
    assert bar.dropouts.text() == "○ no dropouts"
    qtbot.mouseClick(bar.stop_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bar.client.status.deck.state == "stopped", timeout=WAIT)
    qtbot.waitUntil(lambda: bar.place.text() == "bar 1 · beat 1", timeout=WAIT)
    assert bar.play_button.accessibleName() == "Play"


def test_return_clicks_a_button(qtbot: QtBot, bar: TransportBar) -> None:
    bar.client.seek(4.0)
    qtbot.waitUntil(lambda: bar.client.status.deck.score_sec > 3.9, timeout=WAIT)
    qtbot.keyClick(bar.home_button, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: bar.client.status.deck.score_sec < 0.1, timeout=WAIT)


def test_a_loop_needs_a_selection(qtbot: QtBot, bar: TransportBar) -> None:
    with qtbot.waitSignal(bar.message) as said:
        bar.toggle_loop()
    assert "Drag over some bars" in said.args[0] and not bar.loop_button.isChecked()
    bar.timeline.select((2.0, 4.0))
    with qtbot.waitSignal(bar.loop_changed) as looped:
        bar.toggle_loop()
    assert looped.args[0] == (2.0, 4.0)
    player = bar.client.player
    qtbot.waitUntil(lambda: player.call(lambda p: p.deck.span) == (2.0, 4.0), timeout=WAIT)
    bar.timeline.select((5.0, 6.0))
    qtbot.waitUntil(lambda: player.call(lambda p: p.deck.span) == (5.0, 6.0), timeout=WAIT)
    bar.toggle_loop()
    qtbot.waitUntil(lambda: player.call(lambda p: p.deck.span) is None, timeout=WAIT)


def test_comparing_goes_to_the_score_and_back_to_the_voice_before(qtbot: QtBot, bar: TransportBar) -> None:
    bar.voice.setCurrentIndex(bar.voice.findData("sampler"))
    bar.voice.activated.emit(bar.voice.currentIndex())
    assert bar.document.voice == "sampler"
    bar.compare()
    assert bar.document.voice == "deadpan" and bar.deadpan_button.isChecked()
    qtbot.waitUntil(lambda: bar.client.status.deck.voice == "deadpan", timeout=WAIT)
    qtbot.waitUntil(lambda: bar.deadpan_button.font().bold(), timeout=WAIT)
    assert not bar.performance_button.font().bold()
    bar.compare()
    assert bar.document.voice == "sampler" and bar.performance_button.isChecked()


def test_a_setting_that_stays_makes_one_take(qtbot: QtBot, bar: TransportBar) -> None:
    row = bar.settings_row
    for value in (0.95, 0.9, 0.85):
        row.tempo.setValue(value)
    row.expressiveness.setValue(row.expressiveness.maximum())
    assert row.coming.text() == "A new take follows..."
    assert len(bar.document.takes) == 1
    qtbot.waitUntil(lambda: len(bar.document.takes) == 2, timeout=WAIT)
    settings = bar.document.current.settings
    assert (settings.tempo, settings.expressiveness, settings.seed) == (0.85, 1.5, 0)
    qtbot.wait(600)
    assert len(bar.document.takes) == 2 and row.coming.text() == ""


def test_settings_of_a_take_that_is_there_choose_it(qtbot: QtBot, bar: TransportBar) -> None:
    row, document = bar.settings_row, bar.document
    first = document.current
    row.seed.setValue(5)
    qtbot.waitUntil(lambda: len(document.takes) == 2, timeout=WAIT)
    row.seed.setValue(0)
    qtbot.waitUntil(lambda: document.current is first, timeout=WAIT)
    assert len(document.takes) == 2


def test_the_dice_change_the_seed(qtbot: QtBot, bar: TransportBar) -> None:
    row = bar.settings_row
    qtbot.mouseClick(row.dice, Qt.MouseButton.LeftButton)
    assert row.seed.value() == bar.document.settings.seed != 0


def test_texts_are_those_of_the_parameters(bar: TransportBar) -> None:
    row = bar.settings_row
    assert row.tempo.text() == "100 %" and row.quality.text() == "Standard"
    assert row.bpm.text() == "♩ = 120"
    row.tempo.lineEdit().setText("50 %")
    row.tempo.interpretText()
    assert row.tempo.value() == 0.5 and row.bpm.text() == "♩ = 60"
    row.tempo.lineEdit().setText("rubbish")
    row.tempo.interpretText()
    assert row.tempo.value() == 0.5 and row.tempo.text() == "50 %"
    row.quality.setValue(8)
    assert bar.document.settings.steps == 8
    row.quality.setValue(0)
    assert bar.document.settings.steps is None


def test_a_setting_that_does_not_fit_is_an_error_and_no_take(qtbot: QtBot, bar: TransportBar) -> None:
    document = bar.document
    first, rerolled = document.current, document.reroll(2.0, 3.1, 7)
    document.choose(first)
    document.choose(rerolled)
    with qtbot.waitSignal(bar.failed, timeout=WAIT) as failed:
        bar.settings_row.tempo.setValue(2.0)  # the range lasts less than a second then
    assert failed.args[0].code == "settings.reroll"
    assert len(document.takes) == 2


def test_the_volume_is_heard_and_makes_no_take(qtbot: QtBot, bar: TransportBar) -> None:
    bar.volume.setValue(bar.volume.minimum())
    assert bar.volume_text.text() == "silent"
    qtbot.waitUntil(lambda: bar.client.player.call(lambda p: p.get("volume")) == -60.0, timeout=WAIT)
    qtbot.wait(500)
    assert len(bar.document.takes) == 1


def test_waiting_and_dropouts_are_said_in_words(qtbot: QtBot, bar: TransportBar) -> None:
    status = bar.client.status
    waiting = replace(status, underruns=3, deck=replace(status.deck, state="waiting", wait_sec=3.2))
    bar.client.status_changed.emit(waiting)
    assert bar.state.text() == "Starts in 3 s"
    assert bar.dropouts.text() == "▲ 3 dropouts"
    assert bar.play_button.accessibleName() == "Pause"


def test_every_control_has_a_name_and_can_be_reached(bar: TransportBar) -> None:
    row = bar.settings_row
    for control in (
        *(bar.home_button, bar.play_button, bar.stop_button, bar.loop_button, bar.voice, bar.volume),
        *(bar.performance_button, bar.deadpan_button),
        *(row.tempo, row.seed, row.dice, row.expressiveness, row.quality),
    ):
        assert control.accessibleName() and control.toolTip()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus
    for shown in (bar.place, bar.clock, bar.state, bar.progress, bar.meter, bar.dropouts):
        assert shown.accessibleName()


def test_a_narrow_window_gets_the_compact_form(bar: TransportBar) -> None:
    assert bar.minimumSizeHint().width() < 900
    bar._use_form(True)
    assert bar.performance_button.text() == "A" and bar.volume_text.isHidden()
    bar._use_form(False)
    assert "Performance" in bar.performance_button.text() and not bar.volume_text.isHidden()


@pytest.mark.parametrize("name", ["light", "dark"])
def test_it_paints_in_both_themes(qtbot: QtBot, bar: TransportBar, name: str) -> None:
    theme.use(name)

    def shown() -> bool:
        return bar.grab().toImage().pixelColor(2, 2).name() == theme.colours.window.name()

    qtbot.waitUntil(shown, timeout=WAIT)
    bar._show_dropouts(2)
    assert theme.colours.warning.name() in bar.dropouts.styleSheet()
    theme.use("system")


def test_the_meter_holds_and_falls(qtbot: QtBot) -> None:
    now = [0.0]
    meter = LevelMeter(clock=lambda: now[0])
    qtbot.addWidget(meter)
    meter.set_level(0.5)
    assert meter.held_db == pytest.approx(-6.02, abs=0.01) and meter.text() == "−6 dB"
    now[0] = HOLD_SEC - 0.1
    meter.set_level(0.01)
    assert meter.held_db == pytest.approx(-6.02, abs=0.01) and meter.level_db == pytest.approx(-40)
    now[0] = HOLD_SEC + 0.5
    meter.set_level(0.01)
    assert meter.held_db < -10
    meter.set_level(1.2)
    assert meter.text() == "clipped"
    meter.mousePressEvent(None)
    assert not meter.clipped

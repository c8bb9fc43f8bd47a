"""The live panel with real ports: recordings are kept, become scores, and survive failures and crashes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import mido
import numpy as np
import pytest
from PyQt6.QtCore import QPointF, Qt
from PyQt6.QtGui import QMouseEvent

from gui.client import PlayerClient
from gui.document import Document
from gui.live_cards import VIRTUAL, clock
from gui.live_link import CLOSED, OPEN, SavedTake
from gui.live_panel import LivePanel
from gui.preferences_store import Preferences
from gui.quantise_panel import QuantisePanel
from gui.quantise_view import first_beat, written_sec
from gui.recovery_banner import duration_text
from pkontext.captured import CONTROL_EVENT, Captured
from pkontext.journal import journal_folder, recover
from pkontext.output import NullOutput
from pkontext.quantise import QuantiseSettings, describe, quantise
from pkontext.types import NOTE, PEDAL
from tests.live_midi import keyboard, midi_server, run_child

CHORD = (60, 64, 67)


@pytest.fixture
def document(qtbot, toy_bundle):
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    made = Document(client)
    qtbot.waitUntil(lambda: client.bundle is not None, timeout=20_000)
    yield made
    client.close()


@pytest.fixture
def make_panel(qtbot, document, tmp_path):
    made = []

    def make(**more) -> LivePanel:
        store = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
        panel = LivePanel(document, document.client, store=store, **more)
        qtbot.addWidget(panel)
        panel.resize(380, 800)
        panel.show()
        made.append(panel)
        return panel

    yield make
    for panel in made:
        panel.close_session()


def played(beats: int = 32, bpm: float = 100.0, beats_per_bar: int = 4) -> Captured:
    """A melody over a bass note on each first beat, played with small errors, as if by a person."""
    rng = np.random.default_rng(3)
    second = 60.0 / bpm
    rows = []
    for beat in range(beats):
        for half in (0.0, 0.5):
            rows.append((second * (beat + half), 0.45 * second, 72 + (beat * 2 + int(2 * half)) % 5, 70))
        if beat % beats_per_bar == 0:
            rows.append((second * beat, beats_per_bar * second * 0.95, 43, 80))
    notes = np.array(rows, NOTE)
    notes["onset_sec"] = np.maximum(notes["onset_sec"] + 0.5 + rng.normal(0, 0.008, len(notes)), 0)
    notes.sort(order=["onset_sec", "pitch"])
    return Captured(notes, np.zeros(0, PEDAL), np.zeros(0, CONTROL_EVENT), time.time(), beats * second + 1.0)


def strike(send, keys=CHORD, wait: float = 0.02) -> None:
    for key in keys:
        send((0x90, key, 70))
        time.sleep(wait)
    for key in keys:
        send((0x80, key, 0))


# ---- with a keyboard --------------------------------------------------------------------------------------


def test_a_recording_is_saved_becomes_a_score_and_is_performed(qtbot, make_panel, document) -> None:
    with midi_server(), keyboard(client="Stage piano") as send:
        threads = threading.active_count()
        panel = make_panel()
        card = panel.keyboard
        qtbot.waitUntil(lambda: card.port.findText("Stage piano:out") == 0, timeout=10_000)
        assert card.port.itemData(card.port.count() - 1) == VIRTUAL
        panel.recorder.record.click()  # listens by itself
        qtbot.waitUntil(lambda: panel.link.recording, timeout=10_000)
        assert "Stop" in panel.recorder.record.text() and not card.port.isEnabled()
        qtbot.wait(400)
        for key in CHORD:
            send((0x90, key, 70))
        qtbot.waitUntil(lambda: "C4 E4 G4" in panel.recorder.counts.text(), timeout=5000)
        assert "3" in panel.recorder.counts.text() and panel.recorder.elapsed.text() != "0:00.0"
        assert panel.recorder.keys.accessibleDescription() == "C4 E4 G4"
        assert "Stage piano" in card.state.text()
        strike(send)
        with qtbot.waitSignal(panel.quantise.quantised, timeout=60_000):
            panel.toggle_record()
        path = panel.quantise.take.path
        assert path.parent == panel.link.folder and str(path) in panel.quantise.where.text()
        before = path.read_bytes()
        strikes = [m for m in mido.MidiFile(path) if m.type == "note_on" and m.velocity]
        assert len(strikes) == 6
        panel.quantise.title.setText("My phrase")
        with qtbot.waitSignal(panel.performed):
            panel.quantise.perform_button.click()
        assert document.title == "My phrase" and len(document.score.notes) == len(
            panel.quantise.result.score.notes
        )
        assert document.current is not None and path.read_bytes() == before
        panel.close_session()
        assert panel.link.state == CLOSED and recover() == []
        assert not [
            t for t in threading.enumerate() if t.name.startswith(("pkontext-listener", "pkontext-ports"))
        ]
        assert threading.active_count() <= threads + 2


def test_what_was_just_played_can_be_kept_without_recording(qtbot, make_panel) -> None:
    with midi_server(), keyboard(client="kbd") as send:
        panel = make_panel()
        qtbot.waitUntil(lambda: panel.keyboard.port.findText("kbd:out") == 0, timeout=10_000)
        panel.keyboard.listen.click()
        qtbot.waitUntil(lambda: panel.link.state == OPEN, timeout=10_000)
        assert not panel.recorder.keep.isEnabled()
        qtbot.wait(400)
        strike(send)
        qtbot.waitUntil(panel.recorder.keep.isEnabled, timeout=5000)
        with qtbot.waitSignal(panel.link.captured, timeout=20_000) as kept:
            panel.recorder.keep.click()
        assert kept.args[0].captured.notes["pitch"].tolist() == list(CHORD) and kept.args[0].path.is_file()
        panel.keyboard.monitor.setChecked(False)
        assert panel.link.session.monitor.status().muted
        panel.keyboard.volume.setValue(50)
        assert panel.link.session.monitor.status().volume == 0.5
        panel.keyboard.listen.click()
        qtbot.waitUntil(lambda: panel.link.state == CLOSED, timeout=10_000)
        assert panel.keyboard.listen.text().replace("&", "") == "Listen"


def test_an_instrument_that_is_unplugged_is_missed_and_comes_back(qtbot, make_panel) -> None:
    with midi_server():
        panel = make_panel()
        with keyboard(client="kbd"):
            panel.link.list_ports()
            qtbot.waitUntil(lambda: panel.keyboard.port.findText("kbd:out") == 0, timeout=10_000)
            panel.listen()
            qtbot.waitUntil(lambda: panel.link.state == OPEN, timeout=10_000)
        qtbot.waitUntil(lambda: "is gone" in panel.keyboard.state.text(), timeout=10_000)
        with keyboard(client="kbd"):
            qtbot.waitUntil(lambda: "Listening to kbd" in panel.keyboard.state.text(), timeout=10_000)


def test_a_metronome_gives_the_score_its_tempo_and_bars(qtbot, make_panel) -> None:
    with midi_server(), keyboard(client="kbd") as send:
        panel = make_panel()
        panel.recorder.metronome.setChecked(True)
        panel.recorder.bpm.setValue(240)
        panel.recorder.beats.setValue(3)
        panel.recorder.count_in.setValue(1)
        assert panel.store.get("metronome_bpm") == 240 and panel.store.get("metronome")
        qtbot.waitUntil(lambda: panel.keyboard.port.findText("kbd:out") == 0, timeout=10_000)
        panel.toggle_record()
        qtbot.waitUntil(lambda: panel.link.recording, timeout=10_000)
        assert panel.recorder.elapsed.text().startswith("in ")
        qtbot.waitUntil(lambda: panel.recorder.elapsed.text().startswith("0:0"), timeout=5000)
        for _ in range(6):
            strike(send, (60,), 0.24)
        with qtbot.waitSignal(panel.quantise.quantised, timeout=60_000):
            panel.toggle_record()
        result = panel.quantise.result
        assert result.tempo_bpm == pytest.approx(240) and int(result.score.meters[0]["numerator"]) == 3
        assert panel.quantise.tempo.value() == 240 and panel.quantise.beats.currentData() == 3


def test_closing_the_window_while_recording_saves_the_take(qtbot, make_panel) -> None:
    with midi_server(), keyboard(client="kbd") as send:
        panel = make_panel()
        qtbot.waitUntil(lambda: panel.keyboard.port.findText("kbd:out") == 0, timeout=10_000)
        panel.toggle_record()
        qtbot.waitUntil(lambda: panel.link.recording, timeout=10_000)
        qtbot.wait(400)
        strike(send)
        qtbot.waitUntil(lambda: panel.link.status().recorder.notes == 3, timeout=5000)
        panel.close_session()
        (path,) = panel.link.folder.glob("*.mid")
        assert [m.note for m in mido.MidiFile(path) if m.type == "note_on"] == list(CHORD)
        assert recover() == []


def test_a_recording_that_cannot_be_saved_stays_in_the_window_and_in_the_journal(
    qtbot, make_panel, tmp_path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with midi_server(), keyboard(client="kbd") as send:
        panel = make_panel(folder=tmp_path / "file" / "recordings")
        qtbot.waitUntil(lambda: panel.keyboard.port.findText("kbd:out") == 0, timeout=10_000)
        panel.toggle_record()
        qtbot.waitUntil(lambda: panel.link.recording, timeout=10_000)
        qtbot.wait(400)
        strike(send)
        with qtbot.waitSignal(panel.failed, timeout=20_000) as failed:
            panel.toggle_record()
        assert "could not be saved" in failed.args[0].message and "Save recording as" in failed.args[0].hint
        assert panel.quantise.isVisibleTo(panel) and "Not saved" in panel.quantise.where.text()
        panel.quantise.save_requested.emit(panel.quantise.take.captured, tmp_path / "elsewhere.mid")
        qtbot.waitUntil((tmp_path / "elsewhere.mid").is_file, timeout=5000)
        panel.close_session()
        (left,) = recover()
        assert left.strikes == 3


def test_without_midi_the_panel_says_what_to_do_and_can_try_again(qtbot, make_panel, monkeypatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    panel = make_panel()
    with qtbot.assertNotEmitted(panel.failed):
        panel.toggle_record()
        qtbot.waitUntil(
            lambda: panel.link.state == CLOSED and panel.recorder.record.isEnabled(), timeout=10_000
        )
        qtbot.waitUntil(lambda: "No MIDI system" in panel.keyboard.state.text(), timeout=10_000)
    assert panel.keyboard.state.text().count(".") >= 2 and not panel.link.recording


# ---- after a crash ----------------------------------------------------------------------------------------

_CRASH = """
import time, os, sys
from pkontext.journal import Journal
journal = Journal()
for step in range(4):
    journal.append(time.monotonic() + step * 24.0, bytes((0x90, 60 + step, 80)))
    journal.append(time.monotonic() + step * 24.0 + 1, bytes((0x80, 60 + step, 0)))
journal.flush()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def crashed():
    """A journal whose program was killed; its notes last 73 seconds."""
    child = run_child(_CRASH)
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdin.close(), child.stdout.close(), child.stderr.close()
    (path,) = journal_folder().glob("*")
    return path


def button(panel: LivePanel, name: str):
    return next(b for b in panel.banner.buttons if b.text().startswith(name))


def test_a_crashed_recording_is_offered_opened_and_then_forgotten(qtbot, make_panel, crashed) -> None:
    panel = make_panel()
    qtbot.waitUntil(panel.banner.isVisible, timeout=5000)
    assert "A recording of 1 min 13 s from " in panel.banner.text
    with qtbot.waitSignal(panel.link.captured, timeout=10_000) as opened:
        button(panel, "Open").click()
    assert opened.args[0].captured.notes["pitch"].tolist() == [60, 61, 62, 63]
    assert opened.args[0].path.is_file() and not crashed.exists()
    assert not panel.banner.isVisible() and panel.quantise.isVisibleTo(panel)


def test_a_crashed_recording_is_discarded_only_after_asking(qtbot, make_panel, crashed) -> None:
    panel = make_panel()
    qtbot.waitUntil(panel.banner.isVisible, timeout=5000)
    button(panel, "Discard").click()
    assert "for good" in panel.banner.text and crashed.exists()
    button(panel, "Keep").click()
    assert "was not saved" in panel.banner.text and crashed.exists()
    button(panel, "Discard").click()
    button(panel, "Discard").click()
    qtbot.waitUntil(lambda: not crashed.exists() and not panel.banner.isVisible(), timeout=5000)


def test_a_crashed_recording_is_saved_where_the_user_says(
    qtbot, make_panel, crashed, tmp_path, monkeypatch
) -> None:
    target = tmp_path / "saved"
    monkeypatch.setattr("gui.recovery_banner.QFileDialog.getSaveFileName", lambda *_: (str(target), ""))
    panel = make_panel()
    qtbot.waitUntil(panel.banner.isVisible, timeout=5000)
    button(panel, "Save").click()
    qtbot.waitUntil(lambda: not crashed.exists() and not panel.banner.isVisible(), timeout=5000)
    assert len([m for m in mido.MidiFile(tmp_path / "saved.mid") if m.type == "note_on"]) == 4


# ---- from recording to score ------------------------------------------------------------------------------


@pytest.fixture
def quantising(qtbot):
    panel = QuantisePanel()
    qtbot.addWidget(panel)
    panel.resize(700, 600)
    take = SavedTake(played(), Path("/somewhere/Recording.mid"))
    with qtbot.waitSignal(panel.quantised, timeout=60_000):
        panel.show_take(take)
    return panel


def test_the_preview_changes_with_the_controls_and_never_the_recording(qtbot, quantising) -> None:
    panel = quantising
    before = panel.take.captured.notes.copy()
    found = panel.result.tempo_bpm
    assert min(abs(found / bpm - 1) for bpm in (50, 100, 200)) < 0.02

    def changed(action):
        with qtbot.waitSignal(panel.quantised, timeout=20_000):
            action()
        return panel.result

    assert changed(panel.faster.click).tempo_bpm == pytest.approx(2 * found, rel=0.03)
    assert changed(panel.slower.click).tempo_bpm == pytest.approx(found, rel=0.03)
    assert changed(lambda: panel.tempo.setValue(100)).tempo_bpm == pytest.approx(100, rel=0.03)
    assert changed(lambda: panel.tempo.setValue(panel.tempo.minimum())).settings.tempo_bpm is None
    panel.beats.setCurrentIndex(panel.beats.findData(3))
    assert int(changed(lambda: panel.beats.activated.emit(2)).score.meters[0]["numerator"]) == 3
    assert changed(lambda: panel.strength.setValue(40)).settings.strength == 0.4
    panel.hands.setCurrentIndex(panel.hands.findData("split"))
    split = changed(lambda: panel.hands.activated.emit(2))
    assert split.settings.split == 60 and panel.split.isEnabled()
    assert len(set(changed(panel.dynamics.click).score.notes["velocity"].tolist())) >= 1
    assert changed(panel.follow.click).settings.constant_tempo is False
    assert (panel.take.captured.notes == before).all()


def test_bars_begin_where_the_user_says(qtbot, quantising) -> None:
    panel = quantising
    panel.show()
    first = int(panel.result.bar_starts.argmax())
    with qtbot.waitSignal(panel.quantised, timeout=20_000):
        panel.later.click()
    length = int(panel.result.score.meters[0]["numerator"])
    assert int(panel.result.bar_starts.argmax()) == (first + 1) % length
    wanted = 6
    x = panel.result.beat_sec[wanted] * panel.view._scale
    press = QMouseEvent(
        QMouseEvent.Type.MouseButtonPress,
        QPointF(x, 40),
        QPointF(x, 40),
        Qt.MouseButton.LeftButton,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    with qtbot.waitSignal(panel.quantised, timeout=20_000):
        panel.view.mousePressEvent(press)
    assert panel.result.bar_starts[wanted]


def test_only_the_last_of_quick_changes_is_shown(qtbot, quantising) -> None:
    panel, shown = quantising, []
    panel.quantised.connect(lambda result: shown.append(result.settings.strength))
    for percent in (90, 60, 30, 10):
        panel.change(strength=percent / 100)
        panel._quantise()
    qtbot.waitUntil(lambda: shown == [0.1], timeout=20_000)
    qtbot.wait(300)
    assert shown == [0.1]


def test_a_recording_without_piano_notes_says_so_and_cannot_be_performed(qtbot) -> None:
    panel = QuantisePanel()
    qtbot.addWidget(panel)
    notes = np.array([(0.0, 0.5, 3, 60)], NOTE)
    captured = Captured(notes, np.zeros(0, PEDAL), np.zeros(0, CONTROL_EVENT), 0.0, 1.0)
    panel.show_take(SavedTake(captured, None))
    qtbot.waitUntil(lambda: "no notes that a piano has" in panel.summary.text(), timeout=20_000)
    assert "Play at least one note." in panel.summary.text() and not panel.perform_button.isEnabled()


@pytest.mark.parametrize("downbeat", [0, 1, 3])
def test_written_notes_lie_on_the_beats_that_are_drawn(downbeat: int) -> None:
    captured = played()
    settings = QuantiseSettings(beats_per_bar=4, downbeat=downbeat)
    result = quantise(captured.notes, captured.pedals, settings)
    rows = describe(result, captured.notes)
    first = first_beat(result, rows)
    assert (first - downbeat) % 4 == 0
    off = np.abs(written_sec(result, rows)[:, 0] - rows["captured_sec"])
    assert np.percentile(off, 95) < 0.03  # played with errors of 8 ms


def test_a_view_of_ten_thousand_notes_is_drawn_quickly(qtbot, quantising) -> None:
    captured = played(beats=4500, bpm=240.0)
    result = quantise(captured.notes, captured.pedals, QuantiseSettings(tempo_bpm=240.0, first_beat_sec=0.5))
    view = quantising.view
    quantising.show()
    view.show_quantised(result, captured.notes)
    view.grab()
    began = time.perf_counter()
    for _ in range(5):
        view.grab()
    assert len(captured.notes) > 10_000
    assert (time.perf_counter() - began) / 5 < 0.1


def test_times_are_said_as_people_read_them() -> None:
    assert clock(0) == "0:00.0" and clock(192.47) == "3:12.4" and clock(3600) == "60:00.0"
    assert duration_text(192) == "3 min 12 s" and duration_text(0.2) == "1 s"

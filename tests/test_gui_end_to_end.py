"""A session at the desktop app through real sound and MIDI: record, perform, hear, shape, save, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PyQt6.QtCore import QSettings
from pytestqt.qtbot import QtBot

from gui.app import make_window
from gui.main_window import MainWindow
from pkontext.drawn import Drawn
from pkontext.engine import open_rendering
from pkontext.output import SpeakerOutput
from tests.live_midi import keyboard, midi_server


def test_a_session(qtbot: QtBot, toy_bundle: Path, tmp_path: Path) -> None:
    """What is heard at the sound server and what is exported are the samples of one take."""
    settings = QSettings(str(tmp_path / "app.ini"), QSettings.Format.IniFormat)
    with midi_server() as server, keyboard(client="Stage piano") as send, server.recorder() as recorder:
        window = make_window(
            toy_bundle, lambda ring, rate: SpeakerOutput(ring, rate, server.device, 256), settings
        )
        window.resize(1280, 800)
        window.show()
        window.welcome.record_requested.emit()
        record_and_perform(qtbot, window, send)
        document = window.document

        def complete() -> bool:
            live = document.live()
            return live is not None and live.audio["neural"].done

        qtbot.waitUntil(complete, timeout=60_000)
        document.draw((Drawn("loudness", ((0.0, 40.0), (document.score.duration_sec, 100.0))),))
        qtbot.waitUntil(complete, timeout=60_000)
        qtbot.waitUntil(lambda: window.client.status.deck.take == document.current.number, timeout=20_000)
        silence = recorder.frames
        window.client.play()
        qtbot.waitUntil(lambda: window.client.status.level > 0, timeout=30_000)
        qtbot.waitUntil(
            lambda: window.client.status.deck.state == "stopped" and window.client.status.level == 0,
            timeout=60_000,
        )
        qtbot.wait(300)
        heard = recorder.samples[silence:, 0]
        assert window.client.status.underruns == 0

        assert window._save_to(tmp_path / "session.pkproj")
        window.export()
        dialog = window.export_dialog
        dialog.folder.setText(str(tmp_path / "out"))
        (tmp_path / "out").mkdir()
        dialog.bits.setCurrentIndex(dialog.bits.findData("32f"))
        dialog.start()
        qtbot.waitUntil(lambda: bool(list((tmp_path / "out").glob("*.wav"))), timeout=60_000)
        qtbot.waitUntil(lambda: not dialog.rows.busy, timeout=30_000)
        dialog.reject()
        image = window.grab()
        assert image.width() >= 1200
        window.document.set_saved()
        current, score, bundle = document.current, document.score, window.client.bundle
        window.close()
        time.sleep(0.1)
    exported, rate = soundfile.read(next((tmp_path / "out").glob("*.wav")), dtype="float32")
    rendering = open_rendering(score, bundle, current.settings)
    take = np.concatenate(list(rendering.chunks()))[:, 0]
    assert rate == 44100 and np.array_equal(exported, take)
    first, last = np.flatnonzero(take)[[0, -1]]
    sounding = np.flatnonzero(heard)
    assert np.array_equal(heard[sounding[0] : sounding[-1] + 1], take[first : last + 1])


def record_and_perform(qtbot: QtBot, window: MainWindow, send: Callable[[Sequence[int]], None]) -> None:
    """Record twelve notes from a keyboard, and have them performed."""
    panel = window.live
    qtbot.waitUntil(lambda: panel.keyboard.port.findText("Stage piano:out") >= 0, timeout=15_000)
    panel.keyboard.port.setCurrentIndex(panel.keyboard.port.findText("Stage piano:out"))
    window.record()
    qtbot.waitUntil(lambda: panel.link.recording, timeout=15_000)
    qtbot.wait(400)
    for step in range(12):
        key = 60 + (0, 2, 4, 5, 7, 9)[step % 6]
        send((0x90, key, 60 + 3 * step))
        qtbot.wait(180)
        send((0x80, key, 0))
        qtbot.wait(70)
    with qtbot.waitSignal(panel.quantise.quantised, timeout=60_000):
        window.record()
    assert len(panel.quantise.take.captured.notes) == 12
    with qtbot.waitSignal(panel.performed):
        panel.quantise.perform_button.click()
    assert window.document.score is not None and len(window.document.score.notes) == 12

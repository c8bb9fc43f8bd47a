"""What is chosen stays chosen, the command line still wins, and the dialog's pages do what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PyQt6.QtCore import QSettings, Qt
from PyQt6.QtWidgets import QDialogButtonBox

from gui.client import PlayerClient
from gui.preferences import PAGES, PreferencesDialog
from gui.preferences_store import PREFERENCES, Preferences
from gui.theme import theme
from pkontext.doctor import DEMO
from pkontext.output import NullOutput
from pkontext.score import load_score
from pkontext.take import RenderSettings
from tests.jack_server import jack_server


@pytest.fixture
def client(qtbot, toy_bundle):
    made = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    qtbot.waitUntil(lambda: made.bundle is not None, timeout=20_000)
    yield made
    made.close()
    theme.use("system")


@pytest.fixture
def store(tmp_path):
    return Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")


@pytest.fixture
def dialog(qtbot, client, store):
    made = PreferencesDialog(client, store)
    made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)  # qtbot closes it again
    qtbot.addWidget(made)
    return made


# ---- the store ------------------------------------------------------------------------------------------

CHOICES = {
    "theme": "dark",
    "device": "ALSA: USB, 50 % & more",
    "latency": "high",
    "threads": 3,
    "provider": "cpu",
    "bundle": Path("/models/größer"),
    "bundles": (Path("/a"), Path("/b c")),
    "midi_port": "Piano: 1",
    "monitor": False,
    "monitor_volume": 0.5,
    "monitor_driver": "alsa",
    "metronome": True,
    "metronome_bpm": 87.0,
    "metronome_beats": 3,
    "count_in": 2,
}


def test_every_choice_survives_a_restart_with_its_type(tmp_path, store) -> None:
    for name, value in CHOICES.items():
        store.set(name, value)
    again = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
    for name, value in CHOICES.items():
        assert again.get(name) == value and type(again.get(name)) is type(value), name
        assert again.source(name) == "chosen"
    assert set(CHOICES) | {"language"} == set(PREFERENCES)


def test_one_folder_and_none_are_lists_too(tmp_path, store) -> None:
    store.set("bundles", (Path("/only"),))
    again = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
    assert again.get("bundles") == (Path("/only"),)
    store.set("bundles", ())
    again = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
    assert again.get("bundles") == ()


def test_environment_and_settings_file_win_over_what_was_chosen(tmp_path, store) -> None:
    store.set("threads", 3)
    store.set("provider", "cpu")
    store.set("device", "chosen")
    file = tmp_path / "settings.toml"
    file.write_text('threads = 5\ndevice = "from file"\n')
    both = Preferences(tmp_path / "gui.ini", {"threads": 7}, {"PKONTEXT_DEVICE": "from environment"}, file)
    assert (both.threads, both.source("threads")) == (7, "flag")
    assert (both.device, both.source("device")) == ("from environment", "environment")
    assert "PKONTEXT_DEVICE" in both.fixed("device") and not both.fixed("provider")
    assert both.provider == "cpu"
    alone = Preferences(tmp_path / "gui.ini", environment={}, file=file)
    assert (alone.device, alone.threads) == ("from file", 5) and str(file) in alone.fixed("threads")


def test_a_broken_settings_file_is_told_and_choices_still_hold(tmp_path, store) -> None:
    store.set("threads", 3)
    (tmp_path / "settings.toml").write_text("threads = ")
    again = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
    assert again.problem is not None and again.problem.code == "settings.file"
    assert again.threads == 3


def test_what_does_not_fit_is_never_given_out(tmp_path, store) -> None:
    raw = QSettings(str(tmp_path / "gui.ini"), QSettings.Format.IniFormat)
    for name, value in (
        ("threads", "many"),
        ("theme", "pink"),
        ("monitor_volume", "99"),
        ("monitor", "maybe"),
    ):
        raw.setValue(f"preferences/{name}", value)
    raw.sync()
    again = Preferences(tmp_path / "gui.ini", environment={}, file=tmp_path / "settings.toml")
    for name in ("threads", "theme", "monitor_volume", "monitor"):
        assert again.get(name) == PREFERENCES[name].default
    with pytest.raises(ValueError, match="theme"):
        store.set("theme", "pink")


def test_only_a_real_change_is_told(qtbot, store) -> None:
    with qtbot.waitSignal(store.changed) as told:
        store.set("threads", 2)
    assert told.args == ["threads"]
    with qtbot.assertNotEmitted(store.changed):
        store.set("threads", 2)


# ---- the dialog -----------------------------------------------------------------------------------------


def pick(box, value) -> None:
    """Choose a value as a user does."""
    box.setCurrentIndex(box.findData(value))
    box.activated.emit(box.currentIndex())


def test_the_theme_is_seen_at_once_and_cancel_takes_it_back(dialog, store) -> None:
    theme.use("light")
    store.set("theme", "light")
    pick(dialog.appearance.theme, "dark")
    assert theme.name == "dark" and store.theme == "light" and dialog.apply_button.isEnabled()
    dialog.reject()
    assert theme.name == "light" and store.theme == "light"


def test_ok_keeps_what_was_chosen_and_apply_leaves_it_open(qtbot, dialog, store) -> None:
    assert not dialog.apply_button.isEnabled()
    dialog.show()
    dialog.performance.threads.setValue(2)
    dialog.apply_button.click()
    assert store.threads == 2 and dialog.isVisible() and not dialog.apply_button.isEnabled()
    pick(dialog.performance.provider, "cpu")
    dialog._buttons.button(QDialogButtonBox.StandardButton.Ok).click()
    assert store.provider == "cpu"


def test_what_is_fixed_elsewhere_cannot_be_changed_and_says_by_what(qtbot, client, tmp_path) -> None:
    store = Preferences(tmp_path / "g.ini", environment={"PKONTEXT_THREADS": "2"}, file=tmp_path / "s.toml")
    dialog = PreferencesDialog(client, store)
    qtbot.addWidget(dialog)
    assert not dialog.performance.threads.isEnabled() and dialog.performance.threads.value() == 2
    assert dialog.performance.provider.isEnabled()


def test_pages_open_by_name_and_show_what_is_really_used(qtbot, dialog) -> None:
    dialog.show()
    for number, name in enumerate(PAGES):
        dialog.show_page(name)
        assert dialog.list.currentRow() == number
    dialog.show_page("performance")
    qtbot.waitUntil(lambda: "CPU" in dialog.performance.used.text(), timeout=20_000)
    qtbot.waitUntil(lambda: dialog.midi.result.text() and dialog.midi.refresh.isEnabled(), timeout=20_000)
    qtbot.waitUntil(dialog.audio.refresh.isEnabled, timeout=20_000)


def test_a_model_is_verified_and_damage_is_found(qtbot, dialog, toy_bundle, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(toy_bundle, copy)
    page = dialog.model
    page.add_folder(copy)
    qtbot.waitUntil(lambda: "intact" in page.result.text(), timeout=20_000)
    assert page.bundle.currentData() == copy
    assert dialog.pending == {"bundle": copy, "bundles": (copy,)}
    graph = next(copy.glob("*.onnx"))
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    page.verify.click()
    assert page.progress.isVisibleTo(page)
    qtbot.waitUntil(lambda: not page.progress.isVisibleTo(page), timeout=20_000)
    assert graph.name in page.result.text() and "damaged" in page.result.text()


def test_a_folder_without_a_model_is_refused(qtbot, dialog, tmp_path) -> None:
    dialog.model.add_folder(tmp_path)
    qtbot.waitUntil(lambda: "manifest.json" in dialog.model.result.text(), timeout=20_000)
    assert dialog.pending == {} and dialog.model.bundle.currentData() is None


def test_the_test_tone_is_heard_on_the_chosen_output(qtbot, dialog) -> None:
    with jack_server() as server, server.recorder() as recorder:
        dialog.show()
        dialog.show_page("audio")
        name = str(server.device)
        page = dialog.audio
        qtbot.waitUntil(page.refresh.isEnabled, timeout=20_000)
        if page.device.findData(name) < 0:
            page.refresh.click()
            qtbot.waitUntil(lambda: page.device.findData(name) >= 0, timeout=20_000)
        pick(page.device, name)
        page.test.click()
        qtbot.waitUntil(lambda: "Played on" in page.result.text(), timeout=20_000)
        sound = recorder.sound[:, 0]
        assert len(sound) > 0.8 * server.rate
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        hertz = np.argmax(spectrum) * server.rate / len(sound)
        assert abs(hertz - 440) < 3
        dialog.reject()


def test_another_output_is_used_at_once_when_it_is_applied(qtbot, dialog, client, store) -> None:
    with jack_server() as server:
        pick_name = str(server.device)
        dialog.audio.edited.emit("device", pick_name)
        dialog.apply()
        assert store.device == pick_name
        client.load(load_score(DEMO), RenderSettings(voice="deadpan", end_sec=3.0), lambda number: None)
        client.play()
        qtbot.waitUntil(lambda: "system" in (client.status.device if client.status else ""), timeout=20_000)
        client.send(lambda player: player.use_output(NullOutput))
        qtbot.waitUntil(lambda: "system" not in client.status.device, timeout=20_000)

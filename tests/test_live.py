"""A session of live playing as a whole: the listener, the last minutes, and what is left behind."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from pkontext.errors import DeviceError
from pkontext.event_queue import EventQueue
from pkontext.journal import recover
from pkontext.live import Listener, LiveOptions, LiveSession
from tests.live_midi import keyboard, midi_server, wait_for


def test_a_consumer_that_fails_keeps_no_event_from_the_others() -> None:
    queue, heard, flushed = EventQueue(), [], []

    def broken(when: float, data: bytes) -> None:
        raise RuntimeError("broken")

    listener = Listener(queue, [broken, lambda when, data: heard.append(data)], lambda: flushed.append(1))
    for index in range(1000):
        queue.push(time.monotonic(), bytes((0x90, index % 128, 1)))
    listener.stop()
    assert heard == [bytes((0x90, index % 128, 1)) for index in range(1000)]
    assert str(listener.failure) == "broken" and flushed


def test_events_are_handed_over_at_once() -> None:
    queue, late = EventQueue(), []
    listener = Listener(queue, [lambda when, data: late.append(time.monotonic() - when)])
    for _ in range(100):
        time.sleep(0.003)
        queue.push(time.monotonic(), b"\x90\x3c\x40")
    listener.stop()
    assert sorted(late)[50] < 0.001


def test_a_session_keeps_what_was_played_and_leaves_nothing_behind(tmp_path: Path) -> None:
    switch = sys.getswitchinterval()
    with midi_server():
        threads = threading.active_count()
        session = LiveSession(LiveOptions(virtual=True, journal_folder=tmp_path))
        with keyboard("PianoKontext") as send:
            for key in (60, 64, 67):
                send((0x90, key, 70))
                time.sleep(0.02)
            send((0xFA,))
            for _ in range(12):
                send((0xF8,))
                time.sleep(0.01)
            assert wait_for(lambda: session.status().clock.running and session.status().events >= 16)
        status = session.status()
        assert status.recorder.held == (60, 64, 67) and status.dropped == 0 and status.warnings == ()
        assert status.clock.state == "playing" and status.clock.tempo_bpm == pytest.approx(240, rel=0.3)
        kept = session.keep_last()
        assert kept.notes["pitch"].tolist() == [60, 64, 67]
        session.close()
        session.close()
        (left,) = recover(tmp_path)  # nobody has saved it
        assert left.strikes == 3 and not any(data == b"\xf8" for _, data in left.events)
        assert sys.getswitchinterval() == switch
        assert wait_for(lambda: threading.active_count() == threads)


def test_a_session_that_cannot_open_its_port_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "there-is-none")
    switch, threads = sys.getswitchinterval(), threading.active_count()
    with pytest.raises(DeviceError):
        LiveSession(LiveOptions(journal_folder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert (sys.getswitchinterval(), threading.active_count()) == (switch, threads)


def test_without_a_place_for_the_journal_a_session_warns_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with midi_server(), LiveSession(LiveOptions(virtual=True, journal_folder=tmp_path / "file")) as session:
        (warning,) = session.status().warnings
        assert "safety copy" in warning
        with keyboard("PianoKontext") as send:
            send((0x90, 60, 70))
            assert wait_for(lambda: session.recorder.status().held == (60,))

"""The document behind the window: takes, undo, settings, and the player that follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PyQt6.QtCore import QCoreApplication
from pytestqt.qtbot import QtBot

from gui.client import PlayerClient
from gui.document import Document
from gui.operations import Operation, stop_all
from gui.timeline import Timeline
from pkontext.drawn import Drawn
from pkontext.errors import Cancelled, InputError, PkError
from pkontext.output import NullOutput
from pkontext.score import score_from_notes
from pkontext.take import RenderSettings
from pkontext.types import NOTE, Score


@pytest.fixture(scope="module")
def score() -> Score:
    notes = np.zeros(40, NOTE)
    notes["onset_sec"], notes["duration_sec"] = np.arange(40) * 0.25, 0.2
    notes["pitch"], notes["velocity"] = 50 + (np.arange(40) * 7) % 30, 64
    return score_from_notes(notes, "Étude")


@pytest.fixture
def client(qtbot: QtBot, toy_bundle: Path) -> Iterator[PlayerClient]:
    before = threading.active_count()
    client = PlayerClient(toy_bundle, NullOutput, 1, "cpu")
    yield client
    client.close()
    assert threading.active_count() == before


@pytest.fixture
def document(client: PlayerClient, score: Score) -> Document:
    document = Document(client)
    document.set_score(score)
    return document


def rendered(qtbot: QtBot, document: Document) -> None:
    qtbot.waitUntil(
        lambda: (live := document.live()) is not None and live.audio[document.voice].done, timeout=30_000
    )


def test_a_score_begins_a_take(qtbot: QtBot, document: Document) -> None:
    assert document.title == "Étude" and [take.name for take in document.takes] == ["Take 1"]
    assert not document.dirty
    grown: list[int] = []
    document.take_grown.connect(lambda: grown.append(1))
    rendered(qtbot, document)
    live = document.live()
    assert live is not None and live.sketch is not None and live.sketch.complete and grown
    assert document.current is not None and len(document.current.bundle) == 64


def test_takes_are_made_named_starred_deleted_and_come_back(qtbot: QtBot, document: Document) -> None:
    rendered(qtbot, document)
    second = document.generate()
    assert second is not None and second.settings.seed == 1 and document.current is second and document.dirty
    qtbot.waitUntil(lambda: second.number > 0, timeout=10_000)
    document.rename(second, "  Slow one ")
    document.star(second, True)
    assert second.name == "Slow one" and second.starred
    document.undo_stack.undo()
    assert not second.starred
    document.delete(second)
    assert len(document.takes) == 1 and document.current is document.takes[0]
    document.delete(document.takes[0])
    assert len(document.takes) == 1  # the last one stays
    document.undo_stack.undo()
    assert document.takes[1] is second and document.current is second
    document.rename(second, "   ")
    assert second.name == "Slow one"
    document.set_saved()
    assert not document.dirty
    document.undo_stack.redo()
    assert document.dirty


def test_drawn_curves_make_a_take_and_can_be_undone(qtbot: QtBot, document: Document) -> None:
    rendered(qtbot, document)
    first = document.current
    drawn = (Drawn("tempo", ((0.0, 1.0), (4.0, 0.7))),)
    document.draw(drawn)
    assert document.drawn == drawn and document.current is not first
    assert document.current is not None and document.current.settings.drawn == drawn
    document.undo_stack.undo()
    assert document.drawn == () and document.current is first
    document.undo_stack.redo()
    assert document.drawn == drawn and len(document.takes) == 2  # the take that there was
    with pytest.raises(InputError):
        document.draw((Drawn("tempo", ((0.0, 99.0), (1.0, 1.0))),))
    assert document.drawn == drawn


def test_quick_undo_ends_at_the_chosen_take(qtbot: QtBot, document: Document) -> None:
    """Also when the player has not begun the takes between yet."""
    rendered(qtbot, document)
    one = (Drawn("tempo", ((0.0, 1.0), (4.0, 0.7))),)
    document.draw(one)
    document.draw((Drawn("tempo", ((0.0, 1.0), (6.0, 0.8))),))
    document.undo_stack.undo()
    document.draw(())
    document.undo_stack.undo()
    assert document.current is not None and document.current.settings.drawn == one
    chosen = document.current
    qtbot.waitUntil(
        lambda: chosen.number > 0 and document.client.status.deck.take == chosen.number, timeout=20_000
    )
    rendered(qtbot, document)


def test_choosing_a_take_brings_its_settings_back(qtbot: QtBot, document: Document) -> None:
    rendered(qtbot, document)
    first = document.takes[0]
    document.set_settings(RenderSettings(seed=5, tempo=0.8))
    second = document.generate()
    assert second is not None and second.settings.tempo == 0.8
    qtbot.waitUntil(lambda: second.number > 0, timeout=10_000)
    document.choose(first)
    assert document.settings.tempo == 1.0 and document.settings.seed == 0
    document.choose(second, "sampler")
    assert document.voice == "sampler" and document.settings.tempo == 0.8
    qtbot.waitUntil(lambda: document.client.status.deck.voice == "sampler", timeout=20_000)
    assert document.client.status.deck.take == second.number


def test_re_rolls_are_takes_of_their_own(qtbot: QtBot, document: Document) -> None:
    rendered(qtbot, document)
    take = document.reroll(2.0, 5.0, 7)
    assert take is not None and take.settings.rerolls[0].seed == 7 and "re-rolled" in take.name
    qtbot.waitUntil(lambda: take.number > 0, timeout=10_000)
    again = document.reroll(2.0, 5.0, 8)
    assert again is not None and [reroll.seed for reroll in again.settings.rerolls] == [8]
    with pytest.raises(InputError):
        document.reroll(2.0, 2.1, 7)
    assert len(document.takes) == 3


def test_commands_before_the_player_is_there_wait_for_it(
    qtbot: QtBot, client: PlayerClient, score: Score
) -> None:
    document = Document(client)
    document.set_score(score)
    client.play()
    qtbot.waitUntil(
        lambda: client.status is not None and client.status.deck.state == "playing", timeout=30_000
    )
    client.pause()
    qtbot.waitUntil(lambda: client.status.deck.state == "paused", timeout=5_000)
    client.toggle()
    qtbot.waitUntil(lambda: client.status.deck.state == "playing", timeout=5_000)


def test_a_bundle_that_cannot_be_opened_is_said(qtbot: QtBot, tmp_path: Path) -> None:
    client = PlayerClient(tmp_path / "none", NullOutput)
    with qtbot.waitSignal(client.failed, timeout=20_000) as caught:
        pass
    assert isinstance(caught.args[0], PkError) and caught.args[0].code.startswith("bundle.")
    client.close()


def test_operations_report_finish_fail_and_stop(qtbot: QtBot) -> None:
    main = threading.get_ident()
    seen: list[tuple[float, str, int]] = []

    def work(operation: Operation) -> int:
        assert threading.get_ident() != main
        operation.report(0.5, "half")
        return 42

    operation = Operation("work", work)
    operation.progress.connect(lambda share, text: seen.append((share, text, threading.get_ident())))
    with qtbot.waitSignal(operation.finished, timeout=5_000) as done:
        operation.start()
    assert done.args == [42] and seen == [(0.5, "half", main)]

    def fails(_: Operation) -> None:
        raise InputError("a.b", "It is wrong.", "Mend it.")

    failing = Operation("fails", fails)
    with qtbot.waitSignal(failing.failed, timeout=5_000) as error:
        failing.start()
    assert error.args[0].code == "a.b"

    def bug(_: Operation) -> None:
        raise ZeroDivisionError("boom")

    broken = Operation("bug", bug)
    with qtbot.waitSignal(broken.failed, timeout=5_000) as error:
        broken.start()
    assert error.args[0].code == "internal" and "boom" in error.args[0].message
    log = Path(error.args[0].hint.split("the file ")[1].rstrip("."))
    assert "ZeroDivisionError" in log.read_text()

    def waits(operation: Operation) -> None:
        while not operation.cancelled():
            threading.Event().wait(0.005)
        raise Cancelled

    waiting = Operation("waits", waits)
    with qtbot.waitSignal(waiting.stopped, timeout=5_000):
        waiting.start()
        waiting.cancel()
    last = Operation("waits", waits).start()
    stop_all()
    assert not last._thread.is_alive()
    QCoreApplication.processEvents()


def test_the_timeline_maps_zooms_and_follows(qtbot: QtBot) -> None:
    timeline = Timeline()
    timeline.set_width(1000)
    timeline.set_duration(100)
    timeline.fit()
    assert timeline.visible[0] == 0 and timeline.visible[1] >= 100
    timeline.zoom(8.0, 500)
    middle = timeline.second(500)
    timeline.zoom(2.0, 500)
    assert timeline.second(500) == pytest.approx(middle)
    assert timeline.second(timeline.x(33.0)) == pytest.approx(33.0)
    timeline.set_playhead(90.0, playing=True)
    assert timeline.visible[0] <= 90 <= timeline.visible[1]
    before = timeline.visible
    timeline.set_playhead(5.0, playing=False)
    assert timeline.visible == before
    timeline.select((20.0, 10.0))
    assert timeline.selection == (10.0, 20.0)
    timeline.select((5.0, 5.001))
    assert timeline.selection is None
    timeline.scroll_to(1e9)
    assert timeline.visible[1] <= 100 * 1.02 + 1e-6

"""What ``pkontext play`` shows: a line that is rewritten in a terminal, or JSON."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkontext.cli_common import Reporter
    from pkontext.follow import ClockLink
    from pkontext.midi_play import MidiPlayStatus
    from pkontext.player import PlayerStatus
    from pkontext.types import Score

_METER_CELLS, _METER_DB = 12, 48.0
_TICK_SEC, _JSON_SEC = 0.08, 0.5


def meter(level: float) -> str:
    """A bar for a level of 0 to 1, over `_METER_DB` decibels."""
    db = 20 * math.log10(max(level, 1e-9))
    cells = min(max(round((db / _METER_DB + 1) * _METER_CELLS), 0), _METER_CELLS)
    return "█" * cells + "·" * (_METER_CELLS - cells)


def clock(seconds: float) -> str:
    """Minutes and seconds, ``1:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def describe(status: PlayerStatus, score: Score) -> str:
    """One line for people: state, place, lead of the render, level, what went wrong."""
    from pkontext.score import bar_at

    deck = status.deck
    place = (
        f"bar {bar_at(score, status.heard_score_sec)}  {clock(status.heard_sec)}/{clock(deck.duration_sec)}"
    )
    voice = deck.voice if deck.voice == deck.next_voice else f"{deck.voice} → {deck.next_voice}"
    take = f"take {deck.take}" if deck.take == deck.next_take else f"take {deck.take} → {deck.next_take}"
    parts = [f"{_state_words(status):<8}", place, meter(status.level), f"{take}, {voice}"]
    if deck.rendered_sec < deck.duration_sec:
        parts.append(f"{deck.ahead_sec:.0f} s ahead")
    if status.underruns or status.xruns:
        parts.append(f"{status.underruns} underruns, {status.xruns} xruns")
    return "  ".join(parts)


class Line:
    """The line that says where playing is: rewritten in a terminal, an event in JSON, now and then."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._live = not reporter.as_json and not reporter.quiet and sys.stderr.isatty()
        self._width = 0
        self._said = -_JSON_SEC

    def show(self, fields: Callable[[], dict[str, Any]], text: Callable[[], str]) -> None:
        """Show where it is, in one form or the other, if it is time to."""
        now = time.monotonic()
        if now - self._said < (_JSON_SEC if self._reporter.as_json else _TICK_SEC):
            return
        self._said = now
        if self._reporter.as_json:
            self._reporter.event("status", **fields())
        elif self._live:
            shown = text()
            print(f"\r{shown:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(shown)

    def end(self) -> None:
        """Leave the line as it is."""
        if self._live and self._width:
            print(file=sys.stderr)


def status_fields(status: PlayerStatus) -> dict[str, Any]:
    """A status as JSON has it."""
    deck = status.deck
    return {
        "state": deck.state,
        "score_sec": round(status.heard_score_sec, 3),
        "position_sec": round(status.heard_sec, 3),
        "duration_sec": round(deck.duration_sec, 3),
        "rendered_sec": round(deck.rendered_sec, 3),
        "wait_sec": round(deck.wait_sec, 3),
        "real_time_factor": round(deck.rtf, 4),
        "take": deck.take,
        "voice": deck.voice,
        "level": round(status.level, 5),
        "device": status.device,
        "latency_sec": round(status.latency_sec, 4),
        "underruns": status.underruns,
        "xruns": status.xruns,
    }


def clock_fields(link: ClockLink) -> dict[str, Any]:
    """How following a clock goes, as JSON has it."""
    status = link.status()
    tempo = status.clock.tempo_bpm
    return {
        "port": link.port.name,
        "connected": link.connected,
        "state": status.clock.state,
        "running": status.clock.running,
        "tempo_bpm": None if tempo is None else round(tempo, 2),
        "score_sec": round(status.score_sec, 3),
        "take_tempo": status.tempo,
    }


def describe_clock(link: ClockLink) -> str:
    """How following a clock goes, for people."""
    if not link.connected:
        return "clock: the port is gone"
    clock_status = link.status().clock
    if not clock_status.running or clock_status.tempo_bpm is None:
        return f"clock: none, {clock_status.state}"
    return f"clock: {clock_status.tempo_bpm:.1f}, {clock_status.state}"


def midi_fields(status: MidiPlayStatus, port: str) -> dict[str, Any]:
    """A status of notes sent to a port, as JSON has it."""
    return {
        "state": status.state,
        "score_sec": round(status.score_sec, 3),
        "position_sec": round(status.position_sec, 3),
        "duration_sec": round(status.duration_sec, 3),
        "port": port,
        "late_ms": round(status.late_ms, 2),
    }


def describe_midi(status: MidiPlayStatus, score: Score, port: str) -> str:
    """One line for people about notes sent to a port."""
    from pkontext.score import bar_at

    place = f"{clock(status.position_sec)}/{clock(status.duration_sec)}"
    return f"{status.state:<8}  bar {bar_at(score, status.score_sec)}  {place}  to {port}"


def _state_words(status: PlayerStatus) -> str:
    deck = status.deck
    if deck.state == "waiting":
        return f"waiting {deck.wait_sec:.0f} s" if deck.wait_sec >= 1 else "waiting"
    return deck.state

"""What the keys of ``pkontext play`` do to the player."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkontext.player import Player
    from pkontext.types import Score

KEYS = (
    ("Space", "pause, play on"),
    ("← →", "5 seconds back, forward"),
    ("↓ ↑", "a bar back, forward"),
    ("Home", "to the beginning"),
    ("a", "compare with the deadpan score, and back"),
    ("v", "neural or sampler voice"),
    ("n", "another performance"),
    ("l", "loop: from here, to here, off"),
    ("- +", "softer, louder"),
    ("q", "quit"),
)
_SEEK_SEC = 5.0


def keys_text(keys: tuple[tuple[str, str], ...] = KEYS) -> str:
    """A table of keys and their meanings."""
    width = max(len(key) for key, _ in keys)
    return "\n" + "\n".join(f"  {key:<{width}}  {meaning}" for key, meaning in keys)


@dataclass
class Transport:
    """What the keys do; one thread."""

    player: Player
    score: Score
    say: Callable[[str], None] = print
    quit: bool = False
    loop_start: float | None = None
    looping: bool = False

    def press(self, key: str) -> None:
        """Obey a key; one without a meaning does nothing."""
        actions: dict[str, Callable[[], None]] = {
            "space": self._toggle,
            "left": lambda: self._seek(-_SEEK_SEC),
            "right": lambda: self._seek(_SEEK_SEC),
            "down": lambda: self._bar(-1),
            "up": lambda: self._bar(1),
            "home": lambda: self.player.seek(0.0),
            "a": self._compare,
            "v": self._voice,
            "n": self._another,
            "l": self._loop,
            "-": lambda: self._volume(-2.0),
            "+": lambda: self._volume(2.0),
            "=": lambda: self._volume(2.0),
            "h": self._help,
            "?": self._help,
            "q": self._quit,
            "escape": self._quit,
            "\x03": self._quit,
            "": self._quit,  # the terminal is gone
        }
        action = actions.get(key)
        if action is not None:
            action()

    def _toggle(self) -> None:
        if self.player.status.deck.state in ("playing", "waiting"):
            self.player.pause()
        else:
            self.player.play()

    def _seek(self, seconds: float) -> None:
        self.player.seek(
            self._here() + seconds * self.player.call(lambda processor: processor.settings.tempo)
        )

    def _here(self) -> float:
        """Place in the score after all commands so far: the snapshot may not have seen the last one."""
        return self.player.call(lambda processor: processor.status().score_sec)

    def _bar(self, count: int) -> None:
        from pkontext.score import bar_at, bar_start_sec

        here = self._here()
        bar = bar_at(self.score, here)
        if count < 0 and here - bar_start_sec(self.score, bar) > 1.0:
            count = 0  # first to the beginning of this one
        self.player.seek(bar_start_sec(self.score, max(bar + count, 1)))

    def _compare(self) -> None:
        voice = self.player.status.deck.next_voice
        if voice != "deadpan":
            self._performed = voice
        self.player.select(voice="deadpan" if voice != "deadpan" else getattr(self, "_performed", "neural"))

    def _voice(self) -> None:
        voice = self.player.status.deck.next_voice
        self.player.select(voice="sampler" if voice == "neural" else "neural")

    def _another(self) -> None:
        self.player.call(lambda processor: processor.set("seed", (processor.get("seed") + 1) % 1_000_000_000))

    def _loop(self) -> None:
        here = self.player.status.heard_score_sec
        if self.looping:
            self.player.loop(None)
            self.looping = False
        elif self.loop_start is None or here <= self.loop_start + 0.1:
            self.loop_start = here
        else:
            self.player.loop((self.loop_start, here))
            self.loop_start, self.looping = None, True

    def _volume(self, change: float) -> None:
        def turn(processor: Any) -> None:
            processor.set("volume", min(max(processor.get("volume") + change, -60.0), 6.0))

        self.player.call(turn)

    def _help(self) -> None:
        self.say(keys_text())

    def _quit(self) -> None:
        self.quit = True

"""The deck: takes of one score and what is heard of them. Play, pause, seek, loop, compare.

Positions are kept in frames of the audio that is heard, so what is heard are the samples of the take, in
order, whatever was paused, sought or looped; only 10 ms at a jump are faded. Another take or another voice is
entered at the same place of the music, as soon as it is rendered there; until then the one before goes on.

Threading: one thread calls everything; takes are rendered on a thread of their own, which nothing here waits
for. Where the audio is not there yet the deck is silent and stays where it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pkontext.bundle import Bundle
from pkontext.errors import PkError
from pkontext.heads import Heads
from pkontext.readiness import enough, wait_sec
from pkontext.take import VOICES, RenderSettings
from pkontext.take_audio import LiveTake, TakeAudio
from pkontext.types import Score
from pkontext.worker import RenderWorker, Source

EMPTY, STOPPED, WAITING, PLAYING, PAUSED, FAILED = STATES = (
    "empty",
    "stopped",
    "waiting",
    "playing",
    "paused",
    "failed",
)
#: With less than this ahead, the voice that is heard is rendered before one that is due.
_NEAR_SEC = 3.0
_WAIT_SEC = 0.003


@dataclass(frozen=True)
class DeckStatus:
    """What a host shows.

    Attributes
    ----------
    state : str
        ``empty`` (no score), ``stopped``, ``waiting`` (play is wanted, the audio is not there yet),
        ``playing``, ``paused`` or ``failed``.
    score_sec : float
        Place in the score.
    position_sec, duration_sec : float
        Place in the take's audio and its length, an estimate until the take is rendered.
    rendered_sec, ahead_sec : float
        Audio of the voice that is there; of it, what lies ahead.
    wait_sec : float
        While waiting: how long still, by the speed so far; 0 where unknown.
    rtf : float
        Render time over audio time of the voice; 0 before it is known.
    take, voice : int, str
        What is heard.
    next_take, next_voice : int, str
        What will be heard as soon as it is there; the same where nothing is due.
    error : PkError or None
        Why a take failed.
    """

    state: str
    score_sec: float
    position_sec: float
    duration_sec: float
    rendered_sec: float
    ahead_sec: float
    wait_sec: float
    rtf: float
    take: int
    voice: str
    next_take: int
    next_voice: str
    error: PkError | None


class Deck:
    """Takes of one score, played.

    Parameters
    ----------
    bundle : Bundle
    threads : int
    provider : str
        See `pkontext.engine.open_networks`.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, provider: str = "auto") -> None:
        self.rate = bundle.manifest.codec.sample_rate
        self.score: Score | None = None
        self.span: tuple[float, float] | None = None
        self._worker = RenderWorker(bundle, threads, provider)
        self._heads = Heads(self.rate)
        self._heard: Source = (0, VOICES[0])
        self._due: Source = self._heard
        self._playing = self._was_playing = False
        self._frame = 0  # of the audio that is heard, while no head moves
        self._place: float | None = None  # score second to go to, as soon as it is known where that is
        self._passing: set[int] = set()
        self._known: set[int] = set()  # takes that were asked for and not dropped

    # -- takes ------------------------------------------------------------------------------------------

    def load(self, score: Score) -> None:
        """Take another score, stopped at its beginning, without a take yet."""
        for number in self._known:
            self._worker.drop(number)
        self._halt()
        self._was_playing = False
        self._frame, self._place, self.span = 0, None, None
        self._passing.clear()
        self._known.clear()
        self.score, self._heard, self._due = score, (0, VOICES[0]), (0, VOICES[0])

    def new_take(self, settings: RenderSettings, passing: bool = False) -> int:
        """Begin another take and go over to it, and to its settings' voice, as soon as it is there.

        Parameters
        ----------
        settings : RenderSettings
        passing : bool
            Forget it when the next one is heard; others stay until `drop`.

        Returns
        -------
        int
            Its number, for `select`.

        Raises
        ------
        ValueError
            Before a score is loaded.
        """
        if self.score is None:
            raise ValueError("load a score first")
        number = self._worker.new_take(self.score, settings)
        self._known.add(number)
        if self._due[0] != self._heard[0] and self._due[0] in self._passing:
            self._forget(self._due[0])
        self._due = (number, settings.voice)
        if self._heard[0] == 0:
            self._heard = self._due
        if passing:
            self._passing.add(number)
        return number

    def takes(self) -> list[int]:
        """Numbers of the takes that have been begun."""
        return sorted(self._worker.takes)

    def take(self, number: int) -> LiveTake | None:
        """A take as far as it is rendered; None while it is only asked for."""
        return self._worker.takes.get(number)

    def select(self, number: int | None = None, voice: str | None = None) -> None:
        """Go over to another take or voice at the same place of the music, as soon as that is rendered.

        Raises
        ------
        ValueError
            For a take or voice that there is not.
        """
        number = self._due[0] if number is None else number
        voice = self._due[1] if voice is None else voice
        if voice not in VOICES or number not in self._known:
            raise ValueError(f"there is no {voice} voice of a take {number}")
        self._due = (number, voice)

    def drop(self, number: int) -> None:
        """Forget a take; `ValueError` for the one that is heard or due."""
        if number in (self._heard[0], self._due[0]):
            raise ValueError(f"take {number} is in use")
        self._forget(number)

    def close(self) -> None:
        """Stop rendering and free everything."""
        self._worker.close()

    # -- transport --------------------------------------------------------------------------------------

    def play(self) -> None:
        """Play from the place that was left; after the end or outside of the loop, from its beginning."""
        if self.score is None:
            return
        audio = self._audio()
        if audio is not None and audio.done and self._place is None and self._frame >= audio.frames:
            self._frame = 0
        if self.span is not None and not self.span[0] - 1e-6 <= self.score_sec < self.span[1]:
            self.seek(self.span[0])
        self._playing = True

    def pause(self) -> None:
        """Fade out and stay here."""
        self._halt()
        self._was_playing = True

    def stop(self) -> None:
        """Fade out and go back to the beginning."""
        self._halt()
        self._was_playing = False
        self._frame, self._place = 0, None

    def seek(self, score_sec: float) -> None:
        """Go to a place in the score; at once where it is rendered, else as soon as it is."""
        if self.score is None:
            return
        playing = self._playing
        self._halt()
        self._playing = playing
        self._place = float(min(max(score_sec, 0.0), self.score.duration_sec))
        self._settle_place()

    def loop(self, span: tuple[float, float] | None) -> None:
        """Repeat between two places of the score, or no more.

        Raises
        ------
        ValueError
            When the end is not after the start.
        """
        if span is not None and not 0 <= span[0] < span[1]:
            raise ValueError(f"no loop from {span[0]} to {span[1]}")
        self.span = span

    def move_back(self, frames: int) -> None:
        """Be silent at once and paused, so many frames before the end of what was made: they went unheard."""
        if self._heads.active is not None:
            self._frame = max(self._heads.active.position - frames, 0)
        self._heads.drop()
        self._playing, self._was_playing = False, True

    @property
    def idle(self) -> bool:
        """Whether it stays silent until someone asks for something."""
        return self._heads.quiet and not self._playing and self._due == self._heard

    @property
    def silent(self) -> bool:
        """Whether the next frames are silence: nothing fades, and play is not wanted or cannot start yet."""
        return self._heads.quiet and not (self._playing and self._place is None and self._can_start())

    @property
    def score_sec(self) -> float:
        """Place in the score."""
        if self._place is not None:
            return self._place
        audio = self._audio()
        if self.score is None or audio is None or audio.places is None:
            return 0.0
        return min(max(audio.places.to_score(self._now() / self.rate), 0.0), self.score.duration_sec)

    def status(self) -> DeckStatus:
        """How things are; cheap."""
        number, voice = self._heard
        take, audio, now = self._worker.takes.get(number), self._audio(), self._now()
        frames, total = (audio.frames, audio.total) if audio is not None else (0, 0)
        speed = take.speed(voice) if take is not None else 0.0
        error = self._worker.errors.get(self._due[0]) or self._worker.errors.get(number)
        waiting = self._playing and self._heads.active is None
        return DeckStatus(
            state=self._state(error),
            score_sec=self.score_sec,
            position_sec=now / self.rate,
            duration_sec=total / self.rate,
            rendered_sec=frames / self.rate,
            ahead_sec=max(frames - now, 0) / self.rate,
            wait_sec=wait_sec(take, voice, self._goal_sec()) if waiting and take is not None else 0.0,
            rtf=1 / speed if speed else 0.0,
            take=number,
            voice=voice,
            next_take=self._due[0],
            next_voice=self._due[1],
            error=error,
        )

    def attend(self) -> None:
        """See to what is due without making sound; part of `mix`."""
        self._order_work()
        self._go_over()
        if self._heads.active is None:
            self._settle_place()

    def wait(self, count: int) -> None:
        """Wait until the next ``count`` frames can be played, for a host that does not play in real time."""
        while self._playing:
            self.attend()
            audio = self._audio()
            if self._heard[0] in self._worker.errors or self._due[0] in self._worker.errors:
                return
            if audio is not None and self._place is None and self._due == self._heard:
                there = audio.done or audio.frames - self._now() >= count + self._heads.fade
                if there and (self._heads.active is not None or self._can_start()):
                    return
            time.sleep(_WAIT_SEC)

    def mix(self, count: int) -> np.ndarray:
        """The next frames, float32 ``[count]``."""
        out = np.zeros(count, np.float32)
        done = 0
        while done < count:
            part = self._steer(count - done)
            out[done : done + part] = self._heads.play(part)
            done += part
        return out

    # -- inside -----------------------------------------------------------------------------------------

    def _steer(self, count: int) -> int:
        """Decide what the next frames are; returns how many of them, until something else may be."""
        self.attend()
        audio = self._audio()
        if audio is None:
            return count
        if self._heads.active is None:
            if not (self._playing and self._place is None and self._can_start()):
                return count
            self._heads.begin(audio, self._frame)
        head = self._heads.active
        assert head is not None
        loop = self._loop_frames(audio)
        if loop is not None and head.position == loop[1]:
            self._heads.begin(audio, loop[0])
            return self._steer(count)
        left = audio.frames - head.position
        if not audio.done:
            left -= self._heads.fade  # kept to fade out with, should nothing follow in time
        if left <= 0:
            self._frame = head.position
            if audio.done:
                self._heads.end()
                self._playing = self._was_playing = False
            else:
                self._heads.stop()
            return count
        if loop is not None and head.position < loop[1]:
            left = min(left, loop[1] - head.position)
        return min(count, left)

    def _order_work(self) -> None:
        """Tell the worker what to render: what is due, what is heard, and the deadpan to compare with."""
        audio = self._audio()
        near = audio is not None and not audio.done and audio.frames - self._now() < _NEAR_SEC * self.rate
        first = [self._heard, self._due] if near and self._playing else [self._due, self._heard]
        self._worker.want([*first, (self._due[0], "deadpan")])

    def _go_over(self) -> None:
        """Go over to the take or voice that is due, at the same place of the music, once that is rendered."""
        if self._due == self._heard or (take := self._worker.takes.get(self._due[0])) is None:
            return
        old, new, head = self._audio(), take.audio[self._due[1]], self._heads.active
        if old is None or old.places is None:
            self._now_hear(self._due)
            return
        frame = self._now()
        same = self._heard[0] == self._due[0] and "deadpan" not in (self._heard[1], self._due[1])
        if head is None:
            if self._place is None and frame and not same:
                self._place = old.places.to_score(frame / self.rate)
            self._now_hear(self._due)
        elif new.places is not None:
            if not same:
                place = old.places.to_score(frame / self.rate)
                frame = max(round(new.places.to_audio(place) * self.rate), 0)
            if enough(take, self._due[1], frame / self.rate):
                self._now_hear(self._due)
                self._heads.begin(new, frame)

    def _now_hear(self, source: Source) -> None:
        before, self._heard = self._heard[0], source
        if before != source[0] and before in self._passing:
            self._forget(before)

    def _forget(self, number: int) -> None:
        self._passing.discard(number)
        self._known.discard(number)
        self._worker.drop(number)

    def _settle_place(self) -> bool:
        """Turn a wanted place in the score into a frame, once that is decided; returns whether it is."""
        if self._place is None:
            return True
        audio = self._audio()
        if audio is None or audio.places is None:
            return False
        frame = audio.places.to_audio(self._place) * self.rate
        if not audio.done and frame > min(audio.places.known_sec * self.rate, audio.frames):
            return False
        self._frame, self._place = round(min(max(frame, 0), audio.frames)), None
        return True

    def _can_start(self) -> bool:
        take = self._worker.takes.get(self._heard[0])
        return take is not None and enough(take, self._heard[1], self._frame / self.rate)

    def _goal_sec(self) -> float:
        """Audio second at which playing is to begin."""
        audio = self._audio()
        if self._place is None or audio is None or audio.places is None:
            return self._frame / self.rate
        return audio.places.to_audio(self._place)

    def _halt(self) -> None:
        self._frame = self._now()
        self._heads.stop()
        self._playing = False

    def _audio(self) -> TakeAudio | None:
        take = self._worker.takes.get(self._heard[0])
        return None if take is None else take.audio[self._heard[1]]

    def _now(self) -> int:
        return self._frame if self._heads.active is None else self._heads.active.position

    def _loop_frames(self, audio: TakeAudio) -> tuple[int, int] | None:
        """First frame of the loop and the one after it; None where there is none, or not known yet."""
        if self.span is None or audio.places is None:
            return None
        start, end = (max(round(audio.places.to_audio(second) * self.rate), 0) for second in self.span)
        if not audio.done and end > min(audio.frames, audio.places.known_sec * self.rate):
            return None
        end = min(end, audio.frames)
        return (start, end) if end - start > 2 * self._heads.fade else None

    def _state(self, error: PkError | None) -> str:
        if self.score is None:
            return EMPTY
        if self._heads.active is not None:
            return PLAYING
        if error is not None and (self._heard[0] in self._worker.errors or self._audio() is None):
            return FAILED
        if self._playing:
            return WAITING
        return PAUSED if self._was_playing else STOPPED

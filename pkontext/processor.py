"""The instrument as an audio plugin has it: prepared, fed with MIDI, asked for blocks of audio.

A host calls `Processor.prepare` once and then `Processor.process` for block after block. Takes are
rendered on a thread of the processor's own; `process` never waits for it: while the audio of a place is not
there yet, it is silent and stays where it is, and `status` says for how long.

Threading: every method may be called from the one thread that calls `process`, and from no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from pkontext import parameters as table
from pkontext import synth
from pkontext.bundle import Bundle
from pkontext.deck import Deck, DeckStatus
from pkontext.live_voice import LiveVoice
from pkontext.resample import StreamResampler
from pkontext.session import pack_state, unpack_state
from pkontext.take import VOICES, RenderSettings
from pkontext.take_audio import LiveTake
from pkontext.types import Score

#: Seconds after the last change of a parameter until another take is made.
_SETTLE_SEC = 0.3
_GAIN_FADE_SEC = 0.02
#: Frames that are mixed at once for a resampled output.
_STEP = 512


class Processor:
    """Takes of one score, with parameters, presets and state.

    Parameters
    ----------
    bundle : Bundle
    threads : int
    provider : str
        See `pkontext.engine.open_networks`.

    Attributes
    ----------
    deck : Deck
        Transport and takes; see there for `play`, `pause`, `stop`, `seek`, `loop`, `select`, `drop`.
    latency_frames : int
        Frames of the output by which it lags behind what is played live.
    parameters, presets
        See `pkontext.parameters`.
    settings : RenderSettings
        Of the newest take.
    offline : bool
        Let `process` wait for audio that is not there yet, and for takes and voices that are due, as for a
        bounce; otherwise it is silent meanwhile.
    peak : float
        Largest absolute sample of the last block.
    """

    parameters = table.TABLE
    presets = table.PRESETS

    def __init__(self, bundle: Bundle, threads: int = 0, provider: str = "auto") -> None:
        self.bundle = bundle
        self.deck = Deck(bundle, threads, provider)
        self.rate = self.output_rate = self.deck.rate
        self.settings = RenderSettings()
        self.offline = False
        self.peak = 0.0
        self._values = table.defaults()
        self._settle: float | None = None
        self._gain = 1.0
        self._resampler: StreamResampler | None = None
        self._live: LiveVoice | None = None
        self._left_over = np.zeros((0, 1), np.float32)

    def prepare(self, sample_rate: int, block_size: int = 0) -> None:
        """Get ready to be asked for blocks; may be called again with other values.

        Parameters
        ----------
        sample_rate : int
            Hertz of what `process` returns.
        block_size : int
            Frames of a block, as a hint; blocks may be of any size.

        Raises
        ------
        DeviceError
            Without the FluidSynth library.
        """
        del block_size
        self.output_rate = sample_rate
        self._resampler = None if sample_rate == self.rate else StreamResampler(self.rate, sample_rate, 1)
        self._left_over = np.zeros((0, 1), np.float32)
        if self._live is None:
            spec = synth.SynthSpec(self.bundle.soundfont, self.bundle.manifest.synth.gain, self.rate)
            self._live = LiveVoice(spec)

    @property
    def latency_frames(self) -> int:
        """Frames of the output that are held back: those of a resampler, none at the take's own rate."""
        return 0 if self._resampler is None else self._resampler.held_frames + len(self._left_over)

    def process(self, midi_events: Iterable[tuple[int, bytes]], n_frames: int) -> np.ndarray:
        """The next block.

        Parameters
        ----------
        midi_events : iterable of (int, bytes)
            Frame in the block, and a MIDI message. Notes and pedals sound at once; start, continue and stop
            are obeyed; anything else is ignored.
        n_frames : int

        Returns
        -------
        ndarray
            float32 ``[n_frames, 1]`` at the rate of `prepare`.
        """
        for offset, message in midi_events:
            self._midi(offset, message)
        self.attend()
        if self._resampler is None:
            return self._mix(n_frames)
        while len(self._left_over) < n_frames:
            made = self._resampler.process(self._mix(_STEP))
            self._left_over = np.concatenate([self._left_over, made])
        block, self._left_over = self._left_over[:n_frames], self._left_over[n_frames:]
        return block

    def attend(self) -> None:
        """See to what is due without making sound, for a host that asks for no blocks for a while."""
        if self._settle is not None and time.monotonic() >= self._settle:
            self._settle = None
            if self.deck.score is not None:
                self.settings = table.applied(self._values, self.settings)
                self.deck.new_take(self.settings, passing=True)
        self.deck.attend()

    def get(self, name: str) -> float:
        """Value of a parameter."""
        return self._values[table.find(name).id]

    def set(self, name: str, value: float) -> None:
        """Change a parameter; one that makes another take is heard as soon as that take is there.

        Raises
        ------
        InputError
            ``parameter.unknown``, ``parameter.value``.
        """
        parameter = table.find(name)
        value = parameter.checked(value)
        if self._values[name] == value:
            return
        self._values[name] = value
        if parameter.makes_take:
            self._settle = time.monotonic() + _SETTLE_SEC
        elif name == "voice":
            self.deck.select(voice=VOICES[round(value)])
        elif name == "monitor" and self._live is not None:
            self._live.gain = table.gain(value)

    def use_preset(self, name: str) -> None:
        """Set all parameters of a preset; `KeyError` for an unknown one."""
        for key, value in self.presets[name].items():
            self.set(key, value)

    def load(self, score: Score, settings: RenderSettings | None = None) -> int:
        """Take another score, stopped at its beginning, and begin a take of it; returns the take's number."""
        self.deck.load(score)
        return self.new_take(settings or table.applied(self._values, self.settings))

    def new_take(self, settings: RenderSettings) -> int:
        """Begin a take and go over to it as soon as it is there; parameters follow. See `Deck.new_take`."""
        number = self.deck.new_take(settings)
        self.settings, self._settle = settings, None
        self._values |= table.taken(settings)
        return number

    def select(self, number: int | None = None, voice: str | None = None) -> None:
        """Go over to another take or voice, see `Deck.select`; parameters follow."""
        self.deck.select(number, voice)
        take = self.take(number) if number is not None else None
        if take is not None:
            self.settings = take.rendering.settings
            self._values |= table.taken(self.settings)
        self._values["voice"] = float(VOICES.index(self.deck.status().next_voice))

    def take(self, number: int) -> LiveTake | None:
        """See `Deck.take`."""
        return self.deck.take(number)

    def status(self) -> DeckStatus:
        """How things are; cheap."""
        return self.deck.status()

    @property
    def idle(self) -> bool:
        """Whether blocks are silent until someone asks for something."""
        live = self._live is not None and self._live.sounding
        return self.deck.idle and not live and self._settle is None

    @property
    def silent(self) -> bool:
        """Whether the next block is silence, so that a host need not ask for it."""
        return self.deck.silent and not (self._live is not None and self._live.sounding)

    def move_back(self, frames: int) -> None:
        """Be silent at once and paused, so many frames of the output before the end of what was made.

        For a host whose device was lost with these frames unheard.
        """
        held = frames + (self.latency_frames if self._resampler is not None else 0)
        self.deck.move_back(round(held * self.rate / self.output_rate))
        self.prepare(self.output_rate)

    def save_state(self) -> bytes:
        """Everything that `load_state` needs to come back here: score, settings, parameters, place."""
        deck = self.deck
        return pack_state(deck.score, self.settings, self._values, deck.score_sec, deck.span)

    def load_state(self, state: bytes) -> None:
        """Come back to a saved state, stopped at its place.

        Raises
        ------
        InputError
            ``state.damaged`` or ``state.version``; nothing has changed then.
        """
        score, settings, values, place, span = unpack_state(state)
        if score is not None:
            self.load(score, settings)
            self.deck.seek(place)
            self.deck.loop(span)
        self.settings, self._settle = settings, None
        self._values = table.defaults() | values

    def release(self) -> None:
        """Stop rendering and free everything; the processor is of no use after that."""
        self.deck.close()
        if self._live is not None:
            self._live.close()
            self._live = None

    # -- inside -----------------------------------------------------------------------------------------

    def _midi(self, offset: int, message: bytes) -> None:
        if not message:
            return
        if message[0] in (0xFA, 0xFB):
            if message[0] == 0xFA:
                self.deck.seek(0.0)
            self.deck.play()
        elif message[0] == 0xFC:
            self.deck.pause()
        elif self._live is not None:
            self._live.take(round(offset * self.rate / self.output_rate), message)

    def _mix(self, count: int) -> np.ndarray:
        if self.offline:
            self.deck.wait(count)
        out = self.deck.mix(count)
        self._fade_gain(out)
        if self._live is not None:
            self._live.add_to(out)
        self.peak = float(np.abs(out).max(initial=0.0))
        return out[:, None]

    def _fade_gain(self, out: np.ndarray) -> None:
        """Apply the volume; samples are left alone where it is 0 dB."""
        wanted = table.gain(self._values["volume"])
        if self._gain == wanted == 1.0:
            return
        if self._gain == wanted:
            out *= np.float32(wanted)
            return
        count = min(max(round(_GAIN_FADE_SEC * self.rate), 1), len(out))
        ramp = np.full(len(out), wanted, np.float32)
        ramp[:count] = np.linspace(self._gain, wanted, count + 1, dtype=np.float32)[1:]
        out *= ramp
        self._gain = wanted

"""What the welcome page tries: sound, keyboard, piano and model, for real, and how to mend it.

Threading: the functions are for the thread of a `gui.operations.Operation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from gui.client import PlayerClient
from gui.preferences_store import Preferences
from pkontext.errors import PkError

_Result = TypeVar("_Result")

#: What installs a missing library, by the code of the error.
_COMMANDS = {
    "device.library": "sudo apt-get install libportaudio2",
    "synth.library": "sudo apt-get install libfluidsynth3",
    "midi.library": "pip install python-rtmidi",
    "provider.missing": "pip install 'pkontext[cpu]'",
}


@dataclass(frozen=True)
class Finding:
    """How one check went.

    Attributes
    ----------
    state : str
        One of `gui.parts.StateIcon.KINDS`.
    text : str
        What was found.
    hint : str
        What to do; empty when all is well.
    command : str
        What installs what is missing; may be empty.
    """

    state: str
    text: str
    hint: str = ""
    command: str = ""


@dataclass(frozen=True)
class StartCheck:
    """One check: what it is about, the page of the preferences that helps, and the function."""

    name: str
    page: str
    find: Callable[[], Finding]


def start_checks(store: Preferences | None = None, client: PlayerClient | None = None) -> list[StartCheck]:
    """The checks, for what the user has chosen; call on the Qt thread."""
    device = None if store is None else store.device
    bundle = None if store is None else store.bundle
    return [
        StartCheck("audio", "audio", _guarded(lambda: _audio(client, device), "wrong")),
        StartCheck("midi", "midi", _guarded(_midi, "info")),
        StartCheck("piano", "", _guarded(_piano, "wrong")),
        StartCheck("model", "model", _guarded(lambda: _model(bundle), "wrong")),
    ]


def on_player(client: PlayerClient | None, action: Callable[[], _Result]) -> _Result:
    """Do something with PortAudio on the thread that opens outputs, if there is one already."""
    player = None if client is None else client.player
    return action() if player is None else player.call(lambda _: action())


def _guarded(function: Callable[[], Finding], state: str) -> Callable[[], Finding]:
    """A function whose error is a finding."""

    def find() -> Finding:
        try:
            return function()
        except PkError as error:
            kind = "wrong" if error.code in _COMMANDS else state
            return Finding(kind, error.message, error.hint, _COMMANDS.get(error.code, ""))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return Finding("wrong", text, "Run `pkontext doctor` for more, and report it.")

    return find


def _audio(client: PlayerClient | None, device: str | None) -> Finding:
    from pkontext.devices import find_output

    found = on_player(client, lambda: find_output(device))
    return Finding("good", f"{found.name} ({found.host})")


def _midi() -> Finding:
    from pkontext.ports import default_input, list_inputs

    default = default_input()
    others = len(list_inputs()) - 1
    return Finding("good", default.name + (f" and {others} more" if others > 0 else ""))


def _piano() -> Finding:
    """Play a middle C through FluidSynth."""
    from pkontext import synth
    from pkontext.bundle import PACKAGE_DATA

    spec = synth.SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
    events = synth.deadpan_events(np.zeros(1), np.ones(1), np.array([60], np.uint8), spec.sample_rate)
    audio = np.concatenate(list(synth.render(events, spec, spec.sample_rate // 4)))
    if not np.abs(audio).max() > 1e-3:
        return Finding("wrong", "A test note is silent.", "Install PianoKontext and FluidSynth again.")
    return Finding("good", "A test note sounds")


def _model(path: Path | None) -> Finding:
    """Verify every file, and open a network."""
    from pkontext.bundle import listed_files, open_bundle
    from pkontext.runtime import Graph

    bundle = open_bundle(path)
    manifest = bundle.manifest
    smallest = min(manifest.graphs, key=lambda name: manifest.graphs[name].bytes)
    Graph(bundle.graph_path(smallest), 1, "cpu")
    count = len(listed_files(manifest))
    return Finding("good", f"{manifest.id} {manifest.version}, {count} files verified")

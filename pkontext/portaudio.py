"""PortAudio and its traps: loading it, listing devices anew, and letting go of it unharmed.

PortAudio lists devices once, when it is initialised. `refresh` initialises it anew, which ends every
open stream, so it refuses while an output is open.

When a JACK server dies, PortAudio's JACK part (19.6 and 19.7) cannot recover: stopping a stream waits
for ten minutes, and closing one, or ending PortAudio, fails an assertion that ends the *process*
(``pa_jack.c``, ``RealStop``, ``CleanUpStream``, ``Terminate``). So everything of that kind goes
through here: JACK is asked first whether it is alive, and if not, PortAudio is left as it is for the
rest of the process. Other sound systems go on working; JACK needs the program to be started again.

Threading: one thread at a time, the one that opens and closes outputs.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pkontext.errors import DeviceError

JACK = "JACK Audio Connection Kit"
LIBRARY_HINT = (
    "Install it with `sudo apt-get install libportaudio2` (Debian, Ubuntu), "
    "or `pip install --force-reinstall sounddevice` (macOS, Windows)."
)
#: How long a sound system may take to answer.
PATIENCE_SEC = 3.0


class _Closable(Protocol):
    def close(self) -> None: ...


class _Library:
    """What this process knows of PortAudio: the outputs that are open, and whether JACK has died."""

    def __init__(self) -> None:
        self.outputs: set[_Closable] = set()
        self.guarded = False
        self.jack_died = False


_library = _Library()


def load() -> Any:
    """Return the ``sounddevice`` module; the first call initialises PortAudio.

    Raises
    ------
    DeviceError
        ``device.library`` when PortAudio or the package is missing or cannot start.
    """
    try:
        import sounddevice
    except Exception as error:  # a missing library is an OSError, a broken sound system PortAudio's own
        raise DeviceError(
            "device.library", f"The PortAudio library could not be loaded ({error}).", LIBRARY_HINT
        ) from error
    if not _library.guarded:
        _library.guarded = True
        atexit.unregister(sounddevice._exit_handler)
        atexit.register(_end)
    return sounddevice


def refresh() -> None:
    """Make PortAudio list the devices anew.

    Raises
    ------
    DeviceError
        ``device.busy`` while an output is open; ``device.jack_died``; ``device.library``.
    """
    sounddevice = load()
    if _library.outputs:
        raise DeviceError(
            "device.busy",
            "The list of audio devices cannot be renewed while one of them is open.",
            "Stop playing first.",
        )
    if not jack_is_sound():
        raise DeviceError(
            "device.jack_died",
            "The JACK server has ended, and the list of audio devices cannot be renewed after that.",
            "Choose another output, or start this program again when JACK runs.",
        )
    try:
        while sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise DeviceError(
            "device.library", f"The sound system could not be started ({error}).", LIBRARY_HINT
        ) from error


def hold(output: _Closable) -> None:
    """Note that an output is open: it is closed when the program ends, and `refresh` leaves it alone."""
    _library.outputs.add(output)


def release(output: _Closable) -> None:
    """Note that an output is closed; harmless when it was not open."""
    _library.outputs.discard(output)


def is_busy() -> bool:
    """Whether an output is open."""
    return bool(_library.outputs)


def jack_died() -> bool:
    """Whether a JACK server has been found dead, so that JACK is out of reach for this process."""
    return _library.jack_died


def give_up_jack() -> None:
    """Note that the JACK server has died."""
    _library.jack_died = True


def jack_is_sound() -> bool:
    """Whether JACK is not used at all or answers; asks by opening a stream, which is safe if it is dead."""
    if _library.jack_died:
        return False
    sounddevice = load()
    hosts = sounddevice.query_hostapis()
    index = next((host["default_output_device"] for host in hosts if host["name"] == JACK), -1)
    if index < 0:
        return True

    def ask() -> None:
        sounddevice.RawOutputStream(device=index, channels=1, dtype="float32").close()

    _library.jack_died = not attempt(ask)
    return not _library.jack_died


def attempt(operation: Callable[[], object]) -> bool:
    """Do something that may never return, such as stopping a lost stream; whether it was done in time."""
    sounddevice = load()
    done: list[bool] = []

    def run() -> None:
        with contextlib.suppress(sounddevice.PortAudioError):
            operation()
            done.append(True)

    thread = threading.Thread(target=run, name="pkontext-portaudio", daemon=True)
    thread.start()
    thread.join(PATIENCE_SEC)
    return bool(done)


def _end() -> None:
    """At the end of the program: close what is open, and PortAudio where that is safe."""
    sounddevice = load()
    for output in list(_library.outputs):
        output.close()
    if sounddevice._initialized and jack_is_sound():
        sounddevice._exit_handler()

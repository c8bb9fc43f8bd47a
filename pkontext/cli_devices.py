"""The command ``pkontext devices``: which audio outputs there are, and whether one plays without gaps."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkontext.cli_common import Reporter, shows_errors

if TYPE_CHECKING:
    import numpy as np

    from pkontext.devices import AudioDevice
    from pkontext.output_status import OutputStatus

_TONE_SEC = 2.0
_TONE_HERTZ = 440.0
_TONE_LEVEL = 10 ** (-24 / 20)
_FADE_SEC = 0.05
_AHEAD_SEC = 0.1

_Test = Annotated[
    str | None,
    typer.Option(
        "--test",
        metavar="NAME",
        help="Play a quiet tone of two seconds on the output of this name ('default' for the default one).",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command()
    @shows_errors
    def devices(test: _Test = None, as_json: _Json = False) -> None:
        """List the audio outputs, or play a tone on one of them."""
        reporter = Reporter(as_json)
        if test is None:
            show_outputs(reporter)
        else:
            play_tone(None if test == "default" else test, reporter)


def show_outputs(reporter: Reporter) -> None:
    """Print the outputs as a table or as one JSON object."""
    from pkontext.devices import find_output, list_outputs

    found = list_outputs()
    if reporter.as_json:
        reporter.event("devices", devices=[_fields(device) for device in found])
        return
    if not found:
        find_output()  # says what to do where there is none
    _print_table(found)


def play_tone(name: str | None, reporter: Reporter) -> None:
    """Play the tone and report what the output counted.

    Raises
    ------
    DeviceError
        When the output is not there, cannot be opened or is lost.
    """
    from pkontext.output import SpeakerOutput
    from pkontext.ring import Ring

    rate = 44100
    ring = Ring(rate, 1)
    output = SpeakerOutput(ring, rate, name)
    try:
        tone = _tone(output.sample_rate)
        reporter.line(f"Playing a tone on {output.device.device_name}; Ctrl-C stops it.")
        ring.write(tone[: int(_AHEAD_SEC * output.sample_rate)])
        output.expecting = True
        output.start()
        status = output.status()
        while status.consumed < len(tone):
            written = ring.written
            ahead = int(_AHEAD_SEC * output.sample_rate) - ring.readable
            ring.write(tone[written : written + max(0, ahead)])
            output.expecting = ring.written < len(tone)
            time.sleep(0.005)
            status = output.status()
            if status.error is not None:
                raise status.error
        output.stop()
    finally:
        output.close()
    _say_result(output.device, status, reporter)


def _tone(rate: int) -> np.ndarray:
    """A quiet sine that fades in and out: float32 ``[frames, 1]``."""
    import numpy as np

    frames = int(_TONE_SEC * rate)
    time_sec = np.arange(frames) / rate
    fade = np.minimum(1.0, np.minimum(time_sec, time_sec[::-1]) / _FADE_SEC)
    return (_TONE_LEVEL * fade * np.sin(2 * np.pi * _TONE_HERTZ * time_sec)).astype(np.float32)[:, None]


def _fields(device: AudioDevice) -> dict[str, Any]:
    """What scripts see of a device; its number is of no use to them."""
    return {key: value for key, value in asdict(device).items() if key != "index"}


def _say_result(device: AudioDevice, status: OutputStatus, reporter: Reporter) -> None:
    reporter.event(
        "test",
        host=device.host,
        name=device.name,
        sample_rate=status.sample_rate,
        latency_ms=round(1000 * status.latency_sec, 1),
        frames=status.consumed,
        underruns=status.underruns,
        missing_frames=status.missing_frames,
        xruns=status.xruns,
        late=status.late,
    )
    gaps = f"{status.underruns} underruns, {status.xruns} xruns"
    reporter.line(
        f"Played {status.consumed / status.sample_rate:.1f} s at {status.sample_rate} Hz: "
        f"{gaps if status.underruns or status.xruns else 'no gaps'}; "
        f"latency {1000 * status.latency_sec:.1f} ms."
    )


def _print_table(found: list[AudioDevice]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("", "output", "channels", "rate (Hz)", "latency (ms)", box=SIMPLE)
    for device in found:
        table.add_row(
            "*" if device.is_default else "",
            str(device.device_name),
            str(device.channels),
            str(device.default_rate),
            f"{device.latency_low_ms:g} to {device.latency_high_ms:g}",
        )
    Console(soft_wrap=True, markup=False, highlight=False).print(table)
    print("* is the default. Choose one by its name, or by a part of it that fits no other.")

"""The command ``pkontext ports``: the MIDI ports that there are, and an end to notes that hang on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pkontext.cli_common import Json, Reporter, shows_errors
from pkontext.errors import DeviceError

if TYPE_CHECKING:
    from pkontext.ports import PortInfo


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(shows_errors(ports))


def ports(
    *,
    port: Annotated[
        str | None, typer.Argument(metavar="PORT", help="With --panic: this output only.")
    ] = None,
    panic: Annotated[
        bool, typer.Option("--panic", help="End all notes on the output, or on every one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the MIDI ports to record from and to play to; with --panic, end notes that hang."""
    if panic:
        _end_notes(port, Reporter(as_json))
        return
    if port is not None:
        raise typer.BadParameter("a port is named with --panic only; without it, all ports are listed")
    from pkontext.ports import list_inputs, list_outputs

    inputs, outputs = list_inputs(), list_outputs()
    if as_json:
        fields = {
            name: [{"api": port.api, "name": port.name} for port in found]
            for name, found in (("inputs", inputs), ("outputs", outputs))
        }
        print(json.dumps({"event": "ports", **fields}, ensure_ascii=False))
        return
    for title, found in (("Inputs, to record from", inputs), ("Outputs, to play to", outputs)):
        print(f"{title}:")
        for info in found:
            print(f"  {info.name}  ({info.api})")
        if not found:
            print("  none")


def _end_notes(name: str | None, reporter: Reporter) -> None:
    """Send a panic to one output or to all; one that fails does not keep the others from it.

    Raises
    ------
    DeviceError
        ``midi.unknown_port``, ``midi.no_output``, or the first error of a port.
    """
    from pkontext.ports import find_port, list_outputs

    outputs = list_outputs()
    if not outputs and name is None:
        raise DeviceError(
            "midi.no_output",
            "There is no MIDI output.",
            "Connect and switch on the instrument whose notes hang, then try again.",
        )
    chosen = outputs if name is None else [outputs[find_port(name, outputs)]]
    failed = [error for info in chosen if (error := _try_panic(info, reporter)) is not None]
    if failed:
        raise failed[0]


def _try_panic(info: PortInfo, reporter: Reporter) -> DeviceError | None:
    from pkontext.midi_out import panic
    from pkontext.midi_play import open_output

    try:
        with open_output(info.name) as opened:
            panic(opened.send)
    except DeviceError as error:
        reporter.event("warning", port=info.name, message=error.message)
        reporter.line(f"{info.name}: {error.message}", "yellow")
        return error
    reporter.event("panic", port=info.name, api=info.api)
    reporter.line(f"{info.name}: all notes off", "green")
    return None

"""A host for the processor in forty lines: bounces a performance, the deadpan and a note played live.

python examples/host.py piece.mid out.wav
"""

import sys
from pathlib import Path

import soundfile

from pkontext.bundle import open_bundle
from pkontext.processor import Processor
from pkontext.score import load_score

RATE, BLOCK = 48000, 512


def main(source: str, target: str) -> None:
    processor = Processor(open_bundle())
    processor.prepare(RATE, BLOCK)
    for parameter in processor.parameters:  # a host makes its controls of this table
        print(f"{parameter.name}: {parameter.to_text(processor.get(parameter.id))}")
    processor.load(load_score(Path(source)))
    processor.set("expressiveness", 1.1)
    processor.offline = True  # wait for the render; a live host leaves this out and gets silence meanwhile
    processor.deck.play()
    with soundfile.SoundFile(target, "w", RATE, 1) as file:
        for number in range(12 * RATE // BLOCK):
            if number == 6 * RATE // BLOCK:
                processor.select(voice="deadpan")  # the same place of the music
            events = [(100, b"\x90\x3c\x50")] if number == 9 * RATE // BLOCK else []
            file.write(processor.process(events, BLOCK))
    Path(target).with_suffix(".state.json").write_bytes(processor.save_state())
    processor.release()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Play for a long time through a real sound system while someone presses everything, and count.

``python -m tests.soak_player --minutes 10`` starts a private JACK server and plays the demo piece with
the built-in bundle: seeks, pauses, loops, voices, parameters, new takes and lost devices in random order. At
the end every sample that was made must have been recorded, in order, once; nothing may click; and threads,
open files and memory must be what they were.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pkontext.bundle import Bundle, open_bundle
from pkontext.errors import DeviceError
from pkontext.output import OutputStatus, SpeakerOutput
from pkontext.player import Player
from pkontext.ring import Ring
from pkontext.score import load_score
from pkontext.types import Score
from tests.clicks import find_clicks
from tests.jack_server import JackServer, jack_server

DEMO = Path(__file__).resolve().parent.parent / "pkontext" / "data" / "demo.mid"


@dataclass
class Report:
    """What a soak found; the first six must be 0."""

    clicks: int = 0
    lost_frames: int = 0
    underruns: int = 0
    threads_left: int = 0
    files_left: int = 0
    errors: int = 0
    minutes: float = 0.0
    actions: int = 0
    devices_lost: int = 0
    frames_played: int = 0
    unheard_frames: int = 0
    xruns: int = 0
    late: int = 0
    memory_begin_mb: float = 0.0
    memory_end_mb: float = 0.0
    cpu_share: float = 0.0


class Pulled(SpeakerOutput):
    """A speaker that can be pulled out: it plays no more and says that it is lost."""

    lost: DeviceError | None = None

    def pull(self) -> None:
        self.stop()
        self.lost = DeviceError("device.lost", "The audio output is gone.", "Connect it again.")

    def status(self) -> OutputStatus:
        status = super().status()
        return status if self.lost is None else replace(status, error=self.lost)


class Tapped:
    """An output factory that keeps what is written into each ring, and cuts it where a device was lost."""

    def __init__(self, server: JackServer, block: int) -> None:
        self.rings: list[tuple[Ring, list[np.ndarray]]] = []
        self.bytes = 0
        self._server, self._block = server, block

    def __call__(self, ring: Ring, rate: int) -> SpeakerOutput:
        written: list[np.ndarray] = []
        plain = ring.write

        def write(samples: np.ndarray) -> int:
            written.append(samples[:, 0].copy())
            self.bytes += samples.nbytes
            return plain(samples)

        ring.write = write  # type: ignore[method-assign]
        self.rings.append((ring, written))
        return Pulled(ring, rate, self._server.device, self._block)


def soak(
    server: JackServer, bundle: Bundle, score: Score, seconds: float, block: int = 512, seed: int = 0
) -> Report:
    """Play for so long, then check everything."""
    rng, report = np.random.default_rng(seed), Report()
    tap = Tapped(server, block)
    with server.recorder(seconds + 60) as recorder:
        threads = threading.active_count()
        player = Player(bundle, tap)
        player.load(score)
        player.play()
        _until(lambda: player.status.level > 0)
        files = _open_files()
        begun, cpu = time.monotonic(), time.process_time()
        takes: list[int] = []

        def memory() -> float:
            """Without the recording and what was kept to compare it with."""
            return _memory_mb() - (recorder.frames * 8 + tap.bytes) / 1e6

        while time.monotonic() - begun < seconds:
            _act(player, score, rng, takes, report)
            time.sleep(float(rng.choice([0.02, 0.2, 0.6, 1.5])))
            if time.monotonic() - begun > seconds / 3 and not report.memory_begin_mb:
                report.memory_begin_mb = memory()
            report.errors += player.status.error is not None and player.status.error.code != "device.lost"
        report.cpu_share = (time.process_time() - cpu) / (time.monotonic() - begun)
        player.pause()
        _until(lambda: player.status.deck.state != "playing" and player.status.level == 0)
        time.sleep(0.5)
        status = player.status
        report.memory_end_mb = memory()
        report.files_left = max(_open_files() - files, 0)
        player.close()
        heard = recorder.samples[:, 0]
        report.xruns = recorder.xruns
    report.threads_left = max(threading.active_count() - threads, 0)
    report.minutes, report.underruns, report.late = seconds / 60, status.underruns, status.late
    _compare(heard, tap, report)
    return report


def _act(player: Player, score: Score, rng: np.random.Generator, takes: list[int], report: Report) -> None:
    """Do one thing that a user may do."""
    report.actions += 1
    end = score.duration_sec
    action = rng.choice(
        ["seek", "seek", "pause", "play", "play", "loop", "unloop", "voice", "seed", "tempo", "take", "lose"],
        p=[0.15, 0.15, 0.12, 0.13, 0.1, 0.07, 0.05, 0.1, 0.04, 0.03, 0.04, 0.02],
    )
    if action == "seek":
        player.seek(float(rng.uniform(0, end)))
    elif action == "pause":
        player.pause()
    elif action == "play":
        player.play()
    elif action == "loop":
        start = float(rng.uniform(0, end - 2))
        player.loop((start, start + float(rng.uniform(0.2, 2.0))))
    elif action == "unloop":
        player.loop(None)
    elif action == "voice":
        player.select(voice=str(rng.choice(["neural", "sampler", "deadpan"])))
    elif action == "seed":
        player.set("seed", int(rng.integers(1000)))
    elif action == "tempo":
        player.set("tempo", float(rng.choice([0.8, 0.9, 1.0, 1.1])))
    elif action == "take":
        takes.append(player.call(lambda processor: processor.new_take(processor.settings)))
        for number in takes[:-2]:
            _drop(player, number)
            takes.remove(number)
    else:
        _lose(player)
        report.devices_lost += 1
    if rng.random() < 0.3:
        player.play()


def _drop(player: Player, number: int) -> None:
    def drop(processor: Any) -> None:
        status = processor.status()
        if number not in (status.take, status.next_take):
            processor.deck.drop(number)

    player.call(drop)


def _lose(player: Player) -> None:
    """End the stream under the player, as a device that is pulled out does."""

    def pull(_: Any) -> None:
        if isinstance(player._output, Pulled):
            player._output.pull()

    player.call(pull)
    time.sleep(0.4)
    player.play()


def _compare(heard: np.ndarray, tap: Tapped, report: Report) -> None:
    """Every sample that was made must have been heard in order, but for those behind a lost device.

    Zeros are left out on both sides: silence is filled in where nothing is to play.
    """
    heard_frames = np.flatnonzero(heard)
    at, cuts = 0, []
    for number, (_, written) in enumerate(tap.rings):
        made = np.concatenate([np.zeros(0, np.float32), *written])
        made = made[made != 0]
        count = _same(made, heard[heard_frames[at : at + len(made)]])
        last = number == len(tap.rings) - 1
        if last:
            report.lost_frames += len(made) - count
        else:
            report.unheard_frames = max(report.unheard_frames, len(made) - count)
            if len(made) - count > 0.25 * 44100:
                report.lost_frames += len(made) - count
            cuts.append(heard_frames[min(max(at + count - 1, 0), len(heard_frames) - 1)])
        at += count
    report.frames_played = at
    report.lost_frames += len(heard_frames) - at  # more was heard than was made
    clicks = np.array(find_clicks(heard, 44100), int)
    for cut in cuts:  # a device that is pulled out cuts the sound
        clicks = clicks[np.abs(clicks - cut) > 4410]
    report.clicks = len(clicks)


def _same(a: np.ndarray, b: np.ndarray) -> int:
    """How many values are equal before the first difference."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def _memory_mb() -> float:
    """Resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _until(condition: Any, limit_sec: float = 60.0) -> None:
    end = time.monotonic() + limit_sec
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("nothing happened for a minute")
        time.sleep(0.01)


def main() -> int:
    """Run a soak and print its report; returns 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--block", type=int, default=512, help="frames a callback")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with jack_server(period=options.block) as server:
        bundle, score = open_bundle(), load_score(DEMO)
        report = soak(server, bundle, score, 60 * options.minutes, options.block, options.seed)
    print(json.dumps(asdict(report), indent=1))
    bad = (report.clicks, report.lost_frames, report.underruns, report.threads_left, report.files_left)
    return int(any(bad))


if __name__ == "__main__":
    raise SystemExit(main())

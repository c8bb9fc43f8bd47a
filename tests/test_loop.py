"""The training loop: resumable to the step, one decision for all processes, a state that is whole.

Run as a program (by a launcher, see `test_two_processes_train_one_model`) it is one process of two.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import train.__main__ as program
from tests.conftest import REPOSITORY
from train import codec, curves, latents, state
from train.loop import LoopConfig, fit
from train.state import StateError, load_state, save_state


def line_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    x, y = batch
    return {"loss": (model(x) - y).pow(2).mean()}


def line_batch(number: int) -> tuple[Tensor, Tensor]:
    """A batch that depends on its number alone."""
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    return x, x.sum(1, keepdim=True) + 1


def line_batches(first: int = 0, stop: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbered batches; after number ``stop`` the run is interrupted."""
    number = first
    while stop is None or number < stop:
        yield line_batch(number)
        number += 1
    raise KeyboardInterrupt


class Numbered(Iterator[tuple[Tensor, Tensor]]):
    """Batches that can be asked for by number, ``joined`` of them in one."""

    def __init__(self, joined: int = 1, wait: float = 0.0) -> None:
        self.step, self.joined, self.wait = 0, joined, wait
        self.drawn: list[int] = []

    def __next__(self) -> tuple[Tensor, Tensor]:
        time.sleep(self.wait)
        numbers = range(self.step * self.joined, (self.step + 1) * self.joined)
        self.drawn += numbers
        self.step += 1
        x, y = zip(*map(line_batch, numbers), strict=True)
        return torch.cat(x), torch.cat(y)


def line() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def rows(out: Path) -> list[dict[str, str]]:
    """All rows of a run's log."""
    with (out / "log.csv").open() as handle:
        return list(csv.DictReader(handle))


def logged(out: Path, name: str) -> list[float]:
    """Values of one column of a run's log, in order."""
    return [float(row["value"]) for row in rows(out) if row["name"] == name]


@pytest.fixture
def loop(tmp_path: Path) -> LoopConfig:
    """Six steps, each logged."""
    return LoopConfig(str(tmp_path / "run"), max_steps=6, lr=0.05, warmup=2, ema=0.5, log_every=1)


# ---- budget, schedule, mean, resuming -----------------------------------------------------------


def test_learning_rate_warms_up_and_ends_at_zero(loop: LoopConfig) -> None:
    config = replace(loop, max_steps=40, warmup=4)
    fit(line(), line_loss, line_batches(), config)
    rates = logged(Path(config.out), "lr")
    assert len(rates) == 40
    assert rates[0] == pytest.approx(config.lr / 4)
    assert np.argmax(rates) in (3, 4) and max(rates) == pytest.approx(config.lr, rel=0.02)
    assert rates[19] == pytest.approx(config.lr / 2, rel=0.1)
    assert rates[-1] < 0.002 * config.lr and (np.diff(rates[4:]) < 0).all()


def test_time_budget_ends_the_run_and_the_schedule(loop: LoopConfig) -> None:
    def slow() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in line_batches():
            time.sleep(0.01)
            yield batch

    config = replace(loop, max_steps=1_000_000, max_minutes=0.5 / 60)
    started = time.monotonic()
    fit(line(), line_loss, slow(), config)
    assert 0.5 <= time.monotonic() - started < 1.5
    rates = logged(Path(config.out), "lr")
    assert 5 < len(rates) <= 50 and rates[-1] < 0.1 * config.lr


def test_used_up_budget_trains_no_further(loop: LoopConfig) -> None:
    trained = fit(line(), line_loss, line_batches(), loop)
    again = fit(line(), line_loss, line_batches(stop=0), loop, resume=True)
    for a, b in zip(trained.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_are_the_running_mean(loop: LoopConfig) -> None:
    """After step k the mean moves by ``1 - min(ema, k / (k + 9))`` towards the weights."""
    seen: list[Tensor] = []

    def recording(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        seen.append(model.state_dict()["0.weight"].clone())
        return line_loss(model, batch)

    trained = fit(line(), recording, line_batches(), loop)
    state = load_file(Path(loop.out) / "state.safetensors")
    mean = seen[0]
    for step, weight in enumerate([*seen[1:], state["model.0.weight"]], 1):
        mean = mean.lerp(weight, 1 - min(loop.ema, step / (step + 9)))
    torch.testing.assert_close(trained.state_dict()["0.weight"], mean)
    stored = load_file(Path(loop.out) / "model.safetensors")["0.weight"]
    assert torch.equal(stored, trained.state_dict()["0.weight"])
    assert not torch.equal(stored, state["model.0.weight"])


def test_validation_sees_the_mean_and_changes_nothing(loop: LoopConfig, tmp_path: Path) -> None:
    plain = fit(line(), line_loss, line_batches(), loop)
    seen: list[Tensor] = []

    def validate(model: nn.Module) -> dict[str, float]:
        assert not model.training and not torch.is_grad_enabled()
        seen.append(model.state_dict()["0.weight"].clone())
        return {"x": float(len(seen))}

    config = replace(loop, out=str(tmp_path / "validated"), save_minutes=0.0)
    checked = fit(line(), line_loss, line_batches(), config, validate=validate)
    assert logged(Path(config.out), "val_x") == list(range(1, len(seen) + 1)) and len(seen) >= 6
    assert torch.equal(seen[-1], checked.state_dict()["0.weight"])
    assert torch.equal(checked.state_dict()["0.weight"], plain.state_dict()["0.weight"])


@pytest.mark.parametrize("parts", [False, True])
def test_resumed_run_equals_an_uninterrupted_one(loop: LoopConfig, tmp_path: Path, parts: bool) -> None:
    straight = fit(line(), line_loss, line_batches(), loop)
    broken = replace(loop, out=str(tmp_path / "broken"), save_minutes=0.0, parts=parts)
    with pytest.raises(KeyboardInterrupt):
        fit(line(), line_loss, line_batches(stop=3), broken)
    torch.manual_seed(99)
    other = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))  # its weights must not matter
    resumed = fit(other, line_loss, line_batches(first=3), broken, resume=True)
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    states = [load_state(Path(run.out)) for run in (loop, broken)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] if name != "minutes")
    assert logged(Path(broken.out), "loss") == logged(Path(loop.out), "loss")
    assert int(states[1]["step"]) == 6


def test_the_log_goes_on_at_the_step_of_the_state(loop: LoopConfig, tmp_path: Path) -> None:
    """Steps that were logged but lost with an unsaved end of the run are in the log once, not twice."""
    fit(line(), line_loss, line_batches(), loop)
    lost = replace(loop, out=str(tmp_path / "lost"), max_steps=6)
    half = replace(lost, max_steps=3)
    fit(line(), line_loss, line_batches(), half)
    with (Path(lost.out) / "log.csv").open("a") as handle:
        handle.write("4,0.001,loss,9.9\r\n5,0.0")
    fit(line(), line_loss, line_batches(first=3), lost, resume=True)
    steps = [int(row["step"]) for row in rows(Path(lost.out)) if row["name"] == "loss"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert 9.9 not in logged(Path(lost.out), "loss")


def test_batches_are_asked_for_by_number(loop: LoopConfig) -> None:
    fit(line(), line_loss, Numbered(), replace(loop, max_steps=3))
    batches = Numbered()
    fit(line(), line_loss, batches, loop, resume=True)
    assert batches.drawn == [3, 4, 5]


@pytest.mark.parametrize("name", ["model.0.weight", "ema.2.bias", "step"])
def test_resuming_is_strict(loop: LoopConfig, name: str) -> None:
    fit(line(), line_loss, line_batches(), loop)
    file = Path(loop.out) / "state.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != name}, file)
    with pytest.raises(StateError, match=r"without --resume|leave out --resume") as error:
        fit(line(), line_loss, line_batches(), loop, resume=True)
    assert error.value.code == "state.broken" and name.split(".", 1)[-1] in error.value.message


# ---- the state on disk --------------------------------------------------------------------------

LIMIT = 4096


def tensors(step: int = 7) -> dict[str, Tensor]:
    """A state with a tensor of five times the limit, one just as large, a scalar, bytes, nothing."""
    generator = torch.Generator().manual_seed(step)
    return {
        "large": torch.randn(51, 100, generator=generator),
        "exact": torch.randn(1024, generator=generator),
        **{f"small.{i}": torch.randn(7, 9, generator=generator) for i in range(40)},
        "doubles": torch.randn(3, 300, generator=generator, dtype=torch.float64),
        "half": torch.randn(9, generator=generator).half(),
        "empty": torch.zeros(0, 3),
        "step": torch.tensor(step),
    }


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in wanted.items()
    )


def test_a_state_in_parts_is_the_same_state(tmp_path: Path) -> None:
    save_state(tmp_path, tensors(), parts=True, limit=LIMIT)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 8 and not (tmp_path / "state.safetensors").exists()
    assert all(f.stat().st_size <= LIMIT for f in files if f.suffix == ".safetensors")
    assert same(load_state(tmp_path), tensors())


def test_parts_of_a_real_size_keep_the_limit(tmp_path: Path) -> None:
    many = {f"block.{i}.some.long.name.of.a.weight": torch.zeros(3, 5) for i in range(3000)}
    save_state(tmp_path, {"step": torch.tensor(1), "w": torch.ones(9_000_000), **many}, parts=True)
    sizes = [f.stat().st_size for f in tmp_path.glob("state-*")]
    assert len(sizes) == 4 and max(sizes) <= 15_000_000


def test_the_last_form_saved_is_the_only_one_left(tmp_path: Path) -> None:
    save_state(tmp_path, tensors(1), parts=False)
    save_state(tmp_path, tensors(2), parts=True, limit=LIMIT)
    save_state(tmp_path, tensors(3), parts=True, limit=LIMIT)
    assert same(load_state(tmp_path), tensors(3))
    assert {f.name.split("-")[1] for f in tmp_path.glob("state-*")} == {"0000003"}
    assert not (tmp_path / "state.safetensors").exists()
    save_state(tmp_path, tensors(4), parts=False)
    assert [f.name for f in tmp_path.iterdir()] == ["state.safetensors"]
    assert same(load_state(tmp_path), tensors(4))


@pytest.mark.parametrize("parts", [False, True])
def test_an_interrupted_save_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    """The disk fills up as the last file, the index or the whole state, is about to be replaced."""
    save_state(tmp_path, tensors(1), parts, LIMIT)
    move = os.replace

    def full(source: Path, target: Path) -> None:
        if target.name in ("state.safetensors", "state.index.json"):
            raise OSError("No space left on device")
        move(source, target)

    monkeypatch.setattr(state.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path, tensors(2), parts, LIMIT)
    assert same(load_state(tmp_path), tensors(1))


@pytest.mark.parametrize("later", ["whole", "parts"])
def test_of_two_forms_the_later_counts(tmp_path: Path, later: str) -> None:
    """Both are there when a run is killed between writing one and removing the other."""
    other = tmp_path / "other"
    other.mkdir()
    save_state(tmp_path, tensors(2 if later == "parts" else 1), parts=True, limit=LIMIT)
    save_state(other, tensors(2 if later == "whole" else 1), parts=False)
    (other / "state.safetensors").rename(tmp_path / "state.safetensors")
    assert same(load_state(tmp_path), tensors(2))


def test_a_missing_state_is_one_clear_error(loop: LoopConfig) -> None:
    with pytest.raises(StateError, match="nothing to go on from") as error:
        fit(line(), line_loss, line_batches(), loop, resume=True)
    assert error.value.code == "state.missing" and "Leave out --resume" in error.value.hint


def test_a_missing_part_is_one_clear_error(tmp_path: Path) -> None:
    save_state(tmp_path, tensors(), parts=True, limit=LIMIT)
    (tmp_path / "state-0000007-003.safetensors").unlink()
    with pytest.raises(StateError, match=r"lacks state-0000007-003\.safetensors, one of its") as error:
        load_state(tmp_path)
    assert error.value.code == "state.part" and "Put the file back" in error.value.hint


@pytest.mark.parametrize("name", ["state.safetensors", "state-0000007-002.safetensors", "state.index.json"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str, size: int) -> None:
    save_state(tmp_path, tensors(), parts=name != "state.safetensors", limit=LIMIT)
    os.truncate(tmp_path / name, size)
    with pytest.raises(StateError, match="cannot be used") as error:
        load_state(tmp_path)
    assert error.value.code == "state.broken" and "Put back a copy" in error.value.hint


def test_the_state_of_another_model_is_one_clear_error(loop: LoopConfig) -> None:
    fit(line(), line_loss, line_batches(), loop)
    wider = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 1))
    with pytest.raises(StateError, match=r"size mismatch for 0\.weight"):
        fit(wider, line_loss, line_batches(), loop, resume=True)


# ---- interruption -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """A run that is told to stop between saves loses nothing."""
    loop = LoopConfig(str(tmp_path / "run"), max_steps=60, lr=0.05, warmup=2, log_every=1)
    run = subprocess.Popen(
        [sys.executable, __file__, "slow", loop.out],
        cwd=REPOSITORY, env=alone(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = Path(loop.out) / "log.csv"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 12) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}[number], said
    step = int(load_state(Path(loop.out))["step"])
    assert step == int(rows(Path(loop.out))[-1]["step"]) and 3 <= step < 60
    straight = fit(line(), line_loss, Numbered(), replace(loop, out=str(tmp_path / "straight")))
    resumed = fit(line(), line_loss, Numbered(), loop, resume=True)
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_signals_are_as_before_after_a_run(loop: LoopConfig) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    fit(line(), line_loss, line_batches(), loop)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_outside_the_main_thread_needs_no_signals(loop: LoopConfig) -> None:
    thread = threading.Thread(target=fit, args=(line(), line_loss, line_batches(), loop))
    thread.start()
    thread.join(30)
    assert int(load_state(Path(loop.out))["step"]) == 6


# ---- several processes --------------------------------------------------------------------------


def alone() -> dict[str, str]:
    """The environment of a process that uses one thread and finds the project."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """Gradients are averaged, so two processes equal one with the batches of both joined."""
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launched, __file__, "rank", str(tmp_path)],
        cwd=REPOSITORY, env=alone(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    loop = two_process_loop(tmp_path / "joined")
    single = fit(line(), line_loss, Numbered(joined=2), loop).state_dict()

    assert [f["drawn"] for f in found] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    for name, value in single.items():
        assert torch.equal(found[0]["weights"][name], found[1]["weights"][name])
        torch.testing.assert_close(found[0]["weights"][name], value, atol=1e-6, rtol=0)
    run = tmp_path / "run"
    assert logged(run, "loss") == pytest.approx(logged(tmp_path / "joined", "loss"), rel=1e-4)
    assert json.loads((run / "config.json").read_text())["processes"] == 2
    assert logged(run, "val_calls") == [1] and [f["validated"] for f in found] == [1, 0]

    # A fast clock in the second process, and a signal to it alone: both stop at the same step.
    assert found[0]["slow_steps"] == found[1]["slow_steps"] > 3
    assert [f["stopped"] for f in found] == [True, True]
    assert found[0]["stopped_steps"] == found[1]["stopped_steps"] == 3
    assert int(load_state(tmp_path / "stopped")["step"]) == 3
    assert [f["refused"] for f in found] == [True, True]


def two_process_loop(out: Path) -> LoopConfig:
    return LoopConfig(str(out), max_steps=6, lr=0.05, warmup=2, ema=0.5, log_every=1)


def one_of_two(out: Path) -> None:
    """What each of the two processes does; the results go to ``rankN.pt``."""
    rank, found = int(os.environ["RANK"]), {}
    calls: list[int] = []

    def validate(model: nn.Module) -> dict[str, float]:
        calls.append(1)
        return {"calls": float(len(calls))}

    batches = Numbered()
    trained = fit(line(), line_loss, batches, two_process_loop(out / "run"), validate=validate)
    found |= {"weights": trained.state_dict(), "drawn": batches.drawn, "validated": len(calls)}

    clock = time.monotonic
    if rank == 1:
        time.monotonic = lambda: 50 * clock()
    batches = Numbered(wait=0.005)
    fit(line(), line_loss, batches, LoopConfig(str(out / "slow"), max_minutes=0.3 / 60))
    time.monotonic = clock
    found["slow_steps"] = len(batches.drawn)

    batches = Numbered()

    def signalled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        if rank == 1 and len(batches.drawn) == 3:
            signal.raise_signal(signal.SIGTERM)
        return line_loss(model, batch)

    try:
        fit(line(), signalled, batches, LoopConfig(str(out / "stopped")))
        found["stopped"] = False
    except (KeyboardInterrupt, SystemExit):
        found["stopped"] = True
    found["stopped_steps"] = len(batches.drawn)
    try:
        fit(line(), line_loss, line_batches(), two_process_loop(out / "refused"))
        found["refused"] = False
    except TypeError:
        found["refused"] = True
    torch.save(found, out / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


# ---- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("command", ["codec", "refine", "curves", "latents"])
def test_commands_hand_the_form_of_the_state_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, parts: bool
) -> None:
    seen: list[LoopConfig] = []

    def stop(*arguments: object, **_: object) -> None:
        seen.extend(a for a in arguments if isinstance(a, LoopConfig))
        raise StateError("state.part", "A part is missing.", "Put it back.")

    for module in (codec, curves, latents):
        monkeypatch.setattr(module, f"train_{module.__name__.rpartition('.')[2]}", stop)
    monkeypatch.setattr(codec, "refine_decoder", stop)
    (tmp_path / "codec.json").write_text('{"hop": 4096, "sample_rate": 44100}')
    options = ["--data", str(tmp_path), "--soundfont", "x.sf2"] if command == "codec" else []
    options += ["--codec", str(tmp_path)] if command != "codec" else []
    result = CliRunner().invoke(program.app, [command, *options, *(["--parts"] if parts else [])])
    assert isinstance(result.exception, StateError)
    assert [loop.parts for loop in seen] == [parts]


def test_a_run_that_cannot_go_on_says_so_in_two_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        load_state(tmp_path)

    monkeypatch.setattr(program, "app", stop)
    with pytest.raises(SystemExit) as leaving:
        program.main()
    assert leaving.value.code == StateError.exit_code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("error: There is nothing") and "--resume" in said[1]


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        one_of_two(Path(sys.argv[2]))
    else:
        slow = LoopConfig(sys.argv[2], max_steps=60, lr=0.05, warmup=2, log_every=1)
        fit(line(), line_loss, Numbered(wait=0.05), slow)

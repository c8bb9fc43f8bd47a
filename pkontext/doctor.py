"""What ``pkontext doctor`` tries: every part that a render needs, for real, and how to mend it.

Nothing is only looked up: a note is synthesised, a graph is run, the demo is rendered. Parts that
only live playback or the desktop app need are tried in a process of their own, because their
libraries may crash or print.

Threading: `run_checks` renders on the thread that calls it.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pkontext import settings as options
from pkontext.errors import PkError, ProviderError

DEMO = Path(__file__).parent / "data" / "demo.mid"


@dataclass(frozen=True)
class Check:
    """One row of ``pkontext doctor``: what was checked, how it went, and how to mend it."""

    name: str
    ok: bool
    required: bool
    detail: str
    hint: str


def run_checks(found: options.Settings) -> list[Check]:
    """Try every part that a render needs, then those of live playback and the desktop app.

    Parameters
    ----------
    found : Settings
        Which bundle and provider to try.

    Returns
    -------
    list of Check
        A check that fails does not keep the next ones from being tried.
    """
    reinstall = "Install the program again: make setup"
    needed: list[tuple[str, Callable[[], str], str]] = [
        ("Python", _check_python, "Use Python 3.11 or 3.12."),
        ("NumPy and Numba", _check_numba, reinstall),
        ("audio files", _check_audio_files, reinstall),
        (
            "FluidSynth and soundfont",
            _check_fluidsynth,
            "Install the system library: sudo apt-get install libfluidsynth3",
        ),
        ("ONNX Runtime", lambda: _check_onnxruntime(found.provider), reinstall),
        ("model bundle", lambda: _check_bundle(found.bundle), "Choose another one with --bundle."),
        ("network outputs", lambda: _check_parity(found), "Choose another one with --bundle."),
        ("a real render", lambda: _check_render(found), "Mend the rows above first, then report this one."),
        ("settings folder", _check_config, "Make the folder writable."),
    ]
    extras = [
        ("audio output", "from pkontext.devices import find_output as f; print(f().device_name)",
         "To hear what is rendered: sudo apt-get install libportaudio2, and a sound device."),
        ("MIDI input", "from pkontext.ports import list_inputs as f; print(len(f()), 'ports')",
         "To play: a MIDI keyboard, and on Linux sudo modprobe snd-seq or a JACK server."),
        ("window system", "from PyQt6 import QtCore, QtWidgets; print('Qt', QtCore.qVersion())",
         "For the desktop app: pip install 'pkontext[gui]', sudo apt-get install libegl1 libxcb-cursor0."),
    ]  # fmt: skip
    checks = [_run_check(name, True, function, hint) for name, function, hint in needed]
    checks += [
        _run_check(name, False, functools.partial(_in_subprocess, code), hint) for name, code, hint in extras
    ]
    return checks


def _run_check(name: str, required: bool, function: Callable[[], str], hint: str) -> Check:
    try:
        return Check(name, True, required, function(), "")
    except PkError as error:
        return Check(name, False, required, error.message, error.hint)
    except Exception as error:  # any failure is the finding
        return Check(name, False, required, " ".join(f"{type(error).__name__}: {error}".split())[:300], hint)


def _check_python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise RuntimeError(f"this is Python {sys.version.split()[0]}")
    return sys.version.split()[0]


def _check_numba() -> str:
    import numba
    import numpy as np

    total = numba.njit(lambda x: x.sum())(np.ones(3))
    if total != 3.0:
        raise RuntimeError(f"a compiled sum gave {total}")
    return f"{np.__version__}, {numba.__version__}"


def _check_audio_files() -> str:
    from pkontext.sinks import load_soundfile

    soundfile = load_soundfile()
    missing = {"WAV", "FLAC"} - set(soundfile.available_formats())
    if missing:
        raise RuntimeError(f"libsndfile cannot write {', '.join(sorted(missing))}")
    return f"libsndfile {soundfile.__libsndfile_version__}"


def _check_fluidsynth() -> str:
    import numpy as np

    from pkontext import synth
    from pkontext.bundle import PACKAGE_DATA

    spec = synth.SynthSpec(PACKAGE_DATA / "FluidR3_piano.sf2")
    events = synth.deadpan_events(np.zeros(1), np.ones(1), np.array([60], np.uint8), spec.sample_rate)
    audio = np.concatenate(list(synth.render(events, spec, spec.sample_rate // 2)))
    if not np.abs(audio).max() > 1e-3:
        raise RuntimeError("a rendered note is silent")
    return f"middle C sounds, {spec.soundfont.name}"


def _check_onnxruntime(provider: str) -> str:
    ort = importlib.import_module("onnxruntime")
    available = ort.get_available_providers()
    wanted = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}.get(provider)
    if wanted and wanted[0] not in available:
        raise ProviderError(
            "provider.missing",
            f"ONNX Runtime has no {wanted[0]} here.",
            "Use --provider cpu, or install the GPU packages: pip install 'pkontext[gpu]'.",
        )
    import numpy as np

    session = ort.InferenceSession(_TINY_GRAPH, providers=wanted or ["CPUExecutionProvider"])
    result = session.run(None, {"x": np.ones(1, np.float32)})[0]
    if float(result[0]) != -1.0 or (wanted and session.get_providers()[0] != wanted[0]):
        raise ProviderError(
            "provider.fallback",
            f"ONNX Runtime ran on {session.get_providers()[0]}.",
            "Check the GPU driver, or use --provider cpu.",
        )
    return f"{ort.__version__} with {', '.join(available)}"


def _check_bundle(path: Path | None) -> str:
    from pkontext.bundle import listed_files, open_bundle

    bundle = open_bundle(path)
    return (
        f"{bundle.manifest.id} {bundle.manifest.version}, {len(listed_files(bundle.manifest))} files verified"
    )


def _check_parity(found: options.Settings) -> str:
    """On the CPU: a GPU may round more coarsely than the bundle's tolerance, which is not a fault."""
    from pkontext.bundle import open_bundle
    from pkontext.parity import check_parity

    bundle = open_bundle(found.bundle)
    if bundle.manifest.parity is None:
        return "the bundle has no golden values to compare with"
    differences = check_parity(bundle, found.threads)
    worst = max(differences.values(), default=0.0)
    return f"{len(differences)} graphs agree with training to {worst:.1g}"


def _check_render(found: options.Settings) -> str:
    import numpy as np

    from pkontext.bundle import open_bundle
    from pkontext.engine import RenderSettings, open_rendering
    from pkontext.score import load_score
    from pkontext.sinks import NullSink

    began = time.perf_counter()
    settings = RenderSettings(end_sec=2.0)
    rendering = open_rendering(
        load_score(DEMO), open_bundle(found.bundle), settings, found.threads, found.provider
    )
    sink = NullSink()
    for chunk in rendering.chunks():
        sink.write(np.asarray(chunk))
    report = sink.close()
    if not report.frames or report.peak < 1e-4:
        raise RuntimeError("the demo rendered to silence")
    return f"{report.frames / rendering.sample_rate:.1f} s of the demo in {time.perf_counter() - began:.1f} s"


def _check_config() -> str:
    folder = options.config_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise PermissionError(f"{existing} cannot be written to")
    return str(folder)


def _in_subprocess(code: str) -> str:
    """Run an import that may crash or print, apart from this process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout.strip()


#: The ONNX graph ``y = -x`` with one element: the smallest real session.
_TINY_GRAPH = bytes.fromhex(
    "08083a320a0b0a017812017922034e65671201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a001011"
)

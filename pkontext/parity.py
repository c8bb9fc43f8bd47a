"""Whether a bundle's graphs compute here what they computed in training.

A bundle may carry golden tensors: inputs of its graphs and what torch made of them, with the same
rounded weights. Running them through `pkontext.runtime` finds what a sha256 cannot: an ONNX Runtime
that computes something else.

Threading: runs the graphs on the calling thread.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pkontext.bundle import REINSTALL, Bundle
from pkontext.errors import BundleError
from pkontext.runtime import Graph


def check_parity(bundle: Bundle, threads: int = 0, provider: str = "cpu") -> dict[str, float]:
    """Run every graph that has golden tensors and compare.

    Parameters
    ----------
    bundle : Bundle
        Verified, see `pkontext.bundle.open_bundle`.
    threads : int
        Threads of the networks, 0 for all cores.
    provider : str
        As in `pkontext.runtime.Graph`.

    Returns
    -------
    dict
        Largest absolute difference by the graph's role; none is above ``manifest.parity.atol``.

    Raises
    ------
    BundleError
        ``bundle.no_parity`` when the bundle carries no golden tensors, ``bundle.parity`` when they
        cannot be read or do not fit a graph, or when a graph is further off than allowed.
    """
    entry = bundle.manifest.parity
    if entry is None:
        raise BundleError(
            "bundle.no_parity",
            f"The bundle {bundle.manifest.id} carries no golden outputs to compare with.",
            "Export it again with a newer version, or verify it without --deep.",
        )
    differences = {}
    for role, (inputs, expected) in read_golden(bundle.file(entry.file)).items():
        graph = Graph(bundle.graph_path(role), threads, provider)
        try:
            found = graph(**inputs)
        except Exception as error:
            raise _bad(f"The golden inputs of {role} do not fit it ({_first_line(error)})") from error
        if found.shape != expected.shape:
            raise _bad(f"{role} puts out {list(found.shape)} where training had {list(expected.shape)}")
        difference = float(np.abs(found - expected).max())
        if not difference <= entry.atol:  # also when it is not a number
            raise BundleError(
                "bundle.parity",
                f"{role} is off by {difference:.2g} on this machine, more than {entry.atol:g}.",
                "Install the onnxruntime of constraints.txt, or report it with your processor's name.",
            )
        differences[role] = difference
    return differences


def read_golden(path: Path) -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
    """Read golden tensors: ``ROLE/in/NAME`` and ``ROLE/out`` in an ``.npz`` file.

    Returns
    -------
    dict
        Inputs by name, and the output, by the graph's role.

    Raises
    ------
    BundleError
        ``bundle.parity`` when the file cannot be read, is empty or has other names.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy, zipfile and zlib each have errors of their own
        raise _bad(f"{path.name} cannot be read ({_first_line(error)})") from error
    golden: dict[str, tuple[dict[str, np.ndarray], np.ndarray]] = {}
    for name, array in arrays.items():
        role, _, rest = name.partition("/")
        if rest == "out":
            inputs = {
                key.removeprefix(f"{role}/in/"): value
                for key, value in arrays.items()
                if key.startswith(f"{role}/in/")
            }
            golden[role] = (inputs, array)
        elif not rest.startswith("in/") or f"{role}/out" not in arrays:
            raise _bad(f"{path.name} has an unexpected entry {name!r}")
    if not golden:
        raise _bad(f"{path.name} holds no golden outputs")
    return golden


def _bad(sentence: str) -> BundleError:
    return BundleError("bundle.parity", f"{sentence}.", REINSTALL)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""Mapping a function over jobs in processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def spread(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, chunk: int = 1
) -> Iterator[Result]:
    """Results in the order of the jobs.

    Processes are spawned, not forked: a forked copy of an ONNX Runtime session, or of any library
    with threads, may wait for ever. One worker runs in this process.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, jobs, chunksize=chunk)

"""Sampling the rectified flow: from noise to a clean state in a few network calls.

The network predicts the clean state from ``x_t = t * clean + (1 - t) * noise``. ``euler`` follows
the straight line to the prediction; ``dpmpp`` is the second-order multistep rule for predicted clean
states (DPM-Solver++ 2M, Lu et al. 2022), which reuses the prediction before; both spend one call a
step. ``heun`` spends two: it averages the velocities at both ends of a step, except where the call
at the far end is saved (Karras et al. 2022, algorithm 1). Solvers are given calls, not steps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

SOLVERS = ("euler", "dpmpp", "heun")
#: Stages that draw noise; part of the random key, so that they never share it.
CURVE_STAGE, LATENT_STAGE, CODEC_STAGE = 1, 2, 3

Predict = Callable[[np.ndarray, float], np.ndarray]


def window_noise(seed: int, stage: int, window: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 noise that depends on seed, stage and window number alone."""
    key = np.array([seed & (2**64 - 1), (stage << 48) | window], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def times(steps: int) -> np.ndarray:
    """Times from 0 (noise) to 1 (clean), ``[steps + 1]``, evenly spaced."""
    return np.linspace(0.0, 1.0, steps + 1)


def sample(
    predict: Predict,
    noise: np.ndarray,
    given: np.ndarray,
    known: np.ndarray,
    steps: int,
    solver: str = "dpmpp",
) -> np.ndarray:
    """Integrate the flow.

    Parameters
    ----------
    predict : callable
        ``(state, time) → predicted clean state``; the state holds ``given`` where ``known``.
    noise : ndarray
        float32, any shape.
    given : ndarray
        The clean values where ``known`` is 1.
    known : ndarray
        1 where the state is given, else 0; the shape of ``noise``.
    steps : int
        Network calls.
    solver : str
        One of `SOLVERS`.

    Returns
    -------
    ndarray
        The clean state; equal to ``given`` where known.

    Raises
    ------
    ValueError
        For an unknown solver or no steps.
    """
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; use one of {', '.join(SOLVERS)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    mask = known > 0
    x = np.where(mask, given, noise)
    if solver == "heun":
        return _heun(predict, x, given, mask, steps)
    grid = times(steps)
    before: np.ndarray | None = None
    for i in range(steps):
        now, then = grid[i], grid[i + 1]
        clean = predict(x, float(now))
        target = clean
        if solver == "dpmpp" and before is not None and then < 1:
            # Extrapolate the prediction along the half log signal-to-noise ratio.
            step, last = _lambda(then) - _lambda(now), _lambda(now) - _lambda(grid[i - 1])
            if last > 0:  # with more than a hundred steps the first ones are within the bound
                target = clean + (0.5 * step / last) * (clean - before)
        ratio = np.float32((1 - then) / (1 - now))
        x = np.where(mask, given, ratio * x + (1 - ratio) * target.astype(np.float32))
        before = clean
    return x


def _heun(predict: Predict, x: np.ndarray, given: np.ndarray, mask: np.ndarray, calls: int) -> np.ndarray:
    """Heun's rule in exactly ``calls`` calls: the last step has one, and the first if they are even."""
    grid = times(calls // 2 + 1)
    for i, (now, then) in enumerate(pairwise(grid)):
        clean = predict(x, float(now))
        ratio = np.float32((1 - then) / (1 - now))
        ahead = np.where(mask, given, ratio * x + (1 - ratio) * clean.astype(np.float32))
        if then < 1 and (i > 0 or calls % 2):
            velocity = (clean - x) / np.float32(1 - now)
            velocity = 0.5 * (velocity + (predict(ahead, float(then)) - ahead) / np.float32(1 - then))
            ahead = np.where(mask, given, x + np.float32(then - now) * velocity.astype(np.float32))
        x = ahead
    return x


def _lambda(time: float) -> float:
    """Log signal-to-noise ratio, bounded at the noise end where it diverges."""
    time = min(max(time, 0.01), 0.999)
    return float(np.log(time / (1 - time)))

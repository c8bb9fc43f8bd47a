"""Sampling the rectified flow: from noise to a clean state in a few network calls.

The network predicts the clean state from ``x_t = t * clean + (1 - t) * noise``. Each step spends
one call. ``euler`` follows the straight line to the prediction; ``dpmpp`` is the second-order
multistep rule for predicted clean states (DPM-Solver++ 2M, Lu et al. 2022), which reuses the
prediction before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SOLVERS = ("euler", "dpmpp")
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
    grid = times(steps)
    mask = known > 0
    x = np.where(mask, given, noise)
    before: np.ndarray | None = None
    for i in range(steps):
        now, then = grid[i], grid[i + 1]
        clean = predict(x, float(now))
        target = clean
        if solver == "dpmpp" and before is not None and then < 1:
            # Extrapolate the prediction along the half log signal-to-noise ratio.
            step, last = _lambda(then) - _lambda(now), _lambda(now) - _lambda(grid[i - 1])
            target = clean + (0.5 * step / last) * (clean - before)
        ratio = np.float32((1 - then) / (1 - now))
        x = np.where(mask, given, ratio * x + (1 - ratio) * target.astype(np.float32))
        before = clean
    return x


def _lambda(time: float) -> float:
    """Log signal-to-noise ratio, bounded at the noise end where it diverges."""
    time = min(max(time, 0.01), 0.999)
    return float(np.log(time / (1 - time)))

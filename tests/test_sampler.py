"""The sampler: exact where the flow is known, and given values stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from pkontext.sampler import (
    CURVE_STAGE,
    LATENT_STAGE,
    SOLVERS,
    Predict,
    sample,
    times,
    window_noise,
)

SHAPE = (1, 24, 5)
NOTHING = np.zeros(SHAPE, np.float32)
NOISE = window_noise(3, LATENT_STAGE, 0, SHAPE)


def gaussian(mean: float, spread: float) -> Predict:
    """Ideal prediction when clean states are normal: the flow then ends at ``mean + spread * noise``."""

    def predict(x: np.ndarray, time: float) -> np.ndarray:
        total = (time * spread) ** 2 + (1 - time) ** 2
        return (mean + time * spread**2 / total * (x - time * mean)).astype(np.float32)

    return predict


def test_times_run_from_noise_to_clean() -> None:
    assert times(4).tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_a_straight_flow_is_exact_in_any_number_of_steps(solver: str, steps: int) -> None:
    clean = np.random.default_rng(0).normal(0, 2, SHAPE).astype(np.float32)
    found = sample(lambda x, time: clean, NOISE, NOTHING, NOTHING, steps, solver)
    assert found.dtype == np.float32
    assert np.array_equal(found, clean)


@pytest.mark.parametrize(
    ("solver", "at"),
    [
        ("euler", [0, 0.2, 0.4, 0.6, 0.8]),
        ("dpmpp", [0, 0.2, 0.4, 0.6, 0.8]),
        ("heun", [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]),
    ],
)
def test_the_network_sees_states_on_the_straight_line(solver: str, at: list[float]) -> None:
    """``x_t = t * clean + (1 - t) * noise`` at the times asked for."""
    clean = np.full(SHAPE, 2.0, np.float32)
    seen: list[float] = []

    def predict(x: np.ndarray, time: float) -> np.ndarray:
        assert np.abs(x - (time * clean + (1 - time) * NOISE)).max() < 1e-6
        seen.append(time)
        return clean

    sample(predict, NOISE, NOTHING, NOTHING, 5, solver)
    assert seen == pytest.approx(at)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 13])
def test_every_solver_spends_the_calls_that_it_is_given(solver: str, steps: int) -> None:
    seen: list[float] = []

    def predict(x: np.ndarray, time: float) -> np.ndarray:
        seen.append(time)
        return x * 0.5

    sample(predict, NOISE, NOTHING, NOTHING, steps, solver)
    assert len(seen) == steps and seen == sorted(seen) and max(seen) < 1


def test_more_steps_come_closer_and_the_second_order_is_better() -> None:
    """Normal clean states: the exact result is known. Measured at 16 calls: 0.037, 0.0049, 0.0106."""
    exact = 0.7 + 0.5 * NOISE
    error = {
        (solver, steps): np.sqrt(
            np.mean((sample(gaussian(0.7, 0.5), NOISE, NOTHING, NOTHING, steps, solver) - exact) ** 2)
        )
        for solver in SOLVERS
        for steps in (4, 8, 16, 32)
    }
    for solver in SOLVERS:
        falling = [error[solver, steps] for steps in (4, 8, 16, 32)]
        assert np.all(np.diff(falling) < 0)
    assert error["dpmpp", 16] < 0.006 and error["dpmpp", 16] < 0.2 * error["euler", 16]
    assert error["heun", 16] < 0.012 and error["heun", 16] < 0.4 * error["euler", 16]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_given_values_are_untouched_to_the_last_bit(solver: str, steps: int) -> None:
    given = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    known = np.zeros(SHAPE, np.float32)
    known[:, :9] = 1
    known[:, :, 2] = 1
    mask = known > 0

    def predict(x: np.ndarray, time: float) -> np.ndarray:
        assert np.array_equal(x[mask], given[mask])
        return x * 0.3 + 5

    noise = NOISE.copy()
    found = sample(predict, noise, given, known, steps, solver)
    assert np.array_equal(found[mask], given[mask])
    assert not np.isclose(found[~mask], given[~mask]).any()
    assert np.array_equal(noise, NOISE)


def test_a_prediction_is_kept_as_the_network_returned_it() -> None:
    """The second-order rule reuses the last prediction; it must not write into it."""
    returned: list[np.ndarray] = []

    def predict(x: np.ndarray, time: float) -> np.ndarray:
        returned.append(x * 0.5)
        returned[-1].flags.writeable = False
        return returned[-1]

    sample(predict, NOISE, NOTHING, NOTHING, 4, "dpmpp")
    assert len(returned) == 4


def test_noise_depends_on_seed_stage_and_window_alone() -> None:
    first = window_noise(7, CURVE_STAGE, 3, SHAPE)
    window_noise(1, LATENT_STAGE, 0, SHAPE)  # drawing other noise in between changes nothing
    assert np.array_equal(first, window_noise(7, CURVE_STAGE, 3, SHAPE))
    for other in [(8, CURVE_STAGE, 3), (7, LATENT_STAGE, 3), (7, CURVE_STAGE, 4), (-7, CURVE_STAGE, 3)]:
        correlation = np.corrcoef(first.ravel(), window_noise(*other, SHAPE).ravel())[0, 1]
        assert abs(correlation) < 0.4


def test_noise_is_standard_normal() -> None:
    noise = window_noise(0, LATENT_STAGE, 1, (1, 1000, 100))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01


@pytest.mark.parametrize("seed", [0, 2**32, 2**63, 2**64 - 1, -1])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert np.isfinite(window_noise(seed, LATENT_STAGE, 0, SHAPE)).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown solver 'rk4'"):
        sample(gaussian(0, 1), NOISE, NOTHING, NOTHING, 2, "rk4")
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        sample(gaussian(0, 1), NOISE, NOTHING, NOTHING, 0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 99, 100, 101, 128])
def test_every_number_of_steps_that_a_user_may_ask_for(solver: str, steps: int) -> None:
    """The bound of the logarithm at the noise end makes the first steps of a long grid equal."""
    noise = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    wanted = np.full_like(noise, 0.7)
    found = sample(lambda x, when: wanted, noise, wanted, np.zeros_like(noise), steps, solver)
    np.testing.assert_allclose(found, wanted, atol=1e-4)

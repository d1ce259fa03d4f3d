"""The price of a fixed order against all ways to take part in it; its noise against a solver."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from dp_accounting.dp_event import NoOpDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from jax_privacy.matrix_factorization import toeplitz
from scipy.linalg import solve_triangular

from lazaretto.errors import InputError, PlanError
from lazaretto.privacy.dp_ftrl import _sensitivity, correlated, dp_ftrl

kernels = st.lists(st.floats(0, 1), max_size=3).map(lambda rest: (1.0, *rest))


def matrix(kernel: tuple[float, ...], steps: int) -> np.ndarray:
    found = np.zeros((steps, steps))
    for below, value in enumerate(kernel[:steps]):
        found += np.diag(np.full(steps - below, value), -below)
    return found


def slow_sensitivity(kernel: tuple[float, ...], steps: int, apart: int) -> float:
    """Over all sets of steps with `apart` from one to the next, and all signs of the gradients in them."""
    C, most = matrix(kernel, steps), 0.0
    for size in range(1, steps + 1):
        for chosen in combinations(range(steps), size):
            if all(later - earlier >= apart for earlier, later in pairwise(chosen)):
                for signs in product((1, -1), repeat=size - 1):
                    most = max(most, float(np.linalg.norm(C[:, chosen] @ np.array((1, *signs)))))
    return most


@given(kernels, st.integers(1, 9), st.integers(0, 2))
@settings(max_examples=40)
def test_sensitivity_is_the_worst_of_all_ways_to_take_part(
    kernel: tuple[float, ...], steps: int, more: int
) -> None:
    apart = len(kernel) + more
    assert _sensitivity(kernel, steps, apart) == pytest.approx(slow_sensitivity(kernel, steps, apart))


@pytest.mark.parametrize(("steps", "apart"), [(12, 4), (50, 7), (49, 7), (5, 9)])
def test_sensitivity_is_that_of_the_library(steps: int, apart: int) -> None:
    kernel = (0.8, 0.4, 0.3, 0.1)
    theirs = toeplitz.minsep_sensitivity_squared(np.float32(kernel[:steps]), min_sep=apart, n=steps)
    assert _sensitivity(kernel, steps, apart) ** 2 == pytest.approx(float(theirs), rel=1e-5)


@pytest.fixture(scope="module")
def kernel() -> tuple[float, ...]:
    return dp_ftrl(rate=1 / 6, bands=4, total_steps=40).kernel


def test_the_kernel_has_length_one_and_makes_sums_less_noisy(kernel: tuple[float, ...]) -> None:
    assert len(kernel) == 4
    assert np.linalg.norm(kernel) == pytest.approx(1, abs=1e-12)
    sums = np.tril(np.ones((40, 40)))
    correlated_error = np.square(sums @ np.linalg.inv(matrix(kernel, 40))).sum()
    assert correlated_error < 0.5 * np.square(sums).sum()


def test_a_run_costs_more_than_its_halves_say(kernel: tuple[float, ...]) -> None:
    made = dp_ftrl(noise_multiplier=3.0, rate=1 / 6, bands=4, total_steps=40)
    assert made.event(12).noise_multiplier == pytest.approx(3 / np.sqrt(2))
    assert made.event(40).noise_multiplier == pytest.approx(3 / np.sqrt(7))  # steps 0, 6, ..., 36, all whole
    assert made.event(0) == NoOpDpEvent()
    thrice = dp_ftrl(noise_multiplier=3.0, rate=1 / 6, bands=4, total_steps=40, appearances=3)
    assert thrice.event(12).noise_multiplier == pytest.approx(1 / np.sqrt(2))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 1000))
@settings(max_examples=30)
def test_rounds_together_solve_the_whole(kernel: tuple[float, ...], lengths: list[int], seed: int) -> None:
    z = np.random.default_rng(seed).standard_normal((sum(lengths), 3))
    before, parts = np.zeros((3, 3)), []
    for some in np.split(z, np.cumsum(lengths)[:-1]):
        part, before = correlated(some, kernel, before)
        parts.append(part)
    whole = solve_triangular(matrix(kernel, len(z)), z, lower=True) if len(z) else z
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-10)


def test_the_noise_has_the_covariance_that_is_priced(kernel: tuple[float, ...]) -> None:
    """z = I gives y = C⁻¹, and the covariance of y over independent z is C⁻¹ C⁻ᵀ: C y is white again."""
    y, _ = correlated(np.eye(20), kernel, np.zeros((3, 20)))
    C = matrix(kernel, 20)
    np.testing.assert_allclose(C @ (y @ y.T) @ C.T, np.eye(20), atol=1e-10)
    assert np.abs(y @ y.T - np.diag(np.diag(y @ y.T))).max() > 0.1  # independent noise would not be this


def test_one_band_is_independent_noise() -> None:
    z = np.random.default_rng(0).standard_normal((5, 2))
    y, after = correlated(z, (1.0,), np.zeros((0, 2)))
    np.testing.assert_array_equal(y, z)
    assert after.shape == (0, 2)


@pytest.mark.parametrize("options", [{"rate": 0.3}, {"rate": 0.5, "bands": 3}])
def test_orders_that_are_not_what_is_priced_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="pass"):
        dp_ftrl(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("z", "before"), [((4, 2), (2, 2)), ((4, 2), (3, 1)), ((4,), (3, 2)), ((4, 2), (3, 2))]
)
def test_noise_of_other_sizes_is_refused(
    kernel: tuple[float, ...], z: tuple[int, ...], before: tuple[int, ...]
) -> None:
    fresh = np.full(z, np.nan if z == (4, 2) and before == (3, 2) else 1.0)
    with pytest.raises(InputError):
        correlated(fresh, kernel, np.zeros(before))

"""Prices against values from elsewhere and against each other; what fits fits, and no more does.

The five reference points are of the design: Poisson-sampled Gaussians, one unit more or less. The Gaussian
alone has a closed form (Balle & Wang 2018, https://arxiv.org/abs/1805.06530).
"""

from __future__ import annotations

import math

import pytest
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    MixtureOfGaussiansDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import log_ndtr

from lazaretto.errors import PlanError
from lazaretto.privacy.accounting import calibrated, epsilon_of, flattened, rounds_that_fit
from lazaretto.privacy.dp_ftrl import dp_ftrl
from lazaretto.privacy.dp_sgd import dp_sgd
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.privacy.site_noise import site_noise

DELTA = 1e-5
EXACT = 1 + 1e-6  # what two prices of one grid may differ by
few = settings(max_examples=8)
noises = st.floats(0.7, 5)
rates = st.floats(0.002, 0.2)


def sampled(rate: float, noise: float, times: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), times)


def closed_form(noise: float) -> float:
    """ε of one Gaussian at DELTA."""

    def surplus(epsilon: float) -> float:
        near, far = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
        return float(math.exp(log_ndtr(near)) - math.exp(epsilon + log_ndtr(far))) - DELTA

    return float(brentq(surplus, 0, 100))


@pytest.mark.parametrize(
    ("examples", "batch", "noise", "epochs", "epsilon"),
    [
        (60_000, 256, 1.1, 60, 2.382),
        (60_000, 256, 1.3, 15, 0.864),
        (60_000, 256, 0.7, 45, 5.639),
        (60_000, 240, 1.1, 60, 2.295),
        (25, 1, 1.5, 90, 6.769),  # a rate of .04, 2250 steps
    ],
)
def test_reference_points(examples: int, batch: int, noise: float, epochs: int, epsilon: float) -> None:
    made = dp_sgd(noise_multiplier=noise, rate=batch / examples)
    assert epsilon_of(made.event(epochs * examples // batch), DELTA) == pytest.approx(epsilon, abs=0.002)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0, 30.0])
def test_one_gaussian_has_a_closed_form(noise: float) -> None:
    found = epsilon_of(GaussianDpEvent(noise), DELTA)
    assert closed_form(noise) <= found <= 1.002 * closed_form(noise) + 1e-3


def test_gaussians_add_up_wherever_they_stand() -> None:
    parts = [GaussianDpEvent(5.0), SelfComposedDpEvent(GaussianDpEvent(10.0), 8), NoOpDpEvent()]
    once = epsilon_of(GaussianDpEvent((1 / 25 + 8 / 100) ** -0.5), DELTA)
    assert epsilon_of(ComposedDpEvent([ComposedDpEvent(parts[:1]), *parts[1:]]), DELTA) == pytest.approx(once)
    assert epsilon_of(ComposedDpEvent(parts[::-1]), DELTA) == pytest.approx(once)


def test_what_protects_nobody_costs_everything() -> None:
    assert epsilon_of(ComposedDpEvent([GaussianDpEvent(9.0), NonPrivateDpEvent()]), DELTA) == math.inf
    assert epsilon_of(ComposedDpEvent([]), DELTA) == 0
    assert epsilon_of(sampled(0.1, 1.0, 0), DELTA) == 0


@pytest.mark.parametrize(
    "event",
    [
        LaplaceDpEvent(1.0),
        GaussianDpEvent(0.0),
        GaussianDpEvent(-1.0),
        GaussianDpEvent(math.nan),
        GaussianDpEvent(math.inf),
        PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)),
        PoissonSampledDpEvent(0.0, GaussianDpEvent(1.0)),
        PoissonSampledDpEvent(0.5, LaplaceDpEvent(1.0)),
        SelfComposedDpEvent(GaussianDpEvent(1.0), -1),
        SelfComposedDpEvent(GaussianDpEvent(1.0), 1.5),
        MixtureOfGaussiansDpEvent(1.0, (0.0, 1.0), (0.5, 0.6)),
        MixtureOfGaussiansDpEvent(1.0, (0.0, 1.0), (1.0, 0.0)),
        MixtureOfGaussiansDpEvent(1.0, (-1.0, 1.0), (0.5, 0.5)),
        MixtureOfGaussiansDpEvent(1.0, (1.0,), (0.5, 0.5)),
    ],
)
def test_what_has_no_price_is_refused(event: DpEvent) -> None:
    with pytest.raises(PlanError):
        epsilon_of(event, DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        epsilon_of(GaussianDpEvent(1.0), delta)


@given(rates, noises, st.integers(1, 300), st.integers(1, 300))
@few
def test_more_steps_are_never_cheaper(rate: float, noise: float, steps: int, more: int) -> None:
    less = epsilon_of(sampled(rate, noise, steps), DELTA)
    assert less <= EXACT * epsilon_of(sampled(rate, noise, steps + more), DELTA)


@given(rates, noises, st.floats(1.01, 3), st.integers(1, 300))
@few
def test_more_noise_is_never_dearer(rate: float, noise: float, factor: float, steps: int) -> None:
    dear = epsilon_of(sampled(rate, noise, steps), DELTA)
    assert epsilon_of(sampled(rate, noise * factor, steps), DELTA) <= EXACT * dear


@given(rates, noises, st.floats(1.01, 4), st.integers(1, 300))
@few
def test_a_larger_rate_is_never_cheaper(rate: float, noise: float, factor: float, steps: int) -> None:
    dear = epsilon_of(sampled(rate * factor, noise, steps), DELTA)
    assert epsilon_of(sampled(rate, noise, steps), DELTA) <= EXACT * dear


@given(rates, st.floats(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 60))
@settings(max_examples=3)
def test_more_appearances_are_never_cheaper(
    rate: float, noise: float, appearances: int, more: int, steps: int
) -> None:
    def cost(number: int) -> float:
        made = dp_sgd(noise_multiplier=noise, rate=rate, appearances=number)
        return epsilon_of(made.event(steps), DELTA)

    assert cost(appearances) <= EXACT * cost(appearances + more)


def test_one_appearance_is_a_sampled_gaussian() -> None:
    mixture = MixtureOfGaussiansDpEvent(1.5, (0.0, 1.0), (0.95, 0.05))
    found = epsilon_of(SelfComposedDpEvent(mixture, 200), DELTA)
    assert found == pytest.approx(epsilon_of(sampled(0.05, 1.5, 200), DELTA), rel=0.005)


def test_a_record_in_all_examples_of_a_step_has_the_price_of_less_noise() -> None:
    made = dp_sgd(noise_multiplier=6.0, rate=1.0, appearances=3)
    assert epsilon_of(made.event(4), DELTA) == pytest.approx(closed_form(6.0 / 3 / 2), rel=0.005)


def test_a_record_in_two_examples_counted_once_would_look_cheaper() -> None:
    right = dp_sgd(noise_multiplier=1.2, rate=0.05, appearances=2)
    wrong = dp_sgd(noise_multiplier=1.2, rate=0.05, appearances=1)
    assert epsilon_of(right.event(100), DELTA) > 1.5 * epsilon_of(wrong.event(100), DELTA)


def test_adaptive_clipping_is_paid_for() -> None:
    plain = dp_sgd(noise_multiplier=1.0, rate=0.05)
    adaptive = dp_sgd(noise_multiplier=1.0, rate=0.05, quantile=0.5, count_noise=2.0)
    (step,) = flattened(adaptive.event(1))
    # one example moves (sum / clip, count) by (1, 1/2): by (1, 1/4) where the noise has size 1
    assert step.event.noise_multiplier == pytest.approx((1 + 1 / 16) ** -0.5)
    assert epsilon_of(adaptive.event(100), DELTA) > epsilon_of(plain.event(100), DELTA) * 1.01


CASES = {
    "dp_sgd": lambda noise: dp_sgd(noise_multiplier=noise, rate=0.05, steps=7),
    "twice": lambda noise: dp_sgd(noise_multiplier=noise, rate=0.2, steps=2, appearances=2),
    "dp_ftrl": lambda noise: dp_ftrl(noise_multiplier=noise, rate=0.2, steps=3, bands=1, total_steps=60),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def cost(made: Mechanism, rounds: int, others: list[DpEvent]) -> float:
    return epsilon_of(ComposedDpEvent([made.event(rounds * made.steps), *others]), DELTA)


def test_the_rounds_that_fit_fit_and_one_more_does_not(case: str) -> None:
    made, others = CASES[case](5.0), [GaussianDpEvent(4.0)]
    rounds = rounds_that_fit(made, others, 3.0, DELTA)
    assert rounds >= 1
    assert cost(made, rounds, others) <= 3.0 < cost(made, rounds + 1, others)


def test_no_round_fits_where_the_rest_costs_too_much() -> None:
    assert rounds_that_fit(CASES["dp_sgd"](1.0), [GaussianDpEvent(1.0)], 1.0, DELTA) == 0
    assert rounds_that_fit(CASES["dp_sgd"](1.0), [NonPrivateDpEvent()], 8.0, DELTA) == 0


def test_calibrated_noise_keeps_to_epsilon_and_less_does_not(case: str) -> None:
    others = [GaussianDpEvent(4.0)]
    made = calibrated(CASES[case], 10, others, 3.0, DELTA)
    assert cost(made, 10, others) <= 3.0
    assert cost(CASES[case](made.noise_multiplier * (1 - 0.002)), 10, others) > 3.0


def test_no_noise_helps_where_the_rest_costs_too_much() -> None:
    with pytest.raises(PlanError, match="no noise multiplier"):
        calibrated(CASES["dp_ftrl"], 10, [GaussianDpEvent(1.0)], 1.0, DELTA)


def test_the_least_noise_is_enough_for_a_large_epsilon() -> None:
    made = calibrated(lambda noise: site_noise(noise_multiplier=noise), 1, [], 1e6, DELTA)
    assert made.noise_multiplier == pytest.approx(0.01)

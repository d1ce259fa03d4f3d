"""The one-run canary audit: it catches absent noise, and honest noise passes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import dp_accounting
import numpy as np
import pytest
import scipy.special
import scipy.stats
from dp_accounting.pld import PLDAccountant, privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.audit.canary import (
    CanaryAudit,
    canary_audit,
    canary_directions,
    gradient_scores,
    included_by_coins,
    loss_scores,
)
from lazaretto.errors import DataError
from lazaretto.keys import generator

DELTA = 1e-5
CANARIES, DIMENSIONS, RECORDS, STEPS, RATE, SIGMA, CLIP = 150, 1500, 100, 10, 0.5, 1.5, 0.7


@cache
def claimed(sigma: float = SIGMA) -> float:
    """What DP-SGD of this size costs, by the accountant."""
    step = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(sigma))
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    return float(accountant.compose(step, STEPS).get_epsilon(DELTA))


def dp_sgd(seed: int, noise: float) -> tuple[np.ndarray, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Who was in, and what an observer sees of each step of a private logistic regression in NumPy."""
    rng = generator(seed, "canary test")
    inside = included_by_coins(CANARIES, rng)
    canaries = canary_directions(CANARIES, DIMENSIONS, CLIP, rng)
    x = rng.standard_normal((RECORDS, DIMENSIONS)) / np.sqrt(DIMENSIONS) * 3
    y = (rng.random(RECORDS) < 0.5).astype(float)

    def steps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        model = np.zeros(DIMENSIONS)
        for _ in range(STEPS):
            gradients = (scipy.special.expit(x @ model) - y)[:, None] * x
            gradients *= np.minimum(1, CLIP / np.linalg.norm(gradients, axis=1))[:, None]
            known = gradients[rng.random(RECORDS) < RATE].sum(axis=0)
            drawn = canaries[inside & (rng.random(CANARIES) < RATE)].sum(axis=0)
            noisy = known + drawn + rng.normal(0, noise * CLIP, DIMENSIONS)
            model = model - 0.5 * noisy / RECORDS
            yield noisy - known, canaries

    return inside, steps()


def audited(seed: int, noise: float) -> CanaryAudit:
    inside, steps = dp_sgd(seed, noise)
    rng = generator(seed, "ties")
    return canary_audit(
        inside, gradient_scores(steps), rng, epsilon=claimed(), delta=DELTA, gaussian=True, shares=(0.5,)
    )


def test_absent_noise_is_caught() -> None:
    found = audited(0, 0.0)
    assert found.able
    assert found.caught, found


def test_correct_noise_passes_its_epsilon_in_at_most_one_of_20_seeds() -> None:
    """Each seed may pass by chance with 5 %; two or more of 20 would then come by chance in at most 26 %,
    were the bound tight. It is not: with the seeds fixed none passes."""
    assert 4 < claimed() < 8
    assert sum(audited(seed, SIGMA).caught for seed in range(20)) <= 1


def test_a_mechanism_that_just_keeps_its_epsilon_passes_in_at_most_one_of_20_seeds() -> None:
    """The hardest honest case: each canary alone on its coordinate, one step, just the noise claimed."""
    epsilon, caught = 1.0, 0
    sigma = dp_accounting.get_sigma_gaussian(epsilon, DELTA)
    bounds = []
    for seed in range(20):
        rng = generator(seed, "tight")
        inside = included_by_coins(CANARIES, rng)
        scores = inside + rng.normal(0, sigma, CANARIES)
        found = canary_audit(inside, scores, rng, epsilon=epsilon, delta=DELTA, gaussian=True, shares=(0.5,))
        bounds.append(found.epsilon_lower)
        caught += found.caught
    assert caught <= 1
    assert max(bounds) > 0.1, "it sees something"


def test_the_bound_for_any_mechanism_is_that_of_a_binomial_tail() -> None:
    """With δ near 0 theorem 5.2 says: right guesses are at most binomial; Clopper and Pearson invert that."""
    m, rng = 200, generator(0, "oracle")
    inside = included_by_coins(m, rng)
    scores = inside + rng.normal(0, 0.5, m)
    found = canary_audit(inside, scores, rng, epsilon=1.0, delta=1e-13, gaussian=False, shares=(0.5,))
    order = np.argsort(scores)
    right = inside[order[-50:]].sum() + (~inside[order[:50]]).sum()
    assert (found.guesses, found.correct) == (100, right)
    least = scipy.stats.beta.ppf(0.05, right, 100 - right + 1)
    assert found.epsilon_lower == pytest.approx(scipy.special.logit(least), abs=1e-4)


def test_scores_that_know_nothing_show_nothing() -> None:
    """Equal scores are ordered by the generator: who stands first in the list is not told by that."""
    inside = np.arange(400) < 200
    found = canary_audit(inside, np.zeros(400), generator(1, "t"), epsilon=0.5, delta=DELTA, gaussian=False)
    assert found.epsilon_lower < 0.5
    assert found.correct / found.guesses == pytest.approx(0.5, abs=0.25)


def test_an_audit_without_a_chance_says_so() -> None:
    inside = included_by_coins(40, generator(0, "few"))
    found = canary_audit(
        inside, inside.astype(float), generator(0, "t"), epsilon=8.0, delta=DELTA, gaussian=False
    )
    assert not found.able
    assert not found.caught
    assert found.correct == found.guesses
    assert found.epsilon_lower == found.epsilon_most


@given(st.integers(20, 90), st.integers(0, 2**32), st.sampled_from([(1.0,), (0.2, 0.7), (0.5,)]))
@settings(max_examples=30, deadline=None)
def test_only_the_order_of_scores_counts(m: int, seed: int, shares: tuple[float, ...]) -> None:
    rng = generator(seed, "law")
    inside, scores = included_by_coins(m, rng), rng.standard_normal(m)

    def audit(inside: np.ndarray, scores: np.ndarray) -> CanaryAudit:
        return canary_audit(
            inside, scores, generator(0, "t"), epsilon=1.0, delta=DELTA, gaussian=False, shares=shares
        )

    first, order = audit(inside, scores), rng.permutation(m)
    assert audit(inside, np.exp(scores)) == first
    assert audit(inside[order], scores[order]) == first
    assert 0 <= first.epsilon_lower <= first.epsilon_most
    assert audit(inside, scores + 9.0 * inside).epsilon_lower >= first.epsilon_lower


def test_many_steps_of_dp_sgd_are_no_worse_than_the_gaussian_mechanism_of_their_epsilon() -> None:
    """What `gaussian=True` assumes, by the accountant's curves, for an every trade-off down to δ."""
    for rate, sigma, steps in ((RATE, SIGMA, STEPS), (0.04, 1.5, 500), (0.04, 0.8, 200), (0.01, 0.7, 300)):
        own = privacy_loss_distribution.from_gaussian_mechanism(
            sigma, sampling_prob=rate, value_discretization_interval=1e-3
        ).self_compose(steps)
        epsilon = own.get_epsilon_for_delta(DELTA)
        gauss = privacy_loss_distribution.from_gaussian_mechanism(
            dp_accounting.get_sigma_gaussian(epsilon, DELTA), value_discretization_interval=1e-3
        )
        at = np.linspace(0, 0.99 * epsilon, 40)
        assert np.all(own.get_delta_for_epsilon(at) <= gauss.get_delta_for_epsilon(at) * 1.001), (rate, sigma)


def test_loss_scores_are_the_fall_of_the_loss() -> None:
    assert loss_scores([2.0, 1.0], [0.5, 1.5]).tolist() == [1.5, -0.5]
    with pytest.raises(DataError, match="two losses"):
        loss_scores([1.0, 2.0], [1.0])


def test_gradient_scores_are_summed_over_steps() -> None:
    steps = [([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), ([0.0, -1.0], [[1.0, 1.0]] * 3)]
    assert gradient_scores(steps).tolist() == [0.0, 1.0, 2.0]
    alike = np.array([[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [1.0, 0.0, 0.0]])
    assert gradient_scores([(alike[0] + alike[2], alike)], ridge=1e-9) == pytest.approx([1, 0, 1], abs=1e-5)
    with pytest.raises(DataError, match="ridge"):
        gradient_scores(steps, ridge=0.0)
    with pytest.raises(DataError, match="step 0 does not fit"):
        gradient_scores([([1.0], [[1.0, 2.0]])])
    with pytest.raises(DataError, match="no step"):
        gradient_scores([])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"included": np.ones(30)}, "has to say"),
        ({"included": np.ones(29, bool)}, "has to say"),
        ({"scores": np.full(30, np.nan)}, "finite"),
        ({"included": np.ones(9, bool), "scores": np.ones(9)}, "too few"),
        ({"delta": 0.0}, "no such claim"),
        ({"epsilon": -1.0}, "no such claim"),
        ({"shares": ()}, "shares"),
        ({"shares": (1.5,)}, "shares"),
    ],
)
def test_what_cannot_be_audited_is_refused(change: dict[str, object], match: str) -> None:
    usual: dict[str, object] = {
        "included": np.ones(30, bool),
        "scores": np.ones(30),
        "epsilon": 1.0,
        "delta": DELTA,
    }
    given_ = usual | change
    with pytest.raises(DataError, match=match):
        canary_audit(
            given_.pop("included"),
            given_.pop("scores"),
            generator(0),
            gaussian=False,
            **given_,  # type: ignore[arg-type]
        )
    with pytest.raises(DataError, match="length"):
        canary_directions(30, 5, 0.0, generator(0))

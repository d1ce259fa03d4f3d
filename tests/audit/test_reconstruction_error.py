"""How near a reconstruction is: values by hand, the best pairing, and what is refused."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.audit.reconstruction import reconstruction_error
from lazaretto.errors import InputError

TRUTH = np.array([[[1.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]])  # [2, 2, 2]
MEAN = np.array([1.0, 1.0])


def test_by_hand() -> None:
    found = reconstruction_error(np.zeros((2, 2, 2)), TRUTH, MEAN, ordered=True)
    assert found.error == (1 + 9 + 4 + 4) / 8
    assert found.floor == (0 + 4 + 1 + 1 + 4 * 1) / 8
    assert found.ratio == pytest.approx(18 / 10)
    assert found.feature_error.tolist() == [10 / 4, 8 / 4]
    assert found.r2.tolist() == pytest.approx([1 - 10 / 6, 1 - 2.0])


def test_the_mean_itself_has_ratio_one_and_the_truth_none() -> None:
    usual = np.broadcast_to(MEAN, TRUTH.shape)
    assert reconstruction_error(usual, TRUTH, MEAN, ordered=False).ratio == 1.0
    assert reconstruction_error(TRUTH[::-1], TRUTH, MEAN, ordered=False).ratio == 0.0
    assert reconstruction_error(TRUTH[::-1], TRUTH, MEAN, ordered=True).ratio > 1.0
    lost = reconstruction_error(np.full(TRUTH.shape, np.nan), TRUTH, MEAN, ordered=True)
    assert lost.ratio == 1.0


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_no_other_pairing_is_better(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.normal(size=(n, 3, 2)), rng.normal(size=(n, 3, 2))
    found = reconstruction_error(guess, truth, np.zeros(2), ordered=False).error
    slow = min(float(((guess[list(order)] - truth) ** 2).mean()) for order in permutations(range(n)))
    assert found == pytest.approx(slow)


@pytest.mark.parametrize(
    ("guess", "truth", "mean", "problem"),
    [
        (TRUTH[:1], TRUTH, MEAN, "one shape"),
        (TRUTH[0], TRUTH[0], MEAN, "one shape"),
        (TRUTH, TRUTH, np.zeros(3), "one number for each feature"),
        (TRUTH, TRUTH * np.nan, MEAN, "NaN"),
        (TRUTH, np.ones_like(TRUTH), MEAN, "nothing is left to guess"),
    ],
)
def test_what_is_refused(guess: np.ndarray, truth: np.ndarray, mean: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        reconstruction_error(guess, truth, mean, ordered=True)

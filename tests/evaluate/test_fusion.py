"""Two scores fused: surprise against normal steps, and what is stored of it."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto.errors import DataError
from lazaretto.evaluate.fusion import fuse, surprise, tail_from_counts, tails_from_array, tails_to_array
from lazaretto.evaluate.operating import BIN_RATIO, score_counts


def _tail(score: np.ndarray) -> object:
    return tail_from_counts(score_counts(score, cap=10**9))


@pytest.mark.parametrize("seed", [0, 1])
def test_surprise_is_the_share_of_normal_steps_that_score_as_high(seed: int) -> None:
    normal = np.random.default_rng(seed).normal(-2.0, 3.0, 4000)
    tail = _tail(normal)
    for score in np.quantile(normal, [0.05, 0.5, 0.9, 0.99, 0.999]):
        near = abs(score) * (BIN_RATIO - 1) + 1e-6  # a bin's width to either side, and a knot each .02 nats
        low, high = ((normal > score + side * near).sum() for side in (-1, 1))
        found = surprise(tail, np.array([score]))[0]
        assert -np.log((low + 1) / 4000) - 0.05 <= found <= -np.log((high + 0.4) / 4001) + 0.05


def test_beyond_all_normal_scores_the_tail_goes_on() -> None:
    # scores of rate 2: their log tail falls by 2 nats a unit; 400 of 40,000 lie in the last hundredth, so
    # that the slope has a standard error of 5 %, and 25 % is five of them
    normal = np.random.default_rng(0).exponential(0.5, 40_000)
    tail = _tail(normal)
    far = surprise(tail, np.array([20.0, 21.0, 30.0]))
    assert far[1] - far[0] == pytest.approx(2.0, rel=0.25)
    assert far[2] > far[1] > far[0] > surprise(tail, normal).max()


def test_ranks_stay() -> None:
    rng = np.random.default_rng(0)
    tail, score = _tail(rng.normal(size=500)), np.sort(rng.normal(size=300) * 3)
    assert (np.diff(surprise(tail, score)) >= 0).all()


def test_scores_all_alike_are_no_surprise_and_higher_ones_are() -> None:
    tail = _tail(np.full(50, 1.5))
    calm, high = surprise(tail, np.array([1.0, 4.0]))
    assert high > calm


def test_weight_nought_leaves_the_first_score_alone() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 200))
    tails = (_tail(first), _tail(second))
    np.testing.assert_array_equal(
        fuse(tails, (first, second), 0.0), surprise(tails[0], first).astype(np.float32)
    )
    both = fuse(tails, (first, second), 0.5)
    np.testing.assert_allclose(both, surprise(tails[0], first) + 0.5 * surprise(tails[1], second), rtol=1e-6)


def test_stored_and_read_again() -> None:
    rng = np.random.default_rng(0)
    tails = (_tail(rng.normal(size=900)), _tail(rng.exponential(size=30)))
    read = tails_from_array(tails_to_array(tails))
    score = np.linspace(-5, 60, 500)
    for mine, theirs in zip(tails, read, strict=True):
        np.testing.assert_allclose(surprise(mine, score), surprise(theirs, score), rtol=1e-9, atol=1e-9)


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(DataError, match="no normal validation step"):
        tail_from_counts(score_counts(np.zeros(0)))


@pytest.mark.parametrize("spoil", ["shape", "nan", "order", "falling", "negative", "type", "flat"])
def test_tails_that_are_none_are_refused(spoil: str) -> None:
    rng = np.random.default_rng(0)
    good = tails_to_array((_tail(rng.normal(size=90)), _tail(rng.normal(size=90))))
    bad = good.copy()
    if spoil == "shape":
        bad = bad[:1]
    if spoil == "nan":
        bad[0, 0, 0] = np.nan
    if spoil == "order":
        bad[0, 0, 1] = bad[0, 0, 0]
    if spoil == "falling":
        bad[1, 1, 3] = bad[1, 1, 2] - 1
    if spoil == "negative":
        bad[0, 1, 0] = -1.0
    if spoil == "type":
        bad = bad.astype(np.float32)
    if spoil == "flat":
        bad[0, 1, -2:] = bad[0, 1, -1]
    tails_from_array(good)
    with pytest.raises(DataError, match="tails of scores"):
        tails_from_array(bad)

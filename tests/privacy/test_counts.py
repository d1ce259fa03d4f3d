"""Counts with noise: what one example can change, how large the noise is, what is exact without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NonPrivateDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.stats import chi2

from lazaretto.errors import InputError
from lazaretto.keys import generator
from lazaretto.privacy.counts import (
    GRAINS,
    CountNoise,
    count_event,
    histograms,
    kept_counts,
    noisy_counts,
)

Draw = Callable[[int], NDArray[np.float64]]
_FALSE_ALARM = 1e-4  # of the law of the noise's size, where the noise is right


def _normals(seed: int) -> Draw:
    return generator(seed, "noise of counts").standard_normal


def _no_noise(count: int) -> NDArray[np.float64]:
    return np.zeros(count)


def _rows() -> st.SearchStrategy[NDArray[np.float64]]:
    shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
    return arrays(np.float64, shapes, elements=st.floats(0, 1e6, width=32))


@settings(max_examples=60)
@given(rows=_rows(), clip=st.floats(0.01, 100))
def test_one_example_more_or_less_moves_the_sum_by_the_clip_at_most(
    rows: NDArray[np.float64], clip: float
) -> None:
    whole = noisy_counts(rows, clip, 0, _no_noise)
    rounding = np.sqrt(rows.shape[1])  # a grain's half in each cell, on both sides
    for out in range(len(rows)):
        without = noisy_counts(np.delete(rows, out, axis=0), clip, 0, _no_noise)
        assert np.linalg.norm(whole - without) <= GRAINS * clip * (1 + 1e-9) + rounding


def test_an_example_that_is_not_clipped_is_found_out() -> None:
    """The law above can fail: the plain sum breaks it."""
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    clipped = noisy_counts(rows, 1.0, 0, _no_noise)
    assert np.linalg.norm(clipped) <= GRAINS + 2 < GRAINS * np.linalg.norm(rows.sum(axis=0))


def _size_is_right(drawn: NDArray[np.float64], deviation: float) -> bool:
    """Whether so many draws may have that deviation: chi-squared, wrong in one of 10,000 cases."""
    low, high = chi2.ppf([_FALSE_ALARM / 2, 1 - _FALSE_ALARM / 2], len(drawn))
    return bool(low <= float(drawn @ drawn) / deviation**2 <= high)


@pytest.mark.parametrize(("size", "accepted"), [(1.0, True), (1 / 2, False), (2 / 3, False), (3 / 2, False)])
def test_the_noise_has_its_size(size: float, accepted: bool) -> None:
    """With 4,000 cells a wrong size is taken for the right one less often than once in a million."""
    noise, clip, cells = 5.0, 2.0, 4000
    draw = _normals(1)
    found = noisy_counts(np.zeros((0, cells)), clip, noise, lambda count: size * draw(count))
    assert _size_is_right(found / GRAINS, noise * clip) is accepted


def test_noise_is_new_in_each_cell_and_each_call() -> None:
    draw = _normals(2)
    first, second = (noisy_counts(np.zeros((1, 5000)), 1.0, 10.0, draw).astype(float) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08  # five deviations of a correlation of nothing
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.08


def test_without_noise_and_clip_it_is_the_sum() -> None:
    rows = generator(0, "rows").integers(0, 5, (9, 4)).astype(float)
    assert np.array_equal(noisy_counts(rows, 1e9, 0, _no_noise), GRAINS * rows.sum(axis=0))
    assert np.array_equal(noisy_counts(rows[:0], 1.0, 0, _no_noise), np.zeros(4))


def test_histograms_lay_weights_on_cells() -> None:
    cells = np.array([[0, 2, 2], [1, 1, 0]])
    found = histograms(cells, np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]]), 4)
    assert np.array_equal(found.toarray(), [[0.5, 0, 0.5, 0], [0, 1, 0, 0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: noisy_counts(np.array([[np.nan]]), 1.0, 1.0, _no_noise),
        lambda: noisy_counts(np.ones((1, 1)), 0.0, 1.0, _no_noise),
        lambda: noisy_counts(np.ones((1, 1)), 1.0, np.inf, _no_noise),
        lambda: noisy_counts(np.ones((1, 1)), 1.0, -1.0, _no_noise),
        lambda: histograms(np.array([[4]]), np.ones((1, 1)), 4),
        lambda: histograms(np.array([[1]]), -np.ones((1, 1)), 4),
        lambda: histograms(np.array([[1]]), np.ones((2, 1)), 4),
        lambda: CountNoise(unit="site", noise_multiplier=1.0, normals=lambda what, site: _no_noise),
        lambda: CountNoise(unit="record", noise_multiplier=-1.0, normals=lambda what, site: _no_noise),
        lambda: CountNoise(unit="record", noise_multiplier=1, clip=2, normals=lambda what, site: _no_noise),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        call()


def test_of_noise_alone_nothing_is_kept_but_a_rows_best() -> None:
    """Of 70,000 cells 2.2 pass four deviations on average, more than ten once in 40,000 times."""
    noise = np.rint(1000 * _normals(3)(70_000)).astype(np.int64).reshape(700, 100)
    kept = kept_counts(noise, 1000.0)
    assert (kept > 0).any(axis=1).all()
    assert (kept >= 4000).sum() <= 10
    assert np.array_equal(np.argmax(kept, axis=1), np.argmax(noise, axis=1))


def test_what_is_clear_is_kept_with_what_lies_beside_it() -> None:
    counts = np.array([[0, 25, 90, 30, 0, 25, -50, 35]])
    assert np.array_equal(kept_counts(counts, 10.0), [[0, 25, 90, 30, 0, 0, 0, 0]])
    assert np.array_equal(kept_counts(-counts[:, :1], 10.0), [[0]])
    assert np.array_equal(kept_counts(np.array([[3, 0, 1]]), 0.0), [[3, 0, 1]])


def test_what_counts_cost() -> None:
    assert count_event(2.5) == GaussianDpEvent(2.5)
    assert isinstance(count_event(0), NonPrivateDpEvent)

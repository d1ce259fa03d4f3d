"""Inner products in float32 blocks: what they promise of errors, and that no rule depends on them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import catalog, gram
from lazaretto.aggregate._coordinates import middle
from lazaretto.chain import rule_of
from lazaretto.gram import (
    combine,
    distances_to,
    finite_rows,
    inner_products,
    lengths_and_products,
    row_lengths,
    squared_distances,
)
from lazaretto.keys import generator
from lazaretto.round import Arrived, aggregate_round

WORST = 2.0**-14  # of the product of two lengths


@pytest.fixture(autouse=True)
def _blocks_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "_SMALL", 0)


def exact(X: Any) -> Any:
    wide = X.astype(np.float64)
    return wide @ wide.T


def kinds(kind: str, n: int = 12, d: int = 70_000) -> Any:
    """[n, d] float32 of one kind."""
    rng = generator(0, "kinds", kind)
    X = rng.standard_normal((n, d)).astype(np.float32)
    made = {
        "without a pattern": X,
        "all of one sign": np.abs(X) + 1,
        "constant": np.full((n, 1), 0.1, np.float32) * np.arange(1, n + 1, dtype=np.float32)[:, None] + 0 * X,
        "far apart in length": X * np.float32(10.0) ** np.arange(-6, n - 6)[:, None].astype(np.float32),
        "with a zero row": X * (np.arange(n) > 0)[:, None],
        "some nearly the same": np.where(np.arange(n)[:, None] < 5, X[:1] * (1 + 1e-4 * X), X),
        "all nearly the same": X[:1] + np.float32(1e-3) * X,
    }
    return made[kind].astype(np.float32)


KINDS = (
    "without a pattern",
    "all of one sign",
    "constant",
    "far apart in length",
    "with a zero row",
    "some nearly the same",
    "all nearly the same",
)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_stay_within_what_is_said(kind: str) -> None:
    X = kinds(kind)
    found, true = inner_products(X), exact(X)
    length = np.sqrt(np.diagonal(true))
    np.testing.assert_array_equal(found, found.T)
    assert (np.abs(found - true) <= WORST * np.outer(length, length)).all()
    apart = np.array([[((a.astype(np.float64) - b) ** 2).sum() for a in X] for b in X])
    assert (np.abs(squared_distances(found) - apart) <= 2.0**-6 * apart + 1e-13 * length[:, None] ** 2).all()
    if kind == "without a pattern":  # else there would be nothing to gain
        assert (np.abs(found - true) <= 1e-6 * np.outer(length, length)).all()
        assert (found != true).any()
    if kind == "all nearly the same":
        np.testing.assert_allclose(squared_distances(found), apart, rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e13, 1e30])
def test_numbers_whose_squares_float32_cannot_hold(scale: float) -> None:
    X = (kinds("without a pattern") * np.float32(scale)).astype(np.float32)
    np.testing.assert_allclose(inner_products(X), exact(X), rtol=1e-9, atol=1e-12 * float(exact(X).max()))


def test_a_far_row_spoils_no_distance_but_its_own() -> None:
    X = kinds("some nearly the same")
    before = squared_distances(inner_products(X))
    X[7] *= 1e5
    after = squared_distances(inner_products(X))
    others = np.delete(np.arange(len(X)), 7)
    np.testing.assert_allclose(after[np.ix_(others, others)], before[np.ix_(others, others)], rtol=1e-5)


def test_equal_rows_are_at_distance_zero() -> None:
    X = kinds("without a pattern")
    X[3:7] = X[3]
    found = squared_distances(inner_products(X))
    assert (found[3:7, 3:7] == 0).all()
    assert (found[0, 1:] > 0).all()


def test_public_rows_that_lie_near_are_taken_exactly() -> None:
    X = kinds("without a pattern")
    public = np.array([X[2] * (1 + 1e-5), np.zeros(X.shape[1])], np.float64)
    found = squared_distances(inner_products(X, public))
    np.testing.assert_allclose(found[2, 12], ((X[2] - public[0]) ** 2).sum(), rtol=1e-4)
    np.testing.assert_allclose(found[:12, 13], np.diagonal(exact(X)), rtol=1e-5)


RULES = [
    *(
        name
        for name in catalog.names("rules")
        if rule_of(name, {}).sees == "gram" and not rule_of(name, {}).mixes
    ),
    *(f"{mixer} | multi_krum" for mixer in ("nnm", "clip", "bucketing")),
    "clip | nnm | geometric_median",
]


@pytest.mark.parametrize(
    ("name", "kind"), list(itertools.product(RULES, ("hostile", "some nearly the same")))
)
def test_no_rule_depends_on_how_products_were_taken(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "hostile":
        X = kinds("without a pattern", d=20_000) + generator(1, "common").standard_normal(20_000)
        X[:3] -= 4
        X = X.astype(np.float32)
    else:
        X = kinds(kind, d=20_000)
    rule, n = rule_of(name, {}), len(X)
    public = {row: X[5] / 2 for row in rule.public if row != "zero"}
    arrived = Arrived(X, np.ones(n), np.arange(n), X.astype(np.float64) if rule.history else None)
    found = []
    for small in (0, 2**60):
        monkeypatch.setattr(gram, "_SMALL", small)
        found.append(aggregate_round(rule, arrived, public, rule.start(n), generator(0, "draw")))
    quick, slow = found
    np.testing.assert_allclose(quick.suspicion, slow.suspicion, atol=1e-4)
    np.testing.assert_allclose(quick.weights, slow.weights, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from([1, 63, 2048, 2049, 32768, 70_001]),
    st.integers(0, 99),
)
def test_one_pass_over_all_columns(n: int, m: int, d: int, seed: int) -> None:
    rng = generator(seed, "columns", n, d)
    X = rng.standard_normal((n, d)).astype(np.float32)
    point, weights = rng.standard_normal(d), rng.standard_normal((m, n)) * rng.integers(0, 2, (m, n))
    wide = X.astype(np.float64)
    np.testing.assert_allclose(distances_to(X, point), np.sqrt(((wide - point) ** 2).sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(row_lengths(X), np.sqrt((wide**2).sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(combine(weights, X), weights @ wide, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(middle(X, (n - 1) // 2), np.median(wide, axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rows_that_are_not_finite(bad: float, kind: type) -> None:
    X = np.full((4, 40_000), 1e30, kind)
    X[1, 39_999] = bad
    X[2, 0] = bad
    X[3, 5] = 1e38 if kind is np.float32 else 1e300
    assert finite_rows(X).tolist() == [True, False, False, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("public", [0, 2])
def test_lengths_come_with_the_products(kind: str, public: int) -> None:
    X = kinds(kind)
    known = generator(0, "known").standard_normal((public, X.shape[1]))
    length, inner = lengths_and_products(X, known)
    assert inner is not None
    np.testing.assert_array_equal(inner, inner_products(X, known))
    np.testing.assert_allclose(length, row_lengths(X), rtol=WORST)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_lengths_of_rows_that_need_not_be_finite(bad: float, kind: type) -> None:
    X = kinds("without a pattern", 5, 3000).astype(kind)
    X[2, 1500] = bad
    length, inner = lengths_and_products(X, np.zeros((0, 3000)))
    np.testing.assert_array_equal(length, row_lengths(X))
    assert (inner is not None) == bool(np.isfinite(bad))
    if inner is not None:
        np.testing.assert_array_equal(inner, inner_products(X))

"""Thresholds from counts: how near the exact quantile, and what a site can and cannot do to them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazaretto.errors import DataError
from lazaretto.evaluate.metrics import smooth
from lazaretto.evaluate.operating import (
    BIN_RATIO,
    EDGES,
    EVERYONE,
    Operating,
    Platt,
    bin_of,
    edge_counts,
    fit_platt,
    log_odds,
    operating_from_json,
    operating_to_json,
    per_unit,
    probability,
    score_counts,
    threshold_from_counts,
    threshold_from_edges,
)
from lazaretto.keys import generator

numbers = hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e9, 1e9, width=32))


def order_statistic(score: np.ndarray, rate: float) -> float:
    """The smallest score with at most rate * n scores strictly above it."""
    allowed = np.floor(rate * len(score) * (1 + 1e-12))
    return min(s for s in score if np.count_nonzero(score > s) <= allowed)


@settings(max_examples=100, deadline=None)
@given(numbers, st.sampled_from([0.001, 0.01, 0.07, 0.5]))
def test_threshold_is_at_most_one_bin_above_the_exact_quantile(score: np.ndarray, rate: float) -> None:
    threshold = threshold_from_counts(score_counts(score), rate)
    exact = order_statistic(score, rate)
    assert np.count_nonzero(score > threshold) <= rate * len(score) * (1 + 1e-12)
    assert exact <= threshold <= exact + abs(exact) * (BIN_RATIO - 1) + 1.01e-6


@settings(max_examples=50, deadline=None)
@given(numbers)
def test_thresholds_fall_as_the_rate_rises(score: np.ndarray) -> None:
    counts = score_counts(score)
    thresholds = [threshold_from_counts(counts, rate) for rate in (0.001, 0.01, 0.1, 0.3, 0.9)]
    assert thresholds == sorted(thresholds, reverse=True)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers)
def test_the_sum_of_two_sites_is_the_count_of_both(first: np.ndarray, second: np.ndarray) -> None:
    both = score_counts(np.concatenate([first, second]))
    assert np.array_equal(score_counts(first) + score_counts(second), both)


def test_a_bin_holds_what_lies_above_its_lower_edge_up_to_its_own() -> None:
    assert list(bin_of(EDGES[[0, 5, -1]])) == [0, 5, len(EDGES) - 1]
    assert bin_of(np.asarray([np.inf]))[0] == len(EDGES)


def test_cap_keeps_the_quantiles_and_bounds_the_weight_of_a_site() -> None:
    score = generator(0, "cap").normal(size=200_000)
    capped = score_counts(score, cap=10_000)
    assert capped.sum() == 10_000
    assert capped.min() >= 0
    for rate in (0.01, 0.1):
        near = np.quantile(score, [1 - rate - 1e-4, 1 - rate + 1e-4])
        assert near[0] / BIN_RATIO <= threshold_from_counts(capped, rate) <= near[1] * BIN_RATIO


def test_one_flooding_site_cannot_drown_nineteen_others() -> None:
    rng = generator(1, "flooding")
    honest = sum(score_counts(rng.normal(size=10_000)) for _ in range(19))
    hostile = score_counts(np.full(1_000_000, -50.0))
    moved = threshold_from_counts(honest + hostile, 0.01)
    uncapped = threshold_from_counts(honest + score_counts(np.full(1_000_000, -50.0), cap=1 << 40), 0.01)
    assert abs(moved - threshold_from_counts(honest, 0.01)) < 0.05
    assert uncapped < 1.7  # without the cap the threshold would have fallen from 2.33


def test_without_normal_steps_there_is_no_threshold() -> None:
    with pytest.raises(DataError, match="no normal validation step"):
        threshold_from_counts(score_counts(np.zeros(0)), 0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="finite"):
        score_counts(np.asarray([0.0, bad]))


def test_a_score_beyond_every_edge_gives_no_alarm() -> None:
    assert threshold_from_counts(score_counts(np.full(10, 1e13)), 0.01) == np.inf


@pytest.mark.parametrize("seed", range(5))
def test_alarms_at_every_threshold_are_those_counted_one_by_one(seed: int) -> None:
    rng = generator(seed, "alarms")
    score, valid = rng.normal(size=(6, 40)), rng.random((6, 40)) < 0.9
    normal = valid & (rng.random((6, 40)) < 0.8)
    smoothed = smooth(score, valid, 2, 3)
    counted = edge_counts(smoothed, normal)
    for edge in np.searchsorted(EDGES, [-1.0, -0.3, 0.0, 0.4, 1.1, 5.0]):
        alarms = 0
        for unit in range(6):
            on = False
            for step in range(40):
                now = smoothed[unit, step] > EDGES[edge]
                alarms += int(now and not on and normal[unit, step])
                on = now
        assert counted[edge] == alarms


def test_from_the_alarm_threshold_on_no_threshold_is_too_loud() -> None:
    rng = generator(7, "loud")
    smoothed = smooth(rng.normal(size=(10, 2000)), np.ones((10, 2000), dtype=bool), 3, 5)
    counts = edge_counts(smoothed, np.ones((10, 2000), dtype=bool))
    seconds = 10 * 2000 * 60.0  # 13.9 device-days
    threshold = threshold_from_edges(counts, seconds)
    place = int(np.searchsorted(EDGES, threshold))
    assert counts[place:].max() <= 13
    assert counts[place - 1] > 13


def test_platt_finds_the_logistic_law_that_made_the_labels() -> None:
    rng = generator(3, "platt")
    score = rng.normal(size=60_000) * 3
    attacked = rng.random(60_000) < 1 / (1 + np.exp(-(0.8 * score - 1.5)))
    found = fit_platt(score, attacked)
    assert found.slope == pytest.approx(0.8, abs=0.03)
    assert found.intercept == pytest.approx(-1.5, abs=0.05)
    assert probability(found, np.asarray([0.0]))[0] == pytest.approx(1 / (1 + np.exp(1.5)), abs=0.01)


@pytest.mark.parametrize(
    ("score", "attacked"),
    [
        (np.zeros(50), np.arange(50) < 10),
        (np.arange(50.0), np.zeros(50, dtype=bool)),
        (np.arange(50.0), np.arange(50) < 10),
        (np.asarray([3.0]), np.asarray([True])),
    ],
    ids=["constant", "one class", "anti-informative", "one step"],
)
def test_platt_without_information_keeps_the_order_and_the_base_rate(
    score: np.ndarray, attacked: np.ndarray
) -> None:
    found = fit_platt(score, attacked)
    assert found.slope > 0
    expected = (attacked.sum() + 1) / (len(attacked) + 2)
    assert probability(found, score).mean() == pytest.approx(expected, abs=1e-3)


def test_perfectly_separated_scores_stay_finite() -> None:
    found = fit_platt(np.concatenate([np.zeros(50), np.ones(50)]), np.arange(100) >= 50)
    assert np.isfinite(log_odds(found, np.asarray([-1e6, 1e6]))).all()


def test_operating_points_survive_being_stored() -> None:
    point = Operating(
        {"main": {EVERYONE: 0.5, 2: float("inf")}}, {EVERYONE: Platt(1.0, -1.0), 2: Platt(0.5, 0.0)}
    )
    assert operating_from_json(json.loads(json.dumps(operating_to_json(point), allow_nan=False))) == point
    assert per_unit(point.thresholds["main"], [2, 3]) == [float("inf"), 0.5]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"thresholds": {}, "platt": {}},
        {"thresholds": 3, "platt": {}},
        {"thresholds": {}, "platt": {"a": 1}},
    ],
)
def test_stored_rubbish_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(DataError, match="stored operating points"):
        operating_from_json(body)

"""Scaling from summed, capped counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data.scaling import (
    BUCKETS,
    TOTAL,
    apply_scaling,
    ballot,
    bucket_counts,
    far_from,
    median_scaling,
    scaling_from_ballots,
    scaling_from_counts,
    sum_counts,
)
from lazaretto.errors import InputError


def _site(seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (np.exp(rng.normal(3 + shift, 1, (4, 50, 2))) * [1, -1]).astype(np.float32)


def _counts(x: np.ndarray) -> np.ndarray:
    return bucket_counts(x, np.ones(x.shape[:2], bool))


def test_quantiles_come_out_to_a_bucket() -> None:
    x = np.concatenate([_site(seed) for seed in range(100)])  # enough for quantiles to be smooth
    scaling = scaling_from_counts(_counts(x))
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(scaling.center, np.median(flat, axis=0), rtol=0.11)
    spread = (np.quantile(flat, 0.95, axis=0) - np.quantile(flat, 0.05, axis=0)) / 2
    np.testing.assert_allclose(scaling.scale, spread, rtol=0.11)


def test_every_site_weighs_the_same_and_order_does_not_matter() -> None:
    small, large = _site(1), np.concatenate([_site(2)] * 5)
    one = sum_counts([_counts(small), _counts(large)])
    assert np.array_equal(one, sum_counts([_counts(large), _counts(small)]))
    assert np.abs(_counts(large) - _counts(_site(2))).max() == 0


def test_a_hostile_site_moves_a_rank_by_its_share_at_most() -> None:
    honest = [_counts(_site(seed)) for seed in range(9)]
    lie = np.zeros_like(honest[0])
    lie[:, BUCKETS - 1] = TOTAL
    before = scaling_from_counts(sum_counts(honest)).center
    after = scaling_from_counts(sum_counts([*honest, lie])).center
    flat = np.concatenate([_site(seed) for seed in range(9)]).reshape(-1, 2)
    moved = np.abs((flat <= after).mean(axis=0) - (flat <= before).mean(axis=0))
    assert moved.max() < 0.1


@pytest.mark.parametrize("lie", [-1, TOTAL + 1])
def test_counts_outside_the_cap_are_refused_by_position(lie: int) -> None:
    honest = _counts(_site(0))
    hostile = honest.copy()
    hostile[1, 7] = lie
    with pytest.raises(InputError, match="site 1"):
        sum_counts([honest, hostile])


def test_constant_and_empty_features_keep_a_scale() -> None:
    x = np.full((1, 9, 2), 7.0, np.float32)
    assert (scaling_from_counts(_counts(x)).scale > 0).all()
    nothing = bucket_counts(x, np.zeros((1, 9), bool))
    assert nothing.sum() == 0
    assert (scaling_from_counts(nothing).scale > 0).all()


def test_counting_from_an_origin_resolves_what_is_far_from_zero() -> None:
    """Body temperature spreads by half a degree; counted from 0 °C a bucket is three degrees wide."""
    x = np.random.default_rng(0).normal(37.2, 0.5, (1, 20_000, 1)).astype(np.float32)
    every = np.ones(x.shape[:2], bool)
    scaling = scaling_from_counts(bucket_counts(x, every, (37.0,)), (37.0,))
    half = (np.quantile(x, 0.95) - np.quantile(x, 0.05)) / 2
    np.testing.assert_allclose(scaling.center, np.median(x), atol=0.05)
    np.testing.assert_allclose(scaling.scale, half, rtol=0.11)
    plain = scaling_from_counts(bucket_counts(x, every))
    assert abs(float(plain.scale[0]) / half - 1) > 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=2, max_size=40))
def test_scaling_keeps_order_and_stays_finite(values: list[float]) -> None:
    x = np.sort(np.array(values, np.float32))[None, :, None]
    scaled = apply_scaling(scaling_from_counts(_counts(x)), x)
    assert np.isfinite(scaled).all()
    assert (np.diff(scaled[0, :, 0]) >= 0).all()


def _quantile(counts: np.ndarray, q: float) -> np.ndarray:
    """Bucket [F] of one site's quantile, by walking up its counts."""
    found = []
    for row in counts:
        needed, bucket = q * row.sum() - 1e-9, 0
        seen = int(row[0])
        while seen < needed:
            bucket += 1
            seen += int(row[bucket])
        found.append(bucket)
    return np.array(found)


def _middle(buckets: np.ndarray) -> np.ndarray:
    """Geometric middle of each bucket, as the module says they lie."""
    side = np.abs(buckets - BUCKETS // 2)
    return np.sign(buckets - BUCKETS // 2) * 1e-6 * 1.1 ** (side - 0.5) * (side > 0)


_TO_A_BUCKET = 1.1**0.5 * (1 + 1e-5)
_LIES = st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.integers(1, TOTAL)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.data())
def test_the_median_stays_among_the_honest_whatever_a_minority_counts(
    honest: int, data: st.DataObject
) -> None:
    """Against honest sites that differ: center and scale between their own least and largest quantiles."""
    shifts = data.draw(st.lists(st.floats(-2, 2), min_size=honest, max_size=honest))
    own = [_counts(_site(seed, shift)) for seed, shift in enumerate(shifts)]
    lies = []
    for _ in range(data.draw(st.integers(0, honest - 1))):
        lie = np.zeros_like(own[0])
        for feature in (0, 1):
            for bucket, count in data.draw(_LIES):
                lie[feature, bucket] += min(count, TOTAL - lie[feature].sum())
        lies.append(lie)
    order = data.draw(st.permutations([*own, *lies]))
    scaling = median_scaling(order)
    low, mid, high = (_middle(np.array([_quantile(c, q) for c in own])) for q in (0.05, 0.5, 0.95))
    near = 1e-5
    assert (scaling.center >= mid.min(axis=0) - near * np.abs(mid).max()).all()
    assert (scaling.center <= mid.max(axis=0) + near * np.abs(mid).max()).all()
    wide = (high - low) / 2
    assert (scaling.scale <= wide.max(axis=0) * _TO_A_BUCKET).all()
    assert (scaling.scale >= wide.min(axis=0) / _TO_A_BUCKET).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=7), st.integers(0, 2))
def test_the_median_is_that_of_the_sites_own_centres_and_scales(shifts: list[float], silent: int) -> None:
    """Of an even number of sites the lower; a slow oracle, by sorting."""
    own = [_counts(_site(seed, shift)) for seed, shift in enumerate(shifts)]
    nothing = np.zeros_like(own[0])
    scaling = median_scaling([*own, *[nothing] * silent])
    low, mid, high = (_middle(np.array([_quantile(c, q) for c in own])) for q in (0.05, 0.5, 0.95))
    center, scale = (np.sort(each, axis=0)[(len(own) - 1) // 2] for each in (mid, (high - low) / 2))
    np.testing.assert_allclose(scaling.center, center, rtol=1e-6)
    np.testing.assert_allclose(scaling.scale, scale, rtol=_TO_A_BUCKET - 1)


def test_a_ballot_has_one_mark_in_each_place_whatever_was_counted() -> None:
    for counts in (
        _counts(_site(1)),
        _counts(np.full((1, 9, 2), 7.0, np.float32)),
        np.zeros((2, BUCKETS), np.int64),
    ):
        marks = ballot(counts)
        assert marks.shape == (2, 2, BUCKETS + 1)
        assert set(np.unique(marks)) == {0, 1}
        assert (marks.sum(axis=2) == 1).all()


def test_who_says_constant_cannot_have_an_outlier_read_as_the_scale() -> None:
    """Five honest sites with one wild value each, three that say all their values are alike."""
    honest = []
    for place in range(5):
        x = np.random.default_rng(place).normal(10 + place, 0.5, (1, 3000, 1)).astype(np.float32)
        x[0, 0] = 1e6
        honest.append(_counts(x))
    constant = np.zeros_like(honest[0])
    constant[:, np.flatnonzero(honest[2][0])[0]] = TOTAL
    assert (median_scaling([*honest, *[constant] * 4]).scale < 1).all()
    assert (median_scaling([*honest, *[constant] * 3]).scale < 1).all()


@pytest.mark.parametrize("bucket", [0, BUCKETS // 2, BUCKETS - 1])
def test_a_scale_of_no_counts_does_no_harm(bucket: int) -> None:
    """A mark for a scale of 0 or below is one for "does not vary"; one for a huge one is a vote."""
    still, moves = np.zeros((1, BUCKETS), np.int64), np.zeros((1, BUCKETS), np.int64)
    still[:, BUCKETS // 2 + 9] = TOTAL
    moves[:, [BUCKETS // 2 + 80, BUCKETS // 2 + 82]] = TOTAL // 2
    own = median_scaling([moves]).scale[0]
    lie = ballot(moves)
    lie[:, 1] = np.arange(BUCKETS + 1) == bucket
    some = sum(ballot(one) for one in [*[still] * 5, *[moves] * 6])
    assert scaling_from_ballots(some + 2 * lie).scale[0] == own
    most = sum(ballot(one) for one in [*[still] * 2, *[moves] * 5])
    assert scaling_from_ballots(most + 4 * lie).scale[0] == own


def test_a_spread_below_the_smallest_bucket_is_a_spread() -> None:
    x = np.array([1e-6, 2e-6], np.float32).repeat(5)[None, :, None]
    assert 0 < median_scaling([_counts(x)] * 3).scale[0] < 2e-6


def test_equal_sites_agree_on_what_each_of_them_has() -> None:
    counts = _counts(_site(3))
    alone, many = scaling_from_counts(counts), median_scaling([counts] * 4)
    np.testing.assert_array_equal(many.center, alone.center)
    np.testing.assert_allclose(many.scale, alone.scale, rtol=_TO_A_BUCKET - 1)


def test_who_measured_nothing_has_no_vote_and_who_counted_little_has_one() -> None:
    counts, nothing = _counts(_site(3)), np.zeros((2, BUCKETS), np.int64)
    alone = scaling_from_counts(counts)
    silent = median_scaling([nothing, nothing, nothing, counts, counts])
    np.testing.assert_allclose(silent.scale, alone.scale, rtol=_TO_A_BUCKET - 1)
    few = np.zeros_like(counts)
    few[:, 5] = 1
    np.testing.assert_array_equal(median_scaling([few, counts, counts]).center, alone.center)
    for nobody in (median_scaling([nothing, nothing], (37.0, 0.0)),):
        np.testing.assert_array_equal(nobody.center, [37.0, 0.0])
        np.testing.assert_array_equal(nobody.scale, 1.0)


def test_what_is_constant_at_most_sites_is_scaled_as_where_it_varies_least() -> None:
    """The lower quartile of the varying sites' scales; false counts that are huge do not hide the rest."""
    still = _counts(np.full((1, 9, 2), 7.0, np.float32))
    varying = [_counts(_site(seed) * np.float32(10.0**seed)) for seed in range(4)]
    huge = np.zeros_like(still)
    huge[:, [0, -1]] = TOTAL // 2
    smallest = scaling_from_counts(varying[0]).scale
    near = {"rtol": _TO_A_BUCKET - 1}  # a site marks the bucket of its scale
    np.testing.assert_allclose(median_scaling([still] * 5 + varying).scale, smallest, **near)
    hidden = median_scaling([still] * 5 + varying[:2] + [huge] * 2)
    np.testing.assert_allclose(hidden.scale, smallest, **near)
    np.testing.assert_array_equal(median_scaling([still] * 3).scale, 1.0)


@pytest.mark.parametrize("lie", [-1, TOTAL + 1])
def test_the_median_refuses_counts_outside_the_cap(lie: int) -> None:
    hostile = _counts(_site(0))
    hostile[1, 7] = lie
    with pytest.raises(InputError, match="site 1"):
        median_scaling([_counts(_site(1)), hostile])


def test_who_lies_far_from_the_others_is_found_in_the_features_in_which_it_does() -> None:
    x = [_site(seed, 0.3 * seed) for seed in range(5)]
    x[3] = x[3] * np.float32([1, 1000])  # grams, where the others have kilograms
    counts = [_counts(values) for values in x]
    far = far_from(median_scaling(counts), counts)
    assert np.argwhere(far).tolist() == [[3, 1]]
    silent = [*counts[:3], np.zeros_like(counts[0])]
    assert not far_from(median_scaling(silent), silent).any()
    assert not far_from(median_scaling(counts[2:4]), counts[2:4]).any(), "of two nobody knows who is right"


def test_origins_hold_for_the_median_too() -> None:
    rng = np.random.default_rng(0)
    x = [rng.normal(37.2, 0.5, (1, 2_000, 1)).astype(np.float32) for _ in range(3)]
    every = np.ones(x[0].shape[:2], bool)
    counts = [bucket_counts(one, every, (37.0,)) for one in x]
    scaling = median_scaling(counts, (37.0,))
    np.testing.assert_allclose(scaling.center, 37.2, atol=0.05)
    np.testing.assert_allclose(scaling.scale, 0.5 * 1.645, rtol=0.11)
    assert not far_from(scaling, counts, (37.0,)).any()

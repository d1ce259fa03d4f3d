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
    bucket_counts,
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

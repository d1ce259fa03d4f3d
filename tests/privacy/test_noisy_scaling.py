"""Scaling agreed from counts with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lazaretto.data.scaling import BUCKETS, scaling_from_counts
from lazaretto.data.sites import Partition
from lazaretto.data.streams import Streams
from lazaretto.data.wide_buckets import CELLS, WIDE, two_widths, wide_and_narrow
from lazaretto.errors import InputError
from lazaretto.keys import generator
from lazaretto.privacy.counts import GRAINS, CountNoise
from lazaretto.run.post import Post
from lazaretto.run.scaled import agree_scaling, noisy_scaling_counts
from lazaretto.run.secret import Door
from lazaretto.types import TRAIN

_SITES, _UNITS, _STEPS, _WINDOW, _FEATURES = 4, 60, 16, 4, 3


def _noise(multiplier: float, clip: float = 1.0, seed: int = 0, unit: str = "record") -> CountNoise:
    return CountNoise(
        unit=unit,  # type: ignore[arg-type]
        noise_multiplier=multiplier,
        clip=clip,
        normals=lambda what, site: generator(seed, what, site).standard_normal,
    )


@pytest.fixture(scope="module")
def data() -> Streams:
    """Four sites; a spread feature, one that piles up at 64, one that is measured now and then."""
    rng, units = generator(0, "streams"), _SITES * _UNITS
    x = np.stack(
        [
            np.exp(rng.normal(5, 1, (units, _STEPS))),
            np.where(rng.random((units, _STEPS)) < 0.9, 64.0, 300.0),
            np.where(rng.random((units, _STEPS)) < 0.3, rng.normal(-20, 3, (units, _STEPS)), np.nan),
        ],
        axis=-1,
    )
    whole = np.ones((units, _STEPS), bool)
    return Streams(
        x=x.astype(np.float32),
        y=np.zeros((units, _STEPS), np.int64),
        valid=whole,
        judged=whole,
        unit=np.arange(units),
        site=np.arange(units) % _SITES,
        split=np.full(units, TRAIN),
        start_time=np.zeros(units),
        features=("spread", "piled", "odd"),
        window=_WINDOW,
    )


@pytest.fixture(scope="module")
def parts(data: Streams) -> Partition:
    names = tuple(f"site {number}" for number in range(_SITES))
    return Partition(site=data.site, site_names=names, withheld=np.zeros((_SITES, 2), bool))


def _rank(data: Streams, feature: int, value: float) -> float:
    known = data.x[..., feature][~np.isnan(data.x[..., feature])]
    return float((known <= value).mean())


def test_without_noise_it_is_the_scaling_of_the_counts(data: Streams, parts: Partition) -> None:
    plain, _ = agree_scaling(data, parts, Post())
    found, _ = agree_scaling(data, parts, Post(), private=_noise(0))
    np.testing.assert_allclose(found.center[:2], plain.center[:2], rtol=0.11)
    np.testing.assert_allclose(found.scale[:2], plain.scale[:2], rtol=0.21)
    assert abs(_rank(data, 2, found.center[2]) - 0.5) < 0.15


def test_noise_moves_it_a_little_and_secret_sums_not_at_all(data: Streams, parts: Partition) -> None:
    plain, _ = agree_scaling(data, parts, Post())
    noisy, notes = agree_scaling(data, parts, Post(), private=_noise(2))
    assert not notes
    assert not np.array_equal(noisy.scale, plain.scale)
    assert np.all(np.abs(noisy.center - plain.center) < 2 * plain.scale)
    assert np.all(np.abs(np.log2(noisy.scale / plain.scale)) < 2)
    for protocol in ("sharing", "masked"):
        post = Post()
        secret, _ = agree_scaling(data, parts, post, door=Door(protocol, 0), private=_noise(2))
        assert np.array_equal(secret.center, noisy.center)
        assert np.array_equal(secret.scale, noisy.scale)
        assert "scaling counts" not in {row["kind"] for row in post.rows()}


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_one_example_moves_a_sites_counts_by_the_clip_at_most(data: Streams, unit: str) -> None:
    noise = _noise(0, clip=0.5, unit=unit)
    before = noisy_scaling_counts(data, noise, 1)
    assert before.shape == (_FEATURES, CELLS)
    limit = GRAINS * noise.length(2 * _FEATURES) + np.sqrt(_FEATURES * CELLS)
    valid = data.valid.copy()
    at = np.flatnonzero(data.site == 1)[7]
    valid[at, slice(None) if unit == "patient" else slice(_WINDOW, 2 * _WINDOW)] = False
    after = noisy_scaling_counts(replace(data, valid=valid), noise, 1)
    assert 0 < np.linalg.norm(before - after) <= limit


def test_a_record_in_a_stream_is_one_example_each(data: Streams) -> None:
    """Without a clip the counts of a feature add up to the number of examples that measure it."""
    for unit, examples in (("record", _UNITS * _STEPS // _WINDOW), ("patient", _UNITS)):
        counts = noisy_scaling_counts(data, _noise(0, unit=unit), 0)
        for half in (counts[:2, :WIDE], counts[:2, WIDE:]):
            # cells are rounded to a grain one by one
            np.testing.assert_allclose(half.sum(axis=1), GRAINS * examples, rtol=0.01)


def test_the_median_of_noisy_counts_is_refused(data: Streams, parts: Partition) -> None:
    with pytest.raises(InputError, match="median"):
        agree_scaling(data, parts, Post(), "median", private=_noise(1))


def test_two_widths_agree_with_the_narrow_one_where_nothing_is_left_out() -> None:
    rng = generator(3, "values")
    x = np.concatenate([rng.normal(0, 10, (1, 400, 1)), np.zeros((1, 30, 1))], axis=1).astype(np.float32)
    wide, narrow = wide_and_narrow(x, np.ones(x.shape[:2], bool))
    assert np.array_equal(np.sign(narrow - BUCKETS // 2), np.sign(wide - WIDE // 2))
    both = [np.bincount(at.ravel(), minlength=size)[None] for at, size in ((wide, WIDE), (narrow, BUCKETS))]
    assert np.array_equal(two_widths(*both), both[1])
    alone = two_widths(both[0], np.zeros_like(both[1]))
    exact, spread = scaling_from_counts(both[1]), scaling_from_counts(alone)
    np.testing.assert_allclose(spread.scale, exact.scale, rtol=0.5)


def test_values_that_are_not_there_have_no_bucket() -> None:
    x = np.array([[[np.nan, 1.0], [2.0, 3.0]]], np.float32)
    wide, narrow = wide_and_narrow(x, np.array([[True, False]]))
    for found in (wide, narrow):
        assert np.array_equal(found >= 0, [[[False, True], [False, False]]])


def test_false_counts_are_refused() -> None:
    good: tuple[NDArray[np.int64], ...] = (np.zeros((2, WIDE), np.int64), np.zeros((2, BUCKETS), np.int64))
    for wrong in ((good[0] - 1, good[1]), (good[0][:, 1:], good[1]), (good[0], good[1][:1])):
        with pytest.raises(InputError):
            two_widths(*wrong)

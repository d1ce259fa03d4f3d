"""Series measured at odd times: what a model reads, against a slow loop and by hand; no NaN gets through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.data.duplicates import window_digests
from lazaretto.data.irregular import MOST_DAYS, laid_out_names, lay_out
from lazaretto.data.scaling import BUCKETS, apply_scaling, bucket_counts, scaling_from_counts
from lazaretto.data.streams import streams
from lazaretto.run.prepare import read
from lazaretto.types import TRAIN, Schema, Table

GAP = np.nan


def slow(x: np.ndarray, valid: np.ndarray, days: float) -> np.ndarray:
    """One value after the other, as the formula of Che et al. 2018 says (their eq. for delta)."""
    units, length, series = x.shape
    out = np.zeros((units, length, 3 * series))
    for unit in range(units):
        for v in range(series):
            last, since, had = 0.0, 0.0, True
            for t in range(length):
                if t:
                    since = days if had else days + since
                had = bool(valid[unit, t]) and not np.isnan(x[unit, t, v])
                last = x[unit, t, v] if had else last
                if valid[unit, t]:
                    out[unit, t, v] = last
                    out[unit, t, series + v] = had
                    out[unit, t, 2 * series + v] = min(since, MOST_DAYS)
    return out


@st.composite
def stays(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    seed = draw(st.integers(0, 2**32 - 1))
    units, length, series = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(units, length, series)).astype(np.float32)
    x[rng.random(x.shape) < draw(st.floats(0, 1))] = GAP
    valid = rng.random((units, length)) < draw(st.sampled_from([0.5, 0.9, 1.0]))
    x[~valid] = 0
    return x, valid


def test_by_hand() -> None:
    """Six hours a step: nothing, 2, nothing, nothing, 3, nothing."""
    x = np.array([[[GAP], [2], [GAP], [GAP], [3], [GAP]]], np.float32)
    out, _ = lay_out(x, np.ones((1, 6), bool), 0.25)
    np.testing.assert_array_equal(out[0, :, 0], [0, 2, 2, 2, 3, 3])
    np.testing.assert_array_equal(out[0, :, 1], [0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(out[0, :, 2], [0, 0.25, 0.25, 0.5, 0.75, 0.25])
    assert laid_out_names(("ph",)) == ("ph", "ph_measured", "ph_days_since")


@given(stays(), st.sampled_from([1 / 24, 0.25, 1.0]))
def test_as_a_slow_loop(held: tuple[np.ndarray, np.ndarray], days: float) -> None:
    x, valid = held
    out, _ = lay_out(x, valid, days)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, slow(x, valid, days), rtol=1e-6)


@given(stays(), st.data())
def test_two_windows_in_turn_are_the_whole(held: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    x, valid = held
    at = data.draw(st.integers(0, x.shape[1]))
    whole, end = lay_out(x, valid, 1 / 24)
    first, carried = lay_out(x[:, :at], valid[:, :at], 1 / 24)
    second, last = lay_out(x[:, at:], valid[:, at:], 1 / 24, carried)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    for ours, theirs in zip(last, end, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(stays())
def test_no_step_sees_the_future(held: tuple[np.ndarray, np.ndarray]) -> None:
    x, valid = held
    changed = x.copy()
    changed[:, -1] = 7
    before, _ = lay_out(x, valid, 1.0)
    after, _ = lay_out(changed, valid, 1.0)
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])


def table(x: np.ndarray, **more: Any) -> Table:
    """One window per unit, hourly."""
    n, steps, series = x.shape
    return Table(
        x={"record": x},
        present=np.ones((n, 1), bool),
        y=np.zeros(n, np.int64),
        y_step=np.zeros((n, steps), np.int64),
        valid=np.ones((n, steps), bool),
        unit=np.arange(n),
        unit_names=tuple(f"stay {i}" for i in range(n)),
        time=np.zeros(n),
        site=np.zeros(n, np.int64),
        site_names=("ward",),
        split=np.full(n, TRAIN),
        schema=Schema(
            features={"record": tuple("abcdef"[:series])},
            classes=("normal", "odd"),
            step="1 hour",
            step_seconds=3600,
            irregular=frozenset({"record"}),
        ),
        **more,
    )


def test_streams_keep_gaps_until_they_are_read() -> None:
    x = np.array([[[1, GAP], [GAP, GAP], [4, GAP]]], np.float32)
    data = streams(table(x), "record")
    np.testing.assert_array_equal(data.x, x)
    assert data.step_days == pytest.approx(1 / 24)
    scaling = scaling_from_counts(bucket_counts(data.x, data.valid))
    found = read(data, scaling)
    assert found.features == ("a", "b", "a_measured", "b_measured", "a_days_since", "b_days_since")
    assert found.step_days is None
    assert np.isfinite(found.x).all()
    scaled = apply_scaling(scaling, np.array([1, 4], np.float32)[:, None].repeat(2, 1))[:, 0]
    np.testing.assert_array_equal(found.x[0, :, 0], scaled[[0, 0, 1]])
    assert not found.x[0, :, 1].any(), "never measured: the mean"
    np.testing.assert_allclose(found.x[0, :, 5], [0, 1 / 24, 2 / 24])


def test_scaling_looks_only_at_what_was_measured() -> None:
    x = np.random.default_rng(0).normal(50, 5, (3, 40, 2)).astype(np.float32)
    gaps = np.concatenate([x, np.full((3, 40, 2), GAP, np.float32)], axis=1)
    counts = bucket_counts(gaps, np.ones((3, 80), bool))
    np.testing.assert_array_equal(counts, bucket_counts(x, np.ones((3, 40), bool)))
    assert counts.shape == (2, BUCKETS)


def test_a_series_that_nobody_measured_in_training_is_neither_scaled_nor_lost() -> None:
    x = np.full((2, 5, 1), GAP, np.float32)
    scaling = scaling_from_counts(bucket_counts(x, np.ones((2, 5), bool)))
    assert (scaling.center, scaling.scale) == (0, 1)


def test_what_is_judged_is_a_part_of_what_is_read() -> None:
    x = np.ones((2, 3, 1), np.float32)
    last = np.zeros((2, 3), bool)
    last[:, -1] = True
    held = table(x, judged=last)
    np.testing.assert_array_equal(streams(held, "record").judged, last)
    short = replace(held, valid=np.array([[True, True, False], [True, True, True]]))
    np.testing.assert_array_equal(
        streams(short, "record").judged, [[False, False, False], [False, False, True]]
    )
    np.testing.assert_array_equal(streams(table(x), "record").judged, np.ones((2, 3), bool))


def test_gaps_are_equal_to_gaps_in_digests() -> None:
    """NaN has many bit patterns; a window is idle where its steps have the same gaps."""
    other = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    x = np.array([[[GAP], [2]], [[other], [2]], [[GAP], [other]], [[0], [2]]], np.float32)
    digests, idle = window_digests(table(x))
    assert (digests[0] == digests[1]).all()
    assert (digests[0] != digests[3]).any()
    assert idle.tolist() == [False, False, True, False]

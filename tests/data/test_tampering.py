"""Forged series: each kind by hand, and what holds for every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data.tampering import FEEDS, KINDS, Campaign, Kind, Series, forge, tamper

GAP = np.nan
NAMES = ("heart_rate_per_minute", "temperature_celsius", "age_years")
SERIES = Series.of(NAMES)


def stay(*heart: float) -> np.ndarray:
    """[L, 3] a stay of which only the heart rate is known, and the age at its begin."""
    x = np.full((len(heart), 3), GAP)
    x[:, 0], x[0, 2] = heart, 60
    return x


def campaign(onset: int, end: int, strength: float, push: float = 1.0, shown: int = 0) -> Campaign:
    return Campaign(onset, end, strength, np.array([push, push, 0.0]), shown)


def forged(kind: str, x: np.ndarray, held: Campaign, other: np.ndarray | None = None) -> list[float]:
    return [float(v) for v in forge(x, held, KINDS[kind], SERIES, other)[:, 0]]


def test_a_quarter_of_the_usual_range() -> None:
    """Heart rate is usual from 50 to 120, temperature from 36 to 38.3."""
    np.testing.assert_allclose(SERIES.spread[:2], [17.5, 0.575])


def test_offset_by_hand() -> None:
    """Two spreads are 35 beats; before the onset and after the end nothing changes, nor what is not there."""
    x = stay(80, 80, GAP, 90, 90)
    np.testing.assert_array_equal(forged("offset", x, campaign(1, 4, 2)), [80, 115, GAP, 125, 90])
    np.testing.assert_array_equal(forged("offset", x, campaign(1, 4, 2, -1)), [80, 45, GAP, 55, 90])


def test_scaling_by_hand() -> None:
    """Two spreads in the middle of the range, 85 beats: by 35 / 85."""
    found = forged("scaling", stay(85, 85, 170), campaign(1, 9, 2))
    np.testing.assert_array_equal(found, [85, 120, 240])


def test_drift_by_hand() -> None:
    """Four spreads, 70 beats, in five steps, and never above 120; what was above stays where it was."""
    found = forged("drift", stay(80, 80, 80, 80, 80, 130), campaign(1, 6, 4))
    np.testing.assert_array_equal(found, [80, 94, 108, 120, 120, 130])
    late = forged("drift", stay(80, 80), campaign(-3, 2, 1))  # began before the stay: 4/5, then all of 17.5
    np.testing.assert_array_equal(late, [94, 98])


def test_silenced_by_hand() -> None:
    """One spread inside the border, 102.5, and a fifth of what it was over: 130 to 100.5, written 100."""
    found = forged("silenced", stay(130, 130, 90, 40, 300), campaign(1, 9, 1))
    np.testing.assert_array_equal(found, [130, 100, 90, 70, 85])


def test_replay_by_hand() -> None:
    """Steps 0 and 1 over and over from step 2 on; a gap in the recording shows the value before it."""
    x = stay(70, 75, 90, GAP, 91, 92)
    np.testing.assert_array_equal(forged("replay", x, campaign(2, 5, 2)), [70, 75, 70, GAP, 70, 92])
    np.testing.assert_array_equal(forged("replay", x, campaign(0, 2, 1, shown=3)), [90, 90, 90, GAP, 91, 92])


def test_swap_by_hand() -> None:
    """The other patient's last value, ours where nothing of theirs is known yet."""
    other = stay(GAP, 60, GAP, 62)
    found = forged("swap", stay(90, 91, 92, 93), campaign(0, 3, 1), other)
    np.testing.assert_array_equal(found, [90, 60, 60, 93])


def test_what_is_written_has_the_decimals_of_its_series() -> None:
    x = np.full((3, 3), GAP)
    x[:, 1] = [36.5, 37, 37.2]
    found = forge(x, campaign(0, 3, 1.23), KINDS["offset"], SERIES)[:, 1]
    np.testing.assert_allclose(found, [37.2, 37.7, 37.9], atol=1e-5)  # 0.707 more


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Campaign, Kind]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = tuple(name for feed in FEEDS.values() for name in feed)
    series, steps = Series.of(names), draw(st.integers(2, 30))
    x = np.round(rng.uniform(series.least, series.largest, (2, steps, len(names))), 2)
    x = np.clip(x, series.least, series.largest).astype(np.float32).astype(float)
    x[rng.random(x.shape) < draw(st.floats(0, 1))] = GAP
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    onset = draw(st.integers(-10, steps - 1))
    held = Campaign(
        onset,
        onset + draw(st.integers(max(1, 1 - onset), 40)),
        draw(st.floats(kind.weakest, kind.strongest)),
        rng.integers(-1, 2, len(names)).astype(float),
        draw(st.integers(0, steps - 1)),
    )
    return x[0], x[1], held, kind


@settings(max_examples=200)
@given(cases())
def test_only_what_is_measured_touched_and_under_way(
    case: tuple[np.ndarray, np.ndarray, Campaign, Kind],
) -> None:
    x, other, held, kind = case
    series = Series.of(tuple(name for feed in FEEDS.values() for name in feed))
    found = forge(x, held, kind, series, other)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    still = np.ones(x.shape, bool)
    steps = np.arange(len(x))
    still[np.ix_((steps >= held.onset) & (steps < held.end), held.push != 0)] = False
    np.testing.assert_array_equal(found[still], x[still])
    known = ~np.isnan(found)
    least, largest = (np.broadcast_to(b.astype(np.float32), x.shape) for b in (series.least, series.largest))
    assert (found >= least)[known].all()
    assert (found <= largest)[known].all()


@settings(max_examples=100)
@given(cases())
def test_a_drift_stays_in_the_usual_range(case: tuple[np.ndarray, np.ndarray, Campaign, Kind]) -> None:
    x, other, held, _ = case
    series = Series.of(tuple(name for feed in FEEDS.values() for name in feed))
    found = forge(x, held, KINDS["drift"], series, other)
    usual = (x >= series.low) & (x <= series.high)
    room = 0.51 + 1e-4 * np.abs(x)  # of the decimals that a series has
    assert ((found >= series.low - room) & (found <= series.high + room))[usual].all()


def test_tamper() -> None:
    """Seeded; a step is labelled from onset to end; a normal stay is untouched; donors are of the group."""
    rng = np.random.default_rng(0)
    names = tuple(name for feed in FEEDS.values() for name in feed)
    series = Series.of(names)
    x = rng.normal((series.low + series.high) / 2, 2 * series.spread, (120, 24, len(names)))
    x = np.round(np.clip(x, series.least, series.largest), 1).astype(np.float32)
    x[rng.random(x.shape) < 0.5] = GAP
    group = np.arange(120) % 2
    made = tamper(x, group, names, np.random.default_rng(1), 0.7)
    again = tamper(x, group, names, np.random.default_rng(1), 0.7)
    for ours, theirs in zip(made, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert made.x.dtype == np.float32
    assert set(np.unique(made.label)) == set(range(7))
    np.testing.assert_array_equal(made.label > 0, made.intensity > 0)
    hit = (made.label > 0).any(axis=1)
    assert 0.55 < hit.mean() < 0.8
    np.testing.assert_array_equal(np.isnan(made.x), np.isnan(x))
    np.testing.assert_array_equal(made.x[~hit], x[~hit])
    for row in np.flatnonzero(hit):
        steps = np.flatnonzero(made.label[row])
        assert (np.diff(steps) == 1).all(), "one campaign, without a hole"
        differs = (made.x[row] != x[row]) & ~np.isnan(x[row])
        assert differs.any()
        assert set(np.flatnonzero(differs.any(axis=1))) <= set(steps)
        size = np.abs(made.x[row].astype(float) - x[row]) / series.spread
        assert made.intensity[row, steps[0]] == pytest.approx(size[differs].mean(), rel=1e-5)


def test_swaps_are_with_the_group() -> None:
    """Two groups on two levels: no value of the other level appears."""
    names = ("heart_rate_per_minute",)
    x = np.where(np.arange(40) < 20, 60, 110)[:, None, None] + np.arange(40)[:, None, None] % 20
    x = np.broadcast_to(x, (40, 12, 1)).astype(np.float32)
    made = tamper(x, (np.arange(40) >= 20).astype(np.int64), names, np.random.default_rng(0), 0.9, ["swap"])
    assert (made.label.max(axis=1) == 1).sum() > 20
    assert made.x[:20].max() < 80
    assert made.x[20:].min() >= 110
    alone = tamper(x[:1], np.zeros(1, np.int64), names, np.random.default_rng(0), 0.99, ["swap"])
    assert not alone.label.any(), "nobody to swap with"

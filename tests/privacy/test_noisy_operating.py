"""Operating points from counts with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import DataError
from lazaretto.evaluate.noisy import (
    SCORE_CELLS,
    Counted,
    noisy_operating,
    noisy_score_counts,
    operating_from_noisy,
)
from lazaretto.evaluate.operating import AS_IT_IS, EVERYONE
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.thresholds import MAIN_POINT, STRICT_POINT, on_common_scale, operating_points
from lazaretto.keys import generator
from lazaretto.privacy.counts import GRAINS, CountNoise

_SITES, _ROWS, _STEPS = 6, 600, 16
PROTOCOL = Protocol(classes=("normal", "flood"), step_seconds=60.0)


def _noise(multiplier: float, seed: int = 0, clip: float = 1.0) -> CountNoise:
    return CountNoise(
        unit="record",
        noise_multiplier=multiplier,
        clip=clip,
        normals=lambda what, site: generator(seed, what, site).standard_normal,
    )


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Windows at six sites: log-odds that are right, an eighth of the windows attacked."""
    rng = generator(0, "scores")
    y = np.zeros((_ROWS, _STEPS), np.int64)
    y[: _ROWS // 8] = 1
    score = np.where(y > 0, 2.0, -4.0) + rng.logistic(size=y.shape)
    valid = np.ones(y.shape, bool)
    valid[::5, -3:] = False
    return Scored(score=score, y=y, valid=valid, site=np.arange(_ROWS) % _SITES)


def _share(scored: Scored, threshold: float) -> float:
    return float((scored.score[scored.valid & (scored.y == 0)] > threshold).mean())


def test_without_noise_it_is_the_exact_one_to_a_cell(scored: Scored) -> None:
    exact, found = operating_points(scored, PROTOCOL), noisy_operating(scored, PROTOCOL, _noise(0))
    assert found.thresholds.keys() == exact.thresholds.keys()
    for point in (MAIN_POINT, STRICT_POINT):
        a, b = exact.thresholds[point][EVERYONE], found.thresholds[point][EVERYONE]
        assert abs(np.arcsinh(a) - np.arcsinh(b)) < 0.4
    assert found.platt[EVERYONE].slope == pytest.approx(exact.platt[EVERYONE].slope, rel=0.15)
    assert _share(scored, found.thresholds[MAIN_POINT][EVERYONE]) == pytest.approx(0.01, abs=0.004)


def test_a_site_without_validation_units_sends_noise_like_any_other(scored: Scored) -> None:
    empty = Scored(score=scored.score[:0], y=scored.y[:0], valid=scored.valid[:0], site=scored.site[:0])
    found = noisy_score_counts(empty, PROTOCOL, _noise(2.0), 3)
    assert found.shape == (3, SCORE_CELLS)
    assert (found != 0).mean() > 0.9


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
def test_noise_leaves_thresholds_where_they_serve(scored: Scored, multiplier: float) -> None:
    """Over five seeds: at most 5 % of normal steps above the threshold that asks for 1 %, and some recall."""
    for seed in range(5):
        found = noisy_operating(scored, PROTOCOL, _noise(multiplier, seed, 0.5))
        threshold = found.thresholds[MAIN_POINT][EVERYONE]
        assert _share(scored, threshold) < 0.05
        assert (scored.score[(scored.y > 0) & scored.valid] > threshold).mean() > 0.2
        assert found.thresholds[STRICT_POINT][EVERYONE] >= threshold
        assert 0.3 < found.platt[EVERYONE].slope < 3


def test_noise_that_hides_everything_still_gives_a_threshold(scored: Scored) -> None:
    found = noisy_operating(scored, PROTOCOL, _noise(1000))
    assert found.platt[EVERYONE] == AS_IT_IS
    assert np.isfinite(found.thresholds[MAIN_POINT][EVERYONE])


@settings(max_examples=25)
@given(out=st.integers(0, 99), clip=st.floats(0.1, 1))
def test_one_example_moves_a_sites_counts_by_the_clip_at_most(out: int, clip: float) -> None:
    rng = generator(out, "rows")
    score, y = rng.normal(0, 5, (100, 40)), rng.integers(0, 2, (100, 40))
    whole = Scored(score=score, y=y, valid=rng.random((100, 40)) < 0.9, site=np.zeros(100, int))
    rest = np.arange(100) != out
    without = Scored(score=score[rest], y=y[rest], valid=whole.valid[rest], site=whole.site[rest])
    noise = _noise(0, clip=clip)
    a, b = (noisy_score_counts(one, PROTOCOL, noise, 0) for one in (whole, without))
    assert a.shape == (3, SCORE_CELLS)
    assert 0 < np.linalg.norm(a - b) <= GRAINS * clip * np.sqrt(2) + np.sqrt(3 * SCORE_CELLS)


def test_smoothing_begins_anew_with_each_row(scored: Scored) -> None:
    """Else one record would move the alarms of the next, and the law above would not be one."""
    counts = noisy_score_counts(scored, PROTOCOL, _noise(0), 0)
    order = generator(1, "order").permutation(_ROWS)
    mixed = Scored(
        score=scored.score[order], y=scored.y[order], valid=scored.valid[order], site=scored.site[order]
    )
    assert np.abs(counts - noisy_score_counts(mixed, PROTOCOL, _noise(0), 0)).max() <= 1


def test_each_group_has_its_own_points_on_one_scale(scored: Scored) -> None:
    """A model for each site, whose scores are stretched differently: on the common scale they agree."""
    stretch = 1.0 + scored.site[:, None] / 3
    grouped = replace(scored, score=scored.score * stretch, threshold_group=scored.site)
    found = noisy_operating(grouped, PROTOCOL, _noise(0))
    assert set(found.platt) == {EVERYONE, *range(_SITES)}
    common = on_common_scale(grouped, found)
    for site in range(_SITES):
        own = replace(common, valid=common.valid & (common.site == site)[:, None])
        assert _share(own, found.thresholds[MAIN_POINT][site]) < 0.04
    assert _share(common, found.thresholds[MAIN_POINT][EVERYONE]) == pytest.approx(0.01, abs=0.01)


def test_a_group_without_normal_steps_goes_by_everyone(scored: Scored) -> None:
    grouped = replace(scored, threshold_group=np.where(scored.y[:, 0] > 0, 7, 8))
    found = noisy_operating(grouped, PROTOCOL, _noise(0.5))
    assert set(found.platt) == {8, EVERYONE}


def test_nothing_counted_is_refused() -> None:
    none = Counted(np.zeros((3, SCORE_CELLS), np.int64), 1)
    with pytest.raises(DataError, match="no normal validation step"):
        operating_from_noisy({EVERYONE: none}, PROTOCOL, _noise(0))

"""What settings are chosen by, against scikit-learn and by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lazaretto.errors import DataError
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.selection import validation_auroc

PROTOCOL = Protocol(classes=("normal", "attack"), step_seconds=1.0, replicates=200)


def scored(seed: int, units: int = 12, steps: int = 20) -> Scored:
    rng = np.random.default_rng(seed)
    y = (rng.random((units, steps)) < 0.3).astype(np.int64)
    valid = rng.random(y.shape) < 0.9
    return Scored(score=rng.normal(size=y.shape) + y, y=y, valid=valid, site=np.arange(units) % 2)


def test_it_is_the_mean_over_seeds_of_the_exact_auroc() -> None:
    seeds = [scored(0), scored(1)]
    values, triple = validation_auroc(seeds, PROTOCOL)
    expected = [roc_auc_score(one.y[one.valid], one.score[one.valid]) for one in seeds]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert triple["value"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert triple["low"] is not None
    assert triple["high"] is not None
    assert 0 < triple["low"] < np.mean(expected) < triple["high"] <= 1


def test_models_of_single_sites_are_brought_to_one_scale() -> None:
    """A site whose model scores ten times as high is no better for it."""
    one = scored(3, units=40)
    factor = np.where(one.site == 0, 1.0, 10.0)[:, None]
    moved = dataclasses.replace(one, score=one.score * factor + 5 * factor, threshold_group=one.site)
    raw = dataclasses.replace(moved, threshold_group=None)
    (grouped,), _ = validation_auroc([moved], PROTOCOL)
    (mixed,), _ = validation_auroc([raw], PROTOCOL)
    (honest,), _ = validation_auroc([one], PROTOCOL)
    assert mixed < honest - 0.05
    assert grouped == pytest.approx(honest, abs=0.02)


def test_one_class_only_is_left_out_and_bad_scores_are_refused() -> None:
    quiet = dataclasses.replace(scored(1), y=np.zeros((12, 20), np.int64))
    values, triple = validation_auroc([scored(0), quiet], PROTOCOL)
    assert np.isnan(values[1])
    assert triple["value"] == values[0]
    assert validation_auroc([quiet], PROTOCOL)[1] == {"value": None, "low": None, "high": None}
    with pytest.raises(DataError, match="not finite"):
        validation_auroc([dataclasses.replace(quiet, score=quiet.score * np.inf)], PROTOCOL)

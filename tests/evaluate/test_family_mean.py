"""The mean over families that were left out: value and interval, for every system."""

from __future__ import annotations

import numpy as np

from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.scored import OURS, Protocol, Scored, SeedScores


def _seed(rng: np.random.Generator, strength: float) -> SeedScores:
    parts = []
    for _ in range(2):
        y = np.zeros((60, 20), np.int64)
        y[:20, 8:] = 1
        y[20:40, 8:] = 2
        score = rng.standard_normal(y.shape) + strength * (y > 0)
        parts.append(Scored(score=score, y=y, valid=np.ones(y.shape, bool), site=np.zeros(60, np.int64)))
    return SeedScores(validation=parts[0], test=parts[1])


def test_the_mean_is_that_of_the_families_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    protocol = Protocol(classes=("normal", "a", "b"), step_seconds=60.0, replicates=200)
    ours = [_seed(rng, 2.0)]
    left = {OURS: {1: [_seed(rng, 1.0)], 2: [_seed(rng, 0.3)]}}
    found = judge({OURS: ours}, protocol, leave_out=left)["test"]["traffic"]
    each = [found["leave_one_family_out"][name]["auroc"]["value"] for name in ("a", "b")]
    mean = found["leave_one_family_out_mean"]["auroc"]
    np.testing.assert_allclose(mean["value"], np.mean(each), atol=1e-12)
    assert each[0] > each[1]
    assert mean["low"] < mean["value"] < mean["high"]
    assert mean["high"] - mean["low"] < 0.1

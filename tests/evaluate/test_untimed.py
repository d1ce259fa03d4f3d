"""Data without a clock: latency and alarms per day are undefined, everything else is as with one."""

from __future__ import annotations

import json

import numpy as np

from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.scored import OURS, Protocol, Scored, SeedScores

TIMED = ("latency_steps", "missed", "false_alarms_per_device_day")


def _seed(rng: np.random.Generator) -> Scored:
    y = (rng.random((80, 1)) < 0.5).astype(np.int64)
    return Scored(
        score=(y + rng.normal(0, 0.7, y.shape)).astype(np.float32),
        y=y,
        valid=np.ones(y.shape, bool),
        site=np.arange(80) % 4,
    )


def test_steps_without_a_clock() -> None:
    rng = np.random.default_rng(0)
    seeds = [SeedScores(test=_seed(rng), validation=_seed(rng))]
    verdicts = [
        judge({OURS: seeds, "gru": seeds}, Protocol(classes=("normal", "ill"), step_seconds=1.0, timed=timed))
        for timed in (True, False)
    ]
    with_clock, without = (verdict["test"]["traffic"] for verdict in verdicts)
    assert all(without[name] == {"value": None, "low": None, "high": None} for name in TIMED)
    assert with_clock["latency_steps"]["value"] is not None
    for name in ("auroc", "auprc", "f1", "recall", "calibration_error"):
        assert without[name] == with_clock[name]
    assert "one_alarm_per_device_day" in with_clock["operating_points"]
    assert set(without["operating_points"]) == set(with_clock["operating_points"]) - {
        "one_alarm_per_device_day"
    }
    assert not any("latency" in row["metric"] for row in verdicts[1]["comparison"])
    assert all(body["campaigns"] == 0 for body in verdicts[1]["latency"])
    assert "NaN" not in json.dumps(verdicts[1])

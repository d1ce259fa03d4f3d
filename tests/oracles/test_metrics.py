"""Metrics from sums over units against scikit-learn and against loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from lazaretto.evaluate.bootstrap import (
    UnitStats,
    rank_counts,
    rank_metrics,
    replicates,
    resamples,
    unit_metrics,
)
from lazaretto.evaluate.metrics import (
    alarm_columns,
    auprc,
    auroc,
    calibration_columns,
    campaigns,
    curves,
    latencies,
    ratios,
    recall_columns,
    smooth,
)
from lazaretto.keys import generator


def streams(seed: int, units: int, steps: int, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """score, y, valid [u, L]: runs of attack that come and go, an offset of each unit, some padding."""
    rng = generator(seed, "oracle")
    y = np.zeros((units, steps), dtype=np.int64)
    for unit in range(units):
        for _ in range(rng.integers(0, 3)):
            onset = rng.integers(0, steps)
            y[unit, onset : onset + rng.integers(1, max(2, steps // 6))] = rng.integers(1, 4)
    valid = np.ones((units, steps), dtype=bool)
    valid[units // 2 :, steps - steps // 10 :] = False
    score = rng.normal(size=y.shape) + strength * (y > 0) + 0.5 * rng.normal(size=(units, 1))
    return score, y, valid


def ones(units: int) -> np.ndarray:
    return np.ones((1, units), dtype=np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_threshold_metrics_equal_those_of_scikit_learn(seed: int) -> None:
    score, y, valid = streams(seed, 12, 90, 2.0)
    alarm = valid & (score > 1.0)
    columns = alarm_columns(y, valid, alarm, alarm) | recall_columns("two", valid & (y == 2), alarm)
    found = ratios({name: values.sum() for name, values in columns.items()}, 60.0)
    truth, said = y[valid] > 0, alarm[valid]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said), abs=1e-12)
    assert found["f1"] == pytest.approx(f1_score(truth, said), abs=1e-12)
    assert found["recall"] == pytest.approx(recall_score(truth, said), abs=1e-12)
    assert found["false_positive_rate"] == pytest.approx(said[~truth].mean(), abs=1e-12)
    assert found["two|recall"] == pytest.approx(said[y[valid] == 2].mean(), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_campaigns_latency_and_false_alarms_equal_those_of_a_loop(seed: int) -> None:
    score, y, valid = streams(seed, 12, 90, 1.5)
    threshold, k, m = 2.7, 2, 8
    alarm = valid & (score > threshold)
    loud = valid & (smooth(score, valid, k, m) > threshold)
    taken, missed, false_alarms, normal = [], 0, 0, 0
    for unit in range(len(y)):
        step, on = 0, False
        while step < y.shape[1]:
            if valid[unit, step] and y[unit, step] > 0:
                onset = step
                while step < y.shape[1] and valid[unit, step] and y[unit, step] > 0:
                    step += 1
                hits = [s for s in range(onset, step) if alarm[unit, s]]
                missed += not hits
                taken.append((hits[0] if hits else step) - onset)
            else:
                step += 1
        for step in range(y.shape[1]):
            recent = [s for s in range(max(0, step - m + 1), step + 1) if alarm[unit, s]]
            now = bool(valid[unit, step] and len(recent) >= k)
            assert now == loud[unit, step]
            false_alarms += now and not on and y[unit, step] == 0
            normal += valid[unit, step] and y[unit, step] == 0
            on = now
    steps, detected = latencies(campaigns(y, valid), alarm)
    assert list(steps) == taken
    assert int((~detected).sum()) == missed > 0
    found = ratios({n: v.sum() for n, v in alarm_columns(y, valid, alarm, loud).items()}, 60.0)
    assert found["latency_steps"] == pytest.approx(np.mean(taken))
    assert found["missed"] == pytest.approx(missed / len(taken))
    assert false_alarms > 0
    assert found["false_alarms_per_device_day"] == pytest.approx(false_alarms / (normal * 60 / 86400))


def test_calibration_error_equals_that_of_a_loop() -> None:
    rng = generator(0, "calibration")
    probability = rng.random((10, 80))
    y = (rng.random((10, 80)) < probability**2).astype(np.int64)
    valid = rng.random((10, 80)) < 0.9
    columns = calibration_columns(probability, y, valid) | {"steps": valid.sum(axis=1).astype(float)}
    found = ratios({name: values.sum() for name, values in columns.items()}, 60.0)["calibration_error"]
    order = np.argsort(probability[valid])
    said, true = probability[valid][order], y[valid][order]
    cuts = np.searchsorted(said, np.quantile(said, np.arange(1, 15) / 15), side="right")
    parts = zip(np.split(said, cuts), np.split(true, cuts), strict=True)
    expected = sum(abs(p.mean() - t.mean()) * len(p) for p, t in parts) / len(said)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found > 0.1  # E|p - p^2| = 1/6


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_binned_ranking_is_within_2e_4_of_the_exact(seed: int, strength: float) -> None:
    score, y, valid = streams(seed, 60, 300, strength)
    found = rank_metrics(rank_counts(score, y > 0, valid), ones(60))
    assert found["auroc"][0] == pytest.approx(auroc(score[valid], y[valid] > 0), abs=2e-4)
    assert found["auprc"][0] == pytest.approx(auprc(score[valid], y[valid] > 0), abs=2e-4)


def test_ties_are_counted_as_scikit_learn_counts_them() -> None:
    score, y, valid = streams(1, 20, 100, 2.0)
    coarse = np.round(score * 2)
    found = rank_metrics(rank_counts(coarse, y > 0, valid), ones(20))
    assert found["auroc"][0] == pytest.approx(roc_auc_score(y[valid] > 0, coarse[valid]), abs=1e-6)
    assert found["auprc"][0] == pytest.approx(average_precision_score(y[valid] > 0, coarse[valid]), abs=1e-6)


def test_replicates_equal_scikit_learn_on_the_drawn_units() -> None:
    data = [streams(seed, 9 + seed, 80, 1.5) for seed in range(3)]
    draws = resamples([9, 10, 11], 40, generator(0, "draws"))
    stats = []
    for score, y, valid in data:
        alarm = valid & (score > 1.0)
        columns = alarm_columns(y, valid, alarm, alarm)
        stats.append(UnitStats(columns, ranks=rank_counts(score, y > 0, valid, bins=8192)))
    fast = replicates(stats, draws, 60.0)
    slow = np.full((40 * 3, 3), np.nan)
    for (score, y, valid), place, counts in zip(data, draws.slots, draws.counts, strict=True):
        for slot, count in zip(place, counts, strict=True):
            units = np.repeat(np.arange(len(y)), count.astype(int))
            use = valid[units]
            truth, flat = y[units][use] > 0, score[units][use]
            if truth.any():
                slow[slot] = (
                    roc_auc_score(truth, flat),
                    average_precision_score(truth, flat),
                    f1_score(truth, flat > 1.0),
                )
    for column, metric in enumerate(("auroc", "auprc", "f1")):
        expected = np.nanmean(slow[:, column].reshape(40, 3), axis=1)
        np.testing.assert_allclose(fast[metric], expected, atol=3e-4)


def test_interval_of_an_auroc_agrees_with_the_slow_bootstrap() -> None:
    score, y, valid = streams(5, 40, 100, 1.0)
    draws = resamples([40], 400, generator(1, "draws"))
    fast = replicates([UnitStats({}, ranks=rank_counts(score, y > 0, valid))], draws, 60.0)["auroc"]
    slow = []
    for count in draws.counts[0]:
        units = np.repeat(np.arange(40), count.astype(int))
        slow.append(roc_auc_score(y[units][valid[units]] > 0, score[units][valid[units]]))
    np.testing.assert_allclose(
        np.quantile(fast, [0.025, 0.975]), np.quantile(slow, [0.025, 0.975]), atol=5e-4
    )


def test_a_unit_that_is_drawn_twice_counts_twice() -> None:
    score, y, valid = streams(2, 6, 50, 2.0)
    counts = np.asarray([[2, 0, 1, 0, 3, 0]], dtype=np.float32)
    alarm = valid & (score > 1.0)
    stat = UnitStats(alarm_columns(y, valid, alarm, alarm), ranks=rank_counts(score, y > 0, valid))
    units = np.asarray([0, 0, 2, 4, 4, 4])
    use = valid[units]
    found = unit_metrics(stat, counts, 60.0)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(y[units][use] > 0, score[units][use]), abs=1e-3)
    assert found["accuracy"][0] == pytest.approx(accuracy_score(y[units][use] > 0, alarm[units][use]))


def test_curves_pass_through_the_exact_points() -> None:
    score, y, valid = streams(3, 30, 200, 1.5)
    flat, truth = score[valid], y[valid] > 0
    found = curves([flat], [truth])
    roc, pr = found["roc"], found["pr"]
    assert len(roc["fpr"]) == len(roc["tpr"]) == len(pr["recall"]) == len(pr["precision"]) == 200
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(auroc(flat, truth), abs=2e-3)
    fpr, tpr, _ = roc_curve(truth, flat, drop_intermediate=False)
    for at, height in zip(roc["fpr"], roc["tpr"], strict=True):
        assert tpr[fpr <= at].max() - 1e-4 <= height <= tpr[fpr > at + 1e-5].min(initial=1.0) + 1e-4
    assert np.trapezoid(pr["precision"], pr["recall"]) == pytest.approx(auprc(flat, truth), abs=5e-3)
    assert curves([flat], [np.zeros_like(truth)])["roc"] == {"fpr": [], "tpr": []}

"""The judge: scores of one system in, its metrics with intervals out.

Thresholds and calibration come from validation. A point value is the mean over seeds of the exact value of
each seed; its interval is the two-level bootstrap of `bootstrap`, with the same draws for every system.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.bootstrap import (
    Draws,
    UnitStats,
    interval,
    rank_counts,
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
    decision_curve,
    intensity_columns,
    latencies,
    recall_columns,
    reliability,
    smooth,
)
from lazaretto.evaluate.operating import AS_IT_IS, Operating, probability
from lazaretto.evaluate.scored import Protocol, Scored, SeedScores
from lazaretto.evaluate.thresholds import (
    ALARM_POINT,
    MAIN_POINT,
    on_common_scale,
    operating_of,
    probabilities_of,
    thresholds_of,
)
from lazaretto.keys import generator

__all__ = [
    "OVER_INTENSITIES",
    "Judged",
    "Withheld",
    "draws_for",
    "judge_system",
    "known_mean",
    "recall_by_intensity",
    "same_truth",
    "table_of",
    "validation_values",
]

Withheld = Mapping[int, Collection[int]]  # site -> classes that it never had in training

_POINT_METRICS = (
    "accuracy",
    "f1",
    "recall",
    "false_positive_rate",
    "latency_steps",
    "missed",
    "false_alarms_per_device_day",
)
_CALIBRATION = ("calibration_error", "calibration_error_before")
_TIMED_METRICS = ("latency_steps", "missed", "false_alarms_per_device_day")
_PLAIN_METRICS = (*_POINT_METRICS, "auroc", "auprc", *_CALIBRATION)
# mean of recall over the bins of intensity; plain recall where no intensity is known
OVER_INTENSITIES = "recall_over_intensities"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One system: exact values (means over seeds), and [R] replicates moved onto them, by metric.

    Metrics at a further operating point are named "<point>/<metric>"; recall of a class
    "class:<name>|recall", of a bin of intensity "intensity:<bin>|recall"; "unseen|recall" where sites
    lacked families; `OVER_INTENSITIES`.
    curves: as `metrics.curves`, {} where not asked for.
    latency: steps of the detected campaigns, missed, campaigns, censored_mean.
    reliability: "method", `metrics.reliability` "before" and "after" calibration, and
        `metrics.decision_curve` ("decision") of the calibrated probabilities.
    """

    values: Mapping[str, float]
    samples: Mapping[str, NDArray[np.float64]]
    points: tuple[str, ...]
    curves: Mapping[str, Any]
    latency: Mapping[str, Any]
    reliability: Mapping[str, Any]


def draws_for(seeds: Sequence[SeedScores], protocol: Protocol, group: int | None = None) -> Draws:
    """The draws for these test units. Equal numbers of units, equal draws: that is what pairs two systems.

    group: number of the group of units (a site), where several such groups are averaged: all groups draw the
    same seeds, and each draws its own units.
    """
    units = [len(seed.test.site) for seed in seeds]
    if group is None:
        rng = generator(protocol.seed, "bootstrap", *units)
        return resamples(units, protocol.replicates, rng, same_units=protocol.same_units)
    rng = generator(protocol.seed, "bootstrap", "seeds", len(units))
    own = generator(protocol.seed, "bootstrap", "group", group)
    return resamples(units, protocol.replicates, rng, same_units=protocol.same_units, unit_rng=own)


def same_truth(first: Sequence[SeedScores], second: Sequence[SeedScores], names: tuple[str, str]) -> None:
    """Raises DataError unless both systems were tested on the same steps in the same order."""
    fine = len(first) == len(second) and all(
        np.array_equal(a.test.valid, b.test.valid)
        and np.array_equal(a.test.site, b.test.site)
        and np.array_equal(a.test.y[a.test.valid], b.test.y[b.test.valid])
        for a, b in zip(first, second, strict=True)
    )
    if not fine:
        raise DataError(
            "systems can be compared only on the same test steps, in the same order",
            found=f"'{names[0]}' and '{names[1]}' differ",
        )


def judge_system(
    seeds: Sequence[SeedScores],
    protocol: Protocol,
    name: str,
    draws: Draws,
    *,
    withheld: Sequence[Withheld] = (),
    family: int | None = None,
) -> Judged:
    """Judge one system on all its seeds.

    seeds: one entry per seed.   draws: of `draws_for`, shared by all systems on these units.
    withheld: per seed, site -> classes it lacked in training; empty leaves "unseen|recall" out.
    family: only this class is positive, all normal steps are negative, other attacks are left out
        (leave one family out); curves are then not made.
    Raises DataError on scores that cannot be judged.
    """
    if withheld and len(withheld) != len(seeds):
        raise DataError(f"{name}: withheld families must be given for every seed", found=len(withheld))
    ones = [np.ones((1, len(seed.test.site)), dtype=np.float32) for seed in seeds]
    stats, exact, scores, truths, before, after = [], [], [], [], [], []
    method = ""
    points: tuple[str, ...] = ()
    steps: list[int] = []
    missed = 0
    for number, (seed, one) in enumerate(zip(seeds, ones, strict=True)):
        operating = operating_of(seed, protocol, f"{name}, seed {number}")
        test = seed.test if family is None else _only(seed.test, family)
        common = on_common_scale(test, operating)
        attacked = common.y > 0
        stat = _stats(test, common, operating, protocol, withheld[number] if withheld else {})
        values = {
            metric: float(found[0])
            for metric, found in unit_metrics(stat, one, protocol.step_seconds).items()
        }
        flat, truth = common.score[common.valid], attacked[common.valid]
        exact.append(values | {"auroc": auroc(flat, truth), "auprc": auprc(flat, truth)})
        stats.append(stat)
        scores.append(flat)
        truths.append(truth)
        before.append(probability(AS_IT_IS, test.score[test.valid]))
        after.append(probabilities_of(test, operating)[test.valid])
        method = operating.calibration
        points = tuple(stat.points)
        found = campaigns(common.y, common.valid)
        alarm = common.valid & (common.score > thresholds_of(test, operating)[:, None])
        taken, detected = latencies(found, alarm)
        steps += [int(t) for t in taken[detected]]
        missed += int(np.count_nonzero(~detected))
    means = {metric: _mean([values[metric] for values in exact]) for metric in exact[0]}
    samples = replicates(stats, draws, protocol.step_seconds)
    binned = [unit_metrics(UnitStats({}, {}, s.ranks), one, 1.0) for s, one in zip(stats, ones, strict=True)]
    for metric in ("auroc", "auprc"):
        # histograms give the spread; the exact value gives the place
        samples[metric] = samples[metric] + (means[metric] - _mean([float(b[metric][0]) for b in binned]))
    for metric in _CALIBRATION:
        samples[metric] = _recentred(samples[metric], means[metric])
    means[OVER_INTENSITIES], samples[OVER_INTENSITIES] = _over_intensities(means, samples)
    if not protocol.timed:
        untimed = [metric for metric in means if metric.rpartition("/")[2] in _TIMED_METRICS]
        means |= dict.fromkeys(untimed, float("nan"))
        samples |= {metric: np.full_like(samples[metric], np.nan) for metric in untimed}
        points, steps, missed = tuple(point for point in points if point != ALARM_POINT), [], 0
    latency = {
        "steps": sorted(steps),
        "missed": missed,
        "campaigns": len(steps) + missed,
        "censored_mean": interval(means["latency_steps"], None)["value"],
    }
    drawn = curves(scores, truths) if family is None else {}
    trusted = {
        "method": method,
        "before": reliability(before, truths),
        "after": reliability(after, truths),
        "decision": decision_curve(after, truths),
    }
    return Judged(means, samples, points, drawn, latency, trusted if family is None else {})


def _only(test: Scored, family: int) -> Scored:
    return replace(test, valid=test.valid & ((test.y == 0) | (test.y == family)))


def _over_intensities(
    means: Mapping[str, float], samples: Mapping[str, NDArray[np.float64]]
) -> tuple[float, NDArray[np.float64]]:
    """Mean of recall over the bins of intensity that hold a step, with its replicates."""
    bins = [m for m in means if m.startswith("intensity:") and np.isfinite(means[m])]
    if not bins:
        return means["recall"], samples["recall"]
    return float(np.mean([means[m] for m in bins])), known_mean(np.stack([samples[m] for m in bins]))


def known_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is finite: [m, R] -> [R]; NaN where nothing is."""
    known = np.isfinite(values)
    number = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, number, out=np.full(values.shape[1], np.nan), where=number > 0))


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _recentred(samples: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    # a sum of absolute gaps grows when units are drawn again; the bias is taken out, the spread kept
    known = samples[np.isfinite(samples)]
    return np.maximum(samples - np.median(known) + value, 0.0) if len(known) else samples


def _stats(
    test: Scored, common: Scored, operating: Operating, protocol: Protocol, withheld: Withheld
) -> UnitStats:
    smoothed = smooth(common.score, common.valid, protocol.alarm_k, protocol.alarm_m)
    by_point: dict[str, dict[str, NDArray[np.float64]]] = {}
    for point in operating.thresholds:
        threshold = thresholds_of(test, operating, point)[:, None]
        alarm = common.valid & (common.score > threshold)
        by_point[point] = alarm_columns(common.y, common.valid, alarm, common.valid & (smoothed > threshold))
    columns = by_point.pop(MAIN_POINT)
    alarm = common.valid & (common.score > thresholds_of(test, operating)[:, None])
    for number, name in enumerate(protocol.classes[1:], start=1):
        columns |= recall_columns(f"class:{name}", common.valid & (common.y == number), alarm)
    if withheld:
        columns |= recall_columns("unseen", common.valid & _unseen(common, withheld), alarm)
    if test.intensity is not None:
        columns |= intensity_columns(common.y, common.valid, alarm, test.intensity, protocol.intensity_edges)
    columns |= calibration_columns(probabilities_of(test, operating), test.y, test.valid)
    before = np.where(test.valid, probability(AS_IT_IS, test.score), 0.0)
    columns |= calibration_columns(before, test.y, test.valid, name="calibration_error_before")
    return UnitStats(columns, by_point, rank_counts(common.score, common.y > 0, common.valid))


def _unseen(scored: Scored, withheld: Withheld) -> NDArray[np.bool_]:
    unseen = np.zeros(scored.y.shape, dtype=bool)
    for site, families in withheld.items():
        at = np.asarray(scored.site) == site
        unseen[at] = np.isin(scored.y[at], [family for family in families if family != 0])
    return unseen


def recall_by_intensity(judged: Judged) -> dict[str, Any]:
    """bin -> triple, in ascending order; {} where intensity is not known."""
    return {
        metric.removeprefix("intensity:").removesuffix("|recall"): interval(value, judged.samples[metric])
        for metric, value in judged.values.items()
        if metric.startswith("intensity:")
    }


def table_of(judged: Judged, classes: Sequence[str]) -> dict[str, Any]:
    """The `<setting>` part of metrics.json for one system: metric -> triple, JSON-clean."""

    def triple(metric: str) -> dict[str, float | None]:
        return interval(judged.values.get(metric, float("nan")), judged.samples.get(metric))

    table: dict[str, Any] = {metric: triple(metric) for metric in _PLAIN_METRICS}
    table["recall_by_class"] = {name: triple(f"class:{name}|recall") for name in classes[1:]}
    table["operating_points"] = {
        point: {metric: triple(f"{point}/{metric}") for metric in _POINT_METRICS} for point in judged.points
    }
    if bins := recall_by_intensity(judged):
        table["recall_by_intensity"] = bins
    if "unseen|recall" in judged.values:
        table["unseen_at_site"] = {"recall": triple("unseen|recall")}
    return table


def validation_values(seeds: Sequence[SeedScores], protocol: Protocol, name: str) -> dict[str, float]:
    """accuracy, f1, auroc, auprc on validation, means over seeds, to choose a baseline by; {} without it."""
    found = []
    for number, seed in enumerate(seeds):
        if seed.validation is None:
            return {}
        operating = operating_of(seed, protocol, f"{name}, seed {number}")
        common = on_common_scale(seed.validation, operating)
        alarm = common.valid & (common.score > thresholds_of(common, operating)[:, None])
        columns = alarm_columns(common.y, common.valid, alarm, alarm)
        one = np.ones((1, len(common.site)), dtype=np.float32)
        values = unit_metrics(UnitStats(columns), one, protocol.step_seconds)
        flat, truth = common.score[common.valid], common.y[common.valid] > 0
        found.append(
            {
                "accuracy": float(values["accuracy"][0]),
                "f1": float(values["f1"][0]),
                "auroc": auroc(flat, truth),
                "auprc": auprc(flat, truth),
            }
        )
    return {metric: _mean([values[metric] for values in found]) for metric in found[0]}

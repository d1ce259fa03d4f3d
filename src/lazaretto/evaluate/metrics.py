"""Metrics of one system on one seed, as sums over units.

Every threshold metric is a ratio of sums over units, so one table of per-unit sums [u] gives the
point value (add all units) and every bootstrap replicate (add the units drawn) by the same formula.
Ranking metrics are scikit-learn's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from lazaretto.evaluate.operating import SECONDS_PER_DAY

__all__ = [
    "CALIBRATION_BINS",
    "Campaigns",
    "alarm_columns",
    "auprc",
    "auroc",
    "calibration_columns",
    "campaigns",
    "curves",
    "decision_curve",
    "intensity_bins",
    "intensity_columns",
    "latencies",
    "ratios",
    "recall_columns",
    "reliability",
    "smooth",
]

CALIBRATION_BINS = 15
_CURVE_POINTS = 200

Columns = dict[str, NDArray[np.float64]]


def auroc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of scores [n] against truth [n]; NaN where one class is missing."""
    return float(roc_auc_score(positive, score)) if _both(positive) else float("nan")


def auprc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Average precision of scores [n] against truth [n]; NaN where one class is missing."""
    return float(average_precision_score(positive, score)) if _both(positive) else float("nan")


def _both(positive: NDArray[np.bool_]) -> bool:
    return bool(positive.any() and not positive.all())


@dataclass(frozen=True, slots=True, eq=False)
class Campaigns:
    """Maximal runs of attacked valid steps, c of them: unit, onset, end (exclusive), family; each [c]."""

    unit: NDArray[np.int64]
    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    family: NDArray[np.int64]


def campaigns(y: NDArray[Any], valid: NDArray[np.bool_]) -> Campaigns:
    """Find the campaigns of streams y [u, L]; the family is the class at onset."""
    attacked = (np.asarray(y) > 0) & valid
    border = np.zeros((len(attacked), 1), dtype=np.int8)
    change = np.diff(np.concatenate([border, attacked.astype(np.int8), border], axis=1), axis=1)
    unit, onset = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]  # row by row, so the k-th start and the k-th end belong together
    return Campaigns(unit, onset, end, np.asarray(y)[unit, onset].astype(np.int64))


def latencies(found: Campaigns, above: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Steps from onset to the first above the threshold within the campaign, [c], and whether one was, [c].

    above: [u, L], whether a step is above it. 0 means the onset step itself. A missed campaign is censored at
    its end: it counts with its whole length. Steps before onset do not help.
    """
    length = above.shape[1]
    where = np.where(above, np.arange(length), length)
    following = np.minimum.accumulate(where[:, ::-1], axis=1)[:, ::-1]
    first = following[found.unit, found.onset]
    return np.minimum(first, found.end) - found.onset, first < found.end


def smooth(score: NDArray[Any], valid: NDArray[np.bool_], k: int, m: int) -> NDArray[np.float64]:
    """k-of-m smoothing as a score: the k-th largest of the last m scores, [u, L].

    -inf where there are fewer than k scores, and on steps that are not valid.
    `smooth(...) > threshold` holds exactly where at least k of the last m steps are above the threshold.
    """
    known = np.where(valid, np.asarray(score, dtype=np.float64), -np.inf)
    before = np.full((len(known), m - 1), -np.inf)
    windows = sliding_window_view(np.concatenate([before, known], axis=1), m, axis=1)
    return np.where(valid, np.partition(windows, m - k, axis=2)[:, :, m - k], -np.inf)


def alarm_columns(
    y: NDArray[Any], valid: NDArray[np.bool_], alarm: NDArray[np.bool_], smoothed_alarm: NDArray[np.bool_]
) -> Columns:
    """Per-unit sums [u] that the threshold metrics need.

    alarm: [u, L] score above threshold; smoothed_alarm: the same after k-of-m smoothing. An alarm is
    raised where `smoothed_alarm` begins; on a normal step it is a false one.
    """
    attacked, normal = (y > 0) & valid, (y == 0) & valid
    found = campaigns(y, valid)
    steps, detected = latencies(found, alarm & valid)
    begins = smoothed_alarm.copy()
    begins[:, 1:] &= ~smoothed_alarm[:, :-1]

    def by_campaign(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(found.unit, weights=values, minlength=len(y)).astype(np.float64)

    return {
        "steps": _by_unit(valid),
        "normal": _by_unit(normal),
        "attacked": _by_unit(attacked),
        "hits": _by_unit(attacked & alarm),
        "false": _by_unit(normal & alarm),
        "latency": by_campaign(steps),
        "campaigns": by_campaign(np.ones(len(steps))),
        "missed": by_campaign(~detected),
        "false_alarms": _by_unit(begins & normal),
    }


def _by_unit(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.count_nonzero(mask, axis=1), dtype=np.float64)


def recall_columns(name: str, of: NDArray[np.bool_], alarm: NDArray[np.bool_]) -> Columns:
    """Per-unit sums [u] for the recall of the steps `of` [u, L], named `name`."""
    return {
        f"{name}|hits": _by_unit(of & alarm),
        f"{name}|steps": _by_unit(of),
    }


def intensity_bins(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the bins between ascending `edges`: "<0.02", "0.02-0.05", ..., ">=0.25"; () without edges."""
    if not edges:
        return ()
    between = (f"{low:g}-{high:g}" for low, high in itertools.pairwise(edges))
    return (f"<{edges[0]:g}", *between, f">={edges[-1]:g}")


def intensity_columns(
    y: NDArray[Any],
    valid: NDArray[np.bool_],
    alarm: NDArray[np.bool_],
    intensity: NDArray[Any],
    edges: Sequence[float],
) -> Columns:
    """Per-unit sums [u] for the recall of attacked steps by intensity, a `recall_columns` for each bin.

    y, valid, alarm, intensity: [u, L]. A bin holds its lower edge. Attacked steps whose intensity is not
    above 0 or not finite are in no bin; where there are none, the bins add up to the columns of total recall.
    """
    known = valid & (y > 0) & (intensity > 0) & np.isfinite(intensity)
    place = np.searchsorted(edges, np.where(known, intensity, 0.0), side="right")
    columns: Columns = {}
    for number, name in enumerate(intensity_bins(edges)):
        columns |= recall_columns(f"intensity:{name}", known & (place == number), alarm)
    return columns


def calibration_columns(
    probability: NDArray[np.float64],
    y: NDArray[Any],
    valid: NDArray[np.bool_],
    bins: int = CALIBRATION_BINS,
    name: str = "calibration_error",
) -> Columns:
    """Per-unit sums [u] of probability minus truth in each of `bins` bins of equal mass, named `name`.

    Steps of equal probability share a bin; `ratios` makes `name` of them. (Expected calibration error:
    Naeini, Cooper, Hauskrecht 2015.)
    """
    flat = probability[valid]
    cuts = np.unique(np.quantile(flat, np.arange(1, bins) / bins))
    unit = np.nonzero(valid)[0]
    place = unit * bins + np.searchsorted(cuts, flat, side="left")
    gaps = np.bincount(place, weights=flat - (y[valid] > 0), minlength=len(y) * bins).reshape(len(y), bins)
    return {f"{name}|{b}": np.asarray(gaps[:, b], dtype=np.float64) for b in range(bins)}


def ratios(totals: Mapping[str, Any], step_seconds: float) -> dict[str, NDArray[np.float64]]:
    """Metrics from totals (each of any one shape): NaN where a denominator is 0.

    accuracy, f1, recall, false_positive_rate in [0, 1]; latency_steps >= 0, missed campaigns censored;
    missed in [0, 1], share of campaigns; false_alarms_per_device_day >= 0; calibration_error and
    calibration_error_before in [0, 1];
    `<name>|recall` for every `recall_columns(name, ...)`. Only what the totals allow.
    """
    found: dict[str, NDArray[np.float64]] = {}
    if "hits" in totals:
        hits, false, attacked, normal = (totals[k] for k in ("hits", "false", "attacked", "normal"))
        found["accuracy"] = _ratio(hits + normal - false, totals["steps"])
        found["f1"] = _ratio(2 * hits, hits + attacked + false)
        found["recall"] = _ratio(hits, attacked)
        found["false_positive_rate"] = _ratio(false, normal)
        found["latency_steps"] = _ratio(totals["latency"], totals["campaigns"])
        found["missed"] = _ratio(totals["missed"], totals["campaigns"])
        days = np.asarray(normal) * (step_seconds / SECONDS_PER_DAY)
        found["false_alarms_per_device_day"] = _ratio(totals["false_alarms"], days)
    for stem in ("calibration_error", "calibration_error_before"):
        gaps = [np.abs(total) for name, total in totals.items() if name.startswith(f"{stem}|")]
        if gaps:
            found[stem] = _ratio(sum(gaps), totals["steps"])
    for name in totals:
        if name.endswith("|hits"):
            stem = name.removesuffix("|hits")
            found[f"{stem}|recall"] = _ratio(totals[name], totals[f"{stem}|steps"])
    return found


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    unknown = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.asarray(np.divide(part, whole, out=unknown, where=whole > 0))


def reliability(
    probabilities: Sequence[NDArray[Any]], truths: Sequence[NDArray[np.bool_]], bins: int = CALIBRATION_BINS
) -> dict[str, list[float]]:
    """Reliability curve of steps [n] of each seed, all seeds together, in bins of equal mass.

    Per bin that holds a step: "predicted", the mean probability; "observed", the share that was attacked;
    "steps", how many. Steps of equal probability share a bin (DeGroot, Fienberg 1983).
    """
    said, true = np.concatenate(list(probabilities)), np.concatenate(list(truths)).astype(np.float64)
    cuts = np.unique(np.quantile(said, np.arange(1, bins) / bins))
    place = np.searchsorted(cuts, said, side="left")
    steps = np.bincount(place, minlength=bins)
    held = steps > 0

    def mean(values: NDArray[np.float64]) -> list[float]:
        return [
            round(float(v), 5) for v in np.bincount(place, weights=values, minlength=bins)[held] / steps[held]
        ]

    return {"predicted": mean(said), "observed": mean(true), "steps": [float(n) for n in steps[held]]}


def decision_curve(
    probabilities: Sequence[NDArray[Any]], truths: Sequence[NDArray[np.bool_]]
) -> dict[str, list[float]]:
    """Net benefit of acting on whoever is at least that likely, all seeds together (Vickers, Elkin 2006,
    https://doi.org/10.1177/0272989X06295361).

    At each "threshold" p, from .01 to .99: "net_benefit", true positives less p / (1 - p) false ones, per
    step; "act_on_all", the same if everyone is acted on. Acting on nobody is worth 0. A step of probability p
    counts as acted on. Empty lists where there is no step.
    """
    said, true = np.concatenate(list(probabilities)), np.concatenate(list(truths)).astype(bool)
    places = np.arange(1, 100) / 100
    if not said.size:
        return {"threshold": [], "net_benefit": [], "act_on_all": []}
    price = places / (1 - places)

    def at_least(values: NDArray[Any]) -> NDArray[np.float64]:
        below = np.searchsorted(np.sort(values), places, side="left")
        return np.asarray((len(values) - below) / len(said))

    share = true.mean()
    return {
        "threshold": places.tolist(),
        "net_benefit": np.round(at_least(said[true]) - price * at_least(said[~true]), 6).tolist(),
        "act_on_all": np.round(share - price * (1 - share), 6).tolist(),
    }


def curves(scores: list[NDArray[Any]], truths: list[NDArray[np.bool_]]) -> dict[str, dict[str, list[float]]]:
    """ROC and precision-recall curves, averaged over seeds at 200 fixed places each.

    scores, truths: per seed [n]. Half of the ROC's places lie below a false-positive rate of 5 %. Empty lists
    where no seed has both classes. Averaging is vertical (Fawcett 2006, "An introduction to ROC analysis").
    """
    half = _CURVE_POINTS // 2
    places = np.concatenate([[0.0], np.geomspace(1e-4, 0.05, half - 1), np.linspace(0.05, 1, half + 1)[1:]])
    recalls = np.linspace(0, 1, _CURVE_POINTS)
    tpr, precision = [], []
    for score, truth in zip(scores, truths, strict=True):
        if not _both(truth):
            continue
        fpr, hit, _ = roc_curve(truth, score)
        # at a vertical stretch np.interp takes the last point, which is the height reached there
        tpr.append(np.interp(places, fpr, hit))
        exact, reached, _ = precision_recall_curve(truth, score)
        at = np.searchsorted(reached[::-1], recalls, side="left")
        precision.append(exact[::-1][np.minimum(at, len(exact) - 1)])
    if not tpr:
        return {"roc": {"fpr": [], "tpr": []}, "pr": {"recall": [], "precision": []}}

    def plain(values: NDArray[np.float64]) -> list[float]:
        return [round(float(v), 5) for v in values]

    return {
        "roc": {"fpr": plain(places), "tpr": plain(np.mean(tpr, axis=0))},
        "pr": {"recall": plain(recalls), "precision": plain(np.mean(precision, axis=0))},
    }

"""Intervals: a two-level bootstrap, fast enough for every system of a report.

A replicate draws seeds with replacement, then units with replacement within each drawn seed, and takes
the mean over the drawn seeds of the metric on the drawn units (Davison, Hinkley 1997, section 3.8). All
systems share one set of draws, so differences are paired. Few seeds limit it. Measured on made-up data
(`tests/evaluate/test_metrics_laws.py`), intervals of 95 % hold the truth in 95 % of cases for one seed that
stands for itself, and in 97 % for five seeds that differ by chance alone; where seeds truly differ (nearly
twice the error within a seed) in 92 % for five seeds and only 83 % for two: a quick look, not a claim.

A replicate is a matrix product: how often each unit was drawn [n, u] times what each unit contributes.
For ranking metrics a unit contributes two histograms over bins of equal mass; only the *spread* comes
from the bins, as the judge moves the replicates to the exact point value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.metrics import ratios

__all__ = [
    "RANK_BINS",
    "Draws",
    "Ranks",
    "Triple",
    "UnitStats",
    "interval",
    "rank_counts",
    "rank_metrics",
    "replicates",
    "resamples",
    "unit_metrics",
]

RANK_BINS = 1024
_ROWS = 256  # replicates per matrix product: [256, 2048] float32 stays near the cache
_EXACT_FLOAT32 = 1 << 22  # below this, sums of whole numbers are exact in float32 even when drawn often

Triple = dict[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Who is drawn. The same draws serve every system that judges the same units.

    replicates R, seeds S.   slots: per seed, [n_s] places in a flattened [R, S] where that seed was drawn.
    counts: per seed, [n_s, u_s] float32, how often each unit was drawn there; rows sum to u_s.
    """

    replicates: int
    units: tuple[int, ...]
    slots: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.float32], ...]


def resamples(
    units: Sequence[int],
    replicates: int,
    rng: np.random.Generator,
    *,
    same_units: bool = False,
    unit_rng: np.random.Generator | None = None,
) -> Draws:
    """Draw seeds, then units within each.

    units: number of units of each seed, S of them, each >= 1.
    same_units: all seeds judge the same units in the same order; a replicate then draws units once for all
    its seeds, since what is common to the seeds must not be averaged out.
    unit_rng: draws the units, where groups of units share the draws of seeds but not those of units.
    Raises DataError on no units, or on unequal ones.
    """
    if not units or min(units) < 1:
        raise DataError(
            "every seed needs a unit to judge", found=list(units), way_out="give the test split more units"
        )
    if same_units and len(set(units)) > 1:
        raise DataError(
            "seeds are said to judge the same units", found=list(units), way_out="same_units=False"
        )
    seeds = len(units)
    drawn = rng.integers(seeds, size=(replicates, seeds)).ravel()
    slots = tuple(np.flatnonzero(drawn == seed).astype(np.int64) for seed in range(seeds))
    rng = unit_rng or rng
    if same_units:
        common = rng.multinomial(units[0], np.full(units[0], 1 / units[0]), size=replicates).astype(
            np.float32
        )
        return Draws(replicates, tuple(units), slots, tuple(common[place // seeds] for place in slots))
    counts = tuple(
        rng.multinomial(u, np.full(u, 1 / u), size=len(place)).astype(np.float32)
        for u, place in zip(units, slots, strict=True)
    )
    return Draws(replicates, tuple(units), slots, counts)


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """What each unit contributes to ranking metrics; bins run from low scores to high.

    positive, negative: [u, bins] float32 counts.
    single: [bins] bool, True where a bin holds one score only.
    """

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    single: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class UnitStats:
    """One system on one seed, per unit.

    columns: name -> [u], see `metrics`.   points: the same at further operating points, by their name.
    """

    columns: Mapping[str, NDArray[np.float64]]
    points: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    ranks: Ranks | None = None


def rank_counts(
    score: NDArray[Any], positive: NDArray[np.bool_], use: NDArray[np.bool_], bins: int = RANK_BINS
) -> Ranks:
    """Histograms per unit over bins of equal mass.

    score, positive, use: [u, L]; only steps in `use` count. Every bin holds the same weight, ties aside:
    equal scores share a bin. A third of the weight is spread over the positives, a third over the negatives,
    a third over all steps as 1 / rank. Where there are no more different scores than bins, nothing is lost.
    """
    truth = positive[use]
    different, place = np.unique(score[use], return_inverse=True)
    size, single = len(different), np.ones(len(different), dtype=bool)
    if size > bins:
        hits = np.bincount(place[truth], minlength=size)
        wrong = np.bincount(place[~truth], minlength=size)
        steps = hits + wrong
        from_top = np.cumsum(steps[::-1])[::-1]
        top = steps / from_top  # precision changes fastest there
        weight = hits / max(hits.sum(), 1) + wrong / max(wrong.sum(), 1) + top / top.sum()
        # by the middle of each score's weight, so that neither kind tends to stand at a bin's edge
        middle = np.cumsum(weight) - weight / 2
        bin_of_score = np.minimum((middle * (bins / weight.sum())).astype(np.int64), bins - 1)
        place, size = bin_of_score[place], bins
        single = np.bincount(bin_of_score, minlength=bins) == 1
    cell = np.nonzero(use)[0] * size + place

    def histogram(of: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.bincount(cell[of], minlength=len(score) * size).reshape(-1, size).astype(np.float32)

    return Ranks(histogram(truth), histogram(~truth), single)


def rank_metrics(ranks: Ranks, counts: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """AUROC and average precision of each row of counts [n, u] -> [n]; NaN where one class was not drawn.

    Within a bin positives and negatives are taken as evenly mixed; in a bin of one score they are tied,
    as scikit-learn has it.
    """
    steps = float(ranks.positive.sum() + ranks.negative.sum())
    kind: Any = np.float32 if steps < _EXACT_FLOAT32 else np.float64
    positive, negative = ranks.positive.astype(kind), ranks.negative.astype(kind)
    single, own = ranks.single, positive.sum(axis=1)
    roc, precision = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    for start in range(0, len(counts), _ROWS):
        weights = counts[start : start + _ROWS].astype(kind)
        hit, wrong = weights @ positive, weights @ negative
        below = np.cumsum(wrong, axis=1)
        total, others = hit.sum(axis=1, keepdims=True), below[:, -1:]
        better = (hit * (below - wrong / 2)).sum(axis=1, dtype=np.float64)
        # precision at the average positive of a bin: it counts itself, as often as its unit was drawn, and
        # half of the others in the bin; where the bin is one tie, all of them
        again = np.square(weights) @ own / np.maximum(weights @ own, 1)
        hits = (
            total
            - np.cumsum(hit, axis=1)
            + np.where(single, hit, np.minimum(hit, (hit + again[:, None]) / 2))
        )
        alarms = hits + others - below + np.where(single, wrong, wrong / 2)
        exact = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
        area = (hit * exact).sum(axis=1, dtype=np.float64)
        attacked, normal = total[:, 0].astype(np.float64), others[:, 0].astype(np.float64)
        fine = (attacked > 0) & (normal > 0)
        np.divide(better, attacked * normal, out=roc[start : start + _ROWS], where=fine)
        np.divide(area, attacked, out=precision[start : start + _ROWS], where=fine)
    return {"auroc": roc, "auprc": precision}


def unit_metrics(
    stat: UnitStats, counts: NDArray[np.float32], step_seconds: float
) -> dict[str, NDArray[np.float64]]:
    """Every metric of one seed for each row of counts [n, u]: metric -> [n]. Ones: the seed itself."""

    def at(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        if not columns:
            return {}
        totals = counts.astype(np.float64) @ np.stack(list(columns.values()), axis=1)
        return ratios({name: totals[:, i] for i, name in enumerate(columns)}, step_seconds)

    found = at(stat.columns)
    for point, columns in stat.points.items():
        found |= {f"{point}/{metric}": values for metric, values in at(columns).items()}
    return found if stat.ranks is None else found | rank_metrics(stat.ranks, counts)


def replicates(
    stats: Sequence[UnitStats], draws: Draws, step_seconds: float
) -> dict[str, NDArray[np.float64]]:
    """Every metric in every replicate: metric -> [R]. One entry of `stats` per seed, as in `draws`.

    Metrics of a further operating point are named "<point>/<metric>". A drawn seed in which a metric is
    undefined is left out of that replicate's mean; a replicate in which no seed has it is NaN.
    """
    seeds = len(draws.units)
    flat: dict[str, NDArray[np.float64]] = {}
    for stat, place, counts in zip(stats, draws.slots, draws.counts, strict=True):
        found = unit_metrics(stat, counts, step_seconds)
        for metric, values in found.items():
            flat.setdefault(metric, np.full(draws.replicates * seeds, np.nan))[place] = values
    means = {}
    for metric, values in flat.items():
        grid = values.reshape(draws.replicates, seeds)
        known = np.isfinite(grid)
        number = known.sum(axis=1)
        total = np.where(known, grid, 0.0).sum(axis=1)
        means[metric] = np.divide(total, number, out=np.full(draws.replicates, np.nan), where=number > 0)
    return means


def interval(value: float, samples: NDArray[np.float64] | None, level: float = 0.95) -> Triple:
    """Point value with its percentile interval, JSON-clean: None for what cannot be had.

    samples: [R] replicates of the same quantity (for a paired difference: the difference of two systems'
    replicates). The interval always holds the value.
    """
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    known = np.zeros(0) if samples is None else samples[np.isfinite(samples)]
    if not len(known):
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}

"""Operating points: thresholds and calibration, from validation units only.

A threshold is found the federated way. Each site counts its normal validation scores in fixed bins,
caps the total, and sends the counts; only their *sum* over sites is needed, so they can go through the
same door as updates (`threshold_votes` has another way, without a sum). The bins are those of a log
histogram with relative width 0.2 % on both sides of 0 (as in DDSketch: Masson, Rim, Lee 2019,
arXiv:1908.10693), so one grid serves every range of scores.
An alarm is `score > threshold`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from lazaretto.errors import DataError

__all__ = [
    "AS_IT_IS",
    "BIN_RATIO",
    "COUNTED",
    "EDGES",
    "EVERYONE",
    "SECONDS_PER_DAY",
    "Calibration",
    "Operating",
    "Platt",
    "bin_of",
    "edge_counts",
    "fit_calibration",
    "fit_platt",
    "fit_temperature",
    "for_elsewhere",
    "log_loss",
    "log_odds",
    "operating_from_json",
    "operating_to_json",
    "per_unit",
    "probability",
    "score_counts",
    "threshold_from_counts",
    "threshold_from_edges",
]

BIN_RATIO = 1.002
COUNTED = 10_000  # steps of a site, at most
_SMALLEST, _LARGEST = 1e-6, 1e12
_MAGNITUDES = _SMALLEST * BIN_RATIO ** np.arange(int(np.log(_LARGEST / _SMALLEST) / np.log(BIN_RATIO)) + 2)
EDGES: NDArray[np.float64] = np.concatenate([-_MAGNITUDES[::-1], [0.0], _MAGNITUDES])
EDGES.setflags(write=False)
SECONDS_PER_DAY = 86_400.0
EVERYONE = -1  # the group that stands for all units together
Calibration: TypeAlias = Literal["platt", "temperature", "none"]
_COLDEST, _HOTTEST = 1e-3, 1e3  # temperatures that are looked at


def bin_of(score: NDArray[Any]) -> NDArray[np.int64]:
    """Bin of each score, 0..len(EDGES): bin i holds EDGES[i - 1] < score <= EDGES[i]."""
    return np.searchsorted(EDGES, np.asarray(score, dtype=np.float64), side="left").astype(np.int64)


def score_counts(score: NDArray[Any], cap: int = COUNTED) -> NDArray[np.int64]:
    """One site's contribution: how many of its scores [n] fall in each bin, [len(EDGES) + 1]; `cap` at most.

    Above the cap the counts are scaled so that every cumulative share moves by at most 0.5 / cap; a site
    with a million steps thus weighs no more than one with `cap`. Raises DataError if a score is not finite.
    """
    score = np.asarray(score, dtype=np.float64).ravel()
    if not np.isfinite(score).all():
        raise DataError("scores must be finite", found=f"{int((~np.isfinite(score)).sum())} that are not")
    counts = np.bincount(bin_of(score), minlength=len(EDGES) + 1).astype(np.int64)
    if len(score) <= cap:
        return counts
    cumulative = np.rint(np.cumsum(counts) * (cap / len(score))).astype(np.int64)
    return np.asarray(np.diff(cumulative, prepend=0), dtype=np.int64)


def threshold_from_counts(counts: NDArray[np.int64], rate: float) -> float:
    """Smallest bin edge above which lie at most `rate` of the counted normal steps.

    counts: sum over sites of `score_counts`, [len(EDGES) + 1]. It is at most one bin (0.2 %, or 1e-6
    near 0) above the exact order statistic. Infinite where even the largest edge has too many above it.
    Raises DataError where nothing was counted.
    """
    total = int(counts.sum())
    if total == 0:
        raise DataError(
            "no normal validation step to set a threshold from",
            way_out="raise split.validation, or add normal data",
        )
    above = total - np.cumsum(counts)[:-1]
    # a float product such as 0.07 * 100 may fall just under the whole number that is meant
    quiet = np.flatnonzero(above <= rate * total * (1 + 1e-12))
    return float(EDGES[quiet[0]]) if len(quiet) else float("inf")


def edge_counts(smoothed: NDArray[Any], normal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Alarms that each threshold would raise on normal steps: [len(EDGES)], again a plain sum over sites.

    smoothed: [u, L] scores after k-of-m smoothing (`metrics.smooth`), -inf where there is none yet.
    normal: [u, L] bool. An alarm is raised at a normal step t where smoothed[t-1] <= threshold < smoothed[t].
    """
    place = bin_of(smoothed)
    before = np.concatenate([np.zeros_like(place[:, :1]), place[:, :-1]], axis=1)
    rising = normal & (place > before)
    change = np.bincount(before[rising], minlength=len(EDGES) + 1)
    change = change - np.bincount(place[rising], minlength=len(EDGES) + 1)
    return np.cumsum(change)[: len(EDGES)].astype(np.int64)


def threshold_from_edges(alarms: NDArray[np.int64], normal_seconds: float, per_day: float = 1.0) -> float:
    """Smallest edge from which on no threshold raises more than `per_day` alarms per device-day.

    alarms: sum over sites of `edge_counts`; normal_seconds: normal device time they were counted in.
    """
    noisy = np.flatnonzero(alarms > per_day * normal_seconds / SECONDS_PER_DAY)
    first = int(noisy[-1]) + 1 if len(noisy) else 0
    return float(EDGES[first]) if first < len(EDGES) else float("inf")


@dataclass(frozen=True, slots=True)
class Platt:
    """log-odds = slope * score + intercept; slope > 0, so that no ranking is ever turned round.

    A temperature T is slope 1 / T and intercept 0.
    """

    slope: float
    intercept: float


AS_IT_IS = Platt(1.0, 0.0)  # the score is taken for log-odds


def fit_platt(
    score: NDArray[Any], attacked: NDArray[np.bool_], weight: NDArray[np.float64] | None = None
) -> Platt:
    """Platt scaling (Platt 1999) on validation scores [n] and truth [n], weight [n] > 0 times each.

    Where the data cannot say (one class only, constant or anti-informative scores) the slope is small
    and the intercept gives the smoothed share of attacked steps. Raises DataError on no scores.
    """
    score = np.asarray(score, dtype=np.float64).ravel()
    attacked = np.asarray(attacked, dtype=bool).ravel()
    if not len(score):
        raise DataError("no validation step to calibrate on", way_out="raise split.validation")
    centre, spread = float(score.mean()), float(score.std())
    share = (attacked.sum() + 1) / (len(score) + 2)
    if weight is not None:
        centre = float(np.average(score, weights=weight))
        spread = float(np.sqrt(np.average((score - centre) ** 2, weights=weight)))
        share = (weight[attacked].sum() + 1) / (weight.sum() + 2)
    spread = spread if spread > 1e-12 * max(1.0, abs(centre)) else 1.0
    slope, intercept = 1e-3, float(np.log(share / (1 - share)))
    if attacked.any() and not attacked.all():
        model = LogisticRegression(C=1e4, max_iter=200, solver="newton-cholesky").fit(
            ((score - centre) / spread)[:, None], attacked, sample_weight=weight
        )
        if model.coef_[0, 0] > slope:
            slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Platt(slope / spread, intercept - slope * centre / spread)


def log_loss(
    platt: Platt,
    score: NDArray[Any],
    attacked: NDArray[np.bool_],
    weight: NDArray[np.float64] | None = None,
) -> float:
    """Mean negative log-likelihood, in nats, of truth [n] under the calibrated scores [n]."""
    odds = log_odds(platt, score)
    return float(np.average(np.logaddexp(0.0, np.where(attacked, -odds, odds)), weights=weight))


def fit_temperature(
    score: NDArray[Any], attacked: NDArray[np.bool_], weight: NDArray[np.float64] | None = None
) -> Platt:
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599): log-odds = score / T, T in [0.001, 1000].

    score [n], truth [n], weight [n] > 0, of validation. T is the one of least `log_loss`, which is convex in
    1 / T, and never worse than T = 1. It cannot mend a score whose zero is not even odds, such as a distance;
    `fit_platt` can.
    Raises DataError on no scores.
    """
    score = np.asarray(score, dtype=np.float64).ravel()
    attacked = np.asarray(attacked, dtype=bool).ravel()
    if not len(score):
        raise DataError("no validation step to calibrate on", way_out="raise split.validation")

    def loss(inverse: float) -> float:
        return log_loss(Platt(inverse, 0.0), score, attacked, weight)

    found = minimize_scalar(
        lambda power: loss(float(np.exp(power))),
        bounds=(-np.log(_HOTTEST), -np.log(_COLDEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    inverse = float(np.exp(found.x))
    return Platt(inverse, 0.0) if loss(inverse) < loss(1.0) else AS_IT_IS


def fit_calibration(
    method: Calibration,
    score: NDArray[Any],
    attacked: NDArray[np.bool_],
    weight: NDArray[np.float64] | None = None,
) -> Platt:
    """The map from scores [n] to log-odds by that method; "none" takes the scores for log-odds."""
    if method == "none":
        return AS_IT_IS
    fit = fit_platt if method == "platt" else fit_temperature
    return fit(score, attacked, weight)


def log_odds(platt: Platt, score: NDArray[Any]) -> NDArray[np.float64]:
    """Calibrated log-odds of each score."""
    return platt.slope * np.asarray(score, dtype=np.float64) + platt.intercept


def probability(platt: Platt, score: NDArray[Any]) -> NDArray[np.float64]:
    """Calibrated probability that a step is attacked, in [0, 1]."""
    return np.asarray(expit(log_odds(platt, score)))


@dataclass(frozen=True, slots=True)
class Operating:
    """Where a system alarms, and how its scores become probabilities.

    thresholds: operating point -> {group: threshold}.  platt: {group: Platt}, fitted by `calibration`.
    Group EVERYONE stands for all units, and for a group that validation did not hold.
    by_site: groups of thresholds are sites, though one model scored all of them.
    """

    thresholds: Mapping[str, Mapping[int, float]]
    platt: Mapping[int, Platt]
    calibration: Calibration = "platt"
    by_site: bool = False


def for_elsewhere(operating: Operating) -> Operating:
    """The same for units of other sites than those of training: everyone's thresholds alone."""
    everyone = {point: {EVERYONE: groups[EVERYONE]} for point, groups in operating.thresholds.items()}
    return replace(operating, thresholds=everyone, by_site=False) if operating.by_site else operating


def per_unit(by_group: Mapping[int, Any], groups: Iterable[int]) -> list[Any]:
    """The value of each unit's group, that of EVERYONE where its group has none."""
    return [by_group.get(int(group), by_group[EVERYONE]) for group in groups]


def operating_to_json(operating: Operating) -> dict[str, Any]:
    """As a JSON-clean value, to be stored with the model; an infinite threshold becomes null."""
    return {
        "thresholds": {
            point: {str(g): t if np.isfinite(t) else None for g, t in groups.items()}
            for point, groups in operating.thresholds.items()
        },
        "platt": {str(g): [p.slope, p.intercept] for g, p in operating.platt.items()},
        "calibration": operating.calibration,
    } | ({"by_site": True} if operating.by_site else {})


def operating_from_json(body: Mapping[str, Any]) -> Operating:
    """Inverse of `operating_to_json`. Raises DataError where the value is not one."""
    try:
        thresholds = {
            str(point): {int(g): float("inf") if t is None else float(t) for g, t in groups.items()}
            for point, groups in body["thresholds"].items()
        }
        platt = {
            int(g): Platt(float(slope), float(intercept)) for g, (slope, intercept) in body["platt"].items()
        }
        calibration = body.get("calibration", "platt")
        if calibration not in typing.get_args(Calibration):
            raise ValueError(calibration)
        by_site = body.get("by_site", False)
        if not isinstance(by_site, bool):
            raise ValueError(by_site)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "stored operating points cannot be read", found=error, way_out="train again"
        ) from None
    if EVERYONE not in platt or not all(EVERYONE in groups for groups in thresholds.values()):
        raise DataError("stored operating points lack those of all units", way_out="train again")
    return Operating(thresholds, platt, calibration, by_site)

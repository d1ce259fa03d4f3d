"""Operating points from counts with noise: thresholds, calibration and alarms, from one histogram per site.

A row of the scores is an example: one window, or one stream. It counts the share of its steps that are normal
or attacked, by score, and where the alarm of its normal steps would end if the threshold rose. Sums of such
counts over sites are all that leaves a site. Below the share of normal steps that the noise lets see, their
scores are taken to thin out as an exponential distribution does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lazaretto.errors import DataError
from lazaretto.evaluate.metrics import smooth
from lazaretto.evaluate.operating import (
    AS_IT_IS,
    EVERYONE,
    SECONDS_PER_DAY,
    Operating,
    Platt,
    fit_calibration,
    log_odds,
)
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.thresholds import ALARM_POINT, MAIN_POINT, STRICT_POINT, STRICT_RATE
from lazaretto.privacy.counts import CLEAR, GRAINS, CountNoise, histograms, kept_counts, noisy_counts
from lazaretto.types import Int

__all__ = ["SCORE_CELLS", "Counted", "noisy_operating", "noisy_score_counts", "operating_from_noisy"]

_CELL, _LARGEST = 0.4, 1e3
_STEPS = int(np.ceil(np.arcsinh(_LARGEST) / _CELL))
_EDGES: NDArray[np.float64] = np.sinh(_CELL * np.arange(-_STEPS, _STEPS + 1))
_EDGES.setflags(write=False)
SCORE_CELLS = len(_EDGES) + 1  # the first and the last have no outer edge
_UPPER = np.append(_EDGES, _EDGES[-1])
_LOWER = np.append(_EDGES[:1], _EDGES)
_MIDDLE = np.concatenate([_EDGES[:1], (_EDGES[1:] + _EDGES[:-1]) / 2, _EDGES[-1:]])
_NORMAL = ndtri((np.arange(64) + 0.5) / 64)  # scores that stand for a normal distribution
_BLOCK_STEPS = 16  # in which an alarm counts once
_PARTS = 3  # normal steps, attacked steps, blocks of normal ones
_LENGTHS = 2  # an example's steps add up to one, its blocks to one
_SEEN = 10.0  # deviations of a cell's noise that a tail has to hold to be read off
_MOST = 0.25  # share of normal steps from which on a tail is drawn out


class Counted(NamedTuple):
    """Counts [3, SCORE_CELLS] in grains, summed over so many sites."""

    counts: Int
    sites: int


def noisy_score_counts(scored: Scored, protocol: Protocol, noise: CountNoise, site: int) -> Int:
    """[3, SCORE_CELLS] what one site sends of its validation scores, in grains, below 0 at times.

    scored: that site's rows alone, each an example; smoothing by k of m steps begins anew with each.
    """
    valid, normal = scored.valid, scored.valid & (scored.y == 0)
    share = valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)
    cells = np.searchsorted(_EDGES, np.where(valid, scored.score, 0.0))
    smoothed = smooth(scored.score, valid, protocol.alarm_k, protocol.alarm_m)
    blocks = np.where(normal, smoothed, -np.inf)
    blocks = np.pad(blocks, ((0, 0), (0, -blocks.shape[1] % _BLOCK_STEPS)), constant_values=-np.inf)
    many = blocks.shape[1] // _BLOCK_STEPS  # not -1: a site may have no validation unit
    highest = blocks.reshape(len(blocks), many, _BLOCK_STEPS).max(axis=2)
    padded = np.pad(normal, ((0, 0), (0, -normal.shape[1] % _BLOCK_STEPS)))
    there = padded.reshape(len(padded), many, _BLOCK_STEPS).any(axis=2)
    rows = histograms(
        np.concatenate(
            [cells + SCORE_CELLS * ~normal, np.searchsorted(_EDGES, highest) + 2 * SCORE_CELLS], axis=1
        ),
        np.concatenate([share, there / np.maximum(there.sum(axis=1, keepdims=True), 1)], axis=1),
        _PARTS * SCORE_CELLS,
    )
    found = noisy_counts(rows, noise.length(_LENGTHS), noise.of_a_site, noise.normals("thresholds", site))
    return found.reshape(_PARTS, SCORE_CELLS)


class _Points(NamedTuple):
    """Cells [n] of scores, ascending, with their counts [3, n]; deviation: of the noise in one number."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    middle: NDArray[np.float64]
    counts: Int
    deviation: float


def operating_from_noisy(counted: Mapping[int, Counted], protocol: Protocol, noise: CountNoise) -> Operating:
    """Thresholds (on the common scale) and calibration, as `operating_points` finds them from scores.

    counted: {group: its sum over sites}, or {EVERYONE: the sum} where one model made all scores. A group that
    shows no normal step goes by everyone's values. Raises DataError where no group shows one.
    """
    every = {
        group: _Points(_LOWER, _UPPER, _MIDDLE, *_shown(counts, noise.deviation(_LENGTHS, sites)))
        for group, (counts, sites) in counted.items()
    }
    points = {group: one for group, one in every.items() if _clear(one)}
    # where noise hides them all the largest cells are the best that is known
    points = points or {group: one for group, one in every.items() if one.counts[0].any()}
    if not points:
        raise DataError(
            "no normal validation step to set a threshold from",
            way_out="raise split.validation, or add normal data",
        )
    platt = {group: _calibrated(protocol, one) for group, one in points.items()}
    if EVERYONE not in points:
        platt[EVERYONE] = _calibrated(protocol, _joined(points.values()))
        points = {group: _mapped(one, platt[group]) for group, one in points.items()}
        points[EVERYONE] = _joined(points.values())
    alarm_rate = min(1.0, _BLOCK_STEPS * protocol.step_seconds / SECONDS_PER_DAY)
    asked = {
        MAIN_POINT: (0, protocol.false_positive_rate),
        STRICT_POINT: (0, STRICT_RATE),
        ALARM_POINT: (2, alarm_rate),
    }
    thresholds = {
        point: {group: _threshold(one, part, rate) for group, one in points.items()}
        for point, (part, rate) in asked.items()
    }
    return Operating(thresholds, platt, protocol.calibration)


def noisy_operating(validation: Scored, protocol: Protocol, noise: CountNoise) -> Operating:
    """`operating_points` from counts with noise: rows of `validation` are the examples.

    Each site's normal numbers are drawn for its groups in turn. Costs every example one `count_event`.
    """
    groups = (
        np.full(len(validation.site), EVERYONE)
        if validation.threshold_group is None
        else np.asarray(validation.threshold_group)
    )
    counted: dict[int, Counted] = {}
    for group in sorted({int(one) for one in groups}):
        sites = np.unique(validation.site[groups == group])
        found = [
            noisy_score_counts(
                _rows(validation, (groups == group) & (validation.site == site)), protocol, noise, int(site)
            )
            for site in sites
        ]
        counted[group] = Counted(np.sum(found, axis=0), len(sites))
    return operating_from_noisy(counted, protocol, noise)


def _rows(scored: Scored, own: NDArray[np.bool_]) -> Scored:
    return Scored(score=scored.score[own], y=scored.y[own], valid=scored.valid[own], site=scored.site[own])


def _shown(counts: Int, deviation: float) -> tuple[Int, float]:
    """The counts that stand out; nothing of a kind of which the largest cell is no more than noise is."""
    kept = kept_counts(counts, deviation)
    kept[1:][kept[1:].max(axis=1) <= CLEAR * deviation] = 0
    return kept, deviation


def _clear(points: _Points) -> bool:
    return bool(points.counts[0].max() > CLEAR * points.deviation)


def _mapped(points: _Points, platt: Platt) -> _Points:
    """On the common scale; no order changes, as slopes are above 0."""
    return points._replace(
        lower=log_odds(platt, points.lower),
        upper=log_odds(platt, points.upper),
        middle=log_odds(platt, points.middle),
    )


def _joined(points: Iterable[_Points]) -> _Points:
    several = list(points)
    upper = np.concatenate([one.upper for one in several])
    order = np.argsort(upper, kind="stable")
    return _Points(
        np.concatenate([one.lower for one in several])[order],
        upper[order],
        np.concatenate([one.middle for one in several])[order],
        np.concatenate([one.counts for one in several], axis=1)[:, order],
        float(np.sqrt(sum(one.deviation**2 for one in several))),
    )


def _calibrated(protocol: Protocol, points: _Points) -> Platt:
    """As of scores; where too few attacked steps stand out of the noise, the scores are taken for log-odds.

    What is left of noisy counts lacks the tails where the two kinds of steps meet, and would be told apart
    too surely. So each kind is taken for normally distributed around its mean, both with the larger spread.
    """
    both = points.counts[:2] / GRAINS
    if both[1].sum() * GRAINS <= _SEEN * points.deviation:
        return AS_IT_IS
    scores, weights = [points.middle, points.middle], list(both)
    if points.deviation > 0:
        wide = (points.upper - points.lower) ** 2 / 12
        means = [float(np.average(points.middle, weights=counts)) for counts in both]
        spread = max(
            float(np.sqrt(np.average((points.middle - mean) ** 2 + wide, weights=counts)))
            for mean, counts in zip(means, both, strict=True)
        )
        scores = [mean + spread * _NORMAL for mean in means]
        weights = [np.full(len(_NORMAL), counts.sum() / len(_NORMAL)) for counts in both]
    score, weight = np.concatenate(scores), np.concatenate(weights)
    truth = np.repeat([False, True], [len(scores[0]), len(scores[1])])
    use = weight > 0
    return fit_calibration(protocol.calibration, score[use], truth[use], weight[use])


def _threshold(points: _Points, part: int, rate: float) -> float:
    """Score above which lies that share of what was counted, as far as noise lets see; else drawn out."""
    counts = points.counts[part]
    total = int(counts.sum())
    if total == 0:
        return float("inf")
    least = min(_MOST, _SEEN * points.deviation / total)
    if rate >= least:
        return _above(points, counts, rate)
    near, far = _above(points, counts, least), _above(points, counts, 2 * least)
    return near + (near - far) * float(np.log(least / rate) / np.log(2))


def _above(points: _Points, counts: Int, share: float) -> float:
    """Score above which lies that share of the counts; within a cell they lie evenly."""
    above = (counts.sum() - np.cumsum(counts)) / counts.sum()
    at = int(np.flatnonzero(above <= share * (1 + 1e-12))[0])
    own = counts[at] / counts.sum()
    part = float(np.clip((share - above[at]) / own, 0, 1)) if own else 0.0
    return float(points.upper[at] - part * (points.upper[at] - points.lower[at]))

"""From validation scores to operating points, and from scores to a scale on which systems can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.metrics import smooth
from lazaretto.evaluate.operating import (
    EVERYONE,
    SECONDS_PER_DAY,
    Operating,
    edge_counts,
    fit_calibration,
    per_unit,
    probability,
    score_counts,
    threshold_from_counts,
    threshold_from_edges,
)
from lazaretto.evaluate.scored import Protocol, Said, Scored, SeedScores, check_apart, check_scored
from lazaretto.evaluate.threshold_votes import median_threshold, own_threshold

__all__ = [
    "ALARM_POINT",
    "MAIN_POINT",
    "STRICT_POINT",
    "STRICT_RATE",
    "on_common_scale",
    "operating_of",
    "operating_points",
    "own_thresholds",
    "probabilities_of",
    "thresholds_of",
    "with_own",
]

MAIN_POINT = "main"
STRICT_POINT = "false_positive_rate_0.001"
ALARM_POINT = "one_alarm_per_device_day"
STRICT_RATE = 0.001


def on_common_scale(scored: Scored, operating: Operating) -> Scored:
    """Scores of several models side by side: each group's calibrated log-odds.

    Untouched where one model made all. Without it, ranking the scores of different models against each
    other would understate them.
    """
    if scored.threshold_group is None:
        return scored
    maps = per_unit(operating.platt, scored.threshold_group)
    slope = np.asarray([m.slope for m in maps])[:, None]
    intercept = np.asarray([m.intercept for m in maps])[:, None]
    return replace(scored, score=np.where(scored.valid, slope * scored.score + intercept, 0.0))


def operating_points(validation: Scored, protocol: Protocol, said: Said | None = None) -> Operating:
    """Thresholds (on the common scale) and calibration, for everyone and for each threshold group.

    Sites contribute capped counts, of which only the sum is used, or a vote each, where
    `protocol.thresholds` is not "sum"; a group of one site has nobody to vote with. A group without a normal
    validation step goes by everyone's values.
    said: what sites say of their scores, or None for the truth; thresholds that they agree on go by it;
    calibration, which nobody agrees on, and what a site keeps to itself do not. Not asked where there are
    groups: each sets its own then. Raises DataError where there is no normal step at all.
    """
    groups = (
        [] if validation.threshold_group is None else sorted({int(g) for g in validation.threshold_group})
    )
    members = {EVERYONE: np.ones(len(validation.site), dtype=bool)}
    for group in groups:
        own = np.asarray(validation.threshold_group) == group
        if (validation.valid[own] & (validation.y[own] == 0)).any():
            members[group] = own
    platt = {}
    for group, own in members.items():
        use = validation.valid[own]
        platt[group] = fit_calibration(
            protocol.calibration, validation.score[own][use], validation.y[own][use] > 0
        )
    common = on_common_scale(validation, Operating({}, platt))
    if said is not None and validation.threshold_group is None:
        common = replace(common, score=said(common))
    thresholds: dict[str, dict[int, float]] = {MAIN_POINT: {}, STRICT_POINT: {}, ALARM_POINT: {}}
    for group, own in members.items():
        sites = _sites(common, own, protocol)
        if protocol.thresholds != "sum" and (group == EVERYONE or len(sites) > 1):
            for point in thresholds:
                thresholds[point][group] = median_threshold([_own(site, point, protocol) for site in sites])
            continue
        counts = np.sum([score_counts(site.normal) for site in sites], axis=0)
        thresholds[MAIN_POINT][group] = threshold_from_counts(counts, protocol.false_positive_rate)
        thresholds[STRICT_POINT][group] = threshold_from_counts(counts, STRICT_RATE)
        alarms, seconds = np.sum([site.alarms for site in sites], axis=0), sum(site.seconds for site in sites)
        thresholds[ALARM_POINT][group] = threshold_from_edges(alarms, seconds)
    found = Operating(thresholds, platt, protocol.calibration)
    if protocol.thresholds == "own" and validation.threshold_group is None:
        return with_own(found, validation, protocol)
    return found


def with_own(operating: Operating, validation: Scored, protocol: Protocol) -> Operating:
    """The same, but that each site goes by a threshold of its own where it has normal steps enough for it.

    Enough: of so many at least one may pass (for alarms: a day). With fewer more would pass of later steps
    than was asked, whatever the threshold; such a site goes by everyone's. validation: scores of one model
    for all sites, as they are: nobody lies to himself.
    """
    sites = _sites(validation, np.ones(len(validation.site), bool), protocol)
    thresholds = {}
    for point, groups in operating.thresholds.items():
        own = {site.number: _own(site, point, protocol) for site in sites if _enough(site, point, protocol)}
        kept = {number: value for number, value in own.items() if value is not None}
        thresholds[point] = {**groups, **kept}
    return replace(operating, thresholds=thresholds, by_site=True)


def own_thresholds(seeds: Sequence[SeedScores], protocol: Protocol, name: str) -> dict[str, list[int]]:
    """Operating point -> how many sites go by a threshold of their own, for each seed; {} where none may.

    The others have too few normal validation steps for it, and go by the median of the votes.
    """
    found = [operating_of(seed, protocol, f"{name}, seed {number}") for number, seed in enumerate(seeds)]
    if not found or not all(operating.by_site for operating in found):
        return {}
    return {
        point: [sum(group != EVERYONE for group in operating.thresholds[point]) for operating in found]
        for point in found[0].thresholds
    }


class _Site(NamedTuple):
    """A site's number, its normal scores [n], `edge_counts` of them, and how long its normal steps last."""

    number: int
    normal: NDArray[Any]
    alarms: NDArray[np.int64]
    seconds: float


def _sites(scored: Scored, own: NDArray[np.bool_], protocol: Protocol) -> list[_Site]:
    """What the sites of the units `own` [u] know of their normal steps."""
    score, valid, whose = scored.score[own], scored.valid[own], np.asarray(scored.site)[own]
    smoothed = smooth(score, valid, protocol.alarm_k, protocol.alarm_m)
    normal, found = valid & (scored.y[own] == 0), []
    for number in np.unique(whose):
        at = whose == number
        seconds = float(np.count_nonzero(normal[at])) * protocol.step_seconds
        alarms = edge_counts(smoothed[at], normal[at])
        found.append(_Site(int(number), score[at][normal[at]], alarms, seconds))
    return found


def _rate(point: str, protocol: Protocol) -> float:
    return STRICT_RATE if point == STRICT_POINT else protocol.false_positive_rate


def _own(site: _Site, point: str, protocol: Protocol) -> float | None:
    """A site's own threshold; None without a normal step."""
    if point == ALARM_POINT:
        return threshold_from_edges(site.alarms, site.seconds) if site.seconds else None
    return own_threshold(site.normal, _rate(point, protocol))


def _enough(site: _Site, point: str, protocol: Protocol) -> bool:
    if point == ALARM_POINT:
        return site.seconds >= SECONDS_PER_DAY
    return site.normal.size * _rate(point, protocol) >= 1


def operating_of(seed: SeedScores, protocol: Protocol, where: str) -> Operating:
    """The seed's operating points: those given, else from its validation. Checks what it reads.

    Raises DataError on scores that cannot be judged, and where validation and test share a unit.
    """
    check_scored(seed.test, f"{where}, test", len(protocol.classes))
    if seed.operating is not None:
        return seed.operating
    if seed.validation is None:
        raise DataError(
            f"{where}: without validation scores and operating points no threshold can be set",
            way_out="give one of them",
        )
    check_scored(seed.validation, f"{where}, validation", len(protocol.classes))
    check_apart(seed.validation, seed.test, where)
    return operating_points(seed.validation, protocol)


def _groups(scored: Scored) -> NDArray[np.int64]:
    return np.asarray(
        np.full(len(scored.site), EVERYONE) if scored.threshold_group is None else scored.threshold_group
    )


def thresholds_of(scored: Scored, operating: Operating, point: str = MAIN_POINT) -> NDArray[np.float64]:
    """Threshold of each unit, [u], for scores on the common scale."""
    groups = np.asarray(scored.site) if operating.by_site else _groups(scored)
    return np.asarray(per_unit(operating.thresholds[point], groups), dtype=np.float64)


def probabilities_of(scored: Scored, operating: Operating) -> NDArray[np.float64]:
    """Calibrated probability of each step, [u, L]; 0 where not valid."""
    maps = per_unit(operating.platt, _groups(scored))
    score = np.where(scored.valid, scored.score, 0.0)
    found = np.stack([probability(m, row) for m, row in zip(maps, score, strict=True)])
    return np.where(scored.valid, found, 0.0)

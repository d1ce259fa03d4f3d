"""Left out of training: families of attack that no site trained on, and sites that took no part.

Means over families and over sites weigh each alike. Replicates of all families share their draws, as the
normal steps are the same ones; sites share the draws of seeds, and each draws its own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.bootstrap import Triple, interval
from lazaretto.evaluate.judge import (
    OVER_INTENSITIES,
    Judged,
    draws_for,
    judge_system,
    known_mean,
    recall_by_intensity,
    same_truth,
)
from lazaretto.evaluate.operating import for_elsewhere
from lazaretto.evaluate.scored import Protocol, SeedScores
from lazaretto.evaluate.thresholds import operating_of

__all__ = [
    "LeaveOut",
    "LeftOut",
    "families_table",
    "judge_families",
    "judge_sites",
    "mean_over",
    "paired_means",
    "recall_gain",
    "sites_table",
    "taking_part",
]

# system -> number of the class or site that was left out -> one SeedScores per seed
LeaveOut: TypeAlias = Mapping[str, Mapping[int, Sequence[SeedScores]]]
LeftOut: TypeAlias = Mapping[int, Judged]  # of one system

_OF_FAMILY = ("auroc", "auprc", "recall", "false_positive_rate", "latency_steps")
_OF_SITE = (*_OF_FAMILY, "false_alarms_per_device_day")


def judge_families(leave_out: LeaveOut, protocol: Protocol) -> dict[str, dict[int, Judged]]:
    """Judge models that were trained without a family: its steps against all normal steps of test.

    Returns system -> class -> what was found. Raises DataError where a class is not an attack, or where two
    systems were tested on different steps.
    """
    found: dict[str, dict[int, Judged]] = {}
    first: dict[int, tuple[str, Sequence[SeedScores]]] = {}
    for name, families in leave_out.items():
        found[name] = {}
        for family, seeds in families.items():
            if not 0 < family < len(protocol.classes):
                raise DataError("the class left out is not an attack", found=family)
            other, theirs = first.setdefault(family, (name, seeds))
            same_truth(theirs, seeds, (other, name))
            label = f"{name} without {protocol.classes[family]}"
            found[name][family] = judge_system(
                seeds, protocol, label, draws_for(seeds, protocol), family=family
            )
    return found


def judge_sites(leave_out: LeaveOut, protocol: Protocol) -> dict[str, dict[int, Judged]]:
    """Judge models on the test units of the one site that took no part in their training.

    Returns system -> site -> what was found. Raises DataError where two systems were tested on different
    steps.
    """
    found: dict[str, dict[int, Judged]] = {}
    first: dict[int, tuple[str, Sequence[SeedScores]]] = {}
    for name, sites in leave_out.items():
        found[name] = {}
        for site, seeds in sites.items():
            other, theirs = first.setdefault(site, (name, seeds))
            same_truth(theirs, seeds, (other, name))
            label = f"{name} without site {site}"
            found[name][site] = judge_system(seeds, protocol, label, draws_for(seeds, protocol, site))
    return found


def taking_part(
    with_all: Sequence[SeedScores],
    left: LeftOut,
    leave_out: Mapping[int, Sequence[SeedScores]],
    protocol: Protocol,
) -> dict[str, Triple]:
    """What a site gains by taking part: the system trained with it minus the one trained without it.

    with_all: the system trained on all sites, one entry per seed (only as many as were repeated without the
    site are used). left: of `judge_sites`, made from `leave_out`. Paired differences of AUROC and recall on
    the site's own test units, mean over sites; both at thresholds that all agree on, also where the site
    would go by its own if it took part. {} where a site's units are not those of `with_all`.
    """
    with_it: dict[int, Judged] = {}
    for site, seeds in leave_out.items():
        both = list(zip(with_all, seeds, strict=False))
        own = [_of_site(whole, site, protocol) for whole, _ in both]
        fine = all(
            np.array_equal(a.test.y, b.test.y) and np.array_equal(a.test.valid, b.test.valid)
            for a, (_, b) in zip(own, both, strict=True)
        )
        if not fine:
            return {}
        with_it[site] = judge_system(own, protocol, "taking part", draws_for(seeds, protocol, site))
    return {metric: _gain(with_it, left, metric) for metric in ("auroc", "recall")}


def _of_site(seed: SeedScores, site: int, protocol: Protocol) -> SeedScores:
    if protocol.thresholds == "own":
        seed = replace(seed, operating=for_elsewhere(operating_of(seed, protocol, "taking part")))
    own, test = np.asarray(seed.test.site) == site, seed.test
    group = None if test.threshold_group is None else test.threshold_group[own]
    part = replace(
        test,
        score=test.score[own],
        y=test.y[own],
        valid=test.valid[own],
        site=test.site[own],
        threshold_group=group,
        intensity=None if test.intensity is None else test.intensity[own],
        unit=None if test.unit is None else test.unit[own],
    )
    return replace(seed, test=part)


def mean_over(found: LeftOut, metric: str) -> tuple[float, NDArray[np.float64]]:
    """Mean over the families (or sites) where the metric can be had, with its replicates [R]."""
    held = [one for one in found.values() if np.isfinite(one.values[metric])]
    if not held:
        return float("nan"), np.zeros(0)
    return (
        float(np.mean([one.values[metric] for one in held])),
        known_mean(np.stack([one.samples[metric] for one in held])),
    )


def paired_means(ours: LeftOut, theirs: LeftOut, metric: str) -> tuple[float, float, NDArray[np.float64]]:
    """Mean over the families (or sites) that both have: ours, theirs, and replicates of the difference."""
    both = [
        key
        for key in ours
        if key in theirs and np.isfinite(ours[key].values[metric] + theirs[key].values[metric])
    ]
    if not both:
        return float("nan"), float("nan"), np.zeros(0)
    gaps = np.stack([ours[key].samples[metric] - theirs[key].samples[metric] for key in both])
    own = float(np.mean([ours[key].values[metric] for key in both]))
    return own, float(np.mean([theirs[key].values[metric] for key in both])), known_mean(gaps)


def recall_gain(ours: LeftOut, theirs: LeftOut) -> Triple:
    """Recall of families never trained on, ours minus theirs, paired: mean over families, and within each
    family over the bins of intensity (plain recall where intensity is not known).

    ours, theirs: of `judge_families`, one system each. Both at their own threshold, set on validation for the
    protocol's share of false positives; `families_table` holds what each reached on test.
    """
    return _gain(ours, theirs, OVER_INTENSITIES)


def _gain(ours: LeftOut, theirs: LeftOut, metric: str) -> Triple:
    own, other, samples = paired_means(ours, theirs, metric)
    return interval(own - other, samples)


def families_table(found: LeftOut, classes: Sequence[str]) -> dict[str, Any]:
    """`leave_one_family_out` and `leave_one_family_out_mean` of metrics.json.

    The mean's "recall" is over families and intensities, as in `recall_gain`.
    """
    each: dict[str, Any] = {}
    for family, one in found.items():
        each[classes[family]] = _triples(one, _OF_FAMILY)
        if bins := recall_by_intensity(one):
            each[classes[family]]["recall_by_intensity"] = bins
    mean = {
        "auroc": interval(*mean_over(found, "auroc")),
        "recall": interval(*mean_over(found, OVER_INTENSITIES)),
        "false_positive_rate": interval(*mean_over(found, "false_positive_rate")),
    }
    return {"leave_one_family_out": each, "leave_one_family_out_mean": mean}


def sites_table(found: LeftOut, names: Sequence[str]) -> dict[str, Any]:
    """`leave_one_site_out` and `leave_one_site_out_mean` of metrics.json."""
    return {
        "leave_one_site_out": {names[site]: _triples(one, _OF_SITE) for site, one in found.items()},
        "leave_one_site_out_mean": {metric: interval(*mean_over(found, metric)) for metric in _OF_SITE},
    }


def _triples(one: Judged, metrics: Sequence[str]) -> dict[str, Any]:
    return {metric: interval(one.values[metric], one.samples[metric]) for metric in metrics}

"""All systems side by side: the tables of metrics.json, margins, and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.bootstrap import interval
from lazaretto.evaluate.judge import (
    Judged,
    Withheld,
    draws_for,
    judge_system,
    same_truth,
    table_of,
    validation_values,
)
from lazaretto.evaluate.scored import DEEP, OURS, Protocol, SeedScores

__all__ = ["MARGIN_METRICS", "judge"]

MARGIN_METRICS = ("accuracy", "f1", "auroc", "auprc")
LeaveOut = Mapping[str, Mapping[int, Sequence[SeedScores]]]  # system -> class left out -> seeds
_Judgements = Mapping[str, Judged]
_LeftOut = Mapping[str, Mapping[int, Judged]]


def judge(
    systems: Mapping[str, Sequence[SeedScores]],
    protocol: Protocol,
    *,
    withheld: Sequence[Withheld] = (),
    leave_out: LeaveOut | None = None,
    ours: str = OURS,
) -> dict[str, Any]:
    """Judge every system and settle the claims.

    systems: name -> one SeedScores per seed; all tested on the same steps in the same order. Holds `ours`.
    withheld: per seed, site -> classes that the site lacked in training; empty where none did.
    leave_out: system -> class number -> SeedScores per seed (often fewer seeds) of models trained
        without that class; its steps are the positives, all normal steps the negatives.
    Returns JSON-clean parts: "test", "baselines", "margin_over_best_deep", "comparison" (as in metrics.json)
    and the bodies of the records "curves" and "latency", one per system.
    Raises DataError on scores that cannot be judged.
    """
    if ours not in systems:
        raise DataError(
            "our own system is not among those to judge", found=list(systems), way_out=f"add '{ours}'"
        )
    if not all(systems.values()):
        raise DataError("a system has no seed", found=[name for name, seeds in systems.items() if not seeds])
    for name, seeds in systems.items():
        same_truth(systems[ours], seeds, (ours, name))
    draws = draws_for(systems[ours], protocol)
    judged = {
        name: judge_system(seeds, protocol, name, draws, withheld=withheld) for name, seeds in systems.items()
    }
    left = _judge_left_out(leave_out or {}, protocol)
    tables = {name: {protocol.setting: table_of(found, protocol.classes)} for name, found in judged.items()}
    for name, families in left.items():
        tables.setdefault(name, {protocol.setting: {}})[protocol.setting]["leave_one_family_out"] = {
            protocol.classes[family]: {
                metric: interval(found.values[metric], found.samples[metric])
                for metric in ("auroc", "auprc", "recall", "latency_steps")
            }
            for family, found in families.items()
        }
        tables[name][protocol.setting]["leave_one_family_out_mean"] = {
            "auroc": interval(*_mean_of_families(families))
        }
    deep = {name: validation_values(systems[name], protocol, name) for name in DEEP if name in systems}
    return {
        "test": tables.pop(ours),
        "baselines": tables,
        "margin_over_best_deep": _margins(judged, deep, ours),
        "comparison": _claims(judged, left, protocol, ours),
        "curves": [{"system": name, **found.curves} for name, found in judged.items()],
        "latency": [{"system": name, **found.latency} for name, found in judged.items()],
    }


def _judge_left_out(leave_out: LeaveOut, protocol: Protocol) -> dict[str, dict[int, Judged]]:
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


def _margins(judged: _Judgements, deep: Mapping[str, Mapping[str, float]], ours: str) -> dict[str, Any]:
    # chosen on validation where there is one, so that the choice does not lean on the test units
    margins = {}
    for metric in MARGIN_METRICS:
        known = {name: values.get(metric, judged[name].values[metric]) for name, values in deep.items()}
        best = _extreme(known, max)
        if best is not None:
            margins[metric] = {**_difference(judged[ours], judged[best], metric), "baseline": best}
    return margins


def _extreme(values: Mapping[str, float], pick: Any) -> str | None:
    known = {name: value for name, value in values.items() if np.isfinite(value)}
    return str(pick(known, key=known.__getitem__)) if known else None


def _difference(ours: Judged, theirs: Judged, metric: str) -> dict[str, float | None]:
    return interval(
        ours.values[metric] - theirs.values[metric], ours.samples[metric] - theirs.samples[metric]
    )


def _row(
    name: str,
    metric: str,
    against: str | None,
    triple: Mapping[str, float | None],
    side: Literal[">=", "<=", "<"],
    bound: float,
) -> dict[str, Any]:
    """One claim: it holds by the point value; it is certain if the whole interval is on the right side."""

    def reaches(found: float | None) -> bool:
        if found is None:
            return False
        return {">=": found >= bound, "<=": found <= bound, "<": found < bound}[side]

    return {
        "name": name,
        "metric": metric,
        "against": against,
        **triple,
        "target": f"{side} {bound:g}",
        "holds": reaches(triple["value"]),
        "certain": reaches(triple["low"] if side == ">=" else triple["high"]),
    }


def _claims(judged: _Judgements, left: _LeftOut, protocol: Protocol, ours: str) -> list[dict[str, Any]]:
    rows = []
    mine = judged[ours]
    if "pooled" in judged:
        triple = _difference(mine, judged["pooled"], "auroc")
        rows.append(_row("as good as pooling the data", "auroc", "pooled", triple, ">=", -0.005))
    if "local" in judged and "unseen|recall" in mine.values:
        triple = _difference(mine, judged["local"], "unseen|recall")
        rows.append(_row("families a site never had", "unseen_at_site.recall", "local", triple, ">=", 0.10))
    rows += _left_out_claims(left, ours)
    for name in DEEP if protocol.timed else ():
        if name in judged:
            triple = _difference(mine, judged[name], "latency_steps")
            rows.append(_row("no later than a deep baseline", "latency_steps", name, triple, "<=", 0.0))
    return rows + _floor_claims(judged, protocol, ours)


def _left_out_claims(left: _LeftOut, ours: str) -> list[dict[str, Any]]:
    if ours not in left:
        return []
    # the hardest of the deep baselines, chosen on the test units to our disadvantage
    means = {name: _family_mean(left[ours], left[name])[1] for name in DEEP if name in left}
    against = [_extreme(means, max), "gradient_boosting" if "gradient_boosting" in left else None]
    titles = ("unknown families, against the best deep baseline", "unknown families, against boosting")
    rows = []
    for title, name in zip(titles, against, strict=True):
        if name is not None:
            own, theirs, samples = _family_mean(left[ours], left[name])
            rows.append(
                _row(title, "leave_one_family_out.auroc", name, interval(own - theirs, samples), ">=", 0.0)
            )
    return rows


def _mean_of_families(found: Mapping[int, Judged]) -> tuple[float, NDArray[np.float64]]:
    """AUROC as mean over the families where it can be had, with its replicates."""
    held = [one for one in found.values() if np.isfinite(one.values["auroc"])]
    if not held:
        return float("nan"), np.zeros(0)
    return float(np.mean([one.values["auroc"] for one in held])), np.mean(
        [one.samples["auroc"] for one in held], axis=0
    )


def _family_mean(
    ours: Mapping[int, Judged], theirs: Mapping[int, Judged]
) -> tuple[float, float, NDArray[np.float64]]:
    """AUROC as mean over the families that both have: ours, theirs, and replicates of the difference."""
    both = [
        family
        for family in ours
        if family in theirs and np.isfinite(ours[family].values["auroc"] + theirs[family].values["auroc"])
    ]
    if not both:
        return float("nan"), float("nan"), np.zeros(0)
    gaps = np.stack([ours[family].samples["auroc"] - theirs[family].samples["auroc"] for family in both])
    known = np.isfinite(gaps)
    number = known.sum(axis=0)
    samples = np.divide(
        np.where(known, gaps, 0.0).sum(axis=0), number, out=np.full(gaps.shape[1], np.nan), where=number > 0
    )
    own = float(np.mean([ours[family].values["auroc"] for family in both]))
    return own, float(np.mean([theirs[family].values["auroc"] for family in both])), samples


def _floor_claims(judged: _Judgements, protocol: Protocol, ours: str) -> list[dict[str, Any]]:
    rows = []
    simple = {name: judged[name] for name in protocol.floors if name in judged}
    for name, found in simple.items():
        triple = interval(found.values["auroc"], found.samples["auroc"])
        rows.append(_row(f"not too easy: {name}", "auroc", None, triple, "<", protocol.floors[name]))
    best = _extreme({name: found.values["auroc"] for name, found in simple.items()}, max)
    if best is not None:
        triple = _difference(judged[ours], judged[best], "auroc")
        rows.append(_row("at least the best simple detector", "auroc", best, triple, ">=", 0.0))
    return rows

"""Judging a federation under attack on validation units alone, thresholds never set on a unit that is judged.

The units are dealt into two halves. The threshold that judges a half is set on the other, so every unit is
judged once and sets one threshold that judges others (two-fold cross-fitting). A ranking needs no threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.bootstrap import (
    Triple,
    UnitStats,
    interval,
    rank_counts,
    replicates,
    resamples,
    unit_metrics,
)
from lazaretto.evaluate.metrics import alarm_columns, auroc, recall_columns
from lazaretto.evaluate.scored import Protocol, Said, Scored, check_scored
from lazaretto.evaluate.thresholds import on_common_scale, operating_points, thresholds_of
from lazaretto.keys import generator

__all__ = ["Judgement", "alarms_by_halves", "halves", "judge_cell", "judge_seed", "judgement_tree"]

_PLAIN = ("auroc", "f1", "recall", "false_positive_rate")
_LOST = ("auroc", "f1")  # what a rule may lose, beside recall by class


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """values: metric -> mean over seeds. by_seed: metric -> value of each seed. samples: metric -> [R].

    Metrics: auroc, f1, recall, false_positive_rate, "class:<name>|recall", and "shown|recall" where a trigger
    was shown.
    """

    values: Mapping[str, float]
    by_seed: Mapping[str, tuple[float, ...]]
    samples: Mapping[str, NDArray[np.float64]]


def halves(scored: Scored, seed: int) -> NDArray[np.bool_]:
    """[u] which units are in the first half: drawn with `seed`, so that both have as many of each family.

    All streams of one unit stay together. Raises DataError where there are fewer than two units.
    """
    unit = np.arange(len(scored.site)) if scored.unit is None else np.asarray(scored.unit)
    names, place = np.unique(unit, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            "thresholds and figures need a unit each", found=len(names), way_out="raise split.validation"
        )
    family = np.zeros(len(names), np.int64)
    np.maximum.at(family, place, np.where(scored.valid, scored.y, 0).max(axis=1))
    order = np.lexsort((generator(seed, "halves").permutation(len(names)), family))
    first = np.zeros(len(names), np.bool_)
    first[order[::2]] = True
    return first[place]


def _part(scored: Scored, own: NDArray[np.bool_]) -> Scored:
    def cut(value: Any) -> Any:
        return None if value is None else np.asarray(value)[own]

    return Scored(
        score=cut(scored.score),
        y=cut(scored.y),
        valid=cut(scored.valid),
        site=cut(scored.site),
        unit=cut(scored.unit),
        threshold_group=cut(scored.threshold_group),
    )


def alarms_by_halves(
    scored: Scored,
    shown: Scored | None,
    protocol: Protocol,
    first: NDArray[np.bool_],
    said: Said | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """[u, L] where each half alarms by the threshold of the other; the same of `shown`, units in that order.

    first: [u] of `halves`. said: what sites say of the scores that set a threshold, or None for the truth.
    """
    alarm = np.zeros(scored.valid.shape, np.bool_)
    seen = None if shown is None else alarm.copy()
    plain = protocol if scored.threshold_group is not None else replace(protocol, calibration="none")
    for own in (first, ~first):
        operating = operating_points(_part(scored, ~own), plain, said)
        for given, into in ((scored, alarm), (shown, seen)):
            if given is not None and into is not None:
                part = on_common_scale(_part(given, own), operating)
                above = part.score > thresholds_of(part, operating)[:, None]
                into[own] = above & part.valid
    return alarm, seen


def judge_seed(
    scored: Scored,
    protocol: Protocol,
    seed: int,
    shown: Scored | None = None,
    said: Said | None = None,
) -> tuple[dict[str, float], UnitStats]:
    """One training: metric -> exact value, and what each unit contributes, for the bootstrap.

    scored: of the validation units. shown: the same units with a backdoor's trigger on every attacked step.
    seed: of the run; deals the halves. said: what sites say of the scores that set a threshold, or None for
    the truth; what is judged is the truth. Raises DataError on scores that cannot be judged.
    """
    check_scored(scored, f"validation, seed {seed}", len(protocol.classes))
    alarm, seen = alarms_by_halves(scored, shown, protocol, halves(scored, seed), said)
    attacked = (scored.y > 0) & scored.valid
    columns = alarm_columns(scored.y, scored.valid, alarm, alarm)
    for number, name in enumerate(protocol.classes[1:], 1):
        columns |= recall_columns(f"class:{name}", (scored.y == number) & scored.valid, alarm)
    if seen is not None:
        columns |= recall_columns("shown", attacked, seen)
    common = scored
    if scored.threshold_group is not None:
        common = on_common_scale(scored, operating_points(scored, protocol))
    stats = UnitStats(columns, {}, rank_counts(common.score, attacked, scored.valid))
    once = np.ones((1, len(scored.site)), np.float32)
    values = {
        name: float(value[0]) for name, value in unit_metrics(stats, once, protocol.step_seconds).items()
    }
    values["auroc"] = auroc(common.score[scored.valid], attacked[scored.valid])
    kept = {name: value for name, value in values.items() if name in _PLAIN or name.endswith("|recall")}
    return kept, stats


def judge_cell(seeds: Sequence[tuple[Mapping[str, float], UnitStats]], protocol: Protocol) -> Judgement:
    """Several seeds of one rule under one attack, each as `judge_seed` gave it.

    The draws of the bootstrap are the same for all cells with as many units: differences are paired.
    """
    units = [len(next(iter(stats.columns.values()))) for _, stats in seeds]
    draws = resamples(units, protocol.replicates, generator(protocol.seed, "robustness", *units))
    samples = replicates([stats for _, stats in seeds], draws, protocol.step_seconds)
    by_seed = {name: tuple(values[name] for values, _ in seeds) for name in seeds[0][0]}
    values = {name: _mean(several) for name, several in by_seed.items()}
    once = [np.ones((1, u), np.float32) for u in units]
    binned = _mean(
        [
            float(unit_metrics(stats, one, protocol.step_seconds)["auroc"][0])
            for (_, stats), one in zip(seeds, once, strict=True)
        ]
    )
    moved = {name: samples[name] for name in values}
    moved["auroc"] = samples["auroc"] + (values["auroc"] - binned)  # bins give the spread alone
    return Judgement(values, by_seed, moved)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def judgement_tree(own: Judgement, without: Judgement | None = None) -> dict[str, Any]:
    """What sweep.json says of a cell: triples by metric, `recall_by_class`, `backdoor_success` (or None).

    without: the same rule on the same seeds without an attack; `lost` then holds what the attack takes,
    paired: above 0 is a loss.
    """
    tree: dict[str, Any] = {name: interval(own.values[name], own.samples[name]) for name in _PLAIN}
    classes = [name for name in own.values if name.startswith("class:")]
    tree["recall_by_class"] = {_class(n): interval(own.values[n], own.samples[n]) for n in classes}
    tree["by_seed"] = {name: [_plain(value) for value in own.by_seed[name]] for name in _PLAIN}
    tree["backdoor_success"] = _success(own)
    if without is not None:
        lost = {name: _difference(without, own, name) for name in _LOST}
        by_class = {_class(name): _difference(without, own, name) for name in classes}
        tree["lost"] = {**lost, "recall_by_class": by_class}
    return tree


def _success(own: Judgement) -> Triple | None:
    """The share of recall that a trigger takes; None where none was shown, or nothing is found anyway."""
    found, left = own.values["recall"], own.values.get("shown|recall")
    if left is None or not found > 0:
        return None
    there = own.samples["recall"]
    share = np.divide(own.samples["shown|recall"], there, out=np.full(len(there), np.nan), where=there > 0)
    return interval(1 - left / found, 1 - share)


def _difference(without: Judgement, own: Judgement, name: str) -> Triple:
    value = without.values[name] - own.values[name]
    return interval(value, without.samples[name] - own.samples[name])


def _class(name: str) -> str:
    return name.removeprefix("class:").removesuffix("|recall")


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None

"""All systems side by side: the tables of metrics.json, margins, and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

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
from lazaretto.evaluate.left_out import (
    LeaveOut,
    LeftOut,
    families_table,
    judge_families,
    judge_sites,
    paired_means,
    recall_gain,
    sites_table,
    taking_part,
)
from lazaretto.evaluate.scored import DEEP, ONLY, OURS, SUPERVISED, TRIGGERED, WITHHELD, Protocol, SeedScores

__all__ = ["MARGIN_METRICS", "judge"]

MARGIN_METRICS = ("accuracy", "f1", "auroc", "auprc")
_Judgements = Mapping[str, Judged]
_AllLeftOut = Mapping[str, LeftOut]


def judge(
    systems: Mapping[str, Sequence[SeedScores]],
    protocol: Protocol,
    *,
    withheld: Sequence[Withheld] = (),
    leave_out: LeaveOut | None = None,
    leave_out_sites: LeaveOut | None = None,
    site_names: Sequence[str] = (),
    ours: str = OURS,
) -> dict[str, Any]:
    """Judge every system and settle the claims.

    systems: name -> one SeedScores per seed; all tested on the same steps in the same order. Holds `ours`.
    withheld: per seed, site -> classes that the site lacked in training; empty where none did.
    leave_out: system -> class number -> SeedScores per seed (often fewer seeds) of models trained
        without that class; its steps are the positives, all normal steps the negatives.
    leave_out_sites: system -> site number -> SeedScores per seed of models trained without that site, tested
        on its units, with thresholds from the others'. site_names: names by site number.
    Returns JSON-clean parts: "test", "baselines", "paired_difference" (of each other system: ours minus it,
    on the same resampled units), "margin_over_best_deep", "comparison" (as in metrics.json) and the bodies of
    the records "curves", "latency" and "reliability", one per system.
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
    left = judge_families(leave_out or {}, protocol)
    away = judge_sites(leave_out_sites or {}, protocol)
    tables = {name: {protocol.setting: table_of(found, protocol.classes)} for name, found in judged.items()}
    for name, families in left.items():
        table = tables.setdefault(name, {protocol.setting: {}})[protocol.setting]
        table |= families_table(families, protocol.classes)
    for name, sites in away.items():
        table = tables.setdefault(name, {protocol.setting: {}})[protocol.setting]
        table |= sites_table(sites, site_names)
        if name in systems:
            given = (leave_out_sites or {})[name]
            table["leave_one_site_out_mean"]["taking_part"] = taking_part(
                systems[name], sites, given, protocol
            )
    deep = {name: validation_values(systems[name], protocol, name) for name in DEEP if name in systems}
    return {
        "test": tables.pop(ours),
        "baselines": tables,
        "paired_difference": {
            name: {metric: _difference(judged[ours], found, metric) for metric in MARGIN_METRICS}
            for name, found in judged.items()
            if name != ours
        },
        "margin_over_best_deep": _margins(judged, deep, ours),
        "comparison": [
            *_claims(judged, protocol, ours),
            *_modality_claims(judged, protocol, ours),
            *_backdoor_claims(judged, ours),
            *_family_claims(left, protocol, ours),
            *_site_claims(away, ours),
            *(_latency_claims(judged, ours) if protocol.timed else ()),
            *_floor_claims(judged, protocol, ours),
        ],
        "curves": [{"system": name, **found.curves} for name, found in judged.items()],
        "latency": [{"system": name, **found.latency} for name, found in judged.items()],
        "reliability": [{"system": name, **found.reliability} for name, found in judged.items()],
    }


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


def _claims(judged: _Judgements, protocol: Protocol, ours: str) -> list[dict[str, Any]]:
    rows = []
    mine = judged[ours]
    of_records = protocol.setting == "record"
    if "pooled" in judged:
        triple = _difference(mine, judged["pooled"], "auroc")
        bound = -0.01 if of_records else -0.005
        rows.append(_row("as good as pooling the data", "auroc", "pooled", triple, ">=", bound))
    if of_records:
        # the best of the deep baselines on the test units, to our disadvantage; a clinical task, untimed,
        # has no stated margin over single sites
        best = _extreme({name: judged[name].values["auroc"] for name in DEEP if name in judged}, max)
        for title, other, bound in (
            ("better than each site alone", "local", 0.01 if protocol.timed else 0.0),
            ("at least the best deep baseline", best, 0.0),
            ("at least boosting", "gradient_boosting", 0.0),
        ):
            if other is not None and other in judged:
                triple = _difference(mine, judged[other], "auroc")
                rows.append(_row(title, "auroc", other, triple, ">=", bound))
    if "local" in judged and "unseen|recall" in mine.values:
        triple = _difference(mine, judged["local"], "unseen|recall")
        rows.append(_row("families a site never had", "unseen_at_site.recall", "local", triple, ">=", 0.10))
    return rows


def _modality_claims(judged: _Judgements, protocol: Protocol, ours: str) -> list[dict[str, Any]]:
    """Both modalities against the better one alone, and with one of them withheld."""
    rows = []
    # the better one on the test units, to our disadvantage
    known = {name: judged[name].values["auroc"] for name in ONLY if name in judged}
    best = _extreme(known, max)
    if best is not None:
        triple = _difference(judged[ours], judged[best], "auroc")
        row = _row("better than the better modality alone, certainly", "auroc", best, triple, ">=", 0.0)
        rows.append(row | {"holds": row["certain"]})  # by more than its interval
        found = max(judged[name].values["recall"] for name in (ours, best)) > 0
        if found:  # where nobody finds anything, neither finds less
            more = _difference(judged[ours], judged[best], "recall")
            rows.append(_row("finds no less than the better modality alone", "recall", best, more, ">=", 0.0))
        if found and protocol.timed:
            later = _difference(judged[ours], judged[best], "latency_steps")
            title = "no later than the better modality alone"
            rows.append(_row(title, "latency_steps", best, later, "<=", 0.0))
    for name, gone in WITHHELD.items():
        for other, modality in ONLY.items():
            if name in judged and other in judged and modality != gone:
                triple = _difference(judged[name], judged[other], "auroc")
                title = f"with the {gone} withheld, as good as the {modality} alone"
                rows.append(_row(title, "auroc", other, triple, ">=", -0.01))
    return rows


def _backdoor_claims(judged: _Judgements, ours: str) -> list[dict[str, Any]]:
    """By what share recall falls once every attacked step shows a trigger: net, at the same threshold."""
    if TRIGGERED not in judged or not judged[ours].values["recall"] > 0:  # nothing found, nothing to lose
        return []
    mine, shown = judged[ours], judged[TRIGGERED]
    some = mine.samples["recall"] > 0
    lost = 1.0 - shown.values["recall"] / mine.values["recall"]
    samples = 1.0 - shown.samples["recall"][some] / mine.samples["recall"][some]
    row = _row("a backdoor does not open", "backdoor_success", TRIGGERED, interval(lost, samples), "<", 0.05)
    return [row]


def _family_claims(left: _AllLeftOut, protocol: Protocol, ours: str) -> list[dict[str, Any]]:
    if ours not in left:
        return []
    # the hardest of the deep baselines, chosen on the test units to our disadvantage
    means = {name: paired_means(left[ours], left[name], "auroc")[1] for name in DEEP if name in left}
    against = [_extreme(means, max), "gradient_boosting" if "gradient_boosting" in left else None]
    titles = ("unknown families, against the best deep baseline", "unknown families, against boosting")
    rows = []
    for title, name in zip(titles, against, strict=True):
        if name is not None:
            own, theirs, samples = paired_means(left[ours], left[name], "auroc")
            triple = interval(own - theirs, samples)
            rows.append(_row(title, "leave_one_family_out.auroc", name, triple, ">=", 0.0))
    if SUPERVISED in left:
        gain = recall_gain(left[ours], left[SUPERVISED])
        metric = "leave_one_family_out_mean.recall"
        rows.append(
            _row("unknown families, by the self-supervised score", metric, SUPERVISED, gain, ">=", 0.10)
        )
        own, theirs, samples = paired_means(left[ours], left[SUPERVISED], "false_positive_rate")
        metric, more = "leave_one_family_out_mean.false_positive_rate", interval(own - theirs, samples)
        bound = 0.1 * protocol.false_positive_rate
        rows.append(_row("at the same false alarms", metric, SUPERVISED, more, "<=", bound))
    return rows


def _site_claims(away: _AllLeftOut, ours: str) -> list[dict[str, Any]]:
    if ours not in away or "pooled" not in away:
        return []
    own, theirs, samples = paired_means(away[ours], away["pooled"], "auroc")
    triple = interval(own - theirs, samples)
    title = "at a site that took no part, as good as pooling"
    return [_row(title, "leave_one_site_out_mean.auroc", "pooled", triple, ">=", -0.005)]


def _latency_claims(judged: _Judgements, ours: str) -> list[dict[str, Any]]:
    rows = []
    for name in DEEP:
        if name in judged:
            triple = _difference(judged[ours], judged[name], "latency_steps")
            rows.append(_row("no later than a deep baseline", "latency_steps", name, triple, "<=", 0.0))
    return rows


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

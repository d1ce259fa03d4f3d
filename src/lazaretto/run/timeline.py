"""One attack step by step, for the report: what a detected campaign looked like to the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lazaretto.data.streams import select
from lazaretto.evaluate.operating import EVERYONE, probability
from lazaretto.evaluate.scored import OURS, Protocol, SeedScores
from lazaretto.evaluate.thresholds import operating_of, thresholds_of
from lazaretto.run.prepare import Prepared
from lazaretto.types import TEST

__all__ = ["disagreement", "timeline"]

_PAIRS = (("traffic_only", "record_only"), ("without_record", "without_traffic"))


def timeline(
    prepared: Prepared, systems: Mapping[str, Sequence[SeedScores]], protocol: Protocol
) -> dict[str, Any] | None:
    """One worked case: of the first seed's detected campaigns, the one of median latency.

    None where steps have no clock, nothing was detected, or each site has its own model.
    """
    late = _latencies(prepared, systems[OURS][0], protocol)
    cases = sorted((steps, row) for row, steps in late.items() if steps is not None)
    if not cases:
        return None
    others = [name for name in ("gradient_boosting",) if name in systems]
    return _case(prepared, systems, protocol, cases[len(cases) // 2][1], others)


def disagreement(
    prepared: Prepared, systems: Mapping[str, Sequence[SeedScores]], protocol: Protocol
) -> dict[str, Any] | None:
    """A worked case where traffic and record disagree: one of them alone raises the alarm, the other never.

    Of the first seed's campaigns of which that is so and that ours detects, the one of ours' median latency.
    Alone is a model of that modality, or where the run has none, ours with the other withheld. None where
    there is no such case.
    """
    pair = next((pair for pair in _PAIRS if set(pair) <= set(systems)), None)
    if pair is None:
        return None
    ours = _latencies(prepared, systems[OURS][0], protocol)
    first, second = (_latencies(prepared, systems[name][0], protocol) for name in pair)
    cases = sorted(
        (steps, row)
        for row, steps in ours.items()
        if steps is not None and (first.get(row) is None) != (second.get(row) is None)
    )
    if not cases:
        return None
    case = _case(prepared, systems, protocol, cases[len(cases) // 2][1], pair)
    return {**case, "case": "disagreement", "of": len(cases), "campaigns": len(ours)}


def _latencies(prepared: Prepared, scores: SeedScores, protocol: Protocol) -> dict[int, int | None]:
    """Row of each attacked test unit -> steps until the first above the threshold, None where there was none.

    Empty where steps have no clock or each site has its own model.
    """
    if scores.validation is None or not protocol.timed or scores.test.threshold_group is not None:
        return {}
    part = select(prepared.data, prepared.data.split == TEST)
    threshold = thresholds_of(scores.test, operating_of(scores, protocol, "timeline"))
    found: dict[int, int | None] = {}
    for row in map(int, np.flatnonzero(((part.y > 0) & part.judged).any(axis=1))):
        attacked = np.flatnonzero((part.y[row] > 0) & part.judged[row])
        alarms = attacked[scores.test.score[row, attacked] > threshold[row]]
        found[row] = int(alarms[0] - attacked[0]) if alarms.size else None
    return found


def _case(
    prepared: Prepared,
    systems: Mapping[str, Sequence[SeedScores]],
    protocol: Protocol,
    row: int,
    others: Sequence[str],
) -> dict[str, Any]:
    """One test unit of the first seed, step by step: ours and `others`."""
    part = select(prepared.data, prepared.data.split == TEST)
    attacked = np.flatnonzero((part.y[row] > 0) & part.judged[row])
    steps = np.flatnonzero(part.judged[row])

    def chances(system: str) -> list[float]:
        theirs = systems[system][0]
        platt = operating_of(theirs, protocol, "timeline").platt[EVERYONE]
        return [float(p) for p in probability(platt, theirs.test.score[row, steps])]

    site = int(part.site[row])
    return {
        "case": "detected",
        "unit": f"unit {int(part.unit[row])}",
        "site": prepared.site_names[site],
        "family": prepared.schema.classes[int(part.y[row, attacked[0]])],
        "onset_step": int(attacked[0]),
        "end_step": int(attacked[-1]),
        "step_seconds": float(prepared.schema.step_seconds),
        "steps": [int(step) for step in steps],
        "truth": [int(part.y[row, step] > 0) for step in steps],
        "score": chances(OURS),
        "threshold": _alarm_chance(systems[OURS][0], protocol, row),
        "others": {name: chances(name) for name in others},
        "other_thresholds": {name: _alarm_chance(systems[name][0], protocol, row) for name in others},
    }


def _alarm_chance(scores: SeedScores, protocol: Protocol, row: int) -> float:
    """The system's alarm threshold for a test unit, as a probability."""
    operating = operating_of(scores, protocol, "timeline")
    threshold = thresholds_of(scores.test, operating)[row : row + 1]
    return float(probability(operating.platt[EVERYONE], threshold)[0])

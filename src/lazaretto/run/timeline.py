"""One attack step by step, for the report: what a detected campaign looked like to the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lazaretto.data.streams import select
from lazaretto.evaluate.operating import EVERYONE, probability
from lazaretto.evaluate.scored import OURS, Protocol, SeedScores
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_points
from lazaretto.run.prepare import Prepared
from lazaretto.types import TEST

__all__ = ["timeline"]


def timeline(
    prepared: Prepared, systems: Mapping[str, Sequence[SeedScores]], protocol: Protocol
) -> dict[str, Any] | None:
    """One worked case: of the first seed's detected campaigns, the one of median latency.

    None where steps have no clock, nothing was detected, or each site has its own threshold.
    """
    part = select(prepared.data, prepared.data.split == TEST)
    scores = systems[OURS][0]
    if scores.validation is None or not protocol.timed or scores.test.threshold_group is not None:
        return None
    operating = operating_points(scores.validation, protocol)
    threshold = operating.thresholds[MAIN_POINT][EVERYONE]
    cases = []
    for row in map(int, np.flatnonzero(((part.y > 0) & part.judged).any(axis=1))):
        attacked = np.flatnonzero((part.y[row] > 0) & part.judged[row])
        alarms = attacked[scores.test.score[row, attacked] > threshold]
        if alarms.size:
            cases.append((int(alarms[0] - attacked[0]), row, attacked))
    if not cases:
        return None
    _, row, attacked = sorted(cases, key=lambda case: case[:2])[len(cases) // 2]
    steps = np.flatnonzero(part.judged[row])

    def chances(system: str) -> list[float]:
        theirs = systems[system][0]
        assert theirs.validation is not None  # noqa: S101
        platt = operating_points(theirs.validation, protocol).platt[EVERYONE]
        return [float(p) for p in probability(platt, theirs.test.score[row, steps])]

    site = int(part.site[row])
    others = [name for name in ("gradient_boosting",) if name in systems]
    return {
        "unit": f"unit {int(part.unit[row])}",
        "site": prepared.site_names[site],
        "family": prepared.schema.classes[int(part.y[row, attacked[0]])],
        "onset_step": int(attacked[0]),
        "end_step": int(attacked[-1]),
        "step_seconds": float(prepared.schema.step_seconds),
        "steps": [int(step) for step in steps],
        "truth": [int(part.y[row, step] > 0) for step in steps],
        "score": chances(OURS),
        "threshold": _alarm_chance(scores, protocol),
        "others": {name: chances(name) for name in others},
        "other_thresholds": {name: _alarm_chance(systems[name][0], protocol) for name in others},
    }


def _alarm_chance(scores: SeedScores, protocol: Protocol) -> float:
    """The system's alarm threshold as a probability."""
    assert scores.validation is not None  # noqa: S101
    operating = operating_points(scores.validation, protocol)
    threshold = operating.thresholds[MAIN_POINT][EVERYONE]
    return float(probability(operating.platt[EVERYONE], np.array([threshold]))[0])

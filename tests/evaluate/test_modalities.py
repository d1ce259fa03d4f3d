"""Both modalities against the better one alone: what is found, and when, paired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.operating import EVERYONE
from lazaretto.evaluate.scored import OURS, Protocol, SeedScores
from lazaretto.evaluate.thresholds import ALARM_POINT, MAIN_POINT, STRICT_POINT, operating_of

_NEVER = {point: {EVERYONE: float("inf")} for point in (MAIN_POINT, STRICT_POINT, ALARM_POINT)}
Systems = Callable[..., list[SeedScores]]


def _rows(found: dict[str, Any], against: str) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in found["comparison"] if row["against"] == against}


@pytest.mark.parametrize(("strength", "holds"), [(3.0, True), (0.5, False)])
def test_found_and_when_beside_the_better_one(
    system: Systems, protocol: Protocol, strength: float, holds: bool
) -> None:
    """Differences are those of the tables, and a claim that does not hold is said not to."""
    systems = {
        OURS: system(strength, 0),
        "traffic_only": system(1.5, 1),
        "record_only": system(0.2, 2),
    }
    found = judge(systems, protocol)
    rows = _rows(found, "traffic_only")
    mine, other = (part["traffic"] for part in (found["test"], found["baselines"]["traffic_only"]))
    for metric in ("auroc", "recall", "latency_steps"):
        difference = mine[metric]["value"] - other[metric]["value"]
        assert rows[metric]["value"] == pytest.approx(difference)
        assert rows[metric]["low"] <= difference <= rows[metric]["high"]
        assert rows[metric]["holds"] is holds
    assert not _rows(found, "record_only")


def test_nothing_is_claimed_where_nobody_finds_anything(system: Systems, protocol: Protocol) -> None:
    """No alarm at all is not "no less than the other", and certainly not a target that was met."""
    silent = {
        name: [
            replace(seed, operating=replace(operating_of(seed, protocol, name), thresholds=_NEVER))
            for seed in system(strength, number)
        ]
        for number, (name, strength) in enumerate(
            {OURS: 2.0, "traffic_only": 1.0, "record_only": 0.2}.items()
        )
    }
    assert set(_rows(judge(silent, protocol), "traffic_only")) == {"auroc"}


def test_nothing_is_said_of_time_without_a_clock(system: Systems, protocol: Protocol) -> None:
    systems = {OURS: system(2.0, 0), "traffic_only": system(1.0, 1), "record_only": system(0.2, 2)}
    rows = _rows(judge(systems, replace(protocol, timed=False)), "traffic_only")
    assert set(rows) == {"auroc", "recall"}

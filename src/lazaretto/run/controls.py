"""What each site keeps for an algorithm, as the coordinator knows it, to be made one by the plan's rule.

SCAFFOLD's sites send how much the gradient that they keep has changed. Weights that a rule found for the
updates protect nothing here: a hostile site may send a good update beside a change of any size. So the
changes of each site are summed to what it keeps now, and the rule, a state of its own, makes one of that:
errors of single rounds do not add up, and who is in quarantine has no say in any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.round import Arrived, aggregate_round
from lazaretto.types import Array, Float, Int, Rule

__all__ = [
    "Controls",
    "agree_controls",
    "controls_arrays",
    "controls_from",
    "controls_start",
    "with_changes",
]


class Controls(NamedTuple):
    """Of S sites, and behind them of the root data where there is some.

    kept: [S or S + 1, d] float32, the sum of what each sent. told: [S] bool, who ever sent something.
    previous: [d] float64, what the rule last made of it. rule: the rule's state.
    """

    kept: Float
    told: NDArray[np.bool_]
    previous: NDArray[np.float64]
    rule: Mapping[str, Array]


def controls_start(rule: Rule, sites: int, rows: int, size: int) -> Controls:
    """Before the first round: all 0, as the sites begin. rows: sites, and one more with root data."""
    nothing = np.zeros((rows, size), np.float32)
    return Controls(nothing, np.zeros(sites, np.bool_), np.zeros(size), rule.start(sites))


def controls_arrays(controls: Controls) -> dict[str, Any]:
    """For a checkpoint."""
    held = {f"controls.{name}": getattr(controls, name) for name in ("kept", "told", "previous")}
    return held | {f"controls.rule.{name}": value for name, value in controls.rule.items()}


def controls_from(fresh: Controls, arrays: Mapping[str, Any]) -> Controls:
    """From a checkpoint."""
    held = {name: arrays[f"controls.{name}"] for name in ("kept", "told", "previous")}
    return Controls(**held, rule={name: arrays[f"controls.rule.{name}"] for name in fresh.rule})


def with_changes(controls: Controls, changes: Float, sites: Int, root: Float | None) -> Controls:
    """With finite changes [n, d] of sites [n]. root: [d] that of the root data; left out if not finite."""
    kept, told = controls.kept.copy(), controls.told.copy()
    kept[sites] += changes
    told[sites] = True
    if root is not None and np.isfinite(root).all():
        kept[-1] += root
    return controls._replace(kept=kept, told=told)


def agree_controls(
    rule: Rule, controls: Controls, trusted: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Controls, int]:
    """What the rule makes of all that was told, in `previous`, and of how many sites.

    trusted: [S] in [0, 1], 0 for who has no say. Of 0 sites where nobody has one: all is then as it was.
    """
    sites = np.flatnonzero(controls.told & (trusted > 0))
    if not sites.size:
        return controls, 0
    rows = controls.kept[sites]
    public = {"previous": controls.previous, "root": controls.kept[-1]}
    arrived = Arrived(rows, trusted[sites], sites, rows.astype(np.float64) if rule.history else None)
    found = aggregate_round(rule, arrived, public, controls.rule, rng)
    if found.update is None:
        return controls, 0
    return controls._replace(previous=found.update, rule=found.state), len(sites)

"""Whether a run would have the data: what it refuses is known before it begins."""

from __future__ import annotations

from lazaretto.data.leaks import leak_notes
from lazaretto.plan import Plan
from lazaretto.run.prepare import deal, split_table
from lazaretto.types import Table

__all__ = ["check_admitted"]


def check_admitted(plan: Plan, table: Table, seed: int, *, at_sites: bool) -> None:
    """Split a table, loaded for this seed, as a run does; with `at_sites` deal it to the plan's sites.

    Raises DataError where a run would: a class that is missing, too few units, no normal step in a split,
    features that may give the label away where the plan refuses those.
    """
    split = split_table(plan, table, seed)
    if plan.data.leaks == "refuse":
        leak_notes(split, refuse=True)
    if at_sites:
        deal(plan, split, seed)

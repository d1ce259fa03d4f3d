"""The table that a plan's source gives."""

from __future__ import annotations

from pathlib import Path

from lazaretto import catalog
from lazaretto.data.dropped import load_without
from lazaretto.errors import DataError
from lazaretto.plan import Plan
from lazaretto.types import Source, Table

__all__ = ["load_table"]


def load_table(plan: Plan, seed: int) -> tuple[Source, Table]:
    """The source's table, without the features that the plan drops.

    Raises DataError where a path is needed and none was given, and what `load_without` raises.
    """
    source: Source = catalog.build("sources", plan.data.source, plan.data.options)
    if source.needs_path and plan.data.path is None:
        raise DataError(
            f"source '{source.name}' reads files, and no path was given",
            way_out="give --data PATH, or set data.path in the plan",
        )
    path = None if plan.data.path is None else Path(plan.data.path)
    return load_without(source, path, seed, plan.data.drop)

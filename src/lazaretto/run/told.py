"""What a data sheet may tell of units whose privacy is counted: sizes, and what was known before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazaretto import catalog
from lazaretto.data.consortium import UNREAD
from lazaretto.data.dropped import BY_PLAN
from lazaretto.plan import Plan
from lazaretto.types import Source

__all__ = ["sheet_told"]

_SIZES = ("units", "windows")
_PLAIN = ("units", "steps")
_LEFT_OUT = (
    "Left out, as this run promises privacy: what training and validation units hold (attacked steps, "
    "families by site), figures of loading, and findings on features. Whoever holds the data sees them with "
    "`lazaretto data check`."
)


def sheet_told(plan: Plan, sheet: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the record `data` as the log may hold it; as it is where the plan has no mechanism.

    With one only sizes stay, which every price takes for public, and what source and plan say without looking
    at the data; of test units also what they hold, as exact figures of them are published anyway.
    """
    if plan.privacy.mechanism == "none":
        return dict(sheet)
    splits = {
        name: part if name == "test" else {key: part[key] if key in _PLAIN else None for key in part}
        for name, part in sheet["splits"].items()
    }
    made_up = list(sheet["notes"]) if plan.data.path is None else []  # of code, and nobody's data
    planned = [f"Attacked on purpose: {', '.join(sheet['attack']['sites'])}."] if "attack" in sheet else []
    known: Source = catalog.build("sources", plan.data.source, plan.data.options)
    return {
        **sheet,
        "leaks_dropped": {**known.leaks, **dict.fromkeys(plan.data.drop, BY_PLAN)},  # not as the files spell
        "counts": {name: value for name, value in sheet["counts"].items() if name in _SIZES},
        "splits": splits,
        "sites": [{**site, "families": None} for site in sheet["sites"]],
        "notes": [_LEFT_OUT, *(made_up or planned)],
        "warnings": [said for said in sheet["warnings"] if said == UNREAD],  # the others tell of the data
    }

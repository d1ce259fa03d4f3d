"""What a log may hold of data whose privacy is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import catalog
from lazaretto.data.consortium import UNREAD
from lazaretto.data.streams import streams
from lazaretto.plan import load_plan
from lazaretto.run.sheet import judged_sites, split_counts
from lazaretto.run.told import sheet_told

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _sheet() -> dict[str, Any]:
    part = {"units": 3, "steps": 30, "attacked_units": 2, "attacked_steps": 4, "families": {"scan": 2}}
    return {
        "counts": {"units": 9, "rows_read": 5},
        "splits": {"train": part, "test": part},
        "sites": [{"name": "a", "families": {"scan": 1}}],
        "leaks_dropped": {"Src Addr, as this hospital spells it": "an address"},
        "notes": ["36 units of 3 hosts."],
        "warnings": ["36 units of 3 hosts.", UNREAD],
    }


def test_warnings_that_tell_of_protected_units_are_withheld(tmp_path: Path) -> None:
    (tmp_path / "unread.csv").touch()  # an empty folder is refused
    given = {"data.path": str(tmp_path), "data.drop": ["flows"]}
    told = sheet_told(load_plan(EXAMPLES / "private.toml", overrides=given), _sheet())
    assert told["leaks_dropped"]["flows"] == "dropped by the plan"
    assert told["warnings"] == [UNREAD], "only what code says without looking at the data"
    assert "36 units" not in str(told)
    assert "as this hospital spells it" not in str(told)
    withheld = dict.fromkeys(("attacked_units", "attacked_steps", "families"))
    assert told["splits"] == {
        "train": {"units": 3, "steps": 30} | withheld,
        "test": _sheet()["splits"]["test"],
    }


def test_without_a_promise_all_is_told() -> None:
    assert sheet_told(load_plan(EXAMPLES / "consortium.toml"), _sheet()) == _sheet()


def test_units_count_with_every_family_that_they_carry() -> None:
    table = catalog.build("sources", "consortium", {}).sample()
    kinds = table.schema.classes
    data = streams(table, "traffic")
    y, judged = np.zeros_like(data.y), np.ones_like(data.judged)
    y[0, 0], y[0, 1], y[1, 0], y[2, 0] = 1, 2, 1, 2
    judged[2] = False
    unit = np.arange(len(data.unit))
    unit[1] = unit[0]  # two streams of one unit
    found = split_counts(replace(data, y=y, judged=judged, unit=unit), kinds)
    assert found == {
        "units": len(unit) - 1,
        "steps": int(judged.sum()),
        "attacked_units": 1,
        "attacked_steps": 3,
        "families": {**dict.fromkeys(kinds[1:], 0), kinds[1]: 1, kinds[2]: 1},
    }


def test_sites_that_are_judged_are_those_of_the_source() -> None:
    table = catalog.build("sources", "consortium", {}).sample()
    data = streams(table, "traffic")
    few = replace(data, site=np.arange(len(data.site)) % 2 - 1)
    rows = judged_sites(few, ["north"], table.schema.classes)
    assert [row["name"] for row in rows] == ["without a site", "north"]
    assert sum(row["test_units"] for row in rows) == len(data.unit)
    (row,) = judged_sites(replace(data, site=np.full(len(data.site), -1)), [], table.schema.classes)
    assert row["name"] == "all"

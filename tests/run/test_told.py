"""What a log may hold of data whose privacy is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lazaretto.data.consortium import UNREAD
from lazaretto.plan import load_plan
from lazaretto.run.told import sheet_told

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _sheet() -> dict[str, Any]:
    part = {"units": 3, "steps": 30, "attacked_steps": 4}
    return {
        "counts": {"units": 9, "rows_read": 5},
        "splits": {"train": part, "test": part},
        "sites": [{"name": "a", "families": {"scan": 1}}],
        "leaks_dropped": {"Src Addr, as this hospital spells it": "an address"},
        "notes": ["36 units of 3 hosts."],
        "warnings": ["36 units of 3 hosts.", UNREAD],
    }


def test_warnings_that_tell_of_protected_units_are_withheld(tmp_path: Path) -> None:
    given = {"data.path": str(tmp_path), "data.drop": ["flows"]}
    told = sheet_told(load_plan(EXAMPLES / "private.toml", overrides=given), _sheet())
    assert told["leaks_dropped"]["flows"] == "dropped by the plan"
    assert told["warnings"] == [UNREAD], "only what code says without looking at the data"
    assert "36 units" not in str(told)
    assert "as this hospital spells it" not in str(told)


def test_without_a_promise_all_is_told() -> None:
    assert sheet_told(load_plan(EXAMPLES / "consortium.toml"), _sheet()) == _sheet()

"""What a report calls our system where nothing is split."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lazaretto.report.page import render
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]


def test_a_plan_without_a_cut_has_no_federated_split(entries: Entries, chain: Chain, whole: str) -> None:
    run = dict(entries)["run"]
    run["plan"]["cut"] = {"enabled": False}
    run["plan_toml"] = "[tuned]\n# federated split\n"
    page = render(chain(entries))
    literal = re.findall("<pre.*?</pre>", page, re.DOTALL)
    assert any("# federated split" in text for text in literal), "the plan stands as it was written"
    for text in literal:
        page = page.replace(text, "")
    assert not re.search("federated split", page, re.IGNORECASE)
    named = len(re.findall("federated model", page, re.IGNORECASE))
    assert named == len(re.findall("federated split", whole, re.IGNORECASE))
    run["plan"]["cut"] = {"enabled": True}
    assert "federated model" not in render(chain(entries))

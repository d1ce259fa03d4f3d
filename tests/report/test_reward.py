"""The report's table of rewards, from invented records."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.blocks import Block, Grid, Text
from lazaretto.report.page import render
from lazaretto.report.reading import read_log
from lazaretto.report.reward import rewards
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]


def site(
    name: str, trust: float, steps: int, share: float, out: bool = False, judged: int = 9
) -> dict[str, Any]:
    return {
        "name": name,
        "trust": trust,
        "quarantined": out,
        "rounds_judged": judged,
        "train_steps": steps,
        "share": share,
    }


def logged(*attacked: str) -> Entries:
    """Two seeds: in the first all of Harbour's share is gone, in the second Hill clinic's."""
    first = [
        site("Harbour", 0.04, 3000, 0.0, out=True),
        site("Hill clinic", 0.5, 2000, 0.2),
        site("Valley", 1.0, 4000, 0.8),
        site("Islands", 1.0, 1000, 0.0, judged=0),
    ]
    second = [site("Harbour", 0.5, 2000, 0.1), site("Hill clinic", 0.1, 2000, 0.0, out=True)]
    second += [site("Valley", 1.0, 9000, 0.9)]
    sheets: Entries = [
        ("data", {"seed": seed} | ({"attack": {"name": "foe", "sites": list(attacked)}} if attacked else {}))
        for seed in (0, 1)
    ]
    more: Entries = [
        ("reward", {"seed": seed, "system": "federated split", "rounds": 9, "sites": sites})
        for seed, sites in ((0, first), (1, second))
    ]
    return [*sheets, *more]


def made(entries: Entries, chain: Chain) -> list[Block]:
    return rewards(read_log(chain(entries)))


def test_a_row_for_each_site_the_largest_share_first(chain: Chain) -> None:
    (grid,) = made(logged(), chain)
    assert isinstance(grid, Grid)
    assert [column.title for column in grid.columns] == ["Share", "Trust", "Training steps"]
    assert [(row.head, *(cell.text.replace("\u202f", " ") for cell in row.cells)) for row in grid.rows] == [
        ("Valley", "80.0 %", "1.00", "4 000"),
        ("Hill clinic", "20.0 %", "0.50", "2 000"),
        ("Harbour", "0 %", "0.04", "3 000"),
        ("Islands", "0 %", "1.00", "1 000"),
    ]
    assert [row.cells[1].under for row in grid.rows] == ["", "", "in quarantine", "never judged"]
    assert grid.mark == "stays", "single sites are not to be published"
    assert "seed 0" in grid.caption
    assert "It is no payment" in grid.note
    assert "steps are what sites say" in grid.note
    assert "other seeds are in the run log" in grid.note


def test_what_hostile_sites_would_get_is_told_of_all_seeds(chain: Chain) -> None:
    text, grid = made(logged("Harbour", "Islands"), chain)
    assert isinstance(text, Text)
    assert isinstance(grid, Grid)
    said = text.text.replace("\u202f", " ")
    # (0 + .1) / 2 of the reward; (4000 / 10000 + 2000 / 13000) / 2 of the steps
    assert "get 5.0 % of it, and hold 27.7 % of the training steps (mean of seeds 0, 1)." in said
    assert [row.cells[-1].text for row in grid.rows] == ["honest", "honest", "hostile", "hostile"]
    assert [row.cells[0].tone for row in grid.rows] == [""] * 4
    _, wronged = made(logged("Valley"), chain)
    assert isinstance(wronged, Grid)
    assert [row.cells[0].tone for row in wronged.rows] == ["", "", "no", ""], "an honest site that is out"


def test_other_systems_and_old_logs_have_none(entries: Entries, chain: Chain) -> None:
    other = [(kind, body | {"system": "federated unsplit"}) for kind, body in logged()]
    assert made(other, chain) == []
    assert made(entries, chain) == []


@pytest.mark.parametrize("spoiled", [None, 3, [], "text", [None], [{"share": "all", "trust": []}], {"a": []}])
def test_wrong_values_leave_a_page(entries: Entries, chain: Chain, spoiled: Any) -> None:
    found = copy.deepcopy(entries)
    for kind, body in found:
        if kind == "data":
            body["seed"] = 0
        if kind == "round":
            body["trust"] = {"Harbour": 0.5}
    page = render(chain([*found[:-1], ("reward", {"seed": 0, "sites": spoiled}), found[-1]]))
    assert 'id="hostile"' in page

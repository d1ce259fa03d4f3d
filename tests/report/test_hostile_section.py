"""The report's section on hostile sites, from invented rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.blocks import Grid, Picture, Section, Text
from lazaretto.report.page import render
from lazaretto.report.reading import read_log
from lazaretto.report.sections_hostile import _flagged, _Site, hostile_sites
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]


def attacked(entries: Entries) -> Entries:
    """Harbour is hostile: flagged from round 3, out from 12; Hill clinic is out in rounds 20 and 21."""
    found: Entries = []
    for kind, body in entries:
        body = dict(body)
        if kind == "data":
            body["seed"] = 0
            body["attack"] = {"name": "sign_flip", "options": {}, "sites": ["Harbour"]}
        if kind == "round" and body["seed"] == 0:
            step = body["round"]
            body["flags"] = (
                [{"site": "Harbour", "kind": "against", "reason": "points against the others"}]
                if step > 2
                else []
            )
            body["quarantined"] = (["Harbour"] if step > 11 else []) + (
                ["Hill clinic"] if step in (20, 21) else []
            )
            sites = {site["name"]: 1.0 for site in body["sites"]}
            body["trust"] = sites | {"Harbour": 0.8**step}
        found.append((kind, body))
    return found


def section(entries: Entries, chain: Chain) -> Section | None:
    return hostile_sites(read_log(chain(entries)))


def test_an_ordinary_run_has_none(entries: Entries, chain: Chain) -> None:
    assert section(entries, chain) is None


def test_a_site_counts_with_every_seed_and_that_is_said() -> None:
    flagged, calm = _Site(False, flagged=[4.0]), _Site(False)
    assert _flagged("", [flagged, calm], 1) == "1 of 2 sites was flagged, first in round 4."
    assert (
        _flagged("", [flagged, *[calm] * 23], 2) == "1 of 12 sites × 2 seeds was flagged, first in round 4."
    )
    assert _flagged("honest ", [calm] * 3, 2) == "0 of 3 honest sites of 2 seeds together were flagged."


@pytest.mark.parametrize("kind", ["update", "scores"])
def test_flags_under_lies_about_scores_are_called_chance(kind: str, entries: Entries, chain: Chain) -> None:
    found = attacked(entries)
    next(body for name, body in found if name == "data")["attack"]["kind"] = kind
    made = section(found, chain)
    assert made is not None
    (text,) = (block for block in made.blocks if isinstance(block, Text))
    assert ("flags of any site are chance" in text.text) == (kind == "scores")


def test_who_was_hostile_flagged_and_out(entries: Entries, chain: Chain) -> None:
    found = section(attacked(entries), chain)
    assert found is not None
    (text,) = (block for block in found.blocks if isinstance(block, Text))
    assert "1 of 8 sites was hostile on purpose (sign flip)" in text.text
    assert "1 of 1 hostile site was flagged, first in round 3." in text.text
    assert "1 of 1 hostile site was quarantined, the last first in round 12." in text.text
    assert "No honest site spent more than 2 rounds in quarantine." in text.text
    (grid,) = (block for block in found.blocks if isinstance(block, Grid))
    assert [row.head for row in grid.rows] == ["Harbour", "Hill clinic"]
    hostile, honest = ([cell.text for cell in row.cells] for row in grid.rows)
    assert hostile == ["hostile", "3", "points against the others", "12", "<0.01"]
    assert honest == ["honest", "never", "n/a", "20", "1.00"]
    assert grid.rows[1].cells[3].under == "2 rounds"
    (figure,) = (block for block in found.blocks if isinstance(block, Picture))
    assert figure.mark == grid.mark == "stays", "single sites are not to be published"
    assert "Harbour" in figure.finding


def test_without_reputation_nobody_is_said_to_be_out(entries: Entries, chain: Chain) -> None:
    made = attacked(entries)
    for _, body in made:
        body.pop("trust", None)
        body.pop("quarantined", None)
    found = section(made, chain)
    assert found is not None
    assert "No reputation was kept" in next(b.text for b in found.blocks if isinstance(b, Text))
    assert not any(isinstance(block, Picture) for block in found.blocks)


@pytest.mark.parametrize("spoiled", [None, 3, [], "text", [None], {"a": []}])
def test_wrong_values_leave_a_page(entries: Entries, chain: Chain, spoiled: Any) -> None:
    made = attacked(entries)
    for kind, body in made:
        if kind == "round":
            body |= {"flags": spoiled, "trust": spoiled, "quarantined": spoiled}
    section(made, chain)


def test_it_stands_on_the_page(entries: Entries, chain: Chain) -> None:
    assert 'id="hostile"' in render(chain(attacked(entries)))

"""Recall by family over how many sites are hostile, from invented figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.blocks import Grid, Picture
from lazaretto.report.figures_robustness import SharePanel, share_panels
from lazaretto.report.formats import Triple
from lazaretto.report.reading import read_log
from lazaretto.report.robustness_classes import classes_over_shares
from lazaretto.report.robustness_page import robustness_sections
from lazaretto.report.robustness_reading import Found
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]
HONEST = {"scan": 0.9, "slow_flood": 0.8}


def around(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def cell(lost: dict[str, float] | None) -> dict[str, Any]:
    gone = lost or {}
    body: dict[str, Any] = {
        "recall_by_class": {name: around(value - gone.get(name, 0.0)) for name, value in HONEST.items()},
        "seeds": [3, 4],
    }
    return (
        body
        if lost is None
        else body | {"lost": {"recall_by_class": {k: around(v) for k, v in lost.items()}}}
    )


def tree() -> dict[str, Any]:
    """The mean loses all of scan at once; krum little at 2 of 10 sites, and of slow_flood most at 4."""
    return {
        "mean": {
            "none": {"0": cell(None)},
            "foe": {
                "0.2": cell({"scan": 0.5, "slow_flood": 0.1}),
                "0.4": cell({"scan": 0.9, "slow_flood": 0.2}),
            },
        },
        "krum": {
            "none": {"0": cell(None)},
            "alie": {
                "0.2": cell({"scan": 0.03, "slow_flood": 0.01}),
                "0.4": cell({"scan": 0.1, "slow_flood": 0.3}),
            },
        },
    }


def found(made: dict[str, Any], own: str = "krum") -> Found:
    return Found(
        rules=("mean", "krum"),
        attacks=("alie", "foe"),
        shares=(0.2, 0.4),
        share=0.2,
        own=own,
        tree=made,
        worst={"mean": "foe", "krum": "alie"},
        sites=10,
        hostile={0.0: 0, 0.2: 2, 0.4: 4},
    )


def test_each_family_of_the_plans_rule_has_a_panel() -> None:
    picture, _ = classes_over_shares(found(tree()))
    assert isinstance(picture, Picture)
    assert picture.title == "Recall by family over the number of hostile sites, of 10"
    assert picture.finding == "With 4 of 10 sites hostile recall of slow flood falls most, from 0.80 to 0.50."
    assert (
        "krum under its own worst attack, alie; mean over seeds 3, 4, with 95 % intervals" in picture.caption
    )
    assert "Dashed: plain mean under its own worst attack" in picture.caption
    for markup in (picture.wide, picture.narrow):
        texts = re.findall(r">([^<>]+)</text>", str(markup))
        assert {"scan", "0.90 to 0.80", "slow flood", "0.80 to 0.50"} <= set(texts)
        assert texts.count("2") == texts.count("4") == 2, "a tick for each number in each panel"
        assert re.findall(r'font-weight="[^"]+"[^>]*>(scan|slow flood)<', str(markup)) == ["slow flood"]


def test_each_rule_names_the_family_that_lost_most_at_each_share() -> None:
    _, grid = classes_over_shares(found(tree()))
    assert isinstance(grid, Grid)
    assert [column.title for column in grid.columns] == ["2 of 10 sites", "4 of 10 sites"]
    said = {(row.head, row.note): [(c.text, c.under, c.tone) for c in row.cells] for row in grid.rows}
    assert said == {
        ("mean", "foe"): [("0.50", "scan", "no"), ("0.90", "scan", "no")],
        ("krum", "alie"): [("0.03", "scan", ""), ("0.30", "slow flood", "no")],
    }
    assert [row.ours for row in grid.rows] == [False, True]
    assert "seeds 3, 4" in grid.note
    assert "larger by chance" in grid.note


def test_what_falls_nowhere_is_not_said_to_fall() -> None:
    made = tree()
    made["krum"]["alie"]["0.4"] = cell({"scan": 0.0, "slow_flood": -0.1})
    picture, _ = classes_over_shares(found(made))
    assert isinstance(picture, Picture)
    assert picture.finding.endswith("recall falls by .005 or more in no family.")


def test_a_rule_that_was_not_tried_has_no_figure() -> None:
    (grid,) = classes_over_shares(found(tree(), own="flame"))
    assert isinstance(grid, Grid)


@pytest.mark.parametrize(
    "spoiled", [None, 3, [], "text", {}, {"recall_by_class": 3}, {"recall_by_class": {}}]
)
def test_missing_figures_leave_blocks(spoiled: Any) -> None:
    made = tree()
    made["krum"]["alie"]["0.4"] = spoiled
    picture, grid = classes_over_shares(found(made))
    assert isinstance(picture, Picture)
    assert isinstance(grid, Grid)
    assert picture.finding == "With 4 of 10 sites hostile recall by family was not measured."
    assert [cell.text for cell in grid.rows[1].cells] == ["0.03", "n/a"]
    made = {rule: dict.fromkeys(attacks, spoiled) for rule, attacks in made.items()}
    assert classes_over_shares(found(made)) == []


def test_they_stand_in_the_section_on_families(chain: Chain) -> None:
    about = {"rules": ["mean", "krum"], "attacks": ["foe", "alie"], "shares": [0.2, 0.4], "screen_share": 0.2}
    log = read_log(
        chain(
            [
                ("sweep", about | {"own_rule": "krum", "seeds": [3, 4]}),
                ("worst", {"worst": {"mean": "foe", "krum": "alie"}}),
                ("robustness", {"tree": tree()}),
            ]
        )
    )
    (section,) = (one for one in robustness_sections(log) if one.name == "classes")
    titles = [block.title for block in section.blocks if isinstance(block, Picture)]
    assert titles == ["Recall by family over the share of hostile sites, in percent"]
    assert len(section.blocks) == 3


@pytest.mark.parametrize(("mean", "told"), [((None, None), False), ((Triple(0.8), None), True)])
def test_a_legend_names_only_what_is_drawn(mean: tuple[Triple | None, ...], told: bool) -> None:
    panel = SharePanel(name="krum", about="", values=(Triple(0.9), Triple(0.7)))
    figure = share_panels([panel], (0, 3), ("plain mean", mean), "AUROC", wide=True)
    assert any("dashed" in text.get_text() for text in figure.texts) == told

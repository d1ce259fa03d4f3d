"""What the sections of the protocol say: thresholds, strength, sites left out, calibration, cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.blocks import STAYS, Grid, Picture, Section, Text
from lazaretto.report.page import render
from lazaretto.report.reading import Log, read_log
from lazaretto.report.sections_attack import attack
from lazaretto.report.sections_cost import cost
from lazaretto.report.sections_detail import by_family, delays
from lazaretto.report.sections_left_out import by_intensity, sites_left_out
from lazaretto.report.sections_modalities import modalities
from lazaretto.report.sections_operating import calibration, operating_points
from lazaretto.report.sections_results import baselines, summary
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Read = Callable[[], Log]
SPACE = "\u202f"


@pytest.fixture
def metrics(entries: Entries) -> dict[str, Any]:
    return next(body for kind, body in entries if kind == "metrics")


@pytest.fixture
def read(entries: Entries, chain: Callable[[Entries], list[Record]]) -> Read:
    return lambda: read_log(chain(entries))


def grids(section: Section) -> list[Grid]:
    return [block for block in section.blocks if isinstance(block, Grid)]


def said(section: Section) -> str:
    texts = [block.text for block in section.blocks if isinstance(block, Text)]
    texts += [f"{block.finding} {block.caption}" for block in section.blocks if isinstance(block, Picture)]
    return " ".join([*texts, *(grid.note for grid in grids(section))])


def test_every_system_stands_at_every_threshold(read: Read, metrics: dict[str, Any]) -> None:
    section = operating_points(read())
    (grid,) = grids(section)
    systems = 1 + len(metrics["baselines"])
    assert [row.group for row in grid.rows if row.group] == [
        f"Threshold for 1{SPACE}% of normal steps",
        f"Threshold for 0.1{SPACE}% of normal steps",
        "Threshold for one false alarm per device-day",
    ]
    assert len(grid.rows) == 3 * systems
    assert sum(row.ours for row in grid.rows) == 3
    assert {column.title for column in grid.columns} >= {"Accuracy", "F1", "Recall", "False positives"}
    assert "once 3 of the last 5 steps" in grid.note


@pytest.mark.parametrize("how", ["sum", "median", "own"])
def test_thresholds_of_a_vote_are_called_so(how: str, read: Read, entries: Entries) -> None:
    run = next(body for kind, body in entries if kind == "run")
    run["plan"].setdefault("evaluate", {})["thresholds"] = how
    text = said(operating_points(read()))
    assert ("median of the sites' own" in text) == (how == "median")
    assert ("goes by a threshold of its own" in text) == (how == "own")


def test_strengths_come_in_their_order_and_in_words(read: Read, entries: Entries) -> None:
    section = by_intensity(read())
    shares = ["under 2", f"2{SPACE}% to 5", f"5{SPACE}% to 25", f"25{SPACE}% and more"]
    for grid, names in zip(
        grids(section),
        ([row.head for row in grids(section)[0].rows], [c.title for c in grids(section)[1].columns]),
        strict=True,
    ):
        assert [name.removesuffix(f"{SPACE}%") for name in names[:4]] == shares, grid.caption
    assert "share of packets" in said(section)
    next(body for kind, body in entries if kind == "data")["intensity"] = "factor"
    assert [row.head for row in grids(by_intensity(read()))[0].rows][1] == "0.02 to 0.05"


def test_sources_without_strength_say_so(read: Read, entries: Entries, metrics: dict[str, Any]) -> None:
    next(body for kind, body in entries if kind == "data")["intensity"] = ""
    del metrics["test"]["traffic"]["recall_by_intensity"]
    assert "does not say how strong" in said(by_intensity(read()))


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        ({"value": 0.02, "low": 0.01, "high": 0.03}, "0.020 more"),
        ({"value": -0.02, "low": -0.03, "high": -0.01}, "0.020 less"),
        ({"value": 0.02, "low": -0.01, "high": 0.03}, "No gain of taking part can be shown"),
    ],
)
def test_a_gain_of_taking_part_is_claimed_only_with_its_interval(
    read: Read, metrics: dict[str, Any], gain: dict[str, float], says: str
) -> None:
    metrics["test"]["traffic"]["leave_one_site_out_mean"]["taking_part"]["auroc"] = gain
    assert says in said(sites_left_out(read()))


def test_what_rests_on_one_or_two_sites_stays_there(read: Read, metrics: dict[str, Any]) -> None:
    assert grids(sites_left_out(read()))[0].mark != STAYS
    sites = metrics["test"]["traffic"]["leave_one_site_out"]
    metrics["test"]["traffic"]["leave_one_site_out"] = dict(list(sites.items())[:2])
    section = sites_left_out(read())
    assert all(block.mark == STAYS for block in section.blocks if isinstance(block, Grid | Picture))
    del metrics["test"]["traffic"]["leave_one_site_out"]
    assert "lazaretto run --full" in said(sites_left_out(read()))


def test_the_method_of_calibration_is_named_with_both_errors(
    read: Read, entries: Entries, metrics: dict[str, Any]
) -> None:
    metrics["test"]["traffic"] |= {"calibration_error": 0.0206, "calibration_error_before": 0.103}
    section = calibration(read())
    assert "by Platt scaling" in said(section)
    assert "off by 0.021 on average, before calibration by 0.103" in said(section)
    row = next(row for row in grids(section)[0].rows if row.ours)
    assert [cell.text for cell in row.cells] == ["0.103", "0.021", "\u22120.082"]
    picture = next(block for block in section.blocks if isinstance(block, Picture))
    assert "before calibration" in picture.wide
    for kind, body in entries:
        if kind == "reliability":
            body["method"] = "none"
    picture = next(block for block in calibration(read()).blocks if isinstance(block, Picture))
    assert "before calibration" not in picture.wide


def test_cost_is_compared_with_pooled_training(read: Read) -> None:
    section = cost(read())
    (grid,) = grids(section)
    assert [row.head for row in grid.rows] == ["federated split", "pooled", "local only", "gradient boosting"]
    ours = grid.rows[0]
    assert [re.sub(SPACE, " ", cell.text) for cell in ours.cells] == [
        "61.2 s",
        "2.71 TFLOP",
        "61.4 MB",
        "20.5 MB",
        "207 MB",
    ]
    assert [cell.under for cell in ours.cells] == [
        "2.86 times pooled",
        "1.12 times pooled",
        "13 times pooled",
        "16 times pooled",
        "",
    ]
    assert grid.rows[3].cells[1].text == "n/a"
    assert "1.12 times the operations" in said(section)


def _combined(entries: Entries, metrics: dict[str, Any]) -> None:
    """The log as if it were of both modalities."""
    for kind, body in entries:
        if kind == "data":
            body["modality"] = "combined"
    for name, like in (("traffic_only", "gru"), ("without_record", "cnn")):
        metrics["baselines"][name] = metrics["baselines"][like]
    entries.append(
        (
            "found again",
            {
                "units": 40,
                "repeats": 20,
                "chance": {"1": 0.025, "5": 0.125, "10": 0.25},
                "cut": {"1": 0.5, "5": 0.7, "10": 0.9},
                "fusion": {"1": 0.25, "5": 0.6, "10": 0.8},
            },
        )
    )


def test_one_modality_has_no_section(read: Read) -> None:
    assert modalities(read()) is None


def test_modalities_stand_side_by_side(read: Read, entries: Entries, metrics: dict[str, Any]) -> None:
    _combined(entries, metrics)
    section = modalities(read())
    assert section is not None
    together, by_family, again = grids(section)
    assert [row.head for row in together.rows] == ["both", "on traffic alone", "records withheld"]
    assert [row.ours for row in together.rows] == [True, False, False]
    assert {"AUROC", "Latency"} <= {column.title for column in together.columns}
    assert [column.title for column in by_family.columns] == [row.head for row in together.rows]
    assert "man in the middle" in {row.head for row in by_family.rows}
    assert [column.title for column in again.columns] == ["recall@1", "recall@5", "recall@10"]
    assert [cell.text for cell in again.rows[0].cells] == ["0.500", "0.700", "0.900"]
    assert again.rows[-1].head == "by chance"
    assert "some 40 test units" in said(section)


def test_a_log_that_lacks_what_was_judged_says_so(read: Read, entries: Entries) -> None:
    for kind, body in entries:
        if kind == "data":
            body["modality"] = "combined"
    section = modalities(read())
    assert section is not None
    assert "alone or withheld" in said(section)


def _card(log: Log, name: str) -> Any:
    return next(card for card in summary(log).cards if card.name == name)


def test_cards_give_no_delay_where_nothing_was_found_and_no_rate_from_hours(
    entries: Entries, chain: Callable[[Entries], list[Record]]
) -> None:
    def card(name: str) -> Any:
        return _card(read_log(chain(entries)), name)

    late = next(body for kind, body in entries if kind == "latency" and body["system"] == "federated split")
    late["steps"], late["campaigns"] = [1, 2, 3], 7
    assert "4 of 7 attacks missed" in card("Latency").about
    late["steps"] = []
    found = card("Latency")
    assert (found.value, found.interval, found.about) == (
        "n/a",
        "",
        "none of 7 attacks has a step above the threshold",
    )
    sheet = next(body for kind, body in entries if kind == "data")
    sheet["step_seconds"] = 60.0
    sheet["splits"]["test"] = {"units": 5, "steps": 1440, "attacked_steps": 1220}
    found = card("False alarms")
    assert (found.value, found.interval) == ("n/a", "")
    assert found.about == "per device and day; 0.15 device-days watched, too few to tell"


def test_tables_give_no_delay_and_no_rate_where_the_cards_beside_them_give_none(
    read: Read, entries: Entries, metrics: dict[str, Any]
) -> None:
    def column(title: str) -> dict[str, str]:
        (grid,) = (grid for grid in grids(baselines(read())) if grid.caption.startswith("Every metric"))
        titles = [column.title for column in grid.columns]
        place = titles.index(title) if title in titles else None
        return {} if place is None else {row.head: row.cells[place].text for row in grid.rows}

    metrics["comparison"] = [row for row in metrics["comparison"] if row["metric"] == "latency_steps"][:1]
    assert [name for name, text in column("Latency").items() if text == "n/a"] == ["autoencoder"]  # recall 0
    assert column("False alarms")
    for name, body in {"ours": metrics["test"], **metrics["baselines"]}.items():
        if name in ("ours", "gru"):
            body["traffic"] |= {"missed": {"value": 1.0, "low": 1.0, "high": 1.0}}
            body["traffic"]["operating_points"]["false_positive_rate_0.001"]["recall"]["value"] = 0.0
    for body in (body for kind, body in entries if kind == "latency"):
        body["steps"] = [] if body["system"].lower() in ("federated split", "gru") else body["steps"]
    delays_of = column("Latency")
    assert (delays_of["federated split"], delays_of["GRU"]) == ("n/a", "n/a")
    assert "n/a" not in (delays_of["CNN"], delays_of["pooled"])
    assert "Latency is n/a where no attack has a step above" in said(baselines(read()))
    (claim,) = (row for grid in grids(baselines(read())) for row in grid.rows if "No later" in row.head)
    assert claim.cells[0].text == "n/a", "the length of the attacks was compared with itself"
    ours = next(row for row in grids(operating_points(read()))[0].rows if row.head == "federated split")
    assert ours.cells[-1].text == "n/a"
    (table,) = (grid for section in [delays(read())] if section for grid in grids(section))
    assert next(row for row in table.rows if row.ours).cells[2].text == "n/a"

    sheet = next(body for kind, body in entries if kind == "data")
    sheet["step_seconds"] = 60.0
    sheet["splits"]["test"] = {"units": 5, "steps": 1440, "attacked_steps": 1220}
    assert not column("False alarms")
    for section in (baselines(read()), operating_points(read())):
        assert f"No rate of false alarms: 3{SPACE}h 40{SPACE}min of normal steps are too few" in said(section)


def test_an_outcome_has_neither_families_nor_strength_nor_delay(
    read: Read, entries: Entries, metrics: dict[str, Any]
) -> None:
    builders = (by_family, by_intensity, delays, attack)
    assert all(build(read()) is not None for build in builders)
    sheet = next(body for kind, body in entries if kind == "data")
    sheet |= {
        "timed": False,
        "positive": "patients who died",
        "negative": "patients who lived",
        "classes": ["normal", "died"],
    }
    assert [build(read()) for build in builders] == [None] * 4
    metrics["test"]["traffic"].pop("unseen_at_site")
    assert "Unseen at site" not in [card.name for card in summary(read()).cards]
    titles = [block.caption for block in calibration(read()).blocks if isinstance(block, Grid)]
    assert titles == ["Calibration error before and after"]
    assert "probability and share of patients who died, over" in said(calibration(read()))


def test_an_outcome_of_several_kinds_is_shown_by_class(read: Read, entries: Entries) -> None:
    sheet = next(body for kind, body in entries if kind == "data")
    sheet |= {"timed": False, "positive": "patients who died", "negative": "patients who lived"}
    section = by_family(read())
    assert section is not None
    assert (section.title, section.nav) == ("By class", "Classes")
    assert "famil" not in "".join([said(section), *(grid.caption + grid.first for grid in grids(section))])


JARGON = re.compile("attack|famil|detector|alarm|hostile", re.IGNORECASE)


def test_a_report_of_an_outcome_has_no_words_of_attacks(
    entries: Entries, chain: Callable[[Entries], list[Record]]
) -> None:
    """Everything that the report says by itself, of records that say nothing of attacks."""
    dead = {"timed": False, "positive": "patients who died", "negative": "patients who lived"}
    sheet = next(body for kind, body in entries if kind == "data")
    sheet |= dead | {"classes": ["normal", "died"], "leaks_dropped": {}, "notes": []}
    for site in sheet["sites"]:
        site |= {"families": {"died": 3}, "withheld": []}
    metrics = next(body for kind, body in entries if kind == "metrics")
    for body in (metrics["test"]["traffic"], *(one["traffic"] for one in metrics["baselines"].values())):
        for name in list(body):
            if JARGON.search(name) or "unseen" in name or "operating" in name or "site_out" in name:
                del body[name]
    metrics["comparison"] = []
    kept = [(kind, body) for kind, body in entries if kind not in ("messages", "latency", "timeline")]
    page = render(chain(kept))
    page = re.sub("<style>.*?</style>|<pre.*?</pre>", "", page, flags=re.DOTALL)
    found = {line.strip() for line in page.splitlines() if JARGON.search(re.sub("<[^>]+>", "", line))}
    assert not found
    assert "Eight sites trained one model on consortium" in page
    assert "Units of each outcome outside test, by site" in page
    assert "Withheld" not in page

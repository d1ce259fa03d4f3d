"""The page of a sweep of rules against attacks, from invented records."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from lazaretto.keys import generator
from lazaretto.report.blocks import Grid
from lazaretto.report.figures_robustness import HeatRow, heat_map
from lazaretto.report.reading import Log, read_log
from lazaretto.report.robustness_page import robustness_sections
from lazaretto.report.svg import drawn
from lazaretto.report.sweep_page import render_sweep
from lazaretto.report.sweep_quick import left_out_by_quick
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]
RULES = ("mean", "krum", "flame", "bulyan", "nnm | multi_krum")
ATTACKS = ("adaptive", "alie", "backdoor", "foe", "model_replacement", "sign_flip")
FAMILIES = ("scan", "brute_force", "flood", "slow_exfiltration", "man_in_the_middle", "ransomware_spread")
SHARES = (0.1, 0.2, 0.3, 0.4)
SEEDS = [0, 1, 2, 3, 4]
HOSTILE = {0.1: 2, 0.2: 4, 0.3: 6, 0.4: 8}


def triple(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + 0.8 * half}


def cell(auroc: float, seeds: int, lost: float | None, shown: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {
        "auroc": triple(auroc),
        "f1": triple(auroc - 0.25, 0.02),
        "recall": triple(auroc - 0.3),
        "false_positive_rate": triple(0.011, 0.002),
        "recall_by_class": {
            name: triple(auroc - 0.04 * k + (lost or 0.0) * (5 - k) / 6, 0.03)
            for k, name in enumerate(FAMILIES)
        },
        "by_seed": {"auroc": [auroc] * seeds, "f1": [auroc - 0.25] * seeds},
        "backdoor_success": triple(1.2 * (0.9 - auroc), 0.03) if shown else None,
        "seeds": SEEDS[:seeds],
        "failed": 0,
    }
    if lost is not None:
        by_class = {name: triple(lost * (1 + k) / 6, 0.03) for k, name in enumerate(FAMILIES)}
        body["lost"] = {"auroc": triple(lost), "f1": triple(1.4 * lost), "recall_by_class": by_class}
    return body


def watched(rule: str, attack: str, share: float) -> dict[str, Any]:
    bad = HOSTILE.get(share, 0)
    return {
        "rounds": 20,
        "reputation": rule != "mean",
        "sites": [
            {
                "name": f"hospital_{site}",
                "hostile": site < bad,
                "flagged": 1 + site if site < bad else None,
                "rounds_flagged": 5 if site < bad else 0,
                "quarantined": 10 + site if site < bad and rule != "mean" else 15 if site == 19 else None,
                "rounds_out": 8 if site < bad else 3 if site == 19 else 0,
            }
            for site in range(20)
        ],
        "kinds": {"hostile": {"against": 5 * bad}, "honest": {}},
    }


def made() -> Entries:
    """Every rule against every attack: plain mean falls to foe, chains hold best."""
    rng = generator(7, "robustness")
    tree: dict[str, Any] = {}
    entries: Entries = []
    worst = {rule: "foe" if rule == "mean" else ATTACKS[place % 5 + 1] for place, rule in enumerate(RULES)}
    worst["krum"] = "adaptive"
    for rule in RULES:
        honest = 0.86 - 0.02 * rng.random()
        weak = 0.9 if rule == "mean" else 0.1 if "|" in rule else 0.4
        tree[rule] = {"none": {"0": cell(honest, 5, None)}}
        for attack in ATTACKS:
            harm = weak * (0.42 if attack == worst[rule] else 0.3 * rng.random() - 0.02)
            shown = attack in ("backdoor", "model_replacement")
            for share in SHARES if attack == worst[rule] else (0.3,):
                lost = harm * share / 0.3
                seeds = 5 if attack == worst[rule] else 1
                tree[rule].setdefault(attack, {})[f"{share:g}"] = cell(honest - lost, seeds, lost, shown)
                for seed in SEEDS[:seeds]:
                    entries.append(case(rule, attack, share, seed))
        entries += [case(rule, "none", 0.0, seed) for seed in SEEDS]
    about = {
        "name": "poisoning",
        "version": "0.1.0",
        "mode": "robustness",
        "criterion": "AUROC over validation steps",
        "quick": False,
        "seeds": SEEDS,
        "screen_seeds": 1,
        "screen_share": 0.3,
        "shares": list(SHARES),
        "rounds": 20,
        "rules": list(RULES),
        "attacks": list(ATTACKS),
        "left_out": {"fltrust": "'fltrust' needs a public row that a run does not have"},
        "own_rule": "nnm | multi_krum",
        "false_positive_rate": 0.01,
        "plan": {
            "run": {"seeds": SEEDS},
            "robustness": {"rules": list(RULES), "attacks": None, "shares": list(SHARES), "seeds": 5},
        },
        "machine": {"cores": 2, "processor": "x86_64"},
        "commit": "0123456789ab",
        "code_sha256": "c0de" * 16,
        "plan_toml": '[run]\nname = "poisoning"\n',
    }
    last: Entries = [
        ("worst", {"worst": worst}),
        ("robustness", {"tree": tree}),
        ("finished", {"seconds": 3e3}),
    ]
    return [("sweep", about), *entries, *last]


def case(rule: str, attack: str, share: float, seed: int) -> tuple[str, dict[str, Any]]:
    seen = watched(rule, attack, share)
    return "case", {
        "rule": rule,
        "attack": attack,
        "share": share,
        "seed": seed,
        "failed": None,
        "values": {"auroc": 0.8},
        "watched": seen,
        "seconds": 2.5,
    }


@pytest.fixture(scope="module")
def invented() -> Entries:
    return made()


@pytest.fixture
def log(invented: Entries, chain: Chain) -> Log:
    return read_log(chain(invented))


def section(log: Log, name: str) -> tuple[list[Grid], str]:
    """Tables of a section, and all that its texts and figures say."""
    (found,) = (one for one in robustness_sections(log) if one.name == name)
    grids = [block for block in found.blocks if isinstance(block, Grid)]
    said = [
        getattr(block, key, "") for block in found.blocks for key in ("text", "title", "caption", "finding")
    ]
    return grids, "\n".join(said)


def row(grid: Grid, head: str) -> list[str]:
    (found,) = (one for one in grid.rows if one.head == head)
    return [one.text for one in found.cells]


def test_the_page_is_whole(invented: Entries, chain: Chain) -> None:
    page = render_sweep(chain(invented))
    assert page == render_sweep(chain(copy.deepcopy(invented)))
    parser = HTMLParser()
    parser.feed(page)
    assert page.count("<figure") == 5
    assert "<script" not in page
    assert "quick look" not in page
    assert "did not finish" not in page
    for name in (*RULES, "Left out: fltrust"):
        assert name in page


def test_the_summary_names_what_falls_and_what_holds(log: Log) -> None:
    (grid,), said = section(log, "summary")
    assert "Plain mean falls from AUROC" in said
    assert "under foe" in said
    assert "two halves" in said
    assert len(grid.rows) == len(RULES)
    values = [float(one.cells[3].text) for one in grid.rows]
    assert values == sorted(values, reverse=True), "what holds best stands first"
    lost = float(row(grid, "mean")[4])
    assert lost == pytest.approx(float(row(grid, "mean")[0]) - float(row(grid, "mean")[3]), abs=0.002)
    assert row(grid, "mean")[1] == "0.000", "plain mean beside itself"


def test_the_adaptive_attacker_stands_beside_the_worst_of_the_others(log: Log) -> None:
    (grid, _), _ = section(log, "pairs")
    for rule in RULES:
        adaptive, other, _, holds = row(grid, rule)
        assert (holds == "yes") == (float(adaptive) <= float(other)), rule
    assert row(grid, "krum")[3] == "yes"
    assert row(grid, "mean")[2:] == ["foe", "no"]


def test_the_plan_s_rule_is_shown_at_its_threshold_under_every_attack(log: Log, invented: Entries) -> None:
    (_, grid), _ = section(log, "pairs")
    assert [one.head for one in grid.rows] == ["no attack", *(name.replace("_", " ") for name in ATTACKS)]
    assert row(grid, "no attack")[:2] == ["n/a", "n/a"]
    tree = next(body for kind, body in invented if kind == "robustness")["tree"]["nnm | multi_krum"]
    for head, *values in ((one.head, *(said.text for said in one.cells)) for one in grid.rows[1:]):
        body = tree[head.replace(" ", "_")]["0.3"]
        kept = [body["lost"]["auroc"], body["lost"]["f1"], *(body[name] for name in ("f1", "recall"))]
        assert [float(text.replace("−", "-")) for text in values[:4]] == pytest.approx(
            [one["value"] for one in kept], abs=6e-4
        )
        assert values[4] == "0.011"


def test_a_rule_that_was_not_tried_has_no_table_of_its_own(invented: Entries, chain: Chain) -> None:
    other = copy.deepcopy(invented)
    dict(other)["sweep"]["own_rule"] = "krum of another plan"
    grids, _ = section(read_log(chain(other)), "pairs")
    assert len(grids) == 1


def test_backdoors_and_families(log: Log) -> None:
    (grid,), _ = section(log, "backdoors")
    assert [column.title for column in grid.columns] == ["backdoor", "model replacement"]
    (grid, _), _ = section(log, "classes")
    assert [column.title.replace(" ", "_") for column in grid.columns] == list(FAMILIES)


def test_who_was_noticed_when(log: Log) -> None:
    grids, _ = section(log, "noticed")
    attacked, honest, own = grids
    (chain_row,) = (one for one in attacked.rows if one.head.startswith("nnm | multi_krum,"))
    assert [one.text for one in chain_row.cells] == ["30 of 30", "30 of 30", "0 of 70", "5 of 70", "3"]
    assert chain_row.cells[1].under == "round 12, last 15"
    (mean_row,) = (one for one in attacked.rows if one.head == "mean, foe")
    assert mean_row.cells[1].text == "n/a", "the mean suspects nobody"
    assert row(honest, "krum") == ["n/a", "n/a", "0 of 100", "5 of 100", "3"]
    assert len(own.rows) == len(ATTACKS)


@pytest.mark.parametrize("kept", [1, 2, 40])
def test_a_sweep_cut_short_gives_a_page(invented: Entries, chain: Chain, kept: int) -> None:
    page = render_sweep(chain(invented[:kept]))
    assert "did not finish" in page
    assert "No figure has been made yet" in page


def test_missing_values_leave_a_page(invented: Entries, chain: Chain) -> None:
    broken = copy.deepcopy(invented)
    tree = next(body for kind, body in broken if kind == "robustness")["tree"]
    del tree["krum"]
    tree["mean"]["none"]["0"]["auroc"] = None
    tree["flame"]["foe"] = "nothing"
    tree["bulyan"]["none"] = {}
    assert "bulyan" in render_sweep(chain(broken))


def test_one_training_without_a_model_is_no_plural(invented: Entries, chain: Chain) -> None:
    for kind, body in invented:
        if kind == "case":
            body["failed"] = "it diverged"
            break
    _, said = section(read_log(chain(invented)), "summary")
    assert "1 training ended in no finite model, and counts as" in said


def test_what_was_hostile_is_counted_and_not_what_was_asked_for(invented: Entries, chain: Chain) -> None:
    """With five sites 30 % is one site, a fifth of them, and so is 10 %."""
    few = copy.deepcopy(invented)
    for kind, body in few:
        if kind == "case":
            bad = 1 if body["share"] <= 0.3 and body["share"] else 2 if body["share"] else 0
            body["watched"]["sites"] = body["watched"]["sites"][:5]
            for place, site in enumerate(body["watched"]["sites"]):
                site["hostile"] = place < bad
    page = render_sweep(chain(few))
    assert "Every rule met every attack with 1 of 5 sites hostile." in page
    assert "under its worst with 1 of 5 sites hostile" in page
    assert "With 2 of 5 sites hostile" in page
    assert "the number of hostile sites, of 5" in page
    assert not re.search("[1234]0[ \u202f]%", page)
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    shown = [re.findall(r">(\d)</text>", figure) for figure in figures if "keeps most AUROC" in figure]
    assert set(shown[0]) == {"0", "1", "2"}, "equal numbers of hostile sites stand in one place"


def test_a_log_that_does_not_say_who_was_hostile_gives_what_was_asked(
    invented: Entries, chain: Chain
) -> None:
    old = [(kind, {**body, "watched": None}) for kind, body in invented]
    page = render_sweep(chain(old)).replace("\u202f", " ")
    assert "Every rule met every attack with 30 % of the sites hostile." in page
    assert "With 40 % of the sites hostile" in page


def test_an_f1_of_nothing_is_not_kept(invented: Entries, chain: Chain) -> None:
    other = copy.deepcopy(invented)
    tree = dict(other)["robustness"]["tree"]
    for attacks in tree.values():
        for name, shares in attacks.items():
            if name != "none":
                shares.get("0.4", {})["f1"] = triple(0.0, 0.0)
    _, said = section(read_log(chain(other)), "shares")
    assert "With 8 of 20 sites hostile no rule has an F1 above 0 under its worst attack." in said
    assert "keeps most F1" not in said
    assert "keeps most AUROC, 0." in said
    for attacks in tree.values():
        attacks["none"]["0"]["f1"] = triple(0.0, 0.0)
    _, said = section(read_log(chain(other)), "shares")
    assert "no rule has an F1 above 0 under its worst attack, and none has without an attack." in said


def test_where_the_adaptive_attacker_harms_most_is_marked_as_harm(log: Log) -> None:
    (grid, _), _ = section(log, "pairs")
    assert {one.cells[3].text: one.cells[3].tone for one in grid.rows} == {"yes": "no", "no": "yes"}


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        ({"seeds": [0]}, "fewer attacks and seeds than the plan asks for"),
        ({"rules": ["mean"], "shares": [0.3]}, "fewer rules, attacks and shares than the plan asks for"),
        ({"attacks": ["foe"]}, "nothing that the plan asks for was left out"),
    ],
)
def test_a_quick_look_names_only_what_it_left_out(
    invented: Entries, chain: Chain, tried: dict[str, Any], said: str
) -> None:
    other = copy.deepcopy(invented)
    dict(other)["sweep"].update(tried, quick=True)
    assert said in render_sweep(chain(other))


def test_the_code_is_named_and_no_checkout_said(invented: Entries, chain: Chain) -> None:
    other = copy.deepcopy(invented)
    dict(other)["sweep"]["commit"] = None
    page = render_sweep(chain(other))
    assert "SHA-256 c0dec0dec0dec0de, as `lazaretto --version` prints it" in page
    assert "this ran from an installed package" in page


@pytest.mark.parametrize("wide", [True, False])
def test_no_name_leaves_a_heat_map(wide: bool) -> None:
    """Measured in the bold face of a wide font: the name ends at x and has to begin within the figure."""
    name = "nnm | multi_krum"
    rows = [HeatRow(name=name, values=(0.1, 0.2), worst=0, ours=True)]
    markup = drawn("heat", "", lambda _: heat_map(rows, ["foe", "alie"], wide))[0]
    (end,) = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end">nnm', markup)
    bold = FontProperties(family="DejaVu Sans", weight="bold")
    assert TextPath((0, 0), name, size=9, prop=bold).get_extents().width < float(end)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"mode": "tuning", "rounds": 4, "draws": 4, "seeds": [0]}, "fewer rounds, draws and seeds than"),
        ({"mode": "tuning", "rounds": 16, "draws": 4, "seeds": [0, 1]}, "fewer draws than"),
        ({"mode": "grid", "rounds": 4, "draws": 4, "seeds": [0, 1]}, "fewer rounds than"),
        (
            {"mode": "grid", "keys": ["train.rounds"], "rounds": 16, "seeds": [0]},
            "fewer rounds and seeds than",
        ),
        ({"mode": "grid", "rounds": 16, "seeds": [0, 1]}, "nothing that the plan asks for was left out"),
    ],
)
def test_a_quick_search_or_grid_names_only_what_it_left_out(about: dict[str, Any], said: str) -> None:
    plan = {"run": {"seeds": [0, 1, 2]}, "train": {"rounds": 16}, "sweep": {"draws": 20, "seeds": 2}}
    assert said in left_out_by_quick({"plan": plan, **about})

"""Rules against attacks: which trainings there are, stopping and going on, what a small sweep writes."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lazaretto import catalog, runlog
from lazaretto.cli import main
from lazaretto.data.consortium import UNREAD
from lazaretto.errors import InputError, Interrupted, PlanError
from lazaretto.plan import Plan, load_plan
from lazaretto.plan_robustness_checks import CHAINS, choices, under
from lazaretto.run import robustness
from lazaretto.run.robustness import Case, quick_robustness, robustness_trials, run_robustness, worst_attacks
from lazaretto.run.watched import watched

ROOT = Path(__file__).resolve().parents[2]
PLAN = """
[run]
seeds = [3, 1]
[data]
options = { sites = 5, units_per_site = 12, windows = 2 }
[model.options]
channels = 8
hidden = 8
[train]
rounds = 2
[aggregate]
rule = "krum"
[reputation]
enabled = true
[evaluate]
baselines = []
bootstrap = 100
leave_one_family_out = false
false_positive_rate = 0.1
[robustness]
enabled = true
rules = ["mean", "krum"]
attacks = ["foe", "backdoor"]
shares = [0.2, 0.4]
screen_share = 0.4
seeds = 2
"""


def plan_of(folder: Path, *sets: str) -> Plan:
    (folder / "plan.toml").write_text(PLAN)
    return load_plan(folder / "plan.toml", sets=sets)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path)


def result_of(case: Case, auroc: float | None) -> dict[str, Any]:
    return {**case._asdict(), "values": {"auroc": auroc}}


def test_the_example_tries_every_rule_and_every_attack() -> None:
    plan = load_plan(ROOT / "examples" / "poisoning.toml")
    chosen = choices(plan)
    alone = {name for name in catalog.names("rules") if not catalog.build("rules", name).mixes}
    assert set(chosen.rules) | set(chosen.left_out) == alone | {plan.aggregate.rule, *CHAINS}
    assert chosen.attacks == catalog.names("attacks")
    cases = robustness_trials(plan)
    assert len(cases) == len(set(cases)) == len(chosen.rules) * len(chosen.attacks)
    assert {(case.share, case.seed) for case in cases} == {(0.3, 0)}


def test_a_rule_that_cannot_run_is_left_out_with_the_reason() -> None:
    plan = load_plan(ROOT / "examples" / "poisoning.toml")
    for rule, why in choices(plan).left_out.items():
        assert rule in why
        with pytest.raises(PlanError, match=f"robustness.rules: .*{rule}"):
            load_plan(ROOT / "examples" / "poisoning.toml", sets=[f'robustness.rules=["{rule}"]'])


def test_the_second_stage_is_each_rule_s_worst_attack_and_none(plan: Plan) -> None:
    first = robustness_trials(plan)
    assert first == [
        Case(rule, attack, 0.4, 3) for attack in ("foe", "backdoor") for rule in ("mean", "krum")
    ]
    areas = {("mean", "foe"): 0.4, ("mean", "backdoor"): 0.7, ("krum", "foe"): 0.7, ("krum", "backdoor"): 0.6}
    results = [result_of(case, areas[case.rule, case.attack]) for case in first]
    worst = worst_attacks(plan, results)
    assert worst == {"mean": "foe", "krum": "backdoor"}
    second = robustness_trials(plan, worst)
    assert len(second) == len(set(second)) == 2 * 3 * 2, "rules x (none and two shares) x seeds"
    assert {(case.rule, case.attack) for case in second if case.share} == set(worst.items())
    assert {case.attack for case in second if not case.share} == {"none"}
    assert {case.seed for case in second} == {3, 1}


def test_only_the_first_stage_decides_what_is_worst(plan: Plan) -> None:
    first = robustness_trials(plan)
    results = [result_of(case, 0.6 if case.attack == "foe" else 0.7) for case in first]
    later = [
        result_of(Case("mean", "backdoor", 0.4, 1), 0.01),  # another seed
        result_of(Case("mean", "backdoor", 0.2, 3), 0.01),  # another share
    ]
    assert worst_attacks(plan, [*later, *results]) == {"mean": "foe", "krum": "foe"}
    assert worst_attacks(plan, [result_of(case, 0.7) for case in first])["mean"] == "backdoor", "by name"


def test_false_scores_are_the_worst_only_where_nothing_else_was_tried(tmp_path: Path) -> None:
    """They leave AUROC as it was, and others may gain some by chance."""
    both = plan_of(tmp_path, 'robustness.attacks=["foe","threshold_poisoning"]')
    results = [result_of(case, 0.8 if case.attack == "foe" else 0.7) for case in robustness_trials(both)]
    assert worst_attacks(both, results) == {"mean": "foe", "krum": "foe"}
    alone = plan_of(tmp_path, 'robustness.attacks=["threshold_poisoning"]')
    results = [result_of(case, 0.7) for case in robustness_trials(alone)]
    assert set(worst_attacks(alone, results).values()) == {"threshold_poisoning"}


def test_false_scores_are_left_out_where_each_site_has_a_threshold(tmp_path: Path) -> None:
    own = plan_of(tmp_path, 'federate.algorithm="fedper"')
    unnamed = own.model_copy(update={"robustness": own.robustness.model_copy(update={"attacks": None})})
    assert "threshold_poisoning" not in choices(unnamed).attacks
    assert "of its own" in choices(unnamed).left_out["threshold_poisoning"]
    with pytest.raises(PlanError, match="reaches nobody"):
        plan_of(
            tmp_path, 'federate.algorithm="fedper"', 'attack.name="threshold_poisoning"', "attack.share=0.4"
        )


def test_plans_of_cases(plan: Plan) -> None:
    honest, hit = under(plan, "mean", "none", 0.0), under(plan, "krum", "foe", 0.2)
    assert (honest.attack.name, honest.attack.share, honest.reputation.enabled) == ("", 0.0, False)
    assert (hit.attack.name, hit.attack.share, hit.reputation.enabled) == ("foe", 0.2, True)
    assert (hit.aggregate.rule, hit.train) == ("krum", plan.train)


def test_options_belong_to_the_part_that_the_plan_names(tmp_path: Path) -> None:
    sets = [
        "aggregate.options={hostile=0.4}",
        'attack.name="foe"',
        "attack.share=0.4",
        "attack.options={epsilon=2.0}",
    ]
    plan = plan_of(tmp_path, *sets)
    assert under(plan, "krum", "foe", 0.2).aggregate.options == {"hostile": 0.4}
    assert under(plan, "krum", "foe", 0.2).attack.options == {"epsilon": 2.0}
    assert under(plan, "mean", "backdoor", 0.2).aggregate.options == {}
    assert under(plan, "mean", "backdoor", 0.2).attack.options == {}


def test_a_quick_look_is_a_part_of_the_whole() -> None:
    plan = load_plan(ROOT / "examples" / "poisoning.toml")
    quick = quick_robustness(plan)
    assert {"mean", plan.aggregate.rule} <= set(choices(quick).rules) <= set(choices(plan).rules)
    assert set(choices(quick).attacks) <= set(choices(plan).attacks)
    assert quick.train == plan.train
    worst = dict.fromkeys(choices(quick).rules, "foe")
    assert len({*robustness_trials(quick), *robustness_trials(quick, worst)}) < 50


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (['robustness.rules=["krumm"]'], "did you mean 'krum'"),
        (['robustness.rules=["nnm"]'], "only mixes"),
        (['robustness.rules=["krum","krum"]'], "once"),
        (['robustness.attacks=["foo"]'], "unknown attack"),
        (["robustness.seeds=3"], "more than run.seeds"),
        (["robustness.seeds=1", "robustness.screen_seeds=2"], "more than robustness.seeds"),
        (["robustness.screen_share=0.3"], "not one of robustness.shares"),
        (["robustness.shares=[0.5]", "robustness.screen_share=0.5"], "less than 0.5"),
        (["robustness.enabled=false"], "has no meaning with robustness.enabled=false"),
    ],
)
def test_wrong_plans(tmp_path: Path, sets: list[str], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan_of(tmp_path, *sets)


def test_who_was_noticed() -> None:
    rounds = [
        {
            "round": 1,
            "flags": [{"site": "b", "kind": "against"}, {"site": "b", "kind": "long"}],
            "quarantined": [],
        },
        {"round": 2, "flags": [{"site": "a", "kind": "long"}], "quarantined": ["b"]},
        {"round": 3, "flags": [], "quarantined": ["a", "b"]},
    ]
    found = watched(rounds, ["a", "b", "c"], ["b"])
    a, b, c = found["sites"]
    assert (b["hostile"], b["flagged"], b["rounds_flagged"], b["quarantined"], b["rounds_out"]) == (
        True,
        1,
        1,
        2,
        2,
    )
    assert (a["hostile"], a["flagged"], a["quarantined"], a["rounds_out"]) == (False, 2, 3, 1)
    assert (c["flagged"], c["quarantined"], c["rounds_out"]) == (None, None, 0)
    assert found["kinds"] == {"hostile": {"against": 1, "long": 1}, "honest": {"long": 1}}
    assert found["reputation"] is True
    assert watched([{"round": 1, "flags": []}], ["a"], [])["reputation"] is False


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    (folder / "plan.toml").write_text(PLAN)
    words = [str(folder / "plan.toml"), "--data", str(folder), "--out", str(folder / "out"), "--quiet"]
    assert main(["sweep", *words]) == 0
    return folder / "out"


def test_a_small_sweep_from_a_plan_to_its_page(swept: Path) -> None:
    result = json.loads((swept / "sweep.json").read_text())
    tree = result["robustness"]
    assert set(tree) == {"mean", "krum"}
    for rule, attack in result["worst"].items():
        assert set(tree[rule]) == {"none", "foe", "backdoor"}
        assert set(tree[rule][attack]) == {"0.2", "0.4"}
        cell = tree[rule][attack]["0.4"]
        assert cell["seeds"] == [3, 1]
        for name in ("auroc", "f1"):
            triple, lost = cell[name], cell["lost"][name]
            assert triple["low"] <= triple["value"] <= triple["high"]
            assert lost["value"] == pytest.approx(tree[rule]["none"]["0"][name]["value"] - triple["value"])
    shown = tree["mean"]["backdoor"]["0.4"]["backdoor_success"]
    assert shown is None or shown["value"] <= 1
    assert tree["mean"]["foe"]["0.4"]["backdoor_success"] is None
    cases = {(c["rule"], c["attack"], c["share"], c["seed"]): c for c in result["cases"]}
    assert sum(site["hostile"] for site in cases["krum", "foe", 0.4, 3]["watched"]["sites"]) == 2
    assert cases["krum", "foe", 0.4, 3]["watched"]["reputation"] is True
    assert cases["mean", "none", 0.0, 3]["watched"]["reputation"] is False
    assert sorted(path.name for path in swept.iterdir()) == [
        *("plan.toml", "sweep.html", "sweep.json", "sweep.sqlite"),
    ]
    runlog.verify(swept / "sweep.sqlite")
    page = (swept / "sweep.html").read_text()
    assert "Every rule against every attack" in page
    assert "<script" not in page
    assert page.count(f"<strong>Before you read on:</strong> {UNREAD}") == 1


def test_stopped_and_resumed_it_is_the_same_sweep(
    swept: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Case] = []
    real = robustness._try

    def counted(case: Case, *words: Any) -> dict[str, Any]:
        tried.append(case)
        return real(case, *words)

    def stopping(event: str, body: Any) -> None:
        if event == "tried" and body["number"] == 6:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(robustness, "_try", counted)
    out = tmp_path / "out"
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where tests run behind a shell
    try:
        with pytest.raises(Interrupted, match="--resume"):
            run_robustness(plan, out, show=stopping)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (out / "sweep.json").exists()
    assert len(tried) == 6
    with pytest.raises(InputError, match="another sweep"):
        run_robustness(plan, out, quick=True, resume=True)
    again = run_robustness(plan, out, resume=True)
    assert len(tried) == len(set(tried)), "nothing twice"
    whole = json.loads((swept / "sweep.json").read_text())
    assert json.loads(json.dumps(again["robustness"])) == whole["robustness"]
    assert again["worst"] == whole["worst"]


def test_lies_about_scores_show_at_the_threshold_as_the_plan_sets_it(plan: Plan, tmp_path: Path) -> None:
    """The same training with and without liars: the ranking stays, and what is found goes with a sum."""
    some = plan.robustness.model_copy(
        update={"rules": ("mean",), "shares": (0.4,), "seeds": 1, "attacks": ("threshold_poisoning",)}
    )
    cells = {}
    for how in ("sum", "median", "own"):
        asked = plan.evaluate.model_copy(update={"thresholds": how})
        tried = plan.model_copy(update={"robustness": some, "evaluate": asked})
        tree = run_robustness(tried, tmp_path / how)["robustness"]["mean"]
        cells[how] = (tree["none"]["0"], tree["threshold_poisoning"]["0.4"])
    for honest, hit in cells.values():
        assert hit["auroc"] == honest["auroc"]
        assert hit["lost"]["auroc"]["value"] == 0.0
        assert honest["recall"]["value"] > 0
    honest, hit = cells["sum"]
    assert [hit[name]["value"] for name in ("f1", "recall", "false_positive_rate")] == [0.0, 0.0, 0.0]
    assert hit["lost"]["f1"]["value"] == honest["f1"]["value"]
    honest, hit = cells["median"]
    assert hit["recall"]["value"] > 0
    assert 0 < hit["false_positive_rate"]["value"] <= honest["false_positive_rate"]["value"]
    honest, hit = cells["own"]
    assert hit["recall"]["value"] > 0
    for name in ("f1", "recall", "false_positive_rate"):
        assert hit[name] == honest[name], "nobody's lie reaches another site"


def test_a_training_that_diverges_counts_as_chance(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*words: Any) -> Any:
        raise InputError("no update is finite", found="5 with NaN or infinity")

    real = robustness._train
    count = iter(range(1000))
    monkeypatch.setattr(robustness, "_train", lambda bench: (failing if next(count) < 1 else real)(bench))
    some = plan.robustness.model_copy(
        update={"rules": ("mean",), "shares": (0.4,), "seeds": 1, "attacks": ("foe",)}
    )
    result = run_robustness(plan.model_copy(update={"robustness": some}), tmp_path / "out")
    first = result["cases"][0]
    assert first["failed"] == "no update is finite (found: 5 with NaN or infinity)"
    assert first["values"]["auroc"] == 0.5
    assert result["robustness"]["mean"]["foe"]["0.4"]["failed"] == 1
    assert (tmp_path / "out" / "sweep.json").exists()

"""What is said of a number: never more than its interval allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.alarms import few_families_text
from lazaretto.report.formats import Triple
from lazaretto.report.page import render
from lazaretto.report.reading import Log, metric_named, read_log, system_key
from lazaretto.report.wording import State, against, state_of, verdict
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]


def said_of(log: Log) -> str:
    """All paragraphs of the summary as one text."""
    return " ".join(verdict(log))


@pytest.mark.parametrize(
    ("difference", "target", "holds", "state"),
    [
        (Triple(0.02, 0.01, 0.03), ">= 0", True, "certain"),
        (Triple(0.02, -0.01, 0.03), ">= 0", True, "likely"),
        (Triple(-0.02, -0.03, 0.01), ">= 0", False, "unlikely"),
        (Triple(-0.02, -0.03, -0.01), ">= 0", False, "missed"),
        (Triple(-0.003, -0.006, 0.001), ">= -0.005", True, "likely"),
        (Triple(-0.003, -0.0045, 0.001), "≥ \u22120.005", True, "certain"),
        (Triple(0.3, -0.5, 1.1), "<= 0", False, "unlikely"),
        (Triple(-0.3, -0.5, -0.1), "at most 0", True, "certain"),
        (Triple(0.93, 0.92, 0.96), "< 0.97", True, "certain"),
        (Triple(0.004, -0.001, 0.009), "within 0.01", True, "certain"),
        (Triple(0.004, -0.02, 0.009), "within 0.01", True, "likely"),
        (Triple(0.02), ">= 0", True, "likely"),  # no interval, so not certain
        (Triple(0.02, 0.01, 0.03), ">= 0", False, "unlikely"),  # the log says no: the weaker reading
        (Triple(0.02, 0.01, 0.03), "as good as can be", True, "likely"),
        (Triple(0.02, 0.01, 0.03), "as good as can be", False, "missed"),
        (None, ">= 0", False, "unknown"),
    ],
)
def test_state_of_a_target(difference: Triple | None, target: str, holds: bool, state: State) -> None:
    assert state_of(difference, target, holds) == state


def test_an_uncertain_record_is_never_shown_as_certain() -> None:
    assert state_of(Triple(0.02, 0.01, 0.03), ">= 0", True, certain=False) == "likely"


@pytest.mark.parametrize(
    ("metric", "difference", "said"),
    [
        ("auroc", Triple(0.02, 0.01, 0.03), "better"),
        ("auroc", Triple(-0.02, -0.03, -0.01), "worse"),
        ("latency_steps", Triple(-2, -3, -1), "better"),
        ("latency_steps", Triple(2, 1, 3), "worse"),
        ("auroc", Triple(0.02, 0.0, 0.03), "no difference can be shown"),
        ("auroc", Triple(0.02), "no interval, so no claim"),
    ],
)
def test_better_needs_the_whole_interval(metric: str, difference: Triple, said: str) -> None:
    assert against(difference, metric_named(metric)) == said


def _metrics(entries: Entries) -> dict[str, Any]:
    return next(body for kind, body in entries if kind == "metrics")


def test_verdict_claims_only_what_the_intervals_show(entries: Entries, chain: Chain) -> None:
    metrics = _metrics(entries)
    text = said_of(read_log(chain(entries)))
    assert "0.957 [0.946, 0.966]" in text
    assert "is not shown to differ (paired difference \u22120.003" in text
    assert "Of five targets, three are met with the whole interval" in text
    metrics["comparison"][0] |= {"value": -0.02, "low": -0.03, "high": -0.01, "holds": False}
    text = said_of(read_log(chain(entries)))
    assert "The detector's AUROC, compared with the same model trained on pooled data, is lower" in text
    assert "one is missed (as good as pooled)" in text


def test_verdict_names_a_baseline_that_is_better_than_ours(entries: Entries, chain: Chain) -> None:
    metrics = _metrics(entries)
    boosted = {"value": 0.99, "low": 0.985, "high": 0.995}
    metrics["baselines"]["gradient_boosting"]["traffic"]["auroc"] = boosted
    text = said_of(read_log(chain(entries)))
    assert "gradient boosting, has AUROC 0.990 [0.985, 0.995]; ours is lower" in text
    boosted |= {"low": 0.95}
    assert "and without a paired difference neither is said to be better" in said_of(read_log(chain(entries)))


def test_verdict_gives_the_paired_difference_from_whichever_baseline_is_best(
    entries: Entries, chain: Chain
) -> None:
    metrics = _metrics(entries)
    metrics["baselines"]["gradient_boosting"]["traffic"]["auroc"] |= {"value": 0.99, "low": 0.95, "high": 1.0}
    metrics["paired_difference"]["gradient_boosting"] = {
        "auroc": {"value": -0.03, "low": -0.04, "high": -0.02}
    }
    text = said_of(read_log(chain(entries)))
    assert "gradient boosting, is lower (paired difference \u22120.030 [\u22120.040, \u22120.020])" in text
    page = render(chain(entries))
    assert "Ours minus it, on the same" in page
    assert page.count("\u22120.040") == 2, "in the summary and in the table"
    del metrics["paired_difference"]
    assert "Ours minus it, on" not in render(chain(entries)), "logs of before do not have it"


def test_verdict_without_metrics_says_so(entries: Entries, chain: Chain) -> None:
    rest = [entry for entry in entries if entry[0] != "metrics"]
    assert "has not been judged" in said_of(read_log(chain(rest)))


def test_a_model_judged_elsewhere_is_not_said_to_be_trained_here(entries: Entries, chain: Chain) -> None:
    rest = [entry for entry in entries if entry[0] not in ("round", "messages")]
    sheet = next(body for kind, body in rest if kind == "data")
    sheet["splits"]["train"] = {"units": 0, "steps": 0, "attacked_steps": 0}
    text = said_of(read_log(chain(rest)))
    assert text.startswith("A trained detector is judged here on consortium")
    assert "sites trained" not in text


def _part(entries: Entries, kind: str) -> dict[str, Any]:
    return next(body for name, body in entries if name == kind)


def test_a_model_judged_on_its_own_data_is_said_to_be_so(entries: Entries, chain: Chain) -> None:
    rest = [entry for entry in entries if entry[0] not in ("round", "messages")]
    _part(rest, "data")["splits"]["train"] = {"units": 0, "steps": 0, "attacked_steps": 0}
    _part(rest, "run")["relation"] = "same"
    text = said_of(read_log(chain(rest)))
    assert "on units that its training kept for testing" in text
    assert "never saw" not in text


def test_the_verdict_names_hostile_sites_and_their_rule(entries: Entries, chain: Chain) -> None:
    assert "hostile" not in said_of(read_log(chain(entries)))
    _part(entries, "data")["attack"] = {"name": "sign_flip", "sites": ["a", "b"]}
    _part(entries, "run")["plan"]["aggregate"] = {"rule": "nnm | multi_krum"}
    text = said_of(read_log(chain(entries)))
    assert (
        "Two of these sites were hostile on purpose (sign flip), against the rule nnm | multi_krum." in text
    )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("median", "the median of votes"),
        ("own", "each site's own, or the median of votes where a site has too few normal steps"),
        ("sum", "taken from a sum"),
    ],
)
def test_the_verdict_says_what_false_scores_are_up_against(
    entries: Entries, chain: Chain, how: str, said: str
) -> None:
    """No rule sees them."""
    _part(entries, "data")["attack"] = {"name": "threshold_poisoning", "kind": "scores", "sites": ["a"]}
    _part(entries, "run")["plan"]["aggregate"] = {"rule": "nnm | multi_krum"}
    _part(entries, "run")["plan"].setdefault("evaluate", {})["thresholds"] = how
    text = said_of(read_log(chain(entries)))
    assert f"(threshold poisoning), against alarm thresholds that are {said}." in text
    assert "multi_krum" not in text


def test_guessing_is_called_guessing(entries: Entries, chain: Chain) -> None:
    ours = _metrics(entries)["test"]["traffic"]
    assert "guessing" not in said_of(read_log(chain(entries)))
    ours["auroc"] = {"value": 0.51, "low": 0.48, "high": 0.54}
    assert "AUROC 0.510 [0.480, 0.540], no better than guessing" in said_of(read_log(chain(entries)))


def _ours_late(entries: Entries) -> dict[str, Any]:
    return next(body for kind, body in entries if kind == "latency" and system_key(body["system"]) == "ours")


def test_missed_attacks_are_counted_beside_the_delay(entries: Entries, chain: Chain) -> None:
    late = _ours_late(entries)
    late["steps"], late["campaigns"] = [1, 2, 3], 7
    said = said_of(read_log(chain(entries)))
    assert "3 of 7 attacks have a step above the threshold. The first step above the threshold comes" in said
    assert "are above it, which gives" in said
    _part(entries, "run")["plan"].setdefault("evaluate", {}).update(alarm_k=1, alarm_m=1)
    said = said_of(read_log(chain(entries)))
    assert "Each step above the threshold raises an alarm, which gives" in said
    _part(entries, "run")["plan"]["evaluate"].update(alarm_k=2, alarm_m=6)
    said = said_of(read_log(chain(entries)))
    assert "An alarm is raised once 2 of the last 6 steps are above it, which gives" in said
    late["steps"] = []
    text = said_of(read_log(chain(entries)))
    assert "None of the 7 attacks has a step above the threshold" in text
    assert "The first step above" not in text
    assert "lie about scores" not in text
    _part(entries, "data")["attack"] = {"name": "threshold_poisoning", "kind": "scores", "sites": ["a"]}
    for how, silenced in (("sum", True), ("median", False), ("own", False)):
        _part(entries, "run")["plan"].setdefault("evaluate", {})["thresholds"] = how
        text = said_of(read_log(chain(entries)))
        assert ('"own" is out of their reach' in text) == silenced


@pytest.mark.parametrize(
    ("noise", "audit", "said"),
    [
        ("system", None, "priced at ε = 2 by record; see Privacy."),
        ("seed", None, "priced at ε = 2 by record, in a simulation that protects nobody; see Privacy."),
        ("system", 5.0, "priced at ε = 2 by record, which an audit refutes; see Privacy."),
    ],
)
def test_a_price_stands_beside_what_weakens_it(
    noise: str, audit: float | None, said: str, entries: Entries, chain: Chain
) -> None:
    promise = {"unit": "record", "epsilon": 2.0, "delta": 1e-6, "noise": noise, "mechanism": "dp_sgd"}
    promise |= {"repeated_epsilon": 2.0, "run_epsilon": 2.0, "repetitions": 2}
    more: Entries = [("privacy", promise)]
    if audit is not None:
        told = {"name": "canaries", "measured": "epsilon", "words": "w", "value": audit}
        more.append(("audit", {**told, "floor": 0.0, "claimed_epsilon": 2.0}))
    assert said in said_of(read_log(chain([*entries, *more])))


def test_steps_that_several_seeds_judge_are_watched_once(entries: Entries, chain: Chain) -> None:
    sheet = _part(entries, "data")
    sheet["step_seconds"] = 60.0
    sheet["splits"]["test"] = {"units": 5, "steps": 1000, "attacked_steps": 0}
    again = [("data", {**sheet, "seed": seed}) for seed in (1, 2, 3)]
    assert "too few to tell" in said_of(read_log(chain([*entries, *again])))


def test_a_rate_by_the_day_needs_a_day(entries: Entries, chain: Chain) -> None:
    sheet = _part(entries, "data")
    sheet["step_seconds"] = 60.0
    sheet["splits"]["test"] = {"units": 5, "steps": 1440, "attacked_steps": 0}
    assert "false alarms per device and day" in said_of(read_log(chain(entries)))
    sheet["splits"]["test"]["attacked_steps"] = 1220
    text = said_of(read_log(chain(entries)))
    assert "a rate of false alarms that 3\u202fh 40\u202fmin of normal steps are too few to tell" in text
    assert "per device and day" not in text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("federated split", "ours"),
        ("Federated-Split", "ours"),
        ("local only", "local"),
        ("gradient_boosting", "gradient_boosting"),
        ("GRU", "gru"),
        ("my own model", "my_own_model"),
    ],
)
def test_systems_are_known_under_all_their_names(name: str, key: str) -> None:
    assert system_key(name) == key


def test_intervals_from_few_attacked_units_are_said_to_be_so(entries: Entries, chain: Chain) -> None:
    sheet = _part(entries, "data")
    assert "too narrow" not in said_of(read_log(chain(entries))), "logs of before do not count units"
    sheet["splits"]["test"]["attacked_units"] = 20
    assert "too narrow" not in said_of(read_log(chain(entries)))
    sheet["splits"]["test"]["attacked_units"] = 7
    said = "All these figures rest on 7 test units with attacked steps: from fewer than 20, intervals"
    assert said in said_of(read_log(chain(entries)))
    test = {**sheet["splits"]["test"], "attacked_units": 1}
    again: Entries = [("data", {**sheet, "seed": 9, "splits": {**sheet["splits"], "test": test}})]
    assert "on 1 test unit with attacked steps with each seed" in said_of(read_log(chain([*entries, *again])))


def test_families_that_few_units_hold_are_named_at_their_table(entries: Entries, chain: Chain) -> None:
    assert few_families_text(read_log(chain(entries))) == ""
    sheet = _part(entries, "data")
    sheet["splits"]["test"]["families"] = {"ddos": 40, "port_scan": 7, "malware": 0}
    assert "fewer than 20: port scan 7. Their" in few_families_text(read_log(chain(entries)))
    assert "port scan 7" in render(chain(entries))
    test = {**sheet["splits"]["test"], "families": {"ddos": 19, "port_scan": 9}}
    again: Entries = [("data", {**sheet, "seed": 9, "splits": {**sheet["splits"], "test": test}})]
    told = few_families_text(read_log(chain([*entries, *again])))
    assert "(with the seed that has fewest): ddos 19, port scan 7." in told


def test_an_estimate_just_beside_its_target_does_not_read_as_on_it(entries: Entries, chain: Chain) -> None:
    """-0.0052 misses -0.005, and "-0.005, at least -0.005: no" would contradict itself."""
    row = _metrics(entries)["comparison"][0]
    row |= {"value": -0.0052, "low": -0.014, "high": 0.004, "holds": False}
    page = render(chain(entries))
    assert "\u22120.0052" in page
    row |= {"value": -0.0031, "holds": True}
    assert "\u22120.0031" not in render(chain(entries))

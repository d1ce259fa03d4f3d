"""What is said of privacy: never more than the log shows, whatever stands in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazaretto.plan_values import BASELINES
from lazaretto.report import privacy_words
from lazaretto.report.blocks import Facts, Grid, Picture, Section, Text
from lazaretto.report.privacy_reading import attackers_of, level_of, promise_of
from lazaretto.report.privacy_words import privacy_paragraph
from lazaretto.report.reading import Log, read_log, system_name
from lazaretto.report.sections_privacy import privacy
from lazaretto.report.sections_run import learned
from lazaretto.report.sweep_page import render_sweep
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]

HONEST: dict[str, Any] = {
    "mechanism": "dp_sgd",
    "unit": "record",
    "delta": 1e-6,
    "epsilon": 0.9,
    "training_epsilon": 0.8,
    "repeated_epsilon": 0.9,
    "all_runs_epsilon": None,
    "repetitions": 1,
    "by_part": {"training units": 0.9, "validation units": 0.4, "test units": None},
    "charges": [
        {"what": "training", "part": "training units", "words": "20 rounds", "epsilon": 0.8},
        {"what": "scaling", "part": "training units", "words": "noisy counts", "epsilon": 0.2},
        {"what": "thresholds", "part": "validation units", "words": "noisy counts", "epsilon": 0.4},
        {"what": "metrics", "part": "test units", "words": "exact figures", "epsilon": None},
    ],
    "clip": 1.0,
    "noise_multiplier": 4.0,
    "sampling": "poisson",
    "rate": 0.1,
    "steps": 10,
    "rounds": 20,
    "noise": "system",
}
AUDIT: dict[str, Any] = {
    "name": "membership",
    "claimed_epsilon": 0.9,
    "measured": "share of the members named at 1 % false positives",
    "value": 0.012,
    "low": 0.006,
    "high": 0.019,
    "floor": 0.01,
    "floor_words": "guessing",
    "words": "a thousand members, and as many others",
    "seed": 0,
    "seconds": 3.0,
}
CANARY = AUDIT | {
    "name": "canaries",
    "measured": "lower bound on epsilon",
    "value": 0.2,
    "low": 0.2,
    "high": None,
    "floor": 0.0,
}
# words that reassure; phrases of ours that hold one of them, and say the opposite
REASSURING = re.compile(
    r"strong|strict|safe|secure|anonym|guarantee|impossible|cannot|fully|never|protect|middling",
    re.IGNORECASE,
)
DENIALS = ("take nobody for protected", "protects nobody")


def log_of(privacy: dict[str, Any] | None, *audits: dict[str, Any], seeds: int = 1) -> Log:
    entries: Entries = [
        ("run", {"seeds": list(range(seeds)), "plan": {"privacy": {"mechanism": "none"}}}),
        ("data", {"window_steps": 16, "splits": {"train": {"units": 60, "steps": 32000}}, "sites": [{}, {}]}),
        ("round", {"seed": 0, "round": 1}),
        *([] if privacy is None else [("privacy", privacy)]),
        *(("audit", body) for body in audits),
    ]
    return read_log([Record(i, kind, body, b"", b"") for i, (kind, body) in enumerate(entries, 1)])


def paragraph(privacy: dict[str, Any], *audits: dict[str, Any], seeds: int = 1) -> str:
    log = log_of(privacy, *audits, seeds=seeds)
    promise = promise_of(log)
    assert promise is not None
    return privacy_paragraph(promise, attackers_of(log), ["local"])


def reassures(text: str) -> bool:
    for phrase in DENIALS:
        text = text.replace(phrase, "")
    return bool(REASSURING.search(text))


# everything that a record may hold, right and wrong
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**9),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text("strong safe protected anonymous \u03b5<>&", max_size=20),
)
small = st.floats(0, 1.5)
bodies = st.builds(
    lambda changed: HONEST | changed,
    st.dictionaries(st.sampled_from(sorted(HONEST)), st.one_of(anything, small), max_size=5),
)
audits = st.lists(
    st.builds(
        lambda base, changed: base | changed,
        st.sampled_from([AUDIT, CANARY]),
        st.dictionaries(st.sampled_from([*AUDIT, "contradicts", "larger_is_worse"]), anything, max_size=4),
    ),
    max_size=3,
)


def may_reassure(body: dict[str, Any], found: list[dict[str, Any]], seeds: int) -> bool:
    """The rule again, written down apart from the code: is there any ground for a good word?"""

    def plain(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    needed = ["epsilon"] + (["repeated_epsilon"] if seeds > 1 else [])
    if body["all_runs_epsilon"] is not None:
        needed.append("all_runs_epsilon")
    if not all(plain(body[key]) and 0 <= body[key] <= 10 for key in needed):
        return False
    if not (plain(body["delta"]) and 0 <= body["delta"] <= 1e-3):
        return False
    for audit in found:
        bound = "epsilon" in str(audit["measured"]).lower() or "\u03b5" in str(audit["measured"])
        claimed, value = audit["claimed_epsilon"], audit["value"]
        if audit.get("contradicts") is True:
            return False
        if bound and plain(claimed) and plain(value) and 0 <= claimed < value:
            return False
    return body["noise"] == "system" and body["unit"] in ("record", "patient", "site")


@settings(max_examples=300, deadline=None)
@given(bodies, audits, st.integers(1, 3))
@example(HONEST, [], 1)
@example(HONEST | {"epsilon": None}, [], 1)
@example(HONEST | {"epsilon": math.inf}, [], 1)
@example(HONEST | {"epsilon": 40.0}, [], 1)
@example(HONEST | {"repeated_epsilon": None}, [], 2)
@example(HONEST | {"all_runs_epsilon": math.inf}, [], 1)
@example(HONEST | {"noise": "seed"}, [], 1)
@example(HONEST | {"delta": 0.05}, [], 1)
@example(HONEST, [CANARY | {"value": 1.5, "low": 1.5}], 1)
@example(HONEST, [AUDIT | {"contradicts": True}], 1)
def test_no_good_word_without_ground(body: dict[str, Any], found: list[dict[str, Any]], seeds: int) -> None:
    text = paragraph(body, *found, seeds=seeds)
    if not may_reassure(body, found, seeds):
        assert not reassures(text), text
    assert "strong" not in text or (body["epsilon"] <= 1 and text.count("strong") == 1)
    assert "nan" not in text.lower().split()
    assert "test units" in text
    assert "between a device and its site" in text


def test_planted_fault_a_level_that_is_always_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law above can fail."""
    monkeypatch.setattr(privacy_words, "level_of", lambda *_: "strict")
    assert reassures(paragraph(HONEST | {"epsilon": 4.0}))
    with pytest.raises(AssertionError):
        test_no_good_word_without_ground()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "a strong one"),
        ({"epsilon": 3.0}, "a middling bound"),
        ({"epsilon": 10.01}, "That is weak"),
        ({"delta": 0.0017}, "That is weak"),
        ({"epsilon": None}, "take nobody for protected"),
        ({"noise": "seed"}, "can be taken off by whoever knows the seed"),
        ({"noise": None}, "does not say where the noise came from"),
        ({"unit": "site", "delta": 1e-5}, "one site, with all that it has"),
        ({"unit": "planet"}, "take nobody for protected"),
    ],
)
def test_how_a_bound_is_called(change: dict[str, Any], said: str) -> None:
    assert said in paragraph(HONEST | change)


def test_delta_is_held_against_the_number_of_units() -> None:
    assert "That is weak" not in paragraph(HONEST | {"delta": 1 / 2500})  # 2,000 windows
    assert "That is weak" in paragraph(HONEST | {"delta": 1 / 1500})


def test_what_an_epsilon_means() -> None:
    assert "at most 73\u202f% sure" in paragraph(HONEST | {"epsilon": 1.0})  # e / (1 + e) = .731
    assert "at most 95\u202f% sure" in paragraph(HONEST | {"epsilon": 3.0})
    assert "practically certain" in paragraph(HONEST | {"epsilon": 8.0})


def test_the_largest_bound_counts() -> None:
    body = HONEST | {"repeated_epsilon": 4.5, "repetitions": 5}
    text = paragraph(body, seeds=5)
    assert "\u03b5 = 4.50" in text
    assert "all 5 repetitions together" in text
    assert "\u03b5 = 4.50" in paragraph(body | {"repetitions": 1}, seeds=5)  # the seeds tell, too
    text = paragraph(body | {"all_runs_epsilon": 12.0}, seeds=5)
    assert "\u03b5 = 12.00" in text
    assert "budget file" in text
    assert "That is weak" in text


def test_an_audit_beyond_the_claim_comes_first() -> None:
    broken = CANARY | {"value": 2.5, "low": 2.5}
    text = paragraph(HONEST, AUDIT, broken, CANARY)
    assert text.startswith("An audit reached more than this run claims: it shows \u03b5 of at least 2.50")
    text = paragraph(HONEST, CANARY | {"value": 2.5, "low": 0.5})
    assert text.startswith("An audit's estimate is above what this run claims")
    assert level_of(promise_of(log_of(HONEST)), []) == "strict"  # type: ignore[arg-type]


def test_members_named_are_held_against_the_claim() -> None:
    """e^.8 · .01 + 1e-6 = .0223: more than that no attacker may name."""
    for low, claim in ((0.021, "doubted"), (0.023, "broken"), (0.006, "doubted")):
        (one,) = attackers_of(log_of(HONEST, AUDIT | {"value": 0.03, "low": low, "high": 0.04}))
        assert one.claim == claim
    (one,) = attackers_of(log_of(HONEST, AUDIT | {"value": 0.022}))
    assert one.claim == "kept"
    (one,) = attackers_of(log_of(HONEST | {"unit": "patient"}, AUDIT | {"value": 0.03, "low": 0.023}))
    assert one.claim == ""  # an attack on records says nothing of streams


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ({"low": 0.012, "value": 0.02}, "yes"),
        ({"low": 0.006, "value": 0.012}, "unsure"),
        ({"low": 0.006, "value": 0.009}, "no"),
        ({"measured": "exchanges until a site is refused", "value": 12.0, "low": None, "floor": 50.0}, "no"),
        ({"measured": "exchanges until a site is refused", "value": None, "floor": 50.0}, "yes"),
        ({"floor": None}, "unknown"),
        ({"measured": "mean squared error", "value": 0.2, "high": 0.3, "low": 0.1, "floor": 1.0}, "yes"),
        ({"measured": "mean squared error", "value": 1.2, "high": 1.3, "low": 1.1, "floor": 1.0}, "no"),
        ({"larger_is_worse": False, "value": 0.2, "high": 0.3, "low": 0.1, "floor": 1.0}, "yes"),
        # less than a thousandth below a floor of 1 is no more than the floor
        (
            {"measured": "mean squared error", "value": 0.99987, "high": 0.99999, "low": 0.999, "floor": 1},
            "no",
        ),
        ({"measured": "mean squared error", "value": 0.99, "high": 0.997, "low": 0.98, "floor": 1.0}, "yes"),
    ],
)
def test_who_got_beyond_the_floor(change: dict[str, Any], reached: str) -> None:
    (one,) = attackers_of(log_of(HONEST, AUDIT | change))
    assert one.reached == reached


def texts(section: Section) -> str:
    parts = []
    for block in section.blocks:
        if isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Grid):
            parts += [
                row.head + " " + " ".join(c.text + " " + c.under for c in row.cells) for row in block.rows
            ]
        elif isinstance(block, Picture):
            parts.append(block.finding)
    return "\n".join(parts)


def test_a_run_without_privacy_has_one_sentence() -> None:
    (only,) = privacy(log_of(None)).blocks
    assert isinstance(only, Text)
    assert only.text.count(".") == 1
    assert "take nobody for protected" in only.text
    asked = log_of(None)
    asked.last("run")["plan"]["privacy"]["mechanism"] = "dp_sgd"
    (only,) = privacy(asked).blocks
    assert isinstance(only, Text)
    assert "the log does not say what it cost" in only.text


def test_the_section_shows_charges_audits_and_what_is_not_covered() -> None:
    said = texts(privacy(log_of(HONEST, AUDIT, CANARY, AUDIT | {"name": "of my own"})))
    for line in (
        "Canaries, put in by a coin",
        "Together 0.90",
        "Published figures \u2717 no bound",
        "Membership",
        "of my own",
        "not certain",
    ):
        assert line in said
    assert "What devices and site exchange" in said
    assert "lazaretto audit" not in said
    empty = privacy(log_of(HONEST))
    assert "No audit was run" in texts(empty)
    assert any(getattr(block, "text", "") == "lazaretto audit DIR" for block in empty.blocks)


def test_systems_that_are_not_charged_are_named(entries: Entries, chain: Chain) -> None:
    said = texts(privacy(read_log(chain([*entries, ("privacy", HONEST)]))))
    assert "not charged: federated unsplit, pooled, local only, gradient boosting" in said


def test_utility_over_epsilon_is_drawn_where_it_was_measured() -> None:
    log = log_of(HONEST)
    assert not any(isinstance(block, Picture) for block in privacy(log).blocks)
    points = [
        {"epsilon": e, "auroc": a, "low": a - 0.01, "high": a + 0.01, "seed_count": 5}
        for e, a in ((8, 0.9), (1, 0.8))
    ]
    log.bodies["privacy curve"] = [{"points": points, "reference": 0.93}]
    (figure,) = (block for block in privacy(log).blocks if isinstance(block, Picture))
    assert figure.finding.startswith("AUROC is 0.800 [0.790, 0.810] at \u03b5 = 1 and 0.900")
    assert "without privacy 0.930" in figure.finding


def test_rounds_without_a_loss_have_a_reason_and_no_curve() -> None:
    (only,) = learned(log_of(HONEST)).blocks
    assert isinstance(only, Text)
    assert "train in private" in only.text
    (only,) = learned(log_of(None)).blocks
    assert isinstance(only, Text)
    assert "train in private" not in only.text


def test_the_page_speaks_of_the_whole_run_and_of_validation_units_too() -> None:
    """The worst of training and validation, all repetitions together; and what cannot be read is no bound."""
    both = HONEST | {
        "repetitions": 2,
        "repeated_epsilon": 1.3,
        "run_epsilon": 1.7,
        "run_by_part": {"training units": 1.3, "validation units": 1.7},
        "limit": 2.0,
        "limit_of": "run",
    }
    found = promise_of(log_of(both, seeds=2))
    assert found is not None
    assert found.epsilon == 1.7
    section = privacy(log_of(both, seeds=2))
    facts = {
        name: value for block in section.blocks if isinstance(block, Facts) for name, value in block.pairs
    }
    assert facts["Limit in the plan"].endswith("2.00, of the whole run")
    charges = next(block for block in section.blocks if isinstance(block, Grid))
    rows = [row.cells[0].text for row in charges.rows if row.head == "All 2 repetitions"]
    assert rows == ["1.30", "1.70"]
    unknown = promise_of(log_of(both | {"run_epsilon": None}, seeds=2))
    assert unknown is not None
    assert unknown.epsilon is None


@pytest.mark.parametrize(("total", "known"), [(5.0, 5.0), (0.1, 0.9), ("5", None)])
def test_a_run_that_was_charged_again_costs_what_its_budget_file_says_last(total: Any, known: Any) -> None:
    log = log_of(HONEST | {"all_runs_epsilon": 0.9, "deals_anew": True})
    log.bodies["budget"] = [{"id": "a", "ticket": "b", "all_runs_epsilon": total, "why": "charged again"}]
    found = promise_of(log)
    assert found is not None
    assert found.epsilon == known


def uncovered(log: Log) -> dict[str, str]:
    grids = [block for block in privacy(log).blocks if isinstance(block, Grid)]
    (grid,) = (block for block in grids if block.caption == "What the promise does not cover")
    return {row.head: row.cells[0].text for row in grid.rows}


def test_audits_are_said_to_publish_exact_figures_where_one_was_made() -> None:
    assert "Audits" not in uncovered(log_of(HONEST))
    assert "no mechanism covers" in uncovered(log_of(HONEST, AUDIT))["Audits"]
    assert "which are exact" in paragraph(HONEST, AUDIT)


@pytest.mark.parametrize("name", ["none", "dp_sgd"])
def test_a_sweep_of_a_private_plan_says_that_nothing_is_charged(name: str) -> None:
    plan = {"privacy": {"mechanism": name}}
    page = render_sweep([Record(1, "sweep", {"plan": plan}, b"", b"")])
    assert ("take nobody for protected" in page) == (name != "none")


@pytest.mark.parametrize("name", BASELINES)
def test_whatever_is_trained_beside_ours_is_named(name: str) -> None:
    """Also before anything has come of it."""
    row = uncovered(log_of(HONEST | {"baselines": [name]}))["Systems to compare with"]
    assert system_name(name) in row


def test_other_runs_tuned_settings_and_dealt_units_are_named() -> None:
    found = uncovered(log_of(HONEST))
    assert "none is counted" in found["How settings were found"]
    assert "knows of none" in found["Other runs on this data"]
    assert "Who has what" not in found
    log = log_of(HONEST | {"all_runs_epsilon": 0.9, "deals_anew": True})
    log.last("run")["plan"] |= {"tuned": {"gru": {"learning_rate": 0.1}, "cnn": None}}
    found = uncovered(log)
    assert "GRU have tuned ones" in found["How settings were found"]
    assert "Other runs on this data" not in found
    assert "depend on others" in found["Who has what"]


def test_audits_are_told_in_words_of_a_reader() -> None:
    (table,) = (b for b in privacy(log_of(HONEST, AUDIT)).blocks if isinstance(b, Grid) and b.stacked)
    assert table.rows[0].note.endswith(" Without the run: guessing.")
    assert not table.rows[0].cells[1].under, "words there make a column of numbers wide"
    assert "No claim" not in table.note
    nobody = log_of(None, AUDIT | {"claimed_epsilon": None})
    (table,) = (block for block in privacy(nobody).blocks if isinstance(block, Grid))
    assert table.rows[0].cells[3].text == "no claim"
    assert "No claim: the run promises nothing that this figure could break." in table.note


@pytest.mark.parametrize(
    ("floor", "says", "tone"), [(None, "nobody could notice", "faint"), (50.0, "✗ not noticed", "no")]
)
def test_what_was_not_tried_is_no_attack_that_succeeded(floor: float | None, says: str, tone: str) -> None:
    hijack = {"measured": "exchanges until a hostile site is refused", "value": None, "low": None}
    log = log_of(HONEST, AUDIT | hijack | {"name": "hijacking", "floor": floor})
    (row,) = (
        row
        for block in privacy(log).blocks
        if isinstance(block, Grid) and block.first == "Attack"
        for row in block.rows
    )
    assert (row.cells[2].text, row.cells[2].tone) == (says, tone)

"""A budget adds up over runs, refuses with what would fit, and its file says only what can be true."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    SelfComposedDpEvent,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputError, PlanError
from lazaretto.privacy.accounting import epsilon_of, flattened, rounds_that_fit
from lazaretto.privacy.budget import Budget, Charge, Run, Whose, charged, compose, opened, spent, within
from lazaretto.privacy.budget_file import read_budget, written
from lazaretto.privacy.dp_sgd import dp_sgd
from lazaretto.privacy.mechanism import Unit

VALIDATED = "validation units"
LIMITED: tuple[Whose, ...] = ("training units", "validation units")
DELTA, DATA, OTHER = 1e-5, "ab" * 32, "cd" * 32
MADE = dp_sgd(noise_multiplier=1.0, rate=0.05, steps=10)
SCALING = GaussianDpEvent(10.0)


def charge(
    event: DpEvent, what: Any = "training", part: Any = "training units", unit: Unit = "record"
) -> Charge:
    return Charge(what=what, part=part, unit=unit, event=event, words=f"{what} by {unit}")


def run(rounds: int, name: str = "a run") -> Run:
    exact = charge(NonPrivateDpEvent(), "metrics", "test units")
    scores = charge(GaussianDpEvent(5.0), "thresholds", "validation units")
    return Run(name, (charge(MADE.event(10 * rounds)), charge(SCALING, "scaling"), scores, exact))


def account(epsilon: float = 8.0) -> Budget:
    return opened({}, DATA, "record", epsilon, DELTA)


def test_parts_are_priced_apart_and_test_units_have_no_protection() -> None:
    found = spent(run(3).charges, DELTA)
    assert found["training units"] == epsilon_of(ComposedDpEvent([MADE.event(30), SCALING]), DELTA)
    assert found["validation units"] == epsilon_of(GaussianDpEvent(5.0), DELTA)
    assert found["test units"] == math.inf
    assert set(spent([], DELTA).values()) == {0.0}


def test_a_budget_is_one_accountant_over_all_runs() -> None:
    budget = charged(charged(account(), DATA, run(3, "same")), DATA, run(5, "same"))
    together = epsilon_of(ComposedDpEvent([MADE.event(80), SCALING, SCALING]), DELTA)
    assert compose(budget, DATA, [])["training units"] == pytest.approx(together, rel=1e-9)
    more = compose(budget, DATA, [charge(MADE.event(20))])["training units"]
    assert more == pytest.approx(epsilon_of(ComposedDpEvent([MADE.event(100), SCALING, SCALING]), DELTA))
    assert together < 2 * epsilon_of(ComposedDpEvent([MADE.event(50), SCALING]), DELTA)


@given(st.lists(st.sampled_from(["", "12" * 32, "34" * 32]), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_units_that_may_have_changed_their_part_pay_for_both(dealings: list[str]) -> None:
    """Law: dealt alike, parts are priced apart; else both pay for all, above every path of a unit."""
    cheap, budget = (
        (charge(GaussianDpEvent(20.0)), charge(GaussianDpEvent(9.0), "thresholds", VALIDATED)),
        account(),
    )
    for dealt in dealings:
        budget = charged(budget, DATA, Run("one", cheap, dealt=dealt))
    found, many = compose(budget, DATA, []), len(dealings)
    train, validate = ([GaussianDpEvent(noise)] * many for noise in (20.0, 9.0))
    if len(set(dealings)) == 1:
        assert found["training units"] == pytest.approx(epsilon_of(ComposedDpEvent(train), DELTA))
        assert found["validation units"] == pytest.approx(epsilon_of(ComposedDpEvent(validate), DELTA))
    else:
        both = epsilon_of(ComposedDpEvent([*train, *validate]), DELTA)
        assert found["training units"] == found["validation units"] == pytest.approx(both)
        paths = (epsilon_of(ComposedDpEvent([*train[:n], *validate[n:]]), DELTA) for n in range(many + 1))
        assert max(paths) <= both
    assert read_budget(written(budget)) == budget or compose(read_budget(written(budget)), DATA, []) == found


def test_a_limit_holds_for_units_that_change_their_part() -> None:
    """Planted fault: by part both runs would fit."""
    runs = [Run("one", run(3).charges, dealt=dealt) for dealt in ("12" * 32, "34" * 32)]
    alike = charged(charged(account(), DATA, runs[0]), DATA, runs[0])
    limit = 1.001 * max(compose(alike, DATA, [])[part] for part in LIMITED)
    first = charged(account(limit), DATA, runs[0])
    charged(first, DATA, runs[0])
    with pytest.raises(PlanError, match="this would cost"):
        charged(first, DATA, runs[1])


def test_two_data_sets_have_two_budgets() -> None:
    budget = opened(charged(account(), DATA, run(3)), OTHER, "patient", 2.0, DELTA)
    assert compose(budget, OTHER, [])["training units"] == 0
    assert compose(budget, DATA, [])["training units"] > 0


@pytest.mark.parametrize("past", [0, 1, 2])
def test_the_refusal_says_how_many_rounds_would_fit(past: int) -> None:
    budget, asked = account(), 8
    for _ in range(past):  # the same run again: what was spent before is no part of what is asked
        budget = charged(budget, DATA, run(asked))
    with pytest.raises(PlanError, match="rounds would fit") as refused:
        charged(budget, DATA, run(100), MADE)
    fit = int(str(refused.value.way_out).partition(" ")[0])
    assert fit == rounds_that_fit(MADE, [SCALING, *[MADE.event(10 * asked), SCALING] * past], 8.0, DELTA)
    assert compose(charged(budget, DATA, run(fit), MADE), DATA, [])["training units"] <= 8
    with pytest.raises(PlanError):
        charged(budget, DATA, run(fit + 1), MADE)


def test_the_refusal_says_what_is_spent_and_asked() -> None:
    budget = charged(account(3.6), DATA, run(10))
    with pytest.raises(
        PlanError, match=r"training units more than epsilon 3\.6 .*spent 3\.526, asked 2\.\d+, "
    ):
        charged(budget, DATA, run(4), MADE)
    with pytest.raises(PlanError, match="not one round would fit"):
        charged(
            charged(budget, DATA, Run("counts", (charge(GaussianDpEvent(28.0), "scaling"),))),
            DATA,
            run(1),
            MADE,
        )


def test_validation_units_have_the_limit_too_and_no_rounds_in_the_way_out() -> None:
    with pytest.raises(PlanError, match="validation units") as refused:
        within([charge(NonPrivateDpEvent(), "thresholds", "validation units")], [], 8.0, DELTA, MADE)
    assert "rounds" not in str(refused.value.way_out)


def test_exact_publication_about_test_units_is_no_reason_to_refuse() -> None:
    within([charge(NonPrivateDpEvent(), "metrics", "test units")], [], 0.1, DELTA)


def test_units_do_not_mix() -> None:
    with pytest.raises(PlanError, match="several units"):
        spent([charge(SCALING), charge(SCALING, unit="patient")], DELTA)
    with pytest.raises(PlanError, match="counts by record"):
        charged(account(), DATA, Run("b", (charge(SCALING, unit="patient"),)))


def test_a_plan_does_not_change_the_terms_of_an_account() -> None:
    assert opened(account(), DATA, "record", 8.0, DELTA) == account()
    for terms in (("record", 9.0, DELTA), ("record", 8.0, 1e-4), ("patient", 8.0, DELTA)):
        with pytest.raises(PlanError, match="other terms"):
            opened(account(), DATA, *terms)  # type: ignore[arg-type]
    for wrong in (("ab", 8.0, DELTA), (OTHER, 0.0, DELTA), (OTHER, math.inf, DELTA), (OTHER, 8.0, 1.0)):
        with pytest.raises(PlanError):
            opened({}, wrong[0], "record", *wrong[1:])
    with pytest.raises(PlanError, match="does not know"):
        compose(account(), OTHER, [])


EVENTS = st.one_of(
    st.floats(0.5, 50).map(GaussianDpEvent),
    st.just(NonPrivateDpEvent()),
    st.builds(
        lambda noise, rate, k, steps: dp_sgd(noise_multiplier=noise, rate=rate, appearances=k).event(steps),
        st.floats(0.5, 5),
        st.floats(1e-3, 1),
        st.integers(1, 4),
        st.integers(0, 1000),
    ),
)
EVENTS = st.recursive(
    EVENTS,
    lambda some: (
        st.lists(some, max_size=3).map(ComposedDpEvent)
        | st.builds(SelfComposedDpEvent, some, st.integers(0, 5))
    ),
    max_leaves=5,
)


@given(st.lists(EVENTS, max_size=4), st.text(min_size=1, max_size=20).filter(str.isprintable))
@settings(max_examples=30)
def test_a_file_says_what_the_budget_says(events: list[DpEvent], name: str) -> None:
    budget = opened({}, DATA, "record", 8.0, DELTA)
    runs = (Run(name, tuple(charge(event) for event in events)),)
    budget = {**budget, DATA: type(budget[DATA])("record", 8.0, DELTA, runs)}
    back = read_budget(written(budget))
    assert written(back) == written(budget)
    assert [run.name for run in back[DATA].runs] == [name]
    for one, event in zip(back[DATA].runs[0].charges, events, strict=True):
        assert dict(flattened(one.event)) == dict(flattened(event))


def with_step(**changes: Any) -> Callable[[Any], None]:
    return lambda plain: plain["data"][DATA]["runs"][0]["charges"][0]["price"][0]["step"].update(changes)


def with_price(**changes: Any) -> Callable[[Any], None]:
    return lambda plain: plain["data"][DATA]["runs"][0]["charges"][0]["price"][0].update(changes)


def with_account(**changes: Any) -> Callable[[Any], None]:
    return lambda plain: plain["data"][DATA].update(changes)


TAMPERED = {
    "an unknown event": with_step(kind="free"),
    "negative noise": with_step(noise_multiplier=-1.0),
    "no noise": with_step(noise_multiplier=0.0),
    "next to no noise": with_step(noise_multiplier=1e-200),
    "noise that is no number": with_step(noise_multiplier="1.0"),
    "NaN": with_step(noise_multiplier=math.nan),
    "infinity": with_step(noise_multiplier=math.inf),
    "a rate above 1": with_step(rate=1.5),
    "a key that nothing has": with_step(discount=0.5),
    "a mixture that does not add up": lambda plain: with_price(
        step={
            "kind": "mixture_of_gaussians",
            "noise_multiplier": 1.0,
            "lengths": [0, 1],
            "shares": [0.5, 0.4],
        }
    )(plain),
    "fewer than one step": with_price(times=0),
    "half a step": with_price(times=1.5),
    "true steps": with_price(times=True),
    "an unknown unit": with_account(unit="hospital"),
    "a limit of 0": with_account(epsilon=0.0),
    "a delta of 1": with_account(delta=1.0),
    "runs that are none": with_account(runs=[1]),
    "another version": lambda plain: plain.update(version=3),
    "a ticket that is none": with_account(runs=[{"name": "a", "charges": [], "ticket": "x" * 32}]),
    "bytes that are no digest": with_account(digests=["ab"]),
    "another format": lambda plain: plain.update(format="budget"),
    "a digest that is none": lambda plain: plain["data"].update({"xyz": plain["data"][DATA]}),
}


@pytest.mark.parametrize("fault", TAMPERED)
def test_a_file_that_cannot_be_true_is_refused(fault: str) -> None:
    plain = json.loads(written(charged(account(), DATA, run(1))))
    TAMPERED[fault](plain)
    with pytest.raises(InputError):
        read_budget(json.dumps(plain).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000, b'{"data": {}, "data": {}}', b"1" * 5000],
    ids=["empty", "cut", "no text", "a list", "null", "deep", "twice", "long number"],
)
def test_bytes_that_are_no_budget_are_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        read_budget(content)


def test_a_run_hidden_by_a_second_list_is_noticed() -> None:
    text = written(charged(account(), DATA, run(1))).decode()
    hidden = text.replace('"unit": "record"\n  }', '"unit": "record",\n   "runs": []\n  }')
    assert hidden != text
    with pytest.raises(InputError, match="twice"):
        read_budget(hidden.encode())

"""The exam of every mechanism, found through the catalog: nothing here names one."""

from __future__ import annotations

import doctest
import importlib
import math
from typing import Any

import pytest
from dp_accounting.dp_event import ComposedDpEvent

from lazaretto import catalog
from lazaretto.errors import PlanError
from lazaretto.privacy.accounting import epsilon_of, flattened
from lazaretto.privacy.mechanism import Mechanism

NAMES = catalog.names("mechanisms")
DELTA = 1e-5


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(name: str) -> Mechanism:
    found: Mechanism = catalog.build("mechanisms", name)
    return found


def test_its_name_its_example_and_its_values(name: str, made: Mechanism) -> None:
    module = importlib.import_module(catalog.factory("mechanisms", name).__module__)
    ran = doctest.testmod(module)
    assert ran.attempted > 0
    assert ran.failed == 0
    assert made.name == name
    assert 0 < made.clip < math.inf
    assert 0 < made.noise_multiplier < math.inf
    assert 0 < made.rate <= 1
    assert made.steps >= 1
    assert (made.quantile is None) == (made.count_noise == 0)
    assert (made.rate == 1) or made.sampling != "everyone"


def test_its_noise_is_as_long_as_independent_noise_in_its_first_step(made: Mechanism) -> None:
    assert math.fsum(c * c for c in made.kernel) == pytest.approx(1, abs=1e-9)
    assert made.kernel[0] > 0
    if made.sampling == "fixed_order":
        assert len(made.kernel) <= round(1 / made.rate)
    else:
        assert made.kernel == (1.0,)  # sampling is priced for independent noise alone


def test_no_step_costs_nothing_and_each_more_costs_more(made: Mechanism) -> None:
    pass_steps = 1 if made.sampling != "fixed_order" else round(1 / made.rate)
    costs = [epsilon_of(made.event(steps * pass_steps), DELTA) for steps in (0, 1, 2, 5)]
    assert costs[0] == 0
    assert costs == sorted(set(costs))
    assert math.isfinite(costs[-1])


def test_a_run_costs_no_less_than_its_parts_together(made: Mechanism) -> None:
    """Whole passes, in a fixed order: within one pass an example is seen once, however it is cut."""
    steps = 3 if made.sampling != "fixed_order" else 3 * round(1 / made.rate)
    halves = epsilon_of(ComposedDpEvent([made.event(steps), made.event(steps)]), DELTA)
    assert epsilon_of(made.event(2 * steps), DELTA) >= halves * (1 - 1e-9)


def test_more_noise_costs_less(name: str, made: Mechanism) -> None:
    louder = catalog.build("mechanisms", name, {"noise_multiplier": 2 * made.noise_multiplier})
    assert epsilon_of(louder.event(10), DELTA) < epsilon_of(made.event(10), DELTA)


def test_its_clip_is_no_part_of_its_price(name: str, made: Mechanism) -> None:
    wider = catalog.build("mechanisms", name, {"clip": 2 * made.clip})
    assert dict(flattened(wider.event(10))) == dict(flattened(made.event(10)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip": 0.0},
        {"clip": math.inf},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"rate": 0.0},
        {"rate": 1.5},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        catalog.build("mechanisms", name, wrong)

"""Under a mechanism a unit's part, site and turn are its own, whoever comes or goes, whatever the seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data.duplicates import take
from lazaretto.errors import DataError, PlanError
from lazaretto.plan import Plan, load_plan
from lazaretto.promise import mechanism_of, split_key
from lazaretto.run import prepare as preparing
from lazaretto.run.prepare import lay, members
from lazaretto.run.private import PrivateSites, Promise
from lazaretto.run.simulate import pack_marks, pack_sites
from lazaretto.types import TEST, TRAIN, VALIDATION, Table

PRIVATE = (
    "privacy.mechanism=dp_ftrl",
    "privacy.noise_multiplier=2.0",
    "privacy.sample_rate=0.25",
    "privacy.options={bands=2}",
    "train.class_balance=0",
    "train.rounds=2",
    "evaluate.leave_one_family_out=false",
    "sites.withhold_families=0",
    "data.options={sites=3, units_per_site=16, windows=3}",
)
DEALINGS = {
    "natural": ("sites.withhold_families=2", "privacy.unit=patient"),
    "subdivided": ("sites.count=4",),
    "unit": ("sites.by=unit", "sites.count=3"),
    "dirichlet": ("sites.by=dirichlet", "sites.count=2", "sites.alpha=5.0", "privacy.unit=patient"),
    "quantity": ("sites.by=quantity", "sites.count=2", "sites.quantity_alpha=5.0"),
}


def plan_of(*sets: str, usual: tuple[str, ...] = PRIVATE) -> Plan:
    return load_plan(Path(__file__).parents[2] / "examples" / "consortium.toml", sets=[*usual, *sets])


@pytest.fixture(scope="module")
def table() -> Table:
    return preparing.load_table(plan_of(), 0)[1]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every load give the table that is put there; features are not looked at for leaks."""
    monkeypatch.setattr(preparing, "leak_notes", lambda *_, **__: [])
    source = preparing.catalog.build("sources", "consortium", {})

    def show(one: Table) -> None:
        monkeypatch.setattr(preparing, "load_table", lambda *_: (source, one))

    return show


def places(plan: Plan, seed: int = 0) -> dict[tuple[str, int], tuple[int, str, int]]:
    """(name of the unit, number of its window) -> part, site and mark."""
    laid = lay(plan, seed)
    data, found = laid.data, dict[tuple[str, int], tuple[int, str, int]]()
    assert data.marks is not None
    for row, unit in enumerate(data.unit.tolist()):
        for window, mark in enumerate(data.marks[row].tolist()):
            site = laid.parts.site_names[data.site[row]]
            found[laid.table.unit_names[unit], window] = (int(data.split[row]), site, mark)
    return found


def turns(plan: Plan, marked: bool = True) -> dict[int, list[int]]:
    """Mark of an example -> the steps of two rounds in which it is, by what is drawn for the sites."""
    laid = lay(plan, 0)
    made = mechanism_of(plan)
    assert made is not None
    held: Any = SimpleNamespace(data=laid.data, site_names=laid.parts.site_names)
    rows = members(held)
    data, _ = pack_sites(laid.data, rows, 2, 0.0, len(laid.schema.classes) - 1, 1)
    marks = pack_marks(laid.data, rows, data)
    assert marks is not None
    sites = PrivateSites(Promise(made, "seed", "", marks if marked else None), data, laid.data.window, 3)
    own = marks if made.unit == "record" else marks[..., 0]
    found = dict[int, list[int]]()
    for number in range(2):
        drawn = sites.draw(0, number, range(len(rows)))
        for site in range(len(rows)):
            for step in range(made.steps):
                who = drawn.rows[site, step, : drawn.count[site, step]]
                for mark in own[site].reshape(-1)[who].tolist():
                    found.setdefault(mark, []).append(number * made.steps + step)
    return found


@pytest.mark.parametrize("dealing", DEALINGS)
def test_no_unit_moves_another_one(table: Table, shown: Any, dealing: str) -> None:
    """Law: with any unit taken out, all others keep their part, their site and their marks."""
    asked = plan_of(*DEALINGS[dealing])
    shown(table)
    whole = places(asked)
    assert {part for part, _, _ in whole.values()} == {TRAIN, VALIDATION, TEST}
    compared = list[int]()

    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, len(table.unit_names) - 1))
    def law(gone: int) -> None:
        shown(take(table, table.unit != gone))
        try:
            found = places(asked)
        except DataError:  # a site or a part that is left empty is said, and nothing runs
            return
        compared.append(gone)
        assert found == {key: value for key, value in whole.items() if key[0] != table.unit_names[gone]}

    law()
    assert len(compared) > 3


def test_planted_fault_units_dealt_by_count(table: Table, shown: Any) -> None:
    """The law above would notice: without a mechanism one unit moves others, at once and with every seed."""
    plain = plan_of(usual=PRIVATE[-2:])

    def parts(one: Table, seed: int) -> dict[str, int]:
        split = preparing.split_table(plain, one, seed)
        return {one.unit_names[unit]: int(part) for unit, part in zip(split.unit, split.split, strict=True)}

    whole = parts(table, 0)
    kept = parts(take(table, table.unit != 0), 0)
    assert any(whole[name] != part for name, part in kept.items())
    assert parts(table, 1) != whole


def test_seeds_give_the_same_parts_and_another_word_gives_others(table: Table, shown: Any) -> None:
    shown(table)
    found = [places(plan_of(), seed) for seed in (0, 1, 2)]
    assert found[0] == found[1] == found[2]
    other = places(plan_of("split.key=second"))
    assert {key: one[0] for key, one in other.items()} != {key: one[0] for key, one in found[0].items()}


def test_with_other_seeds_the_simulator_s_names_stay_in_their_parts() -> None:
    """Its patients are others with every seed; a name stands for one of them, as it would in real data."""
    asked = plan_of()
    parts = []
    for seed in (0, 1):
        made = preparing.split_table(asked, preparing.load_table(asked, seed)[1], seed)
        parts.append({made.unit_names[u]: int(p) for u, p in zip(made.unit, made.split, strict=True)})
    both = set(parts[0]) & set(parts[1])
    assert len(both) > 5
    assert all(parts[0][name] == parts[1][name] for name in both)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_no_unit_moves_another_one_s_turn(table: Table, shown: Any, unit: str) -> None:
    asked = plan_of(f"privacy.unit={unit}")
    shown(table)
    whole, packed = turns(asked), turns(asked, marked=False)
    assert all(np.diff(steps).min(initial=4) >= 4 for steps in whole.values()), "once in a pass of four"
    moved = 0
    for gone in range(0, len(table.unit_names), 7):
        shown(take(table, table.unit != gone))
        found = turns(asked)
        assert set(found) <= set(whole)
        assert all(steps == whole[mark] for mark, steps in found.items())
        moved += any(steps != packed[mark] for mark, steps in turns(asked, marked=False).items())
    assert moved, "planted fault: by packed numbers others change their turn"


def test_copies_across_parts_stay_under_a_mechanism(table: Table) -> None:
    """Whether a training window is there must not decide whether another unit's is: so neither is removed."""
    asked = plan_of()
    plain = asked.model_copy(
        update={"privacy": Plan().privacy, "split": asked.split.model_copy(update={"dealt": "name"})}
    )
    split = preparing.split_table(asked, table, 0)
    first, last = (np.flatnonzero(split.split == part)[0] for part in (TRAIN, TEST))
    x = {name: values.copy() for name, values in table.x.items()}
    present = table.present.copy()
    for values in x.values():
        values[last] = values[first]
    present[last] = present[first]
    copied = replace(table, x=x, present=present)
    assert len(preparing.split_table(asked, copied, 0).y) == len(table.y)
    assert len(preparing.split_table(plain, copied, 0).y) < len(table.y)


def test_a_plan_without_privacy_may_have_the_same_parts(table: Table) -> None:
    private, plain = plan_of(), plan_of("split.dealt=name", usual=PRIVATE[-2:])
    a, b = (assigned(one, table) for one in (private, plain))
    np.testing.assert_array_equal(a, b)
    assert split_key(plan_of(usual=PRIVATE[-2:])) is None


def assigned(plan: Plan, table: Table) -> Any:
    asked = plan.split
    return preparing.assign_splits(
        table, asked.by, asked.validation, asked.test, 5, split_key(plan), asked.moments
    ).split


def test_cuts_in_time_are_where_the_plan_says(table: Table) -> None:
    table = replace(table, time=np.arange(len(table.y)) % 3 * 60.0)  # each unit has three windows
    moments = [30.0, 90.0]
    asked = plan_of(
        "split.by=time", f"split.moments={moments}", "privacy.mechanism=dp_sgd", "privacy.options={}"
    )
    whole = preparing.split_table(asked, table, 0)
    np.testing.assert_array_equal(whole.split, np.digitize(whole.time, moments))
    fewer = preparing.split_table(asked, take(table, np.arange(len(table.y)) % 5 != 0), 0)
    np.testing.assert_array_equal(fewer.split, whole.split[np.arange(len(table.y)) % 5 != 0])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["split.dealt=count"], "one unit more moves others"),
        (["split.by=time"], "one window more moves others"),
        (["split.by=time", "split.moments=[1, 2]"], "its turns come of the name"),
        (["split.by=time", "split.dealt=name"], "no meaning with split.by='time'"),
        (["split.moments=[1, 2]"], "no meaning with split.by='unit'"),
        (["split.by=time", "split.moments=[2, 1]"], "the earlier one first"),
        (["split.by=time", "split.moments=[1, 2]", "privacy.appearances=2"], "stands in two parts"),
    ],
)
def test_what_would_tell_of_others_is_refused(sets: list[str], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan_of(*sets)


def test_a_word_without_names_has_no_meaning() -> None:
    with pytest.raises(PlanError, match="not dealt by name"):
        plan_of("split.key=second", usual=())


def test_a_part_that_lacks_a_kind_says_the_way_out(table: Table) -> None:
    attacked = np.isin(table.unit, table.unit[(table.y_step > 0).any(axis=1)])
    first = table.unit[attacked][0]
    few = take(table, ~attacked | (table.unit == first))
    with pytest.raises(DataError, match=r"made by name, would have no attacked steps[^$]*split\] key ="):
        preparing.split_table(plan_of(), few, 0)

"""Who holds which unit: every site can train, and has none of what is withheld from it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lazaretto.data.sites import partition, unused_sites, withhold
from lazaretto.data.streams import Streams, carries, family_of
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.run.prepare import members
from lazaretto.types import TEST, TRAIN, UNASSIGNED, VALIDATION

CLASSES = ("normal", "scan", "flood", "telnet")


def streams(families: list[set[int]], splits: list[int]) -> Streams:
    """One stream of eight steps per unit, in which every family of the unit has two steps."""
    units = len(families)
    y = np.zeros((units, 8), np.int64)
    for unit, carried in enumerate(families):
        for place, family in enumerate(sorted(carried)):
            y[unit, 2 * place : 2 * place + 2] = family
    return Streams(
        x=np.ones((units, 8, 1), np.float32),
        y=y,
        valid=np.ones((units, 8), np.bool_),
        judged=np.ones((units, 8), np.bool_),
        unit=np.arange(units),
        site=np.full(units, UNASSIGNED),
        split=np.array(splits),
        start_time=np.zeros(units),
        features=("rate",),
        window=8,
    )


def dealt(data: Streams, sites: int) -> tuple[Streams, Any]:
    parts = partition(data, (), CLASSES, generator(0, "test"), "unit", sites, 1.0)
    return replace(data, site=parts.site), parts


def test_a_stream_carries_every_family_of_its_valid_steps() -> None:
    data = streams([{1, 2}, set(), {3}], [TRAIN] * 3)
    assert carries(data, 1).tolist() == [True, False, False]
    assert carries(data, 2).tolist() == [True, False, False]
    assert family_of(data).tolist() == [2, 0, 3]
    hidden = replace(data, valid=data.y != 1, judged=data.y != 1)
    assert not carries(hidden, 1).any()


def test_a_family_left_out_is_left_out_of_streams_that_carry_others_too() -> None:
    data = replace(streams([{1, 2}, {2}, {1}, set()], [TRAIN] * 4), site=np.zeros(4, np.int64))
    prepared: Any = SimpleNamespace(data=data, site_names=("only",))
    assert members(prepared)[0].tolist() == [0, 1, 2, 3]
    assert members(prepared, without=1)[0].tolist() == [1, 3]


def test_no_site_holds_what_is_withheld_from_it() -> None:
    draw = generator(1, "test")
    families = [set(draw.choice([1, 2, 3], draw.integers(0, 3), replace=False).tolist()) for _ in range(120)]
    splits = draw.choice([TRAIN, VALIDATION, TEST], 120, p=[0.6, 0.2, 0.2]).tolist()
    data, parts = dealt(streams(families, splits), 6)
    moved, kept = withhold(data, parts, 1)
    trained = moved.split != TEST
    for site, family in zip(*np.nonzero(kept.withheld), strict=True):
        assert not carries(moved, int(family))[trained & (moved.site == site)].any()
    assert kept.withheld.sum() == 6
    np.testing.assert_array_equal(moved.site[~trained], data.site[~trained])  # test units stay


def test_a_unit_that_no_site_may_have_is_refused_not_lost() -> None:
    data, parts = dealt(streams([{1, 2}] + [set()] * 11, [TRAIN] * 12), 3)
    with pytest.raises(DataError, match="no site may have a unit"):
        withhold(data, parts, 2)


def test_a_site_with_validation_units_alone_is_refused() -> None:
    data = streams([set()] * 4, [TRAIN, TRAIN, VALIDATION, VALIDATION])
    data = replace(data, site=np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="no units to train on"):
        partition(data, ("one", "two"), CLASSES, generator(0, "test"), "natural", None, 1.0)


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_natural_sites_are_subdivided_by_their_size(count: int) -> None:
    draw = generator(3, "test")
    splits = np.repeat([TRAIN, VALIDATION, TEST], [90, 30, 30]).tolist()
    data = streams([set(draw.choice([1, 2, 3], 1).tolist()) for _ in range(150)], splits)
    natural = np.tile(np.repeat([0, 1, 2], [5, 3, 2]), 15)
    data = replace(data, site=natural)
    parts = partition(data, ("a", "b", "c"), CLASSES, generator(0, "test"), "natural", count)
    assert len(parts.site_names) == len(set(parts.site_names)) == count
    sizes = np.bincount(parts.site, minlength=count)
    for site in range(count):
        (whole,) = np.unique(natural[parts.site == site])
        assert parts.site_names[site].startswith("abc"[whole])
        for split in (TRAIN, VALIDATION, TEST):
            own = parts.site[natural == whole]
            within = np.bincount(own[data.split[natural == whole] == split], minlength=count)[np.unique(own)]
            assert within.max() - within.min() <= 1, "every split is dealt evenly"
    assert count == 3 or sizes.max() <= 2.5 * sizes.min(), "parts are of much the same size"
    again = partition(data, ("a", "b", "c"), CLASSES, generator(0, "test"), "natural", count)
    np.testing.assert_array_equal(parts.site, again.site)


@pytest.mark.parametrize("count", [2, 13])
def test_natural_sites_are_not_merged_and_units_not_split(count: int) -> None:
    data = replace(streams([{1}] * 12, [TRAIN] * 12), site=np.repeat([0, 1, 2], 4))
    with pytest.raises(DataError, match="choose 3 to 12 sites"):
        partition(data, ("a", "b", "c"), CLASSES, generator(0, "test"), "natural", count)


def test_sites_that_the_data_name_and_nobody_uses_are_told_of() -> None:
    (warning,) = unused_sites(("north", "south", "east", "west"), "unit")
    assert "4 sites: north, south, east, ..." in warning
    assert "1 site: north)" in unused_sites(("north",), "unit")[0]
    assert unused_sites((), "unit") == unused_sites(("north",), "natural") == []
    assert unused_sites(("north",), "dirichlet") == [], "a study of skew, which is meant"

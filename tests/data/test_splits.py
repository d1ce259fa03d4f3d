"""Splits by unit and by time, and copies across them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.data.dropped import drop_features
from lazaretto.data.duplicates import remove_duplicates, window_digests
from lazaretto.data.splits import assign_splits
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.run.seen import Seen, window_states
from lazaretto.types import TEST, TRAIN, UNASSIGNED, VALIDATION, Schema, Table


def table_of(kinds: list[int], windows: int = 4, steps: int = 3, sites: int = 0, features: int = 5) -> Table:
    """Units, one per entry of `kinds`: attack of that class in the last window, else normal."""
    units, n = len(kinds), len(kinds) * windows
    unit = np.repeat(np.arange(units), windows)
    y_step = np.zeros((n, steps), np.int64)
    last = np.arange(n) % windows == windows - 1
    y_step[last, -1] = np.array(kinds)
    draw = generator(0, "test", "splits")
    x = draw.normal(size=(n, steps, features)).astype(np.float32)
    return Table(
        x={"traffic": x},
        present=np.ones((n, 1), bool),
        y=y_step.max(axis=1),
        y_step=y_step,
        valid=np.ones((n, steps), bool),
        unit=unit,
        unit_names=tuple(f"u{i}" for i in range(units)),
        time=np.tile(np.arange(windows) * 10.0, units),
        site=unit % sites if sites else np.full(n, UNASSIGNED),
        site_names=tuple(f"s{i}" for i in range(sites)),
        split=np.full(n, UNASSIGNED),
        schema=Schema(
            features={"traffic": tuple("abcdefghij"[:features])},
            classes=("normal", "scan", "flood", "leak"),
            step="1 second",
            step_seconds=1.0,
        ),
    )


def held(table: Table, part: int) -> set[int]:
    return set(table.y_step[table.split == part][table.valid[table.split == part]].tolist())


@given(
    kinds=st.lists(st.integers(0, 3), min_size=6, max_size=60).filter(
        lambda kinds: sum(kind > 0 for kind in kinds) >= 6
    ),
    sites=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_what_a_split_by_unit_guarantees(kinds: list[int], sites: int, seed: int) -> None:
    table = table_of(kinds, sites=sites)
    try:
        split = assign_splits(table, seed=seed)
    except DataError:
        # only where some class or site is so rare that training must have its last unit
        if sites == 0 and all(kinds.count(kind) not in (1, 2) for kind in (1, 2, 3)):
            raise
        return
    pairs = {(u, s) for u, s in zip(split.unit.tolist(), split.split.tolist(), strict=True)}
    assert len(pairs) == len(kinds)
    for part in (TRAIN, VALIDATION, TEST):
        assert 0 in held(split, part)
        assert held(split, part) - {0}
        assert held(split, part) <= held(split, TRAIN)
    for kind in (1, 2, 3):
        if (
            kinds.count(kind) >= 3
            and all(kinds.count(k) >= 3 or not kinds.count(k) for k in (1, 2, 3))
            and not sites
        ):
            assert kind in held(split, VALIDATION) & held(split, TEST)
    for site in range(sites):
        assert ((split.site == site) & (split.split == TRAIN)).any()
    again = assign_splits(table, seed=seed)
    np.testing.assert_array_equal(split.split, again.split)
    np.testing.assert_array_equal(table.split, UNASSIGNED)  # the argument is left as it was


@pytest.mark.parametrize(("kind", "says"), [(0, "no step is attacked"), (1, "no step is normal")])
def test_labels_in_files_are_no_way_out_of_one_kind_alone_where_there_are_none(kind: int, says: str) -> None:
    table = table_of([kind] * 12)
    table = replace(table, y_step=np.full_like(table.y_step, kind))
    with pytest.raises(DataError) as plain:
        assign_splits(table)
    assert str(plain.value).startswith(f"{says}: a detector needs")
    assert "label" not in str(plain.value)
    assert "option" in str(plain.value)
    with pytest.raises(DataError, match=r"data\.options\.label"):
        assign_splits(replace(table, labels={("x", table.schema.classes[kind]): 12}))


def test_shares_are_kept_and_sites_spread() -> None:
    split = assign_splits(table_of([0, 1, 2, 3] * 50, sites=4), validation=0.15, test=0.3)
    shares = np.bincount(split.split) / len(split.split)
    np.testing.assert_allclose(shares, [0.55, 0.15, 0.3], atol=0.03)
    tests = np.bincount(split.site[split.split == TEST])
    assert tests.min() >= 0.8 * tests.max()


def test_seeds_give_other_splits() -> None:
    table = table_of([0, 1, 2, 3] * 10)
    assert (assign_splits(table, seed=0).split != assign_splits(table, seed=1).split).any()


def test_by_time_later_windows_are_judged_and_units_are_cut() -> None:
    table = table_of([1] * 6, windows=20)
    busy = table.y_step.copy()
    busy[np.isin(np.arange(len(busy)) % 20, (2, 12, 17)), 1] = 2
    table = replace(table, y_step=busy, y=busy.max(axis=1))
    split = assign_splits(table, by="time", validation=0.2, test=0.3)
    assert split.time[split.split == TRAIN].max() < split.time[split.split == VALIDATION].min()
    assert split.time[split.split == VALIDATION].max() < split.time[split.split == TEST].min()
    assert len(split.unit_names) == 18
    assert split.unit_names[:3] == ("u0 (training)", "u0 (validation)", "u0 (test)")
    assert len(np.unique(np.stack([split.unit, split.split]), axis=1).T) == 18
    np.testing.assert_allclose(np.bincount(split.split) / len(split.split), [0.5, 0.2, 0.3], atol=0.01)


def test_by_time_says_which_classes_training_has_not() -> None:
    table = table_of([1] * 6, windows=20)
    y_step = np.zeros_like(table.y_step)
    y_step[np.isin(np.arange(len(y_step)) % 20, (2, 12)), 1] = 1
    y_step[np.arange(len(y_step)) % 20 == 18, 1] = 3
    split = assign_splits(replace(table, y_step=y_step), by="time")
    assert "Not in training, but in a later split: leak." in split.notes


def test_a_source_that_has_decided_is_left_alone() -> None:
    table = assign_splits(table_of([0, 1, 2, 3] * 5))
    assert assign_splits(table, seed=5) is table
    crossed = replace(table, unit=np.roll(table.unit, 1))
    with pytest.raises(DataError, match="a unit stands in two splits"):
        assign_splits(crossed)
    one = table.unit.copy()
    one[0] = table.unit[table.split != table.split[0]][0]
    with pytest.raises(DataError, match=r"\(found: [^)]*\)") as caught:
        assign_splits(replace(table, unit=one))
    assert " more" not in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "by", "words"),
    [
        ([0] * 9, "unit", "only normal"),
        ([0, 1], "unit", "at least three units"),
        ([1, 0, 0, 0, 0, 0], "unit", "would have no attacked steps"),
        ([1, 1, 0, 0, 0, 0], "unit", "the validation split, made by unit, would have no attacked steps"),
        ([1, 1, 1, 1], "time", "the training split, made by time, would have no attacked steps"),
    ],
)
def test_too_little_is_refused(kinds: list[int], by: Literal["unit", "time"], words: str) -> None:
    with pytest.raises(DataError, match=f"{words}[^$]*way out"):
        assign_splits(table_of(kinds), by=by)


@pytest.mark.parametrize("shares", [{"test": 0.0}, {"validation": 1.0}, {"validation": 0.5, "test": 0.45}])
def test_shares_out_of_range_are_refused(shares: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="shares of validation and test"):
        assign_splits(table_of([0, 1] * 9), **shares)


def split_table(copies: list[tuple[int, int]], **kw: Any) -> Table:
    """A split table where window `to` holds the values of window `from`."""
    table = assign_splits(table_of([0, 1, 2, 3] * 5, **kw))
    x = table.x["traffic"].copy()
    for source, target in copies:
        x[target] = x[source]
    return replace(table, x={"traffic": x})


def test_copies_go_from_the_later_split_only() -> None:
    plain = split_table([])
    train, val, test = (np.flatnonzero(plain.split == part) for part in (TRAIN, VALIDATION, TEST))
    table = split_table([(train[0], test[0]), (train[0], train[3]), (val[1], test[1]), (test[2], train[4])])
    kept, removed = remove_duplicates(table)
    assert removed == 3
    assert kept.counts["duplicates_removed"] == 3
    gone = np.ones(len(table.y), bool)
    gone[test[:3]] = False
    np.testing.assert_array_equal(kept.x["traffic"], table.x["traffic"][gone])
    np.testing.assert_array_equal(kept.unit, table.unit[gone])
    assert remove_duplicates(kept)[1] == 0
    assert remove_duplicates(plain)[1] == 0


def test_windows_are_compared_by_what_a_model_reads() -> None:
    plain = split_table([])
    train, test = (np.flatnonzero(plain.split == part) for part in (TRAIN, TEST))
    table = split_table([(train[0], test[0])])
    record = np.random.default_rng(1).normal(size=(*table.valid.shape, 2)).astype(np.float32)
    features = {**table.schema.features, "record": ("pulse", "pressure")}
    both = replace(
        table,
        x={**table.x, "record": record},
        present=np.ones((len(table.y), 2), bool),
        schema=replace(table.schema, features=features),
    )
    assert remove_duplicates(both, "traffic")[1] == 1
    assert [remove_duplicates(both, read)[1] for read in ("record", "combined", None)] == [0, 0, 0]
    less = drop_features(both, ["pulse"])
    for read, same in (("traffic", True), ("record", False), ("combined", False)):
        assert np.array_equal(window_digests(both, read)[0], window_digests(less, read)[0]) == same
    np.testing.assert_array_equal(window_digests(both, "traffic")[0], window_digests(table)[0])


@pytest.mark.parametrize("steps", [1, 3])
def test_windows_that_lack_what_is_read_are_no_copies(steps: int) -> None:
    """All that lack the record look alike to who reads the record; none of them is another's copy."""
    plain = split_table([])
    valid = plain.valid & (np.arange(plain.valid.shape[1]) < steps)
    present = np.ones((len(plain.y), 2), bool)
    present[::2, 1] = False
    record = np.random.default_rng(1).normal(size=(*valid.shape, 2)).astype(np.float32)
    record[::2] = 0.0
    table = replace(
        plain,
        x={**plain.x, "record": record},
        valid=valid,
        present=present,
        schema=replace(plain.schema, features={**plain.schema.features, "record": ("pulse", "pressure")}),
    )
    assert (np.bincount(plain.split[::2], minlength=3) > 0).all(), "such windows stand in every split"
    for read in ("record", "traffic", None):
        kept, removed = remove_duplicates(table, read)
        assert removed == 0
        assert kept.counts["duplicates_idle_kept"] == 0
    assert window_digests(table, "record")[1][::2].all()
    digests, idle = window_digests(table, "record")
    seen = Seen(np.unique(digests[~idle], axis=0), ())
    assert not window_states(seen, table, "record")[0][::2].any()


def test_near_copies_and_padding() -> None:
    plain = split_table([])
    train, test = (np.flatnonzero(plain.split == part) for part in (TRAIN, TEST))
    table = split_table([(train[0], test[0]), (train[1], test[1])])
    x, valid = table.x["traffic"].copy(), table.valid.copy()
    x[test[0], 0, 0] = np.nextafter(x[test[0], 0, 0], np.float32(9))  # not the same: kept
    valid[[train[1], test[1]], 2] = False
    x[test[1], 2] = 99  # differs only where not valid: a copy
    kept, removed = remove_duplicates(replace(table, x={"traffic": x}, valid=valid))
    assert removed == 1
    assert len(kept.y) == len(table.y) - 1


def test_intensity_goes_with_its_windows() -> None:
    plain = split_table([])
    train, test = (np.flatnonzero(plain.split == part) for part in (TRAIN, TEST))
    table = split_table([(train[0], test[0])])
    intensity = np.arange(table.y_step.size, dtype=np.float32).reshape(table.y_step.shape)
    kept, removed = remove_duplicates(replace(table, intensity=intensity))
    assert removed == 1
    assert kept.intensity is not None
    np.testing.assert_array_equal(kept.intensity, np.delete(intensity, test[0], axis=0))


def test_idle_windows_stay_and_are_counted() -> None:
    table = split_table([])
    x = table.x["traffic"].copy()
    idle = [np.flatnonzero(table.split == part)[0] for part in (TRAIN, VALIDATION, TEST)]
    x[idle] = 0.0
    x[idle[2], 1] = -0.0
    kept, removed = remove_duplicates(replace(table, x={"traffic": x}))
    assert removed == 0
    assert kept.counts["duplicates_idle_kept"] == 2


def test_a_split_of_nothing_but_copies_is_refused() -> None:
    plain = split_table([])
    train, test = (np.flatnonzero(plain.split == part) for part in (TRAIN, TEST))
    table = split_table([(int(train[0]), window) for window in test.tolist()])
    with pytest.raises(DataError, match="every test window is a copy"):
        remove_duplicates(table)
    with pytest.raises(DataError, match="some windows have no split"):
        remove_duplicates(table_of([0, 1]))


def test_many_windows_are_quick() -> None:
    table = assign_splits(table_of([0, 1, 2, 3] * 50, windows=100, steps=16, features=10))
    start = time.perf_counter()
    remove_duplicates(table)
    assert time.perf_counter() - start < 5  # 20,000 windows; about a fifth of a second unhurried

"""What the sources of records share: units of measurement, copies, the end of a stay, tasks, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.data import _records
from lazaretto.data._clinical import VARIABLES, in_kept_unit
from lazaretto.data._record_sample import made_up_stays
from lazaretto.data._record_tasks import with_tampering
from lazaretto.data._records import (
    EVENTS,
    RecordPlan,
    Stays,
    checked_plan,
    clean_events,
    kept_events,
    record_table,
)
from lazaretto.data.splits import assign_splits
from lazaretto.data.tampering import KINDS
from lazaretto.errors import DataError, PlanError
from lazaretto.types import TEST, TRAIN, UNASSIGNED, VALIDATION, Table

PLAN = RecordPlan(task="records", step_hours=1.0, most_hours=24.0, tampered=0.5, kinds=tuple(KINDS), copies=1)
HEART = "heart_rate_per_minute"


def events(*rows: tuple[int, float, str, float, str | None]) -> pl.DataFrame:
    """(stay, hours, variable, value, unit of measurement)"""
    return pl.DataFrame([(s, h, "c", v, x, u) for s, h, v, x, u in rows], schema=EVENTS, orient="row")


def stays(held: pl.DataFrame, hours: list[float], **more: Any) -> Stays:
    names = tuple(f"stay {number}" for number in range(len(hours)))
    return Stays(
        names=names,
        sites=more.pop("sites", ("",) * len(hours)),
        hours=np.array(hours),
        start_seconds=np.zeros(len(hours)),
        events=held,
        **more,
    )


def test_units_of_measurement() -> None:
    """By hand: 98.6 °F are 37 °C, 10 kPa 75.0062 mmHg, 1 mg/dl of creatinine 88.4 µmol/l."""
    held, unknown = kept_events(
        events(
            (0, 0, "temperature_celsius", 98.6, "[degF]"),
            (0, 1, "mean_pressure_mmhg", 10, "kPa"),
            (0, 2, "creatinine_mg_per_dl", 88.4, "µmol/L"),
            (0, 3, "creatinine_mg_per_dl", 88.4, "furlong"),
            (0, 4, "creatinine_mg_per_dl", 88.4, None),
            (0, 5, "glasgow_coma_scale", 15, None),
        )
    )
    np.testing.assert_allclose(held["value"], [37, 75.0062, 1, 15], rtol=1e-6)
    assert held["hours"].to_list() == [0, 1, 2, 5]
    assert unknown == {"creatinine_mg_per_dl": 2}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(VARIABLES)), st.integers(0, 5), st.floats(-1e6, 1e6)), max_size=20
    )
)
def test_units_as_the_vocabulary_has_them(rows: list[tuple[str, int, float]]) -> None:
    """Against `in_kept_unit`, one value at a time; a value in the kept unit stays what it is, to the bit."""
    told = [(*row, sorted(VARIABLES[row[0]].units)[row[1] % len(VARIABLES[row[0]].units)]) for row in rows]
    held, unknown = kept_events(
        events(*((0, i, name, value, uom) for i, (name, _, value, uom) in enumerate(told)))
    )
    assert not unknown
    wanted = [in_kept_unit(name, [value], [uom])[0][0] for name, _, value, uom in told]
    np.testing.assert_allclose(held["value"].to_numpy(), wanted, rtol=1e-9, atol=1e-9)
    for place, (name, _, value, uom) in enumerate(told):
        if VARIABLES[name].units[uom] == (1.0, 0.0):
            assert held["value"][place] == value


def test_copies_and_order() -> None:
    one, later = (0, 1.0, HEART, 70.0, "bpm"), (0, 0.5, HEART, 71.0, "bpm")
    held, copies = clean_events(
        events(one, later, one, (1, 1.0, HEART, 70.0, "bpm"), (0, 1.0, HEART, 70.0, "/min"))
    )
    assert copies == 1
    assert held.select("stay", "hours", "value", "uom").rows() == [
        (0, 0.5, 71, "bpm"),
        (0, 1, 70, "bpm"),
        (0, 1, 70, "/min"),
        (1, 1, 70, "bpm"),
    ]


def test_the_end_of_a_stay_and_of_what_is_read() -> None:
    held = events(
        *((stay, hour, HEART, 70 + hour, "bpm") for stay in (0, 1) for hour in (-1, 0.5, 2.6, 23.9, 24))
    )
    table = record_table("x", stays(held, [2.5, 99]), PLAN)
    assert table.valid.sum(axis=1).tolist() == [3, 24]
    found = table.x["record"][..., 0]
    assert np.argwhere(np.isfinite(found) & table.valid).tolist() == [[0, 0], [1, 0], [1, 2], [1, 23]]
    assert table.counts["events_outside_the_hours_read"] == 6
    assert not found[~table.valid].any()


def test_who_is_only_described_has_no_record() -> None:
    held = events((0, 0, "age_years", 50, "a"), (1, 0, "age_years", 50, "a"), (1, 0, HEART, 70, "bpm"))
    table = record_table("x", stays(held, [2, 2]), PLAN)
    assert table.unit_names == ("stay 1",)
    assert table.counts["stays_without_measurements"] == 1
    with pytest.raises(
        DataError, match=r"x: no stay has a measurement(.|\n)*3 events, of these 3 implausible and 0"
    ):
        record_table("x", stays(held.with_columns(value=pl.col("value") * 10), [2, 2]), PLAN)


@pytest.mark.parametrize("hours", [[], [float("nan"), 0.0, -1.0]])
def test_no_stay_that_can_be_used(hours: list[float]) -> None:
    with pytest.raises(DataError, match="x: no stay can be used"):
        record_table("x", stays(events(), hours), PLAN)


def test_a_table_that_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    held = events((0, 0, HEART, 70, "bpm"))
    monkeypatch.setattr(_records, "MOST_CELLS", 23)
    with pytest.raises(DataError, match=r"too large(.|\n)*up to 24 steps with 1 variables(.|\n)*step_hours"):
        record_table("x", stays(held, [24]), PLAN)


def forged(seed: int = 0, **more: Any) -> Table:
    return record_table("x", made_up_stays("x"), replace(PLAN, task="tampering", **more), seed)


def test_forgeries_touch_only_what_was_measured() -> None:
    clean, table = record_table("x", made_up_stays("x"), PLAN), forged()
    assert table.unit_names == clean.unit_names
    ours, theirs = clean.x["record"], table.x["record"]
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    changed = ((ours != theirs) & ~np.isnan(ours)).any(axis=2)
    assert changed.any()
    assert not (changed & (table.y_step == 0)).any()
    assert table.counts["stays_tampered"] == int((table.y > 0).sum())


def test_splits_and_seeds() -> None:
    table = forged(3)
    assert UNASSIGNED not in table.split
    for site in (0, 1):  # 30 stays each: 30 % and 15 %, rounded, the rest is training
        assert np.bincount(table.split[table.site == site]).tolist() == [17, 4, 9]
    np.testing.assert_array_equal(table.x["record"], forged(3).x["record"])
    assert not np.array_equal(table.split, forged(4).split)


def test_training_stays_forged_again() -> None:
    """Copies are of training stays alone and forged otherwise; what was there stays as it is."""
    once = with_tampering("x", record_table("x", made_up_stays("x"), PLAN), 3, 0.5, tuple(KINDS))
    clean = record_table("x", made_up_stays("x"), PLAN)
    table = with_tampering("x", clean, 3, 0.5, tuple(KINDS), copies=3)
    trained = np.flatnonzero(once.split == TRAIN)
    count = len(once.y)
    assert len(table.y) == count + 2 * len(trained)
    np.testing.assert_array_equal(table.x["record"][:count], once.x["record"])
    np.testing.assert_array_equal(table.y_step[:count], once.y_step)
    assert set(table.split[count:]) == {TRAIN}
    assert len(set(table.unit.tolist())) == len(table.y) == len(set(table.unit_names))
    for copy in range(2):
        rows = slice(count + copy * len(trained), count + (copy + 1) * len(trained))
        ours, first = table.x["record"][rows], clean.x["record"][trained]
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(first))
        changed = ((ours != first) & ~np.isnan(first)).any(axis=2)
        assert not (changed & (table.y_step[rows] == 0)).any()
        assert not np.array_equal(table.y_step[rows], once.y_step[trained])
        np.testing.assert_array_equal(table.site[rows], once.site[trained])
    assert any("is there 3 times" in note for note in table.notes)
    assert table.counts["stays_tampered"] == once.counts["stays_tampered"]


@pytest.mark.parametrize("copies", [0, 17, True, 1.5])
def test_copies_out_of_range(copies: Any) -> None:
    with pytest.raises(PlanError, match="training_copies is out of range"):
        checked_plan("x", "tampering", 1, 24, 0.5, list(KINDS), copies)


@pytest.mark.parametrize("task", ["mortality", "records"])
def test_copies_of_what_is_not_forged_are_refused(task: str) -> None:
    with pytest.raises(PlanError, match="forges nothing"):
        checked_plan("x", task, 1, 24, 0.5, list(KINDS), 2)


def test_small_sites_are_dealt_together() -> None:
    clean = record_table("x", made_up_stays("x"), PLAN)
    alone = replace(clean, site=np.arange(60), site_names=tuple(f"h{i}" for i in range(60)))
    table = with_tampering("x", alone, 0, 0.5, tuple(KINDS))
    assert np.bincount(table.split).tolist() == [33, 9, 18]
    nowhere = replace(clean, site=np.full(60, UNASSIGNED), site_names=())
    assert set(with_tampering("x", nowhere, 0, 0.5, tuple(KINDS)).split) == {TRAIN, VALIDATION, TEST}


def test_what_cannot_be_forged() -> None:
    held = events(*((stay, 1, "cholesterol_mg_per_dl", 200, "mg/dL") for stay in range(9)))
    table = record_table("x", stays(held, [30.0] * 9), replace(PLAN, task="tampering"))
    assert table.counts["stays_tampered"] == 0
    assert any("None of these series could be forged" in note for note in table.notes)
    with pytest.raises(DataError, match="only normal"):
        assign_splits(table)


def test_outcome_is_asked_for_once_at_the_end() -> None:
    held = events(*((stay, 1, HEART, 70 + stay, "bpm") for stay in range(4)))
    made = stays(
        held,
        [30, 30, 10, 30],
        died=np.array([True, False, True, True]),
        judged=np.array([True, True, True, False]),
    )
    table = record_table("x", made, replace(PLAN, task="mortality"))
    assert table.unit_names == ("stay 0", "stay 1")
    assert table.y_step.tolist() == [[1] * 24, [0] * 24]
    assert table.judged is not None
    assert np.argwhere(table.judged).tolist() == [[0, 23], [1, 23]]
    assert (table.counts["stays_too_short"], table.counts["stays_without_outcome"]) == (1, 1)


def test_a_plan_of_defaults() -> None:
    assert checked_plan("x", "records", 1, 24, 0.5, list(KINDS), 1) == PLAN

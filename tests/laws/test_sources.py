"""The exam of every source, found through the catalog: nothing here names one."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from lazaretto import catalog, wire
from lazaretto.data.appearances import most_appearances
from lazaretto.data.duplicates import remove_duplicates
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import streams
from lazaretto.types import NORMAL, TEST, TRAIN, UNASSIGNED, VALIDATION, Source, Table


@pytest.fixture(params=catalog.names("sources"), scope="module")
def source(request: pytest.FixtureRequest) -> Source:
    made: Source = catalog.build("sources", request.param)
    return made


@pytest.fixture(scope="module")
def table(source: Source) -> Table:
    return source.sample()


def digest(table: Table) -> bytes:
    """SHA-256 over everything in a table."""
    total = hashlib.sha256()
    for part in dataclasses.fields(table):
        value = getattr(table, part.name)
        if part.name == "schema":
            value = {name.name: getattr(value, name.name) for name in dataclasses.fields(value)}
            value["irregular"] = sorted(value["irregular"])
        if part.name == "x":
            value = {name: [np.nan_to_num(held), np.isnan(held)] for name, held in value.items()}
        total.update(wire.encode([part.name, value]))
    return total.digest()


def test_its_name_is_the_file_s(source: Source) -> None:
    assert source.name in catalog.names("sources")
    assert catalog.describe("sources", source.name)
    assert all(reason for reason in source.leaks.values()), "each dropped column needs its reason"


def test_shapes_and_types(table: Table) -> None:
    n, steps = table.y_step.shape
    assert n > 0
    assert steps > 0
    assert set(table.x) == set(table.schema.features)
    for modality, names in table.schema.features.items():
        assert len(set(names)) == len(names) > 0
        assert table.x[modality].shape[::2] == (n, len(names))
        assert table.x[modality].dtype == np.float32
    assert table.present.shape == (n, len(table.x))
    assert table.present.dtype == table.valid.dtype == np.bool_
    assert table.valid.shape == (n, steps)
    for name in ("y", "unit", "site", "split"):
        assert getattr(table, name).shape == (n,), name
        assert getattr(table, name).dtype == np.int64, name
    assert table.y_step.dtype == np.int64
    assert table.time.shape == (n,)
    assert table.time.dtype == np.float64


def test_schema(table: Table) -> None:
    schema = table.schema
    assert schema.classes[0] == NORMAL
    assert len(set(schema.classes)) == len(schema.classes) > 1
    assert schema.step_seconds > 0
    assert schema.step
    every = [name for names in schema.features.values() for name in names]
    assert schema.rate_feature is None or schema.rate_feature in every
    assert schema.irregular <= set(schema.features)
    assert all(isinstance(count, int) and count >= 0 for count in table.counts.values())


def test_finite_where_valid_and_zero_where_not(table: Table) -> None:
    for modality, values in table.x.items():
        gap = np.isnan(values) if modality in table.schema.irregular else np.zeros(values.shape, bool)
        assert np.isfinite(values[~gap]).all()
        if values.shape[1] == table.valid.shape[1]:
            assert not values[~table.valid].any(), modality
        if modality in table.schema.irregular:
            measured = ~gap & table.valid[..., None]
            assert measured.any(axis=(0, 1)).all(), "a channel that nobody ever has"
            assert gap.any(), "nothing is missing: not irregular"
        absent = ~table.present[:, list(table.schema.features).index(modality)]
        assert not values[absent].any(), modality
    assert table.valid.any(axis=1).all(), "a window without any step"


def test_labels(table: Table) -> None:
    assert table.y_step.min() >= 0
    assert table.y_step.max() < len(table.schema.classes)
    np.testing.assert_array_equal(table.y, np.where(table.valid, table.y_step, 0).max(axis=1))
    seen = set(np.unique(table.y_step[table.valid]))
    assert 0 in seen, "normal steps"
    assert len(seen) > 1, "attacked steps"


def test_intensity_stands_where_there_is_an_attack(table: Table) -> None:
    edges = table.schema.intensity_edges
    assert (table.intensity is None) == (not edges) == (not table.schema.intensity)
    if table.intensity is None:
        return
    assert table.intensity.dtype == np.float32
    assert table.intensity.shape == table.y_step.shape
    np.testing.assert_array_equal(table.intensity > 0, table.y_step > 0)
    assert edges[0] > 0
    assert list(edges) == sorted(set(edges))
    data = streams(table, next(iter(table.schema.features)))
    assert data.intensity is not None
    np.testing.assert_array_equal((data.intensity > 0) & data.valid, (data.y > 0) & data.valid)


def test_indices_have_names(table: Table) -> None:
    assert table.unit.min() >= 0
    assert table.unit.max() < len(table.unit_names)
    assert len(set(table.unit_names)) == len(table.unit_names)
    assert table.site.min() >= UNASSIGNED
    assert table.site.max() < max(len(table.site_names), 1)
    assert set(np.unique(table.split)) <= {UNASSIGNED, TRAIN, VALIDATION, TEST}


def test_time_grows_within_a_unit(table: Table) -> None:
    for unit in np.unique(table.unit):
        rows = table.unit == unit
        assert (np.diff(table.time[rows]) > 0).all()
        assert len(set(table.site[rows])) == 1, "a unit belongs to one site"


def test_padding_ends_a_unit(table: Table) -> None:
    assert not (np.diff(table.valid.astype(int), axis=1) > 0).any(), "a valid step after padding"


def test_same_sample_twice(source: Source, table: Table) -> None:
    assert digest(source.sample()) == digest(table)


def test_loading_is_seeded(source: Source) -> None:
    if source.needs_path:
        assert source.raw is not None, "a source that reads files shows its rows to the leak check"
        return
    assert digest(source.load(None, 3)) == digest(source.load(None, 3))
    assert digest(source.load(None, 3)) != digest(source.load(None, 4))


def test_no_unit_in_two_splits(table: Table) -> None:
    split, _ = remove_duplicates(assign_splits(table))
    assert set(np.unique(split.split)) == {TRAIN, VALIDATION, TEST}
    for unit in np.unique(split.unit):
        assert len(set(split.split[split.unit == unit])) == 1


def test_it_says_how_it_lays_units_out(source: Source, table: Table) -> None:
    """Who decides splits, and in how many windows a step stands: public, and the data keep to it."""
    assert source.deals == bool((table.split != UNASSIGNED).any())
    whole = table if source.deals else assign_splits(table)
    assert most_appearances(whole) <= source.appearances


def test_becomes_streams(table: Table) -> None:
    for modality in table.schema.features:
        data = streams(table, modality)
        assert data.x.shape[:2] == data.y.shape == data.valid.shape
        known = np.isfinite(data.x)
        assert known[~data.valid].all()
        assert known.all() or modality in table.schema.irregular

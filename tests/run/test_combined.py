"""Several modalities: how they are read side by side, hidden, and found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazaretto.data.scaling import Scaling, apply_scaling
from lazaretto.data.streams import COMBINED, Streams, hide, select, streams
from lazaretto.errors import DataError
from lazaretto.run.modalities import only, without
from lazaretto.run.prepare import Prepared, read
from lazaretto.types import UNASSIGNED, Part, Schema, Table

NAN = np.nan
PLAIN = Scaling(np.zeros(5, np.float32), np.ones(5, np.float32))


def _scaled(values: np.ndarray) -> np.ndarray:
    return apply_scaling(Scaling(PLAIN.center[:1], PLAIN.scale[:1]), values[..., None])[..., 0]


def _table(irregular: bool) -> Table:
    """Two units of two windows of two steps; unit 1 has no record in its first window."""
    rng = np.random.default_rng(0)
    traffic = rng.standard_normal((4, 2, 3)).astype(np.float32)
    record = rng.standard_normal((4, 2, 2)).astype(np.float32)
    if irregular:
        record[0, 1, 0] = record[3, 0] = NAN
    present = np.ones((4, 2), bool)
    present[2, 1] = False
    record[2] = 0
    valid = np.ones((4, 2), bool)
    valid[1, 1] = False
    return Table(
        x={"traffic": traffic, "record": record},
        present=present,
        y=np.zeros(4, np.int64),
        y_step=np.zeros((4, 2), np.int64),
        valid=valid,
        unit=np.array([0, 0, 1, 1]),
        unit_names=("a", "b"),
        time=np.array([0.0, 1.0, 0.0, 1.0]),
        site=np.zeros(4, np.int64),
        site_names=("x",),
        split=np.full(4, UNASSIGNED),
        schema=Schema(
            features={"traffic": ("rate", "size", "gap"), "record": ("pulse", "rate")},
            classes=("normal", "scan"),
            step="an hour",
            step_seconds=3600.0,
            irregular=frozenset({"record"} if irregular else ()),
        ),
    )


def _read(irregular: bool) -> tuple[Table, Streams, Streams]:
    table = _table(irregular)
    raw = streams(table, COMBINED)
    return table, raw, read(raw, PLAIN)


def test_side_by_side_before_reading() -> None:
    table, raw, _ = _read(irregular=False)
    assert raw.features == ("traffic_rate", "size", "gap", "pulse", "record_rate")
    assert raw.layout == (Part(0, 3, 3), Part(3, 5, 5))
    assert raw.names == ("traffic", "record")
    assert raw.valid.tolist() == [[True, True, True, False], [True, True, True, True]]
    assert raw.there is not None
    assert raw.there[1, :, 1].tolist() == [False, False, True, True]
    assert np.isnan(raw.x[1, :2, 3:]).all(), "what is not there is no number until it is read"
    np.testing.assert_array_equal(raw.x[0, :2, :3], table.x["traffic"][0])


def test_as_a_model_reads_them() -> None:
    """By hand: values, 0 where not there, and two columns that say what is there."""
    table, _, data = _read(irregular=False)
    assert data.x.shape == (2, 4, 7)
    assert data.features[-2:] == ("traffic_is_there", "record_is_there")
    assert np.isfinite(data.x).all()
    assert data.x[0, :, 5:].tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]
    assert data.x[1, :, 5:].tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    assert (data.x[1, :2, 3:5] == 0).all()
    np.testing.assert_array_equal(data.x[1, 2:, 3:5], _scaled(table.x["record"][3]))


def test_an_irregular_one_beside_a_regular_one() -> None:
    table, _, data = _read(irregular=True)
    assert data.layout == (Part(0, 3, 3), Part(3, 5, 9))
    assert data.x.shape == (2, 4, 11)
    pulse, measured, since = data.x[0, :, 3], data.x[0, :, 5], data.x[0, :, 7]
    first, third = _scaled(table.x["record"][[0, 1], 0, 0])
    np.testing.assert_allclose(pulse, [first, first, third, 0])
    assert measured.tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(since * 24, [0, 1, 2, 0], atol=1e-5)
    assert data.x[1, :, 5].tolist() == [0, 0, 0, 1], "never measured, and measured in the last step"


@pytest.mark.parametrize("irregular", [False, True])
def test_hidden_is_as_if_it_had_never_been_there(irregular: bool) -> None:
    table, _, data = _read(irregular)
    hidden = hide(data, "record")
    gone = replace(table, present=table.present & np.array([True, False]))
    never = read(streams(gone, COMBINED), PLAIN)
    np.testing.assert_array_equal(hidden.x, never.x)
    np.testing.assert_array_equal(hidden.valid, data.valid)
    assert data.x[..., -1].any(), "hiding changes a copy"
    with pytest.raises(DataError, match="no such modality to hide"):
        hide(select(streams(table, "traffic"), np.array([0])), "record")


def test_only_one_and_without_one_are_each_others_complement() -> None:
    _, _, data = _read(irregular=True)
    prepared = object.__new__(Prepared)
    for name in Prepared.__slots__:
        object.__setattr__(prepared, name, data if name == "data" else None)
    alone, rest = only(prepared, "traffic").data, without(prepared, "record").data
    np.testing.assert_array_equal(alone.x, rest.x)
    other = only(prepared, "record").data
    np.testing.assert_array_equal(alone.x + other.x, data.x)


def test_combined_of_one_modality_is_refused_with_the_way_out() -> None:
    table = _table(irregular=False)
    one = replace(
        table,
        x={"traffic": table.x["traffic"]},
        present=table.present[:, :1],
        schema=replace(table.schema, features={"traffic": ("rate", "size", "gap")}),
    )
    with pytest.raises(DataError, match="one of: traffic"):
        streams(one, COMBINED)

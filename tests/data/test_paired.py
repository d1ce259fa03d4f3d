"""Streams beside stays: pairs by hand, nobody twice, no split mixed, and folders that are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.data import paired as module
from lazaretto.data.paired import pair, paired
from lazaretto.data.physionet2012 import physionet2012
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import COMBINED, streams
from lazaretto.data.x_iomt import x_iomt
from lazaretto.errors import DataError, PlanError
from lazaretto.types import TEST, TRAIN, VALIDATION, Schema, Source, Table


def side(
    modality: str,
    split: Sequence[int],
    label: Sequence[Sequence[int]],
    windows: int = 1,
    site: Sequence[int] | None = None,
) -> Table:
    """Units of one modality with two features, the unit's number (from 1) and the step's (from 0)."""
    y = np.array(label, np.int64)
    units, steps = y.shape
    rows, width = units * windows, steps // windows
    x = np.empty((units, steps, 2), np.float32)
    x[..., 0], x[..., 1] = np.arange(1, units + 1)[:, None], np.arange(steps)
    if modality == "record":
        x[:, 1::2, 1] = np.nan
    unit = np.repeat(np.arange(units), windows)
    names = {"traffic": ("syn", "fin"), "record": ("offset", "swap")}[modality]
    return Table(
        x={modality: x.reshape(rows, width, 2)},
        present=np.ones((rows, 1), np.bool_),
        y=y.reshape(rows, width).max(axis=1),
        y_step=y.reshape(rows, width),
        valid=np.ones((rows, width), np.bool_),
        unit=unit,
        unit_names=tuple(f"{modality} {number + 1}" for number in range(units)),
        time=np.tile(np.arange(windows, dtype=float), units),
        site=np.zeros(rows, np.int64) if site is None else np.array(site, np.int64)[unit],
        site_names=("a", "b", "c"),
        split=np.array(split, np.int64)[unit],
        schema=Schema(
            features={modality: (f"{modality}_unit", f"{modality}_step")},
            classes=("normal", *names),
            step={"traffic": "50 packets", "record": "1 hour"}[modality],
            step_seconds={"traffic": 40.0, "record": 3600.0}[modality],
            irregular=frozenset({modality} & {"record"}),
            origins={"record_unit": 7.0} if modality == "record" else {},
        ),
        notes=(f"of the {modality}",),
        counts={"rows_read": units},
    )


def partners(table: Table) -> list[tuple[int, int]]:
    """(stream, stay) of every unit, as their first features tell."""
    first = np.unique(table.unit, return_index=True)[1]
    both = (table.x[name][first, 0, 0] for name in ("traffic", "record"))
    return [(int(stream), int(stay)) for stream, stay in zip(*both, strict=True)]


def test_pairs_by_hand() -> None:
    """One stay of each split, four streams: classes, windows, time and names of the three pairs."""
    traffic = side(
        "traffic",
        [TEST, VALIDATION, TRAIN, TEST],
        [[0, 0, 1, 1], [0, 0, 0, 0], [0, 2, 2, 0], [0, 0, 1, 1]],
        windows=2,
        site=[0, 1, 2, 0],
    )
    record = side("record", [TRAIN, VALIDATION, TEST], [[0, 0, 1, 1], [2, 2, 2, 0], [1, 1, 1, 1]])
    table = pair(traffic, record, 0)
    found = partners(table)
    assert found[1:3] == [(2, 2), (3, 1)] or found[:2] == [(2, 2), (3, 1)]
    assert len(found) == 3
    assert {stay for stream, stay in found if stream in (1, 4)} == {3}
    assert table.schema.classes == ("normal", "syn", "fin", "offset", "swap")
    rows = {stay: table.y_step[table.unit == unit].tolist() for unit, (_, stay) in enumerate(found)}
    assert rows == {1: [[0, 2], [2, 3]], 2: [[4, 4], [4, 0]], 3: [[3, 3], [1, 1]]}
    assert table.y.tolist() == table.y_step.max(axis=1).tolist()
    unit = found.index((3, 1))
    mine = table.unit == unit
    assert table.unit_names[unit] == "traffic 3, record 1"
    assert table.split[mine].tolist() == [TRAIN, TRAIN]
    assert table.site[mine].tolist() == [2, 2]
    assert table.time[mine].tolist() == [0.0, 7200.0]
    np.testing.assert_array_equal(table.x["traffic"][mine][..., 1], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(table.x["record"][mine][..., 1], [[0, np.nan], [2, np.nan]])
    assert table.counts["pairs"] == 3
    assert table.counts["streams_without_a_stay"] == 1
    assert table.counts["stays_without_a_stream"] == 0
    assert table.counts["steps_attacked_and_tampered"] == 3  # 1 of stream 3, 2 of stay 3
    assert table.counts["traffic_rows_read"] == 4
    assert table.counts["record_rows_read"] == 3


def test_what_is_said_of_a_pair() -> None:
    splits = [TRAIN, VALIDATION, TEST]
    table = pair(side("traffic", splits, [[0, 1]] * 3), side("record", splits, [[0, 1]] * 3), 0)
    schema = table.schema
    assert schema.step == "50 packets beside 1 hour"
    assert schema.step_seconds == 3600
    assert schema.timed is False
    assert schema.irregular == {"record"}
    assert schema.origins == {"record_unit": 7.0}
    assert table.intensity is None
    assert not schema.intensity
    notes = " ".join(table.notes)
    for words in (
        "A construction, reported without claims",
        "nothing can be learned from where they disagree",
        "50 packets last 40 seconds",
        "step of the record is 1 hour",
        "Traffic: of the traffic",
        "Record: of the record",
    ):
        assert words in notes, words
    joined = streams(table, COMBINED)
    assert joined.step_days == 3600 / 86400
    assert joined.irregular == (False, True)
    assert joined.origins == (0.0, 0.0, 7.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_few_stays_leave_no_site_without(seed: int) -> None:
    """Site a has four streams in training, b and c one each; of three stays, each site gets one."""
    traffic = side("traffic", [TRAIN] * 6, [[0, 1]] * 6, site=[0, 0, 0, 0, 1, 2])
    table = pair(traffic, side("record", [TRAIN] * 3, [[0, 1]] * 3), seed)
    assert table.site.tolist() == [0, 1, 2]


def test_units_that_do_not_fit() -> None:
    traffic, record = side("traffic", [TRAIN], [[0, 1, 1]]), side("record", [TRAIN], [[0, 1]])
    with pytest.raises(DataError, match=r"same number of steps \(found: 3 and 2\)"):
        pair(traffic, record, 0)
    short = side("traffic", [TRAIN], [[0, 1]])
    with pytest.raises(DataError, match="every step"):
        pair(replace(short, valid=np.array([[True, False]])), record, 0)


@pytest.fixture(scope="module")
def sources() -> tuple[Table, Table]:
    """What the sample of `paired` is made of."""
    return x_iomt().sample(), physionet2012(step_hours=3).sample()


def test_nobody_twice_and_no_split_mixed(sources: tuple[Table, Table]) -> None:
    table = paired().sample()
    names = [name.split(", ") for name in table.unit_names]
    assert len(names) == 21
    first = np.unique(table.unit, return_index=True)[1]
    for column, (source, modality) in enumerate(zip(sources, ("traffic", "record"), strict=True)):
        whole = streams(source, modality)
        number = [source.unit_names.index(name[column]) for name in names]
        assert len(set(number)) == len(number), f"a unit of {modality} twice"
        np.testing.assert_array_equal(whole.split[number], table.split[first])
        held = table.x[modality].reshape(len(number), *whole.x.shape[1:])
        np.testing.assert_array_equal(held, whole.x[number])
        if modality == "traffic":
            np.testing.assert_array_equal(whole.site[number], table.site[first])
    assert set(table.split) == {TRAIN, VALIDATION, TEST}
    assert np.isfinite(table.x["traffic"]).all()
    assert np.isnan(table.x["record"]).any()
    assert table.present.all()
    assign_splits(table)


def test_the_seed_decides_who_is_paired(sources: tuple[Table, Table]) -> None:
    one, same, other = (pair(*sources, seed) for seed in (0, 0, 1))
    assert one.unit_names == same.unit_names
    for name, values in one.x.items():
        np.testing.assert_array_equal(values, same.x[name])
    np.testing.assert_array_equal(one.y_step, same.y_step)
    assert one.unit_names != other.unit_names


def test_each_source_gets_its_folder_and_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, asked = [TRAIN, VALIDATION, TEST], []

    def stub(modality: str) -> Callable[..., Source]:
        def load(path: Any, seed: int) -> Table:
            asked.append((modality, path, seed))
            return side(modality, splits, [[0] * 24 + [1] * 24] * 3)

        return lambda **options: Source(name=modality, load=load, sample=lambda: load(None, 0))

    monkeypatch.setattr(module, "x_iomt", stub("traffic"))
    monkeypatch.setattr(module, "physionet2012", stub("record"))
    for name in ("packets", "stays"):
        (tmp_path / name).mkdir()
    table = paired(traffic_folder="packets", record_folder="stays").load(tmp_path, 3)
    assert asked == [("traffic", tmp_path / "packets", 3), ("record", tmp_path / "stays", 3)]
    assert len(table.unit_names) == 3


def refuse(path: Path | None, *words: str, **options: str) -> None:
    with pytest.raises(DataError) as caught:
        paired(**options).load(path, 0)  # type: ignore[arg-type]
    for word in (*words, "way out:"):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    refuse(None, "no path", "x-iomt", "physionet2012")
    refuse(tmp_path / "none", "none", "not a folder", "nothing")
    refuse(tmp_path, "no folder x-iomt and no folder physionet2012", "an empty folder")
    (tmp_path / "x-iomt").mkdir()
    (tmp_path / "notes.md").write_text("x")
    refuse(tmp_path, "no folder physionet2012 (found: notes.md, x-iomt)", "record_folder")
    refuse(tmp_path / "notes.md", "not a folder", "a file")
    refuse(
        tmp_path,
        "no folder packets and no folder notes.md",
        traffic_folder="packets",
        record_folder="notes.md",
    )
    (tmp_path / "physionet2012").mkdir()
    refuse(tmp_path, "no part of X-IoMT")


def test_each_set_is_checked_for_leaks_by_itself(tmp_path: Path) -> None:
    source = paired()
    assert source.raw is not None
    with pytest.raises(DataError, match="data check x_iomt"):
        source.raw(tmp_path)
    assert {"ip.ttl", "SAPS-I"} <= set(source.leaks)
    assert "mqtt.msgtype" in source.leaks
    assert "mqtt.msgtype" not in paired(view="full").leaks


@pytest.mark.parametrize(
    "options",
    [{"windows": 5}, {"windows": 0}, {"windows": 48}, {"windows": True}, {"tampered": 1.0}, {"sites": 0}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=f"{next(iter(options))} is out of range"):
        paired(**options)


def test_the_real_streams_and_stays(data_folder: Callable[[str], Path]) -> None:
    """Two sites of ten streams: five, two and three of each (55, 15, 30 %) with as many stays of 4,000."""
    folder = data_folder("x-iomt").parent
    assert data_folder("physionet2012").parent == folder
    table = paired(sites=2, streams_per_site=10, windows=4).load(folder, 0)
    assert table.y_step.shape == (80, 12)
    assert np.bincount(table.split).tolist() == [40, 16, 24]
    assert table.counts["stays_without_a_stream"] == 3980
    assert len({name.split(", ")[1] for name in table.unit_names}) == 20
    assert np.isnan(table.x["record"]).mean() > 0.5
    assert np.isfinite(table.x["traffic"]).all()

"""MEDS: what is written is read back, data sets by hand, files that cannot be used."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import catalog
from lazaretto.data import meds as module
from lazaretto.data._clinical import STATIC, VARIABLES
from lazaretto.data._loinc import CODES, VARIABLE_OF
from lazaretto.data._meds_codes import code_of, meaning_of
from lazaretto.data.meds import meds, write_meds
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, UNASSIGNED, Schema, Table

NOON = datetime(2150, 1, 1, 12)


def read(path: Path, **options: Any) -> Table:
    return meds(**{"task": "records", **options}).load(path, 0)


def series(table: Table, unit: str, variable: str) -> dict[int, float]:
    """step -> what was measured in it."""
    row = table.unit_names.index(unit)
    held = table.x["record"][row, table.valid[row], table.schema.features["record"].index(variable)]
    return {int(step): round(float(held[step]), 3) for step in np.flatnonzero(~np.isnan(held))}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Records of up to four units of up to six steps; each unit and series is measured once at least."""
    names = draw(
        st.lists(
            st.sampled_from([v for v in VARIABLES if v not in STATIC]), min_size=1, max_size=4, unique=True
        )
    )
    names = [name for name in VARIABLES if name in names]
    units, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    lengths = np.array(
        [steps, *draw(st.lists(st.integers(1, steps), min_size=units - 1, max_size=units - 1))]
    )
    x = np.full((units, steps, len(names)), np.nan, np.float32)
    for unit in range(units):
        for place, name in enumerate(names):
            least, largest = VARIABLES[name].least, VARIABLES[name].largest
            for step in range(lengths[unit]):
                held = (
                    st.floats(least, largest)
                    if not (unit and step)
                    else st.none() | st.floats(least, largest)
                )
                value = draw(held)
                # of float32, the nearest may lie outside what is plausible: then it is no value of a table
                if value is not None and least <= float(str(np.float32(value))) <= largest:
                    x[unit, step, place] = value
            x[unit, 0, place] = VARIABLES[name].usual[1]
    valid = np.arange(steps) < lengths[:, None]
    site_names = tuple(sorted(draw(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=units))))
    site = [draw(st.integers(0, len(site_names) - 1)) for _ in range(units)]
    site[: len(site_names)] = range(len(site_names))
    start = draw(st.lists(st.integers(-(10**9), 10**10), min_size=units, max_size=units))
    return Table(
        x={"record": np.where(valid[..., None], x, np.float32(0))},
        present=np.ones((units, 1), np.bool_),
        y=np.zeros(units, np.int64),
        y_step=np.zeros((units, steps), np.int64),
        valid=valid,
        unit=np.arange(units),
        unit_names=tuple(draw(st.lists(st.text(max_size=5), min_size=units, max_size=units, unique=True))),
        time=np.array(start, np.float64),
        site=np.array(site, np.int64),
        site_names=site_names,
        split=np.full(units, UNASSIGNED, np.int64),
        schema=Schema(
            features={"record": tuple(names)},
            classes=(NORMAL,),
            step="one step",
            step_seconds=draw(st.sampled_from([60.0, 1200.0, 3600.0, 2520.0, 86_400.0])),
            irregular=frozenset({"record"}),
        ),
    )


def equal(ours: Table, theirs: Table) -> None:
    """The same but for the order of series, which is that of the vocabulary."""
    names = ours.schema.features["record"]
    assert set(names) == set(theirs.schema.features["record"])
    order = [names.index(name) for name in theirs.schema.features["record"]]
    np.testing.assert_array_equal(ours.x["record"][:, :, order], theirs.x["record"])
    for name in ("valid", "unit", "time"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    assert ours.unit_names == theirs.unit_names
    named = [[table.site_names[site] for site in table.site] for table in (ours, theirs)]
    assert named[0] == named[1]
    assert ours.schema.step_seconds == theirs.schema.step_seconds


@given(tables())
@settings(max_examples=60)
def test_what_is_written_is_read_back(table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_meds(table, Path(folder) / "out")
        equal(
            table, read(Path(folder) / "out", step_hours=table.schema.step_seconds / 3600, most_hours=80_000)
        )


@given(tables(), st.integers(1, 3))
@settings(max_examples=30)
def test_windows_make_no_difference(table: Table, width: int) -> None:
    """A table of several windows per unit is written as the same data set as one of a single window."""
    count, steps = table.valid.shape
    parts = -(-steps // width)
    padded = parts * width - steps

    def cut(values: Any) -> Any:
        full = np.concatenate([values, np.zeros((count, padded, *values.shape[2:]), values.dtype)], axis=1)
        return full.reshape(count * parts, width, *values.shape[2:])

    later = np.tile(np.arange(parts) * width * table.schema.step_seconds, count)
    windows = replace(
        table,
        x={"record": cut(table.x["record"])},
        valid=cut(table.valid),
        y_step=cut(table.y_step),
        **{
            name: np.repeat(getattr(table, name), parts, axis=0)
            for name in ("present", "y", "unit", "site", "split")
        },
        time=np.repeat(table.time, parts) + later,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_meds(table, Path(folder) / "whole")
        write_meds(windows, Path(folder) / "cut")
        for name in ("data/0.parquet", "metadata/codes.parquet", "metadata/dataset.json"):
            assert (Path(folder) / "whole" / name).read_bytes() == (Path(folder) / "cut" / name).read_bytes()


@pytest.mark.parametrize("source", ["fhir", "mimic", "eicu", "meds", "physionet2012"])
def test_samples_of_all_sources_of_records(source: str, tmp_path: Path) -> None:
    table = catalog.build("sources", source).sample()
    write_meds(table, tmp_path / "out")
    held = read(tmp_path / "out", step_hours=table.schema.step_seconds / 3600, most_hours=1000)
    equal(table, held)


@pytest.mark.parametrize(
    ("source", "folder", "options"),
    [
        ("fhir", "fhir/synthea-r4-bundles", {"step_hours": 24.0, "most_hours": 80_000.0}),
        ("mimic", "mimic-iii-demo", {}),
        ("eicu", "eicu-demo/eicudemo", {"step_hours": 0.5}),
    ],
)
def test_real_records(
    source: str, folder: str, options: dict[str, float], data_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    table = catalog.build("sources", source, {"task": "records", **options}).load(data_folder(folder), 0)
    write_meds(table, tmp_path / "out")
    equal(table, read(tmp_path / "out", **options))


def test_what_the_standard_asks_for(tmp_path: Path) -> None:
    """https://github.com/Medical-Event-Data-Standard/meds, version 0.4: columns, types, order, metadata."""
    write_meds(catalog.build("sources", "meds").sample(), tmp_path)
    rows = pl.read_parquet(tmp_path / "data" / "0.parquet")
    assert dict(list(rows.schema.items())[:5]) == {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
        "text_value": pl.String,
    }
    assert rows["subject_id"].null_count() == rows["code"].null_count() == 0
    assert rows.equals(rows.sort("subject_id", "time", maintain_order=True))
    codes = pl.read_parquet(tmp_path / "metadata" / "codes.parquet")
    assert codes.schema == {"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
    assert set(rows["code"]) == set(codes["code"])
    about = json.loads((tmp_path / "metadata" / "dataset.json").read_text())
    assert set(about["site_id_columns"] + about["code_modifier_columns"]) <= set(rows.columns)
    assert about["meds_version"].startswith("0.4")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    table = catalog.build("sources", "meds").sample()
    (tmp_path / "x").touch()
    with pytest.raises(DataError, match="is not empty"):
        write_meds(table, tmp_path)
    with pytest.raises(DataError, match="is not empty"):
        write_meds(table, tmp_path / "x")
    with pytest.raises(DataError, match=r"only records.*traffic"):
        write_meds(catalog.build("sources", "ton_iot").sample(), tmp_path / "y")
    other = replace(table.schema, features={"record": ("mood", *table.schema.features["record"][1:])})
    with pytest.raises(DataError, match="mood"):
        write_meds(replace(table, schema=other), tmp_path / "y")


def test_codes() -> None:
    assert meaning_of("LOINC//8867-4") == meaning_of("LOINC/8867-4") == ("heart_rate_per_minute", "", "")
    assert meaning_of("LAB//220045//bpm") == ("heart_rate_per_minute", "bpm", "bpm")
    assert meaning_of("LAB//50971//UNK") == ("potassium_mmol_per_l", "", "mEq/L")
    assert meaning_of("SUBJECT_FLUID_OUTPUT//226559//mL") == ("urine_millilitres", "mL", "mL")
    for code in (
        "",
        "LOINC",
        "LOINC//",
        "LOINC//1-1",
        "LAB//x",
        "MEDS_DEATH",
        "DIAGNOSIS//8867-4",
        "//",
        "LAB//226559",
    ):
        assert meaning_of(code) is None, code
    for name in VARIABLES:
        told = meaning_of(code_of(name))
        assert told is not None
        assert told.variable == name
    assert set(CODES) <= set(VARIABLES)
    assert sum(map(len, CODES.values())) == len(VARIABLE_OF), "one code for two variables"


def event(
    subject: int, hour: float | None, code: str, value: float | None = None, **more: Any
) -> dict[str, Any]:
    when = None if hour is None else NOON + timedelta(hours=hour)
    return {"subject_id": subject, "time": when, "code": code, "numeric_value": value, **more}


def write(file: Path, rows: list[dict[str, Any]], **types: Any) -> Path:
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
        **types,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(file)
    return file


def test_as_the_mimic_conversion_writes(tmp_path: Path) -> None:
    """By hand: two stays of subject 1, one of 2 without an end, 3 never at a unit."""
    write(
        tmp_path / "data" / "train" / "0.parquet",
        [
            event(1, None, "GENDER//F"),
            event(1, -24 * 14_610, "MEDS_BIRTH"),  # 40 years
            event(1, -1, "LAB//220045//bpm", 99),
            event(1, 0, "ICU_ADMISSION//MICU"),
            event(1, 0.5, "LAB//220045//bpm", 80),
            event(1, 1, "LAB//223761//?F", 98.6),
            event(1, 1.1, "LAB//220179//UNK", 120),
            event(1, 1.2, "SUBJECT_FLUID_OUTPUT//226559//mL", 100),
            event(1, 1.3, "SUBJECT_FLUID_OUTPUT//226560//mL", 30),
            event(1, 2.5, "ICU_DISCHARGE//MICU"),
            event(1, 2.7, "LAB//220045//bpm", 99),
            event(1, 50, "ICU_ADMISSION//CCU"),
            event(1, 51, "LAB//220045//bpm", 99),
            event(1, 52, "ICU_DISCHARGE//CCU"),
        ],
    )
    write(
        tmp_path / "data" / "held_out" / "0.parquet",
        [
            event(2, 0, "ICU_ADMISSION//UNK"),
            event(2, 1, "LAB//220045//bpm", 70),
            event(3, 1, "LAB//220045//bpm", 70),
            event(3, 2, "MEDS_DEATH"),
        ],
    )
    table = read(tmp_path)
    assert table.unit_names == ("subject 1",)
    assert table.site_names == ("MICU",)
    assert table.valid.sum(axis=1).tolist() == [3]
    assert series(table, "subject 1", "heart_rate_per_minute") == {0: 80}
    assert series(table, "subject 1", "temperature_celsius") == {1: 37}
    assert series(table, "subject 1", "cuff_systolic_pressure_mmhg") == {1: 120}
    assert series(table, "subject 1", "urine_millilitres") == {1: 130}
    assert series(table, "subject 1", "male") == {0: 0}
    assert series(table, "subject 1", "age_years") == {0: pytest.approx(40, abs=0.01)}
    counts = table.counts
    assert counts["stays_after_the_first"] == counts["subjects_without_a_stay"] == 1
    assert counts["stays_without_length"] == 1  # of subject 2
    assert counts["rows_of_other_codes"] == 1
    assert counts["events_without_a_time"] == 0
    made = meds(task="records")
    assert made.raw is not None
    raw = made.raw(tmp_path)
    assert raw.label.tolist() == [0, 0, 1]
    assert raw.columns["discharge"].tolist() == ["ICU_DISCHARGE//MICU", "", ""]


def test_loinc_codes_with_units_and_sites_in_columns(tmp_path: Path) -> None:
    rows = [
        event(1, 0, "LOINC//8867-4", 80, unit="/min", hospital="north"),
        event(1, 1, "LOINC//8867-4", 81, unit=None, hospital="north"),  # no unit
        event(1, 2, "LOINC//8867-4", 82, unit="Hz", hospital="south"),  # unknown unit
        event(1, 3, "LOINC//8867-4", 900, unit="/min", hospital="north"),  # implausible
        event(1, 4, "LOINC//8867-4", None, unit="/min", hospital="north"),
        event(1, None, "LOINC//8867-4", 80, unit="/min", hospital="north"),
        event(1, 5, "LOINC//15074-8", 5, unit="mmol/L", hospital="north"),
        event(1, 5, "LOINC//15074-8", 5, unit="mmol/L", hospital="north"),  # a copy
    ]
    write(tmp_path / "data" / "0.parquet", rows, unit=pl.String, hospital=pl.String)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "dataset.json").write_text('{"site_id_columns": ["hospital"]}')
    table = read(tmp_path)
    assert table.site_names == ("north",)
    assert series(table, "subject 1", "heart_rate_per_minute") == {0: 80}
    assert series(table, "subject 1", "glucose_mg_per_dl") == {5: 90.08}
    assert table.counts["values_of_unknown_unit_heart_rate_per_minute"] == 2
    assert table.counts["values_implausible_heart_rate_per_minute"] == 1
    assert table.counts["events_without_a_number"] == table.counts["events_without_a_time"] == 1
    assert table.counts["events_repeated"] == 1


def test_a_number_of_float32_is_what_was_written(tmp_path: Path) -> None:
    """.21 as float32 is .20999999 as float64, which would be below all plausible shares of oxygen."""
    rows = [event(1, 0, "LOINC//3150-6", 0.21, unit="1"), event(1, 1, "LOINC//3150-6", 21, unit="%")]
    table = read(write(tmp_path / "0.parquet", rows, unit=pl.String))
    assert series(table, "subject 1", "inspired_oxygen_fraction") == {0: 0.21, 1: 0.21}


PULSE = [event(1, hour, "LAB//220045//bpm", 80) for hour in range(3)]


def refuse(path: Path | None, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        meds(task="records").load(path, 0)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_no_path_nothing_there(tmp_path: Path) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none", "no such file or folder")
    refuse(tmp_path, "no MEDS data here", "an empty folder")
    (tmp_path / "metadata").mkdir()
    write(tmp_path / "metadata" / "codes.parquet", PULSE)
    refuse(tmp_path, "no MEDS data here", "metadata")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"subject_id,time\n1,2\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(content)
    refuse(tmp_path, "0.parquet", "Parquet")


def what_comes_of(path: Path) -> str:
    try:
        read(path)
    except DataError:
        return "refused"
    return "read"


@pytest.mark.parametrize("place", [4, 60, -30])
def test_parquet_that_is_damaged(place: int, tmp_path: Path) -> None:
    """Cut off: refused. A byte turned over: refused, or read where it changes nothing."""
    content = bytearray(write(tmp_path / "0.parquet", PULSE * 50).read_bytes())
    (tmp_path / "0.parquet").write_bytes(bytes(content[:place]))
    refuse(tmp_path, "0.parquet", "Parquet")
    content[place] ^= 0xFF
    (tmp_path / "0.parquet").write_bytes(bytes(content))
    assert what_comes_of(tmp_path) in ("read", "refused")


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("subject_id", ["a"] * 3, ("subject_id", "whole numbers", "String")),
        ("subject_id", [0.5] * 3, ("subject_id", "Float64")),
        ("subject_id", None, ("subject_id", "is missing")),
        ("subject_id", [1, None, 1], ("without a subject_id",)),
        ("time", ["2150-01-01"] * 3, ("time", "timestamps", "String")),
        ("time", [1, 2, 3], ("time", "timestamps", "Int64")),
        ("time", None, ("time", "is missing")),
        ("code", [220045] * 3, ("code", "text", "Int64")),
        ("code", None, ("code", "is missing")),
        ("code", ["LAB//220045//bpm", None, "x"], ("without a code",)),
        ("code", ["DIAGNOSIS//1"] * 3, ("no code is a variable", "DIAGNOSIS//1", "LOINC")),
        ("numeric_value", ["80"] * 3, ("numeric_value", "numbers", "String")),
        ("numeric_value", None, ("numeric_value", "is missing")),
        ("numeric_value", [float("nan")] * 3, ("no stay has a measurement", "3 implausible")),
        ("numeric_value", [float("inf")] * 3, ("no stay has a measurement", "3 implausible")),
    ],
)
def test_a_column_that_is_none_of_meds(
    column: str, values: list[Any] | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    frame = pl.read_parquet(write(tmp_path / "0.parquet", PULSE)).drop(column)
    if values is not None:
        frame = frame.with_columns(pl.Series(column, values))
    frame.write_parquet(tmp_path / "0.parquet")
    refuse(tmp_path, *words)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"site_id_columns": 3}', '{"site_id_columns": [3]}', "[" * 100_000]
)
def test_metadata_that_are_none(text: str, tmp_path: Path) -> None:
    write(tmp_path / "data" / "0.parquet", PULSE)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "dataset.json").write_text(text)
    refuse(tmp_path, "dataset.json", "not the metadata")


def test_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "0.parquet", PULSE)
    monkeypatch.setattr(module, "_MOST_EVENTS", 2)
    refuse(tmp_path, "more than 2")
    monkeypatch.setattr(module, "_MOST_CODES", 0)
    refuse(tmp_path, "too many codes")


def test_other_types_that_the_standard_allows(tmp_path: Path) -> None:
    frame = pl.read_parquet(write(tmp_path / "0.parquet", PULSE))
    frame.with_columns(
        pl.col("code").cast(pl.Categorical),
        pl.col("time").cast(pl.Datetime("ns")),
        pl.col("subject_id").cast(pl.UInt32),
    ).write_parquet(tmp_path / "0.parquet")
    assert series(read(tmp_path), "subject 1", "heart_rate_per_minute") == {0: 80, 1: 80, 2: 80}

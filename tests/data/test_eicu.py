"""eICU: tables by hand, what is passed over, files that cannot be used, the real demo."""

from __future__ import annotations

import csv
import gzip
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data import _eicu_tables
from lazaretto.data.eicu import eicu
from lazaretto.data.leaks import suspected_leaks
from lazaretto.errors import DataError
from lazaretto.types import Table

# stays 11 and 12 are of one patient: 12 was first (visit 1); stay 31 dies
PATIENT = """\
patientunitstayid,patienthealthsystemstayid,gender,age,ethnicity,hospitalid,wardid,admissionheight,\
hospitaldischargeyear,hospitaldischargestatus,unittype,unitvisitnumber,admissionweight,\
unitdischargeoffset,uniquepid
11,1,Female,60,,7,70,160,2014,Alive,MICU,2,70.5,3000,001-1
12,1,Female,60,,7,70,160,2014,Alive,MICU,1,70.5,3000,001-1
21,2,Male,> 89,,7,71,180,2015,Alive,SICU,1,,100,001-2
31,3,Male,44,,9,90,,2015,Expired,MICU,1,80,4000,001-3
41,4,,50,,9,90,170,2015,,MICU,1,80,4000,001-4
"""
TABLES: dict[str, str] = {
    "patient": PATIENT,
    "lab": """\
labid,patientunitstayid,labresultoffset,labtypeid,labname,labresult,labresulttext,\
labmeasurenamesystem
1,12,30,1,potassium,4.1,4.1,mmol/L
2,12,-5,1,potassium,5.9,5.9,mmol/L
3,11,30,1,potassium,6.6,6.6,mmol/L
4,31,61,1,WBC x 1000,12,12,K/mcL
5,31,70,1,paO2,80,80,mm Hg
6,41,70,1,FiO2,40,40,%
7,21,10,1,-lymphs,4,4,%
""",
    "vitalPeriodic": """\
vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,heartrate,respiration,cvp,\
etco2,systemicsystolic,systemicdiastolic,systemicmean
1,12,5,,97,80,18,,,120,,
2,12,10,37.5,,82,,,,,60,80
3,21,5,,97,80,18,,,,,
""",
    "vitalAperiodic": """\
vitalaperiodicid,patientunitstayid,observationoffset,noninvasivesystolic,noninvasivediastolic,\
noninvasivemean
1,12,65,110,70,83
""",
    "physicalExam": """\
physicalexamid,patientunitstayid,physicalexamoffset,physicalexampath,physicalexamvalue,\
physicalexamtext
1,31,30,notes/Vital Sign and Physiological Data/HR/HR Current,HR Current,90
2,31,30,notes/Vital Sign and Physiological Data/HR/HR Lowest,HR Lowest,50
3,31,30,notes/Vital Sign and Physiological Data/Resp Rate/Resp Current,Resp Current,about 20
""",
    "intakeOutput": """intakeoutputid,patientunitstayid,intakeoutputoffset,cellpath,celllabel,cellvaluenumeric
1,31,10,flowsheet|Output (ml)|Urine,Urine,100
2,31,50,flowsheet|Output (ml)|Urine,Urine,30
3,31,50,flowsheet|Intake (ml)|Oral,Oral,500
""",
}


def write(folder: Path, pack: bool = False, **changed: str) -> Path:
    for name, text in {**TABLES, **changed}.items():
        if pack:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}.csv").write_text(text)
    return folder


def read(path: Path, **options: Any) -> Table:
    return eicu(**{"task": "records", **options}).load(path, 0)


def series(table: Table, unit: str, variable: str) -> dict[int, float]:
    """step -> what was measured in it."""
    row = table.unit_names.index(unit)
    held = table.x["record"][row, table.valid[row], table.schema.features["record"].index(variable)]
    return {int(step): round(float(held[step]), 3) for step in np.flatnonzero(~np.isnan(held))}


@pytest.mark.parametrize("pack", [False, True])
def test_all_tables(pack: bool, tmp_path: Path) -> None:
    table = read(write(tmp_path, pack))
    assert table.unit_names == ("stay 12", "stay 21", "stay 31", "stay 41")
    assert [table.site_names[site] for site in table.site] == [
        "hospital 7",
        "hospital 7",
        "hospital 9",
        "hospital 9",
    ]
    assert table.valid.sum(axis=1).tolist() == [
        48,
        2,
        48,
        48,
    ]  # 100 minutes are two steps, of 3000 48 are read
    assert series(table, "stay 12", "potassium_mmol_per_l") == {0: 4.1}
    assert series(table, "stay 12", "heart_rate_per_minute") == {0: 82}
    assert series(table, "stay 12", "oxygen_saturation_percent") == {0: 97}
    assert series(table, "stay 12", "temperature_celsius") == {0: 37.5}
    assert series(table, "stay 12", "systolic_pressure_mmhg") == {0: 120}
    assert series(table, "stay 12", "mean_pressure_mmhg") == {0: 80}
    assert series(table, "stay 12", "cuff_systolic_pressure_mmhg") == {1: 110}
    assert series(table, "stay 31", "heart_rate_per_minute") == {0: 90}
    assert series(table, "stay 31", "respiratory_rate_per_minute") == {}
    assert series(table, "stay 31", "urine_millilitres") == {0: 130}
    assert series(table, "stay 31", "white_cells_10_9_per_l") == {1: 12}
    assert series(table, "stay 31", "arterial_oxygen_mmhg") == {1: 80}
    assert series(table, "stay 41", "inspired_oxygen_fraction") == {1: 0.4}
    assert series(table, "stay 12", "age_years") == {0: 60}
    assert series(table, "stay 21", "age_years") == {}
    assert series(table, "stay 12", "admission_weight_kilograms") == {0: 70.5}
    assert table.counts["stays_after_the_first"] == table.counts["ages_hidden"] == 1
    assert table.counts["values_not_numbers"] == 1
    assert table.counts["tables_absent"] == 0


def test_death_in_hospital(tmp_path: Path) -> None:
    table = read(write(tmp_path), task="mortality")
    assert (table.unit_names, table.y.tolist()) == (("stay 12", "stay 31"), [0, 1])
    assert table.counts["stays_without_outcome"] == table.counts["stays_too_short"] == 1
    assert table.judged is not None
    assert np.argwhere(table.judged).tolist() == [[0, 47], [1, 47]]


def test_what_is_passed_over(tmp_path: Path) -> None:
    rows = [
        "8,12,30,1,potassium,4.1,4.1,mmol/L",  # a copy
        "9,12,120,1,potassium,44,44,mmol/L",  # implausible
        "10,12,180,1,potassium,4.4,4.4,drops",  # unknown unit
        "11,12,240,1,potassium,,hemolyzed,mmol/L",  # nothing
        "12,12,3001,1,potassium,4.4,4.4,mmol/L",  # after the stay
        "13,99,30,1,potassium,4.4,4.4,mmol/L",  # of nobody
    ]
    table = read(write(tmp_path, lab=TABLES["lab"] + "\n".join(rows) + "\n"))
    assert series(table, "stay 12", "potassium_mmol_per_l") == {0: 4.1}
    assert table.counts["events_repeated"] == 1
    assert table.counts["values_implausible_potassium_mmol_per_l"] == 1
    assert table.counts["values_of_unknown_unit_potassium_mmol_per_l"] == 1
    assert table.counts["values_empty"] == 1


def _lab(row: str) -> str:
    return TABLES["lab"] + row + "\n"


BAD: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "no patients": ("patient", "", ("patient.csv", "is empty")),
    "header alone": ("patient", PATIENT.splitlines()[0], ("patient.csv", "no rows")),
    "column missing": ("patient", PATIENT.replace("hospitalid", "hospital"), ("patient.csv", "hospitalid")),
    "id": ("patient", PATIENT.replace("12,1,F", "1x,1,F"), ("line 3", "patientunitstayid", "'1x'")),
    "no hospital": (
        "patient",
        PATIENT.replace(",9,90,,2015,E", ",,90,,2015,E"),
        ("line 5", "hospitalid", "None"),
    ),
    "no patient": ("patient", PATIENT.replace("001-2", ""), ("line 4", "uniquepid")),
    "length": ("patient", PATIENT.replace(",100,", ",long,"), ("line 4", "unitdischargeoffset", "'long'")),
    "endless": ("patient", PATIENT.replace(",100,", ",1e9,"), ("line 4", "unitdischargeoffset", "'1e9'")),
    "two stories": (
        "patient",
        PATIENT + PATIENT.splitlines()[2].replace("Alive", "Expired") + "\n",
        ("line 7", "twice"),
    ),
    "latin": ("patient", PATIENT.encode() + b"\xe9", ("patient.csv", "not UTF-8", "line 7")),
    "no labname": ("lab", TABLES["lab"].replace("labname", "name"), ("lab.csv", "labname")),
    "value": ("lab", _lab("8,12,30,1,potassium,high,,mmol/L"), ("lab.csv, line 9", "labresult", "'high'")),
    "offset": (
        "lab",
        _lab("8,12,noon,1,potassium,4,4,mmol/L"),
        ("lab.csv, line 9", "labresultoffset", "'noon'"),
    ),
    "a long row": ("lab", _lab("8,12,30,1,potassium,4,4,mmol/L,,,,"), ("lab.csv", "fields")),
    "column twice": ("lab", TABLES["lab"].replace("labid", "labname"), ("lab.csv, line 1", "twice")),
    "vital": (
        "vitalPeriodic",
        TABLES["vitalPeriodic"].replace(",82,", ",8z,"),
        ("line 3", "heartrate", "'8z'"),
    ),
    "cuff": (
        "vitalAperiodic",
        TABLES["vitalAperiodic"].replace(",65,", ",,"),
        ("line 2", "observationoffset", "None"),
    ),
    "urine": ("intakeOutput", TABLES["intakeOutput"].replace("Urine,30", "Urine,some"), ("line 3", "'some'")),
    "binary": ("physicalExam", b"\0\1\2\n\3", ("physicalExam.csv", "no header")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    name, content, words = BAD[case]
    write(tmp_path)
    (tmp_path / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse(tmp_path, *words)


CELLS = st.text(max_size=6) | st.sampled_from(
    [
        "nan",
        "inf",
        "-1",
        "1e400",
        "0",
        '"',
        '"a,b"',
        ",",
        "\n",
        "\r\n",
        "2150-01-01 10:10:00",
        "9" * 30,
        "\ufeff",
    ]
)


@given(st.data())
@settings(max_examples=60)
def test_anything_in_any_cell_is_counted_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TABLES)))
    cells = re.split("([,\n])", TABLES[name])
    cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(CELLS)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), **{name: "".join(cells)})
        try:
            table = read(Path(folder))
        except DataError as error:
            told = str(error)
        else:
            told = "way out" if np.isfinite(table.x["record"]).any() else "nothing"
    assert "way out" in told


def refuse(path: Path | None, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        eicu(task="records").load(path, 0)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_no_path_nothing_there_a_table_twice(tmp_path: Path) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none", "no such folder")
    refuse(tmp_path, "needs the table patient", "an empty folder")
    write(write(tmp_path), pack=True)
    refuse(tmp_path, "is there twice")


def test_too_many_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_eicu_tables, "MOST_EVENTS", 2)
    refuse(write(tmp_path), "more than 2 events", "most_hours")


def test_the_real_demo(data_folder: Callable[[str], Path]) -> None:
    """Potassium of every stay, against the rows of the file, read plainly."""
    folder = data_folder("eicu-demo") / "eicudemo"
    table = read(folder)
    assert table.counts["stays_read"] == 100
    assert table.counts["stays_after_the_first"] == 74
    assert len(table.unit_names) + table.counts["stays_without_measurements"] == 100
    wanted: dict[tuple[str, int], list[float]] = {}
    with (folder / "patient.csv").open() as file:
        length = {row["patientunitstayid"]: float(row["unitdischargeoffset"]) for row in csv.DictReader(file)}
    with (folder / "lab.csv").open() as file:
        for row in csv.DictReader(file):
            name, minute = f"stay {row['patientunitstayid']}", float(row["labresultoffset"])
            inside = 0 <= minute < min(2880, length[row["patientunitstayid"]])
            if row["labname"] == "potassium" and name in table.unit_names and inside and row["labresult"]:
                wanted.setdefault((name, int(minute // 60)), []).append(float(row["labresult"]))
    found = {
        (name, step): value
        for name in table.unit_names
        for step, value in series(table, name, "potassium_mmol_per_l").items()
    }
    assert found.keys() == wanted.keys()
    assert all(value in wanted[key] for key, value in found.items())


def test_leaks_of_the_real_demo(data_folder: Callable[[str], Path]) -> None:
    made = eicu(task="mortality")
    assert made.raw is not None
    found = suspected_leaks(made.raw(data_folder("eicu-demo")), dropped=made.leaks)
    assert ("hospitaldischargestatus",) in {f.columns for f in found}
    assert [f.columns for f in found if f.dropped is None] == []

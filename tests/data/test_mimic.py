"""MIMIC: tables by hand in both layouts, what is passed over, files that cannot be used, the real demo."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data import _mimic_tables
from lazaretto.data._mimic_items import CHART, LABS, URINE
from lazaretto.data.leaks import suspected_leaks
from lazaretto.data.mimic import mimic
from lazaretto.errors import DataError
from lazaretto.types import Table

# three stays of two patients; patient 1's second stay is left out, patient 2 dies
THIRD: dict[str, str] = {
    "ICUSTAYS": """\
ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,LAST_CAREUNIT,INTIME,OUTTIME,LOS
1,1,10,100,carevue,MICU,MICU,2150-01-01 10:00:00,2150-01-03 10:00:00,2
2,1,11,101,carevue,CCU,CCU,2150-06-01 10:00:00,2150-06-05 10:00:00,4
3,2,20,200,metavision,SICU,SICU,2101-01-01 00:00:00,2101-01-04 00:00:00,3
""",
    "ADMISSIONS": """ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,HOSPITAL_EXPIRE_FLAG
1,1,10,2150-01-01 09:00:00,2150-01-09 10:00:00,,0
2,1,11,2150-06-01 09:00:00,2150-06-09 10:00:00,,0
3,2,20,2100-12-31 20:00:00,2101-01-04 00:00:00,2101-01-04 00:00:00,1
""",
    "PATIENTS": """ROW_ID,SUBJECT_ID,GENDER,DOB,DOD
1,1,F,2090-01-01 00:00:00,
2,2,M,1801-01-01 00:00:00,2101-01-04 00:00:00
""",
    "CHARTEVENTS": """\
ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,CGID,VALUE,VALUENUM,VALUEUOM,ERROR
1,1,10,100,211,2150-01-01 10:30:00,,,80,80,BPM,0
2,1,10,100,211,2150-01-01 10:45:00,,,82,82,BPM,
3,1,10,100,678,2150-01-01 11:00:00,,,98.6,98.6,Deg. F,
4,1,10,100,223761,2150-01-01 12:00:00,,,95,95,?F,
5,1,10,100,676,2150-01-01 13:00:00,,,38,38,,
6,2,20,200,220045,2101-01-01 01:59:59,,,70,70,bpm,
7,2,20,200,999999,2101-01-01 01:00:00,,,text,,,
""",
    "LABEVENTS": """ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,FLAG
1,1,10,50971,2150-01-01 10:10:00,4.1,4.1,mEq/L,
2,1,,50971,2150-01-01 09:59:00,5.9,5.9,mEq/L,
3,1,11,50971,2150-06-01 10:10:00,6.1,6.1,mEq/L,
4,2,20,50931,2101-01-01 00:10:00,100,100,mg/dL,
""",
    "OUTPUTEVENTS": """\
ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,CHARTTIME,ITEMID,VALUE,VALUEUOM,STORETIME,CGID,STOPPED,\
NEWBOTTLE,ISERROR
1,1,10,100,2150-01-01 10:10:00,40055,100,ml,,,,,
2,1,10,100,2150-01-01 10:10:00,40069,100,mL,,,,,
3,1,10,100,2150-01-01 10:50:00,40055,50,ml,,,,,
4,1,10,100,2150-01-01 10:55:00,40055,900,ml,,,,,1
5,1,10,100,2150-01-01 11:10:00,226559,70,,,,,,
""",
}
FOURTH: dict[str, str] = {
    "icu/icustays": """subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los
1,10,100,Medical ICU (MICU),Medical ICU (MICU),2180-01-01 10:00:00,2180-01-03 10:00:00,2
""",
    "hosp/admissions": """subject_id,hadm_id,admittime,dischtime,deathtime,hospital_expire_flag
1,10,2180-01-01 09:00:00,2180-01-09 10:00:00,,0
""",
    "hosp/patients": """subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod
1,F,60,2178,2011 - 2013,
""",
    "icu/chartevents": """\
subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning
1,10,100,,2180-01-01 10:30:00,,220045,80,80,bpm,1
""",
}


def write(folder: Path, tables: dict[str, str], pack: bool = False, **changed: str) -> Path:
    for name, text in {**tables, **changed}.items():
        file = folder / f"{name}.csv"
        file.parent.mkdir(exist_ok=True, parents=True)
        if pack:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            file.write_text(text)
    return folder


def read(path: Path, **options: Any) -> Table:
    return mimic(**{"task": "records", **options}).load(path, 0)


def series(table: Table, unit: str, variable: str) -> dict[int, float]:
    """step -> what was measured in it."""
    row = table.unit_names.index(unit)
    held = table.x["record"][row, table.valid[row], table.schema.features["record"].index(variable)]
    return {int(step): round(float(held[step]), 3) for step in np.flatnonzero(~np.isnan(held))}


@pytest.mark.parametrize("pack", [False, True])
def test_the_third(pack: bool, tmp_path: Path) -> None:
    table = read(write(tmp_path, THIRD, pack))
    assert table.unit_names == ("stay 100", "stay 200")
    assert [table.site_names[site] for site in table.site] == ["MICU", "SICU"]
    assert table.valid.sum(axis=1).tolist() == [48, 48]
    assert series(table, "stay 100", "heart_rate_per_minute") == {0: 82}
    assert series(table, "stay 200", "heart_rate_per_minute") == {1: 70}
    assert series(table, "stay 100", "temperature_celsius") == {1: 37, 2: 35, 3: 38}
    assert series(table, "stay 100", "potassium_mmol_per_l") == {0: 4.1}
    assert series(table, "stay 200", "glucose_mg_per_dl") == {0: 100}
    assert series(table, "stay 100", "urine_millilitres") == {0: 250, 1: 70}
    assert series(table, "stay 100", "male") == {0: 0}
    assert series(table, "stay 100", "age_years") == {0: pytest.approx(60.0, abs=0.01)}
    assert series(table, "stay 200", "age_years") == {}  # 300 years: hidden by the publisher
    counts = table.counts
    assert counts["stays_after_the_first"] == counts["ages_hidden"] == 1
    assert counts["stays_without_admission"] == counts["stays_outside_their_admission"] == 0
    assert counts["tables_absent"] == counts["values_implausible"] == 0


def test_the_fourth(tmp_path: Path) -> None:
    table = read(write(tmp_path, FOURTH))
    assert table.site_names == ("Medical ICU (MICU)",)
    assert series(table, "stay 100", "heart_rate_per_minute") == {0: 80}  # a warning is no error
    assert series(table, "stay 100", "age_years") == {0: 62}
    assert any("labevents, outputevents" in note for note in table.notes)


def test_death_in_hospital(tmp_path: Path) -> None:
    table = read(write(tmp_path, THIRD), task="mortality", most_hours=48)
    assert table.y.tolist() == [0, 1]
    assert table.judged is not None
    assert table.judged.sum(axis=1).tolist() == [1, 1]
    assert table.judged[:, -1].all()
    later = read(tmp_path, task="mortality", most_hours=60)
    assert (later.unit_names, later.counts["stays_too_short"]) == (("stay 200",), 1)


def test_what_is_passed_over(tmp_path: Path) -> None:
    more = {
        "CHARTEVENTS": [
            "8,1,10,100,211,2150-01-01 10:45:00,,,82,82,BPM,",  # a copy
            "9,1,10,100,211,2150-01-01 14:00:00,,,900,900,BPM,",  # implausible
            "10,1,10,100,211,2150-01-01 15:00:00,,,1.4,1.4,Hz,",  # unknown unit
            "11,1,10,100,211,2150-01-01 16:00:00,,,,,BPM,",  # nothing
            "12,1,10,100,211,,,,80,80,BPM,",  # no time
            "13,1,10,100,211,2150-01-01 09:00:00,,,80,80,BPM,",  # before the stay
            "14,1,10,100,211,2150-01-03 11:00:00,,,80,80,BPM,",  # after it
            "15,9,90,900,211,2150-01-03 11:00:00,,,80,80,BPM,",  # of nobody
        ]
    }
    text = THIRD["CHARTEVENTS"] + "\n".join(more["CHARTEVENTS"]) + "\n"
    table = read(write(tmp_path, THIRD, CHARTEVENTS=text))
    assert series(table, "stay 100", "heart_rate_per_minute") == {0: 82}
    assert table.counts["events_repeated"] == 1
    assert table.counts["values_implausible_heart_rate_per_minute"] == 1
    assert table.counts["values_of_unknown_unit_heart_rate_per_minute"] == 1
    assert table.counts["event_rows_without_time_or_value"] == 2


def test_an_altered_table_is_told(tmp_path: Path) -> None:
    admissions = THIRD["ADMISSIONS"].replace(
        "2100-12-31 20:00:00,2101-01-04", "2040-12-31 20:00:00,2041-01-04", 1
    )
    admissions = admissions.replace("1,1,10,2150-01-01 09:00:00,2150-01-09 10:00:00,,0\n", "")
    sums = [f"{hashlib.sha256(THIRD[name].encode()).hexdigest()} {name}.csv" for name in THIRD]
    (tmp_path / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")
    plain = read(write(tmp_path, THIRD, pack=True))
    assert plain.counts["files_not_as_published"] == 0
    (tmp_path / "ADMISSIONS.csv.gz").write_bytes(gzip.compress(admissions.encode()))
    table = read(tmp_path)
    assert table.counts["files_not_as_published"] == 1
    assert table.counts["stays_without_admission"] == table.counts["stays_outside_their_admission"] == 1
    told = " ".join(table.notes)
    assert "Not as published, by the checksums in the folder: ADMISSIONS.csv.gz" in told
    assert "outside it: 2 (the first: hadm_id 10)" in told
    with pytest.raises(DataError, match="2 stays without outcome"):
        read(tmp_path, task="mortality")
    (tmp_path / "better.csv").write_text(THIRD["ADMISSIONS"])
    assert read(tmp_path, admissions="better.csv", task="mortality").y.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"no such file.*none\.csv"):
        read(tmp_path, admissions="none.csv")
    with pytest.raises(DataError, match="in the folder"):
        read(tmp_path, admissions="../better.csv")


CUT = gzip.compress(THIRD["CHARTEVENTS"].encode() * 50)[:-30]
BAD: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "a table missing": ("PATIENTS", "", ("PATIENTS.csv", "is empty")),
    "column missing": ("PATIENTS", THIRD["PATIENTS"].replace("GENDER", "SEX"), ("PATIENTS.csv", "gender")),
    "no stay id": ("ICUSTAYS", THIRD["ICUSTAYS"].replace("ICUSTAY_ID", "ID"), ("ICUSTAYS.csv", "icustay_id")),
    "id of letters": (
        "ICUSTAYS",
        THIRD["ICUSTAYS"].replace("1,1,10", "1,x,10"),
        ("line 2", "subject_id", "'x'"),
    ),
    "no id": ("ICUSTAYS", THIRD["ICUSTAYS"].replace("1,1,10", "1,,10"), ("line 2", "subject_id", "None")),
    "time": (
        "ICUSTAYS",
        THIRD["ICUSTAYS"].replace("2150-01-01", "2150-13-01"),
        ("line 2", "intime", "2150-13-01"),
    ),
    "flag": (
        "ADMISSIONS",
        THIRD["ADMISSIONS"].replace(",1\n", ",2\n"),
        ("line 4", "hospital_expire_flag", "'2'"),
    ),
    "two answers": (
        "ADMISSIONS",
        THIRD["ADMISSIONS"] + "4,2,20,2100-12-31 20:00:00,2101-01-04 00:00:00,,0\n",
        ("line 5", "hadm_id", "20", "first in line 4"),
    ),
    "latin": (
        "PATIENTS",
        THIRD["PATIENTS"].encode() + b"3,3,\xe9,,\n",
        ("PATIENTS.csv", "not UTF-8", "line 4"),
    ),
    "zeros": ("PATIENTS", THIRD["PATIENTS"].encode() + b"3,\0,F,,\n", ("PATIENTS.csv", "not text")),
    "a long row": ("PATIENTS", THIRD["PATIENTS"] + "3,3,F,,,,,,\n", ("PATIENTS.csv", "line 4", "9 cells")),
    "value": ("CHARTEVENTS", THIRD["CHARTEVENTS"].replace("82,82", "82,8z"), ("line 3", "valuenum", "'8z'")),
    "moment": (
        "CHARTEVENTS",
        THIRD["CHARTEVENTS"].replace("01 10:45", "01 25:45"),
        ("line 3", "charttime", "25:45"),
    ),
    "no value": (
        "CHARTEVENTS",
        THIRD["CHARTEVENTS"].replace("VALUENUM", "NUMBER"),
        ("CHARTEVENTS.csv", "valuenum"),
    ),
    "chart of a long row": (
        "CHARTEVENTS",
        THIRD["CHARTEVENTS"] + "1,2" * 20 + "\n",
        ("CHARTEVENTS.csv", "fields"),
    ),
    "chart in latin": (
        "CHARTEVENTS",
        THIRD["CHARTEVENTS"].encode() + b"\xe9,1\n",
        ("CHARTEVENTS.csv", "utf-8"),
    ),
    "empty chart": ("CHARTEVENTS", "", ("CHARTEVENTS.csv", "no header")),
    "output": (
        "OUTPUTEVENTS",
        THIRD["OUTPUTEVENTS"].replace(",50,", ",much,"),
        ("line 4", "'value'", "'much'"),
    ),
    "lab": ("LABEVENTS", THIRD["LABEVENTS"].replace(",100,mg", ",1e5e,mg"), ("line 5", "valuenum", "'1e5e'")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    name, content, words = BAD[case]
    write(tmp_path, THIRD)
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
    name = data.draw(st.sampled_from(sorted(THIRD)))
    cells = re.split("([,\n])", THIRD[name])
    cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(CELLS)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {**THIRD, name: "".join(cells)})
        try:
            table = read(Path(folder))
        except DataError as error:
            told = str(error)
        else:
            told = "way out" if np.isfinite(table.x["record"]).any() else "nothing"
    assert "way out" in told


def refuse(path: Path | None, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        mimic(task="records").load(path, 0)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.mark.parametrize("content", [CUT, THIRD["CHARTEVENTS"].encode()])
def test_gzip_that_is_cut_off_or_none(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, {name: text for name, text in THIRD.items() if name != "CHARTEVENTS"})
    (tmp_path / "CHARTEVENTS.csv.gz").write_bytes(content)
    refuse(tmp_path, "CHARTEVENTS.csv.gz")


@pytest.mark.parametrize("filler", [0, 9000])  # the end of a long table is looked at without reading it all
def test_a_long_table_that_is_cut_off(filler: int, tmp_path: Path) -> None:
    text = THIRD["CHARTEVENTS"]
    whole = text + text.splitlines(keepends=True)[-1] * filler
    write(tmp_path, {**THIRD, "CHARTEVENTS": whole.rstrip("\n")})
    read(tmp_path)
    last = whole.rstrip("\n").rpartition("\n")[2]
    short = whole.rstrip("\n")[: -len(last) + last.index(",")]
    write(tmp_path, {"CHARTEVENTS": short})
    refuse(tmp_path, "CHARTEVENTS.csv, the last line, has too few cells and no line end", "cut off")
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in whole.splitlines())
    write(tmp_path, {"CHARTEVENTS": quoted})
    read(tmp_path)
    write(tmp_path, {"CHARTEVENTS": quoted[: quoted.rindex(",")]})
    refuse(tmp_path, "CHARTEVENTS.csv, the last line, has too few cells and no line end", "cut off")


def test_no_path_nothing_there_a_table_twice(tmp_path: Path) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none", "no such folder")
    refuse(tmp_path, "needs the table icustays", "an empty folder")
    write(tmp_path, THIRD)
    write(tmp_path, {"PATIENTS": THIRD["PATIENTS"]}, pack=True)
    refuse(tmp_path, "patients is there twice")


def test_too_many_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mimic_tables, "MOST_EVENTS", 3)
    refuse(write(tmp_path, THIRD), "CHARTEVENTS.csv", "more than 3 events", "most_hours")


def test_the_leak_check_needs_the_outcome(tmp_path: Path) -> None:
    made = mimic()
    assert made.raw is not None
    with pytest.raises(DataError, match="task=mortality"):
        made.raw(tmp_path)


def test_items_are_what_they_are_taken_for(data_folder: Callable[[str], Path]) -> None:
    """The publisher's own labels of every item, against a word that each variable must have in them."""
    folder = data_folder("mimic-iii-demo")
    labels: dict[str, str] = {}
    for name in ("D_ITEMS", "D_LABITEMS"):
        with gzip.open(folder / f"{name}.csv.gz", "rt") as file:
            labels |= {row["itemid"]: row["label"].lower() for row in csv.DictReader(file)}
    words = {
        "heart_rate_per_minute": "heart rate",
        "respiratory_rate_per_minute": "resp",
        "temperature_celsius": "temperature",
        "oxygen_saturation_percent": "o2",
        "arterial_oxygen_saturation_percent": "sa",
        "inspired_oxygen_fraction": "o2",
        "glasgow_coma_scale": "gcs",
        "weight_kilograms": "weight",
        "admission_weight_kilograms": "adm",
        "height_centimetres": "h",
        "arterial_ph": "ph",
        "urea_nitrogen_mg_per_dl": "urea",
        "prothrombin_time_seconds": "pt",
        "aspartate_aminotransferase_u_per_l": "(ast)",  # misspelt by the publisher
        "arterial_carbon_dioxide_mmhg": "pco2",
        "arterial_oxygen_mmhg": "po2",
        "white_cells_10_9_per_l": "w",
        "platelets_10_9_per_l": "platelet",
    }
    for item, (variable, _) in {**CHART, **LABS}.items():
        first = variable.partition("_")[0].replace("haem", "hem")
        if "pressure" in variable:
            kind = next(word for word in ("systolic", "diastolic", "mean") if word in variable)
            wanted = [kind, "n" if "cuff" in variable else "art"]
        else:
            wanted = [words.get(variable, first if len(first) > 4 else variable.replace("_", " ")[:7])]
        for word in wanted:
            assert word in labels[item], f"{item} is {labels[item]}, and is taken for {variable}"
    for item in URINE:
        bags = ("urine", "foley", "void", "cath", "conduit", "pubic", "nephrostomy", "stent")
        assert any(word in labels[item] for word in bags), labels[item]
        assert "/k" not in labels[item]


def test_the_real_demo(data_folder: Callable[[str], Path]) -> None:
    """Urine of one stay, against a sum by hand over the rows of the file."""
    folder = data_folder("mimic-iii-demo")
    table = read(folder)
    assert table.counts["stays_read"] == 100
    assert table.counts["stays_after_the_first"] == 36
    assert table.counts["stays_without_admission"] == 1
    assert table.counts["files_not_as_published"] == 1
    assert table.site_names == ("CCU", "CSRU", "MICU", "SICU", "TSICU")
    with gzip.open(folder / "OUTPUTEVENTS.csv.gz", "rt") as file:
        rows = [
            row for row in csv.DictReader(file) if row["icustay_id"] == "250305" and row["itemid"] in URINE
        ]
    with gzip.open(folder / "ICUSTAYS.csv.gz", "rt") as file:
        begin = next(row["intime"] for row in csv.DictReader(file) if row["icustay_id"] == "250305")
    start, wanted = np.datetime64(begin), {}
    for row in rows:
        step = int((np.datetime64(row["charttime"]) - start) / np.timedelta64(1, "h"))
        if row["value"] and 0 <= step < 48 and np.datetime64(row["charttime"]) >= start:
            wanted[step] = wanted.get(step, 0.0) + float(row["value"])
    assert series(table, "stay 250305", "urine_millilitres") == wanted
    other = read(folder, admissions="ADMISSIONS.pyhealth-copy-129rows.csv.gz")
    assert other.counts["stays_outside_their_admission"] == 1
    assert other.counts["stays_without_admission"] == 0


def test_leaks_of_the_real_demo(data_folder: Callable[[str], Path]) -> None:
    made = mimic(task="mortality")
    assert made.raw is not None
    found = suspected_leaks(made.raw(data_folder("mimic-iii-demo")), dropped=made.leaks)
    assert {("hospital_expire_flag",), ("deathtime",), ("discharge_location",)} <= {f.columns for f in found}
    assert [f.columns for f in found if f.dropped is None] == []

"""Tables of MIMIC-III and MIMIC-IV as published -> stays and their events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lazaretto.data._clinical import STATIC
from lazaretto.data._flow_read import LINE
from lazaretto.data._mimic_items import CHART, LABS, SPELLINGS, URINE
from lazaretto.data._record_files import (
    bad_cell,
    collected,
    find_tables,
    not_as_published,
    number_or_refuse,
    one_per_key,
    scan_table,
    small_table,
    whole_table,
)
from lazaretto.data._records import EVENTS, Stays
from lazaretto.errors import DataError
from lazaretto.types import Int

__all__ = ["read_rows", "read_stays"]

_TABLES = ("icustays", "admissions", "patients", "chartevents", "labevents", "outputevents")
_NEEDED = ("icustays", "admissions", "patients")
_TIME = "%Y-%m-%d %H:%M:%S"
_HIDDEN_AGE = 89.0  # above, dates of birth are moved by 300 years (III), or the age is 91 (IV)
_SLACK_HOURS = 24.0  # a stay may begin before its admission is on paper; a day off is no typing error
MOST_EVENTS = 200_000_000
_IDS = (0, 1 << 40)


class _Kind(NamedTuple):
    """One table of events: the column that names the stay or the subject, of the value, and of errors."""

    items: Mapping[str, tuple[str, str]]
    key: str
    value: str
    error: str


def _files(path: Any, admissions: str) -> dict[str, Path]:
    files = find_tables(
        path,
        "mimic",
        _TABLES,
        ("icu", "hosp"),
        [n for n in _NEEDED if not (admissions and n == "admissions")],
    )
    if admissions:
        if Path(admissions).name != admissions:
            raise DataError(
                "mimic: admissions names a file in the folder", found=admissions, way_out="without a folder"
            )
        near = [
            place / admissions
            for place in (Path(str(path)), files["icustays"].parent, files["patients"].parent)
        ]
        there = [file for file in near if file.is_file()]
        if not there:
            raise DataError(f"{path}: no such file", found=admissions, way_out="check the option admissions")
        files["admissions"] = there[0]
    return files


def _tables(files: Mapping[str, Path]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Stays, admissions and patients: ids as numbers, times as datetimes; and how many copies there were."""
    copies = 0
    frames = []
    for name, key, ids, times, words, more in (
        ("icustays", "stay_id", ("subject_id", "hadm_id"), ("intime", "outtime"), ("first_careunit",), ()),
        (
            "admissions",
            "hadm_id",
            ("subject_id",),
            ("admittime", "dischtime"),
            (),
            ("hospital_expire_flag", "deathtime"),
        ),
        ("patients", "subject_id", (), (), ("gender",), ("dob", "anchor_age", "anchor_year")),
    ):
        file = files[name]
        frame = _renamed(file, key, (*ids, *times, *words), more)
        numbers = dict.fromkeys((key, *ids), _IDS)
        frame = number_or_refuse(file, frame, numbers, complete=list(numbers))
        frame = frame.with_columns(pl.col(column).cast(pl.Int64) for column in numbers)
        for column in (*times, *(c for c in more if c in ("dob", "deathtime"))):
            frame = _with_time(file, frame, column)
        frame, gone = one_per_key(file, frame, key)
        copies += gone
        frames.append(frame)
    return frames[0], frames[1], frames[2], {"rows_repeated": copies}


def _renamed(file: Path, key: str, columns: tuple[str, ...], more: tuple[str, ...]) -> pl.DataFrame:
    """`icustay_id` of MIMIC-III is `stay_id` of MIMIC-IV."""
    if key != "stay_id":
        return small_table(file, (key, *columns), more)
    frame = small_table(file, columns, ("stay_id", "icustay_id", *more))
    both = frame.select(pl.coalesce("stay_id", "icustay_id")).to_series()
    if both.null_count() == frame.height and frame.height:
        raise DataError(
            f"{file.name}: no column stay_id or icustay_id", way_out="give the table as published"
        )
    return frame.with_columns(both.alias("stay_id")).drop("icustay_id")


def _with_time(file: Path, frame: pl.DataFrame, column: str) -> pl.DataFrame:
    time = frame[column].str.to_datetime(_TIME, strict=False, time_unit="us")
    fine = time.is_not_null() | frame[column].is_null()
    if not fine.all():
        row = int((~fine).arg_max() or 0)
        raise bad_cell(
            file, frame[LINE][row], column, frame[column][row], "a time such as 2164-10-23 21:09:00"
        )
    return frame.with_columns(time.alias(column))


def read_stays(path: Any, most_hours: float, admissions: str = "") -> Stays:
    """ICU stays of a folder, their outcome and their events in the first `most_hours`. See `mimic`."""
    files = _files(path, admissions)
    stays, admitted, patients, counts = _tables(files)
    columns = ["hadm_id", "admittime", "dischtime", "hospital_expire_flag"]
    told = number_or_refuse(files["admissions"], admitted, {"hospital_expire_flag": (0, 1)})
    table = stays.join(told.select(columns), on="hadm_id", how="left", maintain_order="left")
    table = table.join(
        patients.drop(LINE), on="subject_id", how="left", maintain_order="left", validate="m:1"
    ).sort("subject_id", "intime", "stay_id")
    every = table.height
    # two stays of one patient must not stand in two splits
    table = table.unique("subject_id", keep="first", maintain_order=True)
    begin, end = pl.col("intime"), pl.col("outtime")
    slack = pl.duration(hours=_SLACK_HOURS)
    table = table.with_columns(
        hours=(end - begin).dt.total_seconds() / 3600.0,
        strange=(begin < pl.col("admittime") - slack) | (begin > pl.col("dischtime") + slack),
    )
    lost = table["admittime"].is_null()
    strange = table["strange"].fill_null(False)
    age = _ages(files["patients"], table)
    fixed, hidden = _fixed(table, age)
    events = [fixed]
    unknown = 0
    for name, kind in (
        ("chartevents", _Kind(CHART, "stay_id", "valuenum", "error")),
        ("labevents", _Kind(LABS, "subject_id", "valuenum", "")),
        ("outputevents", _Kind(URINE, "stay_id", "value", "iserror")),
    ):
        if name in files:
            found, passed = _events(files[name], table, kind, most_hours)
            events.append(found)
            unknown += passed
    absent = [name for name in _TABLES if name not in files and name not in _NEEDED]
    altered = not_as_published(Path(str(path)), [files[name] for name in _NEEDED])
    counts |= {
        "stays_after_the_first": every - table.height,
        "event_rows_without_time_or_value": unknown,
        "stays_without_admission": int(lost.sum()),
        "stays_outside_their_admission": int(strange.sum()),
        "ages_hidden": hidden,
        "tables_absent": len(absent),
        "files_not_as_published": len(altered),
    }
    return Stays(
        names=tuple(f"stay {number}" for number in table["stay_id"]),
        sites=tuple(unit or "" for unit in table["first_careunit"]),
        hours=table["hours"].fill_null(float("nan")).to_numpy().astype(np.float64),
        start_seconds=np.zeros(table.height),  # every patient's dates are moved by another number of years
        died=(table["hospital_expire_flag"].fill_null(0) == 1).to_numpy(),
        judged=(table["hospital_expire_flag"].is_not_null() & ~lost & ~strange).to_numpy(),
        events=pl.concat(events),
        counts=counts,
        notes=_notes(absent, altered, files["admissions"], table.filter(lost | strange)),
    )


def _notes(absent: list[str], altered: list[str], admissions: Path, odd: pl.DataFrame) -> tuple[str, ...]:
    notes = []
    if absent:
        notes.append(f"Not in the folder, and so not read: {', '.join(absent)}.")
    if altered:
        notes.append(f"Not as published, by the checksums in the folder: {', '.join(altered)}.")
    if odd.height:
        first = odd["hadm_id"][0]
        notes.append(
            f"Stays without an admission in {admissions.name}, or more than a day outside it: {odd.height} "
            f"(the first: hadm_id {first}). The table may have been altered; their outcome is not used."
        )
    return tuple(notes)


def _ages(file: Path, table: pl.DataFrame) -> pl.Series:
    """[stays] years at the begin of the stay, null where not told."""
    numbers = number_or_refuse(file, table, {"anchor_age": (0, 130), "anchor_year": (1800, 2500)})
    by_birth = (pl.col("intime") - pl.col("dob")).dt.total_days() / 365.2425
    by_anchor = pl.col("anchor_age") + pl.col("intime").dt.year() - pl.col("anchor_year")
    return numbers.select(pl.coalesce(by_birth, by_anchor)).to_series()


def _fixed(table: pl.DataFrame, age: pl.Series) -> tuple[pl.DataFrame, int]:
    """Age and sex as events at the begin of the stay, and how many ages are hidden by the publisher."""
    hidden = (age > _HIDDEN_AGE).fill_null(False)
    rows = table.select(
        stay=pl.int_range(pl.len(), dtype=pl.Int64),
        age_years=pl.Series(age).set(hidden, None),
        male=pl.col("gender").replace_strict({"M": 1.0, "F": 0.0}, default=None, return_dtype=pl.Float64),
    )
    long = rows.unpivot(["age_years", "male"], index="stay", variable_name="variable").drop_nulls()
    uom = pl.col("variable").replace_strict({"age_years": "a", "male": "1"}, return_dtype=pl.String)
    long = long.with_columns(hours=pl.lit(0.0), code=pl.col("variable"), uom=uom)
    return long.select(pl.col(name).cast(kind) for name, kind in EVENTS.items()), int(hidden.sum())


def _events(file: Path, table: pl.DataFrame, kind: _Kind, most_hours: float) -> tuple[pl.DataFrame, int]:
    """Events of one table within the hours read, and rows of known items that had no time or no value."""
    ids = ("stay_id", "icustay_id") if kind.key == "stay_id" else ("subject_id",)
    more = ("valueuom", *([kind.error] if kind.error else []))
    held = scan_table(file, ("itemid", "charttime", kind.value), (*ids, *more))
    known = pl.LazyFrame(
        [(item, name, unit) for item, (name, unit) in kind.items.items()],
        schema={"itemid": pl.String, "variable": pl.String, "usual": pl.String},
        orient="row",
    )
    stays = table.lazy().select(
        stay=pl.int_range(pl.len(), dtype=pl.Int64),
        key=pl.col(kind.key).cast(pl.String),
        begin="intime",
        end="outtime",
    )
    time = pl.col("charttime").str.to_datetime(_TIME, strict=False, time_unit="us")
    hours = (pl.col("time") - pl.col("begin")).dt.total_seconds() / 3600.0
    number = pl.col(kind.value).cast(pl.Float64, strict=False)
    inside = (pl.col("hours") >= 0) & (pl.col("hours") < most_hours) & (pl.col("time") <= pl.col("end"))
    wanted = (
        held.with_columns(key=pl.coalesce(*ids))
        .join(known, on="itemid", how="inner")
        .join(stays, on="key", how="inner")
        .filter(pl.col(kind.error).ne_missing("1") if kind.error else True)
        .with_columns(time=time, number=number)
        .with_columns(hours=hours)
        .filter(inside.fill_null(True))  # what cannot be read is kept, to be named
        .select(
            LINE,
            "stay",
            "hours",
            "itemid",
            "variable",
            "usual",
            "number",
            "charttime",
            kind.value,
            "valueuom",
        )
        .head(MOST_EVENTS + 1)
    )
    frame = collected(file, wanted).sort(LINE, "stay")
    if frame.height > MOST_EVENTS:
        raise DataError(
            f"{file.name}: more than {MOST_EVENTS:,} events", way_out="set data.options.most_hours smaller"
        )
    for column, parsed, takes in (
        ("charttime", "hours", "a time such as 2164-10-23 21:09:00"),
        (kind.value, "number", "a number"),
    ):
        bad = frame.filter(pl.col(parsed).is_null() & pl.col(column).is_not_null())
        if bad.height:
            raise bad_cell(file, bad[LINE][0], column, bad[column][0], takes)
    uom = pl.col("valueuom").replace(dict(SPELLINGS)).replace("", None)
    used = frame.drop_nulls(["hours", "number"]).select(
        "stay",
        hours=pl.when(pl.col("variable").is_in(STATIC)).then(0.0).otherwise(pl.col("hours")),
        code="itemid",
        variable="variable",
        value="number",
        uom=pl.coalesce(uom, "usual"),
    )
    return used.select(pl.col(name).cast(as_) for name, as_ in EVENTS.items()), frame.height - used.height


def read_rows(path: Any, admissions: str = "") -> tuple[pl.DataFrame, Int, Int]:
    """Stays with every column of their admission and patient as text, for the leak check; label [rows]; group
    [rows] by subject.
    """
    files = _files(path, admissions)
    stays, admitted, patients = (
        whole_table(files[name]).drop(LINE, "row_id", strict=False) for name in _NEEDED
    )
    table = stays.join(admitted.drop("subject_id"), on="hadm_id", how="inner", maintain_order="left")
    table = table.join(patients, on="subject_id", how="left", maintain_order="left")
    label = (table["hospital_expire_flag"] == "1").fill_null(False).to_numpy().astype(np.int64)
    return table, label, table["subject_id"].rank("dense").to_numpy().astype(np.int64)

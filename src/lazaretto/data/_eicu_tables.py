"""Tables of the eICU Collaborative Research Database as published -> stays and their events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lazaretto.data._flow_read import LINE
from lazaretto.data._record_files import (
    bad_cell,
    collected,
    find_tables,
    number_or_refuse,
    one_per_key,
    scan_table,
    small_table,
    whole_table,
)
from lazaretto.data._records import EVENTS, Stays
from lazaretto.errors import DataError
from lazaretto.types import Int

__all__ = ["EXAM", "LABS", "read_rows", "read_stays"]

_FOLDERS = ("eicudemo", "eicu-crd", "eicu-crd-demo")
_MOST_MINUTES = 527_040.0  # a year, to either side of the admission
MOST_EVENTS = 200_000_000

# labname -> (variable, unit where the row has none)
LABS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "albumin": ("albumin_g_per_dl", "g/dL"),
        "alkaline phos.": ("alkaline_phosphatase_u_per_l", "Units/L"),
        "ALT (SGPT)": ("alanine_aminotransferase_u_per_l", "Units/L"),
        "AST (SGOT)": ("aspartate_aminotransferase_u_per_l", "Units/L"),
        "bedside glucose": ("glucose_mg_per_dl", "mg/dL"),
        "glucose": ("glucose_mg_per_dl", "mg/dL"),
        "bicarbonate": ("bicarbonate_mmol_per_l", "mmol/L"),
        "HCO3": ("bicarbonate_mmol_per_l", "mmol/L"),
        "total bilirubin": ("bilirubin_mg_per_dl", "mg/dL"),
        "BUN": ("urea_nitrogen_mg_per_dl", "mg/dL"),
        "calcium": ("calcium_mg_per_dl", "mg/dL"),
        "chloride": ("chloride_mmol_per_l", "mmol/L"),
        "total cholesterol": ("cholesterol_mg_per_dl", "mg/dL"),
        "creatinine": ("creatinine_mg_per_dl", "mg/dL"),
        "Hct": ("haematocrit_percent", "%"),
        "Hgb": ("haemoglobin_g_per_dl", "g/dL"),
        "lactate": ("lactate_mmol_per_l", "mmol/L"),
        "magnesium": ("magnesium_mg_per_dl", "mg/dL"),
        "phosphate": ("phosphate_mg_per_dl", "mg/dL"),
        "platelets x 1000": ("platelets_10_9_per_l", "K/mcL"),
        "potassium": ("potassium_mmol_per_l", "mmol/L"),
        "PT": ("prothrombin_time_seconds", "sec"),
        "sodium": ("sodium_mmol_per_l", "mmol/L"),
        "troponin - I": ("troponin_i_ug_per_l", "ng/mL"),
        "troponin - T": ("troponin_t_ug_per_l", "ng/mL"),
        "WBC x 1000": ("white_cells_10_9_per_l", "K/mcL"),
        "paCO2": ("arterial_carbon_dioxide_mmhg", "mm Hg"),
        "paO2": ("arterial_oxygen_mmhg", "mm Hg"),
        "pH": ("arterial_ph", "units"),
        "O2 Sat (%)": ("arterial_oxygen_saturation_percent", "%"),
        "FiO2": ("inspired_oxygen_fraction", "%"),
    }
)
# last part of physicalexampath: what the nurse read off at that moment, not the least or largest of a day
EXAM: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "HR Current": ("heart_rate_per_minute", "bpm"),
        "Resp Current": ("respiratory_rate_per_minute", "/min"),
        "O2 Sat% Current": ("oxygen_saturation_percent", "%"),
        "BP (systolic) Current": ("systolic_pressure_mmhg", "mmHg"),
        "BP (diastolic) Current": ("diastolic_pressure_mmhg", "mmHg"),
        "FiO2%": ("inspired_oxygen_fraction", "%"),
    }
)
_PERIODIC: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "temperature": ("temperature_celsius", "Cel"),
        "sao2": ("oxygen_saturation_percent", "%"),
        "heartrate": ("heart_rate_per_minute", "bpm"),
        "respiration": ("respiratory_rate_per_minute", "/min"),
        "systemicsystolic": ("systolic_pressure_mmhg", "mmHg"),
        "systemicdiastolic": ("diastolic_pressure_mmhg", "mmHg"),
        "systemicmean": ("mean_pressure_mmhg", "mmHg"),
    }
)
_APERIODIC: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "noninvasivesystolic": ("cuff_systolic_pressure_mmhg", "mmHg"),
        "noninvasivediastolic": ("cuff_diastolic_pressure_mmhg", "mmHg"),
        "noninvasivemean": ("cuff_mean_pressure_mmhg", "mmHg"),
    }
)
_URINE: Mapping[str, tuple[str, str]] = MappingProxyType({"Urine": ("urine_millilitres", "mL")})


class _Long(NamedTuple):
    """A table with one value per row: its columns of time, of what it is, of the value, of the unit or ""."""

    known: Mapping[str, tuple[str, str]]
    offset: str
    what: str
    value: str
    uom: str
    strict: bool  # whether text that is no number is refused; else it is counted


_LONG: Mapping[str, _Long] = MappingProxyType(
    {
        "lab": _Long(LABS, "labresultoffset", "labname", "labresult", "labmeasurenamesystem", True),
        "physicalexam": _Long(EXAM, "physicalexamoffset", "physicalexampath", "physicalexamtext", "", False),
        "intakeoutput": _Long(_URINE, "intakeoutputoffset", "celllabel", "cellvaluenumeric", "", True),
    }
)
_WIDE: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"vitalperiodic": _PERIODIC, "vitalaperiodic": _APERIODIC}
)


def _files(path: Any) -> dict[str, Path]:
    return find_tables(path, "eicu", ("patient", *_LONG, *_WIDE), _FOLDERS, ("patient",))


def read_stays(path: Any, most_hours: float) -> Stays:
    """One stay of each patient, its outcome, and its events in the first `most_hours`. See `eicu`."""
    files = _files(path)
    table, counts = _stays(files["patient"])
    fixed, hidden = _fixed(table)
    events, odd, empty = [fixed], 0, 0
    for name, file in files.items():
        if name in _LONG:
            found, words, nothing = _long(file, table, _LONG[name], most_hours)
        elif name in _WIDE:
            found, words, nothing = _wide(file, table, _WIDE[name], most_hours)
        else:
            continue
        events.append(found)
        odd, empty = odd + words, empty + nothing
    absent = [name for name in (*_WIDE, *_LONG) if name not in files]
    counts |= {
        "values_not_numbers": odd,
        "values_empty": empty,
        "ages_hidden": hidden,
        "tables_absent": len(absent),
    }
    status = table["hospitaldischargestatus"]
    return Stays(
        names=tuple(f"stay {number}" for number in table["patientunitstayid"]),
        sites=tuple(f"hospital {number}" for number in table["hospitalid"]),
        hours=(table["unitdischargeoffset"] / 60.0).to_numpy().astype(np.float64),
        start_seconds=np.zeros(table.height),  # only the year of discharge is published
        died=(status == "Expired").fill_null(False).to_numpy(),
        judged=status.is_in(["Expired", "Alive"]).fill_null(False).to_numpy(),
        events=pl.concat(events),
        counts=counts,
        notes=(f"Not in the folder, and so not read: {', '.join(absent)}.",) if absent else (),
    )


def _stays(file: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    words = ("uniquepid", "age", "gender", "hospitaldischargestatus")
    numbers = (
        "patientunitstayid",
        "patienthealthsystemstayid",
        "hospitalid",
        "unitdischargeoffset",
        "unitvisitnumber",
    )
    rest = ("admissionheight", "admissionweight", "hospitaldischargeyear")
    frame = small_table(file, (*numbers, *words), rest)
    ids = {name: (0.0, float(1 << 40)) for name in numbers if name != "unitdischargeoffset"}
    ranges = {
        **ids,
        "unitdischargeoffset": (-_MOST_MINUTES, _MOST_MINUTES),
        "hospitaldischargeyear": (1900, 2500),
    }
    ranges |= {"admissionheight": (-1e6, 1e6), "admissionweight": (-1e6, 1e6)}
    frame = number_or_refuse(file, frame, ranges, complete=numbers)
    frame = frame.with_columns(pl.col(name).cast(pl.Int64) for name in ids)
    if frame["uniquepid"].null_count():
        row = int(frame["uniquepid"].is_null().arg_max() or 0)
        raise bad_cell(file, frame[LINE][row], "uniquepid", None, "who the patient is")
    frame, copies = one_per_key(file, frame, "patientunitstayid")
    order = ("hospitaldischargeyear", "patienthealthsystemstayid", "unitvisitnumber", "patientunitstayid")
    # two stays of one patient must not stand in two splits
    first = frame.sort(order).unique("uniquepid", keep="first", maintain_order=True).sort("patientunitstayid")
    return first, {"rows_repeated": copies, "stays_after_the_first": frame.height - first.height}


def _fixed(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Age, sex, height and weight at admission as events, and how many ages are hidden by the publisher."""
    hidden = table["age"].str.starts_with(">").fill_null(False)
    rows = table.select(
        stay=pl.int_range(pl.len(), dtype=pl.Int64),
        age_years=pl.col("age").cast(pl.Float64, strict=False),
        male=pl.col("gender").replace_strict(
            {"Male": 1.0, "Female": 0.0}, default=None, return_dtype=pl.Float64
        ),
        height_centimetres=pl.col("admissionheight").cast(pl.Float64),
        admission_weight_kilograms=pl.col("admissionweight").cast(pl.Float64),
    )
    units = {"age_years": "a", "male": "1", "height_centimetres": "cm", "admission_weight_kilograms": "kg"}
    long = rows.unpivot(list(units), index="stay", variable_name="variable").drop_nulls()
    uom = pl.col("variable").replace_strict(units, return_dtype=pl.String)
    long = long.with_columns(hours=pl.lit(0.0), code=pl.col("variable"), uom=uom)
    return long.select(pl.col(name).cast(kind) for name, kind in EVENTS.items()), int(hidden.sum())


def _long(file: Path, table: pl.DataFrame, kind: _Long, most_hours: float) -> tuple[pl.DataFrame, int, int]:
    ids = "patientunitstayid"
    frame = scan_table(file, (ids, kind.offset, kind.what, kind.value, *([kind.uom] if kind.uom else [])))
    what = (
        pl.col(kind.what).str.split("/").list.last() if kind.what == "physicalexampath" else pl.col(kind.what)
    )
    uom = pl.col(kind.uom) if kind.uom else pl.lit(None, pl.String)
    frame = frame.select(LINE, ids, offset=kind.offset, what=what, text=kind.value, uom=uom)
    found = _within(file, frame, table, most_hours, kind.known, kind.offset)
    words = found["value"].is_null() & found["text"].is_not_null()
    if kind.strict and words.any():
        row = int(words.arg_max() or 0)
        raise bad_cell(file, found[LINE][row], kind.value, found["text"][row], "a number")
    return _events(found), int(words.sum()), int(found["text"].null_count())


def _wide(
    file: Path, table: pl.DataFrame, known: Mapping[str, tuple[str, str]], most_hours: float
) -> tuple[pl.DataFrame, int, int]:
    ids = "patientunitstayid"
    frame = scan_table(file, (ids, "observationoffset"), tuple(known))
    long = frame.unpivot(
        list(known), index=[LINE, ids, "observationoffset"], variable_name="what", value_name="text"
    )
    long = long.filter(pl.col("text").is_not_null())
    long = long.select(LINE, ids, "what", "text", offset="observationoffset", uom=pl.lit(None, pl.String))
    found = _within(file, long, table, most_hours, known, "observationoffset")
    if found["value"].null_count():
        row = int(found["value"].is_null().arg_max() or 0)
        raise bad_cell(file, found[LINE][row], found["what"][row], found["text"][row], "a number")
    return _events(found), 0, 0


def _within(
    file: Path,
    frame: pl.LazyFrame,
    table: pl.DataFrame,
    most_hours: float,
    known: Mapping[str, tuple[str, str]],
    offset: str,
) -> pl.DataFrame:
    """Rows of known things from the begin of a stay to the end of the hours read; `value` null for text."""
    stays = table.lazy().select(
        stay=pl.int_range(pl.len(), dtype=pl.Int64),
        patientunitstayid=pl.col("patientunitstayid").cast(pl.String),
        most=pl.min_horizontal(pl.col("unitdischargeoffset"), pl.lit(most_hours * 60.0)),
    )
    things = pl.LazyFrame(
        [(what, name, unit) for what, (name, unit) in known.items()],
        schema={"what": pl.String, "variable": pl.String, "usual": pl.String},
        orient="row",
    )
    minutes = pl.col("offset").cast(pl.Float64, strict=False)
    inside = (pl.col("minutes") >= 0) & (pl.col("minutes") < pl.col("most"))
    wanted = (
        frame.join(things, on="what", how="inner")
        .join(stays, on="patientunitstayid", how="inner")
        .with_columns(minutes=minutes, value=pl.col("text").cast(pl.Float64, strict=False))
        .filter(inside.fill_null(True))  # what cannot be read is kept, to be named
        .head(MOST_EVENTS + 1)
    )
    found = collected(file, wanted).sort(LINE, "what")
    if found.height > MOST_EVENTS:
        raise DataError(
            f"{file.name}: more than {MOST_EVENTS:,} events", way_out="set data.options.most_hours smaller"
        )
    bad = found.filter(pl.col("minutes").is_null())
    if bad.height:
        raise bad_cell(file, bad[LINE][0], offset, bad["offset"][0], "minutes since the admission")
    return found


def _events(found: pl.DataFrame) -> pl.DataFrame:
    used = found.drop_nulls("value").with_columns(
        hours=pl.col("minutes") / 60.0,
        code=pl.col("what"),
        uom=pl.coalesce(pl.col("uom"), pl.col("usual")),
    )
    return used.select(pl.col(name).cast(kind) for name, kind in EVENTS.items())


def read_rows(path: Any) -> tuple[pl.DataFrame, Int, Int]:
    """The patient table as text, for the leak check; label [rows]; group [rows] by patient."""
    table = whole_table(_files(path)["patient"]).drop(LINE)
    if not {"hospitaldischargestatus", "uniquepid"} <= set(table.columns):
        raise DataError(
            "eicu: the patient table lacks its outcome or its patients", way_out="give it as published"
        )
    label = (table["hospitaldischargestatus"] == "Expired").fill_null(False).to_numpy().astype(np.int64)
    return table, label, table["uniquepid"].fill_null("").rank("dense").to_numpy().astype(np.int64)

"""UCI heart disease: patients of four hospitals (Detrano et al., Am J Cardiol 64, 1989; DOI 10.24432/C52P4X).

A clinical task beside the attacks: each patient is one unit of one step, each hospital a site, and the class
is disease (angiographic status above 0) or none. No clock, no campaign, no alarms per day.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data._flow_read import LINE, open_bare_table, read_columns
from lazaretto.data._published import as_published, checked_numbers, published_files
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, UNASSIGNED, RawRows, Schema, Source, Table

__all__ = ["heart"]

_COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"),
)
_HOSPITALS: Mapping[str, str] = MappingProxyType(
    {
        "processed.cleveland.data": "Cleveland",
        "processed.hungarian.data": "Budapest",
        "processed.switzerland.data": "Zurich and Basel",
        "processed.va.data": "Long Beach",
    }
)
# What a kept column may hold; the published attribute page gives codes, physiology the rest.
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "age": (1, 120),
        "sex": (0, 1),
        "cp": (1, 4),
        "trestbps": (30, 300),
        "restecg": (0, 2),
        "thalach": (30, 250),
        "exang": (0, 1),
        "oldpeak": (-10, 10),
        "num": (0, 4),
    }
)
_CODES = ("sex", "cp", "restecg", "exang", "num")
_MISSING = ("", "?", "nan", "-9", "-9.0")
_ZERO_IS_MISSING = ("trestbps", "thalach")
_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "num": "the outcome itself, and its grade",
        "chol": "0 means missing: all of one hospital, where nearly everybody is ill",
        "fbs": "missing for most patients of one hospital, so that a gap tells the hospital",
        "slope": "missing for half or more of the patients of two hospitals; a gap tells the hospital",
        "ca": "known at one hospital only; a gap tells the hospital",
        "thal": "known for most patients at one hospital only; a gap tells the hospital",
    }
)
_FEATURES = (
    "age_years",
    "male",
    "chest_pain_typical",
    "chest_pain_atypical",
    "chest_pain_not_anginal",
    "chest_pain_none",
    "resting_pressure_mmhg",
    "resting_ecg_st_t",
    "resting_ecg_hypertrophy",
    "largest_heart_rate_per_minute",
    "exercise_angina",
    "st_depression_millimetres",
)
_NOTES = (
    (
        "A clinical task: a unit is a patient, a step is that patient's one examination, and what "
        "this report "
        "calls an attack is heart disease (angiographic status above 0)."
    ),
    (
        "Patients who lack one of the kept measurements are left out, not filled in: who lacks what "
        "tells the "
        "hospital. Columns that a hospital mostly lacks are left out for all."
    ),
    (
        "The share of ill patients differs widely between hospitals, so whatever tells the hospital tells "
        "something of the outcome; it was a referral for angiography that brought every patient here."
    ),
)


def heart() -> Source:
    """UCI heart disease, four hospitals as four sites: is a patient ill? One step per patient, no attack.

    `load` and `raw` read the folder of the published `processed.*.data` files, or one of them:
    comma-separated, 14 columns, no header; `?`, `NaN`, -9 and an empty cell are missing, and so is 0 for a
    pressure or a heart rate. Modality "record"; split by patient.
    Raises DataError for a file that cannot be used.
    """
    return Source(name="heart", load=_load, sample=_sample, raw=_raw, leaks=_LEAKS, needs_path=True)


def _read(path: Any) -> tuple[list[pl.DataFrame], list[str]]:
    """Text columns of each file (null where missing), and the hospitals' names."""
    frames, names = [], []
    for file in published_files(path, "heart", tuple(_HOSPITALS)):
        table = open_bare_table(file, _COLUMNS)
        frame = read_columns(table, _COLUMNS)
        held = pl.all().exclude(LINE).str.strip_chars()
        frame = frame.with_columns(pl.when(~held.str.to_lowercase().is_in(_MISSING)).then(held))
        frame = frame.with_columns(
            pl.when(pl.col(name).cast(pl.Float64, strict=False).ne_missing(0.0))
            .then(pl.col(name))
            .alias(name)
            for name in _ZERO_IS_MISSING
        )
        gaps = {name: limits for name, limits in _RANGES.items() if name != "num"}
        outcome = checked_numbers(table, frame, {"num": _RANGES["num"]}, codes=_CODES)
        held_numbers = checked_numbers(table, frame, gaps, codes=_CODES, complete=False)
        frame = frame.with_columns(held_numbers).with_columns(outcome)
        frames.append(frame)
        names.append(_HOSPITALS.get(file.name, file.name))
    return frames, names


def _load(path: Any, seed: int) -> Table:
    del seed  # nothing is drawn
    return _table(*_read(path))


def _table(frames: list[pl.DataFrame], names: list[str]) -> Table:
    kept = [name for name in _RANGES if name != "num"]
    rows = pl.concat(
        [
            frame.select(*_RANGES, place=pl.lit(number), row=pl.int_range(pl.len()))
            for number, frame in enumerate(frames)
        ]
    )
    complete = rows.drop_nulls(kept)
    patients = complete.unique([*_RANGES, "place"], keep="first", maintain_order=True)
    if patients.is_empty():
        raise DataError(
            "heart: no patient has all the measurements that are used",
            found=f"{rows.height} patients",
            way_out=f"columns {', '.join(kept)} must be filled",
        )
    ill = (patients["num"] > 0).to_numpy().astype(np.int64)
    count = patients.height
    one = np.ones((count, 1), dtype=np.bool_)
    place = patients["place"].to_numpy().astype(np.int64)
    return Table(
        x={"record": _features(patients)[:, None, :]},
        present=one,
        y=ill,
        y_step=ill[:, None],
        valid=one,
        unit=np.arange(count, dtype=np.int64),
        unit_names=tuple(
            f"{names[p]}, patient {row + 1}" for p, row in zip(place, patients["row"].to_list(), strict=True)
        ),
        time=np.zeros(count),
        site=place,
        site_names=tuple(names),
        split=np.full(count, UNASSIGNED, dtype=np.int64),
        schema=Schema(
            features={"record": _FEATURES},
            classes=(NORMAL, "heart_disease"),
            step="one patient",
            step_seconds=1.0,
            timed=False,
            positive="patients with heart disease",
            negative="patients without",
        ),
        notes=_NOTES,
        counts={
            "rows_read": rows.height,
            "rows_incomplete": rows.height - complete.height,
            "duplicates_removed": complete.height - count,
        },
    )


def _features(patients: pl.DataFrame) -> NDArray[np.float32]:
    """[patients, F], categories as shares of one."""
    pain, trace = pl.col("cp"), pl.col("restecg")
    frame = patients.select(
        pl.col("age"),
        pl.col("sex"),
        *[(pain == kind).cast(pl.Float64).alias(f"cp{kind}") for kind in (1, 2, 3, 4)],
        pl.col("trestbps"),
        *[(trace == kind).cast(pl.Float64).alias(f"ecg{kind}") for kind in (1, 2)],
        pl.col("thalach"),
        pl.col("exang"),
        pl.col("oldpeak"),
    )
    return np.ascontiguousarray(frame.to_numpy(), dtype=np.float32)


def _raw(path: Any) -> RawRows:
    frames, _ = _read(path)
    rows = pl.concat([frame.select(pl.col(name).cast(pl.String) for name in _COLUMNS) for frame in frames])
    label = (rows["num"].cast(pl.Float64) > 0).to_numpy().astype(np.int64)
    return RawRows(
        columns=as_published(rows, _COLUMNS),
        label=label,
        group=np.arange(rows.height, dtype=np.int64),
        classes=(NORMAL, "heart_disease"),
    )


def _sample() -> Table:
    """Made-up patients of two hospitals, in whom age, pain and a low heart rate go with disease."""
    rng = keys.generator(0, "heart", "sample")
    frames = []
    for _ in range(2):
        count = 60
        ill = rng.random(count) < 0.5
        frames.append(
            pl.DataFrame(
                {
                    "age": np.round(50 + 6 * ill + 8 * rng.standard_normal(count)),
                    "sex": (rng.random(count) < 0.6).astype(float),
                    "cp": np.where(ill, 4.0, rng.integers(1, 5, count)),
                    "trestbps": np.round(125 + 12 * rng.standard_normal(count)),
                    "restecg": rng.integers(0, 3, count).astype(float),
                    "thalach": np.round(155 - 20 * ill + 15 * rng.standard_normal(count)),
                    "exang": (rng.random(count) < 0.2 + 0.4 * ill).astype(float),
                    "oldpeak": np.round(np.abs(0.5 + ill + rng.standard_normal(count)), 1),
                    "num": ill * rng.integers(1, 5, count).astype(float),
                }
            )
        )
    return _table(frames, ["hospital A", "hospital B"])

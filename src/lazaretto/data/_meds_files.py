"""MEDS data sets: Parquet files checked against the standard, and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lazaretto import __version__
from lazaretto.data._clinical import VARIABLES
from lazaretto.data._meds_codes import ADMISSION, DISCHARGE, code_of
from lazaretto.errors import DataError
from lazaretto.types import Float, Int

__all__ = ["MEDS_VERSION", "Shelf", "meds_files", "site_columns", "write_shelf"]

MEDS_VERSION = "0.4.1"
MOST_ROWS = 4_000_000_000
_MOST_JSON = 1 << 20
_DESCRIPTIONS = {ADMISSION: "begin of the stay", DISCHARGE: "end of the stay, or of what is kept of it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What `write_shelf` writes: one stay of each of u subjects, and e measurements, in the kept units.

    names, sites: [u]; start_us, end_us: [u] microseconds since 1970; stay: [e] index; us: [e] microseconds;
    variable: [e] names of VARIABLES; value: [e].
    """

    names: Sequence[str]
    sites: Sequence[str]
    start_us: Int
    end_us: Int
    stay: Int
    us: Int
    variable: Sequence[str]
    value: Float


def meds_files(path: Any) -> list[tuple[Path, pl.Schema]]:
    """The Parquet files of a MEDS data set (`data/` in the folder, else the folder, or one file), checked.

    Raises DataError where there is no path or no file, for what is not Parquet, a missing column, or one of a
    type that the standard does not allow, naming the file and the column.
    """
    if path is None:
        raise DataError("meds reads Parquet files, and no path is given", way_out="give --data PATH")
    place = Path(str(path))
    if not place.exists():
        raise DataError(f"{place}: no such file or folder", way_out="give the folder of a MEDS data set")
    top = place / "data" if (place / "data").is_dir() else place
    files = [place] if place.is_file() else sorted(file for file in top.rglob("*.parquet") if file.is_file())
    files = [file for file in files if file.parent.name != "metadata"]
    if not files:
        here = ", ".join(sorted(entry.name for entry in top.iterdir())[:5]) or "an empty folder"
        raise DataError(f"{top}: no MEDS data here", found=here, way_out="files named data/*.parquet")
    return [(file, _schema(file)) for file in files]


def _schema(file: Path) -> pl.Schema:
    try:
        schema = pl.scan_parquet(file).collect_schema()
        rows = int(pl.scan_parquet(file).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as Parquet",
            found=str(error).partition("\n")[0][:200],
            way_out="was it cut off? copy it again",
        ) from error
    if rows > MOST_ROWS:
        raise DataError(f"{file.name} is too large", found=f"{rows:,} rows", way_out="split it by subjects")
    for name, fine, takes in (
        ("subject_id", lambda kind: kind.is_integer(), "whole numbers"),
        ("time", lambda kind: isinstance(kind, pl.Datetime), "timestamps"),
        ("code", lambda kind: kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum), "text"),
        ("numeric_value", lambda kind: kind.is_numeric(), "numbers"),
    ):
        if name not in schema:
            raise DataError(
                f"{file.name}: the column '{name}' is missing",
                found=", ".join(list(schema)[:10]),
                way_out="MEDS has subject_id, time, code and numeric_value",
            )
        if not fine(schema[name]):
            raise DataError(
                f"{file.name}, column '{name}' must hold {takes}",
                found=str(schema[name]),
                way_out="write it as MEDS says",
            )
    return schema


def site_columns(path: Any) -> list[str]:
    """Names of the columns that hold the site of care, as `metadata/dataset.json` says, or none.

    Raises DataError for a file that is no JSON object, or is too large.
    """
    file = Path(str(path)) / "metadata" / "dataset.json"
    if not file.is_file():
        return []
    try:
        if file.stat().st_size > _MOST_JSON:
            raise ValueError(f"{file.stat().st_size:,} bytes")
        told = json.loads(file.read_text("utf-8"))
        names = told.get("site_id_columns") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"site_id_columns = {names!r}")
    except (ValueError, AttributeError, RecursionError, OSError) as error:
        raise DataError(
            f"{file}: not the metadata of a MEDS data set",
            found=str(error)[:120],
            way_out="mend or remove it",
        ) from error
    return names


def write_shelf(shelf: Shelf, folder: Path) -> None:
    """`data/0.parquet`, `metadata/codes.parquet`, `metadata/dataset.json` in a `folder` that is new or empty.

    Subject 1, 2, ... has its name as text of its admission. Raises DataError where something is there
    already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty", way_out="give a folder that does not exist yet")
    count = len(shelf.names)
    site = np.array([name or "UNK" for name in shelf.sites], dtype=object)
    known = sorted(set(shelf.variable))
    codes = {name: code_of(name) for name in known}
    edges = [
        pl.DataFrame(
            {
                "subject_id": np.arange(1, count + 1),
                "us": at,
                "code": [f"{kind}//{name}" for name in site],
                "numeric_value": pl.Series([None] * count, dtype=pl.Float32),
                "text_value": shelf.names
                if kind == ADMISSION
                else pl.Series([None] * count, dtype=pl.String),
                "unit": pl.Series([None] * count, dtype=pl.String),
                "order": pl.Series([rank] * count, dtype=pl.Int8),
            }
        )
        for kind, at, rank in ((ADMISSION, shelf.start_us, 0), (DISCHARGE, shelf.end_us, 2))
    ]
    measured = pl.DataFrame(
        {
            "subject_id": shelf.stay + 1,
            "us": shelf.us,
            "code": pl.Series([codes[name] for name in shelf.variable], dtype=pl.String),
            "numeric_value": shelf.value.astype(np.float32),
            "text_value": pl.Series([None] * len(shelf.us), dtype=pl.String),
            "unit": pl.Series([VARIABLES[name].unit for name in shelf.variable], dtype=pl.String),
            "order": pl.Series([1] * len(shelf.us), dtype=pl.Int8),
        }
    )
    # what the standard asks for: a subject's rows together, in order of time
    rows = pl.concat([*edges, measured]).sort("subject_id", "us", "order", maintain_order=True)
    rows = rows.with_columns(
        time=pl.col("us").cast(pl.Datetime("us")),
        site=pl.Series(shelf.sites, dtype=pl.String)[rows["subject_id"] - 1],
    )
    names = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "site")
    described = pl.DataFrame(
        [(codes[name], name.replace("_", " "), []) for name in known]
        + [
            (f"{kind}//{name}", words, [])
            for kind, words in _DESCRIPTIONS.items()
            for name in sorted(set(site))
        ],
        schema={"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)},
        orient="row",
    )
    for part in ("data", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows.select(*names).write_parquet(folder / "data" / "0.parquet")
    described.write_parquet(folder / "metadata" / "codes.parquet")
    about = {
        "dataset_name": "records",
        "etl_name": "lazaretto",
        "etl_version": __version__,
        "meds_version": MEDS_VERSION,
        "code_modifier_columns": ["unit"],
        "site_id_columns": ["site"],
    }
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")

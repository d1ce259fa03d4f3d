"""MEDS, the Medical Event Data Standard: events as Parquet, read and written.

Arnrich et al. 2024, https://openreview.net/forum?id=IsHy2ebjIG; version 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._clinical import VARIABLES
from lazaretto.data._meds_codes import ADMISSION, BIRTH, DEATH, DISCHARGE, GENDER, MARKS, Meaning, meaning_of
from lazaretto.data._meds_files import Shelf, meds_files, site_columns, write_shelf
from lazaretto.data._mimic_items import SPELLINGS
from lazaretto.data._record_sample import made_up_stays, no_raw_label, sample_plan
from lazaretto.data._record_tasks import mixing
from lazaretto.data._records import EVENTS, Stays, checked_plan, record_table
from lazaretto.data.tampering import KINDS
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, RawRows, Source, Table

__all__ = ["meds", "write_meds"]

_MOST_CODES = 2_000_000
_MOST_EVENTS = 200_000_000
_MOST_NAMED = 6
_HOUR_US = 3_600_000_000
_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "MEDS_DEATH": "the outcome itself, with its time",
        "discharge": "where a stay ended, which tells who died",
        "last_event": "when the last event was, which for those who died is soon before",
        "first_event": "a clock",
        "events": "how much was recorded, which is known only at the end",
        "subject_id": "names the patient",
    }
)


def meds(
    task: Literal["tampering", "records"] = "tampering",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    tampered: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    training_copies: int = 1,
) -> Source:
    """MEDS: events of patients as Parquet, by LOINC codes or those of the MIMIC-IV conversion.

    A unit is a subject's first stay (ICU_ADMISSION to ICU_DISCHARGE; where nobody has one, all that was
    measured), its first most_hours in steps of step_hours; a site is what `site_id_columns` of the
    metadata names, else the unit of the admission. task: "tampering" (which hours of which stays are
    forged; tampered: share of stays, in (0, 1), kinds: of `data.tampering`) or "records" (nothing laid
    over, no label, shorter stays too).
    training_copies: 1 to 16, how often a training stay is there, forged anew each time.

    `load` and `raw` read a data set's folder, a folder of .parquet files or one of them, and raise DataError
    where they cannot be used. Raises PlanError for options out of range.
    """
    plan = checked_plan(
        "meds", task, step_hours, most_hours, tampered, kinds, training_copies, ("tampering", "records")
    )

    def load(path: Any, seed: int) -> Table:
        return record_table("meds", _read_stays(path), plan, seed)

    def raw(path: Any) -> RawRows:
        if task != "records":
            raise no_raw_label("records")
        return _raw(path)

    def sample() -> Table:
        return record_table("meds", made_up_stays("meds"), sample_plan(plan))

    return Source(
        name="meds",
        load=load,
        sample=sample,
        raw=raw,
        leaks=_LEAKS,
        needs_path=True,
        appearances=plan.copies,
        deals=plan.task == "tampering",
        mixes=mixing(plan.task, plan.kinds),
    )


def write_meds(table: Table, folder: Path) -> None:
    """Write the records of a table as a MEDS data set into `folder`, which must be new or empty.

    Each measured step becomes an event in its middle, under a LOINC code (or LAZARETTO//NAME where there
    is none), with its unit of measurement and its site; each unit a subject with ICU_ADMISSION and
    ICU_DISCHARGE, its name as text of the admission. Labels and splits are not written.
    `meds(task="records")` with the same step reads the same records back. Raises DataError for a table
    without records, with a variable that is not known, or a folder that holds something.
    """
    if "record" not in table.schema.irregular:
        raise DataError(
            "only records in time can be written as MEDS",
            found=", ".join(table.schema.features),
            way_out="a source whose modality 'record' is irregular",
        )
    names = table.schema.features["record"]
    unknown = [name for name in names if name not in VARIABLES]
    if unknown:
        raise DataError(
            "a series is no variable of the vocabulary",
            found=unknown[0],
            way_out=f"names such as {', '.join(list(VARIABLES)[:3])}",
        )
    step_us = table.schema.step_seconds * 1e6
    units, first = np.unique(table.unit, return_index=True)
    begin, end = np.full(len(units), np.inf), np.full(len(units), -np.inf)
    row_unit = np.searchsorted(units, table.unit)
    np.minimum.at(begin, row_unit, table.time)
    some = table.valid.any(axis=1)
    lasting = table.valid.sum(axis=1) * table.schema.step_seconds
    np.maximum.at(end, row_unit[some], (table.time + lasting)[some])
    start_us = np.round(begin * 1e6).astype(np.int64)
    x = table.x["record"]
    row, step, channel = np.nonzero(np.isfinite(x) & table.valid[..., None])
    order = np.lexsort((channel, step, table.time[row], row_unit[row]))
    row, step, channel = row[order], step[order], channel[order]
    offset = np.round((table.time[row] - begin[row_unit[row]]) / table.schema.step_seconds)
    write_shelf(
        Shelf(
            names=[table.unit_names[unit] for unit in units],
            sites=[table.site_names[site] if site >= 0 else "" for site in table.site[first]],
            start_us=start_us,
            # cut off, not rounded: a microsecond more would be one step more
            end_us=start_us
            + np.floor(np.round((end - begin) / table.schema.step_seconds) * step_us).astype(np.int64),
            stay=row_unit[row].astype(np.int64),
            us=start_us[row_unit[row]] + np.floor((offset + step + 0.5) * step_us).astype(np.int64),
            variable=[names[place] for place in channel],
            value=x[row, step, channel],
        ),
        Path(folder),
    )


def _codes(files: Sequence[tuple[Path, pl.Schema]]) -> dict[str, int]:
    """Every code and how often it occurs."""
    counted = pl.concat([pl.scan_parquet(file).select(pl.col("code").cast(pl.String)) for file, _ in files])
    found = _collected(files, counted.group_by("code").len().sort("code").head(_MOST_CODES + 1))
    if found.height > _MOST_CODES:
        raise DataError(
            "meds: too many codes",
            found=f"more than {_MOST_CODES:,}",
            way_out="is that column what MEDS means by a code?",
        )
    if found["code"].null_count():
        raise DataError(
            "meds: an event without a code",
            found=f"in one of {', '.join(file.name for file, _ in files[:3])}",
            way_out="the standard asks for a code in every row",
        )
    return dict(found.iter_rows())


def _collected(files: Sequence[tuple[Path, pl.Schema]], frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"meds: {', '.join(file.name for file, _ in files[:3])} cannot be read as Parquet",
            found=str(error).partition("\n")[0][:200],
            way_out="was a file cut off? copy it again",
        ) from error


def _rows(path: Any, meanings: Mapping[str, Meaning], sites: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """Events that measure, describe, or begin or end a stay: subject, time, code, number, text, unit, site.

    Also how many measurements have no time.
    """
    files = meds_files(path)
    marks = pl.any_horizontal(pl.col("code").str.starts_with(mark) for mark in (*MARKS, BIRTH, GENDER))
    parts = []
    for file, schema in files:
        where = next((name for name in sites if schema.get(name) == pl.String), None)
        text = "text_value" if schema.get("text_value") == pl.String else None
        uom = "unit" if schema.get("unit") == pl.String else None
        parts.append(
            pl.scan_parquet(file)
            .select(
                pl.col("subject_id").cast(pl.Int64),
                pl.col("time").cast(pl.Datetime("us")),
                pl.col("code").cast(pl.String),
                # the shortest decimal of a float32 is what was written: .21, and not .2099999934
                number=pl.col("numeric_value").cast(pl.String).cast(pl.Float64, strict=False),
                text=pl.col(text) if text else pl.lit(None, pl.String),
                unit=pl.col(uom) if uom else pl.lit(None, pl.String),
                site=pl.col(where) if where else pl.lit(None, pl.String),
            )
            .filter(pl.col("code").is_in(list(meanings)) | marks)
        )
    held = _collected(files, pl.concat(parts).head(_MOST_EVENTS + 1))
    if held.height > _MOST_EVENTS:
        raise DataError(
            "meds: too many events", found=f"more than {_MOST_EVENTS:,}", way_out="read fewer subjects"
        )
    if held["subject_id"].null_count():
        raise DataError(
            "meds: an event without a subject_id",
            found=held.filter(pl.col("subject_id").is_null())["code"][0],
            way_out="the standard asks for a subject in every row",
        )
    still = held["time"].is_null() & ~held["code"].str.starts_with(GENDER)
    return held.filter(~still), int(still.sum())


def _spans(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Begin, end, name and place of each subject's first stay."""
    begins = rows.filter(pl.col("code").str.starts_with(ADMISSION)).sort(
        "subject_id", "time", maintain_order=True
    )
    if begins.is_empty():
        whole = rows.group_by("subject_id").agg(begin=pl.col("time").min(), end=pl.col("time").max())
        # the last event lies inside
        whole = whole.with_columns(end=pl.col("end") + pl.duration(seconds=1), text=pl.lit(None, pl.String))
        named = rows.drop_nulls("site").group_by("subject_id").agg(site=pl.col("site").mode().sort().first())
        return whole.join(named, on="subject_id", how="left").sort("subject_id"), {
            "subjects_without_a_stay": 0
        }
    first = begins.unique("subject_id", keep="first", maintain_order=True)
    ends = rows.filter(pl.col("code").str.starts_with(DISCHARGE)).select("subject_id", end="time")
    later = first.join(ends, on="subject_id", how="left").filter(pl.col("end") > pl.col("time"))
    until = later.group_by("subject_id").agg(pl.col("end").min())
    place = pl.col("code").str.splitn("//", 2).struct.field("field_1").replace(["UNK", ""], None)
    spans = first.join(until, on="subject_id", how="left").select(
        "subject_id", "text", "end", begin="time", site=pl.coalesce("site", place)
    )
    subjects = rows["subject_id"].n_unique()
    return spans.sort("subject_id"), {
        "subjects_without_a_stay": subjects - spans.height,
        "stays_after_the_first": begins.height - spans.height,
    }


def _read_stays(path: Any) -> Stays:
    files = meds_files(path)
    codes = _codes(files)
    meanings = {code: meaning for code in codes if (meaning := meaning_of(code)) is not None}
    if not meanings:
        some = ", ".join(sorted(codes, key=lambda code: -codes[code])[:_MOST_NAMED]) or "no event"
        raise DataError(
            "meds: no code is a variable of ours",
            found=some,
            way_out="LOINC//8867-4 and the like, or LAB//220045//bpm as the MIMIC-IV conversion writes",
        )
    held, still = _rows(path, meanings, site_columns(path))
    described = pl.col("code").str.starts_with(BIRTH) | pl.col("code").str.starts_with(GENDER)
    rows = held.filter(~described)
    spans, counts = _spans(rows)
    spans = spans.with_columns(stay=pl.int_range(pl.len(), dtype=pl.Int64))
    table = pl.DataFrame(
        [(code, meaning.variable, meaning.uom, meaning.usual) for code, meaning in meanings.items()],
        schema={"code": pl.String, "variable": pl.String, "told": pl.String, "usual": pl.String},
        orient="row",
    )
    blank = {"": None, **SPELLINGS}
    events = (
        rows.join(table, on="code", how="inner", maintain_order="left")
        .join(
            spans.select("subject_id", "stay", "begin"), on="subject_id", how="inner", maintain_order="left"
        )
        .with_columns(
            hours=(pl.col("time") - pl.col("begin")).dt.total_microseconds() / _HOUR_US,
            uom=pl.coalesce(
                pl.col(name).replace(blank).replace("", None) for name in ("told", "unit", "usual")
            ),
        )
    )
    empty = events["number"].is_null()
    read = (*MARKS, BIRTH, GENDER)
    other = {code: n for code, n in codes.items() if code not in meanings and not code.startswith(read)}
    return Stays(
        names=_names(spans),
        sites=tuple(site or "" for site in spans["site"]),
        hours=((spans["end"] - spans["begin"]).dt.total_microseconds() / _HOUR_US)
        .fill_null(float("nan"))
        .to_numpy(),
        start_seconds=spans["begin"].dt.epoch("us").to_numpy() / 1e6,
        events=pl.concat(
            [
                _as_events(events.filter(~empty).with_columns(value="number")),
                _described(held.filter(described), spans),
            ]
        ),
        counts={
            "rows_read": sum(codes.values()),
            "rows_of_other_codes": sum(other.values()),
            "events_without_a_time": still,
            "events_without_a_number": int(empty.sum()),
            **counts,
        },
        notes=_notes(other),
    )


def _as_events(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(kind) for name, kind in EVENTS.items())


def _described(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Sex and age of each subject, where they are told, as events at the begin of the stay."""
    rows = rows.join(
        spans.select("subject_id", "stay", "begin"), on="subject_id", how="inner", maintain_order="left"
    )
    sex = pl.col("code").replace_strict(
        {f"{GENDER}//M": 1.0, f"{GENDER}//F": 0.0}, default=None, return_dtype=pl.Float64
    )
    years = (pl.col("begin") - pl.col("time")).dt.total_days() / 365.2425
    born = pl.col("code") == BIRTH
    told = rows.with_columns(
        hours=pl.lit(0.0),
        variable=pl.when(born).then(pl.lit("age_years")).otherwise(pl.lit("male")),
        value=pl.when(born).then(years).otherwise(sex),
        uom=pl.when(born).then(pl.lit("a")).otherwise(pl.lit("1")),
    )
    return _as_events(told.drop_nulls("value"))


def _names(spans: pl.DataFrame) -> tuple[str, ...]:
    """The admission's text, else the subject's number; all by number where two would be one."""
    told = zip(spans["text"].to_list(), spans["subject_id"].to_list(), strict=True)
    names = tuple(f"subject {number}" if text is None else text for text, number in told)
    if len(set(names)) == len(names):
        return names
    return tuple(f"subject {number}" for number in spans["subject_id"])


def _notes(other: Mapping[str, int]) -> tuple[str, ...]:
    if not other:
        return ()
    order = sorted(other, key=lambda code: (-other[code], code))
    named = ", ".join(f"{other[code]} of {code}" for code in order[:_MOST_NAMED])
    more = f" and {len(other) - _MOST_NAMED} more codes" if len(other) > _MOST_NAMED else ""
    return (f"Events whose code is no variable of ours are not used: {named}{more}.",)


def _raw(path: Any) -> RawRows:
    """One row per subject: what is known of each beside the measurements; label: whether dead."""
    files = meds_files(path)
    code = pl.col("code").cast(pl.String)
    every = pl.concat(
        [
            pl.scan_parquet(file).select("subject_id", code, time=pl.col("time").cast(pl.Datetime("us")))
            for file, _ in files
        ],
        how="vertical_relaxed",
    )
    rows = _collected(
        files,
        every.group_by("subject_id")
        .agg(
            died=pl.col("time").filter(pl.col("code") == DEATH).min(),
            dead=(pl.col("code") == DEATH).any(),
            events=pl.len().cast(pl.Float64),
            first_event=pl.col("time").min().dt.epoch("s").cast(pl.Float64),
            last_event=pl.col("time").max().dt.epoch("s").cast(pl.Float64),
            discharge=pl.col("code").filter(pl.col("code").str.contains("DISCHARGE//")).sort().last(),
        )
        .sort("subject_id"),
    )
    columns: dict[str, NDArray[Any]] = {
        name: rows[name].fill_null(float("nan")).to_numpy()
        for name in ("events", "first_event", "last_event")
    }
    return RawRows(
        columns={
            "subject_id": rows["subject_id"].to_numpy(),
            "MEDS_DEATH": rows["died"].cast(pl.String).fill_null("").to_numpy(),
            "discharge": rows["discharge"].fill_null("").to_numpy(),
            **columns,
        },
        label=rows["dead"].to_numpy().astype(np.int64),
        group=np.arange(rows.height, dtype=np.int64),
        classes=(NORMAL, "died"),
    )

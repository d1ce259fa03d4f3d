"""Flow tables of one's own: any CSV by a column mapping; Argus, NetFlow and CICFlowMeter by their header."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lazaretto.data._flow_columns import FORMATS, TARGETS, Labels, check_keys, class_of, mapping_of, normalise
from lazaretto.data._flow_notes import Reading, counts_of, notes_of, warnings_of
from lazaretto.data._flow_options import check_mapping, labels_of, one_of, patterns_of, step_plan, texts_of
from lazaretto.data._flow_read import ENDINGS, LINE, TextTable, find_files, open_table, read_columns
from lazaretto.data._flow_sample import sample_flows
from lazaretto.data._flow_steps import StepPlan, features_for, number_steps, to_steps, to_windows
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, UNASSIGNED, RawRows, Schema, Source, Table

__all__ = ["flows_csv"]

_HOSTS = {
    "source_address": ("source",),
    "destination_address": ("destination",),
    "host_pair": ("source", "destination"),
    "file": (),
}
_WHOSE = {"host_pair": "pairs of hosts", "file": "files"}
_MOST_FAMILIES = 40
_UNUSABLE_SHARE = 0.01
_LEAKS = {
    "start_time": "a clock tells when the attacks were run",
    "source_address": "fixed attackers are known by their address",
    "destination_address": "fixed victims are known by their address",
    "source_port": "ports of fixed tools and hosts",
    "destination_port": "ports of fixed tools and hosts",
    "site": "names the hospital",
}


def flows_csv(
    files: str | Sequence[str] = ENDINGS,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    label: Mapping[str, Any] | None = None,
    unit: str = "source_address",
    steps: Mapping[str, float] | None = None,
    site: str = "auto",
    note: str = "",
) -> Source:
    """Flow tables of your own (CSV, TSV, Argus binetflow, also .gz) by a mapping of columns.

    files:   shell pattern(s) for what to read where the path is a folder, at most 2 GiB (unpacked) each;
             they lie within that folder: no absolute path, no "..".
    format:  "auto" (by header), "argus", "netflow", "cicflowmeter", or "none".
    columns: target -> column name, over what the format knows; targets are in `_flow_columns.TARGETS`.
             `start_time_format` gives the format of times ("%d/%m/%Y %H:%M"). Other columns are ignored.
    label:   `normal` = patterns of normal labels; `families` = {pattern = family} (else the cleaned text);
             `files` = {file name pattern = label} for rows whose own label is empty;
             `unlabelled` = "drop" (default), "normal" or "refuse".
    unit:    whose flows form a stream: "source_address", "destination_address", "host_pair" or "file".
    steps:   `seconds` = 60 of time or `flows` = a number of flows; `per_window` = 16 steps; `per_unit` =
             steps after which a stream is cut into a new unit (none); `least` = 1 steps that a unit needs.
    site:    "auto" (the mapped site column, else none), "column", "file" or "none".
    note:    a sentence about the data that the report must show.

    Cells: text where a number must be is refused. Empty, NaN, infinite or negative ones make the flow
    unusable; such flows are left out and counted, and refused above 1 % of a file's rows.
    Features are sizes, counts, shares and times per step; no address, port or clock is among them.
    """
    patterns = patterns_of(files)
    given, known = texts_of("columns", columns or {}), (*TARGETS, "start_time_format")
    check_keys("data.options.columns", tuple(given), known)
    one_of("format", format, ("auto", "none", *FORMATS))
    one_of("unit", unit, tuple(_HOSTS))
    one_of("site", site, ("auto", "column", "file", "none"))
    labels, plan = labels_of(label or {}), step_plan(steps or {})
    leaks = {
        name: reason
        for target, reason in _LEAKS.items()
        for name in (*(n for kind in FORMATS.values() for n in kind.get(target, ())), given.get(target))
        if name is not None
    }
    reasons = {name.strip().casefold(): reason for name, reason in leaks.items()}

    def read(file: Path) -> tuple[TextTable, dict[str, str]]:
        table = open_table(file)
        return table, mapping_of(table, format, given)

    def load(path: object, seed: int) -> Table:
        del seed  # nothing is drawn
        reading = Reading(note=note, whose=_WHOSE.get(unit, "hosts"))
        parts = []
        for number, file in enumerate(find_files(path, patterns)):
            table, mapping = read(file)
            check_mapping(table, mapping, unit, plan, site)
            frame = read_columns(table, sorted(set(mapping.values())))
            flows, needed = normalise(table, frame, mapping, given.get("start_time_format"))
            reading.rows_read += len(flows)
            dropped = ((column, reasons.get(column.casefold())) for column in table.columns)
            reading.leaks |= {column: reason for column, reason in dropped if reason}
            reading.columns_ignored |= set(table.columns) - set(mapping.values())
            flows = _usable(table, flows, needed, mapping, reading)
            flows = _labelled(table, flows, labels, reading)
            if not len(flows) and site == "file":
                raise DataError(
                    f"{table.name} is a site by itself and has no usable row: all lack a label, or values",
                    way_out="label them (data.options.label.files), leave the file out "
                    "(data.options.files), or set data.options.site",
                )
            reading.file_names.append(table.name)
            parts.append(flows.with_columns(file=pl.lit(number, pl.Int64)))
        names = reading.file_names
        reading.labels_of_no_file = [
            p for p in labels.files if not any(fnmatch.fnmatchcase(n, p) for n in names)
        ]
        return _table(parts, reading, plan, unit, site)

    def raw(path: object) -> RawRows:
        parts, start, held = [], 0, dict[str, set[str]]()
        for file in find_files(path, patterns):
            table, mapping = read(file)
            held[table.name] = set(table.columns)
            frame = read_columns(table, tuple(dict.fromkeys(table.columns)))
            text = frame[mapping["label"]] if "label" in mapping else pl.Series([""] * len(frame))
            classes = _classes(table, text.fill_null("").to_list(), labels)
            # blocks of rows as they stand in the file: neighbours never on both sides
            block = np.arange(len(frame)) // max(20, len(frame) // 40) + start
            start = int(block[-1]) + 1 if len(block) else start
            shown = frame.drop(LINE, *([mapping["label"]] if "label" in mapping else []))
            parts.append(
                shown.with_columns(pl.Series("\0class", classes, pl.String), pl.Series("\0block", block))
            )
        rows = pl.concat(parts, how="diagonal").filter(pl.col("\0class").is_not_null())
        if not len(rows):
            raise _no_labels(labels)
        names = _class_names(rows["\0class"])
        index = {name: number for number, name in enumerate(names)}
        shown = rows.drop("\0class", "\0block")
        return RawRows(
            columns={name: shown[name].fill_null("").to_numpy() for name in shown.columns},
            label=np.array([index[name] for name in rows["\0class"].to_list()], np.int64),
            group=rows["\0block"].to_numpy().astype(np.int64),
            classes=names,
            lacking={
                name: files
                for name in shown.columns
                if (files := tuple(file for file, columns in held.items() if name not in columns))
            },
        )

    def sample() -> Table:
        flows = sample_flows().with_columns(file=pl.lit(0, pl.Int64))
        reading = Reading(note="A generated sample.", rows_read=len(flows), file_names=["sample"])
        return _table([flows], reading, plan if plan.flows else step_plan({}), "source_address", "auto")

    return Source(name="flows_csv", load=load, sample=sample, raw=raw, leaks=leaks)


def _usable(
    table: TextTable, flows: pl.DataFrame, needed: Sequence[str], mapping: Mapping[str, str], reading: Reading
) -> pl.DataFrame:
    if "protocol" in flows.columns:  # Argus's records about itself
        reading.rows_management += int((flows["protocol"] == "man").sum())
        flows = flows.filter(pl.col("protocol") != "man")
    if "site" in flows.columns:
        blank = flows.filter(pl.col("site") == "")
        if len(blank):
            raise DataError(
                f"{table.name}, line {blank['line'][0]}, column '{mapping['site']}': a row without a site",
                found=f"{len(blank)} such rows",
                way_out='fill the column, or set data.options.site = "file" or "none"',
            )
    bad = flows.filter(pl.any_horizontal(pl.col(list(needed)).is_null()))
    if len(bad) > _UNUSABLE_SHARE * len(flows):
        which = next(name for name in needed if bad[name][0] is None)
        targets = [t for t in mapping if t.startswith(which)]
        column = mapping[targets[0]] if targets else which
        raise DataError(
            f"{table.name}, line {bad['line'][0]}, column '{column}': empty, NaN, infinite or negative",
            found=f"{len(bad)} such rows of {len(flows)}; up to {_UNUSABLE_SHARE:.0%} would be left out",
            way_out="mend the export, or map another column",
        )
    reading.rows_unusable += len(bad)
    return flows.filter(~pl.any_horizontal(pl.col(list(needed)).is_null())) if len(bad) else flows


def _classes(table: TextTable, texts: Sequence[str], labels: Labels) -> list[str | None]:
    whole = next((v for pattern, v in labels.files.items() if fnmatch.fnmatchcase(table.name, pattern)), None)
    otherwise = class_of(whole, labels) if whole is not None else None
    if otherwise is None and labels.unlabelled == "normal":
        otherwise = NORMAL
    known = {text: class_of(text, labels) or otherwise for text in set(texts)}
    return [known[text] for text in texts]


def _labelled(table: TextTable, flows: pl.DataFrame, labels: Labels, reading: Reading) -> pl.DataFrame:
    texts = flows["label"].to_list() if "label" in flows.columns else [""] * len(flows)
    classes = pl.Series("class_name", _classes(table, texts, labels), pl.String)
    pairs = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String), "class": classes.fill_null("")})
    for text, name, rows in pairs.group_by("text", "class").len().iter_rows():
        reading.labels[text, name] = reading.labels.get((text, name), 0) + rows
    none = int(classes.null_count())
    if none and labels.unlabelled == "refuse":
        line = flows["line"][int(classes.is_null().arg_true()[0])]
        raise DataError(
            f"{table.name}, line {line}: a row without a label",
            found=f"{none} such rows",
            way_out='data.options.label.unlabelled = "drop" or "normal", or a label for the whole file in '
            "data.options.label.files",
        )
    if labels.unlabelled == "normal" and not any(fnmatch.fnmatchcase(table.name, p) for p in labels.files):
        bare = [text for text in set(texts) if class_of(text, labels) is None]
        reading.rows_taken_normal += int(pl.Series(texts).is_in(bare).sum())
    reading.rows_unlabelled += none
    held = flows.drop("label", strict=False).with_columns(classes)
    return held.filter(pl.col("class_name").is_not_null())


def _no_labels(labels: Labels) -> DataError:
    return DataError(
        "no row has a label",
        found=f"files = {dict(labels.files)}, unlabelled = {labels.unlabelled} in [data.options.label]",
        way_out='map a label column (data.options.columns.label = "..."), or label whole files '
        "(data.options.label.files)",
    )


def _class_names(column: pl.Series) -> tuple[str, ...]:
    families = sorted(set(column.unique().to_list()) - {NORMAL})
    if len(families) > _MOST_FAMILIES:
        raise DataError(
            "too many kinds of attack for a label column",
            found=f"{len(families)}: {', '.join(families[:5])} ...",
            way_out="is it the right column? join kinds with [data.options.label.families]",
        )
    return (NORMAL, *families)


def _table(parts: Sequence[pl.DataFrame], reading: Reading, plan: StepPlan, unit: str, site: str) -> Table:
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    lost = sorted({name for part in parts for name in part.columns} - set(shared))
    flows = pl.concat([part.select(shared) for part in parts])
    if not len(flows):
        raise DataError(
            "no labelled row is left",
            found=f"{reading.rows_read} rows read, {reading.rows_unlabelled} without a label",
            way_out="map a label column, label whole files (data.options.label.files), or set "
            'data.options.label.unlabelled = "normal"',
        )
    classes = _class_names(flows["class_name"])
    index = {name: number for number, name in enumerate(classes)}
    by_column = site == "column" or (site == "auto" and "site" in shared)
    flows = flows.with_columns(
        pl.col("class_name").replace_strict(index, return_dtype=pl.Int64).alias("class"),
        order=pl.int_range(pl.len(), dtype=pl.Int64),
        place_name=pl.col("site") if by_column else pl.lit(""),
    )
    if "start" not in shared:  # no clock: order of rows stands in, and no feature is made of it
        flows = flows.with_columns(start=pl.col("order").cast(pl.Float64))
    if site == "file":
        site_names: tuple[str, ...] = tuple(reading.file_names)
        flows = flows.with_columns(site=pl.col("file"))
    elif by_column:
        site_names = tuple(sorted(flows["place_name"].unique().to_list()))
        numbers = {name: number for number, name in enumerate(site_names)}
        flows = flows.with_columns(site=pl.col("place_name").replace_strict(numbers, return_dtype=pl.Int64))
    else:
        site_names = ()
        flows = flows.with_columns(site=pl.lit(UNASSIGNED, pl.Int64))
    key = ["file", "site", *_HOSTS[unit]]
    hosts = flows.select(key).unique().sort(key).with_row_index("host")
    flows = flows.join(hosts, on=key, how="left").with_columns(pl.col("host").cast(pl.Int64))
    features = features_for([c for c in shared if c in flows.columns], plan, unit)
    flows, short = number_steps(flows, plan)
    if not len(flows):
        raise DataError(
            "no unit has enough steps",
            found=f"steps.least = {plan.least}",
            way_out="lower data.options.steps.least",
        )
    steps = to_steps(flows, features, plan)
    windows = to_windows(steps, features, plan.per_window)
    names = _unit_names(flows, unit, reading, plan)
    length = float(plan.seconds) if plan.seconds else max(float(np.mean(steps["span"].to_numpy())), 1e-3)
    rate = next(
        (f for f in ("flows", "flows_per_second", "bytes_per_flow", "packets_per_flow") if f in features),
        None,
    )
    return Table(
        x={"traffic": windows.x},
        present=np.ones((len(windows.x), 1), bool),
        y=windows.y_step.max(axis=1),
        y_step=windows.y_step,
        valid=windows.valid,
        unit=windows.unit,
        unit_names=names,
        time=windows.time,
        site=windows.site,
        site_names=site_names,
        split=np.full(len(windows.x), UNASSIGNED, np.int64),
        schema=Schema(
            features={"traffic": features},
            classes=classes,
            step=f"{plan.flows} flows" if plan.flows else f"{plan.seconds:g} seconds",
            step_seconds=length,
            rate_feature=rate,
        ),
        notes=notes_of(flows, steps, reading, plan, lost, classes),
        warnings=warnings_of(flows, steps, reading),
        counts=counts_of(flows, steps, windows, reading, short),
        labels=reading.labels,
        leaks=reading.leaks,
    )


def _unit_names(flows: pl.DataFrame, unit: str, reading: Reading, plan: StepPlan) -> tuple[str, ...]:
    held = flows.group_by("unit", maintain_order=True).agg(
        pl.col("file").first(), pl.col("block").first(), *[pl.col(column).first() for column in _HOSTS[unit]]
    )
    several = len(reading.file_names) > 1 or unit == "file"
    names = []
    for row in held.sort("unit").iter_rows(named=True):
        host = "→".join(row[column] or "(no address)" for column in _HOSTS[unit])
        parts = [reading.file_names[row["file"]]] if several else []
        parts += [host] if host else []
        parts += [f"block {row['block'] + 1}"] if plan.per_unit else []
        names.append(" / ".join(parts))
    return tuple(names)

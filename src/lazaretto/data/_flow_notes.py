"""What the report must say about a flow table: what was left out, and what the data cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from lazaretto.data._flow_steps import StepPlan, Windows

__all__ = ["Reading", "counts_of", "notes_of", "warnings_of"]

FEW_UNITS = 30
FEW_HOSTS = 10
FEW_STEPS = 2000
_ONE = {"hosts": "host", "pairs of hosts": "pair of hosts", "files": "file"}
_CLOCK_SET = 631_152_000.0  # 1990-01-01


@dataclass(slots=True, kw_only=True)
class Reading:
    """What is counted while files are read; lives only inside one `load`."""

    note: str = ""
    whose: str = "hosts"  # flows make one stream
    rows_read: int = 0
    rows_unusable: int = 0
    rows_unlabelled: int = 0
    rows_taken_normal: int = 0
    rows_management: int = 0
    columns_ignored: set[str] = field(default_factory=set)
    file_names: list[str] = field(default_factory=list)
    labels_of_no_file: list[str] = field(default_factory=list)
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    leaks: dict[str, str] = field(default_factory=dict)


def counts_of(
    flows: pl.DataFrame, steps: pl.DataFrame, windows: Windows, reading: Reading, short: int
) -> dict[str, int]:
    """Figures of loading, for the data sheet."""
    return {
        "files": len(reading.file_names),
        "rows_read": reading.rows_read,
        "rows_used": len(flows),
        "rows_unlabelled": reading.rows_unlabelled,
        "rows_unlabelled_taken_as_normal": reading.rows_taken_normal,
        "rows_unusable": reading.rows_unusable,
        "rows_management": reading.rows_management,
        "columns_ignored": len(reading.columns_ignored),
        **({} if reading.whose == "files" else {reading.whose.replace(" ", "_"): flows["host"].n_unique()}),
        "units": flows["unit"].n_unique(),
        "windows": len(windows.x),
        "steps": len(steps),
        "steps_attacked": int((steps["class"] > 0).sum()),
        "steps_of_short_units_left_out": short,
    }


def warnings_of(flows: pl.DataFrame, steps: pl.DataFrame, reading: Reading) -> tuple[str, ...]:
    """What makes every figure doubtful: the user's own note, too little data, one class to a file."""
    units, hosts = flows["unit"].n_unique(), flows["host"].n_unique()
    warnings = [reading.note] if reading.note else []
    if reading.labels_of_no_file:
        warnings.append(
            "data.options.label.files gives a label to files that are not among those read, so no row has it "
            "from there: "
            f"{', '.join(reading.labels_of_no_file)}."
        )
    if units < FEW_UNITS or hosts < FEW_HOSTS or len(steps) < FEW_STEPS:
        warnings.append(
            "Too little data for figures that mean anything beyond 'the pipeline runs': "
            f"{len(steps)} steps of {units} units from {hosts} {reading.whose} "
            f"(wanted: at least {FEW_STEPS}, {FEW_UNITS} and {FEW_HOSTS})."
        )
    pure = flows.group_by("file").agg(pl.col("class").n_unique().alias("kinds"))
    if len(pure) > 1 and bool((pure["kinds"] == 1).all()):
        warnings.append(
            "Every file is of one class, so that what sets the captures apart (network, sensor, year) may be "
            "what is learned instead of the attack."
        )
    return tuple(warnings)


def notes_of(
    flows: pl.DataFrame,
    steps: pl.DataFrame,
    reading: Reading,
    plan: StepPlan,
    lost: Sequence[str],
    classes: Sequence[str],
) -> tuple[str, ...]:
    """Sentences about limits, the gravest first."""
    units, hosts = flows["unit"].n_unique(), flows["host"].n_unique()
    notes, one = list(warnings_of(flows, steps, reading)), _ONE[reading.whose]
    if plan.per_unit and units > hosts:
        notes.append(
            f"Units are blocks of {plan.per_unit} steps of one {one}: blocks of the same {one} stand in "
            f"training and in test, so the figures say nothing about a {one} that was never seen."
        )
    counts = steps.group_by("class").agg(pl.col("unit").n_unique().alias("units"))
    few = [classes[c] for c, n in sorted(counts.iter_rows()) if n < 3]
    if few:
        notes.append(
            f"In fewer than three units, so in too few for training, validation and test: {', '.join(few)}."
        )
    if len(classes) == 2:
        notes.append("Only one kind of attack: leave-one-family-out says nothing here.")
    if reading.rows_taken_normal:
        notes.append(f"{reading.rows_taken_normal} rows without a label were taken as normal.")
    if reading.rows_unlabelled:
        notes.append(f"{reading.rows_unlabelled} rows without a label were left out.")
    if reading.rows_unusable:
        notes.append(
            f"{reading.rows_unusable} rows with an empty, NaN, infinite or negative number were left out."
        )
    if lost:
        notes.append(f"Not in every file, so no feature is made of it: {', '.join(lost)}.")
    if bool(np.any(flows["start"].to_numpy() < _CLOCK_SET)):
        notes.append(
            "Some flows have no real clock time (before 1990, or rows without a time); only gaps are used."
        )
    return tuple(notes)

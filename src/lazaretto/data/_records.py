"""Stays and what was measured in them -> windows of steps: what `fhir`, `meds`, `mimic` and `eicu` share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._clinical import VARIABLES, clinical_counts, clinical_notes, in_kept_unit, to_steps
from lazaretto.errors import DataError, PlanError
from lazaretto.types import NORMAL, UNASSIGNED, Float, Int, Schema, Table

__all__ = [
    "EVENTS",
    "Grid",
    "Stays",
    "checked_grid",
    "clean_events",
    "kept_events",
    "record_table",
    "windows_of",
]

# What an event is, in every source: stay (index), hours since its begin, the source's code, the variable that
# it is, value, its unit as written.
EVENTS = pl.Schema(
    {
        "stay": pl.Int64,
        "hours": pl.Float64,
        "code": pl.String,
        "variable": pl.String,
        "value": pl.Float64,
        "uom": pl.String,
    }
)
MOST_CELLS = 1 << 28  # stays x steps x variables: 1 GiB of float32
_MODALITY = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How time is cut. step_hours: one step; most_hours: of each stay, from its begin; window_steps: T."""

    step_hours: float
    most_hours: float
    window_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stays:
    """u stays, before steps.

    names: [u], each once.  sites: [u] names, "" where it is not known.  hours: [u] from begin to end.
    start_seconds: [u] of the begin, since 1970; 0 where the dates are not real.
    died: [u] whether the stay ended in death in hospital, or None where the source does not tell.
    judged: [u] whether `died` is known.  events: as EVENTS.
    """

    names: tuple[str, ...]
    sites: tuple[str, ...]
    hours: NDArray[np.float64]
    start_seconds: NDArray[np.float64]
    events: pl.DataFrame
    died: NDArray[np.bool_] | None = None
    judged: NDArray[np.bool_] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def checked_grid(source: str, step_hours: float, most_hours: float | None, window_steps: int) -> Grid:
    """The options, checked. most_hours None is ten years. Raises PlanError naming source and option."""
    for name, value, least, largest in (
        ("step_hours", step_hours, 1 / 60, 8784.0),
        ("most_hours", 87_840.0 if most_hours is None else most_hours, step_hours, 87_840.0),
        ("window_steps", window_steps, 1, 1000),
    ):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not least <= value <= largest:
            raise PlanError(
                f"{source}: {name} is out of range", found=value, way_out=f"from {least:g} to {largest:g}"
            )
    return Grid(
        step_hours=float(step_hours),
        most_hours=87_840.0 if most_hours is None else float(most_hours),
        window_steps=int(window_steps),
    )


def clean_events(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Events in order of stay and time (their order within one moment stays), copies removed; how many those were."""
    held = events.select(pl.col(name).cast(kind) for name, kind in EVENTS.items())
    kept = held.unique(maintain_order=True).sort("stay", "hours", maintain_order=True)
    return kept, held.height - kept.height


def kept_events(events: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Values in the kept unit of their variable, those of an unknown unit left out; how many, by variable."""
    pairs = events.select("variable", "uom").unique().sort("variable", "uom")
    rows = []
    for name, uom in pairs.iter_rows():
        ends, unknown = in_kept_unit(name, [0.0, 1.0], [uom, uom])
        rows.append((name, uom, float(ends[1] - ends[0]), float(ends[0]), not bool(unknown.any())))
    table = pl.DataFrame(
        rows,
        schema={
            "variable": pl.String,
            "uom": pl.String,
            "factor": pl.Float64,
            "offset": pl.Float64,
            "known": pl.Boolean,
        },
        orient="row",
    )
    joined = events.join(table, on=["variable", "uom"], how="left", nulls_equal=True, maintain_order="left")
    lost = joined.filter(~pl.col("known")).group_by("variable").len().sort("variable")
    kept = joined.filter(pl.col("known")).with_columns(
        # a value in the kept unit must stay what it is, to the bit
        value=pl.when((pl.col("factor") == 1) & (pl.col("offset") == 0))
        .then(pl.col("value"))
        .otherwise(pl.col("value") * pl.col("factor") + pl.col("offset"))
    )
    return kept.select(*EVENTS), dict(lost.iter_rows())


def record_table(source: str, stays: Stays, grid: Grid, task: str = "records") -> Table:
    """A table of modality "record", NaN where nothing was measured in a step.

    task: "records" (all steps normal), or "mortality": stays of at least `most_hours`, the last step of whom
    died in hospital is class 1.
    Raises DataError where no stay has any measurement that can be used, or the table would be too large.
    """
    chosen, counts = _chosen(source, stays, grid, task)
    events, copies = clean_events(stays.events)
    events, unknown = kept_events(events)
    place = np.full(len(stays.names), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    lengths = np.ceil(np.minimum(stays.hours[chosen], grid.most_hours) / grid.step_hours - 1e-9)
    lengths = np.maximum(lengths, 1).astype(np.int64)
    events = events.with_columns(stay=pl.Series(place[events["stay"].to_numpy()])).filter(pl.col("stay") >= 0)
    variables = [name for name in VARIABLES if name in set(events["variable"].unique())]
    cells = len(chosen) * int(lengths.max(initial=0)) * len(variables)
    if cells > MOST_CELLS:
        raise DataError(
            f"{source}: the table would be too large",
            found=f"{len(chosen)} stays of up to {int(lengths.max())} steps with {len(variables)} variables",
            way_out="set data.options.step_hours larger or data.options.most_hours smaller",
        )
    index = {name: number for number, name in enumerate(variables)}
    steps = to_steps(
        events["stay"].to_numpy(),
        events["hours"].to_numpy(),
        events["variable"].replace_strict(index, return_dtype=pl.Int64).to_numpy(),
        events["value"].to_numpy(),
        variables=variables,
        lengths=lengths,
        step_hours=grid.step_hours,
    )
    measured = np.isfinite(steps.x)
    some, channels = measured.any(axis=(1, 2)), np.flatnonzero(measured.any(axis=(0, 1)))
    if not some.any():
        raise DataError(
            f"{source}: no stay has a measurement that can be used",
            found=f"{len(stays.names)} stays, {stays.events.height} events, of unknown unit {sum(unknown.values())}",
            way_out=f"see docs/public_data.md for what {source} reads",
        )
    counts |= {
        "events_read": stays.events.height,
        "events_repeated": copies,
        "events_outside_their_stay": steps.outside,
        "stays_without_measurements": int((~some).sum()),
        **clinical_counts(variables, steps.implausible, unknown),
    }
    died = None if stays.died is None or task == "records" else stays.died[chosen][some]
    names = tuple(stays.names[i] for i in chosen[some])
    table = windows_of(
        steps.x[some][:, :, channels], lengths[some], names, tuple(variables[i] for i in channels), grid
    )
    where = [stays.sites[i] for i in chosen[some]]
    site_names = tuple(sorted({name for name in where if name}))
    at = np.array([site_names.index(name) if name else UNASSIGNED for name in where], np.int64)
    table = replace(
        table,
        site=at[table.unit],
        site_names=site_names,
        time=table.time + stays.start_seconds[chosen][some][table.unit],
        counts={"stays_read": len(stays.names), **stays.counts, **counts},
        notes=(*stays.notes, *clinical_notes(variables, steps.implausible, unknown)),
    )
    return table if died is None else _with_outcome(table, died)


def _chosen(source: str, stays: Stays, grid: Grid, task: str) -> tuple[Int, dict[str, int]]:
    """Which stays the table holds, and how many it does not, by reason."""
    lasting = np.isfinite(stays.hours) & (stays.hours > 0)
    counts = {"stays_without_length": int((~lasting).sum())}
    if task == "mortality":
        if stays.died is None or stays.judged is None:
            raise PlanError(f"{source} tells no outcome", found="task = mortality", way_out="another task")
        long = stays.hours >= grid.most_hours
        counts["stays_too_short"] = int((lasting & ~long).sum())
        counts["stays_without_outcome"] = int((lasting & long & ~stays.judged).sum())
        lasting &= long & stays.judged
    if not lasting.any():
        found = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise DataError(
            f"{source}: no stay can be used", found=found or "no stay at all", way_out="check the data"
        )
    return np.flatnonzero(lasting), counts


def windows_of(x: Float, lengths: Int, names: Sequence[str], variables: Sequence[str], grid: Grid) -> Table:
    """Stays x [u, L, V] of `lengths` steps as windows of one table, without site, all normal."""
    width = grid.window_steps
    per_stay = -(-lengths // width)
    unit = np.repeat(np.arange(len(lengths)), per_stay)
    order = np.arange(len(unit)) - np.repeat(np.cumsum(per_stay) - per_stay, per_stay)
    step = order[:, None] * width + np.arange(width)
    valid = step < lengths[unit][:, None]
    held = np.where(valid[..., None], x[unit[:, None], np.minimum(step, x.shape[1] - 1)], np.float32(0))
    zeros = np.zeros(step.shape, np.int64)
    return Table(
        x={_MODALITY: np.ascontiguousarray(held, dtype=np.float32)},
        present=np.ones((len(unit), 1), np.bool_),
        y=zeros[:, 0].copy(),
        y_step=zeros,
        valid=valid,
        unit=unit.astype(np.int64),
        unit_names=tuple(names),
        time=order * width * grid.step_hours * 3600.0,
        site=np.full(len(unit), UNASSIGNED, np.int64),
        site_names=(),
        split=np.full(len(unit), UNASSIGNED, np.int64),
        schema=Schema(
            features={_MODALITY: tuple(variables)},
            classes=(NORMAL,),
            step=f"{grid.step_hours:g} hours of a record" if grid.step_hours != 1 else "one hour of a record",
            step_seconds=grid.step_hours * 3600.0,
            irregular=frozenset({_MODALITY}),
        ),
    )


def _with_outcome(table: Table, died: NDArray[np.bool_]) -> Table:
    """The last step of every stay that ended in death is class 1."""
    last = np.r_[table.unit[1:] != table.unit[:-1], True]
    y_step = table.y_step.copy()
    rows = np.flatnonzero(last & died[table.unit])
    y_step[rows, table.valid[rows].sum(axis=1) - 1] = 1
    return replace(
        table,
        y_step=y_step,
        y=y_step.max(axis=1),
        schema=replace(
            table.schema,
            classes=(NORMAL, "died_in_hospital"),
            timed=False,
            positive="last steps of those who died in hospital",
            negative="other steps",
        ),
        notes=(
            "A clinical task: what this report calls an attack is death in hospital, told at the last step of "
            "the hours that are read. Shorter stays are left out: their end would tell.",
            *table.notes,
        ),
    )

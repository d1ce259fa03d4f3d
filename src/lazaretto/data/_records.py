"""Stays and what was measured in them -> windows of steps: what `fhir`, `meds`, `mimic` and `eicu` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._clinical import (
    STATIC,
    VARIABLES,
    clinical_counts,
    clinical_notes,
    in_kept_unit,
    to_steps,
    usual_values,
)
from lazaretto.data._record_tasks import check_copies, with_outcome, with_tampering
from lazaretto.data.tampering import KINDS
from lazaretto.errors import DataError, PlanError
from lazaretto.types import NORMAL, UNASSIGNED, Float, Int, Schema, Table

__all__ = [
    "EVENTS",
    "TASKS",
    "RecordPlan",
    "Stays",
    "checked_plan",
    "clean_events",
    "kept_events",
    "record_table",
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
TASKS = ("tampering", "mortality", "records")
MOST_CELLS = 1 << 29  # stays x steps x variables: 2 GiB of float32
_MOST_HOURS = 87_840.0  # ten years
_MODALITY = "record"
_CUT = ("A stay is read to data.options.most_hours; shorter ones are left out, since their end would tell.",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """What is made of stays. task: of TASKS; step_hours: one step; most_hours: of each stay, from its begin.

    tampered: share of stays that are forged; kinds: of `data.tampering`; copies: of each training stay.
    """

    task: str
    step_hours: float
    most_hours: float
    tampered: float
    kinds: tuple[str, ...]
    copies: int


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


def checked_plan(
    source: str,
    task: str,
    step_hours: float,
    most_hours: float,
    tampered: float,
    kinds: Sequence[str],
    copies: int,
    tasks: Sequence[str] = TASKS,
) -> RecordPlan:
    """The options of a source of records, checked. Raises PlanError naming source and option."""
    if task not in tasks:
        raise PlanError(f"{source}: no such task", found=task, way_out=f"one of: {', '.join(tasks)}")
    for name, value, least, largest in (
        ("step_hours", step_hours, 1 / 60, 8784.0),
        ("most_hours", most_hours, 2 * step_hours, _MOST_HOURS),
    ):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= largest:
            raise PlanError(
                f"{source}: {name} is out of range", found=value, way_out=f"from {least:g} to {largest:g}"
            )
    if isinstance(tampered, bool) or not isinstance(tampered, int | float) or not 0 < tampered < 1:
        raise PlanError(f"{source}: tampered is out of range", found=tampered, way_out="a share in (0, 1)")
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise PlanError(
            f"{source}: kinds of tampering are wrong", found=list(kinds), way_out=f"of {', '.join(KINDS)}"
        )
    check_copies(source, copies, task)
    return RecordPlan(
        task=task,
        step_hours=float(step_hours),
        most_hours=float(most_hours),
        tampered=float(tampered),
        kinds=tuple(kinds),
        copies=copies,
    )


def clean_events(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Events in order of stay and time without copies, and how many copies there were."""
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


def record_table(source: str, stays: Stays, plan: RecordPlan, seed: int = 0) -> Table:
    """A table of modality "record", one window per stay, NaN where nothing was measured in a step.

    Tasks: "records", all steps of all stays, all normal; "tampering" and "mortality" (see
    `_record_tasks`), of stays that last most_hours at least, so that no end of a stay tells anything.
    Raises DataError where no stay has any measurement that can be used, or the table would be too large.
    """
    chosen, counts = _chosen(source, stays, plan)
    events, copies = clean_events(stays.events)
    events, unknown = kept_events(events)
    place = np.full(len(stays.names), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    steps = np.ceil(np.minimum(stays.hours[chosen], plan.most_hours) / plan.step_hours - 1e-9)
    lengths = np.maximum(steps, 1).astype(np.int64)
    who = events["stay"].to_numpy()
    over = events["hours"].to_numpy() > stays.hours[who]  # after the end, though maybe in its step
    events = events.with_columns(stay=pl.Series(place[who])).filter((place[who] >= 0) & ~over)
    variables = [name for name in VARIABLES if name in set(events["variable"].unique())]
    cells = len(chosen) * int(lengths.max()) * len(variables)
    if cells > MOST_CELLS:
        raise DataError(
            f"{source}: the table would be too large",
            found=f"{len(chosen)} stays of up to {int(lengths.max())} steps with {len(variables)} variables",
            way_out="set data.options.step_hours larger or data.options.most_hours smaller",
        )
    index = {name: number for number, name in enumerate(variables)}
    made = to_steps(
        events["stay"].to_numpy(),
        events["hours"].to_numpy(),
        events["variable"].replace_strict(index, return_dtype=pl.Int64).to_numpy(),
        events["value"].to_numpy(),
        variables=variables,
        lengths=lengths,
        step_hours=plan.step_hours,
    )
    measured = np.isfinite(made.x)
    series = [name not in STATIC for name in variables]  # who is only described has no record
    some = measured[:, :, series].any(axis=(1, 2))
    channels = np.flatnonzero(measured[some].any(axis=(0, 1)))
    if not some.any():
        raise DataError(
            f"{source}: no stay has a measurement that can be used",
            found=f"{len(chosen)} stays, {stays.events.height} events, of these "
            f"{int(made.implausible.sum())} implausible and {sum(unknown.values())} in an unknown unit",
            way_out=f"see docs/public_data.md for what {source} reads",
        )
    table = _plain(
        stays,
        made.x[some][:, :, channels],
        lengths[some],
        chosen[some],
        plan.step_hours,
        [variables[channel] for channel in channels],
    )
    table = replace(
        table,
        counts={
            "stays_read": len(stays.names),
            **stays.counts,
            **counts,
            "events_read": stays.events.height,
            "events_repeated": copies,
            "events_outside_the_hours_read": made.outside + int((over & (place[who] >= 0)).sum()),
            "stays_without_measurements": int((~some).sum()),
            **clinical_counts(variables, made.implausible, unknown),
        },
        notes=(*stays.notes, *clinical_notes(variables, made.implausible, unknown)),
    )
    if plan.task == "mortality" and stays.died is not None:
        return with_outcome(table, stays.died[chosen][some], _CUT)
    return (
        table
        if plan.task == "records"
        else with_tampering(source, table, seed, plan.tampered, plan.kinds, plan.copies)
    )


def _chosen(source: str, stays: Stays, plan: RecordPlan) -> tuple[Int, dict[str, int]]:
    """Which stays the table holds, and how many it does not, by reason."""
    lasting = np.isfinite(stays.hours) & (stays.hours > 0)
    counts = {"stays_without_length": int((~lasting).sum())}
    if plan.task != "records":
        long = stays.hours >= plan.most_hours
        counts["stays_too_short"] = int((lasting & ~long).sum())
        lasting &= long
    if plan.task == "mortality" and stays.judged is not None:
        counts["stays_without_outcome"] = int((lasting & ~stays.judged).sum())
        lasting &= stays.judged
    if not lasting.any():
        found = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
        raise DataError(
            f"{source}: no stay can be used",
            found=found or "no stay at all",
            way_out=f'set data.options.most_hours, now {plan.most_hours:g}, smaller, or task = "records"',
        )
    return np.flatnonzero(lasting), counts


def _plain(
    stays: Stays, x: Float, lengths: Int, chosen: Int, step_hours: float, variables: Sequence[str]
) -> Table:
    """Stays `chosen` [u] with x [u, L, V], of `lengths` steps, all normal."""
    count, steps = x.shape[:2]
    valid = np.arange(steps) < lengths[:, None]
    where = [stays.sites[stay] for stay in chosen]
    site_names = tuple(sorted({name for name in where if name}))
    site = [site_names.index(name) if name else UNASSIGNED for name in where]
    hours = "one hour" if step_hours == 1 else f"{step_hours:g} hours"
    return Table(
        x={_MODALITY: np.where(valid[..., None], x, np.float32(0))},
        present=np.ones((count, 1), np.bool_),
        y=np.zeros(count, np.int64),
        y_step=np.zeros((count, steps), np.int64),
        valid=valid,
        unit=np.arange(count, dtype=np.int64),
        unit_names=tuple(stays.names[stay] for stay in chosen),
        time=stays.start_seconds[chosen].astype(np.float64),
        site=np.array(site, np.int64),
        site_names=site_names,
        split=np.full(count, UNASSIGNED, np.int64),
        schema=Schema(
            features={_MODALITY: tuple(variables)},
            classes=(NORMAL,),
            step=f"{hours} of a record",
            step_seconds=step_hours * 3600.0,
            irregular=frozenset({_MODALITY}),
            origins=usual_values(variables),
        ),
    )

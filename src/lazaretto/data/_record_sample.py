"""Made-up stays for the exams of the sources of records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from lazaretto import keys
from lazaretto.data._records import EVENTS, RecordPlan, Stays
from lazaretto.errors import DataError

__all__ = ["made_up_stays", "no_raw_label", "sample_plan"]

_MEANS = (
    ("heart_rate_per_minute", "/min", 85.0, 10.0, 0.9),
    ("respiratory_rate_per_minute", "/min", 18.0, 3.0, 0.8),
    ("cuff_systolic_pressure_mmhg", "mmHg", 120.0, 12.0, 0.7),
    ("potassium_mmol_per_l", "mmol/L", 4.1, 0.4, 0.1),
    ("lactate_mmol_per_l", "mmol/L", 1.6, 0.3, 0.1),
    ("urine_millilitres", "mL", 90.0, 25.0, 0.5),
)


def made_up_stays(source: str, stays: int = 60, hours: int = 30) -> Stays:
    """Stays of two hospitals; those who die have a higher heart rate and lactate, and pass less urine."""
    rng = keys.generator(0, source, "sample")
    ill = rng.random(stays) < 0.3
    rows: list[tuple[int, float, str, str, float, str]] = []
    for stay in range(stays):
        for name, uom, mean, spread, often in _MEANS:
            shift = spread * {
                "heart_rate_per_minute": 1.5,
                "lactate_mmol_per_l": 3,
                "urine_millilitres": -2,
            }.get(name, 0)
            for hour in range(hours):
                if rng.random() < often:
                    value = max(mean + ill[stay] * shift + spread * rng.standard_normal(), 0.1)
                    rows.append((stay, hour + rng.random(), name, name, round(float(value), 1), uom))
    return Stays(
        names=tuple(f"stay {number}" for number in range(stays)),
        sites=tuple(("hospital A", "hospital B")[number % 2] for number in range(stays)),
        hours=np.full(stays, float(hours)),
        start_seconds=np.zeros(stays),
        events=pl.DataFrame(rows, schema=EVENTS, orient="row"),
        died=ill,
        judged=np.ones(stays, np.bool_),
    )


def sample_plan(plan: RecordPlan) -> RecordPlan:
    """The plan of a source, over the hours of the made-up stays; "records" has no label, so tampering."""
    task = "tampering" if plan.task == "records" else plan.task
    return replace(plan, task=task, step_hours=1.0, most_hours=24.0)


def no_raw_label(task: str) -> DataError:
    """What `raw` of a source raises where the label is laid over the records."""
    return DataError(
        "forgeries are laid over the records as they are read, so no published column holds them",
        way_out=f"--set task={task} looks at the columns as published",
    )

"""Options of `flows_csv`, checked before any file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from lazaretto.data._flow_columns import Labels, check_keys
from lazaretto.data._flow_read import TextTable
from lazaretto.data._flow_steps import StepPlan
from lazaretto.errors import DataError, PlanError

__all__ = ["NORMAL_LABELS", "check_mapping", "labels_of", "one_of", "patterns_of", "step_plan", "texts_of"]

NORMAL_LABELS = (
    "normal*",
    "benign*",
    "background*",
    "from-normal*",
    "to-normal*",
    "legitimate*",
    "0",
    "0.0",
    "false",
)


def one_of(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not known. Raises DataError."""
    if value not in known:
        raise DataError(
            f"data.options.{option} is not known", found=value, way_out=f"one of: {', '.join(known)}"
        )


def texts_of(option: str, given: object) -> dict[str, str]:
    """A table of texts (or numbers, which labels may be). Raises DataError where it is something else."""
    if not isinstance(given, Mapping) or not all(isinstance(v, str | int) for v in given.values()):
        raise DataError(
            f"data.options.{option} is a table of texts",
            found=repr(given),
            way_out='for instance {"*scan*" = "scan"}',
        )
    return {str(key): str(value) for key, value in given.items()}


def patterns_of(given: object) -> tuple[str, ...]:
    """`data.options.files`, checked: one pattern or several, each within the folder. Raises PlanError."""
    patterns = (given,) if isinstance(given, str) else given
    if (
        not isinstance(patterns, list | tuple)
        or not patterns
        or not all(isinstance(p, str) for p in patterns)
    ):
        raise PlanError(
            "data.options.files is a pattern or a list of patterns",
            found=repr(given),
            way_out='files = "*.csv"',
        )
    within = 'write files = "*.csv" ("**/*.csv" looks into folders too)'
    for pattern in patterns:
        path = PurePath(pattern)
        if path.anchor or ".." in path.parts:
            raise PlanError(
                "data.options.files must lie within the folder of the data, without '..'",
                found=pattern,
                way_out=f"give the folder with --data (or data.path), and {within}",
            )
        if not path.parts or any("**" in part and part != "**" for part in path.parts):
            raise PlanError(
                "data.options.files holds what is no pattern", found=repr(pattern), way_out=within
            )
    return tuple(patterns)


def labels_of(given: Mapping[str, Any]) -> Labels:
    """`[data.options.label]`, checked. Raises DataError."""
    if not isinstance(given, Mapping):
        raise DataError("data.options.label is a table", found=repr(given), way_out="[data.options.label]")
    check_keys("data.options.label", tuple(given), ("normal", "families", "files", "unlabelled"))
    unlabelled = str(given.get("unlabelled", "drop"))
    one_of("label.unlabelled", unlabelled, ("drop", "normal", "refuse"))
    normal = given.get("normal", NORMAL_LABELS)
    normal = (normal,) if isinstance(normal, str) else normal
    if not isinstance(normal, list | tuple) or not all(isinstance(pattern, str) for pattern in normal):
        raise DataError(
            "data.options.label.normal is a list of patterns",
            found=repr(normal),
            way_out='for instance normal = ["normal*", "benign"] in [data.options.label]',
        )
    return Labels(
        normal=tuple(normal),
        families=texts_of("label.families", given.get("families", {})),
        files=texts_of("label.files", given.get("files", {})),
        unlabelled=unlabelled,
    )


def step_plan(given: Mapping[str, float]) -> StepPlan:
    """`[data.options.steps]`, checked. Raises DataError."""
    if not isinstance(given, Mapping):
        raise DataError(
            "data.options.steps is a table", found=repr(given), way_out="steps = { seconds = 60 }"
        )
    check_keys("data.options.steps", tuple(given), ("seconds", "flows", "per_window", "per_unit", "least"))
    if "seconds" in given and "flows" in given:
        raise DataError(
            "a step is a time or a number of flows, not both",
            found=f"seconds = {given['seconds']}, flows = {given['flows']}",
            way_out="drop one of data.options.steps.seconds and data.options.steps.flows",
        )
    for key, value in given.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not np.isfinite(value)
            or value <= 0
        ):
            raise DataError(
                f"data.options.steps.{key} must be above 0", found=repr(value), way_out="for instance 16"
            )
        if key != "seconds" and value != int(value):
            raise DataError(
                f"data.options.steps.{key} must be a whole number", found=value, way_out="round it"
            )
    flows = int(given["flows"]) if "flows" in given else None
    return StepPlan(
        seconds=None if flows else float(given.get("seconds", 60.0)),
        flows=flows,
        per_window=int(given.get("per_window", 16)),
        per_unit=int(given["per_unit"]) if "per_unit" in given else None,
        least=int(given.get("least", 1)),
    )


def check_mapping(table: TextTable, mapping: Mapping[str, str], unit: str, plan: StepPlan, site: str) -> None:
    """Refuse a file that lacks a column which the unit, the steps or the sites need. Raises DataError."""
    both = ("source_address", "destination_address")
    needed: tuple[str, ...] = both if unit == "host_pair" else tuple(t for t in both if t == unit)
    needed = needed if plan.flows else (*needed, "start_time")
    needed = (*needed, "site") if site == "column" else needed
    ways = {
        "start_time": "data.options.steps.flows (steps by a number of flows need no clock)",
        "site": 'data.options.site = "file"',
    }
    for target in needed:
        if target not in mapping:
            instead = ways.get(target, 'data.options.unit = "file"')
            raise DataError(
                f"{table.name} has no column for {target}",
                found=f"columns {', '.join(table.columns)[:200]}",
                way_out=f'map one: [data.options.columns] {target} = "..."; or set {instead}',
            )
    if not any(target.startswith(("bytes", "packets")) for target in mapping):
        raise DataError(
            f"{table.name} has no column for bytes or packets",
            found=f"columns {', '.join(table.columns)[:200]}",
            way_out='map one: [data.options.columns] bytes_total = "..."',
        )

"""Measurements at odd times to steps of a fixed length; what is not plausible is counted, never clipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazaretto.data._clinical_names import STATIC, VARIABLES, Variable, plain_unit
from lazaretto.errors import DataError
from lazaretto.types import Float, Int

__all__ = [
    "STATIC",
    "VARIABLES",
    "Steps",
    "Variable",
    "clinical_counts",
    "clinical_notes",
    "in_kept_unit",
    "plain_unit",
    "to_steps",
    "usual_values",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What events became.

    x: [u, L, V] float32, NaN where nothing was measured.  implausible: [V] events out of their plausible
    range or not finite, not used.  outside: events before the first step or after the last, not used.
    """

    x: Float
    implausible: Int
    outside: int


def in_kept_unit(
    name: str, values: ArrayLike, units: Sequence[str | None]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values [e] of the variable `name`, each with its unit as written, in the kept unit; and [e] where the
    unit is not known (NaN there: the value must not be used, and be counted).

    No unit at all counts as unknown, but for variables without a unit of measurement (score, pH, share).
    """
    variable = VARIABLES[name]
    given = np.asarray(values, np.float64)
    out = np.full(len(given), np.nan)
    plain = np.array([plain_unit(unit or "") for unit in units], dtype=str)
    bare = variable.unit in ("score", "pH", "1")
    for unit in np.unique(plain):
        change = variable.units.get(str(unit), (1.0, 0.0) if bare and not unit else None)
        if change is not None:
            here = plain == unit
            out[here] = change[0] * given[here] + change[1]
    known = np.isin(plain, [*variable.units, *([""] if bare else [])])
    return out, ~known


def to_steps(
    unit: ArrayLike,
    hours: ArrayLike,
    variable: ArrayLike,
    value: ArrayLike,
    *,
    variables: Sequence[str],
    lengths: ArrayLike,
    step_hours: float = 1.0,
) -> Steps:
    """Events to steps; step k holds what was measured in [k, k + 1) * step_hours.

    unit: [e] index of the stay; hours: [e] since its begin; variable: [e] index into `variables` (names of
    VARIABLES); value: [e] in the kept unit. lengths: [u] steps of each stay; L is the largest.
    The last value of a step counts, by time and then by place among the events; urine is summed.
    Raises DataError where the four are not equally long or an index is out of range.
    """
    who, what = np.asarray(unit, np.int64), np.asarray(variable, np.int64)
    when, values = np.asarray(hours, np.float64), np.asarray(value, np.float64)
    ends = np.asarray(lengths, np.int64)
    _check_events(who, what, when, values, ends, variables)
    known = [VARIABLES[name] for name in variables]
    least, largest = (np.array([getattr(v, end) for v in known], float) for end in ("least", "largest"))
    fine = np.isfinite(values) & (values >= least[what]) & (values <= largest[what])
    step = np.floor(np.where(np.isfinite(when), when, -1.0) / step_hours)
    inside = (step >= 0) & (step < ends[who])
    used = np.flatnonzero(fine & inside)
    used = used[np.argsort(when[used], kind="stable")]
    x = np.full((len(ends), int(ends.max(initial=0)), len(known)), np.nan)
    place = (who[used], step[used].astype(np.int64), what[used])
    x[place] = values[used]  # of equal indices NumPy keeps the last
    summed = np.array([v.gather == "sum" for v in known], bool)
    adds = summed[what[used]]
    some = tuple(index[adds] for index in place)
    x[some] = 0.0
    np.add.at(x, some, values[used][adds])
    return Steps(
        x=x.astype(np.float32),
        implausible=np.bincount(what[~fine], minlength=len(known)).astype(np.int64),
        outside=int((fine & ~inside).sum()),
    )


def _check_events(
    who: Int,
    what: Int,
    when: NDArray[np.float64],
    values: NDArray[np.float64],
    ends: Int,
    variables: Sequence[str],
) -> None:
    sizes = {len(who), len(what), len(when), len(values)}
    if len(sizes) != 1:
        raise DataError("events need as many stays, hours, variables and values", found=sorted(sizes))
    for name, index, count in (("stay", who, len(ends)), ("variable", what, len(variables))):
        if len(index) and (index.min() < 0 or index.max() >= count):
            raise DataError(
                f"an event names a {name} that is not there",
                found=f"{int(index.min())} to {int(index.max())}",
                way_out=f"0 to {count - 1}",
            )


def clinical_counts(
    variables: Sequence[str], implausible: Int, unknown_unit: Mapping[str, int] | None = None
) -> dict[str, int]:
    """For `Table.counts`: values not used, in all and by variable where there are any."""
    unknown = {name: count for name, count in (unknown_unit or {}).items() if count}
    held = {name: int(count) for name, count in zip(variables, implausible, strict=True) if count}
    return {
        "values_implausible": sum(held.values()),
        **{f"values_implausible_{name}": count for name, count in held.items()},
        **({"values_of_unknown_unit": sum(unknown.values())} if unknown else {}),
        **{f"values_of_unknown_unit_{name}": count for name, count in unknown.items()},
    }


def clinical_notes(
    variables: Sequence[str], implausible: Int, unknown_unit: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Sentences on what was not used, for `Table.notes`; none where all was."""
    notes = []
    held = [
        f"{int(count)} of {name} (outside {VARIABLES[name].least:g} to {VARIABLES[name].largest:g})"
        for name, count in zip(variables, implausible, strict=True)
        if count
    ]
    if held:
        notes.append(f"Values that no patient can have are taken as not measured: {', '.join(held)}.")
    unknown = [f"{count} of {name}" for name, count in (unknown_unit or {}).items() if count]
    if unknown:
        notes.append(f"Values in units that are not known are not used: {', '.join(unknown)}.")
    return tuple(notes)


def usual_values(variables: Sequence[str]) -> dict[str, float]:
    """Variable -> the middle of its usual range, which is public: `Schema.origins`."""
    return {name: sum(VARIABLES[name].usual) / 2 for name in variables}

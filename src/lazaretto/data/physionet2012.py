"""PhysioNet/CinC Challenge 2012: 48 hours of intensive care (Silva et al., Computing in Cardiology 39, 2012).

https://physionet.org/content/challenge-2012/

Series measured at odd times. Two tasks on them: forgeries that are laid over the real series
(`data.tampering`), and death in hospital.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data._clinical import (
    STATIC,
    VARIABLES,
    clinical_counts,
    clinical_notes,
    to_steps,
    usual_values,
)
from lazaretto.data._physionet2012_files import (
    OUTCOMES,
    PARAMETERS,
    Records,
    read_outcomes,
    read_records,
    set_files,
)
from lazaretto.data._record_tasks import check_copies, mixing, with_outcome, with_tampering
from lazaretto.data.tampering import KINDS
from lazaretto.errors import DataError, PlanError
from lazaretto.types import NORMAL, UNASSIGNED, RawRows, Schema, Source, Table

__all__ = ["physionet2012"]

_HOURS = 48
_ICU = ("coronary care", "cardiac surgery recovery", "medical ICU", "surgical ICU")  # ICUType 1 to 4
_VARIABLES = (*PARAMETERS.values(), *STATIC)
_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "In-hospital_death": "the outcome itself",
        "Survival": "days until death: known for those who died, and -1 for the others",
        "Length_of_stay": "with Survival it gives the outcome: who dies in hospital dies before it is over",
        "SAPS-I": "a score made to predict the outcome, by people who looked at the stay",
        "SOFA": "a score made to predict the outcome, by people who looked at the stay",
        "ICUType": "the site",
        "RecordID": "names the patient",
    }
)
_STEADY = (
    (
        "The values of a step become one: the last, of urine the sum. Age, sex, height and weight at "
        "admission are measured at the first step only."
    ),
    "Stays shorter than 48 hours were never published, so all who are here lived for two days.",
)
_TYPES = ("ICU types differ widely in who dies, so whatever tells the type tells something of the outcome.",)


def physionet2012(
    task: Literal["tampering", "mortality"] = "tampering",
    step_hours: int = 1,
    tampered: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    training_copies: int = 1,
) -> Source:
    """PhysioNet 2012: two days of intensive care, four types of ICU as sites; forged series, or who died.

    task: "tampering" (which hours of which stays are forged; the source deals patients out, 55/15/30 %) or
    "mortality" (one decision at the end of each stay; needs the outcomes). step_hours: 1 to 24, a divisor of
    48. tampered: share of stays, in (0, 1); kinds: of `data.tampering`; training_copies: 1 to 16, how often a
    training stay is there, forged anew each time.

    `load` and `raw` read a folder with `set-a.tar.gz` (or more sets) or the unpacked text files, or the
    archive itself, with `Outcomes-a.txt` beside; modality "record", irregular. They raise DataError where it
    cannot be used. Raises PlanError for options out of range.
    """
    if task not in ("tampering", "mortality"):
        raise PlanError("physionet2012: no such task", found=task, way_out='"tampering" or "mortality"')
    if isinstance(step_hours, bool) or step_hours not in (1, 2, 3, 4, 6, 8, 12, 16, 24):
        raise PlanError(
            "physionet2012: step_hours is out of range", found=step_hours, way_out="1 to 24, a divisor of 48"
        )
    if not 0 < tampered < 1:
        raise PlanError(
            "physionet2012: tampered is out of range", found=tampered, way_out="a share in (0, 1)"
        )
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        raise PlanError(
            "physionet2012: kinds of tampering are wrong", found=list(kinds), way_out=f"of {', '.join(KINDS)}"
        )

    check_copies("physionet2012", training_copies, task)

    def table(records: Records, outcomes: NDArray[np.float64] | None, seed: int) -> Table:
        if outcomes is None:
            steps = _steps(records, step_hours)
            return with_tampering("physionet2012", steps, seed, tampered, kinds, training_copies)
        return _outcome(_steps(records, step_hours), outcomes)

    def load(path: Any, seed: int) -> Table:
        files, outcomes = set_files(path)
        died = _died(outcomes, path) if task == "mortality" else None
        return table(read_records(files), died, seed)

    def sample() -> Table:
        records, outcomes = _made_up()
        return table(records, outcomes if task == "mortality" else None, 0)

    def raw(path: Any) -> RawRows:
        if task == "tampering":
            raise DataError(
                "forgeries are laid over the records as they are read, so no published column holds them",
                way_out="--set task=mortality looks at the columns as published",
            )
        files, outcomes = set_files(path)
        return _raw(read_records(files), _died(outcomes, path))

    return Source(
        name="physionet2012",
        load=load,
        sample=sample,
        raw=raw,
        leaks=_LEAKS,
        needs_path=True,
        appearances=training_copies,
        deals=task == "tampering",
        mixes=mixing(task, kinds),
    )


def _died(files: Sequence[Any], path: Any) -> NDArray[np.float64]:
    if not files:
        raise DataError(
            f"physionet2012: no outcomes (Outcomes-*.txt) beside {path}",
            way_out="put Outcomes-a.txt into that folder",
        )
    return read_outcomes(files)


def _steps(records: Records, step_hours: int) -> Table:
    """One window per stay, hour by hour, with no label yet."""
    count, steps = len(records.number), _HOURS // step_hours
    age, sex, height, icu, weight = records.descriptors.T[1:]
    columns = np.stack([age, sex, height, weight], axis=1)
    stay, which = np.nonzero(~np.isnan(columns))
    made = to_steps(
        np.concatenate([records.stay, stay]),
        np.concatenate([records.hours, np.zeros(len(stay))]),
        np.concatenate([records.parameter, which + len(PARAMETERS)]),
        np.concatenate([records.value, columns[stay, which]]),
        variables=_VARIABLES,
        lengths=np.full(count, steps),
        step_hours=step_hours,
    )
    hours = "1 hour" if step_hours == 1 else f"{step_hours} hours"
    return Table(
        x={"record": made.x},
        present=np.ones((count, 1), np.bool_),
        y=np.zeros(count, np.int64),
        y_step=np.zeros((count, steps), np.int64),
        valid=np.ones((count, steps), np.bool_),
        unit=np.arange(count, dtype=np.int64),
        unit_names=tuple(f"stay {number}" for number in records.number),
        time=np.zeros(count),
        site=icu.astype(np.int64) - 1,
        site_names=_ICU,
        split=np.full(count, UNASSIGNED, np.int64),
        schema=Schema(
            features={"record": _VARIABLES},
            classes=(NORMAL,),
            step=hours,
            step_seconds=3600.0 * step_hours,
            irregular=frozenset({"record"}),
            origins=usual_values(_VARIABLES),
        ),
        notes=(*_STEADY, *clinical_notes(_VARIABLES, made.implausible)),
        counts={
            "stays": count,
            "rows_read": len(records.value),
            "values_after_48_hours": made.outside,
            **clinical_counts(_VARIABLES, made.implausible),
        },
    )


def _outcome(table: Table, outcomes: NDArray[np.float64]) -> Table:
    """The table with who died as the class of every step, the last of which is judged."""
    known = {int(row[0]): int(row[OUTCOMES.index("In-hospital_death")]) for row in outcomes}
    numbers = [int(name.removeprefix("stay ")) for name in table.unit_names]
    missing = [number for number in numbers if number not in known]
    if missing:
        raise DataError(
            "physionet2012: stays without an outcome",
            found=f"{len(missing)} of {len(numbers)}, the first is {missing[0]}",
            way_out="give the outcomes of the same set",
        )
    return with_outcome(table, np.array([known[number] == 1 for number in numbers]), _TYPES)


def _raw(records: Records, outcomes: NDArray[np.float64]) -> RawRows:
    """A row for each patient who has an outcome: what was known at admission, and all outcomes."""
    number, ours, theirs = np.intersect1d(
        records.number, outcomes[:, 0].astype(np.int64), return_indices=True
    )
    described, ended = records.descriptors[ours], outcomes[theirs]
    columns = {
        name: described[:, place]
        for place, name in enumerate(("RecordID", "Age", "Gender", "Height", "ICUType", "Weight"))
    }
    columns |= {name: ended[:, place] for place, name in enumerate(OUTCOMES) if place}
    return RawRows(
        columns=columns,
        label=ended[:, -1].astype(np.int64),
        group=np.arange(len(number), dtype=np.int64),
        classes=(NORMAL, "died"),
    )


def _made_up() -> tuple[Records, NDArray[np.float64]]:
    """240 made-up stays of four sites: a third of the series every other hour, others seldom; some ill."""
    rng = keys.generator(0, "physionet2012", "sample")
    count = 240
    ill = rng.random(count) < 0.3
    numbers = np.arange(900_001, 900_001 + count)
    descriptors = np.stack(
        [
            numbers,
            np.round(55 + 8 * ill + 10 * rng.standard_normal(count)),
            rng.integers(0, 2, count),
            np.where(rng.random(count) < 0.5, np.nan, 170.0),
            1 + np.arange(count) % 4,
            np.round(80 + 10 * rng.standard_normal(count)),
        ],
        axis=1,
    )
    stay, hours, parameter, value = [], [], [], []
    for place, name in enumerate(PARAMETERS.values()):
        variable = VARIABLES[name]
        low, high = variable.usual
        often = 24 if place % 3 else 3
        events = count * often
        who = np.repeat(np.arange(count), often)
        level = (low + high) / 2 + (high - low) / 4 * (rng.standard_normal(count) + 1.5 * ill)
        stay.append(who)
        hours.append(rng.uniform(0, _HOURS, events))
        parameter.append(np.full(events, place))
        drawn = level[who] + (high - low) / 12 * rng.standard_normal(events)
        value.append(np.clip(np.round(drawn, 1), variable.least, variable.largest))
    records = Records(
        numbers,
        descriptors,
        np.concatenate(stay),
        np.concatenate(hours),
        np.concatenate(parameter),
        np.concatenate(value),
    )
    outcomes = np.stack([numbers, *np.full((4, count), -1.0), ill], axis=1)
    return records, outcomes

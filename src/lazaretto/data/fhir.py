"""FHIR R4 (HL7 2019, https://hl7.org/fhir/R4): bundles and Bulk Data as records of patients in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._fhir_files import read_resources
from lazaretto.data._fhir_resources import Contents, Measured, contents_of
from lazaretto.data._loinc import VARIABLE_OF
from lazaretto.data._record_sample import made_up_stays, no_raw_label, sample_plan
from lazaretto.data._record_tasks import mixing
from lazaretto.data._records import EVENTS, Stays, checked_plan, record_table
from lazaretto.data.tampering import KINDS
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, RawRows, Source, Table

__all__ = ["fhir"]

_MOST_NAMED = 6
_YEAR_SECONDS = 365.2425 * 86_400
_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "deceased": "the outcome itself, with its time",
        "last_measured": "when the last measurement was, which for those who died is soon before",
        "first_measured": "a clock",
        "birth_date": "names a patient nearly; the age is used",
        "patient": "names the patient",
        "organization": "it is the site",
        "observations": "how much was measured, which is known only at the end",
    }
)


def fhir(
    task: Literal["tampering", "records"] = "tampering",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    tampered: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    training_copies: int = 1,
) -> Source:
    """FHIR R4: Observations of transaction bundles (JSON) or Bulk Data (NDJSON), by LOINC code and UCUM unit.

    A unit is a Patient, from the first measurement that is used for at most most_hours, in steps of
    step_hours; a site is the organisation (Encounter.serviceProvider) where most of them were taken. task:
    "tampering" (which hours of which patients are forged; tampered: share of them, in (0, 1), kinds: of
    `data.tampering`) or "records" (nothing laid over, no label, shorter records too).
    training_copies: 1 to 16, how often a training patient is there, forged anew each time.

    `load` and `raw` read a folder of .json and .ndjson files (also .gz), with those below it, or one file,
    and raise DataError where they cannot be used. Raises PlanError for options out of range.
    """
    plan = checked_plan(
        "fhir", task, step_hours, most_hours, tampered, kinds, training_copies, ("tampering", "records")
    )

    def load(path: Any, seed: int) -> Table:
        return record_table("fhir", _stays(contents_of(read_resources(path))), plan, seed)

    def raw(path: Any) -> RawRows:
        if task != "records":
            raise no_raw_label("records")
        return _raw(path)

    def sample() -> Table:
        return record_table("fhir", made_up_stays("fhir"), sample_plan(plan))

    return Source(
        name="fhir",
        load=load,
        sample=sample,
        raw=raw,
        leaks=_LEAKS,
        needs_path=True,
        appearances=plan.copies,
        deals=plan.task == "tampering",
        mixes=mixing(plan.task, plan.kinds),
    )


def _used(held: Contents) -> tuple[list[tuple[str, str, Measured]], Counter[str]]:
    """(patient, variable, what was measured) of all that can be used; adds to the counts what cannot."""
    used, other = [], Counter[str]()
    for one in held.measured:
        patient = held.alias.get(("Patient", one.patient))
        if patient is None:
            held.counts["values_without_patient"] += 1
            continue
        code = next((code for code in one.codes if code in VARIABLE_OF), None)
        if code is None:
            other[one.codes[0] if one.codes else "(no LOINC code)"] += 1
            continue
        used.append((patient, VARIABLE_OF[code], one))
    held.counts["values_of_other_codes"] = sum(other.values())
    return used, other


def _organization(held: Contents, encounter: str, twice: Counter[str]) -> str:
    """Name of the organisation that an encounter was at, with its id where two bear that name; or ""."""
    key = held.alias.get(("Encounter", encounter), "")
    at, display = held.provider.get(key, ("", ""))
    known = held.alias.get(("Organization", at))
    if known is None:
        return display or at
    name = held.names[known]
    return name if twice[name] < 2 else f"{name} ({known})"


def _sites(held: Contents, used: list[tuple[str, str, Measured]]) -> dict[str, str]:
    """Patient -> organisation: where most of the values were measured, else where most encounters were."""
    twice = Counter(held.names.values())
    by_value: dict[str, Counter[str]] = {}
    for patient, _, one in used:
        by_value.setdefault(patient, Counter())[_organization(held, one.encounter, twice)] += 1
    by_encounter: dict[str, Counter[str]] = {}
    for encounter, who in held.attends.items():
        known = held.alias.get(("Patient", who))
        if known is not None:
            by_encounter.setdefault(known, Counter())[_organization(held, encounter, twice)] += 1
    sites = {}
    for patient, values in by_value.items():
        for counted in (values, by_encounter.get(patient, Counter[str]())):
            named = sorted((-count, name) for name, count in counted.items() if name)
            if named:
                sites[patient] = named[0][1]
                break
        held.counts["patients_at_several_sites"] += sum(bool(name) for name in values) > 1
    return sites


def _stays(held: Contents) -> Stays:
    used, other = _used(held)
    if not used:
        raise _nothing(held, other)
    sites = _sites(held, used)
    patients = sorted({patient for patient, _, _ in used})
    index = {patient: number for number, patient in enumerate(patients)}
    seconds = np.array([one.seconds for _, _, one in used])
    who = np.array([index[patient] for patient, _, _ in used])
    first, last = np.full(len(patients), np.inf), np.full(len(patients), -np.inf)
    np.minimum.at(first, who, seconds)
    np.maximum.at(last, who, seconds)
    events = pl.DataFrame(
        {
            "stay": who,
            "hours": (seconds - first[who]) / 3600.0,
            "code": [one.codes[0] for _, _, one in used],
            "variable": [variable for _, variable, _ in used],
            "value": [one.value for _, _, one in used],
            "uom": [one.uom for _, _, one in used],
        },
        schema=EVENTS,
    )
    return Stays(
        names=tuple(patients),
        sites=tuple(sites.get(patient, "") for patient in patients),
        hours=(last - first) / 3600.0 + 1e-3,  # the last one lies inside
        start_seconds=first,
        events=pl.concat([events, _described(held, patients, first)]),
        counts={
            **{f"resources_{name}": count for name, count in sorted(held.types.items())},
            **{name: count for name, count in sorted(held.counts.items()) if count},
            "patients_without_measurements": len(held.born) - len(patients),
        },
        notes=_notes(held, other),
    )


def _described(held: Contents, patients: list[str], first: NDArray[np.float64]) -> pl.DataFrame:
    """Sex and age of each patient, where they are told, as events at the begin. first: [patients] seconds."""
    rows: list[tuple[int, float, str, str, float, str]] = []
    for number, name in enumerate(patients):
        male, born = held.male[name], held.born[name]
        if male is not None:
            rows.append((number, 0.0, "gender", "male", float(male), "1"))
        if len(born) == len("1960-01-02"):  # a year alone is no age
            then = datetime.fromisoformat(born).replace(tzinfo=UTC).timestamp()
            rows.append((number, 0.0, "birthDate", "age_years", (first[number] - then) / _YEAR_SECONDS, "a"))
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


def _notes(held: Contents, other: Counter[str]) -> tuple[str, ...]:
    notes = []
    skipped = {kind: count for kind, count in held.types.items() if not _read(kind)}
    if skipped:
        named = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        notes.append(f"Resources of types that are not used: {named}.")
    if held.first_invalid:
        count = sum(number for name, number in held.counts.items() if name.startswith("invalid_"))
        notes.append(
            f"{count} resources are not valid FHIR R4, and not used. The first: {held.first_invalid}."
        )
    if other:
        named = ", ".join(f"{count} of {code}" for code, count in other.most_common(_MOST_NAMED))
        more = f" and {len(other) - _MOST_NAMED} more codes" if len(other) > _MOST_NAMED else ""
        notes.append(f"Measurements whose code is no variable of ours are not used: {named}{more}.")
    return tuple(notes)


def _read(kind: str) -> bool:
    return kind in ("Patient", "Encounter", "Organization", "Observation")


def _nothing(held: Contents, other: Counter[str]) -> DataError:
    """Why nothing is left: the commonest reason first."""
    types = ", ".join(f"{count} {kind}" for kind, count in sorted(held.types.items())) or "no resource"
    if (
        held.first_invalid
        and held.counts.get("invalid_Observation", 0) == held.types.get("Observation", 0) > 0
    ):
        return DataError(
            "fhir: no Observation is valid FHIR R4",
            found=f"the first: {held.first_invalid}",
            way_out="export FHIR R4 (4.0.1); STU3 and R5 are not read",
        )
    if not held.types.get("Observation"):
        return DataError(
            "fhir: there is no Observation in these files, and records are made of Observations",
            found=types,
            way_out="export Observations too (Bulk Data: _type=Patient,Encounter,Organization,Observation)",
        )
    if not held.types.get("Patient"):
        return DataError(
            "fhir: there is no Patient in these files, so nobody whom the Observations are about",
            found=types,
            way_out="export Patients too",
        )
    reasons = {**held.counts, **{f"of code {code}": count for code, count in other.most_common(3)}}
    return DataError(
        "fhir: no Observation holds a measurement that can be used",
        found=", ".join(f"{name} {count}" for name, count in reasons.items() if count) or types,
        way_out="see docs/public_data.md for the LOINC codes that are read",
    )


def _raw(path: Any) -> RawRows:
    """One row per patient: what is known of each beside the measurements; label: whether dead."""
    held = contents_of(read_resources(path))
    used, _ = _used(held)
    sites = _sites(held, used)
    times: dict[str, list[float]] = {}
    for patient, _, one in used:
        times.setdefault(patient, []).append(one.seconds)
    patients = sorted(held.born)
    if not patients:
        raise _nothing(held, Counter())
    dead = [held.died[name] for name in patients]
    return RawRows(
        columns={
            "patient": np.array(patients),
            "birth_date": np.array([held.born[name] for name in patients]),
            "male": np.array([float("nan") if (m := held.male[n]) is None else float(m) for n in patients]),
            "organization": np.array([sites.get(name, "") for name in patients]),
            "observations": np.array([float(len(times.get(name, ()))) for name in patients]),
            "first_measured": np.array([min(times.get(name, [float("nan")])) for name in patients]),
            "last_measured": np.array([max(times.get(name, [float("nan")])) for name in patients]),
            "deceased": np.array(dead),
        },
        label=np.array([bool(text) for text in dead]).astype(np.int64),
        group=np.arange(len(patients), dtype=np.int64),
        classes=(NORMAL, "died"),
    )

"""MIMIC-III and MIMIC-IV: stays at intensive care units (Johnson et al. 2016, https://doi.org/10.1038/sdata.2016.35;
2023, https://doi.org/10.1038/s41597-022-01899-x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from lazaretto.data._mimic_tables import read_rows, read_stays
from lazaretto.data._published import as_published
from lazaretto.data._record_sample import made_up_stays, no_raw_label, sample_plan
from lazaretto.data._record_tasks import mixing
from lazaretto.data._records import checked_plan, record_table
from lazaretto.data.tampering import KINDS
from lazaretto.types import NORMAL, RawRows, Source, Table

__all__ = ["mimic"]

_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "hospital_expire_flag": "the outcome itself",
        "deathtime": "the outcome, with its time",
        "dod": "the day of death",
        "dod_hosp": "the day of death, as the hospital has it",
        "dod_ssn": "the day of death, as the registry has it",
        "expire_flag": "whether the patient is dead by now",
        "discharge_location": "DEAD/EXPIRED for those who died",
        "dischtime": "for those who died the moment of death",
        "outtime": "for those who died in the unit the moment of death",
        "los": "how long the stay will be, which ends early where the patient dies",
        "last_careunit": "known only at the end of the stay",
        "last_wardid": "known only at the end of the stay",
        "edouttime": "known later than the stay begins",
        "has_chartevents_data": "made after the stay",
        "diagnosis": "free text, at times written after the fact; a patient's own",
        "intime": "dates are moved, each patient's by another number of years",
        "admittime": "dates are moved, each patient's by another number of years",
        "edregtime": "dates are moved, each patient's by another number of years",
        "dob": "dates are moved, each patient's by another number of years; the age is used",
        "anchor_year": "dates are moved, each patient's by another number of years",
        "anchor_year_group": "a clock of three years",
        "subject_id": "names the patient",
        "hadm_id": "names the admission",
        "icustay_id": "names the stay",
        "stay_id": "names the stay",
        "admit_provider_id": "names a person",
        "dbsource": "the documentation system, which tells the year",
    }
)


def mimic(
    task: Literal["tampering", "mortality", "records"] = "tampering",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    tampered: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    training_copies: int = 1,
    admissions: str = "",
) -> Source:
    """MIMIC-III or IV: vital signs, laboratory and urine of stays at intensive care units, hour by hour.

    A unit is the first stay of a patient, its first most_hours in steps of step_hours; a site is the first
    care unit. task: "tampering" (which hours of which stays are forged; tampered: share of stays, in (0,
    1), kinds: of `data.tampering`), "mortality" (death in hospital, one decision at the last step) or
    "records" (nothing laid over, no label, shorter stays too). admissions: a file in the folder to read
    instead of ADMISSIONS.
    training_copies: 1 to 16, how often a training stay is there, forged anew each time.

    `load` and `raw` read a folder with ICUSTAYS, ADMISSIONS and PATIENTS, and CHARTEVENTS, LABEVENTS and
    OUTPUTEVENTS where they are there (.csv or .csv.gz; of MIMIC-IV also in its folders icu and hosp), and
    raise DataError where they cannot be used. Raises PlanError for options out of range.
    """
    plan = checked_plan("mimic", task, step_hours, most_hours, tampered, kinds, training_copies)

    def load(path: Any, seed: int) -> Table:
        return record_table("mimic", read_stays(path, plan.most_hours, admissions), plan, seed)

    def raw(path: Any) -> RawRows:
        if task != "mortality":
            raise no_raw_label("mortality")
        rows, label, group = read_rows(path, admissions)
        columns = as_published(rows, rows.columns)
        return RawRows(columns=columns, label=label, group=group, classes=(NORMAL, "died"))

    def sample() -> Table:
        return record_table("mimic", made_up_stays("mimic"), sample_plan(plan))

    return Source(
        name="mimic",
        load=load,
        sample=sample,
        raw=raw,
        leaks=_LEAKS,
        needs_path=True,
        appearances=plan.copies,
        deals=plan.task == "tampering",
        mixes=mixing(plan.task, plan.kinds),
    )

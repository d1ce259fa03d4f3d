"""MIMIC-III and MIMIC-IV: stays at intensive care units (Johnson et al. 2016, https://doi.org/10.1038/sdata.2016.35;
2023, https://doi.org/10.1038/s41597-022-01899-x)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from lazaretto.data._mimic_tables import read_rows, read_stays
from lazaretto.data._published import as_published
from lazaretto.data._record_sample import made_up_stays
from lazaretto.data._records import checked_grid, record_table
from lazaretto.errors import PlanError
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
    task: Literal["records", "mortality"] = "records",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    window_steps: int = 24,
    admissions: str = "",
) -> Source:
    """MIMIC-III or IV: vital signs, laboratory and urine of stays at intensive care units, hour by hour.

    A unit is a stay, from its begin for at most most_hours, in steps of step_hours; a site is the first care
    unit. task "records": all steps normal; "mortality": stays of at least most_hours, death in hospital at the
    last step. admissions: a file in the folder to read instead of ADMISSIONS.

    `load` and `raw` read a folder with ICUSTAYS, ADMISSIONS and PATIENTS, and CHARTEVENTS, LABEVENTS and
    OUTPUTEVENTS where they are there (.csv or .csv.gz; of MIMIC-IV also in its folders icu and hosp), and raise
    DataError where they cannot be used. Raises PlanError for options out of range.
    """
    grid = checked_grid("mimic", step_hours, most_hours, window_steps)
    if task not in ("records", "mortality"):
        raise PlanError("mimic: no such task", found=task, way_out="records or mortality")

    def load(path: Any, seed: int) -> Table:
        del seed  # nothing is drawn
        return record_table("mimic", read_stays(path, grid.most_hours, admissions), grid, task)

    def raw(path: Any) -> RawRows:
        rows, label, group = read_rows(path, admissions)
        return RawRows(
            columns=as_published(rows, rows.columns),
            label=label,
            group=group,
            classes=(NORMAL, "died_in_hospital"),
        )

    def sample() -> Table:
        return record_table(
            "mimic", made_up_stays("mimic"), checked_grid("mimic", 1.0, 24.0, 12), "mortality"
        )

    return Source(name="mimic", load=load, sample=sample, raw=raw, leaks=_LEAKS, needs_path=True)

"""eICU Collaborative Research Database: stays at units of many hospitals (Pollard et al. 2018,
https://doi.org/10.1038/sdata.2018.178).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from lazaretto.data._eicu_tables import read_rows, read_stays
from lazaretto.data._published import as_published
from lazaretto.data._record_sample import made_up_stays, no_raw_label, sample_plan
from lazaretto.data._record_tasks import mixing
from lazaretto.data._records import checked_plan, record_table
from lazaretto.data.tampering import KINDS
from lazaretto.types import NORMAL, RawRows, Source, Table

__all__ = ["eicu"]

_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "hospitaldischargestatus": "the outcome itself",
        "unitdischargestatus": "the outcome at the unit",
        "hospitaldischargelocation": "Death for those who died",
        "unitdischargelocation": "Death for those who died at the unit",
        "unitdischargeoffset": "how long the stay will be, which ends early where the patient dies",
        "hospitaldischargeoffset": "how long the stay will be, which ends early where the patient dies",
        "unitdischargetime24": "known only at the end of the stay",
        "hospitaldischargetime24": "known only at the end of the stay",
        "hospitaldischargeyear": "a clock, and known only at the end of the stay",
        "dischargeweight": "known only at the end of the stay, and missing for those who died",
        "apacheadmissiondx": "free text, chosen within the first day",
        "patientunitstayid": "names the stay",
        "patienthealthsystemstayid": "names the admission",
        "uniquepid": "names the patient",
        "wardid": "names the ward, and with it the hospital",
        "hospitalid": "it is the site",
        "ethnicity": "not a measurement; tells the hospital",
        "unitadmittime24": "a clock",
        "hospitaladmittime24": "a clock",
        "hospitaladmitoffset": "tells of the time before the stay, by another clock in each hospital",
        "unitvisitnumber": "only one stay of each patient is used",
        "unitstaytype": "only one stay of each patient is used",
    }
)


def eicu(
    task: Literal["tampering", "mortality", "records"] = "tampering",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    tampered: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    training_copies: int = 1,
) -> Source:
    """eICU: vital signs and laboratory of stays at intensive care units, hour by hour; a hospital is a site.

    A unit is the first stay of a patient, its first most_hours in steps of step_hours; a site is a
    hospital. task: "tampering" (which hours of which stays are forged; tampered: share of stays, in (0,
    1), kinds: of `data.tampering`), "mortality" (death in hospital, one decision at the last step) or
    "records" (nothing laid over, no label, shorter stays too).
    training_copies: 1 to 16, how often a training stay is there, forged anew each time.

    `load` and `raw` read a folder with the table patient, and lab, physicalExam, vitalPeriodic,
    vitalAperiodic and intakeOutput where they are there (.csv or .csv.gz), and raise DataError where they
    cannot be used. Raises PlanError for options out of range.
    """
    plan = checked_plan("eicu", task, step_hours, most_hours, tampered, kinds, training_copies)

    def load(path: Any, seed: int) -> Table:
        return record_table("eicu", read_stays(path, plan.most_hours), plan, seed)

    def raw(path: Any) -> RawRows:
        if task != "mortality":
            raise no_raw_label("mortality")
        rows, label, group = read_rows(path)
        columns = as_published(rows, rows.columns)
        return RawRows(columns=columns, label=label, group=group, classes=(NORMAL, "died"))

    def sample() -> Table:
        return record_table("eicu", made_up_stays("eicu"), sample_plan(plan))

    return Source(
        name="eicu",
        load=load,
        sample=sample,
        raw=raw,
        leaks=_LEAKS,
        needs_path=True,
        appearances=plan.copies,
        deals=plan.task == "tampering",
        mixes=mixing(plan.task, plan.kinds),
    )

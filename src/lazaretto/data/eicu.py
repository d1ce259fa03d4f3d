"""eICU Collaborative Research Database: stays at units of many hospitals (Pollard et al. 2018,
https://doi.org/10.1038/sdata.2018.178)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from lazaretto.data._eicu_tables import read_rows, read_stays
from lazaretto.data._published import as_published
from lazaretto.data._record_sample import made_up_stays
from lazaretto.data._records import checked_grid, record_table
from lazaretto.errors import PlanError
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
    task: Literal["records", "mortality"] = "records",
    step_hours: float = 1.0,
    most_hours: float = 48.0,
    window_steps: int = 24,
) -> Source:
    """eICU: vital signs and laboratory of stays at intensive care units, hour by hour; a hospital is a site.

    A unit is the first stay of a patient, from its begin for at most most_hours, in steps of step_hours. task
    "records": all steps normal; "mortality": stays of at least most_hours, death in hospital at the last step.

    `load` and `raw` read a folder with the table patient, and lab, physicalExam, vitalPeriodic, vitalAperiodic and
    intakeOutput where they are there (.csv or .csv.gz), and raise DataError where they cannot be used. Raises
    PlanError for options out of range.
    """
    grid = checked_grid("eicu", step_hours, most_hours, window_steps)
    if task not in ("records", "mortality"):
        raise PlanError("eicu: no such task", found=task, way_out="records or mortality")

    def load(path: Any, seed: int) -> Table:
        del seed  # nothing is drawn
        return record_table("eicu", read_stays(path, grid.most_hours), grid, task)

    def raw(path: Any) -> RawRows:
        rows, label, group = read_rows(path)
        return RawRows(
            columns=as_published(rows, rows.columns),
            label=label,
            group=group,
            classes=(NORMAL, "died_in_hospital"),
        )

    def sample() -> Table:
        return record_table("eicu", made_up_stays("eicu"), checked_grid("eicu", 1.0, 24.0, 12), "mortality")

    return Source(name="eicu", load=load, sample=sample, raw=raw, leaks=_LEAKS, needs_path=True)

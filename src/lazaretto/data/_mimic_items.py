"""Which items of MIMIC are which variables. Checked against D_ITEMS and D_LABITEMS by the tests.

Items of the bedside are those of the MIMIC code repository (Johnson et al. 2018,
https://doi.org/10.1093/jamia/ocx084): CareVue's below 200,000, MetaVision's above. Left out: rates per
kilogram, irrigation of the bladder, parts of the coma scale, ionised calcium.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CHART", "LABS", "SPELLINGS", "URINE"]

# variable -> (unit where the row has none, items)
_CHART: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "heart_rate_per_minute": (("bpm", "211 220045"),),
        "respiratory_rate_per_minute": (("/min", "618 615 220210 224690"),),
        "temperature_celsius": (("degF", "678 223761"), ("Cel", "676 223762")),
        "systolic_pressure_mmhg": (("mmHg", "51 6701 220050 225309"),),
        "diastolic_pressure_mmhg": (("mmHg", "8368 8555 220051 225310"),),
        "mean_pressure_mmhg": (("mmHg", "52 6702 220052 225312"),),
        "cuff_systolic_pressure_mmhg": (("mmHg", "455 220179"),),
        "cuff_diastolic_pressure_mmhg": (("mmHg", "8441 220180"),),
        "cuff_mean_pressure_mmhg": (("mmHg", "456 220181"),),
        "oxygen_saturation_percent": (("%", "646 220277"),),
        "arterial_oxygen_saturation_percent": (("%", "834 220227"),),
        "inspired_oxygen_fraction": (("fraction", "190"), ("%", "3420 223835")),
        "glasgow_coma_scale": (("points", "198"),),
        "weight_kilograms": (("kg", "763 224639"),),
        "admission_weight_kilograms": (("kg", "762 226512"), ("lbs", "226531")),
        "height_centimetres": (("cm", "226730"), ("in", "920 1394 226707")),
        "glucose_mg_per_dl": (("mg/dL", "807 811 1529 220621 225664 226537"),),
        "arterial_ph": (("units", "780 1126 223830"),),
    }
)
_LABS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "albumin_g_per_dl": ("g/dL", "50862"),
        "alkaline_phosphatase_u_per_l": ("IU/L", "50863"),
        "alanine_aminotransferase_u_per_l": ("IU/L", "50861"),
        "aspartate_aminotransferase_u_per_l": ("IU/L", "50878"),
        "bilirubin_mg_per_dl": ("mg/dL", "50885"),
        "urea_nitrogen_mg_per_dl": ("mg/dL", "51006"),
        "cholesterol_mg_per_dl": ("mg/dL", "50907"),
        "creatinine_mg_per_dl": ("mg/dL", "50912"),
        "glucose_mg_per_dl": ("mg/dL", "50931 50809"),
        "bicarbonate_mmol_per_l": ("mEq/L", "50882 50803"),
        "haematocrit_percent": ("%", "51221 50810"),
        "haemoglobin_g_per_dl": ("g/dL", "51222 50811"),
        "potassium_mmol_per_l": ("mEq/L", "50971 50822"),
        "lactate_mmol_per_l": ("mmol/L", "50813"),
        "magnesium_mg_per_dl": ("mg/dL", "50960"),
        "sodium_mmol_per_l": ("mEq/L", "50983 50824"),
        "chloride_mmol_per_l": ("mEq/L", "50902 50806"),
        "calcium_mg_per_dl": ("mg/dL", "50893"),
        "phosphate_mg_per_dl": ("mg/dL", "50970"),
        "prothrombin_time_seconds": ("sec", "51274"),
        "arterial_carbon_dioxide_mmhg": ("mm Hg", "50818"),
        "arterial_oxygen_mmhg": ("mm Hg", "50821"),
        "arterial_ph": ("units", "50820"),
        "arterial_oxygen_saturation_percent": ("%", "50817"),
        "platelets_10_9_per_l": ("K/uL", "51265"),
        "white_cells_10_9_per_l": ("K/uL", "51301 51300"),
        "troponin_i_ug_per_l": ("ng/mL", "51002"),
        "troponin_t_ug_per_l": ("ng/mL", "51003"),
    }
)
_URINE = (
    "40055 40056 40057 40069 40085 40094 40096 40405 40428 40473 40651 40715 43053 43175 43462 "
    "226557 226558 226559 226560 226561 226563 226564 226565 226567 226584"
)

# item -> (variable, unit where the row has none)
CHART: Mapping[str, tuple[str, str]] = MappingProxyType(
    {item: (name, unit) for name, kinds in _CHART.items() for unit, items in kinds for item in items.split()}
)
LABS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {item: (name, unit) for name, (unit, items) in _LABS.items() for item in items.split()}
)
URINE: Mapping[str, tuple[str, str]] = MappingProxyType(
    dict.fromkeys(_URINE.split(), ("urine_millilitres", "mL"))
)
# how MIMIC writes units that are not written so elsewhere; a "?" stands where a degree sign was lost
SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "?F": "degF",
        "?C": "Cel",
        "Deg. F": "degF",
        "Deg. C": "Cel",
        "Inch": "in",
        "BPM": "bpm",
        "Insp/min": "/min",
        "None": "",
    }
)

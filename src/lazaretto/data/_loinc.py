"""LOINC codes of the clinical variables (https://loinc.org; see NOTICE), the preferred one first.

Only codes for the same quantity: no bounds, no averages over a day, no venous blood gases, no urine
chemistry. Whether a code counts mass or moles is told by the unit of measurement, which converts (see
`_clinical`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES", "VARIABLE_OF"]

CODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "heart_rate_per_minute": ("8867-4", "8889-8", "76282-3"),
        "respiratory_rate_per_minute": ("9279-1",),
        "temperature_celsius": ("8310-5", "8331-1", "8332-9", "8329-5", "8328-7", "8333-7", "76011-6"),
        # pressures that do not say how they were taken go with the arterial ones
        "systolic_pressure_mmhg": ("8480-6", "76215-3"),
        "diastolic_pressure_mmhg": ("8462-4", "76213-8"),
        "mean_pressure_mmhg": ("8478-0", "76214-6"),
        "cuff_systolic_pressure_mmhg": ("76534-7",),
        "cuff_diastolic_pressure_mmhg": ("76535-4",),
        "cuff_mean_pressure_mmhg": ("76536-2",),
        "oxygen_saturation_percent": ("59408-5",),
        "arterial_oxygen_saturation_percent": ("2708-6",),
        "inspired_oxygen_fraction": ("3150-6", "19994-3", "19996-8"),
        "glasgow_coma_scale": ("9269-2",),
        "urine_millilitres": ("9187-6",),
        "weight_kilograms": ("29463-7", "3141-9"),
        "arterial_ph": ("2744-1",),
        "arterial_carbon_dioxide_mmhg": ("2019-8",),
        "arterial_oxygen_mmhg": ("2703-7",),
        "lactate_mmol_per_l": ("2524-7", "32693-4", "2518-9"),
        "albumin_g_per_dl": ("1751-7",),
        "alkaline_phosphatase_u_per_l": ("6768-6",),
        "alanine_aminotransferase_u_per_l": ("1742-6",),
        "aspartate_aminotransferase_u_per_l": ("1920-8",),
        "bicarbonate_mmol_per_l": ("1963-8", "1959-6", "1960-4"),
        "bilirubin_mg_per_dl": ("1975-2", "14631-6"),
        "calcium_mg_per_dl": ("17861-6", "2000-8"),
        "chloride_mmol_per_l": ("2075-0", "2069-3"),
        "cholesterol_mg_per_dl": ("2093-3", "14647-2"),
        "creatinine_mg_per_dl": ("2160-0", "38483-4", "14682-9"),
        "glucose_mg_per_dl": ("2345-7", "2339-0", "41653-7", "14749-6", "15074-8"),
        "haematocrit_percent": ("4544-3", "20570-8"),
        "haemoglobin_g_per_dl": ("718-7", "59260-0"),
        "magnesium_mg_per_dl": ("19123-9", "2601-3"),
        "phosphate_mg_per_dl": ("2777-1", "14879-1"),
        "platelets_10_9_per_l": ("777-3", "26515-7"),
        "potassium_mmol_per_l": ("2823-3", "6298-4"),
        "prothrombin_time_seconds": ("5902-2", "5964-2"),
        "sodium_mmol_per_l": ("2951-2", "2947-0"),
        "troponin_i_ug_per_l": ("10839-9", "42757-5", "89579-7"),
        "troponin_t_ug_per_l": ("6598-7", "67151-1"),
        "urea_nitrogen_mg_per_dl": ("3094-0", "14937-7"),
        "white_cells_10_9_per_l": ("6690-2", "26464-8"),
        "age_years": ("30525-0",),
        "height_centimetres": ("8302-2", "3137-7"),
    }
)
VARIABLE_OF: Mapping[str, str] = MappingProxyType(
    {code: variable for variable, codes in CODES.items() for code in codes}
)

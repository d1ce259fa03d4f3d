"""Clinical variables of adults: names, units, what is plausible, what is usual, other units they come in.

Plausible: what a living adult under intensive care may have, close to the "valid" bounds of MIMIC-Extract
(Wang et al. 2020, https://doi.org/10.1145/3368555.3384469), with lower bounds above 0 where 0 means a sensor
that fell off (their list keeps 0), and 10-98 for age. Usual: default alarm limits of adult monitors for vital
signs, adult reference intervals for laboratory values, rounded; only the tampering model and rules read them.
Factors from molar masses: glucose 180.16, creatinine 113.12, urea nitrogen 28.01, bilirubin 584.7,
cholesterol 386.7, lactate 90.08, calcium 40.08, magnesium 24.31, phosphorus 30.97 g/mol, haemoglobin 16.11
kg/mol of one haem; 1 kPa is 7.50062 mmHg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["STATIC", "VARIABLES", "Variable", "plain_unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable. Its name holds the unit in words.

    unit: as it is kept. least, largest: plausible, both included. usual: (low, high) of an adult who is well
    or quietly ill. gather: how values of one step become one. units: plain unit -> (factor, offset), kept
    value = factor * value + offset; holds the kept unit itself.
    """

    name: str
    unit: str
    least: float
    largest: float
    usual: tuple[float, float]
    gather: Literal["last", "sum"]
    units: Mapping[str, tuple[float, float]]


def plain_unit(text: str) -> str:
    """A unit without case, blanks, brackets and degree sign, u for micro: "10^3 / uL" -> "10*3/ul"."""
    plain = text.strip().lower().replace("\u00b5", "u").replace("\u03bc", "u").replace("\u00b0", "")
    plain = plain.replace("^", "*").replace("**", "*")
    return "".join(sign for sign in plain if sign not in " []{}()")


_SAME: Mapping[str, str] = MappingProxyType(  # kept unit -> its spellings, parted by |
    {
        "/min": "/min|1/min|bpm|beats/min|beats/minute|breaths/min|breaths/minute|insp/min|br/min|per minute",
        "mmHg": "mmhg|mm[hg]|torr",
        "Cel": "cel|c|deg c|deg. c|celsius",
        "%": "%|percent",
        "1": "1|fraction",
        "score": "score|points|1",
        "mL": "ml|cc",
        "kg": "kg|kgs",
        "cm": "cm",
        "a": "a|year|years|yr",
        "g/dL": "g/dl|gm/dl|g/100ml",
        "mg/dL": "mg/dl|mg/100ml",
        "mmol/L": "mmol/l",
        "ug/L": "ug/l|mcg/l|ng/ml",
        "U/L": "u/l|iu/l|units/l|unit/l",
        "10*9/L": "10*9/l|x10*9/l|10*3/ul|x10*3/ul|10*3/mm3|1000/ul|k/ul|k/mcl|k/mm3|k/cumm|thou/ul|cells/nl",
        "s": "s|sec|seconds",
        "pH": "ph|[ph]|units|unit|1",
    }
)
_POUNDS = dict.fromkeys(("lb", "lbs", "[lb_av]"), (0.45359237, 0.0))
_PRESSURE = {"kpa": (7.50062, 0.0)}
_MASS = {"g/l": (0.1, 0.0)}
_FRACTION = {"1": (100.0, 0.0), "l/l": (100.0, 0.0)}
_TROPONIN = {"ng/l": (1e-3, 0.0), "pg/ml": (1e-3, 0.0)}


def _variable(
    name: str,
    unit: str,
    plausible: tuple[float, float],
    usual: tuple[float, float],
    other: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    gather: Literal["last", "sum"] = "last",
) -> Variable:
    units = {plain_unit(word): (1.0, 0.0) for word in (unit, *_SAME[unit].split("|"))}
    units |= {plain_unit(word): change for word, change in other.items()}
    return Variable(
        name=name,
        unit=unit,
        least=plausible[0],
        largest=plausible[1],
        usual=usual,
        gather=gather,
        units=MappingProxyType(units),
    )


_ALL = (
    # vital signs
    _variable("heart_rate_per_minute", "/min", (10, 300), (50, 120)),
    _variable("respiratory_rate_per_minute", "/min", (1, 100), (8, 30)),
    _variable(
        "temperature_celsius",
        "Cel",
        (26, 45),
        (36, 38.3),
        dict.fromkeys(("f", "[degf]", "deg. f", "fahrenheit"), (5 / 9, -160 / 9)),
    ),
    _variable("systolic_pressure_mmhg", "mmHg", (20, 300), (90, 160), _PRESSURE),
    _variable("diastolic_pressure_mmhg", "mmHg", (10, 200), (50, 90), _PRESSURE),
    _variable("mean_pressure_mmhg", "mmHg", (14, 250), (60, 110), _PRESSURE),
    _variable("cuff_systolic_pressure_mmhg", "mmHg", (20, 300), (90, 160), _PRESSURE),
    _variable("cuff_diastolic_pressure_mmhg", "mmHg", (10, 200), (50, 90), _PRESSURE),
    _variable("cuff_mean_pressure_mmhg", "mmHg", (14, 250), (60, 110), _PRESSURE),
    _variable("oxygen_saturation_percent", "%", (20, 100), (90, 100), _FRACTION),
    _variable("arterial_oxygen_saturation_percent", "%", (20, 100), (90, 100), _FRACTION),
    _variable(
        "inspired_oxygen_fraction", "1", (0.21, 1), (0.21, 0.5), {"%": (0.01, 0), "percent": (0.01, 0)}
    ),
    _variable("ventilated", "1", (0, 1), (0, 1)),
    _variable("glasgow_coma_scale", "score", (3, 15), (13, 15)),
    _variable("urine_millilitres", "mL", (0, 5000), (30, 300), {"l": (1000, 0)}, "sum"),
    _variable("weight_kilograms", "kg", (20, 350), (50, 110), _POUNDS),
    # blood gases
    _variable("arterial_ph", "pH", (6.5, 8), (7.35, 7.45)),
    _variable("arterial_carbon_dioxide_mmhg", "mmHg", (5, 200), (35, 45), _PRESSURE),
    _variable("arterial_oxygen_mmhg", "mmHg", (15, 700), (75, 150), _PRESSURE),
    _variable("lactate_mmol_per_l", "mmol/L", (0.1, 30), (0.5, 2), {"mg/dl": (1 / 9.008, 0)}),
    # laboratory
    _variable("albumin_g_per_dl", "g/dL", (0.6, 7), (3, 5), _MASS),
    _variable("alkaline_phosphatase_u_per_l", "U/L", (5, 5000), (40, 130)),
    _variable("alanine_aminotransferase_u_per_l", "U/L", (1, 20000), (7, 56)),
    _variable("aspartate_aminotransferase_u_per_l", "U/L", (1, 40000), (8, 48)),
    _variable("bicarbonate_mmol_per_l", "mmol/L", (2, 60), (22, 29), {"meq/l": (1, 0)}),
    _variable("bilirubin_mg_per_dl", "mg/dL", (0.05, 66), (0.1, 1.2), {"umol/l": (1 / 17.10, 0)}),
    _variable("calcium_mg_per_dl", "mg/dL", (2, 20), (8.5, 10.5), {"mmol/l": (4.008, 0)}),
    _variable("chloride_mmol_per_l", "mmol/L", (50, 175), (96, 108), {"meq/l": (1, 0)}),
    _variable("cholesterol_mg_per_dl", "mg/dL", (20, 1000), (100, 240), {"mmol/l": (38.67, 0)}),
    _variable("creatinine_mg_per_dl", "mg/dL", (0.1, 40), (0.5, 1.3), {"umol/l": (1 / 88.40, 0)}),
    _variable("glucose_mg_per_dl", "mg/dL", (10, 2000), (70, 180), {"mmol/l": (18.016, 0)}),
    _variable("haematocrit_percent", "%", (5, 75), (30, 50), _FRACTION),
    _variable("haemoglobin_g_per_dl", "g/dL", (1, 25), (9, 17), {**_MASS, "mmol/l": (1.611, 0)}),
    _variable(
        "magnesium_mg_per_dl", "mg/dL", (0.3, 15), (1.6, 2.6), {"mmol/l": (2.431, 0), "meq/l": (1.2155, 0)}
    ),
    _variable("phosphate_mg_per_dl", "mg/dL", (0.3, 20), (2.5, 4.5), {"mmol/l": (3.097, 0)}),
    _variable("platelets_10_9_per_l", "10*9/L", (1, 2000), (100, 400)),
    _variable("potassium_mmol_per_l", "mmol/L", (1.5, 12), (3.5, 5.2), {"meq/l": (1, 0)}),
    _variable("prothrombin_time_seconds", "s", (5, 150), (10, 15)),
    _variable("sodium_mmol_per_l", "mmol/L", (90, 200), (133, 146), {"meq/l": (1, 0)}),
    _variable("troponin_i_ug_per_l", "ug/L", (0, 575), (0, 0.4), _TROPONIN),
    _variable("troponin_t_ug_per_l", "ug/L", (0, 50), (0, 0.1), _TROPONIN),
    _variable("urea_nitrogen_mg_per_dl", "mg/dL", (1, 275), (7, 25), {"mmol/l": (2.801, 0)}),
    _variable("white_cells_10_9_per_l", "10*9/L", (0.05, 1000), (4, 12)),
    # at admission, once
    _variable("age_years", "a", (10, 98), (18, 90)),
    _variable("male", "1", (0, 1), (0, 1)),
    _variable(
        "height_centimetres",
        "cm",
        (100, 240),
        (150, 195),
        {"[in_i]": (2.54, 0), "in": (2.54, 0), "m": (100, 0)},
    ),
    _variable(
        "admission_weight_kilograms",
        "kg",
        (20, 350),
        (50, 110),
        _POUNDS,
    ),
)
VARIABLES: Mapping[str, Variable] = MappingProxyType({variable.name: variable for variable in _ALL})
STATIC = ("age_years", "male", "height_centimetres", "admission_weight_kilograms")  # measured at step 0 only

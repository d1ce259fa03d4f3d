"""Codes of MEDS data sets -> clinical variables: LOINC, and those that the MIMIC-IV conversion writes."""

from __future__ import annotations

import re
from typing import NamedTuple

from lazaretto.data._clinical import VARIABLES
from lazaretto.data._loinc import CODES, VARIABLE_OF
from lazaretto.data._mimic_items import CHART, LABS, URINE

__all__ = ["ADMISSION", "BIRTH", "DEATH", "DISCHARGE", "GENDER", "MARKS", "Meaning", "code_of", "meaning_of"]

MARKS = ADMISSION, DISCHARGE = "ICU_ADMISSION", "ICU_DISCHARGE"
BIRTH, DEATH, GENDER = "MEDS_BIRTH", "MEDS_DEATH", "GENDER"
_OWN = "LAZARETTO"
_ITEMS = {"LAB": {**CHART, **LABS}, "SUBJECT_FLUID_OUTPUT": dict(URINE)}
_NO_UNIT = ("", "UNK", "NONE")


class Meaning(NamedTuple):
    """variable, the unit that the code tells ("" for none), and the one usual where nothing is told."""

    variable: str
    uom: str
    usual: str


def meaning_of(code: str) -> Meaning | None:
    """What a code measures, or None: "LOINC//8867-4", "LOINC/8867-4", "LAB//220045//bpm",
    "SUBJECT_FLUID_OUTPUT//226559//ml", "LAZARETTO//ventilated".
    """
    parts = re.split("//?", code, maxsplit=2)
    if len(parts) < 2:
        return None
    kind, key = parts[0], parts[1]
    uom = parts[2].partition("//")[0] if len(parts) > 2 else ""
    uom = "" if uom.upper() in _NO_UNIT else uom
    if kind == "LOINC" and key in VARIABLE_OF:
        return Meaning(VARIABLE_OF[key], uom, "")
    if kind == _OWN and key in VARIABLES:
        return Meaning(key, uom, VARIABLES[key].unit)
    if kind in _ITEMS and key in _ITEMS[kind]:
        variable, usual = _ITEMS[kind][key]
        return Meaning(variable, uom, usual)
    return None


def code_of(variable: str) -> str:
    """The code that a variable is written under."""
    return f"LOINC//{CODES[variable][0]}" if variable in CODES else f"{_OWN}//{variable}"

"""FHIR resources, validated, as plain rows: who, where, when, which LOINC code, how much in which unit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from fhir.resources.R4B.encounter import Encounter
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.organization import Organization
from fhir.resources.R4B.patient import Patient
from pydantic import ValidationError

from lazaretto.data._fhir_files import Found
from lazaretto.errors import DataError

__all__ = ["Contents", "Measured", "contents_of", "reference_key"]

_MODELS: Mapping[str, Any] = MappingProxyType(
    {"Patient": Patient, "Encounter": Encounter, "Organization": Organization, "Observation": Observation}
)
_LOINC = "http://loinc.org"
_MOST_COMPONENTS = 100  # of one Observation; a blood pressure has two
_UCUM = "http://unitsofmeasure.org"
_TYPE = re.compile("[A-Z][A-Za-z]{1,60}")
_MOST_TYPES = 300  # R4 has 148
_MOST_NAME = 200
_WITHDRAWN = ("entered-in-error", "cancelled")


class Measured(NamedTuple):
    """One number of an Observation or of a component of it.

    patient, encounter: keys of what it refers to ("" where nothing); seconds since 1970, UTC; codes: its
    LOINC codes; uom: UCUM code, or the unit's name where there is none; place: where it stood.
    """

    patient: str
    encounter: str
    seconds: float
    codes: tuple[str, ...]
    uom: str
    value: float
    place: str


@dataclass(slots=True, kw_only=True)
class Contents:
    """What was found, by key; every alias of a resource (id, full URL, identifiers) leads to its key.

    born: patient -> date of birth or ""; male: patient -> whether, or None; died: patient -> "", or when,
    or "true"; provider: encounter -> (key of an organisation or "", its name as displayed or ""); attends:
    encounter -> patient; names: organisation -> name. types: resources by type; counts: what was passed
    over, and why.
    """

    born: dict[str, str] = field(default_factory=dict)
    male: dict[str, bool | None] = field(default_factory=dict)
    died: dict[str, str] = field(default_factory=dict)
    provider: dict[str, tuple[str, str]] = field(default_factory=dict)
    attends: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    alias: dict[tuple[str, str], str] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    first_invalid: str = ""


def reference_key(reference: str | None) -> str:
    """What a reference names: "Patient/7", "urn:uuid:7" and "https://a.b/fhir/Patient/7/_history/2" name 7,
    "Organization?identifier=s|7" names s|7; "" for none.
    """
    text = reference or ""
    if "?" in text:
        return text.partition("identifier=")[2].partition("&")[0]
    return text.partition("/_history/")[0].rpartition("/")[2].rpartition(":")[2]


def contents_of(resources: Iterable[Found]) -> Contents:
    """Validate (R4, by the R4B models of fhir.resources) and take apart what can be used; count the rest.

    Raises DataError for a resource that stands twice with other content, or more than 300 types.
    """
    held = Contents()
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    known_observations: set[str] = set()
    for found in resources:
        kind = found.resource.get("resourceType")
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            held.counts["lines_without_resource_type"] += 1
            continue
        if kind not in held.types and len(held.types) >= _MOST_TYPES:
            raise DataError(
                f"{found.place}: more types of resources than FHIR has",
                found=kind,
                way_out="are these FHIR resources?",
            )
        held.types[kind] += 1
        if kind not in _MODELS:
            continue
        try:
            resource = _MODELS[kind].model_validate(found.resource)
        except (ValidationError, ValueError, OverflowError, RecursionError) as error:
            held.counts[f"invalid_{kind}"] += 1
            held.first_invalid = held.first_invalid or f"{found.place}, {kind}: {_first(error)}"
            continue
        key = resource.id or reference_key(found.url) or found.place
        if kind == "Observation":
            if key in known_observations:
                held.counts["observations_repeated"] += 1
                continue
            known_observations.add(key)
            _observation(resource, found.place, held)
            continue
        _check_repeated(seen, (kind, key), found, held)
        for alias in {key, reference_key(found.url), *_identifiers(resource)} - {""}:
            held.alias.setdefault((kind, alias), key)
        if kind == "Patient":
            held.born[key] = str(resource.birthDate or "")
            held.male[key] = {"male": True, "female": False}.get(str(resource.gender))
            held.died[key] = str(resource.deceasedDateTime or ("true" if resource.deceasedBoolean else ""))
        elif kind == "Organization":
            held.names[key] = _printable(str(resource.name or key))
        else:
            provider = resource.serviceProvider
            held.provider[key] = (
                (reference_key(provider.reference), _printable(str(provider.display or "")))
                if provider
                else ("", "")
            )
            held.attends[key] = reference_key(resource.subject.reference) if resource.subject else ""
    return held


def _check_repeated(
    seen: dict[tuple[str, str], tuple[Any, ...]], key: tuple[str, str], found: Found, held: Contents
) -> None:
    # ids are unique only within one server: two people under one id must not become one unit
    names = {"Patient": ("birthDate", "gender"), "Organization": ("name",)}.get(key[0], ())
    told = tuple(found.resource.get(name) for name in names)
    if key not in seen:
        seen[key] = told
        return
    held.counts["resources_repeated"] += 1
    if seen[key] != told:
        raise DataError(
            f"{found.place}: {key[0]} '{key[1]}' stands twice with different content",
            found=f"{', '.join(names)}: {seen[key]} and {told}",
            way_out="read the exports of one server at a time",
        )


def _some(held: list[Any] | None) -> list[Any]:
    """A list of FHIR may hold null, and may be missing."""
    return [one for one in held or [] if one is not None]


def _identifiers(resource: Any) -> list[str]:
    return [f"{one.system or ''}|{one.value}" for one in _some(resource.identifier) if one.value]


def _printable(text: str) -> str:
    """A name or a message from a file as one short line without control characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:_MOST_NAME])


def _first(error: Exception) -> str:
    """The first thing that is wrong, in one short line."""
    if isinstance(error, ValidationError):
        one = error.errors(include_url=False, include_input=False)[0]
        return _printable(f"{'.'.join(map(str, one['loc']))}: {one['msg']}")
    return _printable(str(error))


def _observation(resource: Any, place: str, held: Contents) -> None:
    if resource.status in _WITHDRAWN:
        held.counts["observations_withdrawn"] += 1
        return
    when = resource.effectiveDateTime or resource.effectiveInstant
    if when is None and resource.effectivePeriod is not None:
        when = resource.effectivePeriod.start
    if not isinstance(when, datetime):  # none, or a date alone
        held.counts["observations_without_a_time"] += 1
        return
    patient = reference_key(resource.subject.reference) if resource.subject else ""
    encounter = reference_key(resource.encounter.reference) if resource.encounter else ""
    for part in (resource, *_some(resource.component)[:_MOST_COMPONENTS]):
        value, uom, trouble = _quantity(part)
        if trouble:
            held.counts[trouble] += 1
        if value is None:
            continue
        coded = _some(part.code.coding) if part.code else []
        codes = tuple(str(one.code) for one in coded if one.code and one.system == _LOINC)
        held.measured.append(Measured(patient, encounter, when.timestamp(), codes, uom, value, place))


def _quantity(part: Any) -> tuple[float | None, str, str]:
    """The number, its unit, and why there is none that can be used ("" where it merely has none)."""
    quantity = part.valueQuantity
    if quantity is None:
        if part.valueInteger is not None:
            return float(part.valueInteger), "", ""
        other = any(name.startswith("value") for name in part.model_fields_set)
        return None, "", "values_not_numbers" if other else ""
    if quantity.value is None:
        return None, "", "values_not_numbers"
    if quantity.comparator:
        return None, "", "values_only_bounds"
    value = float(quantity.value)
    if not math.isfinite(value):
        return None, "", "values_not_numbers"
    coded = quantity.code if quantity.code and quantity.system == _UCUM else None
    return value, str(coded or quantity.unit or quantity.code or ""), ""

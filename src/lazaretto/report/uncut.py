"""What a report calls our system where its plan has no cut: nothing is split there."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from markupsafe import Markup

from lazaretto.report.blocks import Code, Section
from lazaretto.report.formats import mapping
from lazaretto.report.reading import OURS, system_name

__all__ = ["has_cut", "without_cut"]

_SPLIT, _UNCUT = system_name(OURS), "federated model"  # as long as each other: drawings keep their places


def has_cut(plan: dict[str, Any]) -> bool:
    """False where a plan says that nothing is split; True where a log does not tell."""
    return mapping(plan.get("cut")).get("enabled") is not False


def without_cut(section: Section) -> Section:
    """The same section, with another name for our system. Literal text, as the plan, stays as it is."""
    renamed: Section = _renamed(section)
    return renamed


def _renamed(value: Any) -> Any:
    if isinstance(value, Code):
        return value
    if isinstance(value, str):
        found = str(value).replace(_SPLIT, _UNCUT).replace(_SPLIT.capitalize(), _UNCUT.capitalize())
        return Markup(found) if isinstance(value, Markup) else found  # noqa: S704  as it was, but for a name
    if isinstance(value, tuple):
        return tuple(map(_renamed, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _renamed(getattr(value, one.name)) for one in fields(value)})
    return value

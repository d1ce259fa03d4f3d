"""What a key of a plan takes, in words, read from its type and its bounds."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Takes", "takes_of"]


@dataclass(frozen=True, slots=True)
class Takes:
    """What a key takes, in words, where its type does not say it."""

    words: str


def takes_of(field: FieldInfo) -> str:
    """What a key takes, in words."""
    for entry in field.metadata:
        if isinstance(entry, Takes):
            return entry.words
    text = _takes_type(field.annotation)
    bounds = {Ge: ("ge", "at least"), Gt: ("gt", "more than"), Le: ("le", "at most"), Lt: ("lt", "less than")}
    limits = [
        f"{words} {getattr(limit, name)}"
        for limit in _metadata(field)
        for kind, (name, words) in bounds.items()
        if isinstance(limit, kind)
    ]
    return " ".join([text, *([" and ".join(limits)] if limits else [])])


def _metadata(field: FieldInfo) -> list[Any]:
    inner = [
        entry
        for part in typing.get_args(field.annotation)
        if typing.get_origin(part) is Annotated
        for entry in typing.get_args(part)[1:]
    ]
    return [*field.metadata, *inner]


def _takes_type(kind: Any) -> str:
    plain: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
        type(None): "nothing",
    }
    if kind in plain:
        return plain[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _takes_type(parts[0])
    if origin is Literal:
        return "one of " + ", ".join(f"'{part}'" for part in parts)
    if origin is tuple:
        return f"a list, each entry {_takes_type(parts[0])}"
    if origin is dict:
        return "a table"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a table of {', '.join(kind.model_fields)}"
    return " or ".join(_takes_type(part) for part in parts if part is not type(None))

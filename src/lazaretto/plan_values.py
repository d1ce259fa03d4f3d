"""What the values of a plan's keys may be: their types, ranges and the words of their errors."""

from __future__ import annotations

import json
import typing
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Lt, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from lazaretto.plan_words import Takes

__all__ = [
    "BASELINES",
    "USUAL",
    "Baseline",
    "Baselines",
    "Count",
    "Options",
    "Section",
    "Seeds",
    "Share",
    "SiteCount",
    "as_tuple",
    "distinct",
    "shown",
    "whole_bits",
]

Baseline: TypeAlias = Literal[
    "unprotected",
    "unsplit",
    "local",
    "pooled",
    "traffic_only",
    "record_only",
    "gradient_boosting",
    "logistic_regression",
    "rate_threshold",
    "gru",
    "cnn",
    "autoencoder",
    "tcn",
    "mlp",
]
BASELINES: tuple[Baseline, ...] = typing.get_args(Baseline)
_SPECIAL = ("unprotected", "tcn", "mlp", "traffic_only", "record_only")  # each one more takes its minutes
USUAL = tuple(name for name in BASELINES if name not in _SPECIAL)


def as_tuple(value: Any) -> Any:
    """A list of a TOML file as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values. Raises PydanticCustomError where one stands twice."""
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise PydanticCustomError(
            "twice", "each may stand once, but twice: {twice}", {"twice": ", ".join(twice)}
        )
    return values


def whole_bits(value: int) -> int:
    """2 to 8, or 32. Raises PydanticCustomError for another number."""
    if not (2 <= value <= 8 or value == 32):
        raise PydanticCustomError("bits", "should be from 2 to 8, or 32 for floats as they are")
    return value


def _site_count(value: Any) -> Any:
    if value == "all" or (type(value) is int and value >= 0):
        return value
    raise PydanticCustomError("sites", "should be a whole number at least 0, or 'all'")


def _toml_values(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PydanticCustomError(
            "options", "should hold numbers, strings, booleans, lists and tables"
        ) from error
    return value


Options: TypeAlias = Annotated[dict[str, Any], AfterValidator(_toml_values)]
Share: TypeAlias = Annotated[float, Gt(0), Lt(1)]
Count: TypeAlias = Annotated[int, Ge(1)]
SiteCount: TypeAlias = Annotated[
    int | Literal["all"], BeforeValidator(_site_count), Takes("a whole number at least 0, or 'all'")
]
Seed: TypeAlias = Annotated[int, Ge(0), Lt(2**32)]
Seeds: TypeAlias = Annotated[tuple[Seed, ...], BeforeValidator(as_tuple), AfterValidator(distinct), MinLen(1)]
Baselines: TypeAlias = Annotated[tuple[Baseline, ...], BeforeValidator(as_tuple), AfterValidator(distinct)]


def shown(value: Any) -> str:
    """A value as an error shows it, 80 characters at most."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Section(BaseModel):
    """A section of a plan: frozen, nothing unknown, nothing converted, no number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

"""The section [split] of a plan: which units train, set thresholds, are judged, and who decides that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lazaretto.errors import PlanError
from lazaretto.plan_values import Section, Share, as_tuple, shown
from lazaretto.plan_words import Takes

__all__ = ["SplitPlan", "split_conflicts"]


def _ascending(moments: tuple[float, float] | None) -> tuple[float, float] | None:
    if moments is not None and not moments[0] < moments[1]:
        raise PydanticCustomError("moments", "should be two moments, the earlier one first")
    return moments


_Moments: TypeAlias = Annotated[
    tuple[float, float] | None,
    BeforeValidator(as_tuple),
    AfterValidator(_ascending),
    Takes("a list of two numbers, the smaller first"),
]


class SplitPlan(Section):
    """Train, validation and test, where the source has not decided."""

    validation: Share = Field(default=0.15, description="Share of units for thresholds and early choices.")
    test: Share = Field(default=0.3, description="Share of units for judging.")
    by: Literal["unit", "time"] = Field(
        default="unit", description="`unit`: whole units; `time`: what comes later at each site is judged."
    )
    dealt: Literal["auto", "count", "name"] = Field(
        default="auto",
        description="How whole units are dealt: `count`: by lot, anew for every seed, so many of each kind; "
        "`name`: a unit's part (and its site, where sites are made) comes of its own name alone, so that it "
        "is the same for all seeds and whoever else is there; `auto`: by name under a mechanism of "
        "[privacy], else by count.",
    )
    key: str = Field(
        default="",
        max_length=64,
        description="Word that is hashed with every name; another one deals anew. For units dealt by name.",
    )
    moments: _Moments = Field(
        default=None,
        description="With `time`: the moments, in seconds of the source's clock, at which validation and "
        "test begin, for all sites; without them each site's windows are counted.",
    )


def split_conflicts(asked: SplitPlan, private: bool) -> Iterator[PlanError]:
    """Keys that have no meaning, or that tell of one unit by where another one stands (`private`)."""
    if asked.validation + asked.test >= 0.9:
        yield PlanError(
            "split.validation + split.test: too little is left for training",
            found=f"{asked.validation} + {asked.test}",
            way_out="their sum must be under 0.9",
        )
    named = asked.by == "unit" and (asked.dealt == "name" or (asked.dealt == "auto" and private))
    if asked.key and not named:
        yield PlanError(
            "split.key: has no meaning where units are not dealt by name",
            found=shown(asked.key),
            way_out='leave it out, or set split.dealt = "name"',
        )
    if asked.by == "time" and asked.dealt != "auto":
        yield PlanError(
            "split.dealt: has no meaning with split.by='time'", found=asked.dealt, way_out="leave it out"
        )
    if asked.by != "time" and asked.moments is not None:
        yield PlanError(
            "split.moments: has no meaning with split.by='unit'",
            found=shown(asked.moments),
            way_out='leave it out, or set split.by = "time"',
        )
    if not private:
        return
    if asked.dealt == "count" and asked.by == "unit":
        yield PlanError(
            "split.dealt: dealt by count, one unit more moves others to another part, anew for every seed",
            found=asked.dealt,
            way_out='"name", or leave it out',
        )
    if asked.by == "time" and asked.moments is None:
        yield PlanError(
            "split.by: cut where so many windows have passed, one window more moves others to another part",
            found=asked.by,
            way_out='"unit", or moments that were agreed on: split.moments = [SECONDS, SECONDS]',
        )

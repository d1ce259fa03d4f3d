"""The section [robustness] of a plan: which rules, which attacks and how many hostile sites a sweep tries."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Gt, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator, Field

from lazaretto.plan_values import Count, Section, as_tuple, distinct

__all__ = ["RobustnessPlan"]

Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(distinct), MinLen(1)]
Shares: TypeAlias = Annotated[
    tuple[Annotated[float, Gt(0), Lt(0.5)], ...],
    BeforeValidator(as_tuple),
    AfterValidator(distinct),
    MinLen(1),
]


class RobustnessPlan(Section):
    """Every rule against every attack, walked by `lazaretto sweep`; `lazaretto run` does not read it."""

    enabled: bool = Field(
        default=False,
        description="Whether `lazaretto sweep` tries rules against attacks, in place of tuning.",
    )
    rules: Names | None = Field(
        default=None,
        description="Rules, each as in `aggregate.rule`; if absent all that can run, and a few chains. The "
        "one that `aggregate.rule` names has its options, the others their defaults.",
    )
    attacks: Names | None = Field(
        default=None,
        description="Attacks; if absent all. The one that `attack.name` names has its options, the others "
        "their defaults.",
    )
    shares: Shares = Field(
        default=(0.1, 0.2, 0.3, 0.4),
        description="Shares of hostile sites for each rule's worst attack; none at all is always tried, too.",
    )
    screen_share: Annotated[float, Gt(0), Lt(0.5)] = Field(
        default=0.3, description="Share of hostile sites at which every rule meets every attack."
    )
    screen_seeds: Count = Field(
        default=1, description="How many of the plan's seeds, from its first on, every pair is tried with."
    )
    seeds: Count = Field(
        default=5, description="How many of them each rule's worst attack is tried with, at most all."
    )

"""The section [data] of a plan: where the data comes from, and what of it is used."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from lazaretto.plan_values import Options, Section, as_tuple, distinct

__all__ = ["DataPlan"]

Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(distinct)]


class DataPlan(Section):
    """Where the data comes from."""

    source: str = Field(default="consortium", description="Name of a source (`lazaretto list sources`).")
    path: str | None = Field(
        default=None,
        min_length=1,
        description="File or folder of the source, relative to the plan's folder; `--data` overrides it.",
    )
    modality: Literal["traffic", "record", "combined"] = Field(
        default="traffic",
        description="Which part of the table is used: what a network shows, what patients' records hold, "
        "or both.",
    )
    options: Options = Field(default_factory=dict, description="Options of the source.")
    leaks: Literal["report", "refuse"] = Field(
        default="report",
        description="What follows where a feature may give the label away, as `data check` finds it: "
        "`report`: a note in the report; `refuse`: no run.",
    )
    drop: Names = Field(
        default=(),
        description="Features kept out of the model, by the names that `data check` shows; where there are "
        'several modalities also as "traffic: flows".',
    )
    scaling: Literal["sum", "median"] = Field(
        default="sum",
        description="How sites agree on scaling from their counts: more than a twentieth of them can stretch "
        "the `sum`; the `median` holds against any minority, and needs each site's counts, or with "
        "secure.protocol = 'sharing' votes that nobody sees.",
    )

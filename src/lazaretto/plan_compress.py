"""The section [compress] of a plan: how a site's update becomes short on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from annotated_types import Gt, Le
from pydantic import Field

from lazaretto.compress_types import Compressor
from lazaretto.compression import takes_share
from lazaretto.errors import PlanError
from lazaretto.plan_values import Options, Section

__all__ = ["CompressPlan", "compress_conflicts"]


class CompressPlan(Section):
    """How a site's update becomes short on the wire."""

    scheme: str = Field(
        default="none",
        description="Name of a compressor (`lazaretto list compressors`), or two in a chain: "
        '"top_k_previous \\| quantise".',
    )
    options: Options = Field(
        default_factory=dict,
        description="Options of the compressor; of a chain a table for each part: "
        "`{ quantise = { bits = 4 } }`.",
    )
    share: Annotated[float, Gt(0), Le(1)] = Field(
        default=0.1, description="Share of an update's coordinates that is sent, where a scheme keeps a part."
    )
    ahead: bool = Field(
        default=False,
        description="Sites train on from the common model and what they have not sent of their own, instead "
        "of adding that afterwards, and send all in the last round.",
    )


def compress_conflicts(
    asked: CompressPlan, made: Compressor, participation: float, client_momentum: float
) -> Iterator[PlanError]:
    """A scheme that sites of this plan cannot follow, and keys that it does not read. made: of the scheme."""
    if asked.share != CompressPlan.model_fields["share"].default and not takes_share(asked.scheme):
        yield PlanError(
            f"compress.share: scheme '{made.name}' sends every coordinate",
            found=asked.share,
            way_out="leave it out, or choose a scheme that keeps a part, such as top_k_previous",
        )
    if asked.ahead and not made.feedback:
        yield PlanError(
            f"compress.ahead: with scheme '{made.name}' a site keeps nothing that it could train on from",
            found=True,
            way_out="leave it out, or choose a scheme with feedback, such as random_k",
        )
    if asked.ahead and client_momentum > 0:
        yield PlanError(
            "compress.ahead: an update holds what earlier ones left, and momentum would count that twice",
            found=f"aggregate.client_momentum={client_momentum}",
            way_out="set aggregate.client_momentum = 0, or leave compress.ahead out",
        )
    if made.needs_moved and participation < 1:
        yield PlanError(
            f"compress.scheme: '{made.name}' goes by the model's last step, which a site that was not chosen "
            "has not seen",
            found=f"federate.participation={participation}",
            way_out="set federate.participation = 1, or compress with random_k, count_sketch or top_k",
        )

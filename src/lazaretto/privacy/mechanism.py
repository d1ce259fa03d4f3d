"""What a mechanism is: whom it protects, by which clip and noise, sampled how, and what prices it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dp_accounting import DpEvent

__all__ = ["Mechanism", "Sampling", "Unit"]

Unit: TypeAlias = Literal["record", "patient", "site"]
Sampling: TypeAlias = Literal["poisson", "fixed_order", "everyone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """How what leaves a site, or the coordinator, is made private.

    Neighbours differ in one unit's place, filled or empty.

    name: of the file that made it, "" for none.
    unit: "record": an example is one window of one stream, the recurrent state reset before it; "patient": an
        example is a whole stream; "site": an example is a site's update, noised where updates are summed.
    clip: largest Euclidean length of an example's gradient over (bottom, top) together, or of an update; > 0.
    noise_multiplier: standard deviation of the noise on a step's sum, divided by `clip`; > 0. With adaptive
        clipping by the clip of that round.
    sampling: how a step's examples are chosen: each by itself with probability `rate` ("poisson"), all in
        turn in an order that never changes ("fixed_order", 1 / rate steps to a pass), or all ("everyone").
    rate: in (0, 1], the share of a site's examples in a step, as expected or as it is.
    steps: a site's steps in a round, at least 1.
    kernel: coefficients c of the banded lower triangular Toeplitz matrix C; the noise of step t is
        (C⁻¹ z)[t] for independent z. (1.0,) is independent noise.
    quantile: in (0, 1), adaptive clipping: the clip moves towards the length below which that share of the
        gradients lies; None: it stays.
    count_noise: standard deviation of the noise on a step's count of short gradients, where it is adaptive.
    event: number of steps -> what so many of them cost one unit. The noise of adaptive counts is in it, and
        so is how often one record appears.
    """

    name: str
    unit: Unit
    clip: float
    noise_multiplier: float
    sampling: Sampling
    rate: float
    steps: int
    event: Callable[[int], DpEvent]
    kernel: tuple[float, ...] = (1.0,)
    quantile: float | None = None
    count_noise: float = 0.0

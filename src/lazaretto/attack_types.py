"""The type of the family of attacks: what hostile sites do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array, Float, Int

__all__ = ["Attack", "AttackContext"]


class AttackContext(NamedTuple):
    """What hostile sites know besides the updates of a round.

    round_number: from 1, of `rounds`. previous: [d] the last aggregate, or None in the first round.
    judge: (updates [n, d], honest sites first and in the order given, then hostile ones) -> aggregate [d],
        what the coordinator would make of them; None but for an attacker that knows the rule.
    """

    round_number: int = 1
    rounds: int = 1
    previous: Array | None = None
    judge: Callable[[Array], Array] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What hostile sites do. Of the four functions the one of its kind is there.

    kind:   what they falsify: the updates they send, the data they train on, their scaling counts, or what
        they say of their scores when alarm thresholds are agreed on.
    knows:  what they have to know: their "own" updates or data; those of "honest" sites, too; the "rule".
    craft:  (honest [h, d], own [f, d] as hostile sites would honestly send, context, generator) -> [f, d]
        float32, finite. f or h may be 0.
    poison: (x [u, L, F] as a model reads it, y [u, L] in 0..K, K, generator) -> (x, y) of one site's training
        streams. Beside `craft` where the updates that are crafted come from training on such data.
    trigger: (x [..., F], where [...] bool) -> a copy with what a model that learned it takes for
        normal; of attacks that teach one, so that their success can be measured.
    counts: (own [F, buckets], total that no feature may pass, generator) -> [F, buckets] whole numbers >= 0.
    scores: (own [n] of one site's normal validation steps, generator) -> [n] what it says they are, finite;
        n may be 0. What it sends follows from them as an honest site's would: counts, or a vote.
    """

    name: str
    kind: Literal["updates", "data", "scaling", "scores"]
    knows: Literal["own", "honest", "rule"]
    craft: Callable[[Array, Array, AttackContext, np.random.Generator], Float] | None = None
    poison: Callable[[Float, Int, int, np.random.Generator], tuple[Float, Int]] | None = None
    trigger: Callable[[Float, NDArray[np.bool_]], Float] | None = None
    counts: Callable[[Int, int, np.random.Generator], Int] | None = None
    scores: Callable[[Float, np.random.Generator], Float] | None = None

"""Pre-aggregation: means of sites drawn together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge

from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["bucketing"]


def bucketing(size: Annotated[int, Ge(1)] = 2) -> Rule:
    """Sites are drawn into buckets of a size, whose means another rule sees.

    ⌈n / size⌉ buckets, as even as can be, drawn anew in each round; which site goes where depends on its
    number and the draw. Sees inner products; a pre-aggregator: `bucketing | centered_clip`. Means of honest
    sites are more alike than honest sites; a hostile one spoils its whole bucket, so the chain withstands
    as many as the next rule does of buckets. Suspicion: none of its own, and what a bucket earns falls on
    all in it. Karimireddy et al. 2022, https://arxiv.org/abs/2006.09365.

    >>> from lazaretto.chain import chain
    >>> from lazaretto.aggregate.mean import mean
    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(chain(bucketing(), mean()), [[0.0], [1.0], [2.0], [5.0]]).tolist()
    [2.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        drawn = np.argsort(seen.sites)[rng.permutation(n)]  # by site, not by row
        weights = np.zeros((-(-n // size), len(seen.inner)))
        for bucket, members in enumerate(np.array_split(drawn, len(weights))):
            weights[bucket, members] = 1.0 / len(members)
        return Weighed(weights, np.zeros(n), {})

    return Rule(
        name="bucketing",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0),
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        mixes=True,
        most_on_one=lambda n: 1.0 / (n // -(-n // size)),
    )

"""Pre-aggregation: nearest-neighbour mixing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import Hostile, assumed, own, smallest
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["nnm"]


def nnm(hostile: Hostile = 0.3) -> Rule:
    """Each update becomes the mean of the n - f nearest to it, itself among them, before another rule.

    f = ⌊hostile · n⌋, under half of the sites. Sees inner products; a pre-aggregator: `nnm | multi_krum`.
    It brings honest sites with unlike data together, without which most rules fail. Equal distances share
    the last place. Suspicion: none of its own. Allouah et al. 2023, https://arxiv.org/abs/2302.01772.

    >>> from lazaretto.chain import chain
    >>> from lazaretto.aggregate.krum import krum
    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(chain(nnm(), krum()), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 1) // 2)

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        weights = np.zeros((n, len(seen.inner)))
        weights[:, :n] = [smallest(row, n - fear(n)) for row in squared_distances(own(seen))]
        return Weighed(weights, np.zeros(n), {})

    return Rule(
        name="nnm",
        sees="gram",
        gram=gram,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        mixes=True,
        most_on_one=lambda n: n / (n - fear(n)),
    )

"""Multi-Krum: the mean of the updates in the midst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge

from lazaretto.aggregate._choice import Hostile, assumed, beyond, own, smallest
from lazaretto.aggregate._krum import krum_scores
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["multi_krum"]


def multi_krum(hostile: Hostile = 0.3, keep: Annotated[int, Ge(1)] | None = None) -> Rule:
    """The mean of the updates with the best Krum scores, by default of n - f.

    f = ⌊hostile · n⌋, at most (n - 3) / 2, which it withstands; keep: how many updates, at most n - f. Sees
    inner products. Scores, suspicion and ties as in `krum`: what is tied for the last place shares it.
    Blanchard et al. 2017, https://papers.nips.cc/paper/6617.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(multi_krum(), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 3) // 2)

    def kept(n: int) -> int:
        return n - fear(n) if keep is None else min(keep, n - fear(n))

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        scores = krum_scores(squared_distances(own(seen)), fear(n))
        weights = np.zeros((1, len(seen.inner)))
        weights[0, :n] = smallest(scores, kept(n))
        reach = np.sqrt(scores)
        return Weighed(weights, beyond(reach, np.sort(reach)[n - fear(n) - 1]), {})

    return Rule(
        name="multi_krum",
        sees="gram",
        gram=gram,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 / kept(n),
    )

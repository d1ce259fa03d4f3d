"""The mean of each coordinate without its extremes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import Hostile, assumed, beyond
from lazaretto.aggregate._coordinates import middle
from lazaretto.gram import distances_to
from lazaretto.types import Array, Judged, Rule

__all__ = ["trimmed_mean"]


def trimmed_mean(hostile: Hostile = 0.3) -> Rule:
    """In each coordinate the mean of the updates without the f smallest and the f largest.

    f = ⌊hostile · n⌋, under half of the sites, which it withstands: each coordinate stays within the honest
    values. Sees the updates. Suspicion: how far an update lies beyond the n - f nearest to the answer.
    Yin et al. 2018, https://arxiv.org/abs/1803.01498.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(trimmed_mean(), [[0.0], [1.0], [2.0], [6.0], [-900.0]]).tolist()
    [1.0]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 1) // 2)

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        f = fear(len(X))
        aggregate = middle(X, f)
        distances = distances_to(X, aggregate)
        return aggregate, beyond(distances, np.sort(distances)[len(X) - f - 1]), {}

    return Rule(
        name="trimmed_mean",
        sees="rows",
        rows=rows,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )

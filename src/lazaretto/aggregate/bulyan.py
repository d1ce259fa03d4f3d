"""Bulyan: Krum chooses, then each coordinate is trimmed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import Hostile, assumed, beyond
from lazaretto.aggregate._coordinates import nearest_to_median
from lazaretto.aggregate._krum import krum_scores
from lazaretto.gram import distances_to, inner_products, squared_distances
from lazaretto.types import Array, Int, Judged, Rule

__all__ = ["bulyan"]


def bulyan(hostile: Hostile = 0.3) -> Rule:
    """Krum chooses n - 2f updates; in each coordinate those nearest to the median are averaged.

    Each of the θ = n - 2f is Krum's best of those left; then, coordinate by coordinate, the mean of the θ -
    2f values nearest to the median of the θ. f = ⌊hostile · n⌋, at most (n - 3) / 4, which it withstands.
    Sees the updates. Of tied scores the update nearest to all that are left goes first. Suspicion: how far
    an update lies beyond the n - f nearest to the answer. El Mhamdi et al. 2018,
    https://arxiv.org/abs/1802.07927.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(bulyan(), [[0.0], [1.0], [2.0], [3.0], [4.0], [6.0], [-900.0]]).tolist()
    [2.0]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 3) // 4)

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        n, f = len(X), fear(len(X))
        chosen = _chosen(squared_distances(inner_products(X)), n - 2 * f, f)
        aggregate = nearest_to_median(X[chosen], n - 4 * f)
        distances = distances_to(X, aggregate)
        return aggregate, beyond(distances, np.sort(distances)[n - f - 1]), {}

    return Rule(
        name="bulyan",
        sees="rows",
        rows=rows,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )


def _chosen(squares: Array, count: int, f: int) -> Int:
    """Indices of the `count` rows that Krum takes one by one, by squared distances [n, n]."""
    left, taken = np.arange(len(squares)), []
    for _ in range(count):
        apart = squares[np.ix_(left, left)]
        best = np.lexsort((apart.sum(axis=1), krum_scores(apart, f)))[0]
        taken.append(left[best])
        left = np.delete(left, best)
    return np.array(taken, np.int64)

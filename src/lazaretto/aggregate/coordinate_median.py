"""The median of each coordinate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import beyond
from lazaretto.aggregate._coordinates import middle
from lazaretto.gram import distances_to
from lazaretto.types import Array, Judged, Rule

__all__ = ["coordinate_median"]


def coordinate_median() -> Rule:
    """In each coordinate the median of the updates, the mean of the middle two where they are even in number.

    Sees the updates; withstands fewer than half of the sites: each coordinate stays within the honest values.
    Suspicion: how far an update lies beyond the median distance to the answer.
    Yin et al. 2018, https://arxiv.org/abs/1803.01498.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(coordinate_median(), [[0.0, 5.0], [1.0, 900.0], [9.0, 6.0]]).tolist()
    [1.0, 6.0]
    """

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        aggregate = middle(X, (len(X) - 1) // 2)
        distances = distances_to(X, aggregate)
        return aggregate, beyond(distances, float(np.median(distances))), {}

    return Rule(
        name="coordinate_median",
        sees="rows",
        rows=rows,
        tolerates=lambda n: max(n - 1, 0) // 2,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )

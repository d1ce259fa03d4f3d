"""Divide and conquer: outliers of some coordinates at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from lazaretto.aggregate._choice import Hostile, assumed, beyond, smallest
from lazaretto.aggregate._direction import outlying
from lazaretto.gram import combine, distances_to, inner_products
from lazaretto.types import Array, Judged, Rule

__all__ = ["dnc"]


def dnc(
    hostile: Hostile = 0.3,
    iterations: Annotated[int, Ge(1)] = 5,
    coordinates: Annotated[int, Ge(1)] = 10_000,
) -> Rule:
    """The mean of the updates that never stand out along the main direction of drawn coordinates.

    In each iteration coordinates are drawn; with v the leading right singular vector of the centred updates
    there, the f with the largest ⟨xᵢ - μ, v⟩² go, f = ⌊hostile · n⌋, under half of the sites. Those never
    gone are averaged; if none is left, those that went least. It finds up to f that lie together. Of hostile
    updates far out in several directions one pass sees one, so it claims to withstand one alone (`spectral`
    looks again after each). Sees the updates. Suspicion: share of the iterations in which a site went, at
    most how far it lies beyond the median distance to the answer.
    Shejwalkar & Houmansadr 2021, https://doi.org/10.14722/ndss.2021.24498.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(dnc(), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 1) // 2)

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        n, d = X.shape
        gone = np.zeros(n)
        for _ in range(iterations):
            drawn = np.sort(rng.choice(d, min(coordinates, d), replace=False))
            gone += 1.0 - smallest(_outlying(X[:, drawn]), n - fear(n)) * (n - fear(n))
        kept = gone <= gone.min() + 1e-9
        aggregate = combine(kept[None] / kept.sum(), X)[0]
        distances = distances_to(X, aggregate)
        # f go from honest sites, too: how far off they are tells whether that means anything
        suspicion = np.minimum(gone / iterations, beyond(distances, float(np.median(distances))))
        return aggregate, np.clip(suspicion, 0.0, 1.0), {}

    return Rule(
        name="dnc",
        sees="rows",
        rows=rows,
        tolerates=lambda n: min(fear(n), 1),
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )


def _outlying(rows: Array) -> NDArray[np.float64]:
    """[n] squared distances from the mean along the direction of largest variance of rows [n, b]."""
    values = np.asarray(rows, np.float64)
    inner = inner_products(values - values.mean(axis=0))
    return np.square(outlying(inner, np.ones(len(rows))))

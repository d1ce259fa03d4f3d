"""FLAME: the nearest majority by direction, clipped."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from lazaretto.aggregate._choice import beyond, clip_factors, own
from lazaretto.gram import cosines, lengths
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["flame"]


def flame() -> Rule:
    """The mean of the densest majority by direction, each clipped to the median length of all.

    HDBSCAN on 1 - cos with clusters of more than half of the sites; y = Σ xᵢ min(1, c / ‖xᵢ‖) / m over the
    m admitted, c the median length. Where no majority is found (one or two sites), all are admitted,
    clipped. Sees inner products; withstands fewer than half. Suspicion: how far the mean 1 - cos of a site
    to the admitted lies beyond the largest among them. Nguyen et al. 2022,
    https://arxiv.org/abs/2101.02281, without its noise, which belongs to differential privacy.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(flame(), [[2.0, 0.1], [2.0, -0.1], [2.0, 0.0], [-9.0, 0.0]]).round(2).tolist()
    [2.0, 0.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        inner = own(seen)
        apart = 1.0 - cosines(inner)
        admitted = _majority(apart)
        factors = clip_factors(lengths(inner), None)
        weights = np.zeros((1, len(seen.inner)))
        weights[0, : len(inner)] = factors * admitted / admitted.sum()
        away = (apart * admitted).sum(axis=1) / admitted.sum()
        return Weighed(weights, beyond(away, float(away[admitted].max())), {})

    return Rule(
        name="flame",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 2,
        equivariance=frozenset({"scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 / (n // 2 + 1) if n > 2 else 1.0 / n,
    )


def _majority(apart: Array) -> NDArray[np.bool_]:
    """[n] bool: the densest cluster of more than half by distances [n, n]; all, if there is none."""
    n, everyone = len(apart), np.ones(len(apart), np.bool_)
    if n < 3 or apart.max() <= 0:
        return everyone
    cluster = HDBSCAN(
        min_cluster_size=n // 2 + 1,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    found: NDArray[np.bool_] = cluster.fit(apart).labels_ >= 0
    return found if found.any() else everyone

"""Clipped clustering: the larger of two groups by direction, of limited length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from lazaretto.aggregate._choice import beyond, clip_factors, own
from lazaretto.gram import cosines, lengths
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["clipped_clustering"]


def clipped_clustering(memory: Annotated[int, Ge(1)] = 1000) -> Rule:
    """The mean of the larger of two clusters by direction, clipped to the median of all lengths so far.

    Average linkage on 1 - cos into two clusters; y = Σ xᵢ min(1, c / ‖xᵢ‖) / m over the larger, both where
    they are equal, c the median of the last `memory` lengths, this round's included. Sees inner products;
    withstands fewer than half. Suspicion: how far the mean 1 - cos of a site to those averaged lies beyond
    the largest among them. State: the lengths. Li et al. 2023, https://arxiv.org/abs/2302.07173.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(clipped_clustering(), [[2.0, 0.1], [2.0, -0.1], [-9.0, 0.0]]).round(2).tolist()
    [2.0, 0.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        inner = own(seen)
        length = lengths(inner)
        past = np.concatenate([np.asarray(state["lengths"]), np.sort(length)])
        kept = past[-max(memory, len(length)) :]
        apart = 1.0 - cosines(inner)
        chosen = _larger(apart)
        weights = np.zeros((1, len(seen.inner)))
        factors = clip_factors(length, float(np.median(kept)))
        weights[0, : len(length)] = factors * chosen / chosen.sum()
        away = (apart * chosen).sum(axis=1) / chosen.sum()
        return Weighed(weights, beyond(away, float(away[chosen].max())), {"lengths": kept})

    return Rule(
        name="clipped_clustering",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 2,
        start=lambda sites: {"lengths": np.zeros(0)},
        equivariance=frozenset({"scale"}),
        agrees=True,
        most_on_one=lambda n: 2.0 / n if n > 1 else 1.0,
    )


def _larger(apart: Array) -> NDArray[np.bool_]:
    """[n] bool: the larger of two clusters by distances [n, n]; everyone where they are equal."""
    if len(apart) < 2:
        return np.ones(len(apart), np.bool_)
    of = fcluster(linkage(squareform(apart, checks=False), method="average"), 2, criterion="maxclust")
    counts = np.bincount(of)
    return np.asarray(counts[of] == counts.max())

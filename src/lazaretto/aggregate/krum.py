"""Krum: one update, in the midst of the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import Hostile, assumed, beyond, own, smallest
from lazaretto.aggregate._krum import krum_scores
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["krum"]


def krum(hostile: Hostile = 0.3) -> Rule:
    """The one update that lies nearest to its n - f - 2 nearest others.

    y = x_k, k = argmin Σ ‖xₖ - xⱼ‖² over the n - f - 2 nearest j of k; f = ⌊hostile · n⌋, at most (n - 3) /
    2, which it withstands. Sees inner products. Ties share the weight: with one or two sites it is their
    mean, with three it may be that of the nearest two. Suspicion: how far the square root of a score lies
    beyond that of the n - f best. Honest sites with unlike data are lost, and a chosen update is published.
    Blanchard et al. 2017, https://papers.nips.cc/paper/6617.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(krum(), [[0.0], [1.0], [1.25], [2.5], [900.0]]).tolist()
    [1.0]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 3) // 2)

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        scores = krum_scores(squared_distances(own(seen)), fear(n))
        weights = np.zeros((1, len(seen.inner)))
        weights[0, :n] = smallest(scores, 1)
        reach = np.sqrt(scores)
        return Weighed(weights, beyond(reach, np.sort(reach)[n - fear(n) - 1]), {})

    return Rule(
        name="krum",
        sees="gram",
        gram=gram,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )

"""FLTrust: trust begins at a root data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lazaretto.gram import cosines, lengths
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["fltrust"]


def fltrust() -> Rule:
    """Updates count by how they point along one made on trusted data, and are made as long as that one.

    tᵢ = max(0, cos(xᵢ, r)), y = Σ tᵢ xᵢ ‖r‖ / ‖xᵢ‖ / Σ tᵢ with r the public row "root". Sees inner
    products. However many are hostile, y is no longer than r and on its side; where nobody is trusted y is
    0. Suspicion: 1 where tᵢ = 0, else 1 - tᵢ / median of the positive t, at least 0. Cosines with a row
    made of little data are small for everyone, so what speaks against a site is how far its own lies below
    the usual one. Cao et al. 2021, https://arxiv.org/abs/2012.13995 (which has no suspicion). A run has the
    row with `aggregate.root_units`.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(fltrust(), [[4.0, 0.0], [-9.0, 0.0]], root=[1.0, 0.0]).tolist()
    [1.0, 0.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n, root = len(seen.sizes), len(seen.sizes) + seen.public.index("root")
        trust = np.maximum(cosines(seen.inner)[root, :n], 0.0)
        length = lengths(seen.inner)
        # a zero update has no direction, so no trust, and nothing to stretch
        stretch = np.divide(length[root], length[:n], out=np.zeros(n), where=length[:n] > 0)
        weights = np.zeros((1, len(seen.inner)))
        weights[0, :n] = trust * stretch / (trust.sum() or 1.0)
        return Weighed(weights, _suspicion(trust), {})

    return Rule(
        name="fltrust",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0),
        public=("root",),
        equivariance=frozenset({"scale"}),
        most_on_one=lambda n: float("inf"),  # a short update is stretched without limit
    )


def _suspicion(trust: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] from trust [n] in [0, 1]: by how much of the usual positive trust a site falls short."""
    if not trust.any():
        return np.ones(len(trust))
    return np.clip(1.0 - trust / np.median(trust[trust > 0]), 0.0, 1.0)

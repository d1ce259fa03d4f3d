"""Centred clipping: steps of limited length from the last aggregate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from lazaretto.aggregate._choice import clip_factors
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["centered_clip"]


def centered_clip(
    radius: Annotated[float, Gt(0)] | None = None, iterations: Annotated[int, Ge(1)] = 3
) -> Rule:
    """From the last aggregate some steps towards the updates, each update pulling by a limited length.

    v ← v + Σ (xᵢ - v) min(1, τ / ‖xᵢ - v‖) / n, a few times, from the previous aggregate, a public row.
    Sees inner products. τ is `radius`, or the median distance to v, new at each step, with which fewer than
    half of the sites cannot stretch it; a fixed radius is claimed to withstand none, as it may be of any
    size. Suspicion: 1 less the last factor. Meant for sites that send momentum
    (`aggregate.client_momentum`). Karimireddy et al. 2021, https://arxiv.org/abs/2012.10333.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(centered_clip(iterations=1), [[3.0], [1.0], [4.0]], previous=[1.0]).tolist()
    [2.3333333333333335]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n, last = len(seen.sizes), len(seen.sizes) + seen.public.index("previous")
        squares = squared_distances(seen.inner)
        weights, factors = np.eye(len(seen.inner))[last], np.ones(n)
        for _ in range(iterations):
            across = squares @ weights
            away = np.sqrt(np.maximum(across - 0.5 * (weights @ across), 0.0))[:n]
            factors = clip_factors(away, radius)
            weights = weights * (1.0 - factors.mean())
            weights[:n] += factors / n
        return Weighed(weights[None], 1.0 - factors, {})

    return Rule(
        name="centered_clip",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 2 if radius is None else 0,
        public=("previous",),
        equivariance=frozenset({"translation", "scale"} if radius is None else {"translation"}),
        most_on_one=lambda n: min(1.0, iterations / n),
    )

"""Pre-aggregation: updates of limited length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Gt

from lazaretto.aggregate._choice import clip_factors, own
from lazaretto.gram import lengths
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["clip"]


def clip(bound: Annotated[float, Gt(0)] | None = None) -> Rule:
    """Shortens long updates to a bound, by default to the median length, before another rule sees them.

    xᵢ ← xᵢ · min(1, c / ‖xᵢ‖). Sees inner products; a pre-aggregator: `clip | geometric_median`. Suspicion:
    1 less the factor. Updates of length 0 stay. Takes no site out, so the chain withstands what the next
    rule does. Sun et al. 2019, https://arxiv.org/abs/1911.07963.

    >>> from lazaretto.chain import chain
    >>> from lazaretto.aggregate.mean import mean
    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(chain(clip(), mean()), [[3.0, 0.0], [0.0, 3.0], [600.0, 0.0]]).round(3).tolist()
    [2.0, 1.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        factors = clip_factors(lengths(own(seen)), bound)
        weights = np.zeros((len(factors), len(seen.inner)))
        np.fill_diagonal(weights, factors)
        return Weighed(weights, 1.0 - factors, {})

    return Rule(
        name="clip",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0),
        equivariance=frozenset({"scale"} if bound is None else ()),
        agrees=bound is None,
        mixes=True,
    )

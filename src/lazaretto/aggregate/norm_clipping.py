"""The mean of updates of limited length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt

from lazaretto.aggregate._choice import clip_factors, own
from lazaretto.errors import PlanError
from lazaretto.gram import lengths
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["norm_clipping"]


def norm_clipping(
    bound: Annotated[float, Gt(0)] | None = None, weighted: Literal["equal", "size"] = "equal"
) -> Rule:
    """The mean of updates that are shortened to a bound, by default to their median length.

    y = Σ sᵢ xᵢ min(1, c / ‖xᵢ‖) / Σ sᵢ. Sees inner products. A hostile site moves the aggregate by its
    share of c at most, in any direction: with the median as bound fewer than half of the sites cannot make
    c larger than an honest length. Weighed by size it withstands nobody, as sizes are what sites say. A
    fixed bound is kept whatever is honest; it is claimed to withstand none. Suspicion: 1 less the factor.
    Sun et al. 2019, https://arxiv.org/abs/1911.07963. Raises PlanError for another weighting.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(norm_clipping(), [[3.0, 0.0], [0.0, 3.0], [600.0, 0.0]]).round(3).tolist()
    [2.0, 1.0]
    """
    if weighted not in ("equal", "size"):
        raise PlanError(
            "rule 'norm_clipping': unknown weighting", found=weighted, way_out="'equal' or 'size'"
        )

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        factors = clip_factors(lengths(own(seen)), bound)
        sizes = seen.sizes if weighted == "size" else np.ones(len(factors))
        weights = np.zeros((1, len(seen.inner)))
        weights[0, : len(factors)] = factors * sizes / sizes.sum()
        return Weighed(weights, 1.0 - factors, {})

    return Rule(
        name="norm_clipping",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 2 if bound is None and weighted == "equal" else 0,
        equivariance=frozenset({"scale"} if bound is None else ()),
        agrees=bound is None,
        most_on_one=lambda n: 1.0 if weighted == "size" else 1.0 / n,
    )

"""Spectral filtering: what stands out along the direction in which the updates differ most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.aggregate._choice import Hostile, assumed, beyond, own
from lazaretto.aggregate._direction import outlying, tied_for_most
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["spectral"]

_ROUNDING = 1e-9


def spectral(hostile: Hostile = 0.3) -> Rule:
    """f times, the update that stands out most along the main direction goes; the mean of the rest.

    With μ the mean of those left and v the direction of their largest variance, the one with the largest
    ⟨xᵢ - μ, v⟩² goes; then μ and v are found anew. Where several stand out alike, each loses as large a part
    of its weight, one weight in all; where several directions are equally wide, all of them count. f =
    ⌊hostile · n⌋, under half of the sites, which it withstands. Sees inner products: ⟨xᵢ - μ, v⟩² is λ uᵢ² of
    the leading eigenpair (λ, u) of the centred ones. Suspicion: how far ⟨xᵢ - μ, v⟩ at its going lay beyond
    the largest of those that stay. The filter of Diakonikolas et al. 2017, https://arxiv.org/abs/1703.00893,
    one row at a time instead of a threshold that knows the variance.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(spectral(), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 1) // 2)

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n, inner, f = len(seen.sizes), own(seen), fear(len(seen.sizes))
        left, gone = np.ones(n), np.zeros(n)
        for number in range(f):
            share = 1.0  # of an update that has still to go in this step
            while share > 0:
                there = np.flatnonzero(left)
                far = outlying(inner[np.ix_(there, there)], left[there])
                worst = tied_for_most(far)
                tied = there[worst]
                gone[tied] = far[worst]
                weight = left[tied].sum()
                if weight <= share * (1 + _ROUNDING):
                    left[tied], share = 0.0, max(share - weight, 0.0)
                else:
                    left[tied] *= 1.0 - share / weight
                    share = 0.0
            left *= (n - number - 1) / left.sum()  # what rounding added up to
        there = np.flatnonzero(left)
        stay = float(outlying(inner[np.ix_(there, there)], left[there]).max())
        weights = np.zeros((1, len(seen.inner)))
        weights[0, :n] = left / left.sum()
        return Weighed(weights, np.where(gone > 0, beyond(gone, stay), 0.0), {})

    return Rule(
        name="spectral",
        sees="gram",
        gram=gram,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 / (n - fear(n)),
    )

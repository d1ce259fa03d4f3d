"""Spectral filtering: what stands out along the direction in which the updates differ most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from lazaretto.aggregate._choice import Hostile, assumed, beyond, own
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["spectral"]


def spectral(hostile: Hostile = 0.3) -> Rule:
    """f times, the update that stands out most along the main direction goes; the mean of the rest.

    With μ the mean of those left and v the direction of their largest variance, the one with the largest
    ⟨xᵢ - μ, v⟩² goes; then μ and v are found anew. f = ⌊hostile · n⌋, under half of the sites, which it
    withstands. Sees inner products: ⟨xᵢ - μ, v⟩² is λ uᵢ² of the leading eigenpair (λ, u) of the centred
    ones. Suspicion: how far ⟨xᵢ - μ, v⟩ at its going lay beyond the largest of those that stay. The filter
    of Diakonikolas et al. 2017, https://arxiv.org/abs/1703.00893, one row at a time instead of a threshold
    that knows the variance.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(spectral(), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 1) // 2)

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n, inner = len(seen.sizes), own(seen)
        left, suspicion = np.arange(n), np.zeros(n)
        gone = np.zeros(n)
        for _ in range(fear(n)):
            outlying = _outlying(inner[np.ix_(left, left)])
            worst = int(outlying.argmax())
            gone[left[worst]] = outlying[worst]
            left = np.delete(left, worst)
        taken = gone > 0
        suspicion[taken] = beyond(gone[taken], float(_outlying(inner[np.ix_(left, left)]).max()))
        weights = np.zeros((1, len(seen.inner)))
        weights[0, left] = 1.0 / len(left)
        return Weighed(weights, suspicion, {})

    return Rule(
        name="spectral",
        sees="gram",
        gram=gram,
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 / (n - fear(n)),
    )


def _outlying(inner: Array) -> NDArray[np.float64]:
    """[n] distances from the mean along the direction of largest variance, from inner products [n, n]."""
    across = inner.mean(axis=0)
    centred = inner - across[None] - across[:, None] + across.mean()
    last = len(inner) - 1
    value, vector = eigh(centred, subset_by_index=[last, last])
    return np.asarray(np.sqrt(max(float(value[0]), 0.0)) * np.abs(vector[:, 0]))

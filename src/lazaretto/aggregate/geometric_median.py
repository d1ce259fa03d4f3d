"""The geometric median, converged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lazaretto.aggregate._choice import beyond, own
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["geometric_median"]

_ROUNDS = 10_000
_NEAR = 1e-10  # of the mean distance: a step shorter than this ends the search


def geometric_median() -> Rule:
    """The point with the smallest sum of distances to the updates.

    y = argmin Σ ‖y - xᵢ‖. Sees inner products; withstands fewer than half of the sites: f of them move it
    by at most 2(n - f) / (n - 2f) times the honest radius. Smoothed Weiszfeld (Pillutla et al. 2022,
    https://arxiv.org/abs/1912.13445) after asking whether an update itself is the median (Vardi & Zhang
    2000, https://doi.org/10.1073/pnas.97.4.1423), run until it stands still. Of two updates, or of an even
    number on one line, it is the middle. Suspicion: how far an update lies beyond the median distance to
    the answer.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(geometric_median(), [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]).round(6).tolist()
    [4.0, 5.0, 6.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        squares = squared_distances(own(seen))
        found = _weights(squares)
        weights = np.zeros((1, len(seen.inner)))
        weights[0, : len(found)] = found
        distances = _from_point(squares, found)
        return Weighed(weights, beyond(distances, float(np.median(distances))), {})

    return Rule(
        name="geometric_median",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 2,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )


def _from_point(squares: Array, weights: Array) -> NDArray[np.float64]:
    """[n] distances to Σ wᵢxᵢ, Σ wᵢ = 1, from squared distances between the rows, so without an origin."""
    across = squares @ weights
    return np.asarray(np.sqrt(np.maximum(across - 0.5 * (weights @ across), 0.0)))


def _at_rows(squares: Array) -> NDArray[np.bool_]:
    """[n]: which rows are a median: the pull of the others is not stronger than the rows that lie there."""
    apart = squares > 0
    pull = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=apart)
    # ‖Σᵢ pᵢ(xᵢ - xₖ)‖² from squared distances: with c = p and -Σp at k, summing to 0, it is -½ cᵀDc
    coefficients = pull - np.diag(pull.sum(axis=1))
    force = np.sqrt(np.maximum(-0.5 * ((coefficients @ squares) * coefficients).sum(axis=1), 0.0))
    return np.asarray(force <= (~apart).sum(axis=1) * (1 + 1e-9))


def _weights(squares: Array) -> NDArray[np.float64]:
    """[n] weights of the geometric median, from squared distances [n, n]."""
    n = len(squares)
    there = _at_rows(squares)
    if there.any():
        return np.asarray(there / there.sum())
    weights = np.full(n, 1.0 / n)
    for _ in range(_ROUNDS):
        distances = _from_point(squares, weights)
        scale = float(distances.mean())
        raw = 1.0 / np.maximum(distances, 1e-12 * scale)
        new = raw / raw.sum()
        step = new - weights  # sums to 0, so its length follows from distances alone
        weights = new
        if -0.5 * (step @ squares @ step) <= (_NEAR * scale) ** 2:
            break
    return weights

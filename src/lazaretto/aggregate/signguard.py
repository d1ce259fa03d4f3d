"""SignGuard: lengths and signs tell who is unlike the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray
from sklearn.cluster import MeanShift, estimate_bandwidth

from lazaretto.aggregate._choice import clip_factors
from lazaretto.gram import combine
from lazaretto.types import Array, Judged, Rule

__all__ = ["signguard"]

_SHORTEST, _LONGEST = 0.1, 3.0  # of the median length; what the paper takes
_TIE = 1e-6  # of the width: far more than rounding, far less than signs can differ by


def signguard(coordinates: Annotated[float, Gt(0), Le(1)] = 0.1) -> Rule:
    """The clipped mean of updates that are neither short nor long and whose signs are like most others'.

    Kept: .1 c <= ‖xᵢ‖ <= 3 c, c the median length; and in the largest cluster (mean shift) by the shares of
    positive, zero and negative values among a drawn share of the coordinates. y = Σ xᵢ min(1, c / ‖xᵢ‖) / m
    over the m kept; 0 where nobody is. Sees the updates; withstands fewer than half, as all is clipped to
    c. Suspicion: ½ for each test failed. Xu et al. 2022, https://arxiv.org/abs/2109.05872.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(signguard(1.0), [[1.0, 2], [2, 1], [1, 2], [-1, -2], [90, 90]]).round(2).tolist()
    [1.33, 1.67]
    """

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        length = np.sqrt([float(np.square(row, dtype=np.float64).sum()) for row in X])
        usual = float(np.median(length))
        fits = (length >= _SHORTEST * usual) & (length <= _LONGEST * usual)
        d = X.shape[1]
        drawn = np.sort(rng.choice(d, max(1, round(coordinates * d)), replace=False))
        like = _largest(np.array([_signs(row[drawn]) for row in X]))
        kept = fits & like
        weights = clip_factors(length, usual) * kept / max(int(kept.sum()), 1)
        return combine(weights[None], X)[0], 0.5 * (~fits) + 0.5 * (~like), {}

    return Rule(
        name="signguard",
        sees="rows",
        rows=rows,
        tolerates=lambda n: max(n - 1, 0) // 2,
        equivariance=frozenset({"scale"}),
        agrees=True,
    )


def _signs(row: Array) -> list[float]:
    """Shares of positive, zero and negative values."""
    return [float((row > 0).mean()), float((row == 0).mean()), float((row < 0).mean())]


def _largest(points: Array) -> NDArray[np.bool_]:
    """[n] bool: the largest cluster of points [n, 3]; of equally large ones all."""
    width = estimate_bandwidth(points, quantile=0.5)
    if width <= 1e-12:  # at least half are one point, or there is a single one
        values, of = np.unique(points.round(12), axis=0, return_inverse=True)
        counts = np.bincount(of.ravel(), minlength=len(values))
        return np.asarray((counts == counts.max())[of.ravel()])
    # shares are fractions of few signs, and many lie a width apart exactly: near, however that is rounded
    of = MeanShift(bandwidth=width * (1 + _TIE), cluster_all=False).fit(points).labels_
    counts = np.bincount(of[of >= 0], minlength=1)
    return np.asarray((of >= 0) & (counts[np.maximum(of, 0)] == counts.max()))

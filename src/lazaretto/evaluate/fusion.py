"""Two scores made one: what the supervised score and the self-supervised one say of a step, as surprise.

Each score is first measured against normal validation steps: its surprise is the negative logarithm of the
share of them that score as high. Surprises are in nats whatever the scores were, and are added. What is
needed of the data is a sum over sites of binned counts (`operating.score_counts`), so it goes through the
same door as thresholds, and no site shows a step. Adding logarithms of tail shares is Fisher's way of
combining evidence (Fisher 1932, Statistical Methods for Research Workers); here the sum is a score, and
thresholds are set anew on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.operating import EDGES
from lazaretto.types import Array, Float

__all__ = ["Tail", "fuse", "surprise", "tail_from_counts", "tails_from_array", "tails_to_array"]

_FINEST_NATS = 0.02  # between knots
_SHARE_OF_TAIL = 0.01  # of normal steps, whose mean excess says how fast the tail falls
_PARTS = 2  # the supervised score and the self-supervised one


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """score [k], strictly increasing; nats [k], not decreasing, >= 0: the surprise at each.

    Linear in between, flat below, and above the last knot it goes on with `slope` > 0 nats per unit of score,
    as an exponential tail does: so scores beyond all normal ones keep their order.
    """

    score: NDArray[np.float64]
    nats: NDArray[np.float64]
    slope: float


def tail_from_counts(counts: NDArray[np.int64]) -> Tail:
    """Tail of normal scores, from the sum over sites of `score_counts`, [len(EDGES) + 1].

    At an edge with c of n scores above it the surprise is -log((c + 1/2) / (n + 1)). Raises DataError where
    nothing was counted.
    """
    total = int(counts.sum())
    if total == 0:
        raise DataError(
            "no normal validation step to measure scores against",
            way_out="raise split.validation, or add normal data",
        )
    held = np.flatnonzero(counts)
    # a score at the upper edge of bin i has `above` normal ones over it; the last bin has no upper edge
    edges = EDGES[np.minimum(held, len(EDGES) - 1)]
    above = total - np.cumsum(counts)[held]
    nats = -np.log((above + 0.5) / (total + 1))
    keep = np.flatnonzero(np.diff(np.floor(nats / _FINEST_NATS), prepend=-1.0) > 0)
    keep = np.union1d(keep, [len(held) - 1])
    score, first = np.unique(edges[keep], return_index=True)
    return Tail(score, nats[keep][first], _slope(edges, counts[held], above, total))


def _slope(
    edges: NDArray[np.float64], counts: NDArray[np.int64], above: NDArray[np.int64], total: int
) -> float:
    start = int(np.searchsorted(-above, -_SHARE_OF_TAIL * total))
    beyond = counts[start + 1 :].sum()
    excess = float((counts[start + 1 :] * (edges[start + 1 :] - edges[min(start, len(edges) - 1)])).sum())
    if not beyond or excess <= 0:
        return 1.0
    return float(beyond / excess)


def surprise(tail: Tail, score: Array) -> NDArray[np.float64]:
    """Nats of each score, of any shape: the larger, the fewer normal steps score as high."""
    found = np.asarray(score, dtype=np.float64)
    beyond = np.maximum(found - tail.score[-1], 0.0)
    return np.asarray(np.interp(found, tail.score, tail.nats) + tail.slope * beyond)


def fuse(tails: Sequence[Tail], scores: Sequence[Array], weight: float) -> Float:
    """surprise(first) + weight · surprise(second), float32, in the shape of the scores. weight >= 0."""
    first, second = (surprise(tail, score) for tail, score in zip(tails, scores, strict=True))
    return np.asarray(first + weight * second, dtype=np.float32)


def tails_to_array(tails: Sequence[Tail]) -> NDArray[np.float64]:
    """[2, 2, k + 1] to be stored with a model: for either part scores and nats of its knots.

    Rows are padded by knots one unit of score apart, so that the last two say the slope.
    """
    longest = max(len(tail.score) for tail in tails) + 1
    rows = []
    for tail in tails:
        steps = np.arange(1, longest - len(tail.score) + 1)
        rows.append(
            [
                np.concatenate([tail.score, tail.score[-1] + steps]),
                np.concatenate([tail.nats, tail.nats[-1] + tail.slope * steps]),
            ]
        )
    return np.array(rows, dtype=np.float64)


def tails_from_array(array: Array) -> tuple[Tail, ...]:
    """Inverse of `tails_to_array`. Raises DataError where the array is not one."""
    found = np.asarray(array)
    fine = (
        found.dtype == np.float64
        and found.ndim == 3
        and found.shape[:2] == (_PARTS, 2)
        and found.shape[2] >= 2
        and bool(np.isfinite(found).all())
        and bool((np.diff(found[:, 0]) > 0).all())
        and bool((np.diff(found[:, 1]) >= 0).all())
        and bool((found[:, 1] >= 0).all())
        and bool((found[:, 1, -1] > found[:, 1, -2]).all())
    )
    if not fine:
        raise DataError("stored tails of scores cannot be read", found=found.shape, way_out="train again")
    return tuple(
        Tail(score, nats, float((nats[-1] - nats[-2]) / (score[-1] - score[-2]))) for score, nats in found
    )

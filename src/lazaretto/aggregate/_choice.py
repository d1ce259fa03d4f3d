"""What several rules need: how many to fear, the smallest of some scores, suspicion from distances."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from lazaretto.types import Array, Gram

__all__ = ["Hostile", "assumed", "beyond", "clip_factors", "own", "smallest"]

Hostile: TypeAlias = Annotated[float, Ge(0), Lt(0.5)]  # share of the sites that is taken to be hostile

_SAME = 1e-9  # scores that differ by less, relative to their size, are told apart by rounding only


def assumed(hostile: float, n: int, most: int) -> int:
    """f = ⌊hostile · n⌋, at most what the rule allows for n sites, at least 0."""
    return max(0, min(int(np.floor(hostile * n + 1e-9)), most))


def own(seen: Gram) -> NDArray[np.float64]:
    """[n, n]: inner products of the updates alone."""
    n = len(seen.sizes)
    return seen.inner[:n, :n]


def smallest(scores: Array, count: int) -> NDArray[np.float64]:
    """[n] weights summing to 1: 1 / count on the `count` smallest scores [n], 1 <= count <= n.

    What is tied for the last places shares them, so that the order of the rows never decides.
    """
    limit = np.sort(scores)[count - 1]
    near = _SAME * abs(limit)
    below, tied = scores < limit - near, np.abs(scores - limit) <= near
    weights: NDArray[np.float64] = below + tied * ((count - below.sum()) / tied.sum())
    return weights / count


def beyond(distances: Array, usual: float) -> NDArray[np.float64]:
    """[n] suspicion: 0 up to the usual distance, then 1 - usual / distance."""
    far = distances > usual * (1 + _SAME)
    return np.where(far, 1.0 - usual / np.where(far, distances, 1.0), 0.0)


def clip_factors(lengths: Array, bound: float | None) -> NDArray[np.float64]:
    """[n] in (0, 1]: what shortens each length to the bound; None: to the median length."""
    limit = float(np.median(lengths)) if bound is None else bound
    return np.where(lengths > limit, limit / np.where(lengths > 0, lengths, 1.0), 1.0)

"""How far updates stand out along the direction in which they differ most, whatever their order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from lazaretto.types import Array

__all__ = ["outlying", "tied_for_most"]

# What differs by less, relative to its size, is taken for equal: inner products of long float32 updates are
# off by some 1e-7, and no rule should go by that.
_SAME = 1e-6


def outlying(inner: Array, weights: Array) -> NDArray[np.float64]:
    """[n] distances from the weighted mean along the direction of largest weighted variance.

    inner: [n, n] inner products. weights: [n] >= 0, not all 0. Where several directions are equally wide, it
    is the distance within all of them: which of them comes first would be the order of the rows.
    """
    share = weights / weights.sum()
    across = inner @ share
    centred = inner - across[None] - across[:, None] + share @ across
    root = np.sqrt(weights)
    spread = root[:, None] * centred * root[None]
    last = len(inner) - 1
    value, vector = eigh(spread, subset_by_index=[max(last - 1, 0), last])
    if last and value[0] >= value[1] * (1 - _SAME):
        value, vector = eigh(spread)
    if not value[-1] > 0:
        return np.zeros(len(inner))
    widest = value >= value[-1] * (1 - _SAME)
    along = centred @ (root[:, None] * vector[:, widest])
    return np.asarray(np.sqrt(np.square(along).sum(axis=1) / value[-1]))


def tied_for_most(values: Array) -> NDArray[np.bool_]:
    """[n] which values [n] >= 0 are the largest, but for rounding."""
    return np.asarray(values >= values.max() * (1 - _SAME))

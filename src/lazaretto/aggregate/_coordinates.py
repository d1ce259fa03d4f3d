"""Rules that look at one coordinate at a time, in blocks of coordinates that stay in the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array

__all__ = ["middle", "nearest_to_median"]

_BLOCK = 2**18  # entries of a block


def middle(rows: Array, cut: int) -> NDArray[np.float64]:
    """[d] mean of each coordinate of [n, d] without its `cut` smallest and `cut` largest; 0 <= 2 cut < n."""
    n, d = rows.shape
    found = np.empty(d)
    step = max(1, _BLOCK // n)
    for begin in range(0, d, step):
        block = np.asarray(rows[:, begin : begin + step])
        if cut:
            # coordinates first, so that what is parted lies together in memory
            block = np.partition(block.T.copy(), (cut, n - cut - 1), axis=1).T
        found[begin : begin + step] = block[cut : n - cut].mean(axis=0, dtype=np.float64)
    return found


def nearest_to_median(rows: Array, count: int) -> NDArray[np.float64]:
    """[d] mean of the `count` values of each coordinate of [n, d] that lie nearest to its median.

    Of sorted values these are a window; of two equally near windows the lower, wherever the rows stand.
    """
    n, d = rows.shape
    found = np.empty(d)
    step = max(1, _BLOCK // n)
    for begin in range(0, d, step):
        block = np.sort(np.asarray(rows[:, begin : begin + step], np.float64), axis=0)
        median = (block[(n - 1) // 2] + block[n // 2]) / 2
        spans = [
            np.maximum(median - block[first], block[first + count - 1] - median)
            for first in range(n - count + 1)
        ]
        first = np.argmin(spans, axis=0)
        window = first[None] + np.arange(count)[:, None]
        found[begin : begin + step] = np.take_along_axis(block, window, axis=0).mean(axis=0)
    return found

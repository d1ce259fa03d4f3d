"""Rules that look at one coordinate at a time, in blocks of coordinates that stay in the cache.

The middle of n values is found by a sorting network: the same few hundred exchanges for all coordinates,
each a minimum and a maximum of two rows of a block, without branches. What a network does that nobody asks
for is left out. The exchanges are data to one compiled loop, so a new number of updates needs no compiler.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lazaretto.compiled import by_columns, compiled_for_finite, larger, smaller
from lazaretto.types import Array

__all__ = ["middle", "nearest_to_median"]

_BLOCK = 2**18  # entries of a block
_WIDE = 128  # columns of a block in a sorting network: with 100 updates 50 KB, which a core has to itself


@lru_cache(maxsize=64)
def _network(n: int, cut: int) -> NDArray[np.int64]:
    """[exchanges, 2]: pairs of rows; after them rows cut to n - cut - 1 hold the middle values in any order.

    The smaller value goes to the first of a pair. Batcher's merge exchange for any n (Knuth, The Art of
    Computer Programming 3, 5.2.2, Algorithm M), gone through backwards: an exchange stays where a value that
    it decides about matters. Two rows that both end in the sum, or both outside it, need not be told apart.
    """
    inside, exact = set(range(cut, n - cut)), set[int]()  # wanted in the sum; wanted at this very place
    kept = []
    for low, high in reversed(_merge_exchange(n)):
        pair = {low, high}
        if pair <= inside or not pair & (inside | exact):
            continue
        kept.append((low, high))
        inside, exact = inside - pair, exact | pair
    return np.array(kept[::-1], np.int64).reshape(-1, 2)


def _merge_exchange(n: int) -> list[tuple[int, int]]:
    """Pairs that, exchanged in turn, sort n values."""
    if n < 2:
        return []
    top = 1 << ((n - 1).bit_length() - 1)
    pairs, p = [], top
    while p:
        q, r, d = top, 0, p
        while d:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


@compiled_for_finite
def _middle(rows: Array, network: Array, cut: int, found: Array, begin: int, end: int) -> None:
    """found[begin:end] of `middle`."""
    n = rows.shape[0]
    block = np.zeros((n, _WIDE), rows.dtype)
    total = np.empty(_WIDE)
    for first in range(begin, end, _WIDE):
        width = min(_WIDE, end - first)
        for i in range(n):
            row, place = rows[i, first : first + width], block[i]
            for j in range(width):
                place[j] = row[j]
        for step in range(network.shape[0]):
            low, high = block[network[step, 0]], block[network[step, 1]]
            for j in range(_WIDE):
                a, b = low[j], high[j]
                low[j], high[j] = smaller(a, b), larger(a, b)
        total[:] = 0.0
        for i in range(cut, n - cut):
            row = block[i]
            for j in range(_WIDE):
                total[j] += row[j]
        for j in range(width):
            found[first + j] = total[j] / (n - 2 * cut)


def middle(rows: Array, cut: int) -> NDArray[np.float64]:
    """[d] mean of each coordinate of [n, d] without its `cut` smallest and `cut` largest; 0 <= 2 cut < n."""
    n, d = rows.shape
    found, network = np.empty(d), _network(n, cut)
    by_columns(lambda begin, end: _middle(rows, network, cut, found, begin, end), d)
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

"""Linear pictures of rows, exact in the ring: a count-sketch for inner products, projections for lengths.

Both are drawn from the coin that the aggregators toss after all shares are committed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.compiled import by_columns, compiled, cores, one_blas_thread
from lazaretto.secagg.drawn import derive, expand, signs
from lazaretto.secagg.ring import Ring
from lazaretto.types import Array

__all__ = ["Sketch", "projections", "sketch_of", "sketched"]


class Sketch(NamedTuple):
    """A balanced count-sketch: order [d], a permutation; minus [d] bool; columns k.

    Entry order[i], with its sign, is added to column i % k, so no column gets more than ⌈d / k⌉ entries and a
    squared length grows by that at most. Inner products are right on average; off by about √(2 / k) of
    the two lengths (Charikar, Chen, Farach-Colton 2002; Weinberger et al. 2009, arXiv:0902.2206).
    """

    order: NDArray[np.int64]
    minus: NDArray[np.bool_]
    columns: int


def sketch_of(coin: bytes, d: int, columns: int) -> Sketch | None:
    """The sketch to `columns` that a coin gives, or None where rows are to be taken as they are."""
    if columns == 0 or columns >= d:
        return None
    order = np.argsort(expand(derive(coin, "sketch order"), d), kind="stable")
    return Sketch(order, signs(derive(coin, "sketch signs"), d), columns)


def sketched(sketch: Sketch | None, rows: Ring) -> Ring:
    """[n, k] of rows [n, d] mod 2⁶⁴; linear, so the sketch of shares is a share of the sketch."""
    if sketch is None:
        return rows
    column = np.empty(len(sketch.order), np.int64)
    column[sketch.order] = np.arange(len(column)) % sketch.columns
    found = np.zeros((len(rows), sketch.columns), np.uint64)
    with ThreadPoolExecutor(min(cores(), max(len(rows), 1))) as pool:
        list(pool.map(lambda i: _sketch(rows, column, sketch.minus, found, i, i + 1), range(len(rows))))
    return found


@compiled
def _sketch(rows: Array, column: Array, minus: Array, found: Array, begin: int, end: int) -> None:
    for i in range(begin, end):
        for c in range(rows.shape[1]):
            if minus[c]:
                found[i, column[c]] -= rows[i, c]
            else:
                found[i, column[c]] += rows[i, c]


def projections(coin: bytes, rows: Ring, count: int) -> Ring:
    """[n, count]: of rows [n, d] on `count` random directions mod 2⁶⁴, of coefficients 1, -1 (¼ each) and 0.

    Taken as float64 products of halves of 32 bits, which are exact: sums of 2¹⁴ terms below 2³².
    """
    d = rows.shape[1]

    def part(begin: int, end: int) -> Ring:
        seeds = derive(coin, "projections", begin)
        bits = np.unpackbits(expand(seeds, (end - begin) * count // 32 + 1).view(np.uint8))
        pairs = bits[: 2 * (end - begin) * count].reshape(2, end - begin, count).astype(np.float64)
        direction = pairs[0] - pairs[1]
        block = rows[:, begin:end]
        low = (block & np.uint64(2**32 - 1)).astype(np.float64) @ direction
        high = (block >> np.uint64(32)).astype(np.float64) @ direction
        both = low.astype(np.int64).view(np.uint64), high.astype(np.int64).view(np.uint64)
        return np.asarray(both[0] + (both[1] << np.uint64(32)))

    with one_blas_thread():
        found = np.zeros((len(rows), count), np.uint64)
        for some in by_columns(part, d):
            found += some
    return found

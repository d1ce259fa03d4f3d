"""Linear pictures of rows, exact in the ring: a count-sketch for inner products, projections for lengths.

Both are drawn from the coin that the aggregators toss after all shares are committed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.compiled import by_columns, compiled, cores
from lazaretto.secagg.drawn import derive, expand, signs
from lazaretto.secagg.ring import Ring
from lazaretto.types import Array

__all__ = ["Sketch", "projections", "sketch_of", "sketched"]


class Sketch(NamedTuple):
    """A balanced count-sketch to k columns: column [d] of each entry, minus [d] bool its sign.

    Every run of k entries is turned by a random step and laid over the columns, so that no column gets more
    than ⌈d / k⌉ entries, and a squared length grows by that at most. Two entries of different runs meet with
    probability 1 / k, and signs are independent: inner products are right on average, off by about √(2 / k)
    of the two lengths (Charikar, Chen, Farach-Colton 2002; Weinberger et al. 2009, arXiv:0902.2206).
    """

    column: NDArray[np.int64]
    minus: NDArray[np.bool_]
    columns: int


def sketch_of(coin: bytes, d: int, columns: int) -> Sketch | None:
    """The sketch to `columns` that a coin gives, or None where rows are to be taken as they are."""
    if columns == 0 or columns >= d:
        return None
    runs = -(-d // columns)
    step = (expand(derive(coin, "sketch steps"), runs) % np.uint64(columns)).astype(np.int64)
    column = (np.arange(runs * columns) + np.repeat(step, columns)) % columns
    return Sketch(column[:d], signs(derive(coin, "sketch signs"), d), columns)


def sketched(sketch: Sketch | None, rows: Ring) -> Ring:
    """[n, k] of rows [n, d] mod 2⁶⁴; linear, so the sketch of shares is a share of the sketch."""
    if sketch is None:
        return rows
    found = np.zeros((len(rows), sketch.columns), np.uint64)
    with ThreadPoolExecutor(min(cores(), max(len(rows), 1))) as pool:
        list(
            pool.map(lambda i: _sketch(rows, sketch.column, sketch.minus, found, i, i + 1), range(len(rows)))
        )
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
    """[n, count]: of rows [n, d] on `count` random directions, of coefficients 1, -1 (¼ each) and 0."""

    def part(begin: int, end: int) -> Ring:
        drawn = expand(derive(coin, "projections", begin), -(-(end - begin) * count // 32))
        return np.asarray(_project(rows, drawn, begin, end, count))

    found = np.zeros((len(rows), count), np.uint64)
    for some in by_columns(part, rows.shape[1]):
        found += some
    return found


@compiled
def _project(rows: Array, drawn: Array, begin: int, end: int, count: int) -> Array:
    """Columns begin to end of `projections`; two bits to a coefficient."""
    width = 64  # columns whose masks stay in the cache
    found = np.zeros((rows.shape[0], count), np.uint64)
    some = np.empty((width, count), np.uint64)  # all ones where the coefficient is not 0
    minus = np.empty((width, count), np.uint64)  # all ones where it is -1
    negated = np.zeros(count, np.uint64)
    one, none = np.uint64(1), np.uint64(0)
    for start in range(begin, end, width):
        size = min(width, end - start)
        for c in range(size):
            for k in range(count):
                place = (start - begin + c) * count + k
                pair = drawn[place >> 5] >> np.uint64(2 * (place & 31))
                up, down = pair & one, (pair >> one) & one
                some[c, k] = none - (up ^ down)
                minus[c, k] = none - (down & (up ^ one))
                negated[k] += down & (up ^ one)
        for i in range(0, rows.shape[0] - 1, 2):
            for c in range(size):
                a, b = rows[i, start + c], rows[i + 1, start + c]
                for k in range(count):
                    found[i, k] += (a & some[c, k]) ^ minus[c, k]
                    found[i + 1, k] += (b & some[c, k]) ^ minus[c, k]
        if rows.shape[0] % 2:
            i = rows.shape[0] - 1
            for c in range(size):
                a = rows[i, start + c]
                for k in range(count):
                    found[i, k] += (a & some[c, k]) ^ minus[c, k]
    return found + negated  # -v is ~v + 1

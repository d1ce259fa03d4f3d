"""Inner products of updates, and what follows from them: lengths, angles, distances, weighted sums.

Everything is in float64, in blocks of columns that stay in the cache. `block @ block.T` is one symmetric
product (`dsyrk`), half the work of a general one, so that it costs about what one float32 product of all
rows with all rows would. float32 products were left out: their error, about 1e-6 of the lengths, would
hide distances between updates that are nearly the same. In float64 the squared distance of two rows of
length r is off by some 1e-16 · r² · √(columns of a block), so below 1e-13 · r² it is taken for 0: that is a
distance of 3e-7 · r, where float32 itself ends. So nothing has to be subtracted first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array

__all__ = [
    "combine",
    "cosines",
    "distances_to",
    "finite_rows",
    "inner_products",
    "lengths",
    "squared_distances",
]

_ROUNDING = 1e-13  # of squared lengths; see above
_BLOCK = 2**19  # entries of a block of columns: 4 MiB in float64


def _width(rows: int) -> int:
    """Columns of a block of so many rows."""
    return max(64, _BLOCK // max(rows, 1))


def _columns(rows: int, d: int) -> Iterator[slice]:
    """Blocks of columns, together all d."""
    step = _width(rows)
    return (slice(begin, begin + step) for begin in range(0, d, step))


def finite_rows(rows: Array) -> NDArray[np.bool_]:
    """[n] bool: which rows of [n, d] hold neither NaN nor infinity."""
    return np.array([bool(np.isfinite(row).all()) for row in rows], np.bool_)


def inner_products(rows: Array, public: Array | None = None) -> NDArray[np.float64]:
    """[n + p, n + p]: of finite rows [n, d], then of public rows [p, d]; exactly symmetric.

    float32 rows of any size fit: their squares end at 1e77 · d.
    """
    public = np.zeros((0, rows.shape[1])) if public is None else public
    total = len(rows) + len(public)
    found = np.zeros((total, total))
    buffer = np.empty((total, min(rows.shape[1], _width(total))))
    for part in _columns(total, rows.shape[1]):
        block = buffer[:, : rows[:, part].shape[1]]
        block[: len(rows)] = rows[:, part]
        block[len(rows) :] = public[:, part]
        found += block @ block.T
    return (found + found.T) / 2


def combine(weights: Array, rows: Array, public: Array | None = None) -> NDArray[np.float64]:
    """weights [m, n + p] · [rows [n, d]; public [p, d]]: [m, d], in float64."""
    count = len(rows)
    found = np.zeros((len(weights), rows.shape[1]))
    for part in _columns(count, rows.shape[1]):
        found[:, part] = weights[:, :count] @ rows[:, part].astype(np.float64)
        if public is not None and len(public):
            found[:, part] += weights[:, count:] @ public[:, part]
    return found


def distances_to(rows: Array, point: Array) -> NDArray[np.float64]:
    """[n]: distance of each row of [n, d] to a point [d]."""
    found = np.zeros(len(rows))
    for part in _columns(len(rows), rows.shape[1]):
        found += np.square(rows[:, part] - np.asarray(point[part], np.float64)).sum(axis=1)
    return np.sqrt(found)


def lengths(inner: Array) -> NDArray[np.float64]:
    """[n] Euclidean lengths from inner products [n, n]."""
    return np.asarray(np.sqrt(np.maximum(np.diagonal(inner), 0.0)))


def squared_distances(inner: Array) -> NDArray[np.float64]:
    """[n, n] from inner products [n, n]: symmetric, >= 0, 0 between rows that are equal to rounding."""
    square = np.diagonal(inner)
    both = square[:, None] + square[None]
    found = both - 2.0 * inner
    found = np.where(found > _ROUNDING * both, found, 0.0)
    np.fill_diagonal(found, 0.0)
    return found


def cosines(inner: Array) -> NDArray[np.float64]:
    """[n, n] cosines of angles, in [-1, 1], 1 from each row to itself; a zero row is at 0 to all others."""
    length = lengths(inner)
    unit = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    found: NDArray[np.float64] = np.clip(inner * unit[:, None] * unit[None], -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found

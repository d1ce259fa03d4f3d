"""Inner products of updates, and what follows from them: lengths, angles, distances, weighted sums.

Products are taken in float32 first, in short blocks of columns that are added up in float64, each
`block @ block.T` one symmetric product (`ssyrk`): half the work of a float32 product of all rows with all
rows. An inner product is then off by at most 2⁻¹⁴ of the product of the two lengths, whatever the numbers,
and by some 1e-7 of it for numbers without a pattern. That would hide the distances between updates that are
nearly the same, so every row that lies near to another (`_NEAR`) is taken again in float64, with all such
rows. Between those the squared distance of rows of length r is off by some 1e-16 · r² · √(columns of a
block), and below 1e-13 · r² it is taken for 0: a distance of 3e-7 · r, where float32 itself ends. Between
others it is right to 1.6 % whatever the numbers, to some 1e-5 without a pattern. So nothing has to be
subtracted first, and a row far out spoils nobody's distances but its own. Small matrices, and those with
lengths that float32 cannot square, are taken in float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lazaretto.compiled import by_columns, compiled, one_blas_thread
from lazaretto.types import Array

__all__ = [
    "combine",
    "cosines",
    "distances_to",
    "finite_rows",
    "inner_products",
    "lengths",
    "lengths_and_products",
    "row_lengths",
    "squared_distances",
]

_ROUNDING = 1e-13  # of squared lengths; see above
_NEAR = 2.0**-7  # a squared distance below so much of both squared lengths is taken again in float64
_SHORT = 2**10  # columns of a float32 block: its sums round at most 2¹⁰ times, by 2⁻²⁴ each
_LONG = 2**11  # columns of a float64 block
_SMALL = 2**20  # entries below which a matrix is taken in float64 and nothing is compiled (1 s a process)
_SQUARED = (1e-24, 1e24)  # squared lengths whose terms and sums float32 can hold
_BLOCK = 2**19  # entries of a block of columns: 4 MiB in float64


def _columns(rows: int, d: int) -> Iterator[slice]:
    """Blocks of columns, together all d."""
    step = max(64, _BLOCK // max(rows, 1))
    return (slice(begin, begin + step) for begin in range(0, d, step))


def row_lengths(rows: Array) -> NDArray[np.float64]:
    """[n] Euclidean lengths of rows [n, d]; of float32 rows finite exactly where the whole row is."""
    return distances_to(rows, np.zeros(rows.shape[1]))


def finite_rows(rows: Array) -> NDArray[np.bool_]:
    """[n] bool: which rows of [n, d] hold neither NaN nor infinity."""
    found = np.asarray(np.isfinite(row_lengths(rows)))
    for row in np.flatnonzero(~found):  # the square of a float64 may be infinite where it is not
        found[row] = np.isfinite(rows[row]).all()
    return found


def inner_products(rows: Array, public: Array | None = None) -> NDArray[np.float64]:
    """[n + p, n + p]: of finite rows [n, d], then of public rows [p, d]; exactly symmetric.

    float32 rows of any size fit: their squares end at 1e77 · d.
    """
    public = np.zeros((0, rows.shape[1])) if public is None else public
    found = _first_products(rows, public)
    return _products(rows, public, np.float64, _LONG) if found is None else _near_again(found, rows, public)


def lengths_and_products(
    rows: Array, public: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Lengths [n] of rows [n, d] that need not be finite, and inner products [n + p, n + p] if all are.

    As `row_lengths` and `inner_products`, but a large matrix is read once: lengths are those of float32 then.
    """
    found = _first_products(rows, public)
    if found is not None:
        return lengths(found)[: len(rows)], _near_again(found, rows, public)
    length = row_lengths(rows)
    fine = bool(np.isfinite(length).all())
    return length, _products(rows, public, np.float64, _LONG) if fine else None


def _first_products(rows: Array, public: Array) -> NDArray[np.float64] | None:
    """[n + p, n + p] from products in float32; None where these would not do."""
    if rows.size < _SMALL or rows.dtype != np.float32:
        return None
    found = _products(rows, public, np.float32, _SHORT)
    square = np.diagonal(found)
    fits = (_SQUARED[0] <= square) & (square <= _SQUARED[1]) | _zero_rows(rows, public, square)
    return found if fits.all() else None


def _near_again(found: NDArray[np.float64], rows: Array, public: Array) -> NDArray[np.float64]:
    """Products in float32, those of rows near to another taken in float64."""
    square = np.diagonal(found)
    both = square[:, None] + square[None]
    near = both - 2.0 * found < _NEAR * both
    np.fill_diagonal(near, False)
    again = np.flatnonzero(near.any(axis=1))
    if len(again):
        own, known = again[again < len(rows)], again[again >= len(rows)] - len(rows)
        some = rows if len(own) == len(rows) else rows[own]
        found[np.ix_(again, again)] = _products(some, public[known], np.float64, _LONG)
    return found


def _zero_rows(rows: Array, public: Array, square: Array) -> NDArray[np.bool_]:
    """[n + p]: which rows are zero; their squares [n + p] are 0 for rows so short that float32 ends, too."""
    found = np.asarray(square == 0)
    for i in np.flatnonzero(found):
        found[i] = not (rows[i] if i < len(rows) else public[i - len(rows)]).any()
    return found


def _products(rows: Array, public: Array, kind: type, width: int) -> NDArray[np.float64]:
    """What `inner_products` gives, from products of a kind of float over blocks of so many columns."""
    total = len(rows) + len(public)
    as_they_are = rows.dtype == kind and not len(public)

    def part(begin: int, end: int) -> NDArray[np.float64]:
        found = np.zeros((total, total))
        buffer: NDArray[np.floating] = np.empty((total, 0 if as_they_are else min(width, end - begin)), kind)
        with np.errstate(all="ignore"):  # what does not fit shows in the squares
            for first in range(begin, end, width):
                block = rows[:, first : min(first + width, end)]
                if not as_they_are:
                    copy = buffer[:, : block.shape[1]]
                    copy[: len(rows)] = block
                    copy[len(rows) :] = public[:, first : min(first + width, end)]
                    block = copy
                found += block @ block.T
        return found

    with one_blas_thread():
        found: NDArray[np.float64] = sum(by_columns(part, rows.shape[1]), np.zeros((total, total)))
    return (found + found.T) / 2


def combine(weights: Array, rows: Array, public: Array | None = None) -> NDArray[np.float64]:
    """weights [m, n + p] · [rows [n, d]; public [p, d]]: [m, d], in float64."""
    count = len(rows)
    found = np.zeros((len(weights), rows.shape[1]))
    if len(weights) == 1 and rows.size >= _SMALL:
        used = np.flatnonzero(weights[0, :count])
        by_columns(lambda begin, end: _weighted(weights[0], used, rows, found[0], begin, end), rows.shape[1])
    else:
        for part in _columns(count, rows.shape[1]):
            found[:, part] = weights[:, :count] @ rows[:, part].astype(np.float64)
    if public is not None and weights[:, count:].any():
        for part in _columns(count, rows.shape[1]):
            found[:, part] += weights[:, count:] @ public[:, part]
    return found


@compiled
def _weighted(weights: Array, used: Array, rows: Array, found: Array, begin: int, end: int) -> None:
    """found[begin:end] += Σ weights[i] · rows[i, begin:end] over the used rows, in their order."""
    width = 2048  # columns whose sums stay in the cache
    for first in range(begin, end, width):
        last = min(first + width, end)
        total = found[first:last]
        for i in used:
            weight, row = weights[i], rows[i, first:last]
            for j in range(last - first):
                total[j] += weight * row[j]


def distances_to(rows: Array, point: Array) -> NDArray[np.float64]:
    """[n]: distance of each row of [n, d] to a point [d], in float64."""
    point = np.asarray(point, np.float64)
    if rows.size < _SMALL:
        return np.asarray(np.sqrt(np.square(rows - point).sum(axis=1)))
    found = np.zeros(len(rows))
    for part in by_columns(lambda begin, end: _squares_to(rows, point, begin, end), rows.shape[1]):
        found += part
    return np.sqrt(found)


@compiled
def _squares_to(rows: Array, point: Array, begin: int, end: int) -> NDArray[np.float64]:
    """[n]: squared distances of rows [n, d] to a point [d] in columns begin to end."""
    width = min(2048, end - begin)  # as many sums run side by side and stay in the cache
    found, sums = np.zeros(rows.shape[0]), np.empty(width)
    for i in range(rows.shape[0]):
        sums[:] = 0.0
        for first in range(begin, end, width):
            last = min(first + width, end)
            row, goal = rows[i, first:last], point[first:last]
            for j in range(last - first):
                apart = row[j] - goal[j]
                sums[j] += apart * apart
        found[i] = sums.sum()
    return found


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

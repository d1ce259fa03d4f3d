"""Numbers in Z₂⁶⁴: fixed point, exact products of shares, exact sums of squares.

A float x stands for round(x · 2^bits) modulo 2⁶⁴. Products of rows are taken modulo 2⁶⁴ on shares and mean
what they say only where the integers behind them fit; `settings.check_fits` sees to that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.compiled import by_columns, compiled
from lazaretto.types import Array

__all__ = ["Ring", "Shares", "clipped", "combined", "products", "signed", "square_sum", "squares", "to_ring"]

Ring = NDArray[np.uint64]

_LIMB = 21  # bits: products of two limbs and 2²¹ of them added stay below 2⁶³
_ROWS = 2**21


class Shares(NamedTuple):
    """What one aggregator has of an array: A_j has shares j and j + 1 of the three that add up to it."""

    first: Ring
    second: Ring


def clipped(update: Array, clip: float) -> NDArray[np.float64]:
    """[d] float64, shortened to Euclidean length `clip` where it is longer."""
    row = np.asarray(update, np.float64)
    largest = float(np.abs(row).max(initial=0.0))
    length = largest * float(np.sqrt(np.square(row / largest).sum())) if largest > 0 else 0.0
    return row * (clip / length) if length > clip else row


def to_ring(values: Array, bits: int) -> Ring:
    """Finite floats below 2⁶³⁻ᵇⁱᵗˢ as fixed point, to the nearest (ties to even)."""
    return np.rint(np.asarray(values, np.float64) * 2.0**bits).astype(np.int64).view(np.uint64)


def signed(values: Ring) -> NDArray[np.int64]:
    """The representatives in [-2⁶³, 2⁶³)."""
    return np.ascontiguousarray(values).view(np.int64)


def products(shares: Shares) -> Ring:
    """[n, n]: this aggregator's addend a·aᵀ + a·bᵀ + b·aᵀ of X·Xᵀ mod 2⁶⁴, for rows a and b [n, d].

    Taken as (a + b)·(a + b)ᵀ − b·bᵀ: two symmetric products, half the work. The addends of the three
    aggregators add up to the inner products (Araki et al. 2016, https://eprint.iacr.org/2016/768).
    """
    n, d = shares.first.shape
    total = np.zeros((n, n), np.uint64)
    for part in by_columns(lambda begin, end: _part(shares.first, shares.second, begin, end), d):
        total += part
    return total + np.tril(total, -1).T


@compiled
def _part(first: Array, second: Array, begin: int, end: int) -> Array:
    """Lower half of (a + b)·(a + b)ᵀ − b·bᵀ over columns begin to end; sums wrap."""
    width = 512  # columns whose rows stay in the cache
    n = first.shape[0]
    found = np.zeros((n, n), np.uint64)
    both = np.empty((n, width), np.uint64)
    other = np.empty((n, width), np.uint64)
    for start in range(begin, end, width):
        size = min(width, end - start)
        for i in range(n):
            for c in range(size):
                other[i, c] = second[i, start + c]
                both[i, c] = first[i, start + c] + second[i, start + c]
        for i in range(n):
            for j in range(i + 1):
                total = np.uint64(0)
                for c in range(size):
                    total += both[i, c] * both[j, c] - other[i, c] * other[j, c]
                found[i, j] += total
    return found


def squares(shares: Shares) -> Ring:
    """[n]: this aggregator's addend of the rows' squared lengths, the diagonal of `products`."""
    found = np.zeros(len(shares.first), np.uint64)
    for some in by_columns(lambda a, b: _squares(shares.first, shares.second, a, b), shares.first.shape[1]):
        found += some
    return found


@compiled
def _squares(first: Array, second: Array, begin: int, end: int) -> Array:
    found = np.zeros(first.shape[0], np.uint64)
    for i in range(first.shape[0]):
        total = np.uint64(0)
        for c in range(begin, end):
            total += first[i, c] * (first[i, c] + second[i, c] + second[i, c])
        found[i] = total
    return found


def combined(weights: Ring, rows: Ring) -> Ring:
    """[d] = weights [n] · rows [n, d] mod 2⁶⁴."""
    found = np.zeros(rows.shape[1], np.uint64)
    by_columns(lambda begin, end: _weighted(weights, rows, found, begin, end), rows.shape[1])
    return found


@compiled
def _weighted(weights: Array, rows: Array, found: Array, begin: int, end: int) -> None:
    width = 2048
    for start in range(begin, end, width):
        stop = min(start + width, end)
        for i in range(rows.shape[0]):
            weight = weights[i]
            if weight != 0:
                for c in range(start, stop):
                    found[c] += weight * rows[i, c]


def square_sum(values: NDArray[np.int64]) -> int:
    """Σ v² over the integers, exactly, for |v| < 2⁶³."""
    total = 0
    for start in range(0, len(values), _ROWS):
        size = np.abs(values[start : start + _ROWS]).astype(np.uint64)
        limbs = [(size >> np.uint64(shift)) & np.uint64(2**_LIMB - 1) for shift in (0, _LIMB, 2 * _LIMB)]
        for i, left in enumerate(limbs):
            for j, right in enumerate(limbs):
                total += int((left * right).sum(dtype=np.uint64)) << (_LIMB * (i + j))
    return total

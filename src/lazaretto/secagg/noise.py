"""Discrete Gaussian noise, exactly sampled from cryptographic bits: no floating point in it.

Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010, Algorithms 1 to 3, for a whole σ, all samples
side by side: a discrete Laplace of scale σ is accepted with probability exp(-(|Y| - σ)² / (2σ²)). All
comparisons are between integers below 2⁶³.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.secagg.drawn import derive, expand

__all__ = ["discrete_gaussian"]

_SPARE = 2**63


def discrete_gaussian(seed: bytes, sigma: int, count: int) -> NDArray[np.int64]:
    """[count] integers with probabilities proportional to exp(-y² / (2σ²)).

    seed: 32 secret bytes. Raises InputError for a σ outside [1, 2²⁷).
    """
    if not 1 <= sigma < 2**27:
        raise InputError("noise takes a whole σ in its range", found=sigma, way_out="1 to 2^27 - 1")
    bits = _Bits(seed)
    found = np.zeros(count, np.int64)
    open_ = np.arange(count)
    while len(open_):
        drawn, fine = _laplace(bits, sigma, len(open_))
        # a draw 2³¹ away is accepted with probability below exp(-2⁷) at most, so it need not be tried
        apart = np.abs(np.abs(drawn) - sigma)
        accepted = fine & (apart < 2**31)
        accepted &= _exp_minus(bits, np.where(accepted, apart, 0) ** 2, 2 * sigma**2)
        found[open_[accepted]] = drawn[accepted]
        open_ = open_[~accepted]
    return found


class _Bits:
    """A stream of uniform words: the one object here that changes, and never leaves this file."""

    def __init__(self, seed: bytes) -> None:
        self._seed, self._block = seed, 0

    def words(self, count: int) -> NDArray[np.uint64]:
        self._block += 1
        return expand(derive(self._seed, "block", self._block), count)

    def below(self, limits: NDArray[np.int64]) -> NDArray[np.int64]:
        """Uniform in [0, limit) for limits in [1, 2⁶²]: words that would favour small ones are drawn anew."""
        bound = limits.astype(np.uint64)
        most = np.uint64(_SPARE) - np.uint64(_SPARE) % bound
        found = self.words(len(limits)) >> np.uint64(1)
        while (again := np.flatnonzero(found >= most)).size:
            found[again] = self.words(len(again)) >> np.uint64(1)
        return (found % bound).astype(np.int64)


def _exp_minus(bits: _Bits, top: NDArray[np.int64], bottom: int) -> NDArray[np.bool_]:
    """Events of probability exp(-top / bottom), top >= 0: e⁻¹ for each whole, then the rest."""
    alive = np.ones(len(top), np.bool_)
    whole, rest = top // bottom, top % bottom
    while (some := np.flatnonzero(alive & (whole > 0))).size:
        alive[some] = _exp_small(bits, np.ones(len(some), np.int64), 1)
        whole[some] -= 1
    some = np.flatnonzero(alive)
    alive[some] = _exp_small(bits, rest[some], bottom)
    return alive


def _exp_small(bits: _Bits, top: NDArray[np.int64], bottom: int) -> NDArray[np.bool_]:
    """Events of probability exp(-top / bottom), top <= bottom < 2⁵⁶: when top/(k·bottom) first fails."""
    first = np.zeros(len(top), np.int64)
    going, k = np.arange(len(top)), 1
    while going.size:
        went_on = bits.below(np.full(len(going), bottom * k, np.int64)) < top[going]
        first[going[~went_on]] = k
        going, k = going[went_on], k + 1
    return np.asarray(first % 2 == 1)


def _laplace(bits: _Bits, scale: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[count] draws, and which of them count: those that do are discrete Laplace of a whole scale."""
    low = bits.below(np.full(count, scale, np.int64))
    fine = _exp_small(bits, low, scale)
    wholes = np.zeros(count, np.int64)
    going = np.flatnonzero(fine)
    while going.size:
        going = going[_exp_small(bits, np.ones(len(going), np.int64), 1)]
        wholes[going] += 1
    size = low + scale * wholes
    negative = (bits.words(count) & np.uint64(1)).astype(np.bool_)
    return np.where(negative, -size, size), fine & ~(negative & (size == 0))

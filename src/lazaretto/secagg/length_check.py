"""Whether each row is as short as it must be, found out inside sharing: one bit per row is opened, no number.

One hostile entry of 2³² has the square 0 mod 2⁶⁴, so inner products alone prove no bound. Each row's
projections p on random directions, drawn after rows are committed, are shared among the three aggregators
like the rows. p + 2^β of an honest row lies in [0, 2^(β+1)): its upper bits are 0. The aggregators turn
the shares into shares of bits (an adder on words of 64 bits, side by side for all projections) and
multiply the negated upper bits of all of a row's projections together: 1 means "all short", and only that
is opened. 20 rounds of AND gates, each one word per projection, at most twice.

Why a long row is caught. If an entry, as a number in [-2⁶³, 2⁶³), is beyond 2·2^β, then whatever the other
entries and coefficients are, this one's coefficient (1, -1: ¼ each; 0: ½) leads to an allowed projection with
probability ½ at most. If none is, but the row is longer than 9·2^β, its projection is nearly Gaussian with
deviation length/√2: Berry and Esseen (constant .56, Shevtsova 2010, arXiv:1111.6554) give at most .48 for an
allowed one. So such a row passes 40 projections with probability at most 2⁻⁴⁰. Shorter rows do not wrap in
their inner products, which then say by themselves whether a row is longer than the clip.

Semi-honest aggregators; gates after Araki et al. 2016, https://eprint.iacr.org/2016/768, conversion after
Mohassel and Rindal 2018, https://eprint.iacr.org/2018/403; judging a norm by projections is the idea of PINE,
Rothblum et al. 2024, https://arxiv.org/abs/2311.10237.

Pure functions: `started`, then in each of `STAGES` stages `operands`, an AND gate of the two, and `after`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lazaretto.secagg.ring import Ring, Shares

__all__ = ["STAGES", "Memory", "after", "and_share", "operands", "started"]

_WIDTH = 64  # projections are filled up to so many, with ones that pass
_ONES = np.uint64(2**64 - 1)
_ADDER = 6  # levels for 64 bits
_HALVINGS = int(math.log2(_WIDTH))
STAGES = 2 + _ADDER + _HALVINGS + 6


class Memory(NamedTuple):
    """Shares between stages: which mean something depends on the stage. part: own share of a gate."""

    a: Shares
    b: Shares
    c: Shares
    holder: int
    bits: int
    part: Ring


def started(values: Shares, holder: int, bits: int) -> Memory:
    """Before the first stage: shares of projections [n, at most 64] at aggregator `holder`; bits is β.

    Each of the three addends is known to two aggregators, which is a sharing of its bits already.
    """
    missing = ((0, 0), (0, _WIDTH - values.first.shape[1]))
    values = Shares(np.pad(values.first, missing), np.pad(values.second, missing))
    offset = np.uint64(1) << np.uint64(bits)
    first = values.first + offset if holder == 0 else values.first
    second = values.second + offset if holder == 2 else values.second
    none = np.zeros_like(first)
    addends = [
        Shares(
            first if addend == holder else none,
            second if addend == (holder + 1) % 3 else none,
        )
        for addend in range(3)
    ]
    return Memory(addends[0], addends[1], addends[2], holder, bits, none)


def operands(stage: int, m: Memory) -> tuple[Shares, Shares]:
    """What is to be ANDed in a stage."""
    if stage == 0:  # the carries of three addends: ((a ^ b) & (a ^ c)) ^ a
        return _xor(m.a, m.b), _xor(m.a, m.c)
    if stage == 1:
        return m.a, m.b
    if stage < 2 + _ADDER:  # Kogge and Stone 1973: a generates, b propagates
        by = 1 << (stage - 2)
        return _stacked(m.b, m.b), _stacked(_left(m.a, by), _left(m.b, by))
    if stage < 2 + _ADDER + _HALVINGS:
        half = m.a.first.shape[1] // 2
        return _columns(m.a, slice(None, half)), _columns(m.a, slice(half, None))
    return m.a, _right(m.a, 32 >> (stage - 2 - _ADDER - _HALVINGS))


def after(stage: int, m: Memory, product: Shares) -> Memory:
    """The memory after a stage's gate. After the last, `a` [n, 1] holds 1 where a row is short."""
    if stage == 0:
        total = _xor(_xor(m.a, m.b), m.c)
        return m._replace(a=total, b=_left(_xor(product, m.a), 1))
    if stage == 1:
        both = _xor(m.a, m.b)
        return m._replace(a=product, b=both, c=both)
    if stage < 2 + _ADDER:
        generated, propagated = _unstacked(product)
        m = m._replace(a=_xor(m.a, generated), b=propagated)
        return m if stage < 1 + _ADDER else m._replace(a=_upper_negated(m))
    if stage == STAGES - 1:
        product = Shares(product.first & np.uint64(1), product.second & np.uint64(1))
    return m._replace(a=product)


def and_share(left: Shares, right: Shares, zero: Ring) -> Ring:
    """An aggregator's new first share of left & right; zero: its share of a fresh sharing of 0 by xor."""
    return np.asarray(
        (left.first & right.first) ^ (left.first & right.second) ^ (left.second & right.first) ^ zero
    )


def _upper_negated(m: Memory) -> Shares:
    """Of the sum: its bits above β negated, 1 below."""
    total = _xor(m.c, _left(m.a, 1))
    upper = _ONES << np.uint64(m.bits + 1)
    first, second = total.first & upper, total.second & upper
    return Shares(
        first ^ _ONES if m.holder == 0 else first,
        second ^ _ONES if m.holder == 2 else second,
    )


def _xor(left: Shares, right: Shares) -> Shares:
    return Shares(left.first ^ right.first, left.second ^ right.second)


def _left(value: Shares, by: int) -> Shares:
    return Shares(value.first << np.uint64(by), value.second << np.uint64(by))


def _right(value: Shares, by: int) -> Shares:
    return Shares(value.first >> np.uint64(by), value.second >> np.uint64(by))


def _columns(value: Shares, part: slice) -> Shares:
    return Shares(value.first[:, part], value.second[:, part])


def _stacked(above: Shares, below: Shares) -> Shares:
    return Shares(np.stack([above.first, below.first]), np.stack([above.second, below.second]))


def _unstacked(value: Shares) -> tuple[Shares, Shares]:
    return Shares(value.first[0], value.second[0]), Shares(value.first[1], value.second[1])

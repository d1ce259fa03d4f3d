"""Whether each row is a choice in every block, found out inside sharing: two numbers per block are opened.

A row is blocks of w entries. It is a choice where each block has a single 1 among zeros: then in every block
the entries add up to 1 and so do their squares, and nothing else is told of them. Over the integers the
converse holds, too: squares that add up to 1 leave one entry of 1 or -1, and the sum says which. Modulo 2⁶⁴
it does not, so rows are only judged after the length check (`lazaretto.secagg.length_check`), which leaves
none whose squares could wrap. And before their inner products are opened: a long false ballot would read the
others' answers in them.

To see by linear sums on shares whether a row is one-hot is the idea of Prio (Corrigan-Gibbs and Boneh 2017,
https://arxiv.org/abs/1703.06255), where a site proves it; here three aggregators multiply shares, after Araki
et al. 2016, https://eprint.iacr.org/2016/768.
"""

from __future__ import annotations

import numpy as np

from lazaretto.secagg.ring import Ring, Shares
from lazaretto.types import Array

__all__ = ["block_sums", "no_choice"]


def block_sums(shares: Shares, width: int) -> Ring:
    """[n, d / width, 2]: an aggregator's addends of the blocks' sums and sums of squares, of rows [n, d]."""
    found = np.empty((len(shares.first), shares.first.shape[1] // width, 2), np.uint64)
    for own, first, second in zip(found, *shares, strict=True):  # one by one: a temporary is as long as a row
        blocks, others = first.reshape(-1, width), second.reshape(-1, width)
        own[:, 0] = blocks.sum(axis=1, dtype=np.uint64)
        own[:, 1] = (blocks * (blocks + others + others)).sum(axis=1, dtype=np.uint64)
    return found


def no_choice(sums: Array) -> Array:
    """[n] bool: rows in which a block is no choice; sums [n, blocks, 2] opened."""
    return np.asarray((sums != 1).any(axis=(1, 2)))

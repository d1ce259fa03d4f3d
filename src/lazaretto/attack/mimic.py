"""Copies of one honest site."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge

from lazaretto.attack._sent import Matrix, alike, known
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["mimic"]


def mimic(row: Annotated[int, Ge(0)] | None = None) -> Attack:
    """All hostile sites send a copy of one honest update, so that this site counts f + 1 times.

    No rule can tell a copy from its original; it harms where sites differ. row: None copies, in every round
    anew, the update that lies farthest out along the direction in which honest updates differ most (the
    paper finds that direction over the first rounds and then keeps to one site); a number copies always the
    honest site at that place, modulo their number, and so depends on the order of the sites.
    Karimireddy, He and Jaggi 2022, arXiv:2006.09365.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if not len(own):
            return alike(np.zeros(np.shape(own)[1]), own)
        rows = known(honest, own)
        return alike(rows[_farthest(rows) if row is None else row % len(rows)], own)

    return Attack(name="mimic", kind="updates", knows="honest", craft=craft)


def _farthest(rows: Matrix) -> int:
    """Which of rows [h, d], h >= 1, lies farthest out along their first principal direction.

    Of equally far ones (with two rows both are) the first in the order of their numbers, so that the order of
    the sites does not matter.
    """
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    out = np.sqrt(max(values[-1], 0.0)) * np.abs(vectors[:, -1])  # |projection| of each row
    level = np.flatnonzero(out >= out.max() * (1 - 1e-9))
    return int(min(level, key=lambda place: tuple(rows[place])))

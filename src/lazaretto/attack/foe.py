"""Fall of empires: inner product manipulation."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt

from lazaretto.attack._sent import alike, known
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["foe"]


def foe(epsilon: Annotated[float, Gt(0)] = 3.0) -> Attack:
    """All hostile sites send the honest mean, turned round, times epsilon (inner product manipulation).

    A mean of all turns against the honest mean where epsilon exceeds h / f (2.3 with 30 % hostile sites).
    A small epsilon (0.1 to 0.5) stays near the honest updates and misleads rules that choose by distance,
    such as Krum. Xie et al. 2020, arXiv:1903.03936.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if not len(own):
            return alike(np.zeros(np.shape(own)[1]), own)
        return alike(-epsilon * known(honest, own).mean(axis=0), own)

    return Attack(name="foe", kind="updates", knows="honest", craft=craft)

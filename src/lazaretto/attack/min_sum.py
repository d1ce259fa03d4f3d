"""No farther from all honest updates together than the one of them that lies worst."""

from __future__ import annotations

import numpy as np

from lazaretto.attack._sent import alike, known
from lazaretto.attack._spread import Direction, deviation, squared_distances
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["min_sum"]


def min_sum(direction: Direction = "unit") -> Attack:
    """The update farthest from the honest mean whose squared distances sum to no more than an honest one's.

    mean + γ · direction with the largest γ such that its squared distances to the honest updates add up to
    the largest such sum of an honest one: closer in than `min_max`, so harder to see. γ is exact, as the sum
    is Σ‖mean − row‖² + h·γ²·‖direction‖². direction and edge cases as in `min_max`.
    Shejwalkar and Houmansadr 2021, NDSS, doi.org/10.14722/ndss.2021.24498.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if not len(own):
            return alike(np.zeros(np.shape(own)[1]), own)
        rows = known(honest, own)
        mean, along = rows.mean(axis=0), deviation(rows, direction)
        square = float(along @ along)
        if square == 0:
            return alike(mean, own)
        room = squared_distances(rows).sum(axis=1).max() - ((mean - rows) ** 2).sum()
        return alike(mean + np.sqrt(max(room, 0.0) / (len(rows) * square)) * along, own)

    return Attack(name="min_sum", kind="updates", knows="honest", craft=craft)

"""As far as the two honest updates that are farthest apart."""

from __future__ import annotations

import numpy as np

from lazaretto.attack._sent import alike, known
from lazaretto.attack._spread import Direction, deviation, squared_distances
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["min_max"]


def min_max(direction: Direction = "unit") -> Attack:
    """The update farthest from the honest mean with no honest one farther off than honest ones lie apart.

    mean + γ · direction with the largest γ such that its greatest distance to an honest update equals the
    greatest distance between two of them. The paper halves steps towards γ; each bound is a quadratic in
    γ, so here it is exact. direction: "unit" against the mean, "std" against the deviations, "sign" against
    the signs. The mean itself is sent where the direction is zero or all honest updates are equal.
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
        # ‖mean + γ·along − row‖² = away + 2γ·slope + γ²·square ≤ bound, for every row
        away, slope = ((mean - rows) ** 2).sum(axis=1), (mean - rows) @ along
        room = np.maximum(squared_distances(rows).max() - away, 0.0)
        reach = (np.sqrt(slope**2 + square * room) - slope) / square
        return alike(mean + reach.min() * along, own)

    return Attack(name="min_max", kind="updates", knows="honest", craft=craft)

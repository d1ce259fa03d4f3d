"""A little is enough."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import norm

from lazaretto.attack._sent import alike, known
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["alie", "largest_z"]


def largest_z(n: int, f: int) -> float:
    """How many standard deviations f of n sites may move and still look like the majority's middle.

    s = ⌊n/2 + 1⌋ − f honest sites have to be won over; z is the quantile of (h − s)/h of the normal
    distribution, h = n − f. With 24 of 50: s = 2, z = Φ⁻¹(24/26) = 1.43. Few hostile sites win over less
    than half: where the formula is below zero there is no room, and z is 0; also where h = 0.
    """
    honest = n - f
    if honest <= 0:
        return 0.0
    supporters = max(n // 2 + 1 - f, 1)
    share = (honest - supporters) / honest
    return max(float(norm.ppf(share)), 0.0) if share > 0 else 0.0


def alie(z: float | None = None, estimate: Literal["honest", "own"] = "honest") -> Attack:
    """All hostile sites send mean + z · standard deviation of the honest updates, coordinate by coordinate.

    Small enough to lie among honest updates, large enough to add up. z: None for `largest_z` of the sites
    that take part; a negative one moves the other way. With one or two hostile sites that is 0 and the mean
    is sent, with up to a tenth it is nearly so: give z then. estimate: from whose updates mean and deviation
    are taken; "own" is the paper's attacker, who knows those of the hostile sites alone, and needs two.
    Baruch et al. 2019, arXiv:1902.06156.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if not len(own):
            return alike(np.zeros(np.shape(own)[1]), own)
        rows = np.asarray(own, np.float64) if estimate == "own" else known(honest, own)
        far = largest_z(len(honest) + len(own), len(own)) if z is None else z
        return alike(rows.mean(axis=0) + far * rows.std(axis=0), own)

    return Attack(name="alie", kind="updates", knows=estimate, craft=craft)

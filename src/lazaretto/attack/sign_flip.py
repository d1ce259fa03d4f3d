"""The opposite of what was learned."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt

from lazaretto.attack._sent import sendable
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["sign_flip"]


def sign_flip(scale: Annotated[float, Gt(0)] = 1.0) -> Attack:
    """Each hostile site sends its own update turned round, times `scale`.

    With scale 1 its length gives nothing away; a larger one harms a mean more and is easier to see.
    Knows its own update only. Li et al. 2019 (RSA), arXiv:1811.03761.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        return sendable(-scale * np.asarray(own, np.float64))

    return Attack(name="sign_flip", kind="updates", knows="own", craft=craft)

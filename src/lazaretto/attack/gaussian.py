"""Noise."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt

from lazaretto.attack._sent import sendable
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["gaussian"]


def gaussian(scale: Annotated[float, Gt(0)] = 10.0) -> Attack:
    """Each hostile site sends Gaussian noise around zero, large beside its own update.

    Its standard deviation is `scale` times the root mean square of the numbers in that site's own update,
    so that one value suits models of any size; nothing is sent where that update is zero. Knows its own
    update only. Blanchard et al. 2017, arXiv:1703.02757 (there a fixed deviation of 200).
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        rows = np.asarray(own, np.float64)
        size = np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
        return sendable(scale * size * rng.standard_normal(rows.shape))

    return Attack(name="gaussian", kind="updates", knows="own", craft=craft)

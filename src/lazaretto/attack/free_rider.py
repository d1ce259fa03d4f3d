"""A share in the model without any work."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from lazaretto.attack._sent import sendable
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["free_rider"]


def free_rider(
    sends: Literal["previous", "zero"] = "previous", noise: Annotated[float, Ge(0)] = 0.1
) -> Attack:
    """Each hostile site sends nothing new: the last aggregate with a little noise, or zeros.

    noise: standard deviation as a share of the root mean square of the last aggregate; each site draws its
    own. In the first round there is no aggregate yet, and zeros are sent. It slows training down and turns
    no decision round: it is here to see whether it is noticed. Needs only what every site is told.
    Lin et al. 2019, arXiv:1911.12560; Fraboni et al. 2021, arXiv:2006.11901.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        shape = np.shape(own)
        if sends == "zero" or context.previous is None:
            return np.zeros(shape, np.float32)
        last = np.asarray(context.previous, np.float64)
        size = np.sqrt(np.mean(last**2))
        return sendable(last + noise * size * rng.standard_normal(shape))

    return Attack(name="free_rider", kind="updates", knows="own", craft=craft)

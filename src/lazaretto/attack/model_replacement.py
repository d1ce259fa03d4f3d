"""A backdoored update, boosted until it replaces the model."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from lazaretto.attack._sent import sendable
from lazaretto.attack.backdoor import backdoor
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.types import Array, Float

__all__ = ["model_replacement"]


def model_replacement(
    boost: Annotated[float, Gt(0)] | None = None,
    share: Annotated[float, Ge(0), Le(1)] = 0.5,
    features: tuple[int, ...] = (),
    value: Annotated[float, Ge(-6), Le(6)] = 3.0,
) -> Attack:
    """Hostile sites train on data with a trigger (as `backdoor`) and send that update times `boost`.

    boost: None for n / f, with which a plain mean of all n moves by the mean of the f hostile updates in full
    (what honest sites send comes on top, and is little late in training). The other options are those of
    `backdoor`. Knows its own update and how many sites take part. Bagdasaryan et al. 2020, arXiv:1807.00459.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        times = (len(honest) + len(own)) / max(len(own), 1) if boost is None else boost
        return sendable(times * np.asarray(own, np.float64))

    taught = backdoor(share=share, features=features, value=value)
    return Attack(
        name="model_replacement",
        kind="updates",
        knows="own",
        craft=craft,
        poison=taught.poison,
        trigger=taught.trigger,
    )

"""FedAvgM: momentum at the coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt

from lazaretto.types import Array, ServerOptimiser

__all__ = ["momentum"]


def momentum(
    learning_rate: Annotated[float, Gt(0)] = 0.3, decay: Annotated[float, Ge(0), Lt(1)] = 0.7
) -> ServerOptimiser:
    """FedAvgM: past mean updates go on working, each round `decay` times as strong.

    m ← decay · m + update, w ← w + learning_rate · m. In the long run an update moves the model by
    learning_rate / (1 − decay), 1 by default, as with `plain`. State: m [d], from 0.
    Hsu et al. 2019, arXiv:1909.06335.
    """

    def step(vector: Array, change: Array, state: Mapping[str, Array]) -> tuple[Array, dict[str, Any]]:
        moving = decay * state["momentum"] + change
        return (vector + learning_rate * moving).astype(np.float32), {"momentum": moving}

    return ServerOptimiser(name="momentum", start=lambda d: {"momentum": np.zeros(d)}, step=step)

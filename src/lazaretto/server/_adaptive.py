"""What FedAdam and FedYogi share: Algorithm 2 of Reddi et al. 2021, arXiv:2003.00295."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, Lt

from lazaretto.types import Array, ServerOptimiser

__all__ = ["Decay", "Positive", "adaptive"]

Positive: TypeAlias = Annotated[float, Gt(0)]
Decay: TypeAlias = Annotated[float, Ge(0), Lt(1)]


def adaptive(
    name: str, learning_rate: float, beta1: float, tau: float, second: Callable[[Array, Array], Array]
) -> ServerOptimiser:
    """m ← beta1 · m + (1 − beta1) · u, v ← second(v, u²), w ← w + learning_rate · m / (√v + tau).

    u is the mean update. m starts at 0 and v at tau². As in the paper, and unlike optax's adam and
    yogi, neither is corrected for its start: early rounds are short.
    """

    def start(d: int) -> dict[str, Any]:
        return {"first": np.zeros(d), "second": np.full(d, tau**2)}

    def step(vector: Array, change: Array, state: Mapping[str, Array]) -> tuple[Array, dict[str, Any]]:
        first = beta1 * state["first"] + (1 - beta1) * change
        spread = second(state["second"], change**2)
        moved = vector + learning_rate * first / (np.sqrt(spread) + tau)
        return moved.astype(np.float32), {"first": first, "second": spread}

    return ServerOptimiser(name=name, start=start, step=step)

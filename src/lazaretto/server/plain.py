"""The mean update is added as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from lazaretto.types import Array, ServerOptimiser

__all__ = ["plain"]


def plain(learning_rate: Annotated[float, Gt(0)] = 1.0) -> ServerOptimiser:
    """The mean update times `learning_rate` (> 0; 1 is FedAvg) is added. Keeps no state.

    McMahan et al. 2017, arXiv:1602.05629; the rate is η_g of arXiv:1910.06378.
    """

    def step(vector: Array, change: Array, state: Mapping[str, Array]) -> tuple[Array, dict[str, Any]]:
        return (vector + learning_rate * change).astype(np.float32), {}

    return ServerOptimiser(name="plain", start=lambda d: {}, step=step)

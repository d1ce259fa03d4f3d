"""Every site takes part."""

from __future__ import annotations

import numpy as np

from lazaretto.types import Array, Int, Selection

__all__ = ["everyone"]


def everyone() -> Selection:
    """Every site takes part in every round."""

    def choose(rng: np.random.Generator, sizes: Array, losses: Array, count: int) -> tuple[Int, Array]:
        return np.arange(len(sizes)), sizes

    return Selection(name="everyone", choose=choose, partial=False)

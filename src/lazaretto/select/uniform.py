"""Every site with the same chance."""

from __future__ import annotations

import numpy as np

from lazaretto.types import Array, Int, Selection

__all__ = ["uniform"]


def uniform() -> Selection:
    """Every site with the same chance; the rule weighs those chosen by their sizes.

    McMahan et al. 2017, arXiv:1602.05629. With weights by size the mean is a ratio of two sums that are
    unbiased each; it leans a little where few sites of very different size are drawn.
    """

    def choose(rng: np.random.Generator, sizes: Array, losses: Array, count: int) -> tuple[Int, Array]:
        chosen = np.sort(rng.choice(len(sizes), count, replace=False))
        return chosen, np.asarray(sizes)[chosen]

    return Selection(name="uniform", choose=choose)

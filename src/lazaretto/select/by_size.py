"""Large sites more often, and then with no more weight than others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array, Int, Selection

__all__ = ["by_size"]


def by_size() -> Selection:
    """A site's chance is proportional to its size; those chosen then weigh alike.

    So the sum of weighted updates is, over the draws, exactly the mean by size over all sites (with rule
    `mean` by size, and as long as nobody drops out). Systematic sampling in random order (Madow
    1949, Annals of Mathematical Statistics 20:333): no site twice. A site so large that its chance would
    exceed 1 is always chosen and weighs by its size. With replacement: scheme I of Li et al. 2020,
    arXiv:1907.02189.
    """

    def choose(rng: np.random.Generator, sizes: Array, losses: Array, count: int) -> tuple[Int, Array]:
        filled = np.maximum(np.asarray(sizes, np.float64), 1e-9 * np.max(sizes))  # an empty site can be drawn
        share = filled / filled.sum()
        chance = _chances(share, count)
        order = rng.permutation(len(share))
        ends = np.cumsum(chance[order])
        ends *= count / ends[-1]  # the sum is `count` but for rounding
        # the sites whose stretch, at most 1 long, holds one of the points u, u + 1, ..., u + count - 1
        places = np.searchsorted(ends, rng.random() + np.arange(count), side="right")
        chosen = np.sort(order[np.minimum(places, len(share) - 1)])
        return chosen, share[chosen] / chance[chosen]

    return Selection(name="by_size", choose=choose)


def _chances(share: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """[S] in (0, 1] summing to `count`: proportional to `share`, those that would exceed 1 set to 1."""
    chance = np.minimum(count * share, 1.0)
    for _ in range(len(share)):
        certain = chance >= 1.0
        rest = share[~certain].sum()
        left = count - np.count_nonzero(certain)
        if rest <= 0:
            break
        new = np.where(certain, 1.0, share * (left / rest))
        if (new <= 1.0).all():
            return new
        chance = np.minimum(new, 1.0)
    return chance

"""Power of choice: of some candidates those with the largest loss."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge

from lazaretto.types import Array, Int, Selection

__all__ = ["by_loss"]


def by_loss(candidates: Annotated[float, Ge(1)] = 2.0) -> Selection:
    """Of some candidates, drawn by size, those with the largest last loss; all weigh alike.

    candidates: how many are drawn for each site that is chosen, >= 1 (1 draws by size alone). The loss is the
    one of the site's last training, which the coordinator knows from its report, so nothing more is
    sent; a site that never reported comes first. Quick where sites differ, at the price of a mean that leans
    towards sites with a large loss. Cho et al. 2020, arXiv:2010.01243 (the variant rpow-d).
    """

    def choose(rng: np.random.Generator, sizes: Array, losses: Array, count: int) -> tuple[Int, Array]:
        sizes = np.asarray(sizes, np.float64)
        filled = np.maximum(sizes, 1e-9 * sizes.max())  # an empty site comes last, but can be drawn
        drawn = min(len(sizes), max(count, round(candidates * count)))
        some = rng.choice(len(sizes), drawn, replace=False, p=filled / filled.sum())
        known = np.where(np.isnan(losses), np.inf, np.asarray(losses, np.float64))
        worst = some[np.argsort(-known[some], kind="stable")[:count]]
        return np.sort(worst), np.ones(count)

    return Selection(name="by_loss", choose=choose)

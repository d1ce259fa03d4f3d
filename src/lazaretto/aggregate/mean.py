"""Federated averaging."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lazaretto.errors import PlanError
from lazaretto.types import Array, Rule

__all__ = ["mean"]


def mean(weighted: Literal["equal", "size"] = "size") -> Rule:
    """Mean of the updates, by number of training steps (FedAvg) or every site equally.

    y = Σ sᵢ xᵢ / Σ sᵢ. McMahan et al. 2017, https://arxiv.org/abs/1602.05629. Sees the sum only; tolerates no
    hostile site. Raises PlanError for another weighting.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(mean("equal"), [[0.0, 0.0], [1.0, 2.0], [8.0, 4.0]]).round(3).tolist()
    [3.0, 2.0]
    """
    if weighted not in ("equal", "size"):
        raise PlanError("rule 'mean': unknown weighting", found=weighted, way_out="'equal' or 'size'")

    def weigh(sizes: Array) -> Array:
        raw = np.asarray(sizes, np.float64)
        raw = raw if weighted == "size" else (raw > 0).astype(np.float64)
        return raw / raw.sum()

    return Rule(
        name="mean",
        sees="sum",
        weigh=weigh,
        tolerates=lambda n: 0,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 if weighted == "size" else 1.0 / n,
    )

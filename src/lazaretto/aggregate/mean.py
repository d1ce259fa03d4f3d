"""Federated averaging."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lazaretto.errors import PlanError
from lazaretto.types import Array, Rule

__all__ = ["mean"]


def mean(weighted: Literal["equal", "size"] = "size") -> Rule:
    """Mean of the updates, by number of training steps (FedAvg) or every site equally.

    McMahan et al. 2017, arXiv:1602.05629. Sees the sum only; tolerates no hostile site.
    """
    if weighted not in ("equal", "size"):
        raise PlanError("rule 'mean': unknown weighting", found=weighted, way_out="'equal' or 'size'")

    def weigh(sizes: Array) -> Array:
        raw = np.asarray(sizes, np.float64)
        raw = raw if weighted == "size" else (raw > 0).astype(np.float64)
        return raw / raw.sum()

    return Rule(name="mean", sees="sum", weigh=weigh, tolerates=lambda n: 0)

"""One round at the coordinator: updates in, their mean out, for the server's optimiser to use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.types import Float

__all__ = ["mean_update"]


def mean_update(updates: Float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ weights[i] · updates[i], [d], summed in float64 in the order of the sites.

    updates [n, d], weights [n] summing to 1. An update with NaN or infinity is refused: InputError
    names its position.
    """
    bad = np.flatnonzero(~np.isfinite(updates).all(axis=1))
    if bad.size:
        raise InputError(
            f"the update of site {bad[0]} is not finite",
            found=f"{int((~np.isfinite(updates[bad[0]])).sum())} entries",
            way_out="lower train.learning_rate",
        )
    mean: NDArray[np.float64] = weights @ updates.astype(np.float64)
    return mean

"""One round at the coordinator: updates in, a new global vector out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.types import Float

__all__ = ["server_step"]


def server_step(vector: Float, updates: Float, weights: NDArray[np.float64]) -> Float:
    """vector [d] + Σ weights[i] · updates[i], summed in float64 in the order of the sites.

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
    return (vector + weights @ updates.astype(np.float64)).astype(np.float32)

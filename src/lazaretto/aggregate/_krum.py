"""Krum's score, which three rules use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array

__all__ = ["krum_scores"]


def krum_scores(squares: Array, f: int) -> NDArray[np.float64]:
    """[n]: sum of the squared distances [n, n] of each row to its n - f - 2 nearest others.

    At least to one, where there is another; a single row has score 0.
    """
    n = len(squares)
    others = np.sort(squares + np.diag(np.full(n, np.inf)), axis=1)
    return np.asarray(others[:, : min(max(n - f - 2, 1), n - 1)].sum(axis=1))

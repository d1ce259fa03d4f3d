"""What min_max and min_sum share: directions to deviate in, and how far honest updates lie apart."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from lazaretto.attack._sent import Matrix

__all__ = ["Direction", "deviation", "squared_distances"]

Direction: TypeAlias = Literal["unit", "std", "sign"]


def deviation(rows: Matrix, direction: Direction) -> Matrix:
    """[d] against the mean of rows [h, d], h >= 1: as the paper's "inverse" unit vector, std and sign.

    Zero where the mean (for "std": the spread) is zero.
    """
    mean: Matrix = rows.mean(axis=0)
    along: Matrix = mean
    if direction == "std":
        along = rows.std(axis=0)
    elif direction == "sign":
        along = np.sign(mean)
    elif mean.any():
        along = mean / np.linalg.norm(mean)
    return -along


def squared_distances(rows: Matrix) -> Matrix:
    """[h, h] squared Euclidean distances between rows [h, d], none below zero, zeros on the diagonal."""
    centred = rows - rows.mean(axis=0)
    gram = centred @ centred.T
    own = np.diag(gram)
    squared: Matrix = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(squared, 0.0)
    return squared

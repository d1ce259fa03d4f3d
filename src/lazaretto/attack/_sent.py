"""What attacks on updates share: whose updates stand for the honest ones, and what can be sent."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Array, Float

__all__ = ["LARGEST", "Matrix", "alike", "known", "sendable"]

Matrix: TypeAlias = NDArray[np.float64]

# Sums of squares of a million such numbers still fit float32: what is crafted reaches a rule as a number.
LARGEST = 1e12


def known(honest: Array, own: Array) -> Matrix:
    """[h, d] the honest updates; where there is no honest site, the hostile sites' own stand in for them."""
    rows: Matrix = np.asarray(honest if len(honest) else own, np.float64)
    return rows


def sendable(updates: Any) -> Float:
    """The same shape in float32, each number within ± LARGEST, 0 for what is none."""
    numbers = np.nan_to_num(np.asarray(updates, np.float64), nan=0.0)  # infinity: the largest, then cut
    sent: Float = np.clip(numbers, -LARGEST, LARGEST).astype(np.float32)
    return sent


def alike(update: Any, own: Array) -> Float:
    """[f, d]: every hostile site sends the same update [d]."""
    sent: Float = np.repeat(sendable(update)[None], len(own), axis=0)
    return sent

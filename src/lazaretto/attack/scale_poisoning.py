"""Counts that stretch everyone's scaling."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lazaretto.attack_types import Attack
from lazaretto.types import Int

__all__ = ["scale_poisoning"]


def scale_poisoning(end: Literal["top", "bottom", "both"] = "top") -> Attack:
    """A hostile site says that all its values, of every feature, lie in the outermost bucket.

    It keeps to the cap on what a site may send, so nothing refuses it. Scaling divides by half the range from
    the 5th to the 95th percentile: hostile sites that are more than a twentieth (with "both": a tenth) of all
    move a percentile to the end of the buckets, and honest values shrink to nothing beside it.
    Ours: an attack on the agreement in `lazaretto.data.scaling`.
    """

    def counts(own: Int, total: int, rng: np.random.Generator) -> Int:
        said = np.zeros_like(own)
        low = {"top": 0, "bottom": total, "both": total // 2}[end]
        said[:, 0] = low
        said[:, -1] += total - low
        return said

    return Attack(name="scale_poisoning", kind="scaling", knows="own", counts=counts)

"""Labels turned round."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from lazaretto.attack_types import Attack
from lazaretto.types import Float, Int

__all__ = ["label_flip"]


def label_flip(share: Annotated[float, Ge(0), Le(1)] = 1.0) -> Attack:
    """In a share of a hostile site's streams attacked steps are labelled normal, and normal ones attacked.

    The number of streams is rounded up. Normal steps of a stream all get one family, drawn with the same
    chance each; with no family at all (K = 0) everything is labelled normal. Values stay as they are.
    Tolpegin et al. 2020, arXiv:2007.08432.
    """

    def poison(x: Float, y: Int, kinds: int, rng: np.random.Generator) -> tuple[Float, Int]:
        family = rng.integers(1, kinds + 1, len(y)) if kinds else np.zeros(len(y), np.int64)
        lied = np.zeros(len(y), np.bool_)
        lied[rng.permutation(len(y))[: int(np.ceil(share * len(y)))]] = True
        turned = np.where(y > 0, 0, family[:, None])
        return x.copy(), np.where(lied[:, None], turned, y)

    return Attack(name="label_flip", kind="data", knows="own", poison=poison)

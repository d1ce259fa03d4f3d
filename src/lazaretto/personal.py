"""Which parameters of a model stay at their site."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import PlanError
from lazaretto.parameters import shapes_of
from lazaretto.types import Algorithm, Model

__all__ = ["large_layers", "personal_mask"]

_LARGE = 0.05  # of all that is shared: smaller ones have too few numbers to tell sites apart by


def personal_mask(algorithm: Algorithm, model: Model, features: int, kinds: int) -> NDArray[np.bool_] | None:
    """[d] bool, True where an entry of the model's flat vector stays at its site; None if all are common.

    Raises PlanError where the algorithm keeps something at the sites that this model does not have, and where
    nothing would be left to share.
    """
    if algorithm.personal is None:
        return None
    leaves = [
        np.full(leaf.size, algorithm.personal(_names(path)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes_of(model, features, kinds))
    ]
    mask = np.concatenate(leaves)
    if not mask.any():
        raise PlanError(
            f"federate.algorithm: '{algorithm.name}' finds nothing to keep at the sites",
            found=f"model '{model.name}' has no such layer",
            way_out="choose another model or algorithm, or other layers in federate.options",
        )
    if mask.all():
        raise PlanError(
            f"federate.algorithm: '{algorithm.name}' leaves nothing to share",
            found=f"all of model '{model.name}'",
            way_out="name fewer layers in federate.options",
        )
    return mask


def large_layers(
    model: Model, features: int, kinds: int, personal: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, int], ...]:
    """(begin, end) in a vector of what is shared: arrays of parameters that hold a twentieth of it or more.

    personal: [d] as `personal_mask` gives it. () where one array is all that is shared.
    """
    sizes = [int(leaf.size) for leaf in jax.tree.leaves(shapes_of(model, features, kinds))]
    ends = np.cumsum(sizes)
    shared = np.ones(int(ends[-1]), np.bool_) if personal is None else ~personal
    counts = [int(shared[end - size : end].sum()) for size, end in zip(sizes, ends, strict=True)]
    upto = np.cumsum(counts)
    found = [
        (int(end) - count, int(end))
        for count, end in zip(counts, upto, strict=True)
        if count >= _LARGE * upto[-1]
    ]
    return () if len(found) < 2 else tuple(found)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A path of JAX as names and places: ("top", "convs", "0", "w")."""
    return tuple(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)

"""A model's parameters: their shapes, how many there are, and one flat vector of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from lazaretto.types import Array, Model

__all__ = ["parameter_count", "shapes_of", "unravel_of"]


def shapes_of(model: Model, features: int, kinds: int) -> Any:
    """The tree {"bottom", "top"} of parameters as shapes and types; nothing is computed."""
    return jax.eval_shape(lambda key: model.init(key, features, kinds), jax.random.key(0))


def unravel_of(model: Model, features: int, kinds: int) -> Callable[[Array], Any]:
    """The function from a flat vector [d] to the model's parameters."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes_of(model, features, kinds))
    return ravel_pytree(zeros)[1]


def parameter_count(model: Model, features: int, kinds: int) -> int:
    """d, the length of the model's flat vector."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model, features, kinds)))

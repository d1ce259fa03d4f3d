"""What the readings of a stream so far come to, variable by variable; nothing in it is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt

from lazaretto.types import Array, Part

__all__ = ["KEPT", "PIECES", "SUMMARIES", "Layout", "parts_of", "risen", "summaries", "variables_of"]

# (begin, end of values, end) of each modality's columns, as `types.Part`
Layout: TypeAlias = tuple[tuple[Annotated[int, Ge(0)], Annotated[int, Gt(0)], Annotated[int, Gt(0)]], ...]

_SPREAD = 2.5  # brings scaled readings to a standard deviation of about 1
SUMMARIES = 8
KEPT = 6  # what is kept of each variable from step to step
_KNOTS = (-2.5, -1.0, -0.3, 0.3, 1.0, 2.5)  # in standard deviations
_USUAL = (0.945, 0.737, 0.5, 0.263, 0.055)  # how far each piece has risen on average for a normal variable
_LEAST = 1e-3  # of a variance, below which its root is mostly rounding
PIECES = len(_KNOTS) - 1


def parts_of(layout: Layout, features: int) -> tuple[Part, ...]:
    """The modalities of a layout; of () one plain one, of all columns."""
    return tuple(Part(*part) for part in layout) or (Part(0, features, features),)


def variables_of(parts: Sequence[Part]) -> int:
    """How many variables the modalities have together."""
    return sum(part.values - part.begin for part in parts)


def risen(parts: Sequence[Part], x: Array, state: Array) -> tuple[Array, Array]:
    """[B, T, 8, V, 5] how far each of eight summaries of each variable has risen through each of five pieces.

    x: [B, T, F], scaled. state: [B, 6, V], zeros at the start; also the next one. Piecewise linear encoding
    (Gorishniy et al. 2022, arXiv:2203.05556), less what is usual.
    """
    values, read = _readings(parts, x)
    seen, state = summaries(_SPREAD * values, read, state)
    return _pieces(seen), state


def _readings(parts: Sequence[Part], x: Array) -> tuple[Array, Array]:
    """Values [B, T, V] of all modalities, and where one was read; a modality that is not there has none."""
    values, read = [], []
    for at, part in enumerate(parts):
        own = x[..., part.begin : part.values]
        here = jnp.ones_like(own)
        if part.end > part.values:
            here = x[..., part.values : 2 * part.values - part.begin]
        if len(parts) > 1:
            here = here * (x[..., parts[-1].end + at, None] > 0)
        values.append(own)
        read.append(here)
    return jnp.concatenate(values, axis=-1), jnp.concatenate(read, axis=-1)


def summaries(x: Array, read: Array, state: Array) -> tuple[Array, Array]:
    """[B, T, 8, V] summaries of what was read so far, this step included; of what never was all 0 but two.

    state: [B, 6, V], of what was read: how often, sum and sum of squares less the first, smallest, largest,
    first. Nothing is learned, so no gradient passes.
    """
    many, total, squares, low, high, first = (state[:, None, row] for row in range(KEPT))
    begun = many > 0
    there = read > 0
    at = jnp.argmax(there, axis=1, keepdims=True)
    new = jnp.take_along_axis(x, at, axis=1)
    first = jnp.where(begun, first, jnp.where(there.any(axis=1, keepdims=True), new, 0.0))
    many = many + jnp.cumsum(there, axis=1)
    # from the first reading: sums of squares lose less where readings are alike
    apart = jnp.where(there, x - first, 0.0)
    total = total + jnp.cumsum(apart, axis=1)
    squares = squares + jnp.cumsum(apart * apart, axis=1)
    least = jax.lax.cummin(jnp.where(there, x, jnp.inf), axis=1)
    most = jax.lax.cummax(jnp.where(there, x, -jnp.inf), axis=1)
    some = many > 0
    low = jnp.where(some, jnp.minimum(jnp.where(begun, low, jnp.inf), least), 0.0)
    high = jnp.where(some, jnp.maximum(jnp.where(begun, high, -jnp.inf), most), 0.0)
    mean = total / jnp.maximum(many, 1.0)
    variance = jnp.maximum(squares / jnp.maximum(many, 1.0) - mean * mean, 0.0)
    spread = jnp.where(some, jnp.sqrt(variance + _LEAST), 0.0)
    mean = jnp.where(some, mean + first, 0.0)  # what is read first is not known before
    last = jnp.where(some, x, 0.0)
    change = jnp.where(some, x - first, 0.0)
    known = jnp.where(some, 1.0, -1.0)
    out = jnp.stack([mean, spread, low, high, jnp.log1p(many) - 1.5, last, change, known], axis=2)
    kept = jnp.stack([v[:, -1] for v in (many, total, squares, low, high, first)], axis=1)
    return jax.lax.stop_gradient(out), jax.lax.stop_gradient(kept)


def _pieces(x: Array) -> Array:
    """[...] -> [..., 5]: how far x has risen through each piece between two knots, less what is usual."""
    knots = jnp.asarray(_KNOTS)
    risen = (x[..., None] - knots[:-1]) / (knots[1:] - knots[:-1])
    return jnp.clip(risen, 0.0, 1.0) - jnp.asarray(_USUAL)

"""A readable model: a curve for each summary of each variable, and their sum. For records; U-shaped."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt

from lazaretto.models._layers import dense, dense_init
from lazaretto.types import Array, Middle, Model, Outputs, Part

__all__ = ["additive"]

_SPREAD = 2.5  # brings scaled readings to a standard deviation of about 1
_KNOTS = (-2.5, -1.0, -0.3, 0.3, 1.0, 2.5)  # in standard deviations
_USUAL = (0.945, 0.737, 0.5, 0.263, 0.055)  # how far each piece has risen on average for a normal variable
_LEAST = 1e-3  # of a variance, below which its root is mostly rounding
_SUMMARIES = 8
_KEPT = 6  # what is kept of each variable from step to step


def additive(
    layout: tuple[tuple[Annotated[int, Ge(0)], Annotated[int, Gt(0)], Annotated[int, Gt(0)]], ...] = (),
) -> Model:
    """The sum over variables of curves that are linear by pieces; of each variable, eight summaries so far.

    A generalised additive model (Hastie and Tibshirani 1986, https://doi.org/10.1214/ss/1177013604), whose
    parts can be looked at one by one. On the device: mean, standard deviation, smallest and largest of what
    was read since the stream began, how often, the last reading, how far it is from the first, and whether
    there was one; each through five pieces (Gorishniy et al. 2022, arXiv:2203.05556), weighed and added up to
    one number per variable, which crosses the cut. At the site: their weighted sum, which goes back to the
    labels. Some 40 weights a variable: few enough for some hundred stays at a site, and for noise.

    layout: (begin, end of values, end) of each modality's columns, as `types.Part`; filled in from the data.
    () takes all columns as one plain modality, in which every step is a reading.
    """
    given = tuple(Part(*part) for part in layout)

    def of(features: int) -> tuple[Part, ...]:
        return given or (Part(0, features, features),)

    def variables(features: int) -> int:
        return sum(part.values - part.begin for part in of(features))

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        first, second = jax.random.split(key)
        many, pieces = variables(features), len(_KNOTS) - 1
        curves = 0.01 * jax.random.normal(first, (_SUMMARIES, many, pieces))
        return {
            "bottom": {"curves": curves, "offset": jnp.zeros(())},
            "top": {"gain": jnp.ones(many), "kinds": dense_init(second, many, kinds)},
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return jnp.zeros((batch, _KEPT, variables(features))), ()

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        values, read = _readings(of(x.shape[-1]), x)
        summaries, state = _summaries(_SPREAD * values, read, state)
        risen = _pieces(summaries)
        return jnp.einsum("btsvp,svp->btv", risen, params["curves"]), state

    def top(params: Any, h: Array, state: Any) -> tuple[Middle, Any]:
        total = (h * params["gain"]).sum(axis=-1, keepdims=True)
        return Middle(jnp.concatenate([total, dense(params["kinds"], h)], axis=-1)), state

    def head(params: Any, sent: Array) -> Outputs:
        return Outputs(sent[..., 0] + params["offset"], sent[..., 1:], sent)

    return Model(name="additive", init=init, start=start, bottom=bottom, top=top, head=head)


def _readings(parts: tuple[Part, ...], x: Array) -> tuple[Array, Array]:
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


def _summaries(x: Array, read: Array, state: Array) -> tuple[Array, Array]:
    """[B, T, 8, V] summaries of what was read so far, this step included; of what never was all 0 but two.

    state: [B, 6, V], of what was read: how often, sum and sum of squares less the first, smallest, largest,
    first. Nothing is learned, so no gradient passes.
    """
    many, total, squares, low, high, first = (state[:, None, row] for row in range(_KEPT))
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

"""A readable model: a curve for each summary of each variable, and their sum. For records; U-shaped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models._layers import dense, dense_init
from lazaretto.models._summaries import KEPT, PIECES, SUMMARIES, Layout, parts_of, risen, variables_of
from lazaretto.types import Array, Middle, Model, Outputs

__all__ = ["additive"]


def additive(layout: Layout = ()) -> Model:
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

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        first, second = jax.random.split(key)
        many = variables_of(parts_of(layout, features))
        curves = 0.01 * jax.random.normal(first, (SUMMARIES, many, PIECES))
        return {
            "bottom": {"curves": curves, "offset": jnp.zeros(())},
            "top": {"gain": jnp.ones(many), "kinds": dense_init(second, many, kinds)},
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return jnp.zeros((batch, KEPT, variables_of(parts_of(layout, features)))), ()

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        seen, state = risen(parts_of(layout, x.shape[-1]), x, state)
        return jnp.einsum("btsvp,svp->btv", seen, params["curves"]), state

    def top(params: Any, h: Array, state: Any) -> tuple[Middle, Any]:
        total = (h * params["gain"]).sum(axis=-1, keepdims=True)
        return Middle(jnp.concatenate([total, dense(params["kinds"], h)], axis=-1)), state

    def head(params: Any, sent: Array) -> Outputs:
        return Outputs(sent[..., 0] + params["offset"], sent[..., 1:], sent)

    return Model(name="additive", init=init, start=start, bottom=bottom, top=top, head=head)

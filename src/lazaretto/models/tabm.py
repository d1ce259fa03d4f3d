"""Many small networks in one, on summaries of each variable. For records; U-shaped."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from lazaretto.models._layers import Size, dense, dense_init
from lazaretto.models._summaries import KEPT, PIECES, SUMMARIES, Layout, parts_of, risen, variables_of
from lazaretto.types import Array, Middle, Model, Outputs

__all__ = ["tabm"]

_SMALLER = 4.0  # so much log-odds are divided by to cross a cut, which clips at a few units


def tabm(
    members: Annotated[int, Ge(1), Le(256)] = 16,
    embedding: Annotated[int, Ge(1), Le(64)] = 4,
    hidden: Size = 64,
    layout: Layout = (),
) -> Model:
    """`members` networks that share their weights, and whose mean log-odds are the score.

    TabM (Gorishniy et al. 2024, arXiv:2410.24210). On the device: eight summaries of each variable so far
    (as `additive`), each through five pieces, weighed and added up to `embedding` numbers a variable, which
    cross the cut. At the site: each member turns the signs of some of them, by a pattern of its own that is
    learned on, then two layers of `hidden` that all share but for their offsets, and a sum of its own. Every
    member learns by itself: the loss is the mean of theirs, not that of their mean. Their log-odds go back to
    the labels.

    layout: (begin, end of values, end) of each modality's columns, as `types.Part`; filled in from the data.
    () takes all columns as one plain modality, in which every step is a reading.
    """

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 6)
        many = variables_of(parts_of(layout, features))
        width, inputs = many * embedding, SUMMARIES * PIECES
        return {
            "bottom": {
                "embed": jax.random.normal(keys[0], (SUMMARIES, many, PIECES, embedding)) / inputs**0.5,
                "offset": jnp.zeros(members),
            },
            "top": {
                "signs": jax.random.rademacher(keys[1], (members, width)).astype(jnp.float32),
                "first": jax.random.normal(keys[2], (width, hidden)) * (2.0 / width) ** 0.5,
                "first_offset": jnp.zeros((members, hidden)),
                "second": jax.random.normal(keys[3], (hidden, hidden)) * (2.0 / hidden) ** 0.5,
                "second_offset": jnp.zeros((members, hidden)),
                "sum": jax.random.normal(keys[4], (members, hidden)) * (0.5 / hidden**0.5),
                "kinds": dense_init(keys[5], hidden, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return jnp.zeros((batch, KEPT, variables_of(parts_of(layout, features)))), ()

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        seen, state = risen(parts_of(layout, x.shape[-1]), x, state)
        h = jnp.einsum("btsvp,svpe->btve", seen, params["embed"])
        return h.reshape(*h.shape[:2], -1), state

    def top(params: Any, h: Array, state: Any) -> tuple[Middle, Any]:
        own = h[..., None, :] * params["signs"]
        own = jax.nn.relu(own @ params["first"] + params["first_offset"])
        own = jax.nn.relu(own @ params["second"] + params["second_offset"])
        each = jnp.einsum("btmh,mh->btm", own, params["sum"])
        kinds = dense(params["kinds"], own.mean(axis=-2))
        return Middle(jnp.concatenate([each / _SMALLER, kinds], axis=-1)), state

    def head(params: Any, sent: Array) -> Outputs:
        each = _SMALLER * sent[..., :members] + params["offset"]
        return Outputs(each.mean(axis=-1), sent[..., members:], sent, members=each)

    return Model(name="tabm", init=init, start=start, bottom=bottom, top=top, head=head)

"""Lazaretto's own side of workload W: the product's models, `local.make_site_round` and `run.stream`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import workload as w
from jax.flatten_util import ravel_pytree

from lazaretto.cut import Cut
from lazaretto.local import LocalTraining, SiteData
from lazaretto.models import _layers as layers
from lazaretto.parameters import unravel_of
from lazaretto.run.stream import Stream, compile_stream
from lazaretto.types import Array, Model, Outputs

__all__ = ["as_named", "initial_vector", "model", "site", "stream", "training"]


def _tree(named: dict[str, Any]) -> dict[str, Any]:
    p = {name: jnp.asarray(value) for name, value in named.items()}
    return {
        "bottom": {
            "conv1": {"w": p["conv1_w"], "b": p["conv1_b"]},
            "conv2": {"w": p["conv2_w"], "b": p["conv2_b"]},
        },
        "top": {
            "gru": {"w": p["gru_w"], "u": p["gru_u"], "b": p["gru_b"]},
            "head": {"w": p["head_w"], "b": p["head_b"]},
        },
    }


def model() -> Model:
    """W's model from the product's layers."""

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        return _tree(w.initial(0))

    def start(features: int, batch: int) -> tuple[Any, Any]:
        tails = jnp.zeros((batch, w.WIDTH - 1, features)), jnp.zeros((batch, w.WIDTH_2 - 1, w.CHANNELS))
        return tails, jnp.zeros((batch, w.HIDDEN))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        h, first = layers.conv(params["conv1"], x, state[0])
        h, second = layers.conv(params["conv2"], jax.nn.gelu(h), state[1])
        return h, (first, second)

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        states, last = layers.gru(params["gru"], h, state)
        kinds = layers.dense(params["head"], states)
        return Outputs(kinds[..., 0], kinds, states), last

    def loss(outputs: Outputs, y: Array, weight: Array, class_weight: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs.kinds, y).mean()

    return Model(name="w", init=init, start=start, bottom=bottom, top=top, loss=loss)


def training() -> LocalTraining:
    """One epoch of plain SGD in batches of 32, units as they stand, nothing clipped."""
    return LocalTraining(
        window=w.STEPS,
        batch_units=w.BATCH,
        optimiser="sgd",
        momentum=0.0,
        shuffle=False,
        clip_norm=float("inf"),
    )


def site(seed: int, number: Any, xp: Any = jnp) -> SiteData:
    """A site of one device with W's windows."""
    x, y = w.site_data(seed, number, xp)
    ones = xp.ones((1, w.WINDOWS, w.STEPS), xp.float32)
    return SiteData(x[None], y[None], ones, xp.int32(w.WINDOWS), xp.ones(w.CLASSES + 1, xp.float32))


def stream(seed: int) -> Stream:
    """The round that is measured; sites are made from their numbers inside it."""
    sizes = w.FEATURES, w.CLASSES
    return compile_stream(model(), Cut(bits=32), training(), sizes, make=lambda number: site(seed, number))


def initial_vector(seed: int) -> Any:
    """[d] float32."""
    return np.asarray(ravel_pytree(_tree(w.initial(seed)))[0])


def as_named(vector: Any) -> dict[str, Any]:
    """Named arrays, as the peers speak of them, from a flat vector [d]."""
    p = unravel_of(model(), w.FEATURES, w.CLASSES)(jnp.asarray(vector))
    named = {
        f"{layer}_{k}": v
        for part in ("bottom", "top")
        for layer, ps in p[part].items()
        for k, v in ps.items()
    }
    return {name: np.asarray(value) for name, value in named.items()}

"""Baseline: an autoencoder of normal traffic; what it cannot rebuild is anomalous."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models._layers import Size, conv, conv_init, dense, dense_init
from lazaretto.types import Array, Model, Outputs

__all__ = ["autoencoder"]


def autoencoder(context_steps: Size = 8, hidden: Size = 48, code: Size = 8) -> Model:
    """Rebuilds each step from a narrow code of the last `context_steps`; trained on normal steps only.

    The score is the log of the mean squared error. It names no kinds (their logits are zero). Unsplit.
    """

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 4)
        return {
            "bottom": {},
            "top": {
                "encode": conv_init(keys[0], context_steps, features, hidden),
                "narrow": dense_init(keys[1], hidden, code),
                "widen": dense_init(keys[2], code, hidden, gain=2.0**0.5),
                "decode": dense_init(keys[3], hidden, features),
                "kinds": jnp.zeros((0, kinds)),  # remembers the number of kinds; no parameters
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return (), jnp.zeros((batch, context_steps - 1, features))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        return x, state

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        encoded, tail = conv(params["encode"], h, state)
        narrow = dense(params["narrow"], jax.nn.gelu(encoded))
        rebuilt = dense(params["decode"], jax.nn.gelu(dense(params["widen"], narrow)))
        error = jnp.mean((rebuilt - h) ** 2, axis=-1)
        kinds = jnp.zeros((*error.shape, params["kinds"].shape[1]))
        return Outputs(jnp.log(error + 1e-6), kinds, narrow, error), tail

    def loss(outputs: Outputs, y: Array, weight: Array, class_weight: Array) -> Array:
        normal = weight * (y == 0)
        return jnp.sum(normal * outputs.extra) / jnp.maximum(jnp.sum(normal), 1.0)

    return Model(name="autoencoder", init=init, start=start, bottom=bottom, top=top, loss=loss, split=False)

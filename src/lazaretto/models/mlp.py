"""Baseline: a plain network on the last few steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models._layers import Size, conv, conv_init, dense, dense_init
from lazaretto.types import Array, Model, Outputs

__all__ = ["mlp"]


def mlp(history_steps: Size = 8, hidden: Size = 64) -> Model:
    """Two layers on the last `history_steps` steps laid side by side; remembers nothing else. Unsplit.

    Before the first step all features are 0, their median.
    """

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 4)
        return {
            "bottom": {},
            "top": {
                # a dense layer on steps side by side is a convolution as wide as they are
                "first": conv_init(keys[0], history_steps, features, hidden),
                "second": dense_init(keys[1], hidden, hidden, gain=2.0**0.5),
                "anomaly": dense_init(keys[2], hidden, 1, gain=0.5),
                "kinds": dense_init(keys[3], hidden, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return (), jnp.zeros((batch, history_steps - 1, features))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        return x, state

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        h, tail = conv(params["first"], h, state)
        h = jax.nn.gelu(dense(params["second"], jax.nn.gelu(h)))
        return Outputs(dense(params["anomaly"], h)[..., 0], dense(params["kinds"], h), h), tail

    return Model(name="mlp", init=init, start=start, bottom=bottom, top=top, split=False)

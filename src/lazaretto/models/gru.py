"""Baseline: a plain recurrent network on the raw features."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models import _layers as layers
from lazaretto.types import Array, Model, Outputs

__all__ = ["gru"]


def gru(hidden: layers.Size = 64) -> Model:
    """Plain GRU over the features, state carried; unsplit (nothing runs on the device).

    Cho et al. 2014, arXiv:1406.1078.
    """

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 3)
        return {
            "bottom": {},
            "top": {
                "gru": layers.gru_init(keys[0], features, hidden),
                "anomaly": layers.dense_init(keys[1], hidden, 1, gain=0.5),
                "kinds": layers.dense_init(keys[2], hidden, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return (), jnp.zeros((batch, hidden))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        return x, state

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        states, last = layers.gru(params["gru"], h, state)
        anomaly = layers.dense(params["anomaly"], states)[..., 0]
        return Outputs(anomaly, layers.dense(params["kinds"], states), states), last

    return Model(name="gru", init=init, start=start, bottom=bottom, top=top, split=False)

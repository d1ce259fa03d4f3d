"""Baseline: causal convolutions on the raw features."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models._layers import Size, conv, conv_init, dense, dense_init
from lazaretto.types import Array, Model, Outputs

__all__ = ["cnn"]


def cnn(channels: Size = 48, widths: tuple[Size, ...] = (7, 5, 5)) -> Model:
    """Causal convolutions that see the last 15 steps (sum of widths - layers + 1); unsplit."""

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, len(widths) + 2)
        sizes = (features, *([channels] * len(widths)))
        return {
            "bottom": {},
            "top": {
                "convs": [
                    conv_init(keys[i], width, sizes[i], sizes[i + 1]) for i, width in enumerate(widths)
                ],
                "anomaly": dense_init(keys[-2], channels, 1, gain=0.5),
                "kinds": dense_init(keys[-1], channels, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        sizes = (features, *([channels] * len(widths)))
        return (), tuple(
            jnp.zeros((batch, width - 1, size)) for width, size in zip(widths, sizes[:-1], strict=True)
        )

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        return x, state

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        tails = []
        for layer, tail in zip(params["convs"], state, strict=True):
            h, last = conv(layer, h, tail)
            h = jax.nn.gelu(h)
            tails.append(last)
        return Outputs(dense(params["anomaly"], h)[..., 0], dense(params["kinds"], h), h), tuple(tails)

    return Model(name="cnn", init=init, start=start, bottom=bottom, top=top, split=False)

"""The default detector: a small causal convolution on the device, a GRU at the site."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lazaretto.models._layers import (
    conv,
    conv_init,
    dense,
    dense_init,
    deviation,
    deviation_start,
    gru,
    gru_init,
)
from lazaretto.types import Array, Model, Outputs

__all__ = ["conv_gru"]

_WIDTHS = (5, 3)  # steps that each convolution sees


def conv_gru(
    channels: int = 32, cut_channels: int = 16, hidden: int = 48, memory_steps: tuple[float, ...] = (64.0,)
) -> Model:
    """Causal convolution on the device, GRU with carried state at the site, a score at every step.

    The device feeds each reading and its deviation from the device's own past, once per entry of
    `memory_steps` (time constants, in steps; empty for none), through conv(5) → GELU → conv(3).
    The site runs GRU(hidden) and two heads: anomalous or not, and which kind.
    """

    def inputs_of(features: int) -> int:
        return features * (1 + len(memory_steps))

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 5)
        return {
            "bottom": {
                "first": conv_init(keys[0], _WIDTHS[0], inputs_of(features), channels),
                "second": conv_init(keys[1], _WIDTHS[1], channels, cut_channels),
            },
            "top": {
                "gru": gru_init(keys[2], cut_channels, hidden),
                "anomaly": dense_init(keys[3], hidden, 1, gain=0.5),
                "kinds": dense_init(keys[4], hidden, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        pasts = tuple(deviation_start(features, batch) for _ in memory_steps)
        tails = (
            jnp.zeros((batch, _WIDTHS[0] - 1, inputs_of(features))),
            jnp.zeros((batch, _WIDTHS[1] - 1, channels)),
        )
        return (pasts, tails), jnp.zeros((batch, hidden))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        pasts, (first_tail, second_tail) = state
        own = [deviation(x, past, memory) for past, memory in zip(pasts, memory_steps, strict=True)]
        seen = jnp.concatenate([x, *(out for out, _ in own)], axis=-1)
        h, first_tail = conv(params["first"], seen, first_tail)
        h, second_tail = conv(params["second"], jax.nn.gelu(h), second_tail)
        return h, (tuple(past for _, past in own), (first_tail, second_tail))

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        states, last = gru(params["gru"], jax.nn.gelu(h), state)
        anomaly = dense(params["anomaly"], states)[..., 0]
        return Outputs(anomaly, dense(params["kinds"], states), states), last

    return Model(name="conv_gru", init=init, start=start, bottom=bottom, top=top)

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
    peak,
    peak_start,
)
from lazaretto.types import Array, Model, Outputs

__all__ = ["conv_gru"]

_WIDTH = 5  # steps that the convolution sees


def conv_gru(
    channels: int = 32,
    cut_channels: int = 24,
    hidden: int = 64,
    past_steps: float = 16.0,
    peak_steps: float = 16.0,
) -> Model:
    """Own past and causal convolution on the device, GRU at the site, a score at every step.

    The device looks at each reading, at its deviation from the device's own past (time constant
    `past_steps`) and at its recent peaks (fading with `peak_steps`); 0 leaves either out.
    dense(channels) → GELU → causal conv(5, cut_channels) → the cut. The site runs GRU(hidden) and two
    heads: anomalous or not, and which kind.
    """
    parts = 1 + (past_steps > 0) + 2 * (peak_steps > 0)

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 5)
        return {
            "bottom": {
                "first": dense_init(keys[0], parts * features, channels, gain=2.0**0.5),
                "second": conv_init(keys[1], _WIDTH, channels, cut_channels),
            },
            "top": {
                "gru": gru_init(keys[2], cut_channels, hidden),
                "anomaly": dense_init(keys[3], hidden, 1, gain=0.5),
                "kinds": dense_init(keys[4], hidden, kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        past, peaks = deviation_start(features, batch), peak_start(features, batch)
        return (past, peaks, jnp.zeros((batch, _WIDTH - 1, channels))), jnp.zeros((batch, hidden))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        past, peaks, tail = state
        seen, own = [x], x
        if past_steps > 0:
            own, past = deviation(x, past, past_steps)
            seen.append(own)
        if peak_steps > 0:
            held, peaks = peak(x, peaks, peak_steps)
            seen.append(held)
        h = jax.nn.gelu(dense(params["first"], jnp.concatenate(seen, axis=-1)))
        h, tail = conv(params["second"], h, tail)
        return h, (past, peaks, tail)

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        states, last = gru(params["gru"], jax.nn.gelu(h), state)
        anomaly = dense(params["anomaly"], states)[..., 0]
        return Outputs(anomaly, dense(params["kinds"], states), states), last

    return Model(name="conv_gru", init=init, start=start, bottom=bottom, top=top)

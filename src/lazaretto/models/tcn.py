"""A temporal convolutional network, its first block on the device."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le, MinLen

from lazaretto.models._layers import Size, conv, conv_init, dense, dense_init, norm, norm_init
from lazaretto.types import Array, Model, Outputs

__all__ = ["tcn"]

_Dilation = Annotated[int, Ge(1), Le(256)]


def tcn(
    channels: Size = 32,
    cut_channels: Size = 24,
    width: Annotated[int, Ge(2), Le(16)] = 3,
    dilations: Annotated[tuple[_Dilation, ...], MinLen(1)] = (1, 2, 4, 8),
) -> Model:
    """Residual blocks of dilated causal convolutions; the first one on the device, before the cut.

    A block is conv → norm → GELU → conv → norm, added to its input (through one dense layer where
    the number of channels changes), GELU. With the defaults a step sees itself and the 60 before,
    1 + 2 · (width − 1) · Σ dilations. Bai et al. 2018, arXiv:1803.01271, with GELU for ReLU, no dropout.
    Batch statistics would mix devices and, in a stream, times; in their place each step is normalised over
    its channels (layer normalisation). It has a gain and an offset for each channel and no running mean:
    those two are what FedBN leaves at the site.
    """
    first, *others = dilations

    def block_init(key: Array, inputs: int, outputs: int) -> dict[str, Any]:
        keys = jax.random.split(key, 3)
        return {
            "one": conv_init(keys[0], width, inputs, outputs),
            "norm_one": norm_init(outputs),
            "two": conv_init(keys[1], width, outputs, outputs),
            "norm_two": norm_init(outputs),
        } | ({"past": dense_init(keys[2], inputs, outputs)} if inputs != outputs else {})

    def block(params: Any, x: Array, state: Any, dilation: int) -> tuple[Array, Any]:
        h, one = conv(params["one"], x, state[0], dilation)
        h, two = conv(params["two"], jax.nn.gelu(norm(params["norm_one"], h)), state[1], dilation)
        past = dense(params["past"], x) if "past" in params else x
        return norm(params["norm_two"], h) + past, (one, two)

    def tails(batch: int, inputs: int, outputs: int, dilation: int) -> tuple[Array, Array]:
        before = (width - 1) * dilation
        return jnp.zeros((batch, before, inputs)), jnp.zeros((batch, before, outputs))

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, len(dilations) + 2)
        sizes = (cut_channels, *([channels] * len(others)))
        return {
            "bottom": {"block": block_init(keys[0], features, cut_channels)},
            "top": {
                "blocks": [block_init(keys[1 + i], sizes[i], sizes[i + 1]) for i in range(len(others))],
                "anomaly": dense_init(keys[-2], sizes[-1], 1, gain=0.5),
                "kinds": dense_init(keys[-1], sizes[-1], kinds, gain=0.5),
            },
        }

    def start(features: int, batch: int) -> tuple[Any, Any]:
        sizes = (cut_channels, *([channels] * len(others)))
        top = tuple(tails(batch, sizes[i], sizes[i + 1], dilation) for i, dilation in enumerate(others))
        return tails(batch, features, cut_channels, first), top

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        return block(params["block"], x, state, first)

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        h, after = jax.nn.gelu(h), []
        for layer, held, dilation in zip(params["blocks"], state, others, strict=True):
            h, new = block(layer, h, held, dilation)
            h = jax.nn.gelu(h)
            after.append(new)
        return Outputs(dense(params["anomaly"], h)[..., 0], dense(params["kinds"], h), h), tuple(after)

    return Model(name="tcn", init=init, start=start, bottom=bottom, top=top)

"""The default detector: a small causal convolution on the device, a GRU at the site."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from lazaretto.errors import PlanError
from lazaretto.models._layers import (
    Size,
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
    soft_bins,
    soft_bins_init,
)
from lazaretto.types import Array, Model, Novelty, Outputs

__all__ = ["conv_gru"]

_WIDTH = 5  # steps that the convolution sees


def conv_gru(
    channels: Size = 32,
    cut_channels: Size = 24,
    hidden: Size = 64,
    past_steps: Annotated[float, Ge(0)] = 16.0,
    peak_steps: Annotated[float, Ge(0)] = 16.0,
    bins: Annotated[int, Ge(0), Le(64)] = 4,
    novelty_hidden: Annotated[int, Ge(0), Le(4096)] = 0,
) -> Model:
    """Own past and causal convolution on the device, GRU at the site, a score at every step.

    The device looks at each reading, at its deviation from the device's own past (time constant
    `past_steps`), at `bins` learned steps of either, and at its recent peaks (fading with `peak_steps`);
    0 leaves any of them out. dense(channels) → GELU → causal conv(5, cut_channels) → the cut. The site
    runs GRU(hidden); two heads, anomalous or not and which kind, see its state and the step itself. With
    `novelty_hidden` above 0 a second GRU of that size reads the same activations and gives the
    self-supervised score (`lazaretto.types.Novelty`).
    Raises PlanError for a memory between 0 and 1 step.
    """
    for name, memory in (("past_steps", past_steps), ("peak_steps", peak_steps)):
        if 0 < memory < 1:
            raise PlanError(
                f"model 'conv_gru': {name} is shorter than a step",
                found=memory,
                way_out="at least 1, or 0 to leave it out",
            )
    compared = 1 + (past_steps > 0)
    parts = compared * (1 + bins) + 2 * (peak_steps > 0)

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        keys = jax.random.split(key, 6)
        seen = hidden + cut_channels
        made = {
            "bottom": {
                "bins": soft_bins_init(keys[5], compared * features, bins),
                "first": dense_init(keys[0], parts * features, channels, gain=2.0**0.5),
                "second": conv_init(keys[1], _WIDTH, channels, cut_channels),
            },
            "top": {
                "gru": gru_init(keys[2], cut_channels, hidden),
                "anomaly": dense_init(keys[3], seen, 1, gain=0.5),
                "kinds": dense_init(keys[4], seen, kinds, gain=0.5),
            },
        }
        if novelty_hidden:
            first, second = jax.random.split(jax.random.fold_in(key, 1))
            made["top"]["novelty"] = {
                "gru": gru_init(first, cut_channels, novelty_hidden),
                "score": dense_init(second, novelty_hidden + cut_channels, 1, gain=0.5),
            }
        return made

    def start(features: int, batch: int) -> tuple[Any, Any]:
        past, peaks = deviation_start(features, batch), peak_start(features, batch)
        return (past, peaks, jnp.zeros((batch, _WIDTH - 1, channels))), jnp.zeros((batch, hidden))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        past, peaks, tail = state
        seen = x
        if past_steps > 0:
            own, past = deviation(x, past, past_steps)
            seen = jnp.concatenate([x, own], axis=-1)
        seen = jnp.concatenate([seen, soft_bins(params["bins"], seen)], axis=-1)
        if peak_steps > 0:
            held, peaks = peak(x, peaks, peak_steps)
            seen = jnp.concatenate([seen, held], axis=-1)
        h = jax.nn.gelu(dense(params["first"], seen))
        h, tail = conv(params["second"], h, tail)
        return h, (past, peaks, tail)

    def top(params: Any, h: Array, state: Any) -> tuple[Outputs, Any]:
        now = jax.nn.gelu(h)
        states, last = gru(params["gru"], now, state)
        seen = jnp.concatenate([states, now], axis=-1)
        anomaly = dense(params["anomaly"], seen)[..., 0]
        return Outputs(anomaly, dense(params["kinds"], seen), states), last

    def unlike(params: Any, h: Array, state: Any) -> tuple[Array, Any]:
        now = jax.nn.gelu(h)
        states, last = gru(params["gru"], now, state)
        return dense(params["score"], jnp.concatenate([states, now], axis=-1))[..., 0], last

    novelty = Novelty(lambda batch: jnp.zeros((batch, novelty_hidden)), unlike) if novelty_hidden else None
    return Model(name="conv_gru", init=init, start=start, bottom=bottom, top=top, novelty=novelty)

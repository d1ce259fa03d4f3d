"""Traffic, records or both: an encoder for each on the device, fusion at the site, heads by the labels."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le

from lazaretto.errors import PlanError
from lazaretto.models._layers import (
    Size,
    conv,
    conv_init,
    dense,
    dense_init,
    gru,
    gru_init,
    present_deviation,
    repeats,
    repeats_start,
    soft_bins,
    soft_bins_init,
)
from lazaretto.types import Array, Middle, Model, Outputs, Pair, Part

__all__ = ["fusion"]

_WIDTH = 5  # steps that the convolution sees
_SHARED = 16  # numbers in which the views of two modalities are compared
_SPREAD = 2.5  # brings scaled readings to a standard deviation of about 1
_LOUD = 1000.0  # clipped to the largest code of a cut, whatever its bits, range and noise


def fusion(
    channels: Size = 32,
    cut_channels: Size = 24,
    hidden: Size = 48,
    sent_channels: Size = 32,
    past_steps: Annotated[float, Ge(1)] = 16.0,
    bins: Annotated[int, Ge(0), Le(64)] = 4,
    repeat_steps: Annotated[int, Ge(0), Le(64)] = 12,
    layout: tuple[tuple[Annotated[int, Ge(0)], Annotated[int, Gt(0)], Annotated[int, Gt(0)]], ...] = (),
) -> Model:
    """Whichever modalities are there, each through its own encoder and GRU, fused at every step; U-shaped.

    On the device, for each modality: readings, their deviation from the unit's own past (time constant
    `past_steps`) and `bins` learned steps of either → dense(channels) → GELU → causal conv(5, cut_channels) →
    the cut. In an irregular modality a reading that was not made stands as its last value, fading towards the
    mean by a learned rate per variable (Che et al. 2018, https://doi.org/10.1038/s41598-018-24271-9), beside
    its mask, the time since, and how far what was measured is a copy of one of the `repeat_steps` before
    (noise on single steps, `train.step_noise`, hides that). At the site: a GRU(hidden) per modality; where it
    is not there, a learned stand-in takes the place of its state; a gate weighs the modalities; sent_channels
    go back over the cut to the heads, which are beside the labels. Views of 16 numbers of either modality, at
    the cut and of the GRUs, are what `train.alignment_...` brings together.

    layout: (begin, end of values, end) of each modality's columns, as `types.Part`; filled in from the data.
    () takes all columns as one plain modality. Raises PlanError for a layout that is none.
    """
    parts = tuple(Part(*part) for part in layout)
    for before, part in zip((None, *parts), parts, strict=False):
        width = part.values - part.begin
        plain = part.begin == (0 if before is None else before.end)
        if not plain or width <= 0 or part.end - part.begin not in (width, 3 * width):
            raise PlanError(
                "model 'fusion': the layout names no columns one behind another",
                found=list(part),
                way_out="leave it out: it is filled in from the data",
            )

    def lags(part: Part) -> int:
        # elsewhere a value may be carried on, hidden or padding, and would count as a copy
        return repeat_steps if part.end > part.values else 0

    def of(features: int) -> tuple[Part, ...]:
        return parts or (Part(0, features, features),)

    def init(key: Array, features: int, kinds: int) -> dict[str, Any]:
        bottom: dict[str, Any] = {}
        top: dict[str, Any] = {}
        here = of(features)
        for at, part in enumerate(here):
            keys = jax.random.split(jax.random.fold_in(key, at), 8)
            width = part.values - part.begin
            inputs = 2 * width * (1 + bins) + 2 * width * (part.end > part.values) + 2 * lags(part)
            bottom[f"encoder{at}"] = {
                "bins": soft_bins_init(keys[0], 2 * width, bins),
                "first": dense_init(keys[1], inputs, channels, gain=2.0**0.5),
                "second": conv_init(keys[2], _WIDTH, channels, cut_channels),
            }
            if part.end > part.values:
                bottom[f"encoder{at}"]["fade"] = jnp.full(width, 0.5)  # to a third in a day
            top[f"gru{at}"] = gru_init(keys[3], cut_channels, hidden)
            top[f"absent{at}"] = 0.1 * jax.random.normal(keys[4], (hidden,))
            top[f"gate{at}"] = dense_init(keys[5], hidden, hidden, gain=0.5)
            if len(here) > 1:
                top[f"view{at}"] = dense_init(keys[6], cut_channels, _SHARED)
                top[f"late_view{at}"] = dense_init(keys[7], hidden, _SHARED)
        keys = jax.random.split(jax.random.fold_in(key, len(here)), 4)
        seen = hidden + len(here) * (hidden + cut_channels)
        top["mix"] = dense_init(keys[0], seen, sent_channels)
        bottom["head"] = {
            "first": dense_init(keys[1], sent_channels, hidden, gain=2.0**0.5),
            "anomaly": dense_init(keys[2], hidden, 1, gain=0.5),
            "kinds": dense_init(keys[3], hidden, kinds, gain=0.5),
        }
        return {"bottom": bottom, "top": top}

    def start(features: int, batch: int) -> tuple[Any, Any]:
        here = of(features)
        own = [
            (
                (jnp.zeros((batch, part.values - part.begin)),) * 2,
                repeats_start(part.values - part.begin, batch, lags(part)),
                jnp.zeros((batch, _WIDTH - 1, channels)),
            )
            for part in here
        ]
        return own, [jnp.zeros((batch, hidden)) for _ in here]

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        here = of(x.shape[-1])
        end, sent, states = here[-1].end, [], []
        for at, (part, (past, before, tail)) in enumerate(zip(here, state, strict=True)):
            encoder = params[f"encoder{at}"]
            values = x[..., part.begin : part.values]
            there = x[..., end + at, None] if len(here) > 1 else jnp.ones((*x.shape[:2], 1))
            read = jnp.broadcast_to(there, values.shape)  # what counts as the unit's past
            if part.end > part.values:
                measured, since = jnp.split(x[..., part.values : part.end], 2, axis=-1)
                read = measured
            copied, before = repeats(values, read, before)
            more = [copied]
            values = _SPREAD * values
            own, past = present_deviation(values, read, past, past_steps)
            own = own * there
            if part.end > part.values:
                fading = jnp.exp(-jax.nn.softplus(encoder["fade"]) * since)
                values = jnp.where(measured > 0, values, values * fading)
                more += [measured, fading]
            seen = jnp.concatenate([values, own], axis=-1)
            seen = jnp.concatenate([seen, soft_bins(encoder["bins"], seen), *more], axis=-1)
            h, tail = conv(encoder["second"], jax.nn.gelu(dense(encoder["first"], seen)), tail)
            sent.append(jax.nn.standardize(h, axis=-1))  # else it drifts out of the range of the cut
            states.append((past, before, tail))
        if len(here) > 1:  # the site must know which modalities there are; a sign survives any cut
            sent.append(_LOUD * (2.0 * x[..., end:] - 1.0))
        return jnp.concatenate(sent, axis=-1), states

    def top(params: Any, h: Array, state: Any) -> tuple[Middle, Any]:
        count = len(state)
        there = (
            h[..., count * cut_channels :, None] > 0 if count > 1 else jnp.ones((*h.shape[:2], 1, 1), bool)
        )
        own, last, now = [], [], []
        for at in range(count):
            given = jax.nn.gelu(h[..., at * cut_channels : (at + 1) * cut_channels]) * there[..., at, :]
            states, end = gru(params[f"gru{at}"], given, state[at])
            own.append(jnp.where(there[..., at, :], states, params[f"absent{at}"]))
            now.append(given)
            last.append(end)
        gates = jnp.stack([dense(params[f"gate{at}"], states) for at, states in enumerate(own)])
        fused = (jax.nn.softmax(gates, axis=0) * jnp.stack(own)).sum(axis=0)
        sent = dense(params["mix"], jnp.concatenate([fused, *own, *now], axis=-1))
        sent = jax.nn.standardize(sent, axis=-1)
        if count != 2:
            return Middle(sent), last
        both = there[..., 0, 0] & there[..., 1, 0]
        early = [dense(params[f"view{at}"], now[at]) for at in range(count)]
        late = [dense(params[f"late_view{at}"], own[at]) for at in range(count)]
        return Middle(sent, (Pair(early[0], early[1], both), Pair(late[0], late[1], both))), last

    def head(params: Any, sent: Array) -> Outputs:
        given = params["head"]
        seen = jax.nn.gelu(dense(given["first"], jax.nn.gelu(sent)))
        return Outputs(dense(given["anomaly"], seen)[..., 0], dense(given["kinds"], seen), seen)

    return Model(name="fusion", init=init, start=start, bottom=bottom, top=top, head=head)

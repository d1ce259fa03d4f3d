"""Layers as pairs of pure functions over plain dictionaries of arrays.

Convolution is a shifted concatenation and one matrix product: on CPUs several times faster than
`lax.conv`. The GRU has its own VJP, whose recurrent weight gradient is one product at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from lazaretto.types import Array

__all__ = [
    "Size",
    "conv",
    "conv_init",
    "dense",
    "dense_init",
    "deviation",
    "deviation_start",
    "gru",
    "gru_init",
    "norm",
    "norm_init",
    "peak",
    "peak_start",
    "present_deviation",
    "repeats",
    "repeats_start",
    "soft_bins",
    "soft_bins_init",
]

Size: TypeAlias = Annotated[int, Ge(1), Le(4096)]  # of a layer


def dense_init(key: Array, inputs: int, outputs: int, gain: float = 1.0) -> dict[str, Array]:
    """Weights [inputs, outputs] normal with standard deviation gain / sqrt(inputs); zero bias."""
    weight = jax.random.normal(key, (inputs, outputs)) * (gain / inputs**0.5)
    return {"w": weight, "b": jnp.zeros(outputs)}


def dense(params: dict[str, Array], x: Array) -> Array:
    """[..., inputs] -> [..., outputs]."""
    return _product(x, params["w"]) + params["b"]


def _product(x: Array, weight: Array) -> Array:
    """x [..., inputs] @ weight [inputs, outputs], as one plain product of matrices."""
    return _matrices(x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:-1], weight.shape[-1])


@jax.custom_vjp
def _matrices(x: Array, weight: Array) -> Array:
    """x [n, inputs] @ weight [inputs, outputs].

    The gradient of the weight is made with its shorter side as rows and then turned; the barrier keeps XLA
    from turning it back into the other order, which is up to five times slower on CPUs.
    """
    return x @ weight


def _matrices_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ weight, (x, weight)


def _matrices_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, weight = saved
    inputs, outputs = weight.shape
    turned = inputs > outputs
    by_weight = jax.lax.optimization_barrier(grad.T @ x).T if turned else x.T @ grad
    return grad @ weight.T, by_weight


_matrices.defvjp(_matrices_forward, _matrices_backward)


def conv_init(key: Array, width: int, inputs: int, outputs: int) -> dict[str, Array]:
    """A causal convolution over `width` steps."""
    return dense_init(key, width * inputs, outputs, gain=2.0**0.5)


def conv(params: dict[str, Array], x: Array, tail: Array, dilation: int = 1) -> tuple[Array, Array]:
    """x [B, T, C], tail [B, (width - 1) * dilation, C] (the steps before) -> ([B, T, outputs], new tail).

    dilation: how many steps lie between two that are looked at, >= 1.
    """
    steps, before = x.shape[1], tail.shape[1]
    whole = jnp.concatenate([tail, x], axis=1)
    shifted = [whole[:, offset : offset + steps] for offset in range(0, before + 1, dilation)]
    return dense(params, jnp.concatenate(shifted, axis=-1)), whole[:, steps:]


def norm_init(channels: int) -> dict[str, Array]:
    """Gain 1 and offset 0 for each channel."""
    return {"gain": jnp.ones(channels), "offset": jnp.zeros(channels)}


def norm(params: dict[str, Array], x: Array) -> Array:
    """[..., C] -> [..., C]: mean 0 and variance 1 over the channels of a step, then gain and offset.

    Ba et al. 2016, arXiv:1607.06450. Needs nothing but the step itself: a stream can be scored as it comes.
    """
    return jax.nn.standardize(x, axis=-1) * params["gain"] + params["offset"]


def gru_init(key: Array, inputs: int, hidden: int) -> dict[str, Array]:
    """Gates in the order update, reset, candidate."""
    first, second = jax.random.split(key)
    bias = jnp.concatenate([jnp.full(hidden, -1.0), jnp.zeros(2 * hidden)])  # start by keeping the state
    return {
        "w": jax.random.normal(first, (inputs, 3 * hidden)) / inputs**0.5,
        "u": jax.random.normal(second, (hidden, 3 * hidden)) / hidden**0.5,
        "b": bias,
    }


def _cell(u: Array, h: Array, gates: Array) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    hidden = h.shape[-1]
    recurrent = h @ u
    z = jax.nn.sigmoid(gates[..., :hidden] + recurrent[..., :hidden])
    r = jax.nn.sigmoid(gates[..., hidden : 2 * hidden] + recurrent[..., hidden : 2 * hidden])
    inner = recurrent[..., 2 * hidden :]
    n = jnp.tanh(gates[..., 2 * hidden :] + r * inner)
    return h + z * (n - h), (z, r, n, inner)


@jax.custom_vjp
def _recur(u: Array, gates: Array, start: Array) -> Array:
    """gates [T, B, 3H] (input part), start [B, H] -> states [T, B, H]."""

    def step(h: Array, gate: Array) -> tuple[Array, Array]:
        h, _ = _cell(u, h, gate)
        return h, h

    return jax.lax.scan(step, start, gates)[1]


def _recur_forward(u: Array, gates: Array, start: Array) -> tuple[Array, Any]:
    def step(h: Array, gate: Array) -> tuple[Array, Any]:
        new, parts = _cell(u, h, gate)
        return new, (new, h, parts)

    _, (states, before, parts) = jax.lax.scan(step, start, gates)
    return states, (u, before, parts)


def _recur_backward(saved: Any, grad: Array) -> tuple[Array, Array, Array]:
    u, before, (z, r, n, inner) = saved
    transposed = u.T

    def step(carry: Array, at: Any) -> tuple[Array, tuple[Array, Array]]:
        g, h, z, r, n, inner = at
        g = g + carry
        dn = g * z * (1 - n * n)
        dz = g * (n - h) * z * (1 - z)
        dr = dn * inner * r * (1 - r)
        to_recurrent = jnp.concatenate([dz, dr, dn * r], axis=-1)
        return g * (1 - z) + to_recurrent @ transposed, (to_recurrent, dn)

    first, (recurrent, dn) = jax.lax.scan(
        step, jnp.zeros_like(grad[0]), (grad, before, z, r, n, inner), reverse=True
    )
    hidden = before.shape[-1]
    du = before.reshape(-1, hidden).T @ recurrent.reshape(-1, 3 * hidden)
    return du, jnp.concatenate([recurrent[..., : 2 * hidden], dn], axis=-1), first


_recur.defvjp(_recur_forward, _recur_backward)


def gru(params: dict[str, Array], x: Array, state: Array) -> tuple[Array, Array]:
    """x [B, T, inputs], state [B, H] -> (states [B, T, H], last state). Cho et al. 2014, arXiv:1406.1078."""
    gates = _product(jnp.swapaxes(x, 0, 1), params["w"]) + params["b"]
    states = _recur(params["u"], gates, state)
    return jnp.swapaxes(states, 0, 1), states[-1]


def deviation_start(features: int, batch: int) -> tuple[Array, Array]:
    """State of `deviation` before the first step: running sum [B, F] and its weight [B, 1]."""
    return jnp.zeros((batch, features)), jnp.zeros((batch, 1))


@partial(jax.jit, static_argnames="memory_steps")
def deviation(x: Array, state: tuple[Array, Array], memory_steps: float) -> tuple[Array, tuple[Array, Array]]:
    """x [B, T, F] minus the device's own exponentially weighted past (the step itself left out).

    The mean over the past forgets with time constant `memory_steps`; before the first step the
    deviation is 0. Nothing is learned, so no gradient passes; linear in x, one product per window.
    """
    total, weight = state
    steps = x.shape[1]
    keep = 1.0 - 1.0 / memory_steps
    age = jnp.arange(steps)[:, None] - jnp.arange(steps)[None, :]  # [T, T]
    kernel = jnp.where(age > 0, keep ** jnp.maximum(age - 1, 0), 0.0)
    decay = keep ** jnp.arange(steps)[None, :, None]
    sums = jnp.einsum("ts,bsf->btf", kernel, x) + decay * total[:, None]
    weights = kernel.sum(axis=1)[None, :, None] + decay * weight[:, None]
    out = jnp.where(weights > 0, x - sums / jnp.maximum(weights, 1e-6), 0.0)
    last = keep ** jnp.arange(steps - 1, -1, -1)
    total = jnp.einsum("s,bsf->bf", last, x) + keep**steps * total
    weight = last.sum() + keep**steps * weight
    return jax.lax.stop_gradient(out), (jax.lax.stop_gradient(total), jax.lax.stop_gradient(weight))


def present_deviation(
    x: Array, there: Array, state: tuple[Array, Array], memory_steps: float
) -> tuple[Array, tuple[Array, Array]]:
    """`deviation` where some values are missing: there [B, T, F], 1 where a value counts as past, else 0.

    A step that does not count leaves the mean as it was, however long: memory is of values, not of time.
    State: running sum [B, F] and its weight [B, F].
    """
    keep = 1.0 - 1.0 / memory_steps

    def step(held: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (total, weight), (value, counts) = held, now
        out = jnp.where(weight > 0, value - total / jnp.maximum(weight, 1e-6), 0.0)
        aged = 1.0 - counts * (1.0 - keep)
        return (total * aged + counts * value, weight * aged + counts), out

    turned = (jnp.swapaxes(x, 0, 1), jnp.swapaxes(there, 0, 1))
    last, out = jax.lax.scan(step, state, turned)
    return jax.lax.stop_gradient(jnp.swapaxes(out, 0, 1)), jax.lax.stop_gradient(last)


def repeats_start(features: int, batch: int, lags: int) -> tuple[Array, Array]:
    """State of `repeats` before the first step: the last values [B, lags, F] and which of them count."""
    return jnp.zeros((batch, lags, features)), jnp.zeros((batch, lags, features))


def repeats(
    x: Array, there: Array, state: tuple[Array, Array], near: float = 0.01
) -> tuple[Array, tuple[Array, Array]]:
    """How far each step is a copy of those before it: a recording shown over and over gives itself away.

    x, there: [B, T, F], there 1 where a value was read and else 0; near: of x, what counts as the same.
    Returns [B, T, 2 lags]: for each lag from 1, the share of the features read in both steps that are the
    same, softly (exp(-|difference| / near), one feature counted as missing so that few say little), and the
    root of how many were compared, a third of it. The lags are those of the state. A row of a recurrence
    plot (Eckmann et al. 1987, https://doi.org/10.1209/0295-5075/4/9/004). Nothing is learned, so no gradient
    passes.
    """
    lags, steps = state[0].shape[1], x.shape[1]
    values = jnp.concatenate([state[0], x], axis=1)
    counts = jnp.concatenate([state[1], there], axis=1)
    out = []
    for lag in range(1, lags + 1):
        before = slice(lags - lag, lags - lag + steps)
        both = there * counts[:, before]
        compared = both.sum(axis=-1)
        same = (both * jnp.exp(-jnp.abs(x - values[:, before]) / near)).sum(axis=-1)
        out += [same / (compared + 1.0), jnp.sqrt(compared) / 3.0]
    last = (values[:, steps:], counts[:, steps:])
    found = jnp.stack(out, axis=-1) if out else x[..., :0]
    return jax.lax.stop_gradient(found), jax.lax.stop_gradient(last)


def peak_start(features: int, batch: int) -> Array:
    """State of `peak` before the first step: [B, 2, F], largest and (negated) smallest so far."""
    return jnp.zeros((batch, 2, features))


def peak(x: Array, state: Array, memory_steps: float) -> tuple[Array, Array]:
    """x [B, T, F] -> [B, T, 2F]: the largest and the smallest recent value, fading towards 0.

    m[t] = max(x[t], keep · m[t - 1]) with keep = 1 - 1 / memory_steps, and the same for -x. A rare
    packet is remembered where a mean would drown it. Nothing is learned, so no gradient passes.
    """
    keep = 1.0 - 1.0 / memory_steps
    both = jnp.stack([x, -x], axis=2)  # [B, T, 2, F]

    def step(held: Array, now: Array) -> tuple[Array, Array]:
        held = jnp.maximum(now, keep * held)
        return held, held

    last, held = jax.lax.scan(step, state, jnp.swapaxes(both, 0, 1))
    out = jnp.swapaxes(held, 0, 1).reshape(*x.shape[:2], -1)
    return jax.lax.stop_gradient(out), jax.lax.stop_gradient(last)


def soft_bins_init(key: Array, features: int, bins: int) -> dict[str, Array]:
    """Slopes from coarse to fine (0.5 to 8, in scaled units) and places near the median; [features, bins]."""
    first, second = jax.random.split(key)
    slope = jnp.exp(jnp.linspace(jnp.log(0.5), jnp.log(8.0), bins))
    return {
        "slope": slope * jnp.exp(0.2 * jax.random.normal(first, (features, bins))),
        "b": 0.7 * jax.random.normal(second, (features, bins)),
    }


def soft_bins(params: dict[str, Array], x: Array) -> Array:
    """[..., F] -> [..., F * bins]: each feature through its own few learned steps, tanh(slope x + b).

    A plain first layer sees a feature as one number and is slow to find a threshold in it; trees are
    not. Learned embeddings of single features close that gap (Gorishniy et al. 2022, arXiv:2203.05556).
    """
    steps = jnp.tanh(x[..., None] * params["slope"] + params["b"])
    return steps.reshape(*x.shape[:-1], -1)

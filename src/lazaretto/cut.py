"""The cut: what crosses from a device to its site, and what comes back.

`Cut` is a value. Activations are clipped to ±clip and rounded to `bits` (straight-through gradient,
Bengio et al. 2013, arXiv:1308.3432), optionally noised. The range is fixed, so no scale travels and
a step's code does not depend on its neighbours: streamed and batched scores agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lazaretto.types import Array

__all__ = ["Cut", "payload_bytes", "through"]


@dataclass(frozen=True, slots=True)
class Cut:
    """bits: 2 to 8, or 32 (exact floats, never clipped). clip: range of activations, > 0.
    noise: standard deviation, >= 0.
    """

    bits: int = 8
    clip: float = 4.0
    noise: float = 0.0


def through(cut: Cut, h: Array, key: Array | None = None) -> Array:
    """h [..., H] as the site receives it. Differentiable; the gradient is zero where h was clipped.

    Noise is added only when a key is given (simulation: from the seed), and before clipping, so that
    every code fits its bits.
    """
    if cut.noise and key is not None:
        h = h + cut.noise * jax.random.normal(key, h.shape, h.dtype)
    if cut.bits == 32:
        return h
    h = jnp.clip(h, -cut.clip, cut.clip)
    step = cut.clip / (2 ** (cut.bits - 1) - 1)
    return h + jax.lax.stop_gradient(jnp.round(h / step) * step - h)


def payload_bytes(cut: Cut, shape: tuple[int, ...]) -> int:
    """Bytes of activations of `shape` on the wire, packed, without the message's frame."""
    count = 1
    for side in shape:
        count *= side
    return -(-count * cut.bits // 8)

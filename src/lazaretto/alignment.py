"""Terms that need no label: two views of one unit should agree, and activations should not tell the input."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lazaretto.types import Array, Pair

__all__ = ["alignment_loss", "distance_correlation", "info_nce"]


def info_nce(pair: Pair, temperature: float) -> Array:
    """How badly each step's own partner is told from those of other units, in nats; 0 where nothing pairs.

    pair: views [B, T, P] of the same steps. Both ways, a to b and b to a, over steps where both are there.
    Negatives are the steps of other units; other steps of the same unit are neither (they are nearly the
    same). temperature > 0 divides cosines. With one unit there is no negative, and the loss is 0.
    van den Oord et al. 2018, arXiv:1807.03748; both ways as in Radford et al. 2021, arXiv:2103.00020.
    """
    batch, steps = pair.both.shape
    there = pair.both.reshape(-1)
    a, b = (_unit_length(view.reshape(batch * steps, -1)) for view in (pair.a, pair.b))
    unit = jnp.repeat(jnp.arange(batch), steps)
    other = (unit[:, None] != unit[None, :]) & there[:, None] & there[None, :]
    allowed = other | jnp.eye(batch * steps, dtype=bool)
    cosines = jnp.where(allowed, (a @ b.T) / temperature, -jnp.inf)
    own = jnp.diagonal(cosines)
    each = jax.nn.logsumexp(cosines, axis=1) + jax.nn.logsumexp(cosines, axis=0) - 2 * own
    return 0.5 * (there * each).sum() / jnp.maximum(there.sum(), 1)


def _unit_length(values: Array) -> Array:
    return values * jax.lax.rsqrt((values**2).sum(axis=-1, keepdims=True) + 1e-12)


def alignment_loss(pairs: Sequence[Pair], weights: Sequence[float], temperature: float) -> Array:
    """Sum of `info_nce` of each pair times its weight; a weight of 0 costs nothing."""
    terms = [
        weight * info_nce(pair, temperature) for pair, weight in zip(pairs, weights, strict=False) if weight
    ]
    return jnp.asarray(sum(terms)) if terms else jnp.zeros(())


def distance_correlation(x: Array, h: Array, use: Array) -> Array:
    """Bias-corrected distance correlation of x [n, F] and h [n, H], at most 1, at least 0 here.

    use: [n] 1 for rows that count, else 0; 0 where fewer than four do, or either side is constant. Near 0 for
    independent variables (Székely, Rizzo 2014, https://doi.org/10.1214/14-AOS1255: negative values are taken
    for 0). As a term of a loss against inversion of activations: Vepakomma et al. 2020, arXiv:2008.09161.
    """
    count = jnp.maximum(use.sum(), 4.0)
    apart = use[:, None] * use[None, :] * (1.0 - jnp.eye(len(use)))

    def centred(values: Array) -> Array:
        squares = ((values[:, None, :] - values[None, :, :]) ** 2).sum(axis=-1)
        far = jnp.sqrt(squares + 1e-12) * apart  # so that it has a gradient at 0 too
        rows, columns, whole = far.sum(axis=1), far.sum(axis=0), far.sum()
        middle = whole / ((count - 1) * (count - 2))
        return (far - rows[:, None] / (count - 2) - columns[None, :] / (count - 2) + middle) * apart

    first, second = centred(x), centred(h)
    own = (first**2).sum() * (second**2).sum()
    found = (first * second).sum() / jnp.sqrt(jnp.maximum(own, 1e-12))
    return jnp.where(use.sum() >= 4, jnp.maximum(found, 0.0), 0.0)

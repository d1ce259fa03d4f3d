"""Losses of a training step, and how classes are balanced in them; of labels and of made-up campaigns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lazaretto.types import Array

__all__ = ["class_balance", "detection_loss", "novelty_loss"]


def detection_loss(
    outputs: Any,
    y: Array,
    weight: Array,
    class_weight: Array,
    temporal: float,
    kind_weight: float = 1.0,
    anomaly_weight: float = 1.0,
) -> Array:
    """Class-balanced cross-entropy of "anomalous?" and "which kind?" + temporal consistency.

    y [B, T] classes (-1: anomalous, kind unknown), weight [B, T] >= 0, class_weight [K + 2]
    (Cui et al. 2019, arXiv:1901.05555), anomaly_weight > 0: what an anomalous step weighs beside that.
    Temporal consistency: neighbouring steps with the same label should agree in representation and
    in probability. The members of an ensemble learn each by itself: the mean of their losses. A batch without
    any weight has loss 0.
    """
    attacked = (y != 0).astype(jnp.float32)
    balanced = weight * class_weight[y]
    if anomaly_weight != 1.0:
        balanced = balanced * (1.0 + (anomaly_weight - 1.0) * attacked)
    total = jnp.maximum(balanced.sum(), 1e-6)
    if isinstance(outputs.members, tuple):
        binary = optax.sigmoid_binary_cross_entropy(outputs.anomaly, attacked)
    else:
        binary = optax.sigmoid_binary_cross_entropy(outputs.members, attacked[..., None]).mean(axis=-1)
    loss = (balanced * binary).sum() / total
    if outputs.kinds.shape[-1]:
        kinds = optax.softmax_cross_entropy_with_integer_labels(outputs.kinds, jnp.maximum(y - 1, 0))
        loss = loss + kind_weight * (balanced * (y > 0) * kinds).sum() / total
    if temporal:
        same = (y[:, 1:] == y[:, :-1]) * jnp.minimum(weight[:, 1:], weight[:, :-1])
        apart = jnp.diff(outputs.representation, axis=1)
        jump = jnp.diff(jax.nn.sigmoid(outputs.anomaly), axis=1)
        apart = (apart**2).mean(axis=-1) + jump**2
        loss = loss + temporal * (same * apart).sum() / jnp.maximum(same.sum(), 1e-6)
    return loss


def class_balance(beta: float, classes: int, y: Array, weight: Array) -> Array:
    """[K + 2] weights of classes by effective number of steps, as `run.simulate.class_weights` makes them.

    beta in [0, 1). classes: K + 2, the last for anomalies of unknown kind. y, weight: of one device's steps.
    """
    counts = (weight.reshape(-1, 1) * jax.nn.one_hot(y.reshape(-1), classes - 1)).sum(axis=0)
    several = jnp.concatenate([counts, jnp.maximum(counts[1:].sum(keepdims=True), 1.0)])
    each = jnp.where(several > 0, (1 - beta) / jnp.maximum(1 - beta**several, 1e-12), 0.0)
    mean = (each[:-1] * counts).sum() / jnp.maximum(counts.sum(), 1.0)
    return each / jnp.maximum(mean, 1e-12)


def novelty_loss(score: Array, made: Array, weight: Array) -> Array:
    """Mean cross-entropy of "is a made-up campaign under way?": score [B, T] logits, made [B, T] bool.

    weight [B, T] >= 0: 0 for padding and for steps of real attacks, which are neither. 0 where all of it is.
    """
    each = optax.sigmoid_binary_cross_entropy(score, made.astype(jnp.float32))
    return (weight * each).sum() / jnp.maximum(weight.sum(), 1e-6)

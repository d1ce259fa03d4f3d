"""The efficient ensemble: its members are networks of their own, and each learns by itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lazaretto.losses import detection_loss
from lazaretto.models.tabm import tabm
from lazaretto.types import Array, Outputs

UNITS, STEPS, VARIABLES, MEMBERS, KINDS = 3, 10, 4, 5, 2
LAYOUT = ((0, VARIABLES, 3 * VARIABLES),)
MODEL = tabm(members=MEMBERS, embedding=3, hidden=6, layout=LAYOUT)


def records() -> Array:
    """Irregular series [B, T, 3V]: values carried on, whether read, time since."""
    rng = np.random.default_rng(0)
    read = rng.random((UNITS, STEPS, VARIABLES)) < 0.5
    values = rng.normal(size=read.shape)
    return np.concatenate([values, read, rng.random(read.shape)], axis=2).astype(np.float32)


def parameters() -> Any:
    """Of no layer zero, so that every one tells."""
    params = MODEL.init(jax.random.key(0), 3 * VARIABLES, KINDS)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def said(params: Any, x: Array) -> Outputs:
    start = MODEL.start(x.shape[2], len(x))
    h, _ = MODEL.bottom(params["bottom"], x, start[0])
    middle, _ = MODEL.top(params["top"], h, start[1])
    assert MODEL.head is not None
    outputs = MODEL.head(params["bottom"], middle.sent)
    assert isinstance(outputs, Outputs)
    return outputs


def test_the_score_is_the_mean_of_what_each_member_says() -> None:
    """Each worked out from what crosses the cut, one member after the other."""
    params, x = parameters(), records()
    outputs, top = said(params, x), params["top"]
    h, _ = MODEL.bottom(params["bottom"], x, MODEL.start(x.shape[2], len(x))[0])
    every = []
    for member in range(MEMBERS):
        own = np.maximum((h * top["signs"][member]) @ top["first"] + top["first_offset"][member], 0)
        own = np.maximum(own @ top["second"] + top["second_offset"][member], 0)
        every.append(own @ top["sum"][member] + params["bottom"]["offset"][member])
    np.testing.assert_allclose(outputs.members, np.stack(every, axis=-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.anomaly, np.mean(every, axis=0), rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_of_the_members_losses() -> None:
    outputs = said(parameters(), records())
    y = np.random.default_rng(2).integers(0, 2, (UNITS, STEPS))
    weight = np.ones((UNITS, STEPS), np.float32)
    found = detection_loss(outputs, y, weight, jnp.ones(KINDS + 2), 0.0, 0.0)
    each = [
        optax.sigmoid_binary_cross_entropy(outputs.members[..., member], y.astype(np.float32)).mean()
        for member in range(MEMBERS)
    ]
    assert float(found) == pytest.approx(float(np.mean(each)), rel=1e-5)
    together = optax.sigmoid_binary_cross_entropy(outputs.anomaly, y.astype(np.float32)).mean()
    assert float(found) > float(together) + 1e-4  # Jensen: members that differ lose more than their mean


def test_a_member_moves_no_offset_and_sum_of_another() -> None:
    y, weight = np.ones((UNITS, STEPS), np.int32), np.ones((UNITS, STEPS), np.float32)

    def loss(params: Any) -> Array:
        outputs = said(params, records())
        # only the first member is wrong: all others say what is right without any doubt
        sure = jnp.where(jnp.arange(MEMBERS) == 0, outputs.members, 1e3 + 0 * outputs.members)
        return detection_loss(outputs._replace(members=sure), y, weight, jnp.ones(KINDS + 2), 0.0, 0.0)

    slopes = jax.grad(loss)(parameters())
    for side, name in (("top", "sum"), ("top", "second_offset"), ("top", "signs"), ("bottom", "offset")):
        slope = np.abs(np.asarray(slopes[side][name]).reshape(MEMBERS, -1)).sum(axis=1)
        assert slope[0] > 0, name
        np.testing.assert_array_equal(slope[1:], 0.0)


def test_members_begin_different() -> None:
    params = MODEL.init(jax.random.key(0), 3 * VARIABLES, KINDS)
    apart = np.asarray(said(params, records()).members).std(axis=-1)
    assert apart.mean() > 0.01

"""The split law: split training with exact cuts is joint training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lazaretto import catalog
from lazaretto.cut import Cut, payload_bytes, through
from lazaretto.local import (
    LocalTraining,
    SiteData,
    local_start,
    make_site_round,
)
from lazaretto.losses import detection_loss
from lazaretto.parameters import unravel_of
from lazaretto.split import split_gradients

F, K, T = 5, 2, 4
EXACT = Cut(bits=32)
MODEL = catalog.build("models", "conv_gru", {"channels": 6, "cut_channels": 4, "hidden": 7})


def _data(devices: int, units: int, steps: int) -> SiteData:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((devices, units, steps, F)).astype(np.float32)
    y = rng.integers(0, K + 1, (devices, units, steps)).astype(np.int32)
    weight = np.ones((devices, units, steps), np.float32)
    return SiteData(x, y, weight, np.int32(units), np.ones(K + 2, np.float32))


def _loss(y: np.ndarray) -> object:
    flat = y.reshape(-1, y.shape[-1])
    return lambda outputs, h: detection_loss(outputs, flat, jnp.ones(flat.shape), jnp.ones(K + 2), 0.1)


@pytest.mark.parametrize("devices", [1, 3])
def test_gradients_over_the_cut_are_the_joint_gradients(devices: int) -> None:
    params = MODEL.init(jax.random.key(0), F, K)
    data = _data(devices, 2, T)
    bottoms = jax.tree.map(lambda p: jnp.broadcast_to(p, (devices, *p.shape)), params["bottom"])
    bottom_state, _ = MODEL.start(F, 2)
    states = (
        jax.tree.map(lambda s: jnp.broadcast_to(s, (devices, *s.shape)), bottom_state),
        MODEL.start(F, 2 * devices)[1],
    )
    value, (bottom, top), _ = jax.jit(
        lambda params, x: split_gradients(MODEL, EXACT, _loss(data.y), params, x, states, jax.random.key(1))
    )((bottoms, params["top"]), data.x)

    def joint(params: dict) -> jax.Array:
        flat = data.x.reshape(-1, T, F)
        h, _ = MODEL.bottom(params["bottom"], flat, MODEL.start(F, len(flat))[0])
        outputs, _ = MODEL.top(params["top"], h, MODEL.start(F, len(flat))[1])
        return _loss(data.y)(outputs, h)

    expected, gradient = jax.jit(jax.value_and_grad(joint))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    summed = jax.tree.map(lambda g: g.sum(axis=0), bottom)
    for ours, theirs in zip(
        jax.tree.leaves({"bottom": summed, "top": top}), jax.tree.leaves(gradient), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_one_device_or_synchronised_devices_give_the_parameters_of_joint_training(optimiser: str) -> None:
    """One device with all units, and two devices synchronised every step, end at the same parameters."""
    together = _data(1, 4, 2 * T)
    apart = SiteData(
        *(v.reshape(2, 2, *v.shape[2:]) for v in together[:3]), np.int32(2), together.class_weight
    )
    unravel = unravel_of(MODEL, F, K)
    vector = ravel_pytree(MODEL.init(jax.random.key(5), F, K))[0]
    found = []
    # batches hold every unit and gradients are not clipped, so the order of units does not matter
    for data, batch in ((together, 4), (apart, 2)):
        training = LocalTraining(
            window=T,
            batch_units=batch,
            optimiser=optimiser,
            synchronise="step",
            clip_norm=1e9,
            local_epochs=3,
        )
        state = local_start(MODEL, training, vector, unravel, data.x.shape[0])
        run = jax.jit(make_site_round(MODEL, EXACT, training, unravel))
        found.append(np.asarray(run(state, data, jax.random.key(2), 1e-2)[0].vector))
    assert np.abs(found[0] - vector).max() > 1e-2
    tolerance = 2e-4 if optimiser == "adam" else 2e-6  # adam divides by roots of tiny second moments
    np.testing.assert_allclose(found[0], found[1], atol=tolerance)


def test_devices_that_are_not_synchronised_go_apart_and_are_averaged() -> None:
    data = _data(2, 4, 2 * T)
    unravel = unravel_of(MODEL, F, K)
    vector = ravel_pytree(MODEL.init(jax.random.key(5), F, K))[0]
    found = []
    for synchronise in ("step", "round"):
        training = LocalTraining(window=T, batch_units=2, synchronise=synchronise)
        state = local_start(MODEL, training, vector, unravel, 2)
        run = jax.jit(make_site_round(MODEL, EXACT, training, unravel))
        found.append(np.asarray(run(state, data, jax.random.key(2), 1e-2)[0].vector))
    assert np.abs(found[0] - found[1]).max() > 1e-6


def test_the_cut_rounds_to_its_bits_and_passes_gradients() -> None:
    cut = Cut(bits=4, clip=2.0)
    h = jnp.linspace(-3, 3, 1001)
    received = through(cut, h)
    assert len(np.unique(np.asarray(received).round(5))) == 2**4 - 1
    inside = np.abs(h) < 2
    assert np.abs(np.asarray(received - h))[inside].max() <= 2 / 7 / 2 + 1e-6
    gradient = jax.vmap(jax.grad(lambda v: through(cut, v)))(h)
    np.testing.assert_array_equal(np.asarray(gradient)[inside], 1.0)
    np.testing.assert_array_equal(np.asarray(gradient)[np.abs(h) > 2], 0.0)
    assert payload_bytes(cut, (3, 5)) == 8  # 15 numbers of 4 bits


def test_padding_changes_nothing() -> None:
    data = _data(2, 3, 2 * T)
    wide = SiteData(
        *(np.concatenate([v, np.zeros_like(v[:, :2])], axis=1) for v in data[:3]),
        data.units,
        data.class_weight,
    )
    wide = wide._replace(x=wide.x.copy())
    wide.x[:, 3:] = 1e3  # would be seen if it counted
    unravel = unravel_of(MODEL, F, K)
    vector = ravel_pytree(MODEL.init(jax.random.key(5), F, K))[0]
    training = LocalTraining(window=T, batch_units=8, clip_norm=1e9)
    found = []
    for given in (data, wide):
        state = local_start(MODEL, training, vector, unravel, 2)
        run = jax.jit(make_site_round(MODEL, EXACT, training, unravel))
        found.append(np.asarray(run(state, given, jax.random.key(0), 1e-2)[0].vector))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_patches_reach_training_where_steps_are_attacked_and_nowhere_else() -> None:
    """With nothing drawn but patches, quiet data trains as without them, and attacked data does not."""
    unravel = unravel_of(MODEL, F, K)
    vector = ravel_pytree(MODEL.init(jax.random.key(5), F, K))[0]
    data = _data(2, 3, 2 * T)
    quiet = data._replace(y=np.zeros_like(data.y))
    found = {}
    for patches in (0.0, 1.0):
        training = LocalTraining(window=T, batch_units=2, shuffle=False, patches=patches)
        run = jax.jit(make_site_round(MODEL, EXACT, training, unravel))
        state = local_start(MODEL, training, vector, unravel, 2)
        found[patches] = [np.asarray(run(state, d, jax.random.key(2), 1e-2)[0].vector) for d in (data, quiet)]
    assert np.abs(found[1.0][0] - found[0.0][0]).max() > 1e-4
    np.testing.assert_allclose(found[1.0][1], found[0.0][1], atol=1e-5)  # programs differ, and so last bits

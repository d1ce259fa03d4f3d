"""Fast layers against slow ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.models import _layers as layers


def test_the_gru_and_its_own_vjp_against_a_loop_differentiated_by_jax() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    params = layers.gru_init(keys[0], 3, 5)
    x = jax.random.normal(keys[1], (2, 7, 3))
    start = jax.random.normal(keys[2], (2, 5))

    def slow(params: dict, x: jax.Array, h: jax.Array) -> jax.Array:
        out = []
        for t in range(x.shape[1]):
            gates, recurrent = x[:, t] @ params["w"] + params["b"], h @ params["u"]
            z = jax.nn.sigmoid(gates[:, :5] + recurrent[:, :5])
            r = jax.nn.sigmoid(gates[:, 5:10] + recurrent[:, 5:10])
            n = jnp.tanh(gates[:, 10:] + r * recurrent[:, 10:])
            h = (1 - z) * h + z * n
            out.append(h)
        return jnp.stack(out, axis=1)

    fast = layers.gru(params, x, start)
    np.testing.assert_allclose(fast[0], jax.jit(slow)(params, x, start), atol=1e-6)
    np.testing.assert_allclose(fast[1], fast[0][:, -1], atol=0)
    direction = jax.random.normal(keys[0], (2, 7, 5))
    ours, theirs = (
        jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, x, start)
        for loss in (
            lambda *a: (layers.gru(*a)[0] * direction).sum(),
            lambda *a: (slow(*a) * direction).sum(),
        )
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_convolution_against_numpy() -> None:
    keys = jax.random.split(jax.random.key(1), 2)
    params = layers.conv_init(keys[0], 3, 2, 4)
    x = np.asarray(jax.random.normal(keys[1], (1, 6, 2)))
    out, tail = layers.conv(params, x, jnp.zeros((1, 2, 2)))
    padded = np.concatenate([np.zeros((2, 2)), x[0]])
    weight = np.asarray(params["w"]).reshape(3, 2, 4)
    for t in range(6):
        expected = sum(padded[t + k] @ weight[k] for k in range(3))
        np.testing.assert_allclose(out[0, t], expected, atol=1e-5)
    np.testing.assert_array_equal(tail[0], x[0, 4:])


def test_a_dilated_convolution_is_one_with_holes() -> None:
    """Its weights with zeros between them, in a convolution without dilation; also window after window."""
    keys = jax.random.split(jax.random.key(6), 2)
    params = layers.conv_init(keys[0], 3, 2, 4)
    x = np.asarray(jax.random.normal(keys[1], (2, 11, 2)))
    holes = np.zeros((7, 2, 4), np.float32)
    holes[::3] = np.asarray(params["w"]).reshape(3, 2, 4)
    expected, _ = layers.conv({"w": holes.reshape(14, 4), "b": params["b"]}, x, jnp.zeros((2, 6, 2)))
    first, tail = layers.conv(params, x[:, :4], jnp.zeros((2, 6, 2)), dilation=3)
    second, tail = layers.conv(params, x[:, 4:], tail, dilation=3)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)
    np.testing.assert_array_equal(tail, x[:, 5:])


def test_normalisation_of_a_step_by_numpy() -> None:
    x = np.asarray(jax.random.normal(jax.random.key(7), (2, 5, 9))) * 3 + 1
    params = {"gain": jnp.arange(9.0), "offset": jnp.full(9, 0.5)}
    expected = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    np.testing.assert_allclose(layers.norm(params, x), expected * np.arange(9) + 0.5, atol=1e-3)


def test_the_deviation_against_a_running_mean() -> None:
    x = np.asarray(jax.random.normal(jax.random.key(2), (2, 9, 3)))
    keep = 1 - 1 / 4.0
    expected, total, weight = np.zeros_like(x), np.zeros((2, 3)), 0.0
    for t in range(9):
        if weight:
            expected[:, t] = x[:, t] - total / weight
        total, weight = total * keep + x[:, t], weight * keep + 1
    first, state = layers.deviation(x[:, :4], layers.deviation_start(3, 2), 4.0)
    second, _ = layers.deviation(x[:, 4:], state, 4.0)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)


def test_soft_bins_one_feature_and_bin_at_a_time() -> None:
    params = layers.soft_bins_init(jax.random.key(3), 3, 4)
    x = np.asarray(jax.random.normal(jax.random.key(4), (2, 5, 3)))
    out = np.asarray(layers.soft_bins(params, x)).reshape(2, 5, 3, 4)
    for feature in range(3):
        for place in range(4):
            slope, bias = float(params["slope"][feature, place]), float(params["b"][feature, place])
            expected = np.tanh(slope * x[:, :, feature] + bias)
            np.testing.assert_allclose(out[:, :, feature, place], expected, atol=1e-6)
    assert layers.soft_bins(layers.soft_bins_init(jax.random.key(3), 3, 0), x).shape == (2, 5, 0)

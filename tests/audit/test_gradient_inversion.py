"""A step's gradient gives its window away where nothing protects it, and not under noise or in a sum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lazaretto.audit.gradient_inversion import Known, Public, Search, batch_gradient, make_inverter
from lazaretto.audit.reconstruction import reconstruction_error
from lazaretto.cut import Cut
from lazaretto.errors import InputError
from lazaretto.losses import detection_loss
from lazaretto.models.conv_gru import conv_gru
from lazaretto.split import split_gradients

F, K, T, SITES = 4, 2, 4, 20
MODEL = conv_gru(channels=8, cut_channels=6, hidden=8, past_steps=4, peak_steps=0, bins=2)
EXACT = Cut(bits=32)
EXPLAIN = batch_gradient(MODEL, EXACT)
GRADIENT = jax.jit(EXPLAIN)
PUBLIC = Public(jnp.zeros(F), jnp.ones(F))
TRIES = 3


def known(seed: int, n: int = 1) -> Known:
    rng = np.random.default_rng(seed)
    labels = jnp.asarray(rng.integers(0, K + 1, (n, T)), jnp.int32)
    return Known(MODEL.init(jax.random.key(seed), F, K), labels, jnp.ones((n, T)), jnp.ones(K + 2))


def window(seed: int, n: int = 1) -> Any:
    return np.random.default_rng(100 + seed).standard_normal((n, T, F)).astype(np.float32)


@pytest.fixture(scope="module")
def invert() -> Any:
    return make_inverter(EXPLAIN, (1, T, F), Search(steps=1500, restarts=2, learning_rate=0.05))


def ratio(found: Any, x: Any) -> float:
    return reconstruction_error(found.windows, x, np.zeros(F), ordered=True).ratio


def test_an_unprotected_step_gives_its_window_away(invert: Any) -> None:
    """All of three fixed seeds, to under half of the mean's error."""
    for seed in range(TRIES):
        x = window(seed)
        found = invert(GRADIENT(x, known(seed)), known(seed), PUBLIC, jax.random.key(seed))
        assert ratio(found, x) < 0.5, (seed, found.distances)


def test_noise_of_dp_sgd_hides_it(invert: Any) -> None:
    """Clip 1, multiplier 1: on each of three fixed seeds no better than the mean."""
    for seed in range(TRIES):
        x = window(seed)
        gradient = GRADIENT(x, known(seed))
        clipped = gradient * jnp.minimum(1.0, 1.0 / jnp.linalg.norm(gradient))
        noisy = clipped + jax.random.normal(jax.random.key(50 + seed), clipped.shape)
        assert ratio(invert(noisy, known(seed), PUBLIC, jax.random.key(seed)), x) >= 1.0


def test_clipping_alone_hides_nothing(invert: Any) -> None:
    x, gradient = window(0), GRADIENT(window(0), known(0))
    found = invert(gradient * (0.01 / jnp.linalg.norm(gradient)), known(0), PUBLIC, jax.random.key(0))
    assert ratio(found, x) < 0.2


def test_a_sum_of_sites_hides_one(invert: Any) -> None:
    """The sum of twenty, looked at for the window of the first, whose labels are known."""
    for seed in range(TRIES):
        x, first = window(seed), known(seed)
        many = known(seed, SITES)._replace(y=jnp.concatenate([first.y, known(seed + 7, SITES - 1).y]))
        others = np.concatenate([x, window(seed + 20, SITES - 1)])
        summed = sum(
            GRADIENT(others[at : at + 1], first._replace(y=many.y[at : at + 1])) for at in range(SITES)
        )
        assert ratio(invert(summed, first, PUBLIC, jax.random.key(seed)), x) >= 1.0


def test_the_gradient_is_that_of_training() -> None:
    """As the split exchange makes it, with another model's code path: features that let none pass."""
    x, given = window(3, 2), known(3, 2)
    start = MODEL.start(F, 2)

    def loss(outputs: Any, h: Any) -> Any:
        return detection_loss(outputs, given.y, given.weight, given.class_weight, 0.0, 1.0)

    params = (jax.tree.map(lambda p: p[None], given.params["bottom"]), given.params["top"])
    states = (jax.tree.map(lambda s: s[None], start[0]), start[1])

    @jax.jit
    def exchange(params: Any, x: Any) -> Any:
        return split_gradients(MODEL, EXACT, loss, params, x, states, jax.random.key(0))[1]

    bottom, top = exchange(params, x[None])
    wanted = ravel_pytree({"bottom": jax.tree.map(lambda g: g[0], bottom), "top": top})[0]
    np.testing.assert_allclose(GRADIENT(x, given), wanted, rtol=2e-4, atol=1e-6)


def test_an_attacker_sees_through_features_that_let_no_gradient_pass() -> None:
    """The slope that the attacker follows is the true one, by finite differences."""
    x, given, way = jnp.asarray(window(4)), known(4), window(5)

    def seen(x: Any) -> Any:
        return (EXPLAIN(x, given) ** 2).sum()

    slope = float((jax.jit(jax.grad(seen))(x) * way).sum())
    compiled, step = jax.jit(seen), 1e-2
    assert slope == pytest.approx(
        float((compiled(x + step * way) - compiled(x - step * way)) / (2 * step)), rel=0.05
    )


def test_what_is_refused(invert: Any) -> None:
    for vector in (np.zeros(5), np.full(5, np.nan), np.ones((2, 2))):
        with pytest.raises(InputError, match="finite vector"):
            invert(vector, known(0), PUBLIC, jax.random.key(0))
    with pytest.raises(InputError, match="shape"):
        make_inverter(EXPLAIN, (0, T, F), Search())
    with pytest.raises(InputError, match="a search needs"):
        Search(restarts=0)

"""The exam of every model, found through the catalog: nothing here names one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.metrics import roc_auc_score

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.keys import generator, jax_key
from lazaretto.losses import detection_loss
from lazaretto.split import forward
from lazaretto.types import Array, Model, Outputs

F, K, B, T = 6, 3, 4, 10


@pytest.fixture(params=catalog.names("models"), scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    made: Model = catalog.build("models", request.param)
    return made


def run(model: Model, params: Any, x: Array, states: Any = None) -> tuple[Outputs, Any]:
    given = model.start(x.shape[-1], len(x)) if states is None else states
    return forward(model, Cut(bits=32), params, x, given, (None, None))


def parts(outputs: Outputs) -> tuple[Array, Array, Array]:
    return outputs.anomaly, outputs.kinds, outputs.representation


def sample(name: str, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return generator(0, name).standard_normal(shape).astype(np.float32)


def test_its_name_is_the_file_s(model: Model) -> None:
    assert model.name in catalog.names("models")
    assert catalog.describe("models", model.name)


@pytest.mark.parametrize(("features", "kinds"), [(F, K), (1, 1)])
def test_shapes(model: Model, features: int, kinds: int) -> None:
    params = model.init(jax_key(0), features, kinds)
    assert set(params) == {"bottom", "top"}
    outputs, _ = run(model, params, sample("shapes", B, T, features))
    assert outputs.anomaly.shape == (B, T)
    assert outputs.kinds.shape == (B, T, kinds)
    assert outputs.representation.shape[:2] == (B, T)
    for values in parts(outputs):
        assert values.dtype == jnp.float32
        assert np.isfinite(values).all()


def test_initial_parameters_come_from_the_key_alone(model: Model) -> None:
    one, again, other = (ravel_pytree(model.init(jax_key(seed), F, K))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_vector_round_trip(model: Model) -> None:
    params = model.init(jax_key(0), F, K)
    vector, unravel = ravel_pytree(params)
    assert vector.ndim == 1
    assert vector.dtype == jnp.float32
    back = unravel(vector)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for left, right in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("first", [1, 4, T - 1])
def test_two_windows_in_turn_are_the_whole(model: Model, first: int) -> None:
    params = model.init(jax_key(0), F, K)
    x = sample("law", B, T, F)
    quick = jax.jit(lambda x, states: run(model, params, x, states))
    whole, _ = quick(x, None)
    head, states = quick(x[:, :first], None)
    tail, _ = quick(x[:, first:], states)
    for expected, left, right in zip(parts(whole), parts(head), parts(tail), strict=True):
        np.testing.assert_allclose(np.concatenate([left, right], axis=1), expected, rtol=1e-4, atol=1e-5)


def test_no_step_sees_the_future_or_another_stream(model: Model) -> None:
    params = model.init(jax_key(0), F, K)
    x = sample("future", B, T, F)
    changed = x.copy()
    changed[0, 6:] += 3.0
    before, after = run(model, params, x)[0], run(model, params, changed)[0]
    for left, right in zip(parts(before), parts(after), strict=True):
        np.testing.assert_allclose(left[0, :6], right[0, :6], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(left[1:], right[1:], rtol=1e-4, atol=1e-5)
    assert not np.allclose(before.anomaly[0, 6:], after.anomaly[0, 6:])


def test_compiled_equals_plain(model: Model) -> None:
    params = model.init(jax_key(0), F, K)
    x = sample("jit", B, T, F)
    plain, _ = run(model, params, x)
    compiled = jax.jit(lambda params, x: parts(run(model, params, x)[0]))(params, x)
    for left, right in zip(parts(plain), compiled, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_a_cut_is_where_it_says(model: Model) -> None:
    params = model.init(jax_key(0), F, K)
    x = sample("cut", B, T, F)
    h, _ = model.bottom(params["bottom"], x, model.start(F, B)[0])
    assert h.shape[:2] == (B, T)
    unchanged = h.shape == x.shape and np.array_equal(h, x)
    assert unchanged == (not model.split), "split=False exactly where the bottom hands on raw data"


def toy(name: str, streams: int, steps: int = 24) -> tuple[Array, Array]:
    """Two features rise together during an attack, from a random onset to the end; the rest is noise."""
    rng = generator(7, name)
    x = rng.standard_normal((streams, steps, F)).astype(np.float32)
    onset = np.where(rng.random(streams) < 0.6, rng.integers(4, steps - 6, streams), steps)
    attacked = np.arange(steps) >= onset[:, None]
    kind = rng.integers(1, K + 1, streams)
    x[..., :2] += 2.5 * attacked[..., None]
    return x, np.where(attacked, kind[:, None], 0)


def test_learns_a_toy(model: Model) -> None:
    params = model.init(jax_key(0), F, K)
    x, y = toy("train", 48)
    weight, class_weight = np.ones(y.shape, np.float32), np.ones(K + 2, np.float32)

    def loss(params: Any) -> Array:
        outputs, _ = run(model, params, x)
        if model.loss is not None:
            return model.loss(outputs, y, weight, class_weight)
        return detection_loss(outputs, y, weight, class_weight, 0.0)

    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any, Array]:
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    state, values = optimiser.init(params), []
    for _ in range(120):
        params, state, value = step(params, state)
        values.append(float(value))
    assert np.isfinite(values).all()
    assert values[-1] < 0.8 * values[0]
    x_new, y_new = toy("test", 48)
    score = np.asarray(run(model, params, x_new)[0].anomaly)
    assert roc_auc_score((y_new > 0).ravel(), score.ravel()) > 0.85

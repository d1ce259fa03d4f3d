"""The exam of every server optimiser, found through the catalog."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.keys import generator
from lazaretto.types import ServerOptimiser

D = 7


@pytest.fixture(params=catalog.names("server_optimisers"), scope="module")
def optimiser(request: pytest.FixtureRequest) -> ServerOptimiser:
    made: ServerOptimiser = catalog.build("server_optimisers", request.param)
    return made


def test_shapes_kinds_and_inputs_untouched(optimiser: ServerOptimiser) -> None:
    assert optimiser.name in catalog.names("server_optimisers")
    rng = generator(0, "server")
    vector, state = rng.standard_normal(D).astype(np.float32), optimiser.start(D)
    for _ in range(5):
        change = rng.standard_normal(D)
        held = vector.copy(), change.copy(), {name: np.array(v) for name, v in state.items()}
        new, after = optimiser.step(vector, change, state)
        np.testing.assert_array_equal(vector, held[0])
        np.testing.assert_array_equal(change, held[1])
        assert set(after) == set(state)
        for name, value in state.items():
            np.testing.assert_array_equal(value, held[2][name])
            assert after[name].shape == np.shape(value)
            assert after[name].dtype == np.float64
        assert new.dtype == np.float32
        assert new.shape == (D,)
        assert np.isfinite(new).all()
        vector, state = new, after


def test_at_the_start_no_update_moves_nothing(optimiser: ServerOptimiser) -> None:
    vector = np.arange(D, dtype=np.float32)
    new, _ = optimiser.step(vector, np.zeros(D), optimiser.start(D))
    np.testing.assert_array_equal(new, vector)


def test_parameters_do_not_mix_and_signs_do_not_matter(optimiser: ServerOptimiser) -> None:
    rng = generator(1, "server")
    changes = rng.standard_normal((6, D))

    def path(changes: np.ndarray) -> np.ndarray:
        vector, state = np.zeros(changes.shape[1], np.float32), optimiser.start(changes.shape[1])
        for change in changes:
            vector, state = optimiser.step(vector, change, state)
        return vector

    np.testing.assert_allclose(path(changes)[::-1], path(changes[:, ::-1]), rtol=1e-6)
    np.testing.assert_allclose(path(-changes), -path(changes), rtol=1e-6)
    np.testing.assert_allclose(path(changes[:, 2:3])[0], path(changes)[2], rtol=1e-6)


def test_it_finds_the_bottom_of_a_bowl(optimiser: ServerOptimiser) -> None:
    """Updates that point towards a place lead there, with the options as they are."""
    goal = np.linspace(-0.5, 0.5, D)
    vector, state = np.zeros(D, np.float32), optimiser.start(D)
    for _ in range(400):
        vector, state = optimiser.step(vector, 0.2 * (goal - vector), state)
    np.testing.assert_allclose(vector, goal, atol=0.02)


@pytest.mark.parametrize(
    ("name", "options"), [("plain", {}), ("momentum", {"learning_rate": 1.0, "decay": 0.0})]
)
def test_rate_one_without_memory_adds_the_mean_update(name: str, options: dict) -> None:
    rng = generator(2, "server")
    vector, change = rng.standard_normal(D).astype(np.float32), rng.standard_normal(D)
    made = catalog.build("server_optimisers", name, options)
    new, _ = made.step(vector, change, made.start(D))
    np.testing.assert_array_equal(new, (vector + change).astype(np.float32))

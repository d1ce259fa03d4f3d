"""Streamed sites give what stacked sites give, whatever the block, and say what went wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.errors import InputError, PlanError
from lazaretto.local import LocalTraining, SiteData
from lazaretto.round import mean_update
from lazaretto.run.simulate import compile_program, initial_vectors
from lazaretto.run.stream import add_sites, apply_totals, compile_stream, streamed_round

F, K, T, SITES = 5, 2, 4, 5
MODEL = catalog.build("models", "conv_gru", {"channels": 6, "cut_channels": 4, "hidden": 7})
TRAINING = LocalTraining(window=T, batch_units=2)


def _site(number: int) -> SiteData:
    rng = np.random.default_rng(number)
    x = rng.standard_normal((2, 4, 2 * T, F)).astype(np.float32)
    y = rng.integers(0, K + 1, (2, 4, 2 * T)).astype(np.int32)
    return SiteData(x, y, np.ones(y.shape, np.float32), np.int32(4), np.ones(K + 2, np.float32))


def _stacked(sites: range) -> SiteData:
    return SiteData(*(np.stack(v) for v in zip(*(_site(number) for number in sites), strict=True)))


@pytest.fixture(scope="module")
def expected() -> tuple[np.ndarray, np.ndarray]:
    """The vector before, and after one round of the program that stacks its sites."""
    vector = initial_vectors(MODEL, F, K, [3])[0]
    program = compile_program(MODEL, Cut(), TRAINING, F, K, 2 * T)
    padded = -(-SITES // program.cores) * program.cores
    state = program.start(np.repeat(vector[None], padded, axis=0), 2)
    keys = jax.vmap(lambda site: jax.random.fold_in(jax.random.key(9), site))(jnp.arange(padded))
    state, _ = program.round(state, program.place(_stacked(range(padded))), program.place(keys), 0.01)
    updates = np.asarray(state.vector)[:SITES] - vector
    return vector, (vector + mean_update(updates, _weights())).astype(np.float32)


# parameters move by more than 1e-3; unlike programs round otherwise, by the machine,
# and Adam divides small gradients by small ones
_APART = 5e-6


def _weights() -> np.ndarray:
    return np.arange(1, SITES + 1) / np.arange(1, SITES + 1).sum()


@pytest.mark.parametrize("sites_per_call", [1, 4])
def test_loaded_sites_give_what_stacked_sites_give(
    expected: tuple[np.ndarray, np.ndarray], sites_per_call: int
) -> None:
    before, after = expected
    stream = compile_stream(MODEL, Cut(), TRAINING, (F, K), sites_per_call=sites_per_call)
    found, loss = streamed_round(stream, before, _weights(), (jax.random.key(9), 0.01), _site)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(found, after, atol=_APART)
    assert 0 < loss < 10


def test_sites_made_inside_the_program_give_what_stacked_sites_give(
    expected: tuple[np.ndarray, np.ndarray],
) -> None:
    before, after = expected
    table = jax.tree.map(jnp.asarray, _stacked(range(SITES)))
    stream = compile_stream(
        MODEL, Cut(), TRAINING, (F, K), make=lambda number: jax.tree.map(lambda v: v[number], table)
    )
    found, _ = streamed_round(stream, before, _weights(), (jax.random.key(9), 0.01))
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(found, after, atol=2e-5)


def test_parts_of_the_sites_add_up(expected: tuple[np.ndarray, np.ndarray]) -> None:
    before, after = expected
    stream = compile_stream(MODEL, Cut(), TRAINING, (F, K), sites_per_call=1)
    randomness = jax.random.key(9), 0.01
    numbers, weights = np.arange(SITES), _weights()
    parts = [
        add_sites(stream, before, (numbers[some], weights[some]), randomness, _site)
        for some in (slice(0, None, 2), slice(1, None, 2))
    ]
    assert sum(part.sites for part in parts) == SITES
    both = parts[0]._replace(update=parts[0].update + parts[1].update, sites=SITES)
    np.testing.assert_allclose(apply_totals(before, both)[0], after, atol=_APART)


def test_an_update_that_is_not_finite_names_its_site() -> None:
    stream = compile_stream(MODEL, Cut(), TRAINING, (F, K), sites_per_call=1)
    vector = initial_vectors(MODEL, F, K, [3])[0]

    def load(number: int) -> SiteData:
        site = _site(number)
        return site._replace(x=site.x * np.float32("nan")) if number in (2, 4) else site

    with pytest.raises(InputError, match="site 2 is not finite"):
        streamed_round(stream, vector, _weights(), (jax.random.key(0), 0.01), load)


@pytest.mark.parametrize("made", [True, False])
def test_data_come_from_one_side(made: bool) -> None:
    stream = compile_stream(MODEL, Cut(), TRAINING, (F, K), make=_site if made else None)
    vector = initial_vectors(MODEL, F, K, [3])[0]
    with pytest.raises(PlanError, match="exactly one source"):
        streamed_round(stream, vector, _weights(), (jax.random.key(0), 0.01), _site if made else None)


def test_the_sum_loses_nothing_to_the_number_of_sites() -> None:
    """A large update followed by many small ones: a plain float32 sum would drop them all."""
    stream = compile_stream(MODEL, Cut(bits=32), TRAINING, (F, K), sites_per_call=2)
    vector = initial_vectors(MODEL, F, K, [3])[0]
    weights = np.full(8, 1e-9)
    weights[0] = 1.0
    randomness = jax.random.key(0), 0.01
    total = add_sites(stream, vector, (np.zeros(8, np.int64), weights), randomness, _site)
    one = add_sites(stream, vector, (np.zeros(1, np.int64), np.ones(1)), randomness, _site)
    gained = (total.update - one.update) / np.where(one.update == 0, 1, one.update)
    np.testing.assert_allclose(gained[one.update != 0], 7e-9, rtol=0.2)

"""Property inference on a site's class mix: read from a real update, not from one drowned in noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lazaretto import catalog
from lazaretto.audit.class_mix import MixedSites, class_mix_audit, drawn_with_share, mixed_sites
from lazaretto.cut import Cut
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.local import LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import unravel_of

F, T, SIZE, RECORDS = 4, 4, 32, 400
MODEL = catalog.build("models", "mlp", {"history_steps": 2, "hidden": 8})
TRAINING = LocalTraining(window=T, batch_units=16, class_balance=0.0, temporal_consistency=0.0)


def records(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows x [n, T, F], half of them attacked: their first feature is shifted by one deviation."""
    rng = generator(seed, "records")
    attacked = rng.random(RECORDS) < 0.5
    x = rng.standard_normal((RECORDS, T, F)).astype(np.float32)
    x[attacked, :, 0] += 1.0
    return x, attacked


@cache
def site_update() -> Callable[[Any, Any, Any], Any]:
    unravel = unravel_of(MODEL, F, 1)
    vector = ravel_pytree(MODEL.init(jax.random.key(0), F, 1))[0]
    run = make_site_round(MODEL, Cut(bits=32), TRAINING, unravel)

    def update(x: Any, y: Any, key: Any) -> Any:
        data = SiteData(x[None], y[None], jnp.ones(y[None].shape), jnp.int32(SIZE), jnp.ones(3))
        state = local_start(MODEL, TRAINING, vector, unravel, 1)
        return run(state, data, key, 0.01)[0].vector - vector

    return jax.jit(update)


def sites(seed: int, count: int) -> MixedSites:
    x, attacked = records(seed)
    y = np.repeat(attacked[:, None], T, axis=1).astype(np.int32)

    def update(rows: np.ndarray, key: int) -> Any:
        return site_update()(x[rows], y[rows], jax.random.key(key))

    return mixed_sites(update, attacked, count, SIZE, (0.05, 0.95), generator(seed, "sites"))


@cache
def both() -> tuple[MixedSites, MixedSites]:
    return sites(0, 60), sites(1, 40)


def test_the_mix_is_read_from_the_update_of_a_site() -> None:
    found = class_mix_audit(*both(), generator(0))
    assert found.learned
    assert found.ratio.value < 0.6, found
    assert found.targets == 40


def test_noise_of_the_size_of_the_update_times_ten_hides_it() -> None:
    """In 20 draws the attack claims to have learnt at most twice (each by chance with 2.5 %)."""
    shadows, targets = both()
    scale = 10 * np.linalg.norm(shadows.updates, axis=1).mean()

    def noisy(given: MixedSites, seed: int) -> MixedSites:
        noise = generator(seed, "noise").normal(0, scale, given.updates.shape)
        return given._replace(updates=given.updates + noise)

    found = [
        class_mix_audit(noisy(shadows, seed), noisy(targets, seed + 99), generator(seed))
        for seed in range(20)
    ]
    assert sum(one.learned for one in found) <= 2
    assert np.mean([one.ratio.value for one in found]) > 0.95


def test_error_and_floor_by_hand() -> None:
    shares = np.linspace(0, 1, 11)
    exact = MixedSites(shares[:, None] * np.array([[2.0, 0.0, 1.0]]), shares)
    found = class_mix_audit(exact, exact, generator(0))
    assert found.floor == pytest.approx(np.sqrt(0.1))
    assert found.error < 1e-3
    assert found.ratio.low <= found.ratio.value <= found.ratio.high


def test_a_site_has_the_share_that_was_asked_for() -> None:
    attacked = np.arange(20) < 8
    rows = drawn_with_share(attacked, 0.3, 10, generator(0))
    assert len(set(rows.tolist())) == 10
    assert attacked[rows].sum() == 3
    with pytest.raises(DataError, match="too few records"):
        drawn_with_share(attacked, 0.9, 10, generator(0))
    with pytest.raises(DataError, match="a share"):
        drawn_with_share(attacked, 1.1, 10, generator(0))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            lambda ten: class_mix_audit(ten, MixedSites(ten.updates[:9], ten.shares[:9]), generator(0)),
            "targets",
        ),
        (
            lambda ten: class_mix_audit(ten, MixedSites(ten.updates[:, :2], ten.shares), generator(0)),
            "targets",
        ),
        (
            lambda ten: class_mix_audit(MixedSites(ten.updates * np.nan, ten.shares), ten, generator(0)),
            "shadow",
        ),
        (lambda ten: class_mix_audit(ten, ten, generator(0)), "mean share"),
        (
            lambda ten: mixed_sites(lambda r, s: [0.0], ten.shares > 1, 2, 2, (0.5, 0.5), generator(0)),
            "range",
        ),
        (lambda ten: mixed_sites(lambda r, s: r, ten.shares > 0, 2, 2, (0.9, 1.0), generator(0)), None),
        (
            lambda ten: mixed_sites(lambda r, s: [[0.0]], ten.shares > 0, 2, 2, (0.9, 1.0), generator(0)),
            "shape",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(wrong: Callable[[MixedSites], Any], match: str | None) -> None:
    ten = MixedSites(np.ones((10, 3)), np.full(10, 0.5))
    if match is None:
        assert wrong(ten).shares.tolist() == [1.0, 1.0]
        return
    with pytest.raises(DataError, match=match):
        wrong(ten)

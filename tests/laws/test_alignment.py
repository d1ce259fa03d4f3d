"""Alignment and distance correlation: laws, and slow loops beside them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lazaretto.alignment import alignment_loss, distance_correlation, info_nce
from lazaretto.types import Pair

B, T, P = 3, 4, 5


def _pair(seed: int, share: float = 0.8) -> Pair:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, B, T, P)).astype(np.float32)
    return Pair(a, b, rng.random((B, T)) < share)


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_against_a_slow_loop(seed: int) -> None:
    pair, temperature = _pair(seed), 0.3
    unit = [(u, t) for u in range(B) for t in range(T) if pair.both[u, t]]

    def cosine(p: np.ndarray, q: np.ndarray) -> float:
        return float(p @ q / np.linalg.norm(p) / np.linalg.norm(q))

    losses = []
    for u, t in unit:
        others = [(v, s) for v, s in unit if v != u]
        for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
            own = np.exp(cosine(here[u, t], there[u, t]) / temperature)
            rest = sum(np.exp(cosine(here[u, t], there[v, s]) / temperature) for v, s in others)
            losses.append(-np.log(own / (own + rest)) / 2)
    expected = sum(losses) / len(unit)
    np.testing.assert_allclose(info_nce(pair, temperature), expected, rtol=1e-4)


def test_partners_that_agree_cost_less_and_nothing_to_pair_costs_nothing() -> None:
    pair = _pair(0, 1.0)
    same = pair._replace(b=pair.a)
    assert info_nce(same, 0.2) < info_nce(pair, 0.2)
    assert info_nce(pair._replace(both=np.zeros((B, T), bool)), 0.2) == 0
    one = Pair(pair.a[:1], pair.b[:1], pair.both[:1])
    np.testing.assert_allclose(info_nce(one, 0.2), 0.0, atol=1e-6)
    gradient = jax.grad(lambda a: info_nce(pair._replace(a=a, both=np.zeros((B, T), bool)), 0.2))(pair.a)
    assert np.isfinite(gradient).all()


def test_what_is_not_there_has_no_say() -> None:
    pair = _pair(1, 0.5)
    changed = np.where(pair.both[..., None], pair.b, 7.0).astype(np.float32)
    np.testing.assert_allclose(info_nce(pair, 0.2), info_nce(pair._replace(b=changed), 0.2), rtol=1e-6)


def test_weights_of_the_terms() -> None:
    pairs = (_pair(0), _pair(1))
    expected = 0.5 * info_nce(pairs[0], 0.2) + 2.0 * info_nce(pairs[1], 0.2)
    np.testing.assert_allclose(alignment_loss(pairs, (0.5, 2.0), 0.2), expected, rtol=1e-6)
    assert alignment_loss(pairs, (0.0, 0.0), 0.2) == 0
    assert alignment_loss((), (1.0, 1.0), 0.2) == 0


def test_distance_correlation_of_known_cases() -> None:
    """1 for a similarity map, whatever the turn and size; near 0 for independent rows; between for others."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    np.testing.assert_allclose(distance_correlation(x, 4 * x @ turn + 1), 1.0, atol=1e-3)
    apart = rng.standard_normal((400, 2)).astype(np.float32)
    assert distance_correlation(x, apart) < 0.3  # biased upwards by about 1 / sqrt(n) and the dimensions
    assert distance_correlation(x, apart) < distance_correlation(x, x[:, :1] ** 2) < 1
    assert distance_correlation(x, np.ones((400, 2), np.float32)) < 1e-2
    gradient = jax.grad(lambda h: distance_correlation(jnp.asarray(x[:20]), h))(jnp.zeros((20, 2)))
    assert np.isfinite(gradient).all()

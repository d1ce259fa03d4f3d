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


def _slow(x: np.ndarray, h: np.ndarray) -> float:
    """The definition: U-centred distances, summed over pairs."""
    n = len(x)

    def centred(values: np.ndarray) -> np.ndarray:
        far = np.array([[np.linalg.norm(p - q) for q in values] for p in values])
        out = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    out[i, j] = far[i, j] - far[i].sum() / (n - 2) - far[:, j].sum() / (n - 2)
                    out[i, j] += far.sum() / ((n - 1) * (n - 2))
        return out

    a, b = centred(x), centred(h)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_distance_correlation_against_its_definition_with_and_without_padding() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((15, 3)).astype(np.float32)
    h = np.concatenate([x[:, :1], rng.standard_normal((15, 1))], axis=1).astype(np.float32)
    expected = max(_slow(x, h), 0.0)
    assert expected > 0.1
    np.testing.assert_allclose(distance_correlation(x, h, np.ones(15)), expected, atol=1e-4)
    pad = lambda v: np.concatenate([v, np.full((9, v.shape[1]), 3.0, np.float32)])  # noqa: E731
    use = np.r_[np.ones(15), np.zeros(9)]
    np.testing.assert_allclose(distance_correlation(pad(x), pad(h), use), expected, atol=1e-4)


def test_distance_correlation_of_known_cases() -> None:
    """1 for a similarity map; about 0 for independent rows; between for others."""
    rng = np.random.default_rng(0)
    x, every = rng.standard_normal((200, 3)).astype(np.float32), np.ones(200)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    np.testing.assert_allclose(distance_correlation(x, 4 * x @ turn + 1, every), 1.0, atol=1e-3)
    apart = rng.standard_normal((200, 2)).astype(np.float32)
    assert distance_correlation(x, apart, every) < 0.05  # five standard deviations are some .02
    assert 0.05 < distance_correlation(x, x[:, :1] ** 2, every) < 0.9
    assert distance_correlation(x, np.ones((200, 2), np.float32), every) < 1e-2
    assert distance_correlation(x, x, np.r_[np.ones(3), np.zeros(197)]) == 0, "too few rows"
    gradient = jax.grad(lambda h: distance_correlation(jnp.asarray(x[:20]), h, every[:20]))(
        jnp.zeros((20, 2))
    )
    assert np.isfinite(gradient).all()

"""Copies count once, and honest updates are not taken for copies, whoever else sends what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.aggregate.distinct import distinct
from lazaretto.aggregate.mean import mean
from lazaretto.aggregate.multi_krum import multi_krum
from lazaretto.aggregate.nnm import nnm
from lazaretto.attack.mimic import mimic
from lazaretto.attack_types import AttackContext
from lazaretto.chain import chain
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import aggregate_once
from lazaretto.types import Gram

D = 400


def honest(seed: int, count: int = 14) -> np.ndarray:
    return generator(seed, "honest", count).normal(size=(count, D)) + 0.5


def weights(rows: np.ndarray, near: float = 0.1) -> np.ndarray:
    gram = distinct(near).gram
    assert gram is not None
    seen = Gram(inner_products(rows), np.ones(len(rows)), np.arange(len(rows)))
    return gram(seen, {}, generator(0, "rule")).weights


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 0.2), st.integers(0, 13))
def test_copies_with_a_little_noise_leave_the_mean_as_it_was(
    seed: int, copies: int, noise: float, which: int
) -> None:
    """Squared distances of honest rows are 2 D; of copies with noise s at most 2 s² D, a twenty-fifth."""
    rows = honest(seed)
    sent = rows[which] + noise * generator(seed, "noise").normal(size=(copies, D))
    together = np.concatenate([rows, sent])
    of_one = rows.copy()
    of_one[which] = np.concatenate([rows[which : which + 1], sent]).mean(axis=0)
    found = aggregate_once(chain(distinct(), mean()), together)
    np.testing.assert_allclose(found, of_one.mean(axis=0), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 9), st.sampled_from([0.0, 1e-3, 30.0, 1e5]), st.booleans())
def test_no_minority_makes_honest_updates_seem_copies(
    seed: int, hostile: int, scale: float, alike: bool
) -> None:
    rows = honest(seed, 20 - hostile)
    sent = generator(seed, "hostile").normal(size=(hostile, D)) * scale
    sent = np.broadcast_to(sent[:1], sent.shape) if alike and hostile else sent
    found = weights(np.concatenate([rows, sent]))
    np.testing.assert_array_equal(found[: len(rows)], np.eye(20)[: len(rows)])


@pytest.mark.parametrize("seed", range(4))
def test_mimics_no_longer_draw_a_robust_mean_their_way(seed: int) -> None:
    """Sites of two unlike kinds, and six that copy the one farthest out."""
    rows = honest(seed)
    rows[:5] += 2.0 * generator(seed, "kind").normal(size=D)
    craft = mimic().craft
    assert craft is not None
    sent = craft(rows, rows[:6], AttackContext(), generator(seed, "attack"))
    together = np.concatenate([rows, sent])

    def away(*rules: object) -> float:
        return float(np.linalg.norm(aggregate_once(chain(*rules), together) - rows.mean(axis=0)))

    assert away(distinct(), nnm(), multi_krum()) < 0.7 * away(nnm(), multi_krum())


def test_one_update_and_none_near_are_left_alone() -> None:
    rows = honest(1, 5)
    np.testing.assert_array_equal(weights(rows), np.eye(5))
    np.testing.assert_array_equal(weights(rows[:1]), np.eye(1))
    copied = np.concatenate([rows, rows[:1]])
    np.testing.assert_allclose(weights(copied, near=0.0)[0], [0.5, 0, 0, 0, 0, 0.5])

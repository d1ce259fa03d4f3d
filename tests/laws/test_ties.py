"""Which site sent which of several updates that are alike but for direction decides nothing, in any rule."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.chain import chain
from lazaretto.keys import generator
from lazaretto.round import Aggregated, Arrived, aggregate_once, aggregate_round
from lazaretto.types import Rule

FOUND: dict[str, Rule] = {name: catalog.build("rules", name) for name in catalog.names("rules")}
ENDS = [rule for rule in FOUND.values() if not rule.mixes]
CHAINS = [chain(mixer, end) for mixer in FOUND.values() if mixer.mixes for end in ENDS]
ALL = {made.name: made for made in [*ENDS, *CHAINS]}
D = 60


def cross(arms: int) -> Any:
    """[2 · arms, D]: pairs at one distance from their middle, each along an axis of its own."""
    X = np.full((2 * arms, D), 0.5, np.float32)
    for arm in range(arms):
        X[2 * arm, arm] += 0.25
        X[2 * arm + 1, arm] -= 0.25
    return X


def play(rule: Rule, X: Any, rng: np.random.Generator | None = None) -> Aggregated:
    public = {"previous": np.full(D, 0.4), "root": np.full(D, 0.6)}
    n = len(X)
    arrived = Arrived(X, np.ones(n), np.arange(n), 2.0 * X.astype(np.float64) if rule.history else None)
    return aggregate_round(rule, arrived, public, rule.start(n), rng or generator(0, "draw"))


def draws_lots(rule: Rule) -> bool:
    """Who is drawn together is chance, and chance goes by places."""
    first, rng = play(rule, cross(2)).update, generator(0, "lots")
    before = rng.bit_generator.state
    if np.array_equal(play(rule, cross(2), rng).update, first) and rng.bit_generator.state == before:
        return False
    return any(not np.array_equal(play(rule, cross(2), rng).update, first) for _ in range(30))


BY_LOT = {name for name, rule in ALL.items() if draws_lots(rule)}


def test_few_rules_draw_lots() -> None:
    assert len(BY_LOT) < 0.3 * len(ALL)


@pytest.mark.parametrize("arms", [1, 2])
@pytest.mark.parametrize("name", [name for name in ALL if name not in BY_LOT])
def test_who_of_equals_comes_first_decides_nothing(name: str, arms: int) -> None:
    X = cross(arms)
    one = play(ALL[name], X)
    for order in map(np.array, itertools.permutations(range(len(X)))):
        two = play(ALL[name], X[order])
        np.testing.assert_allclose(two.update, one.update, rtol=1e-9, atol=1e-9, err_msg=str(order))
        np.testing.assert_allclose(two.suspicion, one.suspicion[order], atol=1e-7, err_msg=str(order))


@pytest.mark.parametrize("name", ["spectral", "clip | spectral", "dnc", "clip | dnc"])
@pytest.mark.parametrize("arms", [2, 3, 4, 7])
def test_no_direction_is_the_widest_of_several_as_wide(name: str, arms: int) -> None:
    """The middle of a cross is its mean, whoever of it goes; shortened, it is a smaller cross elsewhere."""
    X, rng = cross(arms), generator(1, "order")
    one = play(ALL[name], X)
    if "clip" not in name:
        np.testing.assert_allclose(one.update, X.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(one.suspicion, 0.0, atol=1e-5)
    for _ in range(9):
        order = rng.permutation(len(X))
        two = play(ALL[name], X[order])
        np.testing.assert_allclose(two.update, one.update, rtol=1e-9)
        np.testing.assert_allclose(two.suspicion, one.suspicion[order], atol=1e-5)


def test_two_that_stand_out_alike_lose_half_of_their_weight_each() -> None:
    """By hand: along the first axis -3, 3 and 0, so that of one update to go either gives half."""
    rows = [[-3.0, 1.0], [3.0, 1.0], [0.0, -2.0]]
    for order in itertools.permutations(rows):
        found = aggregate_once(catalog.build("rules", "spectral", {"hostile": 0.4}), list(order))
        np.testing.assert_allclose(found, [0.0, (0.5 + 0.5 - 2.0) / 2], atol=1e-9)


def test_what_is_left_of_two_goes_before_another_does() -> None:
    """By hand: two of seven go. Five lie in the middle; the two ends, alike, go whole, in two halves each."""
    rows = [[-3.0], [3.0], [0.0], [0.5], [-0.5], [0.25], [-0.25]]
    rule = catalog.build("rules", "spectral", {"hostile": 0.3})
    found = aggregate_round(
        rule,
        Arrived(np.array(rows, np.float32), np.ones(7), np.arange(7)),
        {},
        rule.start(7),
        generator(0),
    )
    np.testing.assert_allclose(found.weights, [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2], atol=1e-9)
    assert (found.suspicion[:2] > 0.8).all()
    assert (found.suspicion[2:] == 0).all()

"""Server optimisers against the formulas of their papers, by hand, and against optax where it has them."""

from __future__ import annotations

import math

import numpy as np
import optax
import pytest

from lazaretto.server.adamw import adamw
from lazaretto.server.fedadam import fedadam
from lazaretto.server.fedyogi import fedyogi
from lazaretto.server.momentum import momentum

# One parameter, eta = .1, beta1 = .5, beta2 = .75, tau = .5, updates 1, then -2; worked by hand after
# Algorithm 2 of arXiv:2003.00295 from m = 0 and v = tau² = .25.
#   FedAdam: m = .5,  v = .75·.25 + .25·1 = .4375;    w1 = .1·.5 / (√.4375 + .5)
#            m = -.75, v = .75·.4375 + .25·4 = 1.328125; w2 = w1 − .1·.75 / (√1.328125 + .5)
#   FedYogi: v = .25 − .25·1·sign(.25 − 1) = .5;       w1 = .1·.5 / (√.5 + .5)
#            v = .5 − .25·4·sign(.5 − 4) = 1.5;          w2 = w1 − .1·.75 / (√1.5 + .5)
BY_HAND = {
    fedadam: (0.05 / (math.sqrt(0.4375) + 0.5), -0.075 / (math.sqrt(1.328125) + 0.5)),
    fedyogi: (0.05 / (math.sqrt(0.5) + 0.5), -0.075 / (math.sqrt(1.5) + 0.5)),
}


@pytest.mark.parametrize("make", BY_HAND, ids=lambda make: make.__name__)
def test_two_rounds_by_hand(make: object) -> None:
    made = make(learning_rate=0.1, beta1=0.5, beta2=0.75, tau=0.5)  # type: ignore[operator]
    vector, state = np.zeros(1, np.float32), made.start(1)
    for change, moved in zip((1.0, -2.0), BY_HAND[make], strict=True):  # type: ignore[index]
        new, state = made.step(vector, np.array([change]), state)
        assert float(new[0] - vector[0]) == pytest.approx(moved, rel=1e-5)
        vector = new


def test_yogi_forgets_a_large_update_slowly() -> None:
    """After one large update and many small ones Adam's second moment has fallen by far, Yogi's hardly."""
    held = {}
    for make in (fedadam, fedyogi):
        made = make(beta2=0.9)
        vector, state = np.zeros(1, np.float32), made.start(1)
        for change in (10.0, *([0.1] * 30)):
            vector, state = made.step(vector, np.array([change]), state)
        held[make.__name__] = float(state["second"][0])
    assert held["fedadam"] < 1.0 < 9.0 < held["fedyogi"]


def test_momentum_is_optax_s() -> None:
    rng = np.random.default_rng(0)
    changes = rng.standard_normal((8, 5))
    made, theirs = momentum(learning_rate=0.3, decay=0.8), optax.sgd(0.3, momentum=0.8)
    ours = other = np.zeros(5, np.float32)
    state, their_state = made.start(5), theirs.init(other)
    for change in changes:
        ours, state = made.step(ours, change, state)
        step, their_state = theirs.update(-change.astype(np.float32), their_state)
        other = optax.apply_updates(other, step)
    np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rounds", [0, 6])
def test_adamw_is_optax_s_also_while_its_step_falls_and_after(rounds: int) -> None:
    rng = np.random.default_rng(1)
    rate = optax.cosine_decay_schedule(0.3, rounds, alpha=0.02) if rounds else 0.3
    made = adamw(learning_rate=0.3, weight_decay=0.2, rounds=rounds)
    theirs = optax.adamw(rate, weight_decay=0.2)
    ours = other = rng.standard_normal(5).astype(np.float32)
    state, their_state = made.start(5), theirs.init(other)
    for change in rng.standard_normal((10, 5)):
        ours, state = made.step(ours, change, state)
        step, their_state = theirs.update(-change.astype(np.float32), their_state, other)
        other = np.asarray(optax.apply_updates(other, step))
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=2e-5)

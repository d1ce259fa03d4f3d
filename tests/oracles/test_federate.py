"""FedProx and SCAFFOLD through the whole path against slow loops after their papers, on least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.keys import generator
from lazaretto.local import LocalTraining, SiteData
from lazaretto.run.federation import train_federation
from lazaretto.run.post import Post
from lazaretto.run.simulate import compile_program
from lazaretto.run.taking_part import Federation
from lazaretto.run.train import Schedule
from lazaretto.types import Model, Outputs, Selection

SITES, DEVICES, UNITS, STEPS, WINDOW, EPOCHS, ROUNDS, RATE = 3, 2, 2, 8, 4, 3, 6, 0.05
A, B = 3, 2  # inputs of the site's part and of the device's; one more column holds the target
TAKES = ((0, 1), (1, 2), (0, 2), (0, 1), (0, 1), (1, 2))  # who takes part in each round


def least_squares() -> Model:
    """Residual of a · w + b · v, where b · v is computed on the device: gradients known by hand."""

    def init(key: Any, features: int, kinds: int) -> dict[str, Any]:
        return {"bottom": {"v": jnp.zeros(B)}, "top": {"w": jnp.zeros(A)}}

    def bottom(params: Any, x: Any, state: Any) -> tuple[Any, Any]:
        sent = x[..., A : A + B] @ params["v"]
        return jnp.concatenate([x[..., :A], sent[..., None], x[..., -1:]], axis=-1), state

    def top(params: Any, h: Any, state: Any) -> tuple[Outputs, Any]:
        guess = h[..., :A] @ params["w"] + h[..., A]
        return Outputs(guess, jnp.zeros((*guess.shape, 1)), h, guess - h[..., -1]), state

    def loss(outputs: Outputs, y: Any, weight: Any, class_weight: Any) -> Any:
        return 0.5 * jnp.mean(outputs.extra**2)

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return (), ()

    return Model(name="least_squares", init=init, start=start, bottom=bottom, top=top, loss=loss)


def data() -> SiteData:
    """Each site has another truth, so that they drift apart."""
    rng = generator(0, "least squares")
    x = rng.standard_normal((SITES, DEVICES, UNITS, STEPS, A + B + 1))
    truth = rng.standard_normal((SITES, A + B))
    x[..., -1] = np.einsum("sdutf,sf->sdut", x[..., :-1], truth)
    shape = x.shape[:-1]
    one = np.ones(SITES, np.int32)
    return SiteData(
        x.astype(np.float32),
        np.zeros(shape, np.int32),
        np.ones(shape, np.float32),
        one * UNITS,
        np.ones((SITES, 3)),
    )


def gradients(x: Any, w: Any) -> Iterator[Any]:
    """By hand, of the site's loss at w = (v, w), window after window, epoch after epoch. w may change."""
    for _ in range(EPOCHS):
        for begin in range(0, STEPS, WINDOW):
            rows = x[:, :, begin : begin + WINDOW].reshape(-1, A + B + 1).astype(np.float64)
            inputs = np.concatenate([rows[:, A : A + B], rows[:, :A]], axis=1)  # as the vector: bottom, top
            yield inputs.T @ (inputs @ w - rows[:, -1]) / len(rows)


def scheduled() -> Selection:
    rounds = iter(TAKES)
    return Selection(
        name="scheduled", choose=lambda rng, sizes, losses, count: (np.array(next(rounds)), np.ones(count))
    )


def ours(algorithm: str, options: dict[str, Any]) -> Any:
    training = LocalTraining(
        window=WINDOW,
        batch_units=UNITS,
        local_epochs=EPOCHS,
        optimiser="sgd",
        momentum=0.0,
        clip_norm=1e9,
        synchronise="step",
    )
    federation = Federation(
        algorithm=catalog.build("algorithms", algorithm, options),
        server=catalog.build("server_optimisers", "plain"),
        selection=scheduled(),
        rule=catalog.build("rules", "mean"),
        participation=2 / 3,
    )
    program = compile_program(
        least_squares(), Cut(bits=32), training, A + B + 1, 1, STEPS, federation.algorithm
    )
    return train_federation(
        program,
        data(),
        [f"site {k}" for k in range(SITES)],
        np.ones(SITES, np.int64),
        federation,
        Schedule(rounds=ROUNDS, learning_rate=RATE, cosine=False),
        (np.zeros(A + B, np.float32), 0),
        (Post(), None, lambda *round_done: None),
    )[0]


def fedprox(mu: float) -> Any:
    """arXiv:1812.06127, Algorithm 2, each local problem solved by the same few gradient steps."""
    x, common = data().x, np.zeros(A + B)
    for chosen in TAKES:
        found = []
        for site in chosen:
            w = common.copy()
            for gradient in gradients(x[site], w):
                w -= RATE * (gradient + mu * (w - common))
            found.append(w)
        common = np.mean(found, axis=0)
    return common


def scaffold() -> Any:
    """arXiv:1910.06378, Algorithm 1 with option II and a global step of 1."""
    x, common = data().x, np.zeros(A + B)
    c, c_of = np.zeros(A + B), np.zeros((SITES, A + B))
    steps = EPOCHS * STEPS // WINDOW
    for chosen in TAKES:
        moves, changes = [], []
        for site in chosen:
            y = common.copy()
            for gradient in gradients(x[site], y):
                y -= RATE * (gradient - c_of[site] + c)
            new = c_of[site] - c + (common - y) / (steps * RATE)
            moves.append(y - common)
            changes.append(new - c_of[site])
            c_of[site] = new
        common = common + np.mean(moves, axis=0)
        c = c + len(chosen) / SITES * np.mean(changes, axis=0)
    return common


@pytest.mark.parametrize("mu", [0.0, 0.5, 4.0])
def test_fedprox_is_its_paper_s(mu: float) -> None:
    np.testing.assert_allclose(ours("fedprox", {"mu": mu}), fedprox(mu), atol=2e-5)


def test_scaffold_with_means_along_the_path_is_option_two() -> None:
    expected = scaffold()
    assert np.abs(expected - fedprox(0.0)).max() > 0.02, "the correction does something here"
    np.testing.assert_allclose(ours("scaffold", {}), expected, atol=2e-5)


def test_fedavg_is_fedprox_without_a_pull() -> None:
    # two programs: the compiler may round a last bit otherwise
    np.testing.assert_allclose(ours("fedavg", {}), ours("fedprox", {"mu": 0.0}), rtol=1e-6)
    np.testing.assert_allclose(ours("fedavg", {}), fedprox(0.0), atol=2e-5)

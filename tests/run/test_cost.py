"""The count of operations against XLA's where there is no loop, against unrolled loops, and by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.local import LocalTraining, SiteData
from lazaretto.run.cost import cost_of_training, cost_table, operations, seconds_table


def counted(function: Any, *arrays: Any, trips: int = 1) -> float:
    return operations(jax.make_jaxpr(function)(*arrays).jaxpr, trips)


def by_xla(function: Any, *arrays: Any) -> float:
    found: Any = jax.jit(function).lower(*arrays).cost_analysis()
    return float(found["flops"])


X, W = jnp.ones((5, 7)), jnp.ones((7, 3))


def test_a_product_of_matrices_is_two_for_each_multiplication() -> None:
    assert counted(jnp.dot, X, W) == 2 * 5 * 7 * 3 == by_xla(jnp.dot, X, W)
    batched = jnp.ones((4, 5, 7)), jnp.ones((4, 7, 3))
    assert counted(jnp.matmul, *batched) == 4 * 2 * 5 * 7 * 3 == by_xla(jnp.matmul, *batched)


def test_a_convolution_is_that_of_xla() -> None:
    def convolve(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    x, kernel = jnp.ones((2, 20, 6)), jnp.ones((5, 6, 4))
    assert counted(convolve, x, kernel) == 2 * (2 * 16 * 4) * 5 * 6 == by_xla(convolve, x, kernel)


def test_arithmetic_and_sums_count_their_elements() -> None:
    assert counted(lambda x: (x * 2 + 1).sum(), X) == 3 * 35
    assert counted(lambda x: (x > 1).astype(jnp.int32) + jnp.arange(7), X) == 0


def test_a_gradient_is_within_a_tenth_of_xla_s_count() -> None:
    def loss(w: Any, x: Any) -> Any:
        return jnp.square(jnp.maximum(x @ w, 0) @ w.T - x).sum()

    w, x = jnp.ones((40, 16)), jnp.ones((32, 40))
    assert counted(jax.grad(loss), w, x) == pytest.approx(by_xla(jax.grad(loss), w, x), rel=0.1)


def test_loops_are_multiplied_out() -> None:
    def step(carry: Any, _: Any) -> Any:
        return carry @ jnp.ones((7, 7)) + 1, None

    def looped(x: Any) -> Any:
        return jax.lax.scan(step, x, None, length=6)[0]

    def unrolled(x: Any) -> Any:
        for _ in range(6):
            x, _none = step(x, None)
        return x

    assert counted(looped, X) == counted(unrolled, X) == 6 * (2 * 5 * 7 * 7 + 35)
    assert by_xla(looped, X) < counted(looped, X) / 3  # why XLA's own count is not used

    def unknown(x: Any, times: Any) -> Any:
        return jax.lax.fori_loop(0, times, lambda _, x: x @ jnp.ones((7, 7)), x)

    assert [counted(unknown, X, 3, trips=n) for n in (0, 1, 5)] == [0, 490, 2450]
    branches = counted(
        lambda x, up: jax.lax.cond(up, lambda x: x @ jnp.ones((7, 7)), lambda x: x, x), X, True
    )
    assert branches == 490


def test_a_site_s_training_grows_with_its_batches_rounds_and_window() -> None:
    model = catalog.build("models", "gru", {})

    def flops(units: list[int], rounds: int = 1, length: int = 16, local_epochs: float = 1.0) -> list[float]:
        sites = len(units)
        data = SiteData(
            np.zeros((sites, 1, 8, length, 5), np.float32),
            np.zeros((sites, 1, 8, length), np.int32),
            np.zeros((sites, 1, 8, length), np.float32),
            np.array(units, np.int32),
            np.ones((sites, 4), np.float32),
        )
        training = LocalTraining(window=8, batch_units=4, local_epochs=local_epochs)
        rows = cost_of_training(model, Cut(32), training, 2, data, rounds)
        return [row["flops"] for row in rows]

    one, same, two = flops([1, 4, 5])
    assert one == same  # padding of a batch is computed too
    assert 1.9 < two / one < 2.0  # two batches; what happens once a round is little
    assert flops([4], rounds=3) == [3 * one]
    assert 1.8 < flops([4], length=32)[0] / one < 2.01
    assert flops([0, 4]) == [one]  # a place without units trains nothing
    assert flops([4, 8], local_epochs=0.5) == [one, one]
    assert 2.9 < flops([4], local_epochs=3)[0] / one < 3.0

    # by hand: a GRU of h hidden and its input products, forward once and backward twice
    hidden = model.start(5, 1)[1].shape[-1]
    least = 3 * 2 * 4 * 16 * (3 * hidden * hidden + 3 * 5 * hidden)
    assert least < one < 3 * least


def test_the_table_takes_each_system_s_own_stages_and_messages() -> None:
    def row(kind: str, link: str, direction: str, size: int) -> dict[str, Any]:
        return {"kind": kind, "link": link, "direction": direction, "bytes": size}

    messages = [
        {
            "system": "federated split",
            "rows": [
                row("update", "site-coordinator", "up", 70),
                row("model", "site-coordinator", "down", 50),
                row("activations", "device-site", "up", 11),
                row("gradients", "device-site", "down", 12),
            ],
        }
    ]
    stages = [
        {"name": "federated split", "seconds": 5.0, "compile_seconds": 1.0, "cost": {"flops": 10.0}},
        {"name": "federated split", "seconds": 2.0, "compile_seconds": 0.0, "cost": {"flops": 30.0}},
        {"name": "federated split without flood", "seconds": 99.0, "compile_seconds": None, "cost": None},
        {
            "name": "pooled",
            "seconds": 9.0,
            "compile_seconds": 3.0,
            "cost": {"flops": 8.0, "trainings": 4, "parameters": 100},
        },
        {"name": "local", "seconds": 1.0, "compile_seconds": None, "cost": {"flops": 10.0}},
        {"name": "gradient_boosting", "seconds": 7.0, "compile_seconds": None, "cost": None},
    ]
    names = ["federated split", "local", "pooled", "gradient_boosting", "not trained"]
    found = cost_table(names, stages, messages, 1234, 3)
    assert found == {
        "federated_split": {"flops": 20.0, "bytes": {"up": 70, "down": 50, "inside": 23}},
        "local": {"flops": 10.0, "bytes": {"up": 0, "down": 0, "inside": None}},
        "pooled": {"flops": 8.0, "bytes": {"up": 1234, "down": 1200, "inside": 0}},
        "gradient_boosting": {"flops": None, "bytes": {"up": 1234, "down": None, "inside": 0}},
    }
    assert seconds_table(names, stages) == {
        "federated_split": 3.0,
        "local": 1.0,
        "pooled": 1.5,
        "gradient_boosting": 7.0,
    }

"""Where a batch of workload W spends its time on one core: its matrix products, in float32 and bfloat16.

    python benchmarks/profile_w.py

Each product is timed by itself inside a loop that XLA compiles, as CPU seconds, the fastest of several;
"turned" are gradients of weights, made in the order that `models/_layers.py` chooses. What a batch takes
beyond the sum of its products is gates, GELU, softmax, copies between layouts, SGD, starting kernels.
"""

# ruff: noqa: T201
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import engine
import jax
import jax.numpy as jnp
import machine
import numpy as np
import workload as w

from lazaretto.run.backend import compiler_options
from lazaretto.run.stream import streamed_round

__all__ = ["main"]

ROWS = w.BATCH * w.STEPS
# name: left [m, k], right [k, n], how often in a batch, whether the left is stored as [k, m]
PRODUCTS = {
    "conv1 forward": (ROWS, w.WIDTH * w.FEATURES, w.CHANNELS, 1, False),
    "conv1 weights (turned)": (w.CHANNELS, ROWS, w.WIDTH * w.FEATURES, 1, True),
    "conv2 forward": (ROWS, w.WIDTH_2 * w.CHANNELS, w.CUT, 1, False),
    "conv2 weights (turned)": (w.CUT, ROWS, w.WIDTH_2 * w.CHANNELS, 1, True),
    "conv2 inputs": (ROWS, w.CUT, w.WIDTH_2 * w.CHANNELS, 1, False),
    "GRU input forward": (ROWS, w.CUT, 3 * w.HIDDEN, 1, False),
    "GRU input weights": (w.CUT, ROWS, 3 * w.HIDDEN, 1, True),
    "GRU input inputs": (ROWS, 3 * w.HIDDEN, w.CUT, 1, False),
    "GRU state forward, a step": (w.BATCH, w.HIDDEN, 3 * w.HIDDEN, w.STEPS, False),
    "GRU state inputs, a step": (w.BATCH, 3 * w.HIDDEN, w.HIDDEN, w.STEPS, False),
    "GRU state weights": (w.HIDDEN, ROWS, 3 * w.HIDDEN, 1, True),
    "head forward": (ROWS, w.HIDDEN, w.CLASSES, 1, False),
    "head weights (turned)": (w.CLASSES, ROWS, w.HIDDEN, 1, True),
    "head inputs": (ROWS, w.CLASSES, w.HIDDEN, 1, False),
}


def _fastest(work: Callable[[], Any], tries: int = 7) -> float:
    """CPU seconds of the fastest try."""
    work()
    best = float("inf")
    for _ in range(tries):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def product_seconds(m: int, k: int, n: int, stored_turned: bool, dtype: Any, repeats: int = 400) -> float:
    """CPU seconds of one product [m, k] by [k, n] with a float32 result, operands in `dtype`."""
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.standard_normal((k, m) if stored_turned else (m, k)), dtype)
    b = jnp.asarray(rng.standard_normal((k, n)), dtype)
    axes = (((0,) if stored_turned else (1,), (0,)), ((), ()))

    def many(a: Any, b: Any) -> Any:
        def body(carry: Any, _: None) -> tuple[Any, None]:
            shifted = a.at[0, 0].add(carry.astype(dtype))  # so that no product can leave the loop
            out = jax.lax.dot_general(shifted, b, axes, preferred_element_type=jnp.float32)
            return jax.lax.optimization_barrier(out)[0, 0] * 1e-9, None

        return jax.lax.scan(body, jnp.float32(0), None, length=repeats)[0]

    compiled = jax.jit(many, compiler_options=compiler_options())
    return _fastest(lambda: jax.block_until_ready(compiled(a, b))) / repeats


def main() -> None:
    """Measure and print."""
    jax.config.update("jax_num_cpu_devices", 1)
    print("| product | times | MFLOP | µs float32 | GFLOP/s | µs bfloat16 |\n|---|---|---|---|---|---|")
    sums = [0.0, 0.0]
    for name, (m, k, n, times, turned) in PRODUCTS.items():
        flop = 2 * m * k * n
        plain, half = (product_seconds(m, k, n, turned, dtype) for dtype in (jnp.float32, jnp.bfloat16))
        sums = [sums[0] + times * plain, sums[1] + times * half]
        rate = flop / plain / 1e9
        print(f"| {name} | {times} | {flop / 1e6:.2f} | {plain * 1e6:.1f} | {rate:.0f} | {half * 1e6:.1f} |")
    stream, vector, clients = engine.stream(3), engine.initial_vector(0), 64
    weights, randomness = np.full(clients, 1 / clients), (jax.random.key(0), w.RATE)
    batches = clients * w.WINDOWS // w.BATCH
    whole = _fastest(lambda: streamed_round(stream, vector, weights, randomness)) / batches
    flop = w.flop_per_window() * w.BATCH
    print(
        f"\nA whole batch: {whole * 1e6:.0f} µs ({flop / whole / 1e9:.0f} GFLOP/s); its products alone "
        f"{sums[0] * 1e6:.0f} µs ({flop / sums[0] / 1e9:.0f} GFLOP/s), in bfloat16 {sums[1] * 1e6:.0f} µs; "
        f"everything else {(whole - sums[0]) * 1e6:.0f} µs.\n{machine.described()}; one of them used; commit "
        f"{machine.commit()}"
    )


if __name__ == "__main__":
    main()

"""jax-privacy's own loop: `clipped_grad`, `gaussian_privatizer` and `CyclicPoissonSampling`, a step compiled.

Batches are padded to a multiple of 64 places, and windows taken 16 at a time (its `microbatch_size`), which
leaves out what is only padding. The model is FedJAX's program of W: convolutions are products of matrices.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax_privacy import batch_selection, clipped_grad, noise_addition
from session import Session, data, w

TOGETHER, PLACES = 16, 64


def conv(x: Any, weight: Any, bias: Any, width: int) -> Any:
    """x [B, T, C] -> [B, T, outputs], causal."""
    padded = jnp.pad(x, ((0, 0), (width - 1, 0), (0, 0)))
    steps = x.shape[1]
    return jnp.concatenate([padded[:, i : i + steps] for i in range(width)], axis=-1) @ weight + bias


def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
    """Mean cross-entropy over all steps of x [1, T, F]."""
    h = jax.nn.gelu(conv(x, p["conv1_w"], p["conv1_b"], w.WIDTH))
    h = conv(h, p["conv2_w"], p["conv2_b"], w.WIDTH_2)
    gates = jnp.swapaxes(h, 0, 1) @ p["gru_w"] + p["gru_b"]

    def step(h: Any, gate: Any) -> tuple[Any, Any]:
        z, r, n = jnp.split(gate, 3, axis=-1)
        uz, ur, un = jnp.split(h @ p["gru_u"], 3, axis=-1)
        h = h + jax.nn.sigmoid(z + uz) * (jnp.tanh(n + jax.nn.sigmoid(r + ur) * un) - h)
        return h, h

    states = jax.lax.scan(step, jnp.zeros((x.shape[0], w.HIDDEN)), gates)[1]
    logits = jnp.swapaxes(states, 0, 1) @ p["head_w"] + p["head_b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def main() -> None:
    """Serve rounds."""
    session = Session(
        "clipped_grad (microbatch_size 16), gaussian_privatizer, CyclicPoissonSampling, a step under jit",
        ["jax-privacy", "jax", "jaxlib", "optax", "numpy"],
    )
    clipped = clipped_grad(
        loss, l2_clip_norm=w.CLIP, batch_argnums=(1, 2), normalize_by=float(w.BATCH), microbatch_size=TOGETHER
    )
    stddev = clipped.sensitivity() * w.NOISE_MULTIPLIER
    privatizer = noise_addition.gaussian_privatizer(stddev=stddev, prng_key=jax.random.key(1))
    optimiser = optax.sgd(w.RATE)

    @partial(jax.jit, static_argnames="noisy")
    def step(p: Any, held: Any, site: Any, rows: Any, noisy: bool) -> Any:
        x, y = site
        gradient = clipped(p, x[rows], y[rows], is_padding_example=rows < 0)
        states = held
        if noisy:
            gradient, noise = privatizer.update(gradient, states[0])
            states = (noise, states[1])
        change, moved = optimiser.update(gradient, states[1], p)
        return optax.apply_updates(p, change), (states[0], moved)

    parameters = {name: jnp.asarray(value) for name, value in w.initial(0).items()}
    sites = [jax.tree.map(jnp.asarray, data(session.seed, number)) for number in range(session.clients)]
    noise, rng = privatizer.init(parameters), np.random.default_rng(session.seed)
    sampling = batch_selection.CyclicPoissonSampling(
        sampling_prob=w.BATCH / w.WINDOWS, iterations=w.ROUND_STEPS
    )
    session.ready()
    while True:
        session.wait()
        ended = []
        for number, site in enumerate(sites):
            drawn: Iterable[Any] = (
                w.sampled(session.seed, number)
                if session.compared
                else sampling.batch_iterator(w.WINDOWS, rng=rng)
            )
            p, held = parameters, (noise, optimiser.init(parameters))
            for rows in drawn:
                padded = batch_selection.pad_to_multiple_of(np.asarray(rows), PLACES)
                p, held = step(p, held, site, jnp.asarray(padded), noisy=not session.compared)
            noise = held[0]
            ended.append(p)
        parameters = jax.tree.map(lambda *several: sum(several) / session.clients, *ended)
        jax.block_until_ready(parameters)
        session.done(partial(jax.tree.map, np.asarray, parameters))


if __name__ == "__main__":
    main()

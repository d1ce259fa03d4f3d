"""Shadow models trained as a site trains: windows that stand apart, through the site's own compiled round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from lazaretto.cut import Cut
from lazaretto.dp_local import Drawn, examples_of, make_private_round, private_training
from lazaretto.errors import DataError
from lazaretto.keys import jax_key
from lazaretto.local import LocalState, LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import unravel_of
from lazaretto.privacy.draws import chance_of, poisson_rows
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.types import Array, Float, Model

__all__ = ["Round", "private_shadow_round", "shadow_trainer", "step_losses"]

_GRID = 2.0**-12  # of the noise, as a site rounds its noisy sums
# (state, data of the members, seed of the round) -> state
Round = Callable[[LocalState, SiteData, int], LocalState]


def shadow_trainer(
    model: Model,
    training: LocalTraining,
    windows: tuple[Any, Any, Any],
    *,
    kinds: int,
    rounds: int,
    learning_rate: float,
    one_round: Round | None = None,
    first: Float | None = None,
) -> Callable[[NDArray[np.bool_], int], NDArray[np.float64]]:
    """The function `train` that `lazaretto.audit.membership.attack` asks for, compiled once.

    windows: x [n, T, F] float32, y [n, T] classes, weight [n, T] (0: not judged). One window is one record:
    the recurrent state is reset before it. kinds: K. rounds >= 1, of `training.local_epochs` each, on one
    device.
    one_round: a round of another kind, as a private one; its data hold the members first and then, with
    weight 0, the others. first: [d] initial parameters; without, they follow the seed. Raises DataError where
    shapes do not fit.
    """
    x, y, weight = (np.asarray(v) for v in windows)
    if x.ndim != 3 or y.shape != x.shape[:2] or weight.shape != y.shape or x.shape[1] != training.window:
        raise DataError(
            "shadow_trainer: windows do not fit",
            found=f"x {x.shape}, y {y.shape}, weight {weight.shape}, window {training.window}",
            way_out="x [n, T, F], y and weight [n, T], T = the training's window",
        )
    if rounds < 1:
        raise DataError("shadow_trainer: rounds", found=rounds, way_out="at least 1")
    features = x.shape[2]
    unravel = unravel_of(model, features, kinds)
    plain = jax.jit(make_site_round(model, Cut(bits=32), training, unravel))
    judge = jax.jit(lambda vector: step_losses(model, unravel(vector), x, y))

    def usual(state: LocalState, data: SiteData, seed: int) -> LocalState:
        after: LocalState = plain(state, data, jax_key(seed, "shadow round"), learning_rate)[0]
        return after

    run = usual if one_round is None else one_round

    def train(member: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
        order = np.argsort(~member, kind="stable")
        data = SiteData(
            x=jnp.asarray(x[order][None], jnp.float32),
            y=jnp.asarray(y[order][None], jnp.int32),
            weight=jnp.asarray((weight * member[:, None])[order][None], jnp.float32),
            units=jnp.asarray(member.sum(), jnp.int32),
            class_weight=jnp.ones(kinds + 2),
        )
        if first is not None:
            start = jnp.asarray(first)
        else:
            start = ravel_pytree(model.init(jax_key(seed, "shadow start"), features, kinds))[0]
        state = local_start(model, training, start, unravel, 1)
        for number in range(rounds):
            state = run(state, data, seed * rounds + number)
        return np.where(weight > 0, np.asarray(judge(state.vector), np.float64), np.nan)

    return train


def private_shadow_round(
    model: Model,
    training: LocalTraining,
    mechanism: Mechanism,
    *,
    features: int,
    kinds: int,
    learning_rate: float,
) -> Round:
    """A round of DP-SGD on records for `shadow_trainer`: the site's own step, with noise from the seed.

    training: as of `dp_local.private_training`; the batch size follows from the mechanism's rate. Raises
    DataError where the mechanism is not plain DP-SGD of records.
    """
    plain = mechanism.kernel == (1.0,) and mechanism.quantile is None
    if (mechanism.unit, mechanism.sampling) != ("record", "poisson") or not plain:
        raise DataError(
            "private_shadow_round: shadow models are trained by plain DP-SGD of records",
            found=mechanism,
            way_out="Poisson sampling, one clip, independent noise",
        )
    unravel = unravel_of(model, features, kinds)
    run = jax.jit(make_private_round(model, Cut(bits=32), private_training(training), unravel, mechanism))
    size = mechanism.noise_multiplier * mechanism.clip

    def one_round(state: LocalState, data: SiteData, seed: int) -> LocalState:
        chance = chance_of("seed", seed, "private shadow round")
        examples = examples_of("record", np.asarray(data.weight), training.window)
        chosen = poisson_rows(len(examples), mechanism.rate, mechanism.steps, chance)
        places = np.zeros((mechanism.steps, _room(data.x.shape[1], mechanism.rate)), np.int32)
        for step, who in enumerate(chosen):
            places[step, : len(who)] = examples[who]
        noise = chance.normal(mechanism.steps * len(state.vector)).reshape(mechanism.steps, -1) * size
        drawn = Drawn(
            places,
            np.array([len(who) for who in chosen], np.int32),
            noise.astype(np.float32),
            np.float32(mechanism.clip),
            np.float32(max(1.0, mechanism.rate * len(examples))),
            np.float32(2.0**-12 * size),
        )
        after: LocalState = run(state, data, jax_key(seed, "private shadow step"), learning_rate, drawn)[0]
        return after

    return one_round


def _room(records: int, rate: float) -> int:
    """Places for the records of a step, more than will ever be drawn: nine standard deviations."""
    return min(records, int(rate * records + 9 * np.sqrt(rate * records) + 9))


def step_losses(model: Model, params: Any, x: Array, y: Array) -> Array:
    """Cross-entropy of "anomalous?" at each step, [n, T], of windows x [n, T, F] with classes y [n, T]."""
    states = model.start(x.shape[2], x.shape[0])
    h, _ = model.bottom(params["bottom"], x, states[0])
    outputs, _ = model.top(params["top"], h, states[1])
    return optax.sigmoid_binary_cross_entropy(outputs.anomaly, (y != 0).astype(jnp.float32))

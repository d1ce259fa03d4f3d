"""Training at one site: split between its devices and the site, one epoch or more, pure and compiled.

Shapes: D devices of a site, U units of a device (padded), L steps of a stream, F features,
T steps of a window, b units of a batch per device, d parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from lazaretto.alignment import alignment_loss, distance_correlation
from lazaretto.augment import compose, disturb_values, hide_modality, jitter, patch, pieces_of
from lazaretto.cut import Cut
from lazaretto.losses import class_balance, detection_loss, novelty_loss
from lazaretto.split import Terms, split_gradients, u_gradients
from lazaretto.types import Algorithm, Array, Middle, Model, Part

__all__ = [
    "LocalState",
    "LocalTraining",
    "SiteData",
    "batches_in_round",
    "local_start",
    "make_site_round",
    "optimiser_of",
    "with_made",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTraining:
    """How a site trains. Everything here is public and the same for all sites.

    synchronise: average bottoms after each "round" (SplitFed) or their gradients at each "step".
    temporal_consistency: weight of the term that asks neighbouring steps to agree, >= 0.
    kind_weight: weight of the term that names the family, >= 0.  anomaly_weight: of anomalous steps, > 0.
    class_balance: beta in [0, 1) of the balanced loss where labels are at the devices (U-shape); elsewhere
    `SiteData.class_weight` holds the weights. layout: which columns of x belong to which modality, or ()
    where all are plain features.
    alignment: weights, >= 0, of the terms that ask two modalities of a unit to agree, at the cut and at
    fusion; alignment_temperature > 0 divides their cosines. distance_correlation: weight, >= 0, of the term
    against inverting activations. modality_dropout: share of streams, in [0, 1), that lose one modality.
    novelty_weight: weight of the term of the self-supervised score, > 0, where the model has one.
    pseudo_attacks: share of quiet streams, in [0, 1), that get a made-up campaign (see `disturb`).
    level_noise, step_noise: standard deviations, >= 0, in scaled units, of what is added to a stream as
    a whole and to every step. feature_dropout: largest share of features hidden from a stream, in
    [0, 1). All three are noise against learning devices and families by heart (see `jitter`).
    patches: share of streams, in [0, 1], whose attacked steps have features overwritten (see `patch`).
    clip_norm: largest norm of a gradient, > 0; infinity clips nothing. momentum: of "sgd", in [0, 1).
    local_epochs: passes over a site's data in a round: whole, or below 1 that part of its batches.
    shuffle: draw the order of units anew in each epoch, else take them as they stand.
    """

    window: int
    batch_units: int = 8
    local_epochs: float = 1.0
    optimiser: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    temporal_consistency: float = 0.1
    pseudo_attacks: float = 0.0
    level_noise: float = 0.0
    step_noise: float = 0.0
    feature_dropout: float = 0.0
    patches: float = 0.0
    kind_weight: float = 1.0
    anomaly_weight: float = 1.0
    novelty_weight: float = 1.0
    layout: tuple[Part, ...] = ()
    alignment: tuple[float, float] = (0.0, 0.0)
    alignment_temperature: float = 0.2
    distance_correlation: float = 0.0
    modality_dropout: float = 0.0
    class_balance: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    shuffle: bool = True
    synchronise: Literal["round", "step"] = "round"

    @property
    def loss_weights(self) -> tuple[float, float, float]:
        """What `losses.detection_loss` takes behind the labels."""
        return self.temporal_consistency, self.kind_weight, self.anomaly_weight


class SiteData(NamedTuple):
    """One site's training data.

    x [D, U, L, F], y [D, U, L] int32, weight [D, U, L] float32 (0 pads),
    units [] int32 (largest number of real units on a device; they come first),
    class_weight [K + 2], the last for anomalies of unknown kind (y = -1).
    """

    x: Array
    y: Array
    weight: Array
    units: Array
    class_weight: Array


class LocalState(NamedTuple):
    """What a site keeps between rounds: its parameters as one vector [d], its optimisers' states.

    own, common: the vectors [d] of an algorithm that keeps some (`types.Algorithm`), else None.
    """

    vector: Array
    bottom_optimiser: Any
    top_optimiser: Any
    own: Any = None
    common: Any = None


def with_made(model: Model, devices: int) -> Model:
    """The model as it is trained: each device's first half of streams is for `top`, the second for `novelty`.

    The top takes the activations of all devices in turn, [devices * b, T, H] with b even, and keeps a state
    for either half. Its outputs are those of the first halves, and `extra` the novelty scores of the second.
    """
    novelty = model.novelty
    assert novelty is not None  # noqa: S101  the caller looks

    def start(features: int, batch: int) -> tuple[Any, Any]:
        half = batch // 2
        return model.start(features, batch)[0], (model.start(features, half)[1], novelty.start(half))

    def top(params: Any, h: Array, state: Any) -> tuple[Any, Any]:
        halves = h.reshape(devices, 2, -1, *h.shape[1:])
        real, made = (halves[:, half].reshape(-1, *h.shape[1:]) for half in (0, 1))
        outputs, first = model.top(params, real, state[0])
        scores, second = novelty.score(params["novelty"], made, state[1])
        return outputs._replace(extra=scores), (first, second)

    return replace(model, start=start, top=top)


def optimiser_of(training: LocalTraining, learning_rate: Array | float) -> optax.GradientTransformation:
    """The site's optimiser, with the norm of each gradient clipped where `clip_norm` is finite."""
    step = (
        optax.adamw(learning_rate, weight_decay=training.weight_decay)
        if training.optimiser == "adam"
        else optax.sgd(learning_rate, momentum=training.momentum or None)
    )
    if math.isinf(training.clip_norm):
        return step
    return optax.chain(optax.clip_by_global_norm(training.clip_norm), step)


def local_start(
    model: Model, training: LocalTraining, vector: Array, unravel: Any, devices: int, keeps: bool = False
) -> LocalState:
    """A site's state before its first round. keeps: as of its algorithm."""
    params, optimiser = unravel(vector), optimiser_of(training, 0.0)
    one = optimiser.init(params["bottom"])
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (devices, *leaf.shape)), one)
    kept = jnp.zeros_like(vector) if keeps else None
    return LocalState(vector, many, optimiser.init(params["top"]), kept, kept)


def batches_in_round(local_epochs: float, batches: Any) -> Any:
    """Batches of a site's round, of so many of a pass: exact, on integers of NumPy and of JAX alike.

    local_epochs: at least .001, taken to a thousandth; batches >= 0, below two million. At least one where
    there is one.
    """
    part = Fraction(local_epochs).limit_denominator(1000)
    return -(-batches * part.numerator // part.denominator)


def _taken(values: Array, rows: Array) -> Array:
    """values [D, U, ...], rows [D, b] -> [D, b, ...]: each device's own units."""
    return jax.vmap(jnp.take, in_axes=(0, 0, None))(values, rows, 0)


def make_site_round(
    model: Model,
    cut: Cut,
    training: LocalTraining,
    unravel: Callable[[Array], Any],
    algorithm: Algorithm | None = None,
) -> Callable[..., tuple[LocalState, Array]]:
    """The function `(state, data, key, learning_rate, work=None) -> (state, mean loss)` of a site's round.

    All devices start from the site's bottom; a batch takes `batch_units` units of each device and
    walks their windows in time, state carried, with one optimiser step per window (truncated
    back-propagation through time). At the end the bottoms are averaged.
    algorithm: what corrects the gradients, if anything does. work: int32 [], most batches that the site does
    over all epochs (0: it does nothing, and its state stays); all of them where it is not given.
    """
    window, batch, passes = training.window, training.batch_units, math.ceil(training.local_epochs)

    def inverted(x: Array, h: Array) -> Array:
        """Of rows in which anything was read; what says which modalities there are is no activation."""
        layout = training.layout
        rows, flat = x.reshape(-1, x.shape[-1]), h.reshape(-1, h.shape[-1])
        read = (rows != 0).any(axis=-1).astype(x.dtype)
        if layout:
            rows = jnp.concatenate([rows[:, part.begin : part.values] for part in layout], axis=-1)
        flat = flat[:, : -len(layout)] if len(layout) > 1 else flat
        return training.distance_correlation * distance_correlation(rows, flat, read)

    private = inverted if training.distance_correlation else None
    novel = model.novelty is not None
    correct = None if algorithm is None else algorithm.correct
    conclude = None if algorithm is None else algorithm.conclude

    def site_round(
        state: LocalState, data: SiteData, key: Array, rate: Array, work: Array | None = None
    ) -> tuple[LocalState, Array]:
        devices, padded_units, length, features = data.x.shape
        size = min(batch, padded_units)
        optimiser = optimiser_of(training, rate)
        params = unravel(state.vector)
        bottoms = jax.tree.map(lambda p: jnp.broadcast_to(p, (devices, *p.shape)), params["bottom"])
        running = with_made(model, devices) if novel else model
        wide = 2 * size if novel else size  # streams as they are, then with made-up campaigns
        start_bottom, _ = running.start(features, wide)
        start = (
            jax.tree.map(lambda s: jnp.broadcast_to(s, (devices, *s.shape)), start_bottom),
            running.start(features, devices * wide)[1],
        )
        pieces: Any = jax.vmap(pieces_of)(data.x, data.y, data.weight) if novel else None
        batches = -(-data.units // size)  # of one pass
        whole = batches_in_round(training.local_epochs, batches)
        # with labels at the devices, how common each class is stays there as well
        balance = jax.vmap(partial(class_balance, training.class_balance, data.class_weight.shape[0]))(
            data.y, data.weight
        )
        own, common = (None if v is None else unravel(v) for v in (state.own, state.common))

        def corrected(side: str, gradient: Any, now: Any) -> Any:
            kept = (None if held is None else held[side] for held in (own, common))
            return correct(gradient, now, params[side], *kept) if correct is not None else gradient

        def one_batch(index: Array, carry: Any) -> Any:
            order = carry[-1]
            rows = jax.lax.dynamic_slice_in_dim(order, index * size, size, axis=1)  # [D, b]
            x, y, weight = (_taken(values, rows) for values in (data.x, data.y, data.weight))
            bottoms, top, bottom_opt, top_opt, total, path, key, _ = carry
            if novel:
                key, made_key = jax.random.split(key)
                made_keys = jax.random.split(made_key, devices)
                composed, made = jax.vmap(compose)(x, y, weight, pieces, made_keys)
                calm = weight * (y == 0)
            if training.level_noise or training.step_noise or training.feature_dropout:
                key, jitter_key = jax.random.split(key)
                noise = (training.level_noise, training.step_noise, training.feature_dropout)
                x = jitter(x, jitter_key, *noise, training.layout)
            if training.pseudo_attacks:
                key, disturb_key = jax.random.split(key)
                x, y = disturb_values(x, y, weight, disturb_key, training.pseudo_attacks, training.layout)
            if training.patches:
                key, patch_key = jax.random.split(key)
                x = patch(x, y, weight, patch_key, training.patches, training.layout)
            if training.modality_dropout and len(training.layout) > 1:
                key, hide_key = jax.random.split(key)
                x = hide_modality(x, hide_key, training.modality_dropout, training.layout)
                weight = weight * (x[..., training.layout[-1].end :] > 0).any(axis=-1)  # nothing left to see
            if novel:
                x = jnp.concatenate([x, composed], axis=1)

            def one_window(inner: Any, at: Array) -> tuple[Any, Array]:
                bottoms, top, bottom_opt, top_opt, states, path, key = inner
                key, cut_key = jax.random.split(key)

                def cut_window(values: Array) -> Array:
                    return jax.lax.dynamic_slice_in_dim(values, at * window, window, axis=2)

                x_w, y_w, weight_w = cut_window(x), cut_window(y), cut_window(weight)
                flat_y, flat_weight = y_w.reshape(-1, window), weight_w.reshape(-1, window)

                def labelled(outputs: Any, labels: tuple[Array, Array, Array]) -> Array:
                    return detection_loss(outputs, *labels, *training.loss_weights)

                def unlabelled(middle: Middle) -> Array:
                    return alignment_loss(middle.pairs, training.alignment, training.alignment_temperature)

                def loss(outputs: Any, h: Array) -> Array:
                    if model.loss is not None:
                        return model.loss(outputs, flat_y, flat_weight, data.class_weight)
                    detection = labelled(outputs, (flat_y, flat_weight, data.class_weight))
                    if not novel:
                        return detection
                    flat_made, flat_calm = (cut_window(v).reshape(-1, window) for v in (made, calm))
                    return detection + training.novelty_weight * novelty_loss(
                        outputs.extra, flat_made, flat_calm
                    )

                params_now = (bottoms, top)
                if model.head is None:
                    value, gradients, states = split_gradients(
                        running, cut, loss, params_now, x_w, states, cut_key, private
                    )
                else:
                    terms, labels = Terms(labelled, unlabelled, private), (y_w, weight_w, balance)
                    value, gradients, states = u_gradients(
                        model, cut, terms, params_now, x_w, labels, states, cut_key
                    )
                bottom_gradients, top_gradient = gradients
                # The site's loss is a mean over all devices; a device's own mean is D times its part.
                bottom_gradients = jax.tree.map(lambda g: g * devices, bottom_gradients)
                if training.synchronise == "step":
                    bottom_gradients = jax.tree.map(
                        lambda g: jnp.broadcast_to(g.mean(axis=0), g.shape), bottom_gradients
                    )
                if conclude is not None:  # the sum of raw gradients along the way
                    mean_bottom = jax.tree.map(lambda g: g.mean(axis=0), bottom_gradients)
                    path = jax.tree.map(jnp.add, path, {"bottom": mean_bottom, "top": top_gradient})
                # sizes are given below since an unsplit model has nothing on the device
                if correct is not None:
                    each = jax.vmap(partial(corrected, "bottom"), axis_size=devices)
                    bottom_gradients = each(bottom_gradients, bottoms)
                    top_gradient = corrected("top", top_gradient, top)
                update = jax.vmap(optimiser.update, axis_size=devices)
                change, bottom_opt = update(bottom_gradients, bottom_opt, bottoms)
                bottoms = optax.apply_updates(bottoms, change)
                change, top_opt = optimiser.update(top_gradient, top_opt, top)
                top = optax.apply_updates(top, change)
                return (bottoms, top, bottom_opt, top_opt, states, path, key), value

            inner = (bottoms, top, bottom_opt, top_opt, start, path, key)
            inner, values = jax.lax.scan(one_window, inner, jnp.arange(length // window))
            bottoms, top, bottom_opt, top_opt, _, path, key = inner
            return (bottoms, top, bottom_opt, top_opt, total + values.mean(), path, key, order)

        def one_epoch(carry: Any, at: tuple[Array, Array]) -> tuple[Any, None]:
            epoch, epoch_key = at

            def shuffled(key: Array) -> Array:
                noise = jax.random.uniform(key, (padded_units,))
                return jnp.argsort(noise + (jnp.arange(padded_units) >= data.units) * 2.0)

            order_key, key = jax.random.split(epoch_key)
            if training.shuffle:
                order = jax.vmap(shuffled)(jax.random.split(order_key, devices))
            else:
                order = jnp.broadcast_to(jnp.arange(padded_units), (devices, padded_units))
            pad = -padded_units % size
            order = jnp.concatenate([order, order[:, :pad]], axis=1) if pad else order
            todo = jnp.clip((whole if work is None else work) - epoch * batches, 0, batches)
            carry = jax.lax.fori_loop(0, todo, one_batch, (*carry, key, order))
            return carry[:-2], None

        path = None if conclude is None else jax.tree.map(jnp.zeros_like, params)
        carry = (bottoms, params["top"], state.bottom_optimiser, state.top_optimiser, jnp.zeros(()), path)
        epochs = (jnp.arange(passes), jax.random.split(key, passes))
        carry, _ = jax.lax.scan(one_epoch, carry, epochs)
        bottoms, top, bottom_opt, top_opt, total, path = carry
        bottom = jax.tree.map(lambda p: p.mean(axis=0), bottoms)
        vector = ravel_pytree({"bottom": bottom, "top": top})[0]
        done = whole if work is None else jnp.minimum(work, whole)
        kept = state.own
        if conclude is not None:
            usual = ravel_pytree(path)[0] / jnp.maximum(done * (length // window), 1)
            kept = jnp.where(done > 0, conclude(state.own, state.common, usual), state.own)
        new = LocalState(vector, bottom_opt, top_opt, kept, state.common)
        return new, total / jnp.maximum(done, 1)

    return site_round

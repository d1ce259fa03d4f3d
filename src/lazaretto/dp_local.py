"""Private training at one site: every example's gradient clipped, their sum noised, step by step.

Abadi et al. 2016, https://arxiv.org/abs/1607.00133. The clip is on the joint gradient of an example over
(bottom, top), so it holds for what the devices and for what the site learns, together. What leaves the site
is a function of the noisy sums alone; activations and gradients between a device and its site are inside.

Shapes: D devices of a site, U units of a device (padded), L steps of a stream, F features, T steps of a
window, d parameters; an example has t steps: T where the unit is "record", L where it is "patient".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from lazaretto.alignment import alignment_loss, distance_correlation
from lazaretto.augment import disturb_values, hide_modality, jitter, patch
from lazaretto.cut import Cut
from lazaretto.errors import PlanError
from lazaretto.local import LocalState, LocalTraining, SiteData, optimiser_of
from lazaretto.losses import detection_loss
from lazaretto.privacy.mechanism import Mechanism, Unit
from lazaretto.split import Terms, split_gradients, u_gradients
from lazaretto.types import Algorithm, Array, Middle, Model

__all__ = [
    "Drawn",
    "clipped_sum",
    "examples_of",
    "make_example_gradient",
    "make_private_round",
    "private_training",
]

_TOGETHER = (16, 8)  # examples whose gradients are held at once, and what is left of a step


class Drawn(NamedTuple):
    """What chance decided for one site's round of n steps.

    rows [n, m] int32: numbers of the examples of each step, the first `count` [n] of them; the rest pads.
    noise [n, d] float32: what is added to each step's sum, at its full size. clip [] > 0: largest length of
    an example's gradient. expected [] > 0: what the noisy sum is divided by, no function of who was drawn.
    grid [] > 0: what the noisy sum is rounded to, so that the last bits of floats tell nothing (Mironov 2012,
    https://doi.org/10.1145/2382196.2382264).
    """

    rows: Array
    count: Array
    noise: Array
    clip: Array
    expected: Array
    grid: Array


def private_training(training: LocalTraining) -> LocalTraining:
    """How a site trains with a mechanism: one bottom, and no clip on what is noisy already.

    Raises PlanError where a term couples examples that the mechanism takes for apart.
    """
    if training.class_balance:
        raise PlanError(
            "train.class_balance: weights of classes tell how common they are at a site",
            found=training.class_balance,
            way_out="0, which weighs all steps alike",
        )
    return replace(training, synchronise="step", clip_norm=math.inf)


def examples_of(unit: Unit, weight: NDArray[np.float32], window: int) -> NDArray[np.int64]:
    """Numbers of a site's real examples, ascending: weight [D, U, L], 0 pads.

    A record's is ((device · U + unit) · L/T + window), a patient's (device · U + unit). A window in which
    nothing is judged is none. Raises PlanError for the unit "site", which has no examples.
    """
    if unit == "site":
        raise PlanError(
            "a site's update is noised as a whole", found="unit 'site'", way_out="record or patient"
        )
    real = weight.reshape(-1, window if unit == "record" else weight.shape[-1]) > 0
    return np.flatnonzero(real.any(axis=1))


def make_example_gradient(
    model: Model, cut: Cut, training: LocalTraining, classes: int
) -> Callable[[Any, Array, Array, Array, Array], Any]:
    """The function (parameters, x [t, F], y [t], weight [t], key) -> gradient of one example's loss.

    classes: K + 2, as in `SiteData.class_weight`; all weigh 1. t is a multiple of the window. The recurrent
    state is reset before the example and carried through its windows, whose gradients are averaged (truncated
    back-propagation through time): over those that it has, not over those of the longest stream of the site.
    """
    window = training.window

    def own_term(x: Array, h: Array) -> Array:
        rows, flat = x.reshape(-1, x.shape[-1]), h.reshape(-1, h.shape[-1])
        read = (rows != 0).any(axis=-1).astype(x.dtype)
        if training.layout:
            rows = jnp.concatenate([rows[:, part.begin : part.values] for part in training.layout], axis=-1)
        flat = flat[:, : -len(training.layout)] if len(training.layout) > 1 else flat
        return training.distance_correlation * distance_correlation(rows, flat, read)

    private = own_term if training.distance_correlation else None

    def labelled(outputs: Any, labels: tuple[Array, Array, Array]) -> Array:
        return detection_loss(outputs, *labels, *training.loss_weights)

    def unlabelled(middle: Middle) -> Array:
        return alignment_loss(middle.pairs, training.alignment, training.alignment_temperature)

    def of_window(params: Any, x: Array, y: Array, weight: Array, inner: Any) -> tuple[Any, Any]:
        states, key = inner
        key, cut_key = jax.random.split(key)
        sides = (jax.tree.map(lambda p: p[None], params["bottom"]), params["top"])
        x, y, weight = (v[None, None] for v in (x, y, weight))  # one device, one stream
        if model.head is None:
            plain = jnp.ones(classes)

            def loss(outputs: Any, h: Array) -> Array:
                if model.loss is not None:
                    return model.loss(outputs, y[0], weight[0], plain)
                return labelled(outputs, (y[0], weight[0], plain))

            _, found, states = split_gradients(model, cut, loss, sides, x, states, cut_key, private)
        else:
            plain = jnp.ones((1, classes))
            terms = Terms(labelled, unlabelled, private)
            _, found, states = u_gradients(model, cut, terms, sides, x, (y, weight, plain), states, cut_key)
        gradient = {"bottom": jax.tree.map(lambda g: g[0], found[0]), "top": found[1]}
        return gradient, (states, key)

    def of_example(params: Any, x: Array, y: Array, weight: Array, key: Array) -> Any:
        windows = x.shape[0] // window
        # as they are before noise is put on them: what pads a stream up to the longest one of all is nobody's
        held = jnp.concatenate([x != 0, weight[:, None] > 0], axis=-1).reshape(windows, -1).any(axis=1)
        x, y, weight, key = _augmented(training, x, y, weight, key)
        bottom_state, top_state = model.start(x.shape[-1], 1)
        start = ((jax.tree.map(lambda s: s[None], bottom_state), top_state), key)
        if windows == 1:
            return of_window(params, x, y, weight, start)[0]

        def step(carry: Any, at: tuple[Array, Array, Array, Array]) -> tuple[Any, None]:
            total, inner = carry
            x, y, weight, own = at
            gradient, inner = of_window(params, x, y, weight, inner)
            gradient = jax.tree.map(lambda g: jnp.where(own, g, 0.0), gradient)
            return (jax.tree.map(jnp.add, total, gradient), inner), None

        parts = tuple(v.reshape(windows, window, *v.shape[1:]) for v in (x, y, weight))
        total, _ = jax.lax.scan(step, (jax.tree.map(jnp.zeros_like, params), start), (*parts, held))[0]
        return jax.tree.map(lambda g: g / jnp.maximum(held.sum(), 1), total)

    return of_example


def _augmented(
    training: LocalTraining, x: Array, y: Array, weight: Array, key: Array
) -> tuple[Array, Array, Array, Array]:
    """One example with noise, made-up disturbances, patches and hidden parts, from its own key."""
    x, y, weight = (v[None, None] for v in (x, y, weight))
    if training.level_noise or training.step_noise or training.feature_dropout:
        key, own = jax.random.split(key)
        x = jitter(
            x, own, training.level_noise, training.step_noise, training.feature_dropout, training.layout
        )
    if training.pseudo_attacks:
        key, own = jax.random.split(key)
        x, y = disturb_values(x, y, weight, own, training.pseudo_attacks, training.layout)
    if training.patches:
        key, own = jax.random.split(key)
        x = patch(x, y, weight, own, training.patches, training.layout)
    if training.modality_dropout and len(training.layout) > 1:
        key, own = jax.random.split(key)
        x = hide_modality(x, own, training.modality_dropout, training.layout)
        weight = weight * (x[..., training.layout[-1].end :] > 0).any(axis=-1)
    return x[0, 0], y[0, 0], weight[0, 0], key


def clipped_sum(
    gradient: Callable[[Any, Any], Any], params: Any, examples: Any, real: Array, clip: Array
) -> tuple[Any, Array]:
    """Sum of the clipped gradients of b examples, and how many of those were short enough as they were.

    gradient: (params, example) -> tree. examples: a tree with a leading axis b. real [b] bool: the others
    count for nothing. One that is not finite counts for nothing either: its length would be no bound.
    """
    each = jax.vmap(gradient, in_axes=(None, 0))(params, examples)
    squares = sum(jnp.square(leaf).reshape(leaf.shape[0], -1).sum(axis=1) for leaf in jax.tree.leaves(each))
    length = jnp.sqrt(squares)
    fine = real & jnp.isfinite(length)
    scale = jnp.where(fine, jnp.minimum(1.0, clip / jnp.maximum(length, 1e-12)), 0.0)

    def summed(each: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.tensordot(scale, leaf, axes=1), each)

    def summed_without(each: Any) -> Any:  # 0 · NaN would be NaN
        def kept(leaf: Array) -> Array:
            return jnp.where(fine.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0.0)

        return summed(jax.tree.map(kept, each))

    # leaving some out is a copy of all gradients: only where one is not finite
    total = jax.lax.cond(jnp.isfinite(length).all(), summed, summed_without, each)
    return total, (fine & (length <= clip)).sum()


def make_private_round(
    model: Model,
    cut: Cut,
    training: LocalTraining,
    unravel: Callable[[Array], Any],
    mechanism: Mechanism,
    algorithm: Algorithm | None = None,
) -> Callable[..., tuple[LocalState, Array]]:
    """A site's round, `(state, data, key, learning_rate, drawn, work=None) -> (state, short [n])`.

    training: as of `private_training`. short: how many of each step's gradients were not clipped, -1 where
    the step was left out; not private until it is noised. work: int32 [], most steps that the site does. The
    state's optimisers keep their leading axis D, all alike.

    An example's number, and so its key, comes of where it was packed, and one unit more moves others. What is
    released has the same distribution wherever they stand: coins and keys are new and secret in every round
    (`private.secret_keys`, noise of the system), no two examples of a step share a number, and which of a
    key's streams is whose is nothing that anybody sees. Padding has no number that is drawn, and room for
    more of a step's examples adds zeros. With noise of a seed all this is a simulation.

    Raises PlanError where the model learns from pieces of other streams.
    """
    if model.novelty is not None:
        raise PlanError(
            f"model '{model.name}': made-up campaigns are pieces of other streams, and couple examples",
            found=f"privacy.mechanism='{mechanism.name}'",
            way_out="a model without the self-supervised score (novelty_hidden = 0)",
        )
    length_of: Callable[[int], int] = (
        (lambda length: training.window) if mechanism.unit == "record" else (lambda length: length)
    )
    correct = None if algorithm is None else algorithm.correct
    conclude = None if algorithm is None else algorithm.conclude

    def site_round(
        state: LocalState, data: SiteData, key: Array, rate: Array, drawn: Drawn, work: Array | None = None
    ) -> tuple[LocalState, Array]:
        devices, _, length, features = data.x.shape
        steps = length_of(length)
        of_example = make_example_gradient(model, cut, training, data.class_weight.shape[0])
        optimiser = optimiser_of(training, rate)
        first = unravel(state.vector)
        x = data.x.reshape(-1, steps, features)
        y, weight = (v.reshape(-1, steps) for v in (data.y, data.weight))
        own, common = (None if v is None else unravel(v) for v in (state.own, state.common))
        most, least = (min(size, drawn.rows.shape[1]) for size in _TOGETHER)
        spare = -drawn.rows.shape[1] % most  # a slice beyond the end would be moved back
        drawn = drawn._replace(rows=jnp.pad(drawn.rows, ((0, 0), (0, spare))))

        def corrected(side: str, gradient: Any, now: Any) -> Any:
            kept = (None if held is None else held[side] for held in (own, common))
            return correct(gradient, now, first[side], *kept) if correct is not None else gradient

        def one_step(carry: Any, at: tuple[Drawn, Array, Array]) -> tuple[Any, Array]:
            params, bottom_opt, top_opt, path = carry
            now, number, step_key = at

            def chunk(size: int, first: Array, index: Array, so_far: tuple[Any, Array]) -> tuple[Any, Array]:
                begin = first + index * size
                rows = jax.lax.dynamic_slice_in_dim(now.rows, begin, size)
                real = begin + jnp.arange(size) < now.count
                # by its number, not by its place among those drawn: else one example more would change the
                # noise and the hidden features of all that stand behind it, and so their gradients
                keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, rows)

                def gradient(params: Any, example: Any) -> Any:
                    return of_example(params, *example)

                found, short = clipped_sum(
                    gradient, params, (x[rows], y[rows], weight[rows], keys), real, drawn.clip
                )
                return jax.tree.map(jnp.add, so_far[0], found), so_far[1] + short

            zero = (jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))
            whole = now.count // most + (now.count % most > least)
            left = (now.count > whole * most).astype(jnp.int32)
            total = jax.lax.fori_loop(0, whole, partial(chunk, most, jnp.int32(0)), zero)
            total, short = jax.lax.fori_loop(0, left, partial(chunk, least, whole * most), total)
            released = ravel_pytree(total)[0] + now.noise
            mean = unravel(jnp.round(released / drawn.grid) * drawn.grid / drawn.expected)
            if conclude is not None:
                path = jax.tree.map(jnp.add, path, mean)
            if correct is not None:
                mean = {side: corrected(side, mean[side], params[side]) for side in ("bottom", "top")}
            bottom_change, bottom_opt_new = optimiser.update(mean["bottom"], bottom_opt, params["bottom"])
            top_change, top_opt_new = optimiser.update(mean["top"], top_opt, params["top"])
            moved = optax.apply_updates(params, {"bottom": bottom_change, "top": top_change})
            new = (moved, bottom_opt_new, top_opt_new, path)
            if work is None:
                return new, short
            use = number < work
            return jax.tree.map(partial(jnp.where, use), new, carry), jnp.where(use, short, -1)

        count = drawn.rows.shape[0]
        one_opt = jax.tree.map(lambda leaf: leaf[0], state.bottom_optimiser)
        path = None if conclude is None else jax.tree.map(jnp.zeros_like, first)
        carry = (first, one_opt, state.top_optimiser, path)
        by_step = Drawn(
            drawn.rows, drawn.count, drawn.noise, *(jnp.broadcast_to(v, (count,)) for v in drawn[3:])
        )
        over = (by_step, jnp.arange(count), jax.random.split(key, count))
        (params, bottom_opt, top_opt, path), short = jax.lax.scan(one_step, carry, over)
        done = count if work is None else jnp.minimum(work, count)
        kept = state.own
        if conclude is not None:
            usual = ravel_pytree(path)[0] / jnp.maximum(done, 1)
            kept = jnp.where(done > 0, conclude(state.own, state.common, usual), state.own)
        many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (devices, *leaf.shape)), bottom_opt)
        return LocalState(ravel_pytree(params)[0], many, top_opt, kept, state.common), short

    return site_round

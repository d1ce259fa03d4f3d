"""From an update back to the windows it was made of: gradient matching.

The attacker knows the model, the labels and the weights of the steps, and looks for windows whose gradient
points the way that the update does (Geiping et al. 2020, arXiv:2003.14053; the idea is of Zhu et al. 2019,
arXiv:1906.08935). He does not know the windows; of them he knows a public mean and spread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from lazaretto.cut import Cut
from lazaretto.errors import InputError
from lazaretto.losses import detection_loss
from lazaretto.split import forward
from lazaretto.types import Array, Model

__all__ = ["Inverted", "Known", "Public", "Search", "batch_gradient", "make_inverter"]

Explain = Callable[[Array, Any], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How hard the attacker tries.

    steps, restarts: >= 1, of Adam, and from how many random beginnings. learning_rate > 0, in deviations; it
    falls to a hundredth along a cosine. prior: weight, >= 0, of the term that holds a guess near the public
    mean. signed: whether only the signs of the guess's gradient are used, as Geiping et al. do.
    """

    steps: int = 2000
    restarts: int = 4
    learning_rate: float = 0.05
    prior: float = 0.0
    signed: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        whole = self.steps >= 1 and self.restarts >= 1
        if not (whole and self.learning_rate > 0 and self.prior >= 0):
            raise InputError(
                "a search needs a step, a restart, a learning rate above 0 and a prior of at least 0",
                found=self,
                way_out="leave the value out",
            )


class Known(NamedTuple):
    """What the attacker knows of a batch.

    params: {"bottom", "top"} from which the site began. y: [n, T] int32 classes. weight: [n, T] >= 0.
    class_weight: [K + 2], as `losses.detection_loss` takes it.
    """

    params: Any
    y: Array
    weight: Array
    class_weight: Array


class Public(NamedTuple):
    """What anyone knows of windows: mean and standard deviation of each feature, [F], scaled units."""

    mean: Array
    deviation: Array


class Inverted(NamedTuple):
    """The best of all restarts: windows [n, T, F], and how far its gradient points from the update.

    distance: 1 - cosine, in [0, 2]. distances: [restarts] of all.
    """

    windows: Array
    distance: Array
    distances: Array


def batch_gradient(
    model: Model, cut: Cut, weights: tuple[float, float, float] = (0.0, 1.0, 1.0)
) -> Callable[[Array, Known], Array]:
    """`(x [n, T, F], Known) -> [d]`: gradient of a site's first step, and of what an attacker thinks up.

    The loss is `losses.detection_loss` or the model's own; states begin anew, as in a site's first windows.
    weights: of its terms, as `LocalTraining.loss_weights`; the attacker knows the plan.
    Of a round of plain SGD with a small learning rate the update is about a number times this; of one by Adam
    it is not. The cut rounds as it does, without noise. A model's features that are not learned, such as
    `models._layers.deviation`, let no gradient pass in training. That binds no attacker, so here they do.
    """

    def loss(params: Any, x: Array, known: Known) -> Array:
        states = model.start(x.shape[-1], x.shape[0])
        open_model = _opened(model, params, x, states[0])
        outputs, _ = forward(open_model, cut, params, x, states, (None, None))
        if model.loss is not None:
            return model.loss(outputs, known.y, known.weight, known.class_weight)
        labels = (known.y, known.weight, known.class_weight)
        return detection_loss(outputs, *labels, *weights)

    def gradient(x: Array, known: Known) -> Array:
        return ravel_pytree(jax.grad(loss)(known.params, x, known))[0]

    return gradient


def _opened(model: Model, params: Any, x: Array, state: Any) -> Model:
    """The model with a bottom of the same values through which every gradient passes."""
    traced, shape = jax.make_jaxpr(model.bottom, return_shape=True)(params["bottom"], x, state)
    tree = jax.tree.structure(shape)
    opened = jax.extend.core.jaxpr_as_fun(traced.replace(jaxpr=_without_stops(traced.jaxpr)))

    def bottom(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        h, new = jax.tree.unflatten(tree, opened(*jax.tree.leaves((params, x, state))))
        return h, new

    return replace(model, bottom=bottom)


def _without_stops(program: Any) -> Any:
    """A traced program in which what `stop_gradient` gave is what it was given."""
    instead: dict[Any, Any] = {}

    def now(name: Any) -> Any:
        return name if isinstance(name, jax.extend.core.Literal) else instead.get(name, name)

    steps = []
    for step in program.eqns:
        if step.primitive.name == "stop_gradient":
            instead[step.outvars[0]] = now(step.invars[0])
            continue
        options = dict(step.params)
        if step.primitive.name == "jit":
            inner = options["jaxpr"]
            options["jaxpr"] = inner.replace(jaxpr=_without_stops(inner.jaxpr))
        steps.append(step.replace(invars=[now(name) for name in step.invars], params=options))
    return program.replace(eqns=steps, outvars=[now(name) for name in program.outvars])


def make_inverter(
    explain: Explain, shape: tuple[int, int, int], search: Search
) -> Callable[[Array, Any, Public, Array], Inverted]:
    """`(observed [d], known, Public, key) -> Inverted`, compiled at its first call.

    explain: (x [n, T, F], known) -> [d], what the attacker would have seen had the windows been x
    (`batch_gradient`); pure, traceable by JAX, twice differentiable. shape: (n, T, F) of what is looked for.
    Only the direction of the update counts, so its learning rate and weight need not be known. The guess
    begins at public noise, once for each restart; the one that fits best is given back. Windows come in the
    order of the labels in `known`. Raises InputError for a shape of nothing, or an update that is not
    finite or all zero.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            "windows to look for have a shape (n, T, F), each at least 1",
            found=shape,
            way_out="name it whole",
        )
    schedule = optax.cosine_decay_schedule(search.learning_rate, search.steps, alpha=0.01)
    optimiser = optax.adam(schedule)

    @jax.jit
    def run(observed: Array, known: Any, public: Public, key: Array) -> Inverted:
        wanted = observed / jnp.linalg.norm(observed)

        def distance(guess: Array) -> Array:
            found = explain(public.mean + public.deviation * guess, known)
            return 1.0 - (found @ wanted) * jax.lax.rsqrt((found**2).sum() + 1e-20)

        def unhappy(guess: Array) -> Array:
            return distance(guess) + search.prior * (guess**2).mean()

        def one(key: Array) -> tuple[Array, Array]:
            guess = jax.random.normal(key, shape)

            def step(carry: Any, _: None) -> tuple[Any, None]:
                guess, state = carry
                slope = jax.grad(unhappy)(guess)
                change, state = optimiser.update(jnp.sign(slope) if search.signed else slope, state)
                return (optax.apply_updates(guess, change), state), None

            (guess, _), _ = jax.lax.scan(step, (guess, optimiser.init(guess)), None, search.steps)
            return guess, distance(guess)

        guesses, distances = jax.lax.map(one, jax.random.split(key, search.restarts))
        ranked = jnp.where(jnp.isfinite(distances), distances, jnp.inf)
        best = ranked.argmin()
        return Inverted(public.mean + public.deviation * guesses[best], ranked[best], distances)

    def invert(observed: Array, known: Any, public: Public, key: Array) -> Inverted:
        seen = jnp.asarray(observed, jnp.float32)
        length = float(jnp.linalg.norm(seen))
        if seen.ndim != 1 or not 0 < length < float("inf"):
            raise InputError(
                "an update to look into is one finite vector, and not zero",
                found=f"shape {seen.shape}, length {length:g}",
                way_out="give the update of a site that trained",
            )
        found: Inverted = run(seen, known, public, key)
        return found

    return invert

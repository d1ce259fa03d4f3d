"""A site that hijacks the split: feature-space hijacking (Pasquini et al. 2021, arXiv:2012.02670).

Instead of the task's gradients the site sends the devices those of a critic, so that their activations become
like those of the site's own pilot. The pilot has a decoder; once the devices' activations look like the
pilot's, that decoder reads them too. Here the pilot begins as a copy of the devices' layers, which their site
knows; from layers unknown to it the attack has much further to go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lazaretto.audit.watch import Verdict, Watch, watch_start, watch_step
from lazaretto.cut import Cut, through
from lazaretto.errors import InputError
from lazaretto.local import LocalTraining, SiteData, optimiser_of
from lazaretto.losses import class_balance, detection_loss
from lazaretto.types import Array, Model

__all__ = ["Hijack", "HijackState", "Hijacked", "decode", "hijack_start", "hijack_step", "make_hijacked_site"]

_PILOT_SHARE = 0.03  # of the learning rate: devices have to follow the pilot
_LEARNED = (
    0.25  # where a device's own heads are nearer to a label, the task has nothing more to say of the step
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hijack:
    """How the site attacks.

    width: of the hidden layers of decoder and critic, at least 1. tries: steps of its own networks to one
    exchange, at least 1. learning_rate > 0, of Adam on all three. penalty: on the critic's slope at the
    pilot's activations, >= 0.
    """

    width: int = 64
    tries: int = 4
    learning_rate: float = 0.003
    penalty: float = 1.0

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        fine = self.width >= 1 and self.tries >= 1 and self.learning_rate > 0 and self.penalty >= 0
        if not fine:
            raise InputError(
                "a hijack has sizes of at least 1, a learning rate above 0, a penalty of at least 0",
                found=self,
                way_out="leave the value out",
            )


class HijackState(NamedTuple):
    """What the site keeps: pilot, decoder and critic, and their optimiser's state."""

    networks: dict[str, Any]
    optimiser: Any


def _layers(key: Array, sizes: tuple[int, ...]) -> list[dict[str, Array]]:
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (a, b)) * (2.0 / a) ** 0.5, "b": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def _through_layers(layers: list[dict[str, Array]], x: Array) -> Array:
    for at, layer in enumerate(layers):
        x = x @ layer["w"] + layer["b"]
        x = jax.nn.gelu(x) if at < len(layers) - 1 else x
    return x


def hijack_start(hijack: Hijack, bottom: Any, sizes: tuple[int, int], key: Array) -> HijackState:
    """Before the first exchange. bottom: the devices' first parameters. sizes: (F, H)."""
    keys, wide, (features, channels) = jax.random.split(key), hijack.width, sizes
    networks = {
        "pilot": bottom,
        "decoder": _layers(keys[0], (channels, wide, wide, features)),
        "critic": _layers(keys[1], (channels, wide, wide, 1)),
    }
    return HijackState(networks, optax.adam(hijack.learning_rate).init(networks))


def decode(state: HijackState, h: Array) -> Array:
    """What the site takes the windows behind activations h [n, T, H] for: [n, T, F]."""
    return _through_layers(state.networks["decoder"], h)


def hijack_step(
    model: Model, hijack: Hijack, cut: Cut, state: HijackState, h: Array, public: Array
) -> tuple[HijackState, Array]:
    """One exchange at the hostile site: activations in, gradients for the devices out.

    h [n, T, H] as received. public [m, T, F], windows of its own, scaled as all are. Returns its new state
    and the gradient [n, T, H] of the mean of log(1 + exp(-critic)) over the steps. Labels are not used.
    """

    def own_loss(networks: Any) -> Array:
        start, _ = model.start(public.shape[-1], public.shape[0])
        pilot = through(cut, model.bottom(networks["pilot"], public, start)[0])
        read = ((_through_layers(networks["decoder"], pilot) - public) ** 2).mean()
        fixed = jax.lax.stop_gradient(pilot)

        def critic(z: Array) -> Array:
            return _through_layers(networks["critic"], z)[..., 0]

        slope = jax.grad(lambda z: critic(z).sum())(fixed)
        told = jax.nn.softplus(-critic(fixed)).mean() + jax.nn.softplus(critic(h)).mean()
        return read + told + hijack.penalty * (slope**2).sum(axis=-1).mean()

    optimiser = optax.adam(hijack.learning_rate)

    def try_once(state: HijackState, _: None) -> tuple[HijackState, None]:
        gradients = jax.grad(own_loss)(state.networks)
        change, kept = optimiser.update(gradients, state.optimiser)
        slowly = jax.tree.map(lambda step: _PILOT_SHARE * step, change["pilot"])
        return HijackState(optax.apply_updates(state.networks, change | {"pilot": slowly}), kept), None

    state, _ = jax.lax.scan(try_once, state, None, hijack.tries)
    critic = state.networks["critic"]

    def wanted(h: Array) -> Array:
        return jax.nn.softplus(-_through_layers(critic, h)[..., 0]).mean()

    return state, jax.grad(wanted)(h)


class Hijacked(NamedTuple):
    """What became of a site's training.

    bottoms: of the devices, leading axis D. state: the hostile site's. loss: [steps] of the task. verdicts:
    of each device after each exchange, [steps, D] each.
    """

    bottoms: Any
    state: HijackState
    loss: Array
    verdicts: Verdict


def make_hijacked_site(
    model: Model, cut: Cut, training: LocalTraining, hijack: Hijack, watch: Watch, batches: int
) -> Callable[[Any, SiteData, Array, Array, Array, Array], Hijacked]:
    """`(params, SiteData, public [m, T, F], key, learning rate, hostile) -> Hijacked`, for `jax.jit`.

    Exchanges as in `lazaretto.local`: a batch takes `batch_units` random units of each device and walks their
    windows, state carried, one optimiser step each; `batches` of them, at least 1. Every device watches.
    hostile: bool []; where False the site sends the task's gradients, and all else is the same. Where True it
    trains its own part as agreed, so that the loss looks ordinary, and sends the critic's gradients. Any
    model with a cut; where it is U-shaped labels and heads are at the devices. Not in it: noise on inputs,
    made-up campaigns, terms of alignment and of distance correlation.
    Raises InputError for a model without a cut, or no batches.
    """
    if not model.split or batches < 1:
        raise InputError(
            "there is nothing to hijack without a cut, or without batches",
            found=f"model '{model.name}', {batches} batches",
            way_out="a model with a cut, such as conv_gru or fusion",
        )
    window = training.window

    def run(params: Any, data: SiteData, public: Array, key: Array, rate: Array, hostile: Array) -> Hijacked:
        devices, units, length, features = data.x.shape
        size = min(training.batch_units, units)
        optimiser = optimiser_of(training, rate)
        key, own_key = jax.random.split(key)
        bottoms = jax.tree.map(lambda p: jnp.broadcast_to(p, (devices, *p.shape)), params["bottom"])
        first, _ = model.start(features, size)
        starts = (
            jax.tree.map(lambda s: jnp.broadcast_to(s, (devices, *s.shape)), first),
            model.start(features, devices * size)[1],
        )
        channels = jax.eval_shape(model.bottom, params["bottom"], data.x[0, :size, :window], first)[0].shape[
            -1
        ]
        update = jax.vmap(optimiser.update, axis_size=devices)

        def one_window(carry: Any, at: Any) -> tuple[Any, Any]:
            bottoms, top, optimisers, states, hijacked, watches = carry
            x, y, weight, step_key = at
            bottom_keys, public_key = jax.random.split(step_key)
            (h, open_steps), gradients, value, states = _task(
                model, cut, training, (bottoms, top), (x, y, weight), states, (data, bottom_keys)
            )
            heads, top_gradient, task, backward = gradients
            rows = jax.random.choice(public_key, public.shape[0], (devices * size,))
            seen = through(cut, h).reshape(devices * size, window, channels)
            hijacked, pull = hijack_step(model, hijack, cut, hijacked, seen, public[rows])
            pull = pull.reshape(h.shape)
            down = jnp.where(hostile, pull, task)
            (first_gradients,) = backward(down)
            # the loss is a mean over devices; a device's own is D times its part
            grads = jax.tree.map(lambda a, b: (a + b) * devices, heads, first_gradients)
            change, bottom_state = update(grads, optimisers[0], bottoms)
            bottoms = optax.apply_updates(bottoms, change)
            change, top_state = optimiser.update(top_gradient, optimisers[1], top)
            top = optax.apply_updates(top, change)
            watches, verdict = jax.vmap(watch_step, in_axes=(0, 0, 0, 0, None))(
                watches, down, y, weight * open_steps, watch
            )
            new = (bottoms, top, (bottom_state, top_state), states, hijacked, watches)
            return new, (value, verdict)

        def one_batch(carry: Any, key: Array) -> tuple[Any, Any]:
            draw_key, key = jax.random.split(key)
            score = jax.random.uniform(draw_key, (devices, units)) + 2.0 * (jnp.arange(units) >= data.units)
            rows = jnp.argsort(score, axis=1)[:, :size]

            def walk(values: Array) -> Array:
                taken = jax.vmap(lambda v, r: v[r])(values, rows)
                parts = taken.reshape(devices, size, length // window, window, *taken.shape[3:])
                return jnp.moveaxis(parts, 2, 0)

            at = (walk(data.x), walk(data.y), walk(data.weight), jax.random.split(key, length // window))
            bottoms, top, optimisers, _, hijacked, watches = carry
            return jax.lax.scan(one_window, (bottoms, top, optimisers, starts, hijacked, watches), at)

        optimisers = (jax.vmap(optimiser.init)(bottoms), optimiser.init(params["top"]))
        watches = jax.tree.map(lambda v: jnp.broadcast_to(v, (devices, *v.shape)), watch_start())
        carry = (
            bottoms,
            params["top"],
            optimisers,
            starts,
            hijack_start(hijack, params["bottom"], (features, channels), own_key),
            watches,
        )
        carry, (values, verdicts) = jax.lax.scan(one_batch, carry, jax.random.split(key, batches))
        flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), verdicts)
        return Hijacked(carry[0], carry[4], values.reshape(-1), flat)

    return run


def _task(
    model: Model, cut: Cut, training: LocalTraining, params: Any, batch: Any, states: Any, rest: Any
) -> tuple[tuple[Array, Array], Any, Array, Any]:
    """One honest exchange up to what goes down: (activations and open steps [D, b, T]; gradients of heads,
    top and activations, and the devices' way back; loss; new states).

    Loss as in `lazaretto.local`. Open steps are those that the device has not learned, as far as it can know:
    all of them where the heads are at the site.
    """
    (bottoms, top), (x, y, weight), (bottom_state, top_state) = params, batch, states
    data, key = rest
    devices, size = x.shape[:2]
    up_key, down_key = jax.random.split(key)
    weights = training.loss_weights
    # with labels at the devices, how common each class is stays there as well
    balance = jax.vmap(partial(class_balance, training.class_balance, data.class_weight.shape[0]))(
        data.y, data.weight
    )

    def device_forward(bottoms: Any) -> tuple[Array, Any]:
        h, new = jax.vmap(model.bottom)(bottoms, x, bottom_state)
        return h, new

    h, backward, bottom_state = jax.vjp(device_forward, bottoms, has_aux=True)

    def behind(heads: Any, top: Any, h: Array) -> tuple[Array, Any]:
        received = through(cut, h, up_key)
        flat = received.reshape(devices * size, *received.shape[2:])
        found, new = model.top(top, flat, top_state)
        flat_labels = (y.reshape(-1, y.shape[-1]), weight.reshape(-1, y.shape[-1]))
        if model.head is None:
            if model.loss is not None:
                return model.loss(found, *flat_labels, data.class_weight), (new, jnp.ones_like(weight))
            loss = detection_loss(found, *flat_labels, data.class_weight, *weights)
            return loss, (new, jnp.ones_like(weight))
        sent = through(cut, found.sent.reshape(devices, size, *found.sent.shape[1:]), down_key)
        outputs = jax.vmap(model.head)(heads, sent)

        def of_device(outputs: Any, y: Array, weight: Array, balance: Array) -> Array:
            return detection_loss(outputs, y, weight, balance, *weights)

        missed = jnp.abs(jax.nn.sigmoid(outputs.anomaly) - (y != 0))
        loss = jax.vmap(of_device)(outputs, y, weight, balance).mean()
        return loss, (new, (missed > _LEARNED).astype(weight.dtype))

    (value, (top_state, open_steps)), (heads, top_gradient, task) = jax.value_and_grad(
        behind, argnums=(0, 1, 2), has_aux=True
    )(bottoms, top, h)
    return (h, open_steps), (heads, top_gradient, task, backward), value, (bottom_state, top_state)

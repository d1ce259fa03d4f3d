"""One exchange over the cut: what devices and their site compute, and what crosses between them.

Two shapes. In the plain one labels are at the site: activations go up, their gradients down. In the U-shape
(Vepakomma et al. 2018, arXiv:1812.00564) a model's first and last layers are where the data and the labels
are: activations go up, the site's own activations down, gradients of those up, and of the first ones down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from lazaretto.cut import Cut, through
from lazaretto.types import Array, Middle, Model

__all__ = ["Terms", "forward", "split_gradients", "u_gradients"]

_Params: TypeAlias = tuple[Any, Any]


class Terms(NamedTuple):
    """The loss of a U-shaped model, by who computes it.

    labelled: (outputs, labels) -> loss of one device. unlabelled: the site's own term of what it made.
    private: (x [b, T, F], h [b, T, H]) -> a term of a device's own, or None.
    """

    labelled: Callable[[Any, Any], Array]
    unlabelled: Callable[[Middle], Array]
    private: Callable[[Array, Array], Array] | None = None


def forward(
    model: Model, cut: Cut, params: Any, x: Array, states: _Params, keys: _Params
) -> tuple[Any, _Params]:
    """Outputs of x [B, T, F] as they come out behind the cut, and the new states.

    params: {"bottom", "top"}. states: of bottom and top. keys: noise of the way up and of the way down.
    """
    h, bottom_state = model.bottom(params["bottom"], x, states[0])
    found, top_state = model.top(params["top"], through(cut, h, keys[0]), states[1])
    if model.head is not None:
        found = model.head(params["bottom"], through(cut, found.sent, keys[1]))
    return found, (bottom_state, top_state)


def split_gradients(
    model: Model,
    cut: Cut,
    loss: Callable[[Any, Array], Array],
    params: _Params,
    x: Array,
    states: _Params,
    key: Array,
    private: Callable[[Array, Array], Array] | None = None,
) -> tuple[Array, _Params, _Params]:
    """One exchange over the cut, as devices and site would do it: forward, up, forward, back, down, back.

    params: (bottoms with a leading axis D, top). x [D, b, T, F]. Returns the loss, the gradients in
    the shape of params, and the new states. Each device's gradient is of the *site's* loss; their
    sum is the joint gradient (a law of the tests). private: (x [b, T, F], h [b, T, H]) -> a term of a
    device's own, computed there; the mean over devices is added to the loss.
    """
    bottoms, top = params
    bottom_state, top_state = states
    devices, batch = x.shape[:2]

    device_forward = _at_devices(model, x, bottom_state, private)
    (h, hidden), device_backward, bottom_state = jax.vjp(device_forward, bottoms, has_aux=True)

    def site_loss(top: Any, h: Array) -> tuple[Array, Any]:
        received = through(cut, h, key)
        flat = received.reshape(devices * batch, *received.shape[2:])
        outputs, state = model.top(top, flat, top_state)
        return loss(outputs, flat), state

    (value, top_state), (top_gradient, h_gradient) = jax.value_and_grad(
        site_loss, argnums=(0, 1), has_aux=True
    )(top, h)
    (bottom_gradients,) = device_backward((h_gradient, jnp.ones_like(hidden)))
    return value + hidden, (bottom_gradients, top_gradient), (bottom_state, top_state)


def u_gradients(
    model: Model,
    cut: Cut,
    terms: Terms,
    params: _Params,
    x: Array,
    labels: Any,
    states: _Params,
    key: Array,
) -> tuple[Array, _Params, _Params]:
    """One exchange of a U-shaped model (`model.head`): no label crosses, though gradients tell of them.

    labels: arrays with a leading axis D. The rest as in `split_gradients`; the loss is the mean over the
    devices plus the site's own, and its joint gradient the sum of theirs (a law of the tests).
    """
    head = model.head
    assert head is not None  # noqa: S101  the caller looks
    bottoms, top = params
    bottom_state, top_state = states
    devices, batch = x.shape[:2]
    up_key, down_key = jax.random.split(key)

    device_forward = _at_devices(model, x, bottom_state, terms.private)
    (h, hidden), device_backward, bottom_state = jax.vjp(device_forward, bottoms, has_aux=True)

    def site_forward(top: Any, h: Array) -> tuple[tuple[Array, Array], Any]:
        received = through(cut, h, up_key)
        middle, state = model.top(top, received.reshape(devices * batch, *received.shape[2:]), top_state)
        sent = middle.sent.reshape(devices, batch, *middle.sent.shape[1:])
        return (sent, terms.unlabelled(middle)), state

    (sent, own), site_backward, top_state = jax.vjp(site_forward, top, h, has_aux=True)

    def at_the_devices(bottoms: Any, sent: Array) -> Array:
        outputs = jax.vmap(head)(bottoms, through(cut, sent, down_key))
        return jax.vmap(terms.labelled)(outputs, labels).mean()

    value, (head_gradients, sent_gradient) = jax.value_and_grad(at_the_devices, argnums=(0, 1))(bottoms, sent)
    top_gradient, h_gradient = site_backward((sent_gradient, jnp.ones_like(own)))
    (first_gradients,) = device_backward((h_gradient, jnp.ones_like(hidden)))
    bottom_gradients = jax.tree.map(jnp.add, first_gradients, head_gradients)
    return value + own + hidden, (bottom_gradients, top_gradient), (bottom_state, top_state)


def _at_devices(
    model: Model, x: Array, state: Any, private: Callable[[Array, Array], Array] | None
) -> Callable[[Any], tuple[tuple[Array, Array], Any]]:
    """bottoms -> ((activations [D, b, T, H], mean of the devices' own terms), new state)."""

    def run(bottoms: Any) -> tuple[tuple[Array, Array], Any]:
        h, new = jax.vmap(model.bottom)(bottoms, x, state)
        own = jnp.zeros(()) if private is None else jax.vmap(private)(x, h).mean()
        return (h, own), new

    return run

"""From what crosses the cut back to the readings behind it, by a decoder that was trained elsewhere.

The attacker is the site: it knows the devices' layers, as it averages them, and has windows of its own or of
the simulator. On those it makes activations as a device would and learns the way back; then it reads the
activations of windows that it has never seen (He et al. 2019, https://doi.org/10.1145/3359789.3359824).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import Ridge

from lazaretto.audit.reconstruction import Reconstruction, reconstruction_error
from lazaretto.cut import Cut, through
from lazaretto.errors import InputError
from lazaretto.types import Array, Float, Model

__all__ = ["Decoder", "activations", "invert_activations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """How the attacker reads. kind: "ridge", linear, or "mlp", two hidden layers.

    context: steps before and after a step whose activations are read with it, >= 0. penalty: of ridge, >= 0,
    on standardised activations. width, steps: of the mlp, at least 1; rows: to one step, at least 1.
    learning_rate > 0, of Adam, falling to 0 along a cosine.
    """

    kind: Literal["ridge", "mlp"] = "mlp"
    context: int = 2
    penalty: float = 1.0
    width: int = 128
    steps: int = 3000
    rows: int = 256
    learning_rate: float = 0.003

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        whole = min(self.width, self.steps, self.rows) >= 1 and self.context >= 0
        if self.kind not in ("ridge", "mlp") or not whole or self.penalty < 0 or self.learning_rate <= 0:
            raise InputError(
                'a decoder is "ridge" or "mlp", of sizes of at least 1',
                found=self,
                way_out="leave the value out",
            )


def activations(model: Model, cut: Cut, bottom: Any, x: Array, key: Array) -> Float:
    """What a site receives of windows x [n, T, F], each begun anew: [n, T, H].

    bottom: the device's parameters. key: draws the cut's noise. Raises InputError for a model without a cut.
    """
    if not model.split:
        raise InputError(
            "without a cut nothing is sent but the readings themselves",
            found=f"model '{model.name}'",
            way_out="a model with a cut, such as conv_gru",
        )
    return np.asarray(_sent(model, cut, bottom, jnp.asarray(x, jnp.float32), key), np.float32)


@partial(jax.jit, static_argnames=("model", "cut"))
def _sent(model: Model, cut: Cut, bottom: Any, x: Array, key: Array) -> Array:
    start, _ = model.start(x.shape[-1], x.shape[0])
    return through(cut, model.bottom(bottom, x, start)[0], key)


def invert_activations(
    public: tuple[Array, Array], seen: Array, truth: Array, decoder: Decoder, key: Array
) -> tuple[Float, Reconstruction]:
    """Windows that the attacker takes for those behind `seen` [n, T, H], and how near they are to `truth`.

    public: activations [m, T, H] and windows [m, T, F] of what the attacker has, scaled alike. The floor is
    their mean by feature. truth [n, T, F] is looked at for the error alone; `Reconstruction.r2` says which
    features can be read. key: draws the mlp's first weights and its batches.
    Raises InputError for shapes that do not fit, and for what is not finite.
    """
    sent, windows = (np.asarray(values, np.float32) for values in public)
    given, true = np.asarray(seen, np.float32), np.asarray(truth, np.float32)
    fits = sent.ndim == windows.ndim == given.ndim == true.ndim == 3 and min(sent.size, given.size) > 0
    if (
        not fits
        or sent.shape[:2] != windows.shape[:2]
        or given.shape[:2] != true.shape[:2]
        or sent.shape[2] != given.shape[2]
        or windows.shape[2] != true.shape[2]
    ):
        raise InputError(
            "activations [n, T, H] and windows [n, T, F] do not fit together",
            found=f"public {sent.shape} and {windows.shape}, seen {given.shape} and {true.shape}",
            way_out="make both by one model, with `activations`",
        )
    if not all(np.isfinite(values).all() for values in (sent, windows, given)):
        raise InputError("activations or windows hold NaN or infinity", way_out="leave those windows out")
    inputs, centre, spread = _standard(_beside(sent, decoder.context))
    targets = windows.reshape(-1, windows.shape[-1])
    asked = (_beside(given, decoder.context) - centre) / spread
    if decoder.kind == "ridge":
        found = Ridge(alpha=decoder.penalty).fit(inputs, targets).predict(asked)
    else:
        found = _mlp(inputs, targets, asked, decoder, key)
    guess = np.asarray(found, np.float32).reshape(true.shape)
    mean = targets.mean(axis=0, dtype=np.float64)
    return guess, reconstruction_error(guess, true, mean, ordered=True)


def _beside(h: Float, context: int) -> Float:
    """[n, T, H] -> [n * T, (2 context + 1) H]: each step with its neighbours, 0 beyond the window."""
    steps = h.shape[1]
    wide = np.pad(h, ((0, 0), (context, context), (0, 0)))
    joined = np.concatenate([wide[:, at : at + steps] for at in range(2 * context + 1)], axis=-1)
    return joined.reshape(-1, joined.shape[-1])


def _standard(values: Float) -> tuple[Float, Float, Float]:
    """Values with mean 0 and variance 1 by column; the mean and the deviation, 1 where there is none."""
    centre, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
    return (values - centre) / spread, centre, spread


def _mlp(inputs: Float, targets: Float, asked: Float, decoder: Decoder, key: Array) -> Array:
    """Two hidden layers, of the least squared error of standardised targets."""
    scaled, centre, spread = _standard(targets)
    sizes = (inputs.shape[1], decoder.width, decoder.width, targets.shape[1])
    *keys, draw_key = jax.random.split(key, 4)
    layers = [
        {"w": jax.random.normal(k, (a, b)) * (2.0 / a) ** 0.5, "b": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return np.asarray(_learn(decoder, layers, inputs, scaled, asked, draw_key)) * spread + centre


@partial(jax.jit, static_argnames=("decoder",))
def _learn(decoder: Decoder, layers: Any, inputs: Array, scaled: Array, asked: Array, key: Array) -> Array:
    optimiser = optax.adam(optax.cosine_decay_schedule(decoder.learning_rate, decoder.steps))

    def says(layers: Any, x: Array) -> Array:
        for layer in layers[:-1]:
            x = jax.nn.gelu(x @ layer["w"] + layer["b"])
        return x @ layers[-1]["w"] + layers[-1]["b"]

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        layers, state = carry
        rows = jax.random.randint(key, (decoder.rows,), 0, inputs.shape[0])

        def missed(layers: Any) -> Array:
            return ((says(layers, inputs[rows]) - scaled[rows]) ** 2).mean()

        change, state = optimiser.update(jax.grad(missed)(layers), state)
        return (optax.apply_updates(layers, change), state), None

    keys = jax.random.split(key, decoder.steps)
    (layers, _), _ = jax.lax.scan(step, (layers, optimiser.init(layers)), keys)
    return says(layers, asked)

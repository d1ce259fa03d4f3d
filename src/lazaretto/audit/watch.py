"""What a device that knows its labels can notice: that the gradients it gets back are not of its task.

A site that trains for the task sends gradients that push steps of one label one way and those of the other
the other way. A site that pulls the device's layers towards a feature space of its own (Pasquini et al. 2021,
arXiv:2012.02670) does not know or does not use the labels, and its gradients do not part by them. That is the
idea of Fu et al. 2023, "Focusing on Pinocchio's Nose" (NDSS, https://www.ndss-symposium.org/ndss2023/); here
cosines are averaged over the steps of a device's windows, as its batches are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from lazaretto.errors import InputError
from lazaretto.types import Array

__all__ = ["Verdict", "Watch", "WatchState", "watch_start", "watch_step"]

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """When a device refuses. The defaults suit `fusion` in its default size (`benchmarks/reconstruction.py`).

    A much smaller model's honest gradients part less, and an honest site would be refused: calibrate anew.

    threshold: of the mean gap, in [-2, 2]: below it is refused. least: exchanges with steps of both labels
    before there is a verdict, at least 1. memory: exchanges that the mean reaches back, at least 1.
    """

    threshold: float = 0.5
    least: int = 10
    memory: float = 40.0

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        if not (-2 <= self.threshold <= 2 and self.least >= 1 and self.memory >= 1):
            raise InputError(
                "a watch has a threshold in [-2, 2], and waits and remembers at least one exchange",
                found=self,
                way_out="leave the value out",
            )


class WatchState(NamedTuple):
    """Of one device: fading sum of gaps and of what they weigh, and how many exchanges had both labels."""

    total: Array
    mass: Array
    seen: Array
    refused: Array


class Verdict(NamedTuple):
    """gap: mean so far, in [-2, 2], 0 before anything is known. known: whether there is a verdict yet.

    refused: whether the site is refused, now or earlier.
    """

    gap: Array
    known: Array
    refused: Array


def watch_start() -> WatchState:
    """Before the first exchange."""
    return WatchState(jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _gap(gradients: Array, attacked: Array, use: Array) -> tuple[Array, Array]:
    """(gap, whether it is known) of one exchange: gradients [n, H], attacked [n] bool, use [n] bool.

    The mean cosine of two steps of one label minus that of two steps of different labels. Known where either
    label has two steps.
    """
    largest = jnp.abs(gradients).max(axis=-1, keepdims=True)
    fine = jnp.isfinite(largest) & (largest > 0)
    scaled = jnp.where(fine, gradients / jnp.where(fine, largest, 1.0), 0.0)  # squares of tiny numbers are 0
    unit = scaled / jnp.maximum(jnp.sqrt((scaled**2).sum(axis=-1, keepdims=True)), 1.0)
    first, second = ((use & side).astype(unit.dtype) for side in (attacked, ~attacked))
    sums = [(side[:, None] * unit).sum(axis=0) for side in (first, second)]
    counts = [side.sum() for side in (first, second)]
    selves = [(side * fine[:, 0]).sum() for side in (first, second)]
    # every pair but a step with itself
    within = [
        ((total @ total) - own) / jnp.maximum(count * (count - 1), 1.0)
        for total, count, own in zip(sums, counts, selves, strict=True)
    ]
    across = (sums[0] @ sums[1]) / jnp.maximum(counts[0] * counts[1], 1.0)
    known = (counts[0] >= 2) & (counts[1] >= 2)
    return jnp.where(known, (within[0] + within[1]) / 2 - across, 0.0), known


def watch_step(
    state: WatchState, gradients: Array, labels: Array, weight: Array, watch: Watch
) -> tuple[WatchState, Verdict]:
    """One exchange, seen from the device: the gradients of its activations, as they came down.

    gradients [b, T, H], labels [b, T] (0: normal). weight [b, T] >= 0: 0 for steps that are
    not judged, and for those that the device has learned, if it knows (their gradients no longer part by
    label). An exchange without two other steps of either label says nothing. A gradient that is 0 or not
    finite is at right angles to all others, so that a site that sends no gradients is refused too. Once
    refused stays refused. Pure, traceable by JAX.
    Raises InputError for shapes that do not fit.
    """
    if gradients.ndim != 3 or labels.shape != gradients.shape[:2] or weight.shape != labels.shape:
        raise InputError(
            "a watch needs gradients [b, T, H] and labels and weights [b, T]",
            found=f"{gradients.shape}, {labels.shape}, {weight.shape}",
            way_out="give those of one device",
        )
    flat = gradients.reshape(-1, gradients.shape[-1])
    gap, told = _gap(flat, labels.reshape(-1) != 0, weight.reshape(-1) > 0)
    keep = jnp.where(told, 1.0 - 1.0 / watch.memory, 1.0)
    total, mass = state.total * keep + gap, state.mass * keep + told
    seen = state.seen + told
    mean = total / jnp.maximum(mass, _TINY)
    known = seen >= watch.least
    refused = state.refused | (known & (mean < watch.threshold))
    return WatchState(total, mass, seen, refused), Verdict(mean, known, refused)

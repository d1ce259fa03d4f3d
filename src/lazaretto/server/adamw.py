"""AdamW at the coordinator, with a step that falls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from lazaretto.server._adaptive import Decay, Positive
from lazaretto.types import Array, ServerOptimiser

__all__ = ["adamw"]

_LEAST = 1e-8  # as in the paper, and everywhere
_END = 0.02  # of the step, at the end of its fall


def adamw(
    learning_rate: Positive = 0.01,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    rounds: Annotated[int, Ge(0)] = 0,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
) -> ServerOptimiser:
    """AdamW on the mean update: where that is a gradient, a step as one in one place would make it.

    m ← beta1 · m + (1 − beta1) · u, v ← beta2 · v + (1 − beta2) · u², both corrected for their start, and
    w ← w + η · (m̂ / (√v̂ + 1e-8) − weight_decay · w). With sites that send a gradient of one batch
    (`train.optimiser = "sgd"`, `learning_rate = 1`, `momentum = 0`, `schedule = "constant"`, `local_epochs`
    so short that a round is one batch at the largest site, too) each round is one step on a batch drawn site
    by site. With two batches a site makes two plain steps, and weighs about twice.

    rounds: over which η falls from `learning_rate` to 2 % of it along half a cosine, where it stays; 0: it
    does not fall. State: rounds done, first and second moment [d]. Loshchilov and
    Hutter 2019, arXiv:1711.05101.
    """

    def start(d: int) -> dict[str, Any]:
        return {"done": np.zeros(()), "first": np.zeros(d), "second": np.zeros(d)}

    def step(vector: Array, change: Array, state: Mapping[str, Array]) -> tuple[Array, dict[str, Any]]:
        part = min(float(state["done"]) / rounds, 1.0) if rounds else 0.0
        rate = learning_rate * (_END + (1 - _END) * 0.5 * (1 + np.cos(np.pi * part)))
        done = np.asarray(state["done"] + 1.0)
        first = beta1 * state["first"] + (1 - beta1) * change
        second = beta2 * state["second"] + (1 - beta2) * change**2
        by = first / (1 - beta1**done) / (np.sqrt(second / (1 - beta2**done)) + _LEAST)
        moved = vector + rate * (by - weight_decay * vector)
        return moved.astype(np.float32), {"done": done, "first": first, "second": second}

    return ServerOptimiser(name="adamw", start=start, step=step)

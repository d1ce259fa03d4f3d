"""FedYogi."""

from __future__ import annotations

import numpy as np

from lazaretto.server._adaptive import Decay, Positive, adaptive
from lazaretto.types import ServerOptimiser

__all__ = ["fedyogi"]


def fedyogi(
    learning_rate: Positive = 0.01, beta1: Decay = 0.9, beta2: Decay = 0.99, tau: Positive = 1e-3
) -> ServerOptimiser:
    """FedYogi: as FedAdam, but its second moment forgets large updates slowly.

    v ← v − (1 − beta2) · u² · sign(v − u²). State: first and second moment [d].
    Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    """
    return adaptive(
        "fedyogi",
        learning_rate,
        beta1,
        tau,
        lambda v, squared: v - (1 - beta2) * squared * np.sign(v - squared),
    )

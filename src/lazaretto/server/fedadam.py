"""FedAdam."""

from __future__ import annotations

from lazaretto.server._adaptive import Decay, Positive, adaptive
from lazaretto.types import ServerOptimiser

__all__ = ["fedadam"]


def fedadam(
    learning_rate: Positive = 0.01, beta1: Decay = 0.9, beta2: Decay = 0.99, tau: Positive = 1e-3
) -> ServerOptimiser:
    """FedAdam: steps of about `learning_rate` per parameter, whatever the size of the updates.

    v ← beta2 · v + (1 − beta2) · u². `tau` (> 0) says how large an update must be to count in full.
    State: first and second moment [d]. Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    """
    return adaptive(
        "fedadam", learning_rate, beta1, tau, lambda v, squared: beta2 * v + (1 - beta2) * squared
    )

"""SCAFFOLD: control variates against the drift of sites."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.types import Algorithm, Array

__all__ = ["scaffold"]


def scaffold() -> Algorithm:
    """Each local step uses the site's gradient, less its usual gradient, plus that of all sites.

    A site's control variate c_i is the mean of its raw gradients along its path in the last round that it
    took part in; the coordinator's c is the mean over all sites, kept up from the changes sent. A
    gradient g becomes g − c_i + c before it is clipped. All start at 0, so the first round is FedAvg.
    Under plain gradient descent (no momentum, no clipping) the mean along the path equals option II of the
    paper, c_i − c + (x − y_i) / (K·η), and unlike it stays a gradient under any other optimiser.
    Doubles what a site receives and sends. Karimireddy et al. 2020, arXiv:1910.06378.
    """

    def correct(gradient: Any, parameters: Any, begun: Any, own: Any, common: Any) -> Any:
        return jax.tree.map(lambda g, mine, all_: g - mine + all_, gradient, own, common)

    def conclude(own: Array, common: Array, mean_gradient: Array) -> Array:
        return jnp.asarray(mean_gradient)

    def fold(common: Array, changes: Array, sites: int) -> Array:
        total = np.asarray(changes, np.float64).sum(axis=0)
        return (np.asarray(common, np.float64) + total / sites).astype(np.float32)

    return Algorithm(name="scaffold", keeps=True, correct=correct, conclude=conclude, fold=fold)

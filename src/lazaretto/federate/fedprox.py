"""FedProx: a pull towards the model that the round began with."""

from __future__ import annotations

from typing import Annotated, Any

import jax
from annotated_types import Ge

from lazaretto.types import Algorithm

__all__ = ["fedprox"]


def fedprox(mu: Annotated[float, Ge(0)] = 0.01) -> Algorithm:
    """A pull of strength `mu` towards the model that the round began with, against sites going apart.

    The site minimises its loss + mu/2 · ‖w − w₀‖², so mu · (w − w₀) is added to each gradient, before it is
    clipped. mu >= 0, in units of loss per squared parameter; 0 is FedAvg. Of little effect where the
    site's own optimiser rescales gradients (adam) and mu is small.
    Li et al. 2020, arXiv:1812.06127 (its drop of inexact solutions is `federate.stragglers`).
    """

    def correct(gradient: Any, parameters: Any, begun: Any, own: Any, common: Any) -> Any:
        return jax.tree.map(lambda g, w, w0: g + mu * (w - w0), gradient, parameters, begun)

    return Algorithm(name="fedprox", correct=correct)

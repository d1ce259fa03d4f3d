"""FedPer: the heads stay at their site."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen

from lazaretto.types import Algorithm

__all__ = ["fedper"]


def fedper(layers: Annotated[tuple[str, ...], MinLen(1)] = ("anomaly", "kinds", "score")) -> Algorithm:
    """The heads stay at their site; what lies below them is common.

    layers: names of the layers that stay, as the model's parameters name them. They are trained like the
    others, but never averaged and never sent, and each site is judged with its own.
    Arivazhagan et al. 2019, arXiv:1912.00818.
    """

    def personal(path: tuple[str, ...]) -> bool:
        return any(name in layers for name in path)

    return Algorithm(name="fedper", personal=personal)

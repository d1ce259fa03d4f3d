"""FedBN: normalisation layers stay at their site."""

from __future__ import annotations

from lazaretto.types import Algorithm

__all__ = ["fedbn"]


def fedbn() -> Algorithm:
    """Normalisation layers stay at their site, so that each fits its own scale of features.

    A layer is one if its name begins with "norm"; of our models `tcn` has them. They are trained like the
    others, but never averaged and never sent, and each site is judged with its own.
    Li et al. 2021, arXiv:2102.07623.
    """

    def personal(path: tuple[str, ...]) -> bool:
        return any(name.startswith("norm") for name in path)

    return Algorithm(name="fedbn", personal=personal)

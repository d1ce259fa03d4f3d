"""Federated averaging: plain local training."""

from __future__ import annotations

from lazaretto.types import Algorithm

__all__ = ["fedavg"]


def fedavg() -> Algorithm:
    """Plain local training; nothing is corrected, kept or personal.

    McMahan et al. 2017, arXiv:1602.05629.
    """
    return Algorithm(name="fedavg")
